"""The type of a column: numbers, or categories.

Nothing is guessed in silence: a cell that does not fit its column is refused with its line and the
option that mends it, and every decision is noted.
"""

from decimal import Decimal

import numpy as np

from ...core.errors import DataError
from ...core.words import shown
from ..codecs.column import as_number
from ..config import TableOptions
from .cell_forms import calendar_form, first_code, is_year_and_month, text_form
from .table import Table, is_text, to_text

MOSTLY = 0.8  # share of cells that must be numbers to make a number column
FLOAT_DIGITS = 15  # texts of numbers with more characters than this may differ beyond float64
EXACT = 2**53  # whole numbers below this are exact in float64


def type_column(table: Table, column: str, config: TableOptions) -> np.ndarray:
    """Cells (N,) of a column -> float64; int64 or uint64 for whole numbers beyond 2^53; or text.

    Raises DataError if the cells are neither all numbers nor few categories.
    """
    cells = table.columns[column]
    if column in config.categorical:
        return to_text(cells)
    numbers = np.array(list(map(as_number, cells))) if is_text(cells) else cells
    is_number = np.isfinite(numbers)
    if is_number.mean() < MOSTLY:
        return _type_categories(table, column, is_number, None)
    code = first_code(cells) if is_text(cells) else None
    if code is not None:
        return _type_categories(table, column, is_number, code)
    if not is_number.all():
        first = int((~is_number).argmax())
        raise DataError(
            f"{_place(table, column)} holds numbers, but line {table.lines[first]} has "
            f"{shown(cells[first])}: fix the cell, or use --categorical {shown(column)} or "
            f"--drop {shown(column)}"
        )
    return _type_numbers(table, column, numbers.astype(np.float64))


def _place(table: Table, column: str) -> str:
    return f"{shown(table.name)}: column {shown(column)}"


# -- categories --------------------------------------------------------------------------------


def _type_categories(
    table: Table, column: str, is_number: np.ndarray, code: int | None
) -> np.ndarray:
    """The cells as text. code: the first row that holds a code, such as 007, if one does."""
    cells = to_text(table.columns[column])
    different = len(set(cells))
    form = mend = ""
    if code is not None:
        form = f"codes, such as {shown(cells[code])} in line {table.lines[code]}"
        mend = (
            f"make each a category with --categorical {shown(column)}, or, if they are quantities, "
            "write them without leading zeros or plus"
        )
    elif form_and_mend := text_form(cells):
        form, mend = form_and_mend
    # with more than 1,000 categories the one-hot table outgrows a laptop
    if different > max(50, min(len(cells) // 10, 1000)):
        _refuse_many_categories(table, column, different, form, mend)
    if form:
        quantity = "" if code is not None else f" To have them learned as quantities, {mend}"
        table.notes.append(
            f"column {shown(column)} holds {form}: each of the {different} is a category, written "
            f"back as it is, and no others are made.{quantity}"
        )
    elif is_number.any():
        table.notes.append(
            f"column {shown(column)} holds text, and numbers in {is_number.sum()} of {len(cells)} "
            f"rows: each of the {different} different cells is a category"
        )
    return cells


def _refuse_many_categories(
    table: Table, column: str, different: int, form: str, mend: str
) -> None:
    n = len(table)
    if form:
        problem = f"holds {form}: {different} different ones in {n} rows: {mend}, or "
    else:
        problem = f"has {different} different texts in {n} rows, as free text or ids have: "
    raise DataError(f"{_place(table, column)} {problem}leave it out with --drop {shown(column)}")


# -- numbers -----------------------------------------------------------------------------------


def _type_numbers(table: Table, column: str, numbers: np.ndarray) -> np.ndarray:
    """Finite float64 numbers (N,), or whole ones beyond 2^53, with notes on what they may mean.

    Raises DataError if float64 does not distinguish different cells.
    """
    cells = table.columns[column]
    if not is_text(cells):
        _note_calendar_and_counters(table, column, numbers)
        return numbers
    if np.abs(numbers).max() >= EXACT:
        integers = _parse_integers(cells)
        if integers:
            return _type_large_integers(table, column, integers)
    has_long_cells = max(map(len, cells)) > FLOAT_DIGITS
    if has_long_cells and len(set(numbers.tolist())) < len(set(map(Decimal, cells))):
        raise DataError(
            f"{_place(table, column)} holds numbers of more digits than float64 has (about 16), "
            f"which differ in the last ones: {_drop_or_categorical(column)}"
        )
    if same := _find_same_numbers(cells, numbers):
        table.notes.append(
            f"column {shown(column)} writes one number in different ways, such as "
            f"{shown(same[0])} and {shown(same[1])}: they are the same to the model; "
            f"--categorical {shown(column)} keeps them apart"
        )
    _note_calendar_and_counters(table, column, numbers)
    signed = sum(cell[0] == "+" for cell in cells)
    if signed:
        table.notes.append(
            f"column {shown(column)} has a plus sign in {signed} rows: samples are written without "
            "it"
        )
    return numbers


def _drop_or_categorical(column: str) -> str:
    return (
        f"leave it out with --drop {shown(column)}, or make each a category with "
        f"--categorical {shown(column)}"
    )


def _parse_integers(cells: np.ndarray) -> list[int]:
    """The cells as exact integers, or [] if one is not written as an integer."""
    try:
        return list(map(int, cells))
    except ValueError:
        return []


def _type_large_integers(table: Table, column: str, integers: list[int]) -> np.ndarray:
    """int64 or uint64 (N,). Raises DataError if float64 cannot hold their differences."""
    low = min(integers)
    high = max(integers)
    if high - low >= EXACT or low < -(2**63) or high >= 2**64:
        raise DataError(
            f"{_place(table, column)} holds whole numbers that float64 cannot tell apart, as ids "
            f"and times in nanoseconds are: {_drop_or_categorical(column)}"
        )
    table.notes.append(
        f"column {shown(column)} holds numbers beyond 2^53, as ids are: they are learned as "
        f"quantities, exact to the last digit; --drop {shown(column)} leaves it out"
    )
    return np.array(integers, np.int64 if high < 2**63 else np.uint64)


def _find_same_numbers(cells: np.ndarray, numbers: np.ndarray) -> tuple[str, str] | None:
    """Two texts with a fraction that are the same number, as versions 1.1 and 1.10; or None."""
    first_text: dict[float, str] = {}
    for cell, number in zip(cells, numbers.tolist()):
        if "." in cell and first_text.setdefault(number, cell) != cell:
            return first_text[number], cell
    return None


def _note_calendar_and_counters(table: Table, column: str, numbers: np.ndarray) -> None:
    """A note on numbers that look like dates, times or row numbers."""
    cells = table.columns[column]
    if form := calendar_form(numbers):
        table.notes.append(
            f"column {shown(column)} looks like {form}: it is learned as a plain number, so that "
            "samples hold dates or times that do not exist. Write it as days or seconds since a "
            f"fixed day, or give --drop {shown(column)}"
        )
    elif is_text(cells) and is_year_and_month(cells):
        table.notes.append(
            f"column {shown(column)} looks like dates written as year.month: it is learned as a "
            "decimal number. Write it as months since a fixed one, or give "
            f"--categorical {shown(column)} or --drop {shown(column)}"
        )
    elif len(numbers) > 2 and (np.diff(numbers) == 1).all():
        table.notes.append(
            f"column {shown(column)} counts the rows, and is learned as a quantity: "
            f"--drop {shown(column)} leaves it out"
        )
