"""Missing cells: which they are, and what happens to their rows."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from ...core.errors import DataError
from ...core.words import shown
from ..config import TableOptions
from .table import Table, is_text, list_shown, to_text

MISSING = frozenset(("", "na", "nan", "null"))  # compared in lower case
MAX_LISTED = 5


def remove_missing_rows(table: Table, config: TableOptions) -> tuple[Table, dict[str, np.ndarray]]:
    """Refuses or drops the rows with a missing cell; returns (table, dropped cells by column).

    Text such as NA is missing, but not in the label and in the columns of --categorical: there only
    empty cells are. Dropped cells do not include the missing ones. Raises DataError.
    """
    missing = {
        column: _missing_cells(cells, _is_named(column, config))
        for column, cells in table.columns.items()
    }
    _note_kept_words(table, missing, config)
    if not missing or not np.any(list(missing.values())):
        return table, {}
    rows = np.any(list(missing.values()), axis=0)
    words = _missing_words(table, missing)
    _refuse_empty_columns(table, missing, words)
    places = _describe_places(words)
    if config.missing == "refuse":
        raise DataError(_describe_refusal(table, missing, rows, places))
    if rows.all():
        hint = f" (as missing counts {places}; --categorical keeps it)" if words else ""
        raise DataError(
            f"{shown(table.name)}: every row has a missing cell: fill them, or --drop the columns "
            f"with most gaps{hint}"
        )
    hint = f"; as missing counts {places}: --categorical keeps it as a category" if words else ""
    table.notes.append(f"{rows.sum()} of {len(rows)} rows left out: a cell is missing{hint}")
    dropped = {column: cells[rows & ~missing[column]] for column, cells in table.columns.items()}
    return table.rows(~rows), dropped


def _is_named(column: str, config: TableOptions) -> bool:
    return column == config.label or column in config.categorical


def _missing_cells(cells: np.ndarray, only_empty: bool) -> np.ndarray:
    """Which cells (N,) are missing, bool (N,)."""
    if not is_text(cells):
        return np.isnan(cells)
    if only_empty:
        return np.array([not cell for cell in cells], bool)
    return np.array([cell.lower() in MISSING for cell in cells], bool)


def _missing_words(table: Table, missing: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """Column -> the different texts in it that count as missing; columns without are left out."""
    words = {}
    for column, cells in table.columns.items():
        if is_text(cells):
            texts = sorted(set(cells[missing[column]]) - {""})
            if texts:
                words[column] = texts
    return words


def _describe_places(words: Mapping[str, list[str]]) -> str:
    """Where texts stand that count as missing."""
    places = [
        f"{list_shown(texts)} in column {shown(column)}"
        for column, texts in list(words.items())[:MAX_LISTED]
    ]
    return ", ".join(places) + " ..." * (len(words) > MAX_LISTED)


def _refuse_empty_columns(
    table: Table, missing: Mapping[str, np.ndarray], words: Mapping[str, list[str]]
) -> None:
    """Raises DataError if every cell of a column is missing."""
    empty = next((column for column, cells in missing.items() if cells.all()), None)
    if empty is None:
        return
    if empty not in words:
        raise DataError(
            f"{shown(table.name)}: column {shown(empty)} is empty: leave it out with "
            f"--drop {shown(empty)}"
        )
    verb = "counts" if len(words[empty]) == 1 else "count"
    raise DataError(
        f"{shown(table.name)}: every cell of column {shown(empty)} is missing, since "
        f"{list_shown(words[empty])} {verb} as missing: leave it out with --drop {shown(empty)}, "
        f"or keep that text with --categorical {shown(empty)}"
    )


def _describe_refusal(
    table: Table, missing: Mapping[str, np.ndarray], rows: np.ndarray, places: str
) -> str:
    """The message if missing cells are refused: how many, the first one, how to mend it."""
    row = int(rows.argmax())
    column = next(column for column, cells in missing.items() if cells[row])
    count = sum(int(cells.sum()) for cells in missing.values())
    cells = table.columns[column]
    text = cells[row] if is_text(cells) else ""
    example = f" ({shown(text)} counts as missing)" if text else ""
    message = (
        f"{shown(table.name)}: {count} missing cell{'s' * (count != 1)} in {rows.sum()} of "
        f"{len(rows)} rows, first in line {table.lines[row]}, column {shown(column)}{example}: "
        "fill them, or leave those rows out with --missing drop"
    )
    if places:
        message += (
            f". To keep such text ({places}) as a category, name its column in --categorical or "
            "--label"
        )
    return message


def _note_kept_words(table: Table, missing: Mapping[str, np.ndarray], config: TableOptions) -> None:
    """A note on each column that the user named and that holds text which is missing elsewhere."""
    for column, cells in table.columns.items():
        if not is_text(cells) or not _is_named(column, config):
            continue
        kept = cells[~missing[column]]
        counts = Counter(cell for cell in kept if cell.lower() in MISSING)
        if not counts:
            continue
        named = ", ".join(
            f"{shown(cell)} in {count} row{'s' * (count != 1)}"
            for cell, count in sorted(counts.items())
        )
        is_label = column == config.label
        if len(counts) == 1:
            verdict = "is a class" if is_label else "is a category"
        else:
            verdict = "are classes" if is_label else "are categories"
        table.notes.append(
            f"column {shown(column)}: {named} {verdict}, since "
            f"--{'label' if is_label else 'categorical'} names the column: only empty cells count "
            "as missing in it"
        )


def note_lost_values(
    kind: tuple[str, str],
    where: str,
    dropped: np.ndarray | None,
    kept: np.ndarray,
    notes: list[str],
) -> None:
    """A note on the categories or classes that only dropped rows have.

    kind: their name in the singular and in the plural; where: the column, or "".
    """
    if dropped is None:
        return
    lost = Counter(to_text(dropped).tolist())
    for value in set(kept.tolist()):
        lost.pop(value, None)
    if not lost:
        return
    values = ", ".join(
        f"{shown(value)} ({count} row{'s' * (count != 1)})"
        for value, count in lost.most_common(MAX_LISTED)
    )
    more = f" and {len(lost) - MAX_LISTED} more" if len(lost) > MAX_LISTED else ""
    notes.append(
        f"{kind[len(lost) > 1]} {where}lost with the rows left out, since no other row has "
        f"{'them' if len(lost) > 1 else 'it'}: {values}{more}"
    )
