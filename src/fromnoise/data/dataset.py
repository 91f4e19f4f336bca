"""A data set: disjoint splits of stored examples, and the conversion of examples to batches.

Stored form: images as uint8 levels 0 .. levels-1 (N, C, H, W); vectors as float32 (N, D); text as
one long row of tokens (N,), whose windows are the examples.
Model form: images as float32 in [-1, 1]; vectors as stored; windows of tokens as int64.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from ..core.errors import DataError, UsageError, did_you_mean
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, class_number, labels_in
from .codecs.captions import Captions
from .codecs.columns import Columns
from .codecs.tokenizer import Tokenizer, symbol_dtype

MAX_LISTED_CLASSES = 20
DIGEST_CHUNK = 4096  # rows that are hashed at once


@dataclass(frozen=True)
class Split:
    """Stored examples of one split.

    x        the examples (may be memory-mapped)
    y        labels (N,), tokens of captions (N, L), int64, or None
    levels   number of levels *stored*; above the spec's if x is binarised anew at each draw
    factors  float32 (N, F) or None
    """

    x: np.ndarray
    y: np.ndarray | None = None
    levels: int = 0
    factors: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labels(self) -> np.ndarray | None:
        return labels_in(self.y)


@dataclass(frozen=True)
class TextSplit(Split):
    """x: the tokens (N,) of one contiguous part of a text. The examples are windows of it.

    window      T, tokens of an example
    characters  of this part before tokenisation: bits are divided by this number
    raw_bytes   of its UTF-8 form
    unknown     number of its characters that have no token
    """

    window: int = 1
    characters: int = 0
    raw_bytes: int = 0
    unknown: int = 0

    def __len__(self) -> int:
        """Number of windows that do not overlap."""
        return max(1, len(self.x) // self.window)

    def windows(self, rows: Sequence[int] | slice, rng: Rng | None = None) -> np.ndarray:
        """(B, T) int64: window i begins at token i T.

        rng: shifts each window by 0 .. T-1 tokens, but not beyond the end of the part.
        """
        T = self.window
        starts = T * _row_numbers(rows, len(self))
        if rng is not None:
            room = np.minimum(T, len(self.x) - T - starts + 1)
            shift = rng.uniform("shift", starts.shape).numpy() * room.astype(np.float64)
            starts = starts + shift.astype(np.int64)
        return self.x[starts[:, None] + np.arange(T)].astype(np.int64)


@dataclass(frozen=True)
class Dataset:
    """What ``load`` returns.

    name           as the user gave it
    digest         sha256 of the examples of all splits; recorded in every run
    columns        tables: codec between rows in the user's units and vectors
    log_density    toys: exact log p(x), float64 (N, 2) -> (N,) nats
    modes          toys made of K separate, equal, round Gaussians: centres (K, 2) and std
    channels_of    name of the data whose examples are the channels of each image, if there is one
    factor_names   of Split.factors, for data drawn from known factors
    tokenizer      text: codec between text and tokens
    caption_codec  data with captions: codec between captions and tokens
    settings       the configuration that, with the name, makes this data set again
    class_counts   training examples of each class as recorded in a run; () if the splits are there
    source_file    of the user, if its source is none of the package
    """

    name: str
    spec: DataSpec
    splits: dict[str, Split]
    digest: str
    class_names: tuple[str, ...] = ()
    binarise: str = "none"
    columns: Columns | None = None
    log_density: Callable[[np.ndarray], np.ndarray] | None = None
    modes: tuple[np.ndarray, float] | None = None
    channels_of: str = ""
    factor_names: tuple[str, ...] = ()
    tokenizer: Tokenizer | None = None
    caption_codec: Captions | None = None
    settings: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    source_file: str = ""

    def split(self, name: str) -> Split:
        """Raises UsageError if there is no such split."""
        if name not in self.splits:
            hint = did_you_mean(name, self.splits)
            raise UsageError(
                f"there is no split '{name}': choose from {', '.join(self.splits)}.{hint}"
            )
        return self.splits[name]

    def batch(
        self, split: str, rows: Sequence[int] | slice, rng: Rng | None = None, device="cpu"
    ) -> Batch:
        """The examples ``rows`` of a split in model form.

        rng: draws new binary pixels and shifts windows of text. Without it each row has one fixed
        binary draw, and windows are not shifted.
        """
        part = self.split(split)
        indices = _row_numbers(rows, len(part))
        row_tensor = torch.from_numpy(indices).to(device)
        if isinstance(part, TextSplit):
            windows = torch.from_numpy(part.windows(indices, rng and rng.to("cpu")))
            return Batch(windows.to(device), rows=row_tensor)
        x = torch.from_numpy(np.array(part.x[rows])).to(device)  # a copy: batches may be changed
        y = None if part.y is None else torch.from_numpy(np.array(part.y[rows])).to(device)
        if self.spec.kind == "vector":
            return Batch(x.float(), y, row_tensor)
        if part.levels != self.spec.levels:
            if rng is None:
                rng = self.fixed_binarisation_rng(split).per_row(indices)
            x = rng.to(device).uniform("binarise", x.shape) * (part.levels - 1) < x
            return Batch(x.float() * 2 - 1, y, row_tensor)
        return Batch(x.float() * (2 / (self.spec.levels - 1)) - 1, y, row_tensor)

    def fixed_binarisation_rng(self, split: str) -> Rng:
        return Rng(self.settings.get("split_seed", 0)).at("binarise", split)

    def default_conditions(self, rows: Sequence[int] | range) -> torch.Tensor:
        """y of the samples ``rows`` if none is requested: the learned classes in turn (n,), or the
        example captions in turn (n, L)."""
        if self.caption_codec is not None:
            choices = self.caption_codec.encode(self.caption_codec.examples)
        else:
            choices = torch.tensor(self.learned_classes)
        return choices[torch.as_tensor(list(rows)) % len(choices)]

    @cached_property
    def training_class_counts(self) -> tuple[int, ...]:
        """Training examples of each class; () if there are no classes or the counts are unknown."""
        if "train" not in self.splits:
            return self.class_counts
        labels = self.splits["train"].labels
        if not self.spec.classes or labels is None:
            return ()
        return tuple(np.bincount(labels, minlength=self.spec.classes).tolist())

    @property
    def learned_classes(self) -> tuple[int, ...]:
        """Classes with training examples, ascending; all classes if the counts are unknown."""
        learned = tuple(i for i, count in enumerate(self.training_class_counts) if count)
        return learned or tuple(range(self.spec.classes))

    def require_learned_classes(self, y) -> None:
        """Raises UsageError if a label of y (n,) is of a class without training examples."""
        learned = self.learned_classes
        missing = sorted(set(torch.as_tensor(y).flatten().tolist()) - set(learned))
        if missing:
            names = list(map(self.describe_class, learned[:MAX_LISTED_CLASSES]))
            raise UsageError(
                f"class {self.describe_class(missing[0])} has no training example, so that the "
                f"model never learned it: choose from {', '.join(names)}"
                + " ..."
                * (len(learned) > MAX_LISTED_CLASSES)
            )

    def class_number(self, label: str | int) -> int:
        """The class with this name or number, see ``core.spec.class_number``. Raises UsageError."""
        if not self.spec.classes:
            raise UsageError("this model was trained without labels: leave the label out")
        return class_number(label, self.class_names or list(map(str, range(self.spec.classes))))

    def describe_class(self, y: int) -> str:
        """The number of a class, followed by its name if that differs."""
        name = self.class_names[y] if y < len(self.class_names) else str(y)
        return str(y) if name == str(y) else f"{y} {name}"

    def captions(self, split: str) -> list[str]:
        """The captions of a split. Raises UsageError if there are none."""
        if self.caption_codec is None:
            raise UsageError(f"data '{self.name}' has no captions")
        return self.caption_codec.decode(self.split(split).y)

    def as_delivered(self, x: torch.Tensor) -> torch.Tensor:
        """Model form -> model form of the values that a user receives.

        Rows of a table (B, D) are rounded and clipped, with one category each; other data are
        returned as they are, and so are rows with values that are not finite. Samples are scored,
        compared and ranked in this form only: ``sample.blocks`` and ``Samples.checked`` apply it.
        """
        if self.columns is None:
            return x
        written = torch.from_numpy(self.columns.round_trip(x.detach().cpu().numpy())).to(x)
        return torch.where(torch.isfinite(x).all(1, keepdim=True), written, x)

    def to_store(self, x: torch.Tensor) -> np.ndarray:
        """Model form -> stored form.

        Images are rounded to the nearest level; tokens (B, T) get the smallest integer type.
        """
        x = x.detach().cpu()
        if self.spec.kind == "tokens":
            return x.numpy().astype(symbol_dtype(self.spec.levels))
        if self.spec.kind == "vector":
            return x.float().numpy()
        return _to_levels(x, (self.spec.levels - 1) / 2)

    def to_pixels(self, x: torch.Tensor) -> np.ndarray:
        """Images in model form -> uint8 0 .. 255, (N, H, W) or (N, H, W, 3), not rounded to levels."""
        pixels = _to_levels(x.detach().cpu(), 127.5)
        return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)

    def text(self, split: str) -> str:
        """The text of a split. Unknown characters and bytes that are not UTF-8 become U+FFFD."""
        return self.bytes(split).decode(errors="replace")

    def bytes(self, split: str) -> bytes:
        """The bytes of the text of a split, as in the files except for unknown characters."""
        if self.tokenizer is None:
            raise UsageError(f"data '{self.name}' is not text")
        return self.tokenizer.decode_bytes(self.split(split).x)


def compute_digest(spec: DataSpec, splits: dict[str, Split]) -> str:
    """sha256 over the form and every stored byte."""
    digest = hashlib.sha256(repr(spec).encode())
    for name, split in splits.items():
        for array in (split.x, split.y, split.factors):
            if array is None:
                continue
            digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
            for start in range(0, len(array), DIGEST_CHUNK):
                digest.update(np.ascontiguousarray(array[start : start + DIGEST_CHUNK]))
    return digest.hexdigest()


def check_shapes(dataset: Dataset) -> None:
    """Raises DataError if the examples of a split have another shape than the specification."""
    for name, part in dataset.splits.items():
        shape = tuple(part.x.shape[1:])
        if not isinstance(part, TextSplit) and shape != dataset.spec.shape:
            raise DataError(
                f"examples of {name} have the shape {shape}, and their DataSpec says "
                f"{dataset.spec.shape}: mend the source of the data"
            )


def _row_numbers(rows: Sequence[int] | slice, n: int) -> np.ndarray:
    """Indices (B,) int64 of a slice or list of rows among n."""
    if isinstance(rows, slice):
        return np.arange(*rows.indices(n))
    return np.asarray(rows, np.int64)


def _to_levels(x: torch.Tensor, half_top: float) -> np.ndarray:
    """Images in [-1, 1] -> uint8 levels 0 .. 2 half_top."""
    return ((x.float().clamp(-1, 1) + 1) * half_top).round().to(torch.uint8).numpy()
