"""Sets of samples with known defects, which show the metrics that detect each defect.

Each comes from the data, split anew (``halve``): ``train`` is what a model may
have learned from, ``validation`` plays the perfect model (``real``, the control) and ``test`` is
held out from both.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..core.rng import Rng
from ..data.dataset import Dataset, Split
from ..data.stream import in_order
from ..measures.features import FeatureMap
from ..probability.pca import principal_components
from .cells import heading
from .protocol import MetricColumn, badness, has_value, overlap
from .quality import measure_quality
from .quality_reference import QualityReference
from .samples import Samples

MOST = 5000  # examples in each half
CORRUPTED = 0.05  # share of the components that the noise replaces


def real(dataset: Dataset, n: int, rng: Rng) -> Tensor:
    """Held-out examples, in turn."""
    return _repeated(_some(dataset, n, "validation"), n)


def copies(dataset: Dataset, n: int, rng: Rng) -> Tensor:
    """Training examples: perfect to look at, and nothing new."""
    return _repeated(_some(dataset, n), n)


def mean_example(dataset: Dataset, n: int, rng: Rng) -> Tensor:
    """The mean of the training set, n times: what a squared error alone asks for."""
    return _some(dataset, MOST).mean(0, keepdim=True).expand(n, *dataset.spec.shape).clone()


def one_example(dataset: Dataset, n: int, rng: Rng) -> Tensor:
    """One training example, n times: complete collapse."""
    return _some(dataset, 1).expand(n, *dataset.spec.shape).clone()


def part_dropped(dataset: Dataset, n: int, rng: Rng) -> Tensor:
    """Real examples of all classes but the first; without classes, all but the brightest (largest)
    quarter. Fewer than n.
    """
    split = dataset.split("validation")
    if dataset.spec.classes > 1:
        rows = (split.y != 0).nonzero()[0]
    else:
        everything = torch.cat(
            [batch.x.flatten(1).mean(1) for batch in in_order(dataset, "validation")]
        )
        rows = everything.argsort()[: max(1, 3 * len(everything) // 4)].sort().values.numpy()
    rows = rows[:n].tolist()
    return torch.cat(
        [dataset.batch("validation", rows[i : i + 500]).x for i in range(0, len(rows), 500)]
    )


def noisy(dataset: Dataset, n: int, rng: Rng) -> Tensor:
    """Held-out examples with 5 % of their components replaced: pixels by random levels, columns by
    wide Gaussian noise.
    """
    x = real(dataset, n, rng)
    hit = rng.uniform("where", x.shape) < CORRUPTED
    if dataset.spec.kind == "image":
        levels = dataset.spec.levels
        other = rng.integers("level", levels, x.shape).float() * (2 / (levels - 1)) - 1
    else:
        other = x.mean(0) + 3 * x.std(0, correction=0) * rng.normal("value", x.shape)
    return torch.where(hit, other, x)


def fitted_gaussian(dataset: Dataset, n: int, rng: Rng) -> Tensor:
    """A Gaussian with the mean and the covariance of the training set: right to second order, wrong
    to look at.
    """
    some = _some(dataset, MOST)
    components = principal_components(
        lambda: some.split(1000),
        dataset.spec.dims,
        min(dataset.spec.dims, 512, len(some) - 1),
    )
    scale = components.eigenvalues.sqrt().float()
    x = (
        components.mean.float()
        + (rng.normal("z", (n, len(scale))) * scale) @ components.basis.T.float()
    )
    x = x.view(n, *dataset.spec.shape)
    return x.clamp(-1, 1) if dataset.spec.kind == "image" else x


KNOWN_DEFECTS: dict[str, Callable[[Dataset, int, Rng], Tensor]] = {
    "real": real,
    "copies of the training set": copies,
    "the mean": mean_example,
    "one example repeated": one_example,
    "one class dropped": part_dropped,
    "5 % noise": noisy,
    "a fitted Gaussian": fitted_gaussian,
}


def _some(dataset: Dataset, n: int, split: str = "train") -> Tensor:
    """The first n examples of a split (splits are shuffled), fewer where it is smaller."""
    return torch.cat([batch.x for batch in in_order(dataset, split, limit=n)])


def _repeated(x: Tensor, n: int) -> Tensor:
    return x.repeat(-(-n // len(x)), *[1] * (x.ndim - 1))[:n]


# -- which metric sees which defect --------------------------------------------------------------------------


@dataclass(frozen=True)
class Defects:
    """Which metric detects which defect.

    models    names of the sets of samples with a defect
    detected  metric -> name -> whether the metric distinguishes it from the perfect model; None
              where the metric is not defined
    n         samples of each
    """

    models: tuple[str, ...]
    detected: dict[str, dict[str, bool | None]]
    n: int


def measure_defects(
    dataset: Dataset, evaluator: FeatureMap | None = None, most: int = 2000, seed: int = 0
) -> Defects:
    """Measures all sets of samples with known defects.

    One half of the training set is the reference, the other half plays the perfect model.
    """
    halves = halve(dataset)
    quality_reference = QualityReference(halves, evaluator)
    n = min(most, len(halves.split("validation")))
    rows = {}
    for name, make in KNOWN_DEFECTS.items():
        samples = Samples.of(make(halves, n, Rng(seed, ("zoo", name))))
        rows[name] = measure_quality(quality_reference, samples, seed)
    titles = {name: name for name in KNOWN_DEFECTS if name != "real"}
    if dataset.spec.classes <= 1:
        titles["one class dropped"] = "one quarter dropped"
    detected = {}
    for i, perfect in enumerate(rows["real"]):
        if has_value(perfect) and perfect["better"]:
            detected[heading(MetricColumn(perfect))] = {
                title: is_worse(rows[name][i], perfect) for name, title in titles.items()
            }
    return Defects(tuple(titles.values()), detected, n)


def is_worse(row: dict, perfect: dict) -> bool | None:
    """Whether a value is worse than the perfect model's, with intervals that do not overlap."""
    assert perfect["name"] == row["name"]
    if not has_value(row):
        return None
    return badness(row)[0] > badness(perfect)[0] and not overlap(perfect, row)


def halve(dataset: Dataset) -> Dataset:
    """The same data with the halves of the training set as train and validation; test stays."""
    part = dataset.split("train")
    middle = min(len(part) // 2, MOST)

    def cut(array, rows):
        return None if array is None else array[rows]

    halves = {"train": slice(0, middle), "validation": slice(middle, 2 * middle)}
    splits = {
        name: Split(part.x[rows], cut(part.y, rows), part.levels, cut(part.factors, rows))
        for name, rows in halves.items()
    }
    return replace(dataset, splits=splits | {"test": dataset.split("test")})
