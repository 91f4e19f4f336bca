"""Reads .parquet files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...core.errors import DataError, UsageError
from ...core.limits import check_unpacked
from ...core.words import shown

EXACT = 2**53  # whole numbers below this are exact in float64
OBJECT_FACTOR = 8  # cells are Python objects for a while: bytes for each byte in the file
MAX_REASON = 60  # characters


def read_parquet(path: Path, notes: list[str]) -> tuple[dict[str, np.ndarray], Sequence[int]]:
    """Columns of text, or float64 with NaN for missing cells, and the number of each row.

    Raises DataError, UsageError if pyarrow is not installed, and OSError.
    """
    try:
        import pyarrow
    except ImportError:
        raise UsageError(
            "reading .parquet needs pyarrow: pip install 'fromnoise[parquet]'"
        ) from None
    try:
        columns = _read_columns(path)
    except DataError:
        raise
    except (pyarrow.ArrowException, ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the file cannot be opened; without a number pyarrow means damage
        reason = " ".join(str(error).split())[:MAX_REASON]
        raise DataError(
            f"{shown(path, 200)} is no sound parquet file ({reason}): save it again"
        ) from error
    n = len(next(iter(columns.values()), ()))
    if not n:
        raise DataError(f"{shown(path, 200)} has no {'rows' if columns else 'columns'}: add some")
    return columns, range(1, n + 1)


def _read_columns(path: Path) -> dict[str, np.ndarray]:
    from pyarrow import parquet, types

    file = parquet.ParquetFile(path)
    metadata = file.metadata
    groups = list(map(metadata.row_group, range(metadata.num_row_groups)))
    declared = max(
        8 * metadata.num_rows * metadata.num_columns,
        sum(group.total_byte_size for group in groups),
    )
    check_unpacked(path, declared, path.stat().st_size, factor=OBJECT_FACTOR)
    texts = [
        field.name
        for field in file.schema_arrow
        if types.is_string(field.type) or types.is_large_string(field.type)
    ]
    table = parquet.read_table(path, read_dictionary=texts)
    _check_texts(table, path)
    columns = {}
    for column, cells in zip(table.column_names, table.columns):
        if column in columns:
            raise DataError(
                f"{shown(path, 200)}: two columns are named {shown(column)}: rename one"
            )
        columns[column] = _convert_column(cells, column, path)
    return columns


def _check_texts(table, path: Path) -> None:
    """Raises DataError if texts that the file holds once take too much if each row has its own."""
    from pyarrow import compute, types

    for cells in table.columns:
        if not types.is_dictionary(cells.type):
            continue
        size = 0
        for part in cells.chunks:
            lengths = compute.binary_length(part.dictionary).take(part.indices)
            size += compute.sum(lengths).as_py() or 0
        check_unpacked(path, size, path.stat().st_size)


def _convert_column(cells, column: str, path: Path) -> np.ndarray:
    """A pyarrow column -> float64 with NaN for missing cells, or text with "" for them."""
    from pyarrow import types

    if types.is_nested(cells.type) or types.is_binary(cells.type):
        raise DataError(
            f"{shown(path, 200)}: column {shown(column)} holds {shown(str(cells.type))}: keep "
            "numbers and text only"
        )
    if types.is_timestamp(cells.type) and cells.type.unit == "ns":
        cells = cells.cast("string")  # Python's own times end at microseconds
    values = cells.to_pylist()
    is_float = types.is_floating(cells.type)
    is_exact = types.is_integer(cells.type) or types.is_decimal(cells.type)
    if is_exact:  # float64 would round larger numbers: text is exact
        is_exact = all(value is None or abs(value) < EXACT for value in values)
    if is_float or is_exact:
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)
    return np.array(["" if value is None else str(value).strip() for value in values], object)
