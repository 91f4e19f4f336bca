"""The codec of tables: rows in the user's own units <-> vectors of floats.

Unusual: numbers are standardised by the training rows only, so nothing of the test leaks into the codec,
while a category is known wherever in the file it occurs. A column with one value only is not part of the vector: no
model sees it, no measure counts it, and it is written back as it was. The codec is stored in the run as JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil, isfinite, log10

import numpy as np

from ...core.errors import DataError, did_you_mean
from ...core.words import shown

FINEST = (
    2.0**-21
)  # width of the narrowest cells over the largest value: rows are float32, with steps of 2^-23 of it


@dataclass(frozen=True)
class Column:
    """A number (mean, std, whether all are whole, decimals, range) or, with ``values``, a category.

    decimals: how many the user's numbers have at most, up to 6; None when they have more.
    constant: it has one value in all rows, ``low`` or ``values[0]``, and no part in the vector.
    offset: of whole numbers beyond 2^53, the smallest; mean, low and high are then relative to it, so that float64 is exact.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0
    whole: bool = False
    decimals: int | None = None
    low: float | None = None
    high: float | None = None
    values: tuple[str, ...] = ()
    constant: bool = False
    offset: int = 0

    @property
    def width(self) -> int:
        """Floats that it becomes: none for a constant column, one for a number, one for each value of a category."""
        return 0 if self.constant else max(1, len(self.values))

    @property
    def cells(self) -> tuple[tuple[float, float, float], ...]:
        """For DataSpec: (width, lowest, highest) of each of its floats, standardised; width 0 is no cell."""
        if self.values or self.low is None:
            return ((0.0, 0.0, 1.0),) * self.width
        ends = ((self.low - self.mean) / self.std, (self.high - self.mean) / self.std)
        width = 0.0 if self.decimals is None else 10.0**-self.decimals / self.std
        if width < FINEST * max(map(abs, ends)):
            width = 0.0
        return ((width, *ends),) * self.width

    @property
    def only(self) -> str | int | float:
        """The value of a constant column."""
        if self.values:
            return self.values[0]
        return int(self.low) + self.offset if self.whole else self.low

    def describe_rounding(self) -> str:
        """How the user's numbers must be rounded to become cells of a grid that float32 can tell apart, in words."""
        largest = max(abs(self.low - self.mean), abs(self.high - self.mean))
        decimals = -ceil(log10(FINEST * largest))
        if decimals > 6:
            return f"multiply it by {10**decimals:,} and round it to whole numbers"
        if decimals < 0:
            return f"divide it by {10**-decimals:,} and round it to whole numbers"
        return f"round it to {decimals} decimals"

    def numbers(self, x: np.ndarray) -> np.ndarray:
        """Standardised numbers (N,) -> float64 in the user's units, within the range and with the decimals of the data."""
        numbers = (np.asarray(x, np.float64) * self.std + self.mean).clip(self.low, self.high)
        return numbers if self.decimals is None else np.round(numbers, self.decimals)

    def standardised(self, numbers: np.ndarray) -> np.ndarray:
        """The user's numbers (N,) -> float64 of mean 0 and variance 1 over the training rows."""
        return (np.asarray(numbers, np.float64) - self.mean) / self.std


