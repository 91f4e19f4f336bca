"""What cells of a table look like although they are no plain numbers: codes, dates, amounts. They are named here, not converted.

Unusual: recognition is by form alone, and its only effect is a line that the user reads.
"""

import re
from collections.abc import Iterable

import numpy as np

MOSTLY = 0.8  # share of the different texts that must have a form for the column to have it
YEARS = (1800, 2199)
FEWEST_TIMES = 20  # different numbers, below which a form without a year may be chance

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_DAY = "|".join(
    (
        r"\d{4}[-/.]\d{1,2}(?:[-/.]\d{1,2})?",  # 2020-01-05, 2020/1
        r"\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})",  # 05.01.2020, 1/5/20
        rf"\d{{1,2}}(?:st|nd|rd|th)?[ -]{_MONTH}[ ,-]*(?:\d{{4}}|\d{{2}})",  # 5 Jan 2020
        rf"{_MONTH}[ -](?:\d{{1,2}}(?:st|nd|rd|th)?,? )?(?:\d{{4}}|\d{{2}})",  # Jan 5, 2020
        r"\d{4}-?(?:W\d{2}|Q[1-4])(?:-?\d)?",  # 2020-W05, 2020Q1
    )
)
_CLOCK = (
    r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]\.?m\.?)?(?: ?(?:Z|UTC|GMT|[-+]\d{2}:?\d{2}))?"
)
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? )?"
DATE = re.compile(
    rf"{_WEEKDAY}(?:{_DAY})(?:(?:T|,? ){_CLOCK})?|{_CLOCK}|\d{{8}}T\d{{4,6}}Z?", re.IGNORECASE
)
PERCENTAGE = re.compile(r"[-+]?\d[\d.,]*\s*[%‰]")
MONEY = re.compile(
    r"[-+(]?\s*(?:[$€£¥₹₽₩]|[A-Z]{2,3}[$€£]?|Rs\.?)\s*[-+]?\d[\d.,' \u00a0\u202f]*\)?|[-+(]?\d[\d.,' \u00a0\u202f]*\s*(?:[$€£¥₹₽₩]|[A-Z]{3})\)?"
)
SEPARATED = re.compile(
    r"[-+(]?\d{1,3}(?:[ .,'’\u00a0\u202f]\d{3})+(?:[.,]\d+)?\)?|[-+(]?\d+,\d+\)?|\(\d+(?:\.\d+)?\)|[-+(]?\d{1,3}(?:,\d{2})*,\d{3}\)?|\d+(?:\.\d+)?-"
)
UNIT = re.compile(r"[-+]?\d+(?:\.\d+)?\s*([A-Za-zµ°Ω]+(?:[/²³]\w*)?)")
CODE = re.compile(r"[-+]?0\d[\d.]*|\+\d{7,}")
YEAR_MONTH = re.compile(r"(?:18|19|20|21)\d\d\.(?:0[1-9]|1[0-2])")

FORMS = (
    (DATE, "dates or times", "write them as numbers, such as days since a fixed day"),
    (PERCENTAGE, "percentages", "write plain numbers, without the sign"),
    (
        MONEY,
        "amounts of money",
        "write plain numbers, without the currency and separators of thousands",
    ),
    (
        SEPARATED,
        "numbers with commas or other separators",
        "write a decimal point, not a comma, and no separators of thousands",
    ),
)


def text_form(cells: Iterable[str]) -> tuple[str, str] | None:
    """(what most of these texts look like, how to write them so that they are learned as numbers), or None."""
    values = [value for value in set(cells) if value]
    if not values:
        return None
    for pattern, words, mend in FORMS:
        if sum(pattern.fullmatch(value) is not None for value in values) >= MOSTLY * len(values):
            return words, mend
    units = [match[1] for match in map(UNIT.fullmatch, values) if match]
    if len(values) > 1 and len(units) >= MOSTLY * len(values) and len(set(units)) == 1:
        return "numbers with a unit", f"write plain numbers, without {units[0]!r}"
    return None


def first_code(cells: Iterable[str]) -> int | None:
    """Where the first number stands that says by a leading zero, or a plus and many digits, that it is a code; or None."""
    return next((i for i, cell in enumerate(cells) if CODE.fullmatch(cell)), None)


def is_year_and_month(cells: Iterable[str]) -> bool:
    """Whether all of these decimal numbers are written as a year and a month, such as 2020.10."""
    return all(YEAR_MONTH.fullmatch(cell) for cell in cells)


def calendar_form(numbers: np.ndarray) -> str:
    """How numbers (N,) are written if they are dates or times of day, such as YYYYMMDD; or "".

    At least 95 % of them must be valid; forms that chance may give take more different numbers.
    """
    values, counts = np.unique(numbers, return_counts=True)
    if not (
        np.isfinite(values).all()
        and (values == np.rint(values)).all()
        and values[0] >= 0
        and values[-1] < 1e15
    ):
        return ""
    v, fewest = values.astype(np.int64), FEWEST_TIMES

    def most(valid, least: int, *varied) -> bool:
        """Whether nearly all are valid, of so many different ones at least, and these parts of them do vary."""
        enough = len(v) >= least and all(len(np.unique(part[valid])) >= 6 for part in varied)
        return bool(enough and counts[valid].sum() >= 0.95 * counts.sum())

    if most(_is_day(v // 10**4, v // 100 % 100, v % 100), 1):
        return "dates written YYYYMMDD"
    if most(_is_day(v % 10**4, v // 10**4 % 100, v // 10**6), 3):
        return "dates written DDMMYYYY"
    if most(_is_day(v % 10**4, v // 10**6, v // 10**4 % 100), 3):
        return "dates written MMDDYYYY"
    if most(_is_day(v // 100, v % 100, np.ones_like(v)), 3):
        return "months written YYYYMM"
    day = v // 10**4
    if most(_is_day(day // 10**4, day // 100 % 100, day % 100) & _is_clock(v % 10**4 * 100), 3):
        return "dates and times written YYYYMMDDHHMM"
    day = v // 10**6
    if most(_is_day(day // 10**4, day // 100 % 100, day % 100) & _is_clock(v % 10**6), 3):
        return "dates and times written YYYYMMDDHHMMSS"
    if most(_is_year(v // 1000) & (v % 1000 >= 1) & (v % 1000 <= 366), fewest):
        return "dates written YYYYDDD"
    if most(
        (v >= 10101) & _is_day(2000 + v // 10**4, v // 100 % 100, v % 100),
        fewest,
        v // 100 % 100,
        v % 100,
    ):
        return "dates written YYMMDD"
    if most(_is_clock(v * 100), fewest, v // 100, v % 100):
        return "times of day written HHMM"
    if most(_is_clock(v), fewest, v // 10**4, v // 100 % 100, v % 100):
        return "times of day written HHMMSS"
    return ""


def _is_year(year: np.ndarray) -> np.ndarray:
    return (year >= YEARS[0]) & (year <= YEARS[1])


def _is_day(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    lengths = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[
        np.where((month >= 1) & (month <= 12), month, 0)
    ]
    return _is_year(year) & (day >= 1) & (day <= lengths + (leap & (month == 2)))


def _is_clock(seconds: np.ndarray) -> np.ndarray:
    """Whether numbers written HHMMSS are times of a day."""
    return (seconds < 240000) & (seconds // 100 % 100 < 60) & (seconds % 100 < 60)
