"""A table on its way from a file to a data set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...core.words import shown


@dataclass(frozen=True)
class Table:
    """Columns of text (dtype object), or of float64 with NaN for missing cells, each (N,).

    name     of the file, as the user gave it
    columns  name -> cells
    lines    number of the line of each row in the file, (N,)
    notes    receives what was decided without asking
    """

    name: str
    columns: dict[str, np.ndarray]
    lines: Sequence[int]
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    def with_columns(self, columns: dict[str, np.ndarray]) -> "Table":
        return replace(self, columns=columns)

    def rows(self, keep: np.ndarray) -> "Table":
        """The rows for which keep (N,) is true."""
        columns = {column: cells[keep] for column, cells in self.columns.items()}
        return replace(self, columns=columns, lines=np.asarray(self.lines)[keep])


def is_text(cells: np.ndarray) -> bool:
    return cells.dtype == object


def to_text(cells: np.ndarray) -> np.ndarray:
    """Cells (N,) as text; numbers without a fraction as whole numbers."""
    if is_text(cells):
        return cells
    return np.array(list(map(_format_number, cells)), object)


def _format_number(value: float) -> str:
    if value == np.rint(value) and abs(value) < 2**53:
        return str(int(value))
    return repr(float(value))


def list_shown(texts: Iterable[str]) -> str:
    return ", ".join(map(shown, texts))
