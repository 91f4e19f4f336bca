"""The codec of one column of a table: cells in the user's units <-> floats."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, isfinite, log10

import numpy as np

from ...core.errors import DataError, did_you_mean
from ...core.words import shown

# Width of the narrowest cells over the largest value: rows are float32, with steps of 2^-23 of it.
FINEST = 2.0**-21
MAX_DECIMALS = 6
EXACT = 2**53  # whole numbers below this are exact in float64


@dataclass(frozen=True)
class Column:
    """A number or, with ``values``, a category.

    mean, std  over the training rows
    whole      all numbers are whole
    decimals   the most that the user's numbers have, up to 6; None if they have more
    low, high  range over all rows
    values     the different texts of a category
    constant   all rows have one value, ``low`` or ``values[0]``; no part of the vector
    offset     the smallest of whole numbers beyond 2^53; mean, low and high are relative to it, so
               that float64 is exact
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
        """Number of floats: 0 for a constant column, 1 for a number, 1 per value of a category."""
        return 0 if self.constant else max(1, len(self.values))

    @property
    def cells(self) -> tuple[tuple[float, float, float], ...]:
        """For DataSpec: (width, lowest, highest) of each float, standardised; width 0: no cell."""
        if self.values or self.low is None:
            return ((0.0, 0.0, 1.0),) * self.width
        low = (self.low - self.mean) / self.std
        high = (self.high - self.mean) / self.std
        width = 0.0 if self.decimals is None else 10.0**-self.decimals / self.std
        if width < FINEST * max(abs(low), abs(high)):
            width = 0.0
        return ((width, low, high),) * self.width

    @property
    def constant_value(self) -> str | int | float:
        """The value of a constant column."""
        if self.values:
            return self.values[0]
        return int(self.low) + self.offset if self.whole else self.low

    def describe_rounding(self) -> str:
        """How the numbers must be rounded to become cells of a grid that float32 can resolve."""
        largest = max(abs(self.low - self.mean), abs(self.high - self.mean))
        decimals = -ceil(log10(FINEST * largest))
        if decimals > MAX_DECIMALS:
            return f"multiply it by {10**decimals:,} and round it to whole numbers"
        if decimals < 0:
            return f"divide it by {10**-decimals:,} and round it to whole numbers"
        return f"round it to {decimals} decimals"

    def to_units(self, x: np.ndarray) -> np.ndarray:
        """Standardised numbers (N,) -> float64 in the user's units, clipped to the range of the
        data and rounded to its decimals."""
        numbers = (np.asarray(x, np.float64) * self.std + self.mean).clip(self.low, self.high)
        return numbers if self.decimals is None else np.round(numbers, self.decimals)

    def standardise(self, numbers: np.ndarray) -> np.ndarray:
        """The user's numbers (N,) -> float64 of mean 0 and variance 1 over the training rows."""
        return (np.asarray(numbers, np.float64) - self.mean) / self.std

    def encode(self, cells: Sequence) -> np.ndarray:
        """Cells (N,), as ``decode`` returns them -> (N, width). Raises DataError."""
        if self.constant:
            self._check_constant(cells)
            return np.zeros((len(cells), 0))
        if self.values:
            return self._encode_categories(cells)
        if self.offset:
            cells = [int(cell) - self.offset for cell in np.asarray(cells).tolist()]
        return self.standardise(cells)[:, None]

    def _check_constant(self, cells: Sequence) -> None:
        others = [cell for cell in cells if cell != self.constant_value]
        if others:
            raise DataError(
                f"column {shown(self.name)}: {shown(str(others[0]))} is not possible, it is "
                f"{shown(str(self.constant_value))} in every row of the data"
            )

    def _encode_categories(self, cells: Sequence) -> np.ndarray:
        index = {value: i for i, value in enumerate(self.values)}
        unknown = [cell for cell in cells if cell not in index]
        if unknown:
            raise DataError(
                f"column {shown(self.name)}: {shown(unknown[0])} is no known category."
                f"{did_you_mean(str(unknown[0]), self.values)}"
            )
        x = np.zeros((len(cells), self.width))
        if self.width > 1:
            x[np.arange(len(x)), [index[cell] for cell in cells]] = 1
        return x

    def decode(self, x: np.ndarray) -> list:
        """(N, width) -> N cells: floats, ints if all were whole, or text."""
        if self.constant:
            return [self.constant_value] * len(x)
        if self.values:
            return [self.values[i] for i in np.asarray(x, np.float64).argmax(1)]
        numbers = self.to_units(x[:, 0]).tolist()
        if not self.whole:
            return numbers
        return [int(v) + self.offset if isfinite(v) else v for v in numbers]

    def round_trip(self, x: np.ndarray) -> np.ndarray:
        """encode(decode(x)), (N, width) -> (N, width), without the text between."""
        if self.width == 1 and not self.values:
            return self.standardise(self.to_units(x[:, 0]))[:, None]
        out = np.zeros(x.shape)
        if self.width > 1:
            out[np.arange(len(x)), x.argmax(1)] = 1
        return out

    def to_json(self) -> dict:
        # the offset as text: readers of JSON need not keep more than 53 bits
        return asdict(self) | {"values": list(self.values), "offset": str(self.offset)}

    @classmethod
    def from_json(cls, stored: dict) -> "Column":
        values = tuple(stored["values"])
        return cls(**stored | {"values": values, "offset": int(stored.get("offset", 0))})


