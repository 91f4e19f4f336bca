"""The codec of a table: rows in the user's units <-> vectors of floats.

Numbers are standardised by the training rows only, so nothing of the test leaks into the codec; a
category is known wherever in the file it occurs. A column with one value only is not part of the
vector: no model and no measure uses it, and it is written back as it was. The codec is stored in
the run as JSON.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...core.errors import DataError
from ...core.words import shown
from .column import Column, fit_column


@dataclass(frozen=True)
class Columns:
    """Rows in the user's units <-> float32 vectors (N, D).

    label     name of the column that holds the class, "" without one
    label_at  its place among the columns of the file
    """

    columns: tuple[Column, ...]
    label: str = ""
    label_at: int = 0

    @classmethod
    def fit(
        cls, table: Mapping[str, np.ndarray], train: np.ndarray, label: str = "", label_at: int = 0
    ) -> "Columns":
        """See ``fit_column``. train: rows to learn from. Raises DataError."""
        columns = [fit_column(name, cells, train) for name, cells in table.items()]
        if all(column.constant for column in columns):  # a vector needs a component
            columns = [replace(column, constant=False) for column in columns]
        return cls(tuple(columns), label, label_at)

    @property
    def blocks(self) -> tuple[int, ...]:
        """For DataSpec: empty if all columns are numbers."""
        widths = tuple(column.width for column in self.columns if not column.constant)
        return widths if max(widths) > 1 else ()

    @property
    def cells(self) -> tuple[tuple[float, float, float], ...]:
        """For DataSpec: (width, lowest, highest) of each component; empty if none is on a grid."""
        cells = tuple(cell for column in self.columns for cell in column.cells)
        return cells if any(width > 0 for width, _, _ in cells) else ()

    @property
    def dims(self) -> int:
        return sum(column.width for column in self.columns)

    def _blocks_of_columns(self) -> Iterator[tuple[Column, slice]]:
        """Each column and its components in the vector."""
        start = 0
        for column in self.columns:
            yield column, slice(start, start + column.width)
            start += column.width

    def encode(self, rows: Mapping[str, Sequence]) -> np.ndarray:
        """Column name -> N values, as ``decode`` returns them -> float32 (N, D). Raises DataError."""
        for column in self.columns:
            if column.name not in rows:
                raise DataError(
                    f"column {shown(column.name)} is missing: give every column that the model was "
                    "trained on"
                )
        x = np.zeros((len(rows[self.columns[0].name]), self.dims), np.float32)
        for column, block in self._blocks_of_columns():
            x[:, block] = column.encode(rows[column.name])
        return x

    def decode(self, x: np.ndarray) -> dict[str, list]:
        """float32 (N, D) -> column name -> N values: floats, ints if all were whole, or text.

        Numbers are clipped to the range of the data and rounded to its decimals.
        """
        return {
            column.name: column.decode(x[:, block]) for column, block in self._blocks_of_columns()
        }

    def round_trip(self, x: np.ndarray) -> np.ndarray:
        """encode(decode(x)), float32 (N, D) -> (N, D): x as the user receives it.

        Numbers are clipped and rounded; of a category the largest component becomes 1 and the
        others 0. Rows of the data stay as they are, up to the rounding of float32.
        """
        out = np.zeros(x.shape, np.float32)
        for column, block in self._blocks_of_columns():
            out[:, block] = column.round_trip(x[:, block])
        return out

    def insert_label(self, rows: Mapping[str, list], labels: Sequence[str]) -> dict[str, list]:
        """rows, as ``decode`` returns them, with these labels in the label's own column, which is
        added at its place in the file if it is not there."""
        if self.label in rows:
            return {**rows, self.label: list(labels)}
        pairs = list(rows.items())
        pairs.insert(self.label_at, (self.label, list(labels)))
        return dict(pairs)

    def to_json(self) -> dict:
        label = {"label": self.label, "label_at": self.label_at} if self.label else {}
        return {"columns": [column.to_json() for column in self.columns], **label}

    @classmethod
    def from_json(cls, stored: dict) -> "Columns":
        columns = tuple(map(Column.from_json, stored["columns"]))
        return cls(columns, stored.get("label", ""), stored.get("label_at", 0))
