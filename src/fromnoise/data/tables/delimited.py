"""Reads .csv and .tsv files: separator, header, rows."""

import csv
import io
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.words import shown
from ..codecs.column import as_number
from ..formats.encoding import decoded_text
from .cell_forms import text_form
from .column_types import MOSTLY
from .missing import MISSING
from .table import list_shown

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
HEAD_LINES = 1000  # lines by which the separator is chosen
# As Excel writes and reads it.
SEPARATOR_LINE = re.compile(r'"?sep=([^\r\n]*?)"?(?:\r\n|\r|\n|\Z)', re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[-+]?\d[\d.]*,\d+|[-+]?,\d+")
MAX_LISTED = 5

Rows = Sequence[Sequence[str]]


def read_delimited(path: Path, notes: list[str]) -> tuple[dict[str, np.ndarray], list[int]]:
    """Columns of text and the line of each row. notes: receives what was decided.

    Raises DataError with the line of what is wrong, and OSError.
    """
    text, note = decoded_text(path.read_bytes())
    if note:
        notes.append(note)
    if "\0" in text:
        raise DataError(f"{shown(path, 200)} is not a text table: save it as CSV in UTF-8")
    text, separator = _split_separator_line(path, text)
    first_line = 1 if separator is None else 2
    if separator is None:
        separator = _choose_separator(text, notes)
    rows, lines = _parse_rows(path, text, separator, first_line)
    if not rows:
        raise DataError(f"{shown(path, 200)} is empty: give a header and rows")
    header, has_header = _read_header(rows, notes)
    if has_header:
        rows = rows[1:]
        lines = lines[1:]
    repeated = [column for i, column in enumerate(header) if column in header[:i]]
    if repeated:
        raise DataError(
            f"{shown(path, 200)}: two columns are named {shown(repeated[0])}: rename one"
        )
    if not rows:
        raise DataError(f"{shown(path, 200)} has a header but no rows: add rows")
    columns = {name: np.array(cells, object) for name, cells in zip(header, zip(*rows))}
    return columns, lines


def _parse_rows(
    path: Path, text: str, separator: str, first_line: int
) -> tuple[list[list[str]], list[int]]:
    """Rows of stripped cells, all of one length, and their lines. Raises DataError."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=separator,
        strict=True,
        skipinitialspace=separator != " ",
    )
    rows = []
    lines = []
    try:
        for row in reader:
            if row:
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num + first_line - 1)
    except csv.Error as error:
        line = reader.line_num + first_line - 1
        raise DataError(
            f"{shown(path, 200)}, line {line}: {error}: mend the quotes there"
        ) from error
    for row, line in zip(rows, lines):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{shown(path, 200)}, line {line}: {len(row)} cells where line {lines[0]} has "
                f"{len(rows[0])}: add or remove cells, or quote a cell that holds the separator"
            )
    return rows, lines


# -- header ------------------------------------------------------------------------------------


def _read_header(rows: Rows, notes: list[str]) -> tuple[list[str], bool]:
    """Names of the columns, and whether the first row holds them."""
    first = rows[0]
    numbered = [f"c{i}" for i in range(len(first))]
    numbers = [cell for cell in first if np.isfinite(as_number(cell))]
    if len(numbers) == len(first):
        reason = "holds numbers"
    elif _is_like_rows_below(first, rows[1:]):
        reason = "has the form of the rows below it"
    else:
        _note_names(first, numbers, notes)
        return [cell or name for cell, name in zip(first, numbered)], True
    notes.append(f"the first line {reason}: no header, columns are named c0 to c{len(first) - 1}")
    return numbered, False


def _note_names(header: Sequence[str], numbers: Sequence[str], notes: list[str]) -> None:
    """Notes on names that are numbers, and on columns without a name."""
    if numbers:
        more = f" and {len(numbers) - MAX_LISTED} more" if len(numbers) > MAX_LISTED else ""
        notes.append(
            "the first line is taken for the names of the columns, and "
            f"{list_shown(numbers[:MAX_LISTED])}{more} in it "
            f"{'are numbers' if len(numbers) > 1 else 'is a number'}: if it is a row, put a line "
            "of names above it"
        )
    for i, cell in enumerate(header):
        if not cell:
            notes.append(
                f"column {i + 1} has no name: it is named 'c{i}' and learned; --drop c{i} leaves "
                "it out"
            )


def _is_like_rows_below(first: Sequence[str], rest: Rows) -> bool:
    """Whether each cell of the first row has the form of those below: a number, a date or an amount
    as they are, or a text that is there again."""
    return bool(rest) and all(
        _is_like_cells(cell, [row[i] for row in rest]) for i, cell in enumerate(first)
    )


def _is_like_cells(cell: str, below: list[str]) -> bool:
    present = [other for other in below if other.lower() not in MISSING]
    if not present or cell.lower() in MISSING:
        return False
    if np.isfinite(list(map(as_number, present))).mean() >= MOSTLY:
        return bool(np.isfinite(as_number(cell)))
    if cell in present:
        return True
    form = text_form([cell])
    return form is not None and text_form(present) == form


# -- separator ---------------------------------------------------------------------------------


def _split_separator_line(path: Path, text: str) -> tuple[str, str | None]:
    """The text without a first line such as ``sep=;``, and the separator in that line, or None.

    Excel writes that line, and takes the separator from it. Raises DataError if it names more than
    one character.
    """
    match = SEPARATOR_LINE.match(text)
    if match is None:
        return text, None
    separator = "\t" if match[1] == "\\t" else match[1]
    if len(separator) != 1 or separator in '"\0':
        raise DataError(
            f"{shown(path, 200)}: the first line, {shown(match[0].strip())}, should name the "
            "separator by one character: mend it, such as sep=; or remove it"
        )
    return text[match.end() :], separator


def _choose_separator(text: str, notes: list[str]) -> str:
    """The separator with the same number of columns, and most of them, in each of the first lines.

    A semicolon or tab goes before a comma that stands in the decimals of a column. Notes on a
    choice between several.
    """
    head = list(islice(io.StringIO(text, newline=""), HEAD_LINES))
    merits = {separator: _rate_separator(head, separator) for separator in SEPARATORS}
    best = max(SEPARATORS, key=merits.__getitem__)
    is_even, avoids_decimals, width = merits[best]
    others = [other for other in SEPARATORS if other != best and merits[other][0]]
    if others and is_even:
        why = ", since numbers are written with a decimal comma" if avoids_decimals else ""
        alternatives = " or ".join(
            f"a {SEPARATORS[other]} ({merits[other][2]} columns)" for other in others
        )
        notes.append(
            f"cells are separated by a {SEPARATORS[best]} ({width} columns), not by "
            f"{alternatives}{why}"
        )
    return best


def _rate_separator(head: list[str], separator: str) -> tuple[bool, bool, int]:
    """(all rows have the same number of columns, it separates numbers with decimal commas, number
    of columns in the first row)."""
    try:
        reader = csv.reader(head, delimiter=separator, skipinitialspace=True)
        rows = [row for row in reader if row]
    except csv.Error:
        rows = []
    if len(head) == HEAD_LINES:
        rows = rows[:-1]  # a quoted cell may have been cut in two
    widths = {len(row) for row in rows}
    width = len(rows[0]) if rows else 0
    is_even = len(widths) == 1 and width > 1
    avoids_decimals = separator != "," and min(widths, default=0) > 1 and _has_decimal_commas(rows)
    return is_even, avoids_decimals, width


def _has_decimal_commas(rows: Rows) -> bool:
    """Whether a column below the first row holds numbers alone, some with a decimal comma."""
    below = rows[1:] or rows
    for i in range(min(map(len, rows))):
        cells = [row[i].strip() for row in below]
        cells = [cell for cell in cells if cell.lower() not in MISSING]
        commas = sum(DECIMAL_COMMA.fullmatch(cell) is not None for cell in cells)
        plain = sum(bool(np.isfinite(as_number(cell))) for cell in cells)
        if commas and commas + plain >= MOSTLY * len(cells):
            return True
    return False
