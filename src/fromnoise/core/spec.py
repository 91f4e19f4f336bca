"""What a family must know of its data, and the batches that it is given.

Shapes: B batch, C channels, H height, W width, T tokens, D dimensions.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite, nan, prod
from typing import Literal

import torch

from .errors import UsageError, did_you_mean
from .words import escaped, shown

Kind = Literal["image", "tokens", "vector"]


@dataclass(frozen=True)
class DataSpec:
    """The form of one example.

    kind     "image" (C, H, W), "tokens" (T,) or "vector" (D,)
    levels   number of values that a component can take: 256 for 8-bit images, 2 for binary ones, the size
             of the vocabulary for tokens; 0 for continuous data
    classes  number of labels; 0 when there are none
    blocks   vectors only: sizes of consecutive groups of columns. 1 is a number, k > 1 is a category
             one-hot over k columns. Empty means all numbers.
    caption  (L, V): y is a caption of at most L words of a vocabulary of V, padding 0 and unknown 1 among them, and there
             are no classes; () where y is a label or nothing. Not in the repr, of which digests of data are made.
    separate tokens only: each example is a whole sequence of its own, not a window of a running text. Not in the repr either.
    cells    vectors only: (width, lowest, highest) of each component, in the units of x. Width 0 is a continuous number.
             Above 0 the component lies on a grid with that step, and its values are written clipped to lowest .. highest:
             each value stands for a cell of that width, the two end cells are open. Empty means all continuous. Not in
             the repr, and not compared: runs from before cells were recorded have none.
    """

    kind: Kind
    shape: tuple[int, ...]
    levels: int = 0
    classes: int = 0
    blocks: tuple[int, ...] = ()
    caption: tuple[int, int] | tuple[()] = field(default=(), repr=False)
    separate: bool = field(default=False, repr=False)
    cells: tuple[tuple[float, float, float], ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "blocks", tuple(self.blocks))
        object.__setattr__(self, "caption", tuple(self.caption))
        object.__setattr__(self, "cells", tuple(tuple(map(float, cell)) for cell in self.cells))
        assert not (self.classes and self.caption), self
        assert len(self.shape) == (3 if self.kind == "image" else 1), self
        assert not self.blocks or sum(self.blocks) == self.shape[0], self
        assert not self.cells or (self.kind == "vector" and len(self.cells) == self.shape[0]), self

    @property
    def dims(self) -> int:
        """Number of components of one example: C*H*W, T or D."""
        return prod(self.shape)

    @property
    def has_cells(self) -> bool:
        """Is any component of a vector a value on a grid?"""
        return any(width > 0 for width, _, _ in self.cells)

    @property
    def densities(self) -> int:
        """Number of components whose likelihood is a density: continuous numbers, not cells, levels or categories."""
        if self.kind != "vector" or self.levels:
            return 0
        categories = sum(size for size in self.blocks if size > 1)
        return self.dims - categories - sum(width > 0 for width, _, _ in self.cells)

    def to_json(self) -> dict:
        lists = {name: list(getattr(self, name)) for name in ("shape", "blocks", "caption")}
        return asdict(self) | lists | {"cells": [list(cell) for cell in self.cells]}


@dataclass(frozen=True)
class Batch:
    """x: (B, *shape), float in [-1, 1] for images, float for vectors, int64 for tokens.

    y: labels (B,), words of captions (B, L), int64, or None.
    rows: (B,) int64, which examples of their split these are, where that is known. A window of text that was moved on for
    training reaches into the next one.
    """

    x: torch.Tensor
    y: torch.Tensor | None = None
    rows: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labels(self) -> torch.Tensor | None:
        return labels_in(self.y)


def labels_in(y):
    """y where it holds labels, None where it holds captions or is None."""
    return None if y is None or y.ndim > 1 else y


def require_labels(spec: DataSpec, option: str = "--conditional") -> None:
    """Raises UsageError where there are no labels for a family that reads no captions."""
    if spec.caption:
        raise UsageError(
            f"{option} needs labels, and this data has captions, which this family does not read: leave {option} out, or train diffusion"
        )
    if not spec.classes:
        raise UsageError(f"{option} needs labels, and this data has none")


def class_number(label: str | int, names: Sequence[str]) -> int:
    """The class that is given by its name, or by its number from 0 on. Raises UsageError, which offers the names.

    A name comes first. Where names are numbers themselves (grades 1, 2, 3), a number is a name and nothing else: as a
    position it would give another class than the one that was meant.
    """
    label, names = str(label), list(names)
    if label in names:
        return names.index(label)
    numeric = any(isfinite(as_float(name)) for name in names)
    if not numeric and label in map(str, range(len(names))):
        return int(label)
    known = ", ".join(
        escaped(name) if numeric or name == str(i) else f"{i} {escaped(name)}"
        for i, name in enumerate(names[:20])
    )
    raise UsageError(
        f"there is no class {shown(label)}.{did_you_mean(label, names)} Known: {known}{' ...' * (len(names) > 20)}"
    )


def as_float(text: str) -> float:
    """The number that a text is, or NaN."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return nan


def check_labels(y, n: int, classes: int) -> None:
    """Raises UsageError unless y holds n labels in 0 .. classes-1."""
    if not classes:
        raise UsageError("this model was trained without labels: leave the label out")
    if len(y) != n or int(min(y)) < 0 or int(max(y)) >= classes:
        raise UsageError(f"labels must be {n} whole numbers from 0 to {classes - 1}")
