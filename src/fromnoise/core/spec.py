"""The form of the data, and the batches that a family receives.

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
ImageShape = tuple[int, int, int]  # C, H, W
Labels = torch.Tensor | None  # classes (B,) or words of captions (B, L); None: p(x) is modelled
Condition = torch.Tensor | None  # ``Labels`` as networks take them: classes one-hot (B, K)


@dataclass(frozen=True)
class DataSpec:
    """The form of one example.

    kind     "image" (C, H, W), "tokens" (T,) or "vector" (D,)
    levels   number of values that a component can take: 256 for 8-bit images, 2 for binary ones, the size
             of the vocabulary for tokens; 0 for continuous data
    classes  number of labels; 0 when there are none
    blocks   vectors only: sizes of consecutive groups of columns. 1 is a number, k > 1 is a category
             one-hot over k columns. Empty means all numbers.
    caption  (L, V): y is a caption of at most L words from a vocabulary of V words (0 is padding, 1 is
             an unknown word), and there are no classes; () if y is a label or None. Not in the repr,
             which digests of data depend on.
    separate tokens only: each example is a sequence of its own, not a window of a text. Not in the repr.
    cells    vectors only: (width, lowest, highest) of each component, in the units of x. Width 0 is a
             continuous number. Otherwise the component lies on a grid with step width, clipped to
             lowest .. highest: each value stands for a cell of that width, and the two end cells are
             open. Empty means all continuous. Not in the repr and not compared: runs from before cells
             were recorded have none.
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
        for name in ("shape", "blocks", "caption"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
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
        """True if a component of a vector is a value on a grid."""
        return any(width > 0 for width, _, _ in self.cells)

    @property
    def densities(self) -> int:
        """Number of components whose likelihood is a density: not cells, levels or categories."""
        if self.kind != "vector" or self.levels:
            return 0
        categories = sum(size for size in self.blocks if size > 1)
        return self.dims - categories - sum(width > 0 for width, _, _ in self.cells)

    @property
    def has_categories(self) -> bool:
        """True if several columns of a vector are one category."""
        return any(size > 1 for size in self.blocks)

    def to_json(self) -> dict:
        lists = {name: list(getattr(self, name)) for name in ("shape", "blocks", "caption")}
        return asdict(self) | lists | {"cells": list(map(list, self.cells))}


@dataclass(frozen=True)
class Batch:
    """x: (B, *shape), float in [-1, 1] for images, float for vectors, int64 for tokens.

    y: labels (B,) or captions as word numbers (B, L), int64; or None.
    rows: (B,) int64, the positions of the examples in their split, or None. (A window of text that is
    shifted for training extends into the next example.)
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
    """y if it holds labels; None if it holds captions or is None."""
    return None if y is None or y.ndim > 1 else y


def require_labels(spec: DataSpec, option: str = "--conditional") -> None:
    """Raises UsageError if there are no labels, for a family that does not read captions."""
    if spec.caption:
        raise UsageError(
            f"{option} needs labels, and this data has captions, which this family does not read: "
            f"leave {option} out, or train diffusion"
        )
    if not spec.classes:
        raise UsageError(f"{option} needs labels, and this data has none")


def class_number(label: str | int, names: Sequence[str]) -> int:
    """The number of a class, from its name or its number from 0 on. Raises UsageError.

    A name takes precedence. If names are numbers (grades 1, 2, 3), a number is only a name: as a
    position it would select another class than the intended one.
    """
    label = str(label)
    names = list(names)
    if label in names:
        return names.index(label)
    has_numeric_names = any(isfinite(as_float(name)) for name in names)
    if not has_numeric_names and label in map(str, range(len(names))):
        return int(label)
    known = [
        escaped(name) if has_numeric_names or name == str(i) else f"{i} {escaped(name)}"
        for i, name in enumerate(names[:20])
    ]
    more = " ..." if len(names) > 20 else ""
    raise UsageError(
        f"there is no class {shown(label)}.{did_you_mean(label, names)} "
        f"Known: {', '.join(known)}{more}"
    )


def as_float(text: str) -> float:
    """The number in a text, with a point or a comma, or NaN."""
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
