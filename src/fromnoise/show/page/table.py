"""A table of the page, as templates/table.html shows it."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Cell:
    """kind: its CSS classes; small: a line below the text; note: the number of its footnote."""

    text: object = ""
    kind: str = ""
    small: str = ""
    note: int | None = None


@dataclass
class Row:
    """A named row, or the heading of those below it."""

    name: Cell
    cells: list[Cell] = field(default_factory=list)
    is_heading: bool = False


def cells_of(values: Iterable[object]) -> list[Cell]:
    return list(map(Cell, values))


@dataclass
class PageTable:
    """label: for readers who cannot see it; notes, footnotes: below it."""

    label: str
    head: list[Cell]
    rows: list[Row]
    intro: str = ""
    notes: list[str] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
