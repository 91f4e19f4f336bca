"""Feature maps: distances between sets of examples are measured on numbers that describe each
example.

Which numbers, decides what a distance sees and its unit, so the map is part of every score's name.
A map that was trained on the data (an evaluator) sees what people see; beside it always stand
referees that nobody trained:

    pca-64       coordinates on the principal components of the training set's pixels (or columns)
    random-conv  means and spreads of fixed random filters; images only
    projection   coordinates on fixed random directions, instead of pca-64 where the training set is
                 small
    columns      a vector's own numbers, when they are few

Principal components that were fitted on few rows fit the noise of just these rows: the other rows
of the same law have another law in them, and a distance between the two is off (benchmark in
docs/log.md). Nothing is fitted to a projection.
"""

import hashlib
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.rng import Rng
from ..data.dataset import Dataset
from ..data.stream import in_order
from ..nets.features import RandomConv
from ..probability.pca import principal_components

FEW = 64  # columns that are features themselves; principal components where there are more
ROWS_A_COMPONENT = (
    4  # training examples for each principal component: the fewest that are used for distances
)
FIT = 20_000  # training examples that principal components are fitted on


class FeatureMap(Protocol):
    """x (n, *shape) in model form -> (n, dims) float64. name: it, and what it was made from, in a
    few characters.
    """

    @property
    def name(self) -> str: ...

    @property
    def dims(self) -> int: ...

    def __call__(self, x: Tensor) -> Tensor: ...


class RawFeatures:
    """The numbers of a vector as they are."""

    def __init__(self, dims: int):
        self.name, self.dims = "columns", dims

    def __call__(self, x: Tensor) -> Tensor:
        return x.cpu().double()


class PrincipalComponents:
    """Coordinates on the leading components of a training set: distances do not care about their
    signs or order.
    """

    def __init__(self, dataset: Dataset, size: int = 64):
        n = min(FIT, len(dataset.split("train")))
        self.dims = max(1, min(size, dataset.spec.dims, n - 1))

        def batches():
            return (batch.x for batch in in_order(dataset, "train", limit=n))

        components = principal_components(batches, dataset.spec.dims, self.dims)
        self.mean, self.basis = components.mean, components.basis
        self.name = f"pca-{self.dims}/{dataset.digest[:8]}"

    def __call__(self, x: Tensor) -> Tensor:
        return (x.flatten(1).cpu().double() - self.mean) @ self.basis


class RandomProjection:
    """Coordinates on random orthonormal directions from a counter: the same on every machine.
    Lengths are kept on average (Johnson & Lindenstrauss 1984), and exactly where there are as many
    directions as numbers.
    """

    def __init__(self, dims: int, size: int = 64):
        self.dims = min(size, dims)
        directions = Rng(0, ("random-projection",)).normal("directions", (dims, self.dims)).double()
        self.basis = torch.linalg.qr(directions).Q * (dims / self.dims) ** 0.5
        self.name = f"projection-{self.dims}/of {dims}"

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1).cpu().double() @ self.basis


class FixedRandomConv:
    """Random filters from a counter: the same on every machine, for any number of channels."""

    def __init__(self, channels: int, width: int = 16):
        rng, weights = Rng(0, ("random-conv",)), []
        for layer in range(2):
            fan_in = 9 * (weights[-1].shape[0] if weights else channels)
            shape = (width, fan_in // 9, 3, 3)
            weights.append(rng.normal(f"layer{layer}", shape) * (2 / fan_in) ** 0.5)
        self.net = RandomConv(weights)
        digest = hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights)).hexdigest()
        self.dims, self.name = self.net.dims, f"random-conv/{digest[:8]}"

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        return torch.cat([self.net(part.float().cpu()) for part in x.split(500)]).double()


def untrained_features(dataset: Dataset) -> list[FeatureMap]:
    """The maps that need no training."""
    spec = dataset.spec
    if spec.kind == "image":
        return [coordinates(dataset), FixedRandomConv(spec.shape[0])]
    return [RawFeatures(spec.dims) if spec.dims <= FEW else coordinates(dataset)]


def coordinates(dataset: Dataset, size: int = 64) -> FeatureMap:
    """Principal components; random directions where the training set has too few rows to find
    them.
    """
    rows, dims = len(dataset.split("train")), dataset.spec.dims
    # all components are taken: nothing is chosen by the rows
    only_turned = dims <= size and rows > dims
    if only_turned or rows >= ROWS_A_COMPONENT * size:
        return PrincipalComponents(dataset, size)
    return RandomProjection(dims, size)


def extract(
    feature_map: FeatureMap, batches: Iterable[Tensor], what: str = "the samples"
) -> Tensor:
    """(n, dims) float64 features of all batches. Raises DataError unless all of them are finite."""
    parts = list(map(feature_map, batches))
    features = torch.cat(parts)
    if not bool(torch.isfinite(features).all()):
        bad = int((~torch.isfinite(features).all(1)).sum())
        raise DataError(
            f"{bad} of {len(features):,} examples among {what} have features that are not finite: "
            "nothing can be measured on them"
        )
    return features


def of_split(
    feature_map: FeatureMap, dataset: Dataset, split: str, limit: int | None = None
) -> Tensor:
    """Features of the first ``limit`` examples of a split."""
    return extract(
        feature_map,
        (batch.x for batch in in_order(dataset, split, limit=limit)),
        f"the {split} split",
    )
