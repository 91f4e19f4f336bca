"""Features of real examples, computed once for many sets of samples."""

from functools import cached_property

import torch
from torch import Tensor

from ..core.rng import Rng
from ..data.dataset import Dataset
from ..data.stream import in_order
from ..measures import memory, pyramid
from ..measures.estimate import Estimate
from ..measures.features import (
    FeatureMap,
    PrincipalComponents,
    extract,
    of_split,
    untrained_features,
)
from ..measures.laplacian import COARSEST
from ..measures.pacgan import ModeProtocol, find_modes

REFERENCE = 20_000  # training examples that distances are measured to
NEIGHBOURS = 5_000  # examples of each set for metrics of all pairs of neighbours
CONTROL = 100  # the fewest held-out examples that can stand in the samples' place


def reference_id(dataset: Dataset, split: str, m: int) -> str:
    """Names the real examples that samples were compared with."""
    return f"{dataset.digest[:12]}:{split}[:{m}]"


class PatchReference:
    """Patches of n real images on the levels of a pyramid, cut at the same places as n samples."""

    def __init__(self, dataset: Dataset, n: int, rng: Rng):
        self.dataset = dataset
        self.n = n
        self.rng = rng
        self.patches = pyramid.patches_of(n)
        self.places = pyramid.places(dataset.spec.shape, n, self.patches, rng.at("places"))

    def cut(self, x: Tensor, start: int) -> list[Tensor]:
        """Patches of a block of images, the first of which has the number ``start``."""
        x = x[: self.n - start]
        return pyramid.cut(x, [corner[start : start + len(x)] for corner in self.places])

    def cut_split(self, split: str) -> list[Tensor]:
        batches = in_order(self.dataset, split, limit=self.n)
        return pyramid.cut_all((batch.x for batch in batches), self.places)

    @cached_property
    def train(self) -> list[Tensor]:
        return self.cut_split("train")

    def distances(self, patches: list[Tensor]) -> list[Estimate]:
        return pyramid.compare(patches, self.train, self.rng.at("slices"))

    @cached_property
    def test_distances(self) -> list[Estimate]:
        return self.distances(self.cut_split("test"))


class QualityReference:
    """What samples are compared with: feature maps, and the features of real examples.

    evaluator  the trained feature map, the first of ``maps`` where there is one; the untrained
               ones follow
    quick      fewer real examples in either split
    """

    def __init__(self, dataset: Dataset, evaluator: FeatureMap | None = None, quick: bool = False):
        assert dataset.spec.kind != "tokens", "text is measured by a TextReference"
        self.dataset = dataset
        self.evaluator = evaluator
        self.most = {"train": REFERENCE, "test": REFERENCE}
        if quick:
            self.most = {"train": REFERENCE // 4, "test": REFERENCE // 16}
        self.maps: list[FeatureMap] = untrained_features(dataset)
        if evaluator:
            self.maps.insert(0, evaluator)
        self._features: dict[tuple[str, str, bool], Tensor] = {}
        self._test_modes = torch.zeros(0, dtype=torch.int64)
        self._patches: tuple[tuple[int, int], PatchReference] | None = None

    def features(self, feature_map: FeatureMap, split: str, everything: bool = False) -> Tensor:
        """Features of the first ``most`` examples of a split, or of all of them."""
        key = (feature_map.name, split, everything)
        if key not in self._features:
            limit = None if everything else self.most[split]
            self._features[key] = of_split(feature_map, self.dataset, split, limit)
        return self._features[key]

    def patches(self, n: int, rng: Rng) -> PatchReference | None:
        """For n samples, or as many of them as are measured.

        None for data without images, and for images below 16 pixels.
        """
        spec = self.dataset.spec
        if spec.kind != "image" or min(spec.shape[1:]) < COARSEST:
            return None
        n = pyramid.images_of(spec.shape, n, self.most["train"], len(self.dataset.split("train")))
        key = (n, rng.seed)
        if self._patches is None or self._patches[0] != key:
            # patches are large: only one set of them is kept
            self._patches = (key, PatchReference(self.dataset, n, rng.at("pyramid")))
        return self._patches[1]

    @cached_property
    def modes(self) -> ModeProtocol | None:
        return find_modes(self.dataset)

    def test_modes(self, n: int) -> Tensor:
        """The mode of each of the first n test examples; fewer where there are fewer."""
        n = min(n, len(self.dataset.split("test")))
        if len(self._test_modes) < n:
            batches = in_order(self.dataset, "test", limit=n)
            self._test_modes = torch.cat([self.modes.index(batch.x) for batch in batches])
        return self._test_modes[:n]

    @cached_property
    def pixels(self) -> FeatureMap:
        """The map in which the nearest training examples are found: untrained, close to pixels."""
        for feature_map in self.maps:
            if feature_map.name.startswith(("pca", "projection", "columns")):
                return feature_map
        return PrincipalComponents(self.dataset)

    def labels(self, split: str) -> Tensor:
        """Labels of the same examples as the features."""
        return torch.from_numpy(self.dataset.split(split).y[: self.most[split]])


def nearest_training(quality_reference: QualityReference, x: Tensor) -> tuple[Tensor, Tensor]:
    """Distance to and row of the nearest training example of each sample, (n,) each.

    Distances are of the map ``quality_reference.pixels``.
    """
    train = quality_reference.features(quality_reference.pixels, "train", everything=True)
    distance, row = memory.nearest(extract(quality_reference.pixels, [x]), train)
    return distance[:, 0], row[:, 0]
