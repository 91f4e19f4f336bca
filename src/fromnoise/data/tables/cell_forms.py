"""Recognises cells that are not plain numbers: codes, dates, amounts. They are named, not converted.

Recognition is by form alone, and its only effect is a note to the user.
"""

import re
from collections.abc import Iterable

import numpy as np

MOSTLY = 0.8  # share of the different texts that must have a form for the column to have it
YEARS = (1800, 2199)
MIN_TIMES = 20  # different numbers, below which a form without a year may be chance
MIN_VALID = 0.95  # share of the numbers that must be dates or times
MIN_VARIED = 6  # different values that a part must have, such as the month

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
_DIGITS = r"[\d.,' \u00a0\u202f]*"  # after the first digit, with separators of thousands
MONEY = re.compile(
    rf"[-+(]?\s*(?:[$€£¥₹₽₩]|[A-Z]{{2,3}}[$€£]?|Rs\.?)\s*[-+]?\d{_DIGITS}\)?"
    rf"|[-+(]?\d{_DIGITS}\s*(?:[$€£¥₹₽₩]|[A-Z]{{3}})\)?"
)
SEPARATED = re.compile(
    r"[-+(]?\d{1,3}(?:[ .,'’\u00a0\u202f]\d{3})+(?:[.,]\d+)?\)?"  # 1 000,5
    r"|[-+(]?\d+,\d+\)?"  # 0,5
    r"|\(\d+(?:\.\d+)?\)"  # (12.5) for -12.5
    r"|[-+(]?\d{1,3}(?:,\d{2})*,\d{3}\)?"  # 12,34,567
    r"|\d+(?:\.\d+)?-"  # 12-
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
    """(what most of these texts look like, how to write them so that they are numbers), or None."""
    values = [value for value in set(cells) if value]
    if not values:
        return None
    for pattern, form, mend in FORMS:
        matches = sum(pattern.fullmatch(value) is not None for value in values)
        if matches >= MOSTLY * len(values):
            return form, mend
    units = [match[1] for match in map(UNIT.fullmatch, values) if match]
    if len(values) > 1 and len(units) >= MOSTLY * len(values) and len(set(units)) == 1:
        return "numbers with a unit", f"write plain numbers, without {units[0]!r}"
    return None


def first_code(cells: Iterable[str]) -> int | None:
    """Row of the first number that a leading zero, or a plus and many digits, marks as a code."""
    return next((i for i, cell in enumerate(cells) if CODE.fullmatch(cell)), None)


def is_year_and_month(cells: Iterable[str]) -> bool:
    """Whether all of these decimal numbers are written as a year and a month, such as 2020.10."""
    return all(YEAR_MONTH.fullmatch(cell) for cell in cells)


def calendar_form(numbers: np.ndarray) -> str:
    """How numbers (N,) are written if they are dates or times of day, such as YYYYMMDD; or "".

    At least 95 % of them must be valid; forms that may occur by chance need more different numbers.
    """
    values, counts = np.unique(numbers, return_counts=True)
    is_whole = np.isfinite(values).all() and (values == np.rint(values)).all()
    if not (is_whole and values[0] >= 0 and values[-1] < 1e15):
        return ""
    v = values.astype(np.int64)
    first = v // 10**4  # the digits before the last four
    last = v % 10**4
    middle = v // 100 % 100  # the two digits before the last two
    end = v % 100
    day = v // 10**6  # the digits before HHMMSS
    # form, which numbers are valid, least number of different ones, parts of them that must vary
    candidates = (
        ("dates written YYYYMMDD", _is_day(first, middle, end), 1, ()),
        ("dates written DDMMYYYY", _is_day(last, first % 100, day), 3, ()),
        ("dates written MMDDYYYY", _is_day(last, day, first % 100), 3, ()),
        ("months written YYYYMM", _is_day(v // 100, end, np.ones_like(v)), 3, ()),
        ("dates and times written YYYYMMDDHHMM", _is_date(first) & _is_clock(last * 100), 3, ()),
        ("dates and times written YYYYMMDDHHMMSS", _is_date(day) & _is_clock(v % 10**6), 3, ()),
        ("dates written YYYYDDD", _is_day_of_year(v), MIN_TIMES, ()),
        (
            "dates written YYMMDD",
            (v >= 10101) & _is_day(2000 + first, middle, end),
            MIN_TIMES,
            (middle, end),
        ),
        ("times of day written HHMM", _is_clock(v * 100), MIN_TIMES, (v // 100, end)),
        ("times of day written HHMMSS", _is_clock(v), MIN_TIMES, (first, middle, end)),
    )
    for form, is_valid, least, varied in candidates:
        if len(v) < least or counts[is_valid].sum() < MIN_VALID * counts.sum():
            continue
        if all(len(np.unique(part[is_valid])) >= MIN_VARIED for part in varied):
            return form
    return ""


def _is_year(year: np.ndarray) -> np.ndarray:
    return (year >= YEARS[0]) & (year <= YEARS[1])


def _is_day(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    is_leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    month = np.where((month >= 1) & (month <= 12), month, 0)
    lengths = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[month]
    return _is_year(year) & (day >= 1) & (day <= lengths + (is_leap & (month == 2)))


def _is_date(numbers: np.ndarray) -> np.ndarray:
    """Whether numbers written YYYYMMDD are dates."""
    return _is_day(numbers // 10**4, numbers // 100 % 100, numbers % 100)


def _is_day_of_year(numbers: np.ndarray) -> np.ndarray:
    """Whether numbers written YYYYDDD are dates."""
    day = numbers % 1000
    return _is_year(numbers // 1000) & (day >= 1) & (day <= 366)


def _is_clock(numbers: np.ndarray) -> np.ndarray:
    """Whether numbers written HHMMSS are times of day."""
    return (numbers < 240000) & (numbers // 100 % 100 < 60) & (numbers % 100 < 60)
