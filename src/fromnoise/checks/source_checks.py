"""Checks of a data source: its options, its splits, its values, its digest, a training on it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from .. import data, families
from ..core.config import BaseConfig, build, flag
from ..core.errors import UsageError
from ..data.dataset import Dataset, TextSplit
from ..data.source import ANY_FILE, Source
from ..inference.sample import sample
from ..runs.load import load_run
from ..training.launch import start_run
from ..training.plan import make_plan
from ..training.settings import TrainConfig
from .suite import SMALL

COMMAND_OPTIONS = ("data", "within", "preset", "out", "dry_run", "json", "quiet")  # of `train`
ROWS = 20_000  # of a split that are compared with those of others
EXCESS = 0.05  # share of held-out examples in training data beyond that of repeated examples
FAMILIES = {"image": "vae", "vector": "vae", "tokens": "autoregressive"}


class SourceSuite:
    """A source under test, with the names or paths of the data that the checks load."""

    def __init__(self, source: Source, folder: Path, example: str | None):
        self.source = source
        self.folder = folder
        self.example = example

    @cached_property
    def names(self) -> list[str]:
        """Raises UsageError if the source reads files only, and there is no example."""
        names = list(self.source.names)
        if self.example is not None:
            names.append(self.example)
        elif self.source.write_example is not None:
            names.append(str(self.source.write_example(self.folder)))
        if not names:
            raise UsageError(
                "this source reads files: give an example with --data PATH, or define write_example"
            )
        return names

    @cached_property
    def datasets(self) -> list[Dataset]:
        return list(map(data.load, self.names))


@contextmanager
def source_suite(source: Source, example: str | None) -> Iterator[SourceSuite]:
    """A suite whose folder for the example is removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        yield SourceSuite(source, Path(folder), example)


def check_declaration(suite: SourceSuite) -> None:
    """names have one line of help, suffixes a dot; something can be loaded"""
    source = suite.source
    for name, line in source.names.items():
        assert name and line and "\n" not in line, f"{name!r} needs one line of help"
        assert "/" not in name and not name.startswith("-"), f"{name!r} cannot be a name of data"
    for suffix in source.suffixes:
        good = suffix == ANY_FILE or (suffix.startswith(".") and suffix == suffix.lower())
        assert good, f"the suffix {suffix!r} must be lower case and begin with a dot"
    assert suite.names


def check_options(suite: SourceSuite) -> None:
    """every option has a description, and a name that no training and no family uses"""
    models: list[type[BaseConfig]] = [TrainConfig]
    models += [families.load(name).Config for name in families.names()]
    used = {name for model in models for name in model.model_fields} | set(COMMAND_OPTIONS)
    for name, field in suite.source.Options.model_fields.items():
        assert field.description, f"{flag(name)} needs a description: Field(..., description=...)"
        assert not field.is_required(), f"{flag(name)} needs a default"
        assert name not in used, f"{flag(name)} is an option of the training or of a family already"


def check_values(suite: SourceSuite) -> None:
    """the splits have examples, and their values and labels fit the spec"""
    for dataset in suite.datasets:
        missing = {"train", "validation", "test"} - set(dataset.splits)
        assert not missing, f"{dataset.name} has no split {', '.join(sorted(missing))}"
        for part, split in dataset.splits.items():
            assert len(split), f"the split {part} is empty"
            for start in range(0, min(len(split), ROWS), 1000):
                rows = slice(start, min(start + 1000, len(split)))
                batch = dataset.batch(part, rows)
                check_batch(dataset, part, batch.x, batch.y)


def check_batch(dataset: Dataset, part: str, x: torch.Tensor, y: torch.Tensor | None) -> None:
    """Values (B, *shape) and labels (B,) of a part."""
    spec = dataset.spec
    shape = tuple(x.shape[1:])
    assert shape == spec.shape, f"examples of {part} have shape {shape}, the spec {spec.shape}"
    assert torch.isfinite(x).all(), f"{part} has values that are not finite"
    if spec.kind == "image":
        assert spec.levels > 1, "images need levels, such as 256"
        assert x.min() >= -1 and x.max() <= 1, f"{part} has pixels above level {spec.levels - 1}"
    if spec.kind == "tokens":
        assert 0 <= x.min() and x.max() < spec.levels, f"{part} has tokens beyond {spec.levels}"
    if spec.classes:
        assert len(dataset.class_names) == spec.classes, "class_names and spec.classes differ"
        assert y is not None and y.dtype == torch.int64, f"labels of {part} must be int64 (N,)"
        assert 0 <= y.min() and y.max() < spec.classes, f"{part} has labels beyond {spec.classes}"


def check_splits(suite: SourceSuite) -> None:
    """no example stands in two splits, beyond examples that the data repeat"""
    for dataset in suite.datasets:
        train = row_bytes(dataset, "train")
        known = set(train)
        repeated = 1 - len(known) / len(train)
        for part in dataset.splits:
            if part == "train":
                continue
            rows = row_bytes(dataset, part)
            share = float(np.mean([row in known for row in rows]))
            assert share <= repeated + EXCESS, (
                f"{share:.0%} of the examples of {part} are training examples, too: draw the splits "
                "with fromnoise.data.splits.split_rows"
            )


def row_bytes(dataset: Dataset, part: str) -> list[bytes]:
    """The first examples of a split, in stored form."""
    split = dataset.split(part)
    rows = range(min(len(split), ROWS))
    if isinstance(split, TextSplit):
        return [window.tobytes() for window in split.windows(rows)]
    return [np.ascontiguousarray(split.x[row]).tobytes() for row in rows]


def check_digest(suite: SourceSuite) -> None:
    """the same options give the same data, and another split seed gives other splits"""
    model = data.data_config()
    for name, dataset in zip(suite.names, suite.datasets):
        again = data.load(name, build(model, dataset.settings))
        assert again.digest == dataset.digest, f"{name} has another digest when it is loaded again"
        if "split_seed" in suite.source.Options.model_fields:
            other = data.load(name, build(model, {"split_seed": 1}))
            assert other.digest != dataset.digest, (
                "--split-seed changes nothing: use it, or leave it out of Options"
            )


def check_training(suite: SourceSuite) -> None:
    """a small model trains on the data, opens again, and draws samples"""
    for name, dataset in zip(suite.names, suite.datasets):
        plan = make_plan(FAMILIES[dataset.spec.kind], name, **SMALL)
        run = start_run(plan, suite.folder / f"run-{suite.names.index(name)}")
        samples = sample(load_run(run), 3, seed=0)
        assert samples.shape == (3, *dataset.spec.shape), tuple(samples.shape)


SOURCE_CHECKS = (
    check_declaration,
    check_options,
    check_values,
    check_splits,
    check_digest,
    check_training,
)