def fit_column(name: str, cells: np.ndarray, train: np.ndarray) -> Column:
    """The codec of cells (N,): text, float64, or int64 and uint64 beyond 2^53.

    train: rows to learn from. Raises DataError if float64 cannot hold the differences of the
    numbers, or float32 their standardised form.
    """
    if cells.dtype == object:
        values = sorted_values(cells)
        return Column(name, values=values, constant=len(values) == 1)
    offset = 0
    if cells.dtype.kind in "iu":
        offset = int(cells.min())
        assert int(cells.max()) - offset < EXACT, "float64 holds the differences"
        cells = (cells - cells.min()).astype(np.float64)
    mean, std = _fit_scale(name, cells, cells[train])
    low = float(cells.min())
    high = float(cells.max())
    return Column(
        name,
        mean,
        std,
        whole=bool((cells == np.rint(cells)).all() and np.abs(cells).max() < EXACT),
        decimals=_count_decimals(cells),
        low=low,
        high=high,
        constant=low == high,
        offset=offset,
    )


def _fit_scale(name: str, cells: np.ndarray, train: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the training cells. Raises DataError."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        mean = float(train.mean())
        std = float(train.std())
        if (train == train[0]).all():  # constant: kept as it is, its mean without rounding
            mean = float(train[0])
            std = 1.0
        elif std == 0:
            raise DataError(
                f"column {shown(name)} holds numbers that differ by less than float64 can tell: "
                "rescale it or --drop it"
            )
        largest = np.abs((cells - mean) / std).max()
    if not (np.isfinite(std) and largest < np.finfo(np.float32).max):  # also if NaN
        raise DataError(
            f"column {shown(name)} holds numbers too large for float32: rescale it or --drop it"
        )
    return mean, std


def _count_decimals(cells: np.ndarray) -> int | None:
    for decimals in range(MAX_DECIMALS + 1):
        if np.array_equal(np.round(cells, decimals), cells):
            return decimals
    return None


def as_number(text: str) -> float:
    """The number in a cell, or NaN."""
    try:
        return float(text) if "_" not in text else np.nan  # Python alone reads 1_000 as a number
    except ValueError:
        return np.nan


def sorted_values(cells: np.ndarray) -> tuple[str, ...]:
    """The different texts, sorted by number if all are numbers."""
    values = sorted(set(cells))
    numbers = list(map(as_number, values))
    if np.isnan(numbers).any():
        return tuple(values)
    return tuple(value for _, value in sorted(zip(numbers, values)))
