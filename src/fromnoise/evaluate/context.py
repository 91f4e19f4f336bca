"""What a metric is measured on, computed when it is needed, and once for all metrics."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from ..core.capabilities import Predicts, has
from ..core.errors import UsageError
from ..core.rng import Rng
from ..data.stream import in_order
from ..measures.features import FeatureMap, extract
from ..runs.load import LoadedRun
from .quality_reference import PatchReference, QualityReference, reference_id
from .samples import Samples
from .text_reference import SYMBOLS, Passage, TextReference, load_passage

FEWEST = 50  # samples
KEPT = 2**29  # bytes of samples that are kept in memory; more are drawn again for each use
Result = TypeVar("Result")


@dataclass(frozen=True)
class SampleFeatures:
    """What one pass over the samples gives.

    by_map   name of a feature map -> (n, d)
    modes    the mode of each of the first samples, or None
    patches  of each level of a pyramid, or None
    """

    by_map: dict[str, Tensor]
    modes: Tensor | None
    patches: list[Tensor] | None


class MetricContext:
    """A run, or only samples, with what they are compared with.

    reference   features of real examples, or a text
    run         the run, or None where only ``samples`` are measured
    samples     of the run; None for text
    texts       how many texts a model of text generates
    k           draws of z for the importance-weighted bound
    test_limit  examples of the test split for likelihoods (None: all)
    quick       fewer of everything
    anneal      test examples that are measured by annealed importance sampling

    Raises UsageError (too few samples).
    """

    def __init__(
        self,
        reference: QualityReference | TextReference,
        seed: int = 0,
        *,
        run: LoadedRun | None = None,
        samples: Samples | None = None,
        texts: int = 0,
        k: int = 100,
        test_limit: int | None = None,
        quick: bool = False,
        anneal: int = 0,
    ):
        if samples is not None and samples.n < FEWEST:
            raise UsageError(
                f"{samples.n} samples are too few to measure anything: take {FEWEST} or more"
            )
        self.dataset = reference.dataset
        self.kind = self.dataset.spec.kind
        self.seed = seed
        self.texts = texts
        self.k = k
        self.test_limit = test_limit
        self.quick = quick
        self.anneal = anneal
        self.reference = reference
        self._run = run
        self._samples = samples
        self._results: dict[Callable, object] = {}

    def rng(self, name: str) -> Rng:
        """Random numbers that follow from the seed of the evaluation and a name."""
        return Rng(self.seed, (name,))

    def once(self, compute: Callable[["MetricContext"], Result]) -> Result:
        """compute(context), computed once for all metrics that use it."""
        if compute not in self._results:
            self._results[compute] = compute(self)
        return self._results[compute]  # pyright: ignore[reportReturnType]

    @property
    def loaded(self) -> LoadedRun:
        """Raises UsageError where only samples are measured."""
        if self._run is None:
            raise UsageError("it needs a model, and these are samples only")
        return self._run

    @property
    def quality_reference(self) -> QualityReference:
        assert isinstance(self.reference, QualityReference), "text has no features"
        return self.reference

    @property
    def text_reference(self) -> TextReference:
        assert isinstance(self.reference, TextReference), "only text is compared with counts"
        return self.reference

    # -- text ------------------------------------------------------------------------------------

    @property
    def text_limit(self) -> int:
        """Symbols of a held-out text that are predicted at most."""
        if self.test_limit is None:
            return SYMBOLS
        return min(SYMBOLS, self.test_limit * self.dataset.spec.dims)

    @cached_property
    def test_passage(self) -> Passage:
        return load_passage(self.dataset, "test", self.text_limit)

    @property
    def predicts(self) -> bool:
        """Whether the model predicts one symbol after another."""
        return has(self.loaded.model, Predicts)

    # -- samples ---------------------------------------------------------------------------------

    @property
    def drawn(self) -> Samples:
        """The samples, and how they were drawn. Raises UsageError for text."""
        if self._samples is None:
            raise UsageError("a model of text has no samples of a fixed shape")
        return self._samples

    @property
    def n(self) -> int:
        """The number of samples, or of generated texts."""
        return self.texts if self._samples is None else self._samples.n

    @property
    def samples(self) -> Tensor:
        """All samples in model form, (n, *shape): images in [-1, 1], vectors as the data has them."""
        return torch.cat(list(self.sample_blocks()))

    def sample_blocks(self) -> Iterator[Tensor]:
        """The same block by block. Raises DataError unless they are finite and like the data."""
        if 4 * self.n * self.dataset.spec.dims <= KEPT:
            return iter(self._kept_blocks)
        return self.drawn.checked_blocks(self.dataset)

    @cached_property
    def _kept_blocks(self) -> list[Tensor]:
        return list(self.drawn.checked_blocks(self.dataset))

    def features(self, feature_map: FeatureMap | None = None) -> Tensor:
        """Features of the samples (n, d), float64. feature_map: None is the main one."""
        feature_map = feature_map or self.main_map
        return self.sample_features.by_map[feature_map.name]

    @property
    def sample_features(self) -> SampleFeatures:
        return self.once(MetricContext.measure_samples)

    def measure_samples(self) -> SampleFeatures:
        """Features, modes and patches of the samples, from one pass over them."""
        reference = self.quality_reference
        modes = reference.modes
        patch_reference = self.patch_reference
        by_map: dict[str, list[Tensor]] = {feature_map.name: [] for feature_map in self.maps}
        mode_index = []
        patches = []
        done = 0
        for x in self.sample_blocks():
            for feature_map in self.maps:
                by_map[feature_map.name].append(extract(feature_map, [x]))
            if modes and done < modes.most:
                mode_index.append(modes.index(x[: modes.most - done]))
            if patch_reference and done < patch_reference.n:
                patches.append(patch_reference.cut(x, done))
            done += len(x)
        return SampleFeatures(
            {name: torch.cat(parts) for name, parts in by_map.items()},
            torch.cat(mode_index) if mode_index else None,
            list(map(torch.cat, zip(*patches))) if patches else None,
        )

    # -- real examples ---------------------------------------------------------------------------

    @property
    def maps(self) -> list[FeatureMap]:
        """The feature maps: the trained one, where there is one, then the untrained ones."""
        return self.quality_reference.maps

    @property
    def main_map(self) -> FeatureMap:
        return self.maps[0]

    @property
    def patch_reference(self) -> PatchReference | None:
        return self.quality_reference.patches(self.n, self.rng("quality"))

    def real_features(
        self, split: str = "test", feature_map: FeatureMap | None = None, everything: bool = False
    ) -> Tensor:
        """Features (m, d) of real examples: the first ones of a split, or ``everything``."""
        return self.quality_reference.features(feature_map or self.main_map, split, everything)

    def real_examples(self, split: str = "test", limit: int | None = None) -> Tensor:
        """The first examples of a split, at most ``limit`` or as many as samples: (m, *shape)."""
        batches = in_order(self.dataset, split, limit=limit or self.n)
        return torch.cat([batch.x for batch in batches])

    def card(self, split: str, m: int, feature_map: FeatureMap | None = None) -> dict:
        """The entries of a row whose reference is the first m examples of a split."""
        return {
            "split": split,
            "reference": reference_id(self.dataset, split, m),
            "evaluator": (feature_map or self.main_map).name,
        }