@dataclass(frozen=True)
class Columns:
    """The codec of a table: rows in the user's own units <-> float32 vectors (N, D).

    label: the name of the column that holds the class, "" without one; label_at: its place among the columns of the file.
    """

    columns: tuple[Column, ...]
    label: str = ""
    label_at: int = 0

    @classmethod
    def fit(
        cls, table: Mapping[str, np.ndarray], train: np.ndarray, label: str = "", label_at: int = 0
    ) -> "Columns":
        """table: arrays of float64 (numbers), int64 or uint64 (whole numbers beyond 2^53), or text; train: rows to learn from.

        Raises DataError where float64 cannot hold the differences of the numbers, or float32 their standardised form.
        """
        done = []
        for name, cells in table.items():
            if cells.dtype == object:
                values = sorted_values(cells)
                done.append(Column(name, values=values, constant=len(values) == 1))
                continue
            offset = 0
            if cells.dtype.kind in "iu":
                offset = int(cells.min())
                assert int(cells.max()) - offset < 2**53, "float64 holds the differences"
                cells = (cells - cells.min()).astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                mean, std = float(cells[train].mean()), float(cells[train].std())
                if (
                    cells[train] == cells[train][0]
                ).all():  # constant: kept as it is, its mean without rounding
                    mean, std = float(cells[train][0]), 1.0
                elif std == 0:
                    raise DataError(
                        f"column {shown(name)} holds numbers that differ by less than float64 can tell: rescale it or --drop it"
                    )
                largest = np.abs((cells - mean) / std).max()
            if not (np.isfinite(std) and largest < np.finfo(np.float32).max):  # also if NaN
                raise DataError(
                    f"column {shown(name)} holds numbers too large for float32: rescale it or --drop it"
                )
            whole = bool((cells == np.rint(cells)).all() and np.abs(cells).max() < 2**53)
            exact = (d for d in range(7) if np.array_equal(np.round(cells, d), cells))
            low, high = float(cells.min()), float(cells.max())
            done.append(
                Column(
                    name,
                    mean,
                    std,
                    whole,
                    next(exact, None),
                    low,
                    high,
                    constant=low == high,
                    offset=offset,
                )
            )
        if all(column.constant for column in done):  # a vector needs a component
            done = [replace(column, constant=False) for column in done]
        return cls(tuple(done), label, label_at)

    @property
    def blocks(self) -> tuple[int, ...]:
        """For DataSpec: empty if all columns are numbers."""
        widths = tuple(column.width for column in self.columns if not column.constant)
        return widths if max(widths) > 1 else ()

    @property
    def cells(self) -> tuple[tuple[float, float, float], ...]:
        """For DataSpec: (width, lowest, highest) of each component; empty if no number has fixed decimals."""
        cells = tuple(cell for column in self.columns for cell in column.cells)
        return cells if any(width > 0 for width, _, _ in cells) else ()

    @property
    def dims(self) -> int:
        return sum(column.width for column in self.columns)

    def encode(self, rows: Mapping[str, Sequence]) -> np.ndarray:
        """Column name -> N values, as ``undo`` gives them -> float32 (N, D). Raises DataError."""
        if missing := [column.name for column in self.columns if column.name not in rows]:
            raise DataError(
                f"column {shown(missing[0])} is missing: give every column that the model was trained on"
            )
        n = len(rows[self.columns[0].name])
        x, at = np.zeros((n, self.dims), np.float32), 0
        for column in self.columns:
            cells = rows[column.name]
            if column.constant:
                if other := next((cell for cell in cells if cell != column.only), None):
                    known = f"it is {shown(str(column.only))} in every row of the data"
                    raise DataError(
                        f"column {shown(column.name)}: {shown(str(other))} is not possible, {known}"
                    )
            elif not column.values:
                if column.offset:
                    cells = [int(cell) - column.offset for cell in np.asarray(cells).tolist()]
                x[:, at] = column.standardised(cells)
            else:
                index = {value: i for i, value in enumerate(column.values)}
                if unknown := next((cell for cell in cells if cell not in index), None):
                    hint = did_you_mean(str(unknown), column.values)
                    raise DataError(
                        f"column {shown(column.name)}: {shown(unknown)} is no known category.{hint}"
                    )
                if column.width > 1:
                    x[np.arange(n), at + np.array([index[cell] for cell in cells], np.int64)] = 1
            at += column.width
        return x

    def decode(self, x: np.ndarray) -> dict[str, list]:
        """float32 (N, D) -> column name -> N values: floats, ints where all were whole, or text.

        Numbers keep to the range and the decimals of the user's own: a Gaussian knows of neither.
        """
        out, at = {}, 0
        for column in self.columns:
            part = np.asarray(x[:, at : at + column.width], np.float64)
            if column.constant:
                out[column.name] = [column.only] * len(x)
            elif column.values:
                out[column.name] = [column.values[i] for i in part.argmax(1)]
            else:
                numbers = column.numbers(part[:, 0]).tolist()
                out[column.name] = (
                    [int(v) + column.offset if isfinite(v) else v for v in numbers]
                    if column.whole
                    else numbers
                )
            at += column.width
        return out

    def round_trip(self, x: np.ndarray) -> np.ndarray:
        """encode(undo(x)), float32 (N, D) -> (N, D), without the text between: x as the user receives it.

        Numbers are clipped to the range of the data and rounded to their decimals; of a category the largest
        component becomes 1 and the others 0. Rows of the data stay as they are, up to the rounding of float32.
        """
        out, at = np.zeros(x.shape, np.float32), 0
        for column in self.columns:
            if column.width == 1 and not column.values:
                out[:, at] = column.standardised(column.numbers(x[:, at]))
            elif column.width > 1:
                out[np.arange(len(x)), at + x[:, at : at + column.width].argmax(1)] = 1
            at += column.width
        return out

    def insert_label(self, rows: Mapping[str, list], labels: Sequence[str]) -> dict[str, list]:
        """rows, as ``undo`` gives them, with these labels in the label's own column: at its place in the file, if it is not there yet."""
        if self.label in rows:
            return {**rows, self.label: list(labels)}
        pairs = list(rows.items())
        pairs.insert(self.label_at, (self.label, list(labels)))
        return dict(pairs)

    def to_json(self) -> dict:
        label = {"label": self.label, "label_at": self.label_at} if self.label else {}
        columns = [
            asdict(column) | {"values": list(column.values), "offset": str(column.offset)}
            for column in self.columns
        ]
        return {
            "columns": columns,
            **label,
        }  # offsets as text: JSON readers need not keep more than 53 bits

    @classmethod
    def from_json(cls, value: dict) -> "Columns":
        return cls(
            tuple(
                Column(
                    **column
                    | {"values": tuple(column["values"]), "offset": int(column.get("offset", 0))}
                )
                for column in value["columns"]
            ),
            value.get("label", ""),
            value.get("label_at", 0),
        )


def as_number(text: str) -> float:
    """The number that a cell holds, or NaN."""
    try:
        return float(text) if "_" not in text else np.nan  # Python alone reads 1_000 as a number
    except ValueError:
        return np.nan


def sorted_values(cells: np.ndarray) -> tuple[str, ...]:
    """The different texts, by number if all are numbers."""
    values = sorted(set(cells))
    numbers = [as_number(value) for value in values]
    return tuple(
        values if np.isnan(numbers).any() else [value for _, value in sorted(zip(numbers, values))]
    )
