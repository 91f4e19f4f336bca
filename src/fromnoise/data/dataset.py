"""A data set: fixed, seeded, disjoint splits of stored examples, and the one place that turns them into batches.

Stored form: images as uint8 levels 0 .. levels-1 (N, C, H, W); vectors as float32 (N, D); text as one long row of
tokens (N,), whose windows are the examples.
Model form: images as float32 in [-1, 1]; vectors as stored; windows of tokens as int64.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from ..core.config import BaseConfig
from ..core.errors import DataError, UsageError, did_you_mean
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, class_number, labels_in
from .codecs.captions import Captions
from .codecs.tokenizer import Tokenizer, symbol_dtype

SPLITS = ("train", "validation", "test")
SHARE = 0.1  # of the examples that are held out for validation, and again for the test
FEWEST = 10  # examples: below this no three useful, disjoint splits exist


_NUMBER = r"-?\d+(\.\d+)?(e[-+]?\d+)?"


class DataConfig(BaseConfig):
    """How a source becomes a data set. Options that a source has no use for are refused by it."""

    resolution: int | None = Field(
        None, ge=4, le=1024, description="side in pixels that images are brought to"
    )
    crop: Literal["centre", "stretch", "pad"] = Field(
        "centre",
        description="images that are not square: cut the centre, stretch, or pad with the edge's mean",
    )
    grey: bool = Field(False, description="images: turn colour into grey")
    binarise: Literal["none", "dynamic", "static"] = Field(
        "none",
        description="images: black or white by chance, anew at each step (dynamic) or once (static)",
    )
    label: str | None = Field(
        None,
        description="tables: the column that holds the class; NA in it is a class, only empty cells are missing",
    )
    learn_label: bool | None = Field(
        None,
        description="tables: learn the label as one more column [yes, unless the model is conditional and is told it]",
    )
    drop: tuple[str, ...] = Field((), description="tables: columns to leave out")
    categorical: tuple[str, ...] = Field(
        (),
        description="tables: columns whose cells are all categories, numbers and NA too; only empty cells in them are missing",
    )
    missing: Literal["refuse", "drop"] = Field(
        "refuse",
        description="tables: what to do with rows that have gaps: empty cells, or NA, NaN or null in columns not named by --label and --categorical",
    )
    background: str = Field(
        "white",
        pattern=r"^(white|black|#[0-9a-fA-F]{6})$",
        description="folders: what lies behind transparent pictures: white, black or #rrggbb",
    )
    range: str = Field(
        "full",
        pattern=rf"^(full|data|{_NUMBER}:{_NUMBER})$",
        description="folders: values of the files that become black and white: those of their type (full), the lowest and highest that occur (data), or LOW:HIGH",
    )
    skip_bad: bool = Field(
        False, description="folders: leave out files that cannot be read, and list them"
    )
    max_pixels: int = Field(
        64_000_000, ge=1, description="folders: refuse pictures with more pixels than this"
    )
    split_seed: int = Field(
        0, ge=0, lt=2**63, description="seed of the splits and of fixed binarisations"
    )
    validation: float | None = Field(
        None, gt=0, lt=0.5, description="share of examples held out for validation [0.1; text 0.05]"
    )
    test: float | None = Field(
        None, gt=0, lt=0.5, description="share of examples held out for the test [0.1; text 0.05]"
    )
    tokens: Literal["auto", "char", "byte", "bpe"] = Field(
        "auto",
        description="text: characters, bytes, or frequent runs of bytes; auto: characters where they are few, else bytes",
    )
    vocabulary: int = Field(
        512, ge=257, le=65_536, description="text: number of symbols of --tokens bpe"
    )
    context: int = Field(128, ge=2, le=1_048_576, description="text: tokens of one example")


@dataclass(frozen=True)
class Split:
    """x: stored examples (may be memory-mapped); factors: float32 (N, F) or None.

    y: labels (N,), words of captions (N, L), int64, or None.

    levels: number of levels *stored*; above the spec's when x is binarised anew at each draw.
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
    """x: the tokens (N,) of one contiguous part of a text, the smallest unsigned type or int32. Examples are windows of it.

    window      T, tokens of an example
    characters  of the part, and raw_bytes of its UTF-8 form, before it became tokens: what bits are divided by
    unknown     how many of its characters the tokens cannot tell
    """

    window: int = 1
    characters: int = 0
    raw_bytes: int = 0
    unknown: int = 0

    def __len__(self) -> int:
        """Windows that do not overlap."""
        return max(1, len(self.x) // self.window)

    def windows(self, rows: Sequence[int] | slice, rng: Rng | None = None) -> np.ndarray:
        """(B, T) int64: window i begins at token i T; with rng it is moved on by 0 .. T-1, as far as the part goes."""
        T = self.window
        starts = T * (
            np.arange(*rows.indices(len(self)))
            if isinstance(rows, slice)
            else np.asarray(rows, np.int64)
        )
        if rng is not None:
            room = np.minimum(T, len(self.x) - T - starts + 1)
            starts = starts + (
                rng.uniform("shift", starts.shape).numpy() * room.astype(np.float64)
            ).astype(np.int64)
        return self.x[starts[:, None] + np.arange(T)].astype(np.int64)


@dataclass(frozen=True)
class Dataset:
    """What ``load`` returns.

    name          how the user named it
    digest        sha256 of the examples of all splits; recorded in every run
    columns       tables: undoes standardisation and one-hot coding
    log_density   toys: exact log p(x), float64 (N, 2) -> (N,) nats
    modes         toys made of K separate, equal, round Gaussians: their centres (K, D) and their std
    channels_of   the name of the data whose examples are the channels of each image; its classes number those of this one
    factor_names  of Split.factors, for data drawn from known factors
    tokenizer     text: what its tokens stand for
    words         captions: what theirs stand for
    settings      the configuration that, with the name, makes this data set again
    class_counts  training examples of each class, recorded in a run; () where the splits tell it, or nothing does
    """

    name: str
    spec: DataSpec
    splits: dict[str, Split]
    digest: str
    class_names: tuple[str, ...] = ()
    binarise: str = "none"
    columns: "object | None" = None
    log_density: Callable[[np.ndarray], np.ndarray] | None = None
    modes: tuple[np.ndarray, float] | None = None
    channels_of: str = ""
    factor_names: tuple[str, ...] = ()
    tokenizer: Tokenizer | None = None
    caption_codec: Captions | None = None
    settings: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()

    def split(self, name: str) -> Split:
        if name not in self.splits:
            raise UsageError(
                f"there is no split '{name}': choose from {', '.join(self.splits)}.{did_you_mean(name, self.splits)}"
            )
        return self.splits[name]

    def batch(
        self, split: str, rows: Sequence[int] | slice, rng: Rng | None = None, device="cpu"
    ) -> Batch:
        """The examples ``rows`` of a split in model form.

        rng: where binarisation anew gets its numbers from, without it each row has one fixed draw; and by how much
        windows of text are shifted, without it they are not.
        """
        part = self.split(split)
        indices = (
            np.arange(*rows.indices(len(part)))
            if isinstance(rows, slice)
            else np.asarray(rows, np.int64)
        )
        places = torch.from_numpy(indices).to(device)
        if isinstance(part, TextSplit):
            return Batch(
                torch.from_numpy(part.windows(indices, rng and rng.to("cpu"))).to(device),
                rows=places,
            )
        stored = np.array(part.x[rows])  # a copy: the data set itself is never handed out
        y = None if part.y is None else torch.from_numpy(np.array(part.y[rows])).to(device)
        x = torch.from_numpy(stored).to(device)
        if self.spec.kind == "vector":
            return Batch(x.float(), y, places)
        if part.levels != self.spec.levels:
            if rng is None:
                rng = self.fixed_binarisation_rng(split).per_row(indices)
            x = rng.to(device).uniform("binarise", x.shape) * (part.levels - 1) < x
            return Batch(x.float() * 2 - 1, y, places)
        return Batch(x.float() * (2 / (self.spec.levels - 1)) - 1, y, places)

    def default_conditions(self, rows: Sequence[int] | range) -> torch.Tensor:
        """y of the samples ``rows`` where nobody asks for one: the classes in turn (n,), or the captions of ``words`` (n, L)."""
        if self.caption_codec is not None:
            examples = self.caption_codec.encode(self.caption_codec.examples)
            return examples[torch.as_tensor(list(rows)) % len(examples)]
        learned = torch.tensor(self.learned_classes)
        return learned[torch.as_tensor(list(rows)) % len(learned)]

    @cached_property
    def training_class_counts(self) -> tuple[int, ...]:
        """Training examples of each class; () where there are no classes, or neither the splits nor a record tell it."""
        if "train" not in self.splits:
            return self.class_counts
        labels = self.splits["train"].labels
        if not self.spec.classes or labels is None:
            return ()
        return tuple(np.bincount(labels, minlength=self.spec.classes).tolist())

    @property
    def learned_classes(self) -> tuple[int, ...]:
        """The classes that have training examples, ascending; all classes where that is not known."""
        learned = tuple(i for i, count in enumerate(self.training_class_counts) if count)
        return learned or tuple(range(self.spec.classes))

    def require_learned_classes(self, y) -> None:
        """Raises UsageError where a label of y (n,) is of a class without training examples: no model can draw it."""
        learned = self.learned_classes
        missing = sorted(set(torch.as_tensor(y).flatten().tolist()) - set(learned))
        if missing:
            named = [self.describe_class(i) for i in learned[:20]]
            raise UsageError(
                f"class {self.describe_class(missing[0])} has no training example, so that the model never learned it: "
                f"choose from {', '.join(named)}{' ...' * (len(learned) > 20)}"
            )

    def class_number(self, label: str | int) -> int:
        """The class that is given by its name or number, see ``core.spec.class_number``. Raises UsageError."""
        if not self.spec.classes:
            raise UsageError("this model was trained without labels: leave the label out")
        return class_number(label, self.class_names or [str(i) for i in range(self.spec.classes)])

    def describe_class(self, y: int) -> str:
        """The number of a class, and its name where it has another one."""
        name = self.class_names[y] if y < len(self.class_names) else str(y)
        return str(y) if name == str(y) else f"{y} {name}"

    def captions(self, split: str) -> list[str]:
        """The captions of a split. Raises UsageError where there are none."""
        if self.caption_codec is None:
            raise UsageError(f"data '{self.name}' has no captions")
        return self.caption_codec.decode(self.split(split).y)

    def fixed_binarisation_rng(self, split: str) -> Rng:
        return Rng(self.settings.get("split_seed", 0)).at("binarise", split)

    def as_delivered(self, x: torch.Tensor) -> torch.Tensor:
        """Model form -> model form of what a user receives: rows of a table (B, D) rounded, clipped, one category each.

        Whatever scores, compares or ranks samples must see them so: ``sample.blocks`` and ``Samples.checked`` see to it.
        Numbers that are not finite stay so. Data without columns are returned as they are.
        """
        if self.columns is None:
            return x
        written = torch.from_numpy(self.columns.round_trip(x.detach().cpu().numpy())).to(x)
        return torch.where(torch.isfinite(x).all(1, keepdim=True), written, x)

    def to_store(self, x: torch.Tensor) -> np.ndarray:
        """Model form -> stored form: images rounded to the nearest level; tokens (B, T) as the smallest whole numbers."""
        x = x.detach().cpu()
        if self.spec.kind == "tokens":
            return x.numpy().astype(symbol_dtype(self.spec.levels))
        if self.spec.kind == "vector":
            return x.float().numpy()
        top = self.spec.levels - 1
        return ((x.float().clamp(-1, 1) + 1) * (top / 2)).round().to(torch.uint8).numpy()

    def to_pixels(self, x: torch.Tensor) -> np.ndarray:
        """Model form of images -> uint8 0 .. 255 (N, H, W) or (N, H, W, 3), means between levels kept."""
        pixels = (
            ((x.detach().cpu().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
        )
        return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)

    def text(self, split: str) -> str:
        """The text of a split as its tokens tell it: unknown characters, and bytes that are no UTF-8, as U+FFFD."""
        return self.bytes(split).decode(errors="replace")

    def bytes(self, split: str) -> bytes:
        """The bytes of that text: those of the files, unknown characters aside."""
        if self.tokenizer is None:
            raise UsageError(f"data '{self.name}' is no text")
        return self.tokenizer.decode_bytes(self.split(split).x)


def split_rows(
    n: int,
    config: DataConfig,
    y: np.ndarray | None = None,
    notes: list[str] | None = None,
    class_names: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Disjoint row numbers of the three splits; they depend on n, the shares and the seed, and on labels only as far as needed.

    In shuffled order: files are often sorted by class, and the first n of a split should stand for all of it.
    y: labels (n,): a class that would have no training example gets one, in exchange with a class that has several.
    notes: takes a line about each of these. Raises DataError, UsageError.
    """
    if n < FEWEST:
        raise DataError(
            f"{n} example{'s' * (n != 1)} cannot be split for training, validation and test: give at least {FEWEST}"
        )
    order = Rng(config.split_seed).at("split").numpy("order").permutation(n)
    n_test = max(1, round(n * (config.test or SHARE)))
    n_validation = max(1, round(n * (config.validation or SHARE)))
    if n_test + n_validation >= n:
        raise UsageError(
            f"--validation and --test leave none of the {n} examples for training: choose smaller shares"
        )
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    rows = {"train": train, "validation": validation, "test": test}
    if y is not None:
        _give_every_class_an_example(rows, y)
        note_unlearned({part: y[at] for part, at in rows.items()}, class_names, notes)
    return rows


def _give_every_class_an_example(rows: dict[str, np.ndarray], y: np.ndarray) -> None:
    """Exchanges rows, in place, until every class of y (n,) has a training row, as far as there are enough of them."""
    train, counts = rows["train"], np.bincount(y[rows["train"]], minlength=int(y.max()) + 1)
    for missing in np.flatnonzero((np.bincount(y) > 0) & (counts == 0)):
        largest = counts.argmax()
        if counts[largest] < 2:
            return
        held_out = next(
            at for part, at in rows.items() if part != "train" and (y[at] == missing).any()
        )
        here, there = np.flatnonzero(y[train] == largest)[-1], (y[held_out] == missing).argmax()
        train[here], held_out[there] = held_out[there], train[here]
        counts[[largest, missing]] += (-1, 1)


def note_unlearned(
    labels: dict[str, np.ndarray], class_names: Sequence[str], notes: list[str] | None
) -> None:
    """A line in notes about the classes without a training example, and one about those without a held-out one."""
    if notes is None:
        return
    counts = {part: np.bincount(y, minlength=len(class_names)) for part, y in labels.items()}
    held_out = counts["validation"] + counts["test"]

    def listed(classes) -> str:
        named = [f"'{class_names[i]}' ({counts['train'][i] + held_out[i]})" for i in classes[:5]]
        return ", ".join(named) + " ..." * (len(classes) > 5)

    if len(unlearned := np.flatnonzero((counts["train"] == 0) & (held_out > 0))):
        notes.append(
            f"classes without a training example, which no model learns: {listed(unlearned)}"
        )
    if len(unmeasured := np.flatnonzero((counts["train"] > 0) & (held_out == 0))):
        notes.append(
            f"classes whose examples are all training examples, so that no validation or test example measures them: {listed(unmeasured)}"
        )


def digest_of(spec: DataSpec, splits: dict[str, Split]) -> str:
    """sha256 over the form and every stored byte."""
    h = hashlib.sha256(repr(spec).encode())
    for name, part in splits.items():
        for array in (part.x, part.y, part.factors):
            if array is not None:
                h.update(f"{name}{array.dtype.str}{array.shape}".encode())
                for start in range(0, len(array), 4096):
                    h.update(np.ascontiguousarray(array[start : start + 4096]))
    return h.hexdigest()


def binarised(
    dataset_spec: DataSpec, splits: dict[str, Split], config: DataConfig
) -> tuple[DataSpec, dict[str, Split]]:
    """Applies ``config.binarise``: fixed draws are made here, draws anew are left to ``Dataset.batch``.

    Pixel value v of L levels becomes white with probability v / (L - 1).
    """
    if config.binarise == "none":
        return dataset_spec, splits
    spec = DataSpec("image", dataset_spec.shape, levels=2, classes=dataset_spec.classes)
    done = {}
    for name, part in splits.items():
        if config.binarise == "dynamic" and name == "train":
            done[name] = part
            continue
        rng = Rng(config.split_seed).at("binarise", name)
        x = np.empty(part.x.shape, np.uint8)
        for start in range(0, len(x), 1024):
            rows = range(start, min(start + 1024, len(x)))
            uniform = rng.per_row(rows).uniform("binarise", (len(rows), *x.shape[1:])).numpy()
            x[start : start + 1024] = uniform * (part.levels - 1) < part.x[start : start + 1024]
        done[name] = Split(x, part.y, 2, part.factors)
    return spec, done


def image_dataset(
    name: str, images: dict[str, Split], classes: int, config: DataConfig, **more
) -> Dataset:
    """Finishes a data set of images stored as levels (N, C, H, W): binarisation, digest, settings."""
    first = next(iter(images.values()))
    spec = DataSpec("image", first.x.shape[1:], levels=first.levels, classes=classes)
    digest = more.pop("digest", None)
    spec, splits = binarised(spec, images, config)
    return Dataset(
        name,
        spec,
        splits,
        digest or digest_of(spec, splits),
        binarise=config.binarise,
        settings=config.model_dump(exclude_defaults=True),
        **more,
    )


def refuse(config: DataConfig, source: str, *allowed: str) -> None:
    """Raises UsageError when an option was given that this source has no use for."""
    for name in sorted(config.model_fields_set - {"split_seed"} - set(allowed)):
        if getattr(config, name) != DataConfig.model_fields[name].default:
            raise UsageError(
                f"--{name.replace('_', '-')} has no meaning for {source}: leave it out"
            )
