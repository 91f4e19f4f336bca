"""Tables (.csv, .tsv, .parquet): numbers and categories become one vector of floats, and back.

A cell that does not fit its column is refused with its line and the option that mends it; what was
decided without asking is in ``Dataset.notes``.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...core.errors import DataError, UsageError, did_you_mean
from ...core.spec import DataSpec
from ...core.words import shown
from ..codecs.column import sorted_values
from ..codecs.columns import Columns
from ..config import TableOptions
from ..dataset import Dataset, Split, compute_digest
from ..formats.encoding import refuse_archive
from ..source import Source
from ..splits import split_rows
from ..tables.column_types import type_column
from ..tables.delimited import read_delimited
from ..tables.missing import note_lost_values, remove_missing_rows
from ..tables.parquet import read_parquet
from ..tables.table import Table, is_text, list_shown, to_text

MAX_CLASSES = 10_000
MAX_LISTED_COLUMNS = 20


def load(name: str, options: TableOptions) -> Dataset:
    """Raises DataError (the content of the file) and UsageError (an option)."""
    path = Path(name).expanduser()
    notes: list[str] = []
    if path.suffix.lower() == ".parquet":
        read = read_parquet
    else:
        refuse_archive(name, path)
        read = read_delimited
    try:
        columns, lines = read(path, notes)
    except OSError as error:
        raise DataError(
            f"{shown(name)} cannot be read ({error.strerror or error}): mend the path or its "
            "permissions"
        ) from error
    return table_dataset(Table(name, columns, lines, notes), options)


def table_dataset(table: Table, options: TableOptions, y: np.ndarray | None = None) -> Dataset:
    """The data set of a table.

    y: labels 0 .. K-1 (N,) that are not in the table; they become its column y.
    With ``learn_label`` the label is not only the class but also a column to learn.
    """
    _check_column_names(table, options)
    label_name = options.label or ""
    if y is not None:
        label_name = _unused_name("y", table.columns)
        labels = np.array(list(map(str, y.tolist())), object)
        table = table.with_columns(table.columns | {label_name: labels})
    kept = {name: cells for name, cells in table.columns.items() if name not in options.drop}
    table, dropped = remove_missing_rows(table.with_columns(kept), options)
    label_place = list(table.columns).index(label_name) if label_name else 0
    columns = _learned_columns(table, label_name, dropped, options)
    class_names: tuple[str, ...] = ()
    labels = None
    if label_name:
        label = to_text(table.columns[label_name])
        note_lost_values(("class", "classes"), "", dropped.get(label_name), label, table.notes)
        if y is None:
            class_names = _classes_of(table, label_name, label)
        else:
            class_names = tuple(map(str, range(int(y.max()) + 1)))
        number_of = {value: i for i, value in enumerate(class_names)}
        labels = np.array([number_of[cell] for cell in label], np.int64)
        if options.learn_label:
            columns = _insert_column(columns, label_place, label_name, label)
    return _encode(table, columns, labels, class_names, label_name, label_place, options)


def _encode(
    table: Table,
    columns: dict[str, np.ndarray],
    y: np.ndarray | None,
    class_names: tuple[str, ...],
    label_name: str,
    label_place: int,
    options: TableOptions,
) -> Dataset:
    rows = split_rows(len(table), options, y, table.notes, class_names)
    codec = Columns.fit(columns, rows["train"], label_name, label_place)
    x = codec.encode(columns)
    splits = {
        part: Split(x[part_rows], None if y is None else y[part_rows])
        for part, part_rows in rows.items()
    }
    spec = DataSpec("vector", (codec.dims,), 0, len(class_names), codec.blocks, cells=codec.cells)
    return Dataset(
        table.name,
        spec,
        splits,
        compute_digest(spec, splits),
        class_names=class_names,
        columns=codec,
        notes=tuple(table.notes),
    )


def _check_column_names(table: Table, options: TableOptions) -> None:
    """Raises UsageError if an option names a column that does not exist."""
    label = () if options.label is None else (options.label,)
    named = {"label": label, "drop": options.drop, "categorical": options.categorical}
    for option, names in named.items():
        for name in names:
            if name not in table.columns:
                known = list_shown(list(table.columns)[:MAX_LISTED_COLUMNS])
                raise UsageError(
                    f"--{option}: there is no column {shown(name)}."
                    f"{did_you_mean(name, table.columns)} Columns: {known}"
                )
    if options.label is not None and options.label in options.drop:
        raise UsageError(f"--label and --drop both name {shown(options.label)}: leave one out")


def _unused_name(name: str, columns: Mapping[str, np.ndarray]) -> str:
    while name in columns:
        name += "_"
    return name


def _learned_columns(
    table: Table, label_name: str, dropped: Mapping[str, np.ndarray], options: TableOptions
) -> dict[str, np.ndarray]:
    """The typed columns besides the label. Raises UsageError if there are none."""
    names = [name for name in table.columns if name != label_name]
    if not names:
        raise UsageError(f"{shown(table.name)}: {_explain_no_columns(label_name, options)}")
    columns = {name: type_column(table, name, options) for name in names}
    for name, cells in columns.items():
        if is_text(cells):
            kind = ("category", "categories")
            note_lost_values(
                kind, f"of column {shown(name)} ", dropped.get(name), cells, table.notes
            )
    return columns


def _explain_no_columns(label: str, options: TableOptions) -> str:
    """Why a table has no column to learn from, and what mends it."""
    if options.drop:
        return "no column is left to learn from: drop fewer"
    if options.label is not None:
        return (
            f"the label {shown(label)} is the only column: leave --label out to learn it, or add "
            "columns to the file"
        )
    return "there is no column to learn from: add some"


def _classes_of(table: Table, label_name: str, label: np.ndarray) -> tuple[str, ...]:
    """The different labels. Raises DataError if there are too many."""
    class_names = sorted_values(label)
    if len(class_names) > min(MAX_CLASSES, max(50, len(label) // 10)):
        raise DataError(
            f"{shown(table.name)}: --label {shown(label_name)} has {len(class_names)} different "
            f"values in {len(label)} rows, too many for classes: name another column"
        )
    return class_names


def _insert_column(
    columns: dict[str, np.ndarray], place: int, name: str, cells: np.ndarray
) -> dict[str, np.ndarray]:
    pairs = list(columns.items())
    pairs.insert(place, (name, cells))
    return dict(pairs)


SOURCE = Source(
    load, TableOptions, suffixes=(".csv", ".tsv", ".parquet"), title="a table", place=80
)
