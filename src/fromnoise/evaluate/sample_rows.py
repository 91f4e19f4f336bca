"""Rows of a report: distances between samples and real examples."""

from collections.abc import Callable
from functools import cache

from torch import Tensor

from ..core.rng import Rng
from ..measures import coverage, distances, frechet, pyramid, twosample
from ..measures.estimate import Estimate
from ..measures.features import FeatureMap
from ..measures.moments import refuse_equal
from .protocol import measured_row
from .quality_reference import PatchReference, QualityReference, reference_id

NEIGHBOURS = 5_000  # examples of each set for metrics of all pairs of neighbours
CLASSIFIED = 2_000  # examples of each set for training and testing a classifier
CONTROL = 100  # the fewest held-out examples that can stand in the samples' place
MANIFOLD_UNITS = {  # metric -> unit
    "precision": "share",
    "recall": "share",
    "density": "balls of real examples around a sample, relative",
    "coverage": "share",
}


def frechet_rows(
    quality_reference: QualityReference, feature_map: FeatureMap, x: Tensor
) -> list[dict]:
    """Fréchet distances of the samples' features x (n, d) to the train and the test split."""
    train = quality_reference.features(feature_map, "train")
    test = quality_reference.features(feature_map, "test")
    card = dict(evaluator=feature_map.name, better="lower")
    unit = "squared feature units"
    is_main = feature_map is quality_reference.maps[0]
    control = None
    if len(test) >= CONTROL:

        def control():
            return frechet.frechet(test, train)

    return [
        measured_row(
            "frechet",
            "Fréchet distance",
            unit,
            lambda: frechet.frechet(x, train),
            control,
            split="train",
            reference=reference_id(quality_reference.dataset, "train", len(train)),
            group="samples" if is_main else "referees",
            **card,
        ),
        measured_row(
            "frechet_held_out",
            "Fréchet distance to held-out examples",
            unit,
            lambda: frechet.frechet(x, test),
            split="test",
            reference=reference_id(quality_reference.dataset, "test", len(test)),
            group="referees",
            **card,
        ),
    ]


def pair_rows(
    quality_reference: QualityReference, feature_map: FeatureMap, x: Tensor, rng: Rng
) -> list[dict]:
    """Metrics of all pairs of points, x (n, d), by the main feature map and on fewer points."""
    train = quality_reference.features(feature_map, "train")
    test = quality_reference.features(feature_map, "test")
    few = min(len(train), NEIGHBOURS)
    classified = min(len(x), len(train), CLASSIFIED)

    def kernel(z, trained=False):
        return distances.scaled_kernel_distance(z, train, few, trained)

    def sliced(z):
        return distances.sliced_wasserstein(z, train, rng.at("sliced"))

    def accuracy(z):
        return twosample.two_sample_accuracy(
            z[:classified], train[:classified], rng.at("two-sample")
        )

    def control(measure) -> Callable | None:
        return (lambda: measure(test)) if len(test) >= CONTROL else None

    def card(count):
        return dict(
            split="train",
            reference=reference_id(quality_reference.dataset, "train", count),
            evaluator=feature_map.name,
            group="samples",
            better="lower",
        )

    rows = [
        measured_row(
            "kernel_distance",
            "kernel distance",
            "squared mean discrepancy",
            lambda: kernel(x, True),
            control(kernel),
            **card(few),
        ),
        measured_row(
            "sliced_wasserstein",
            "sliced Wasserstein distance",
            "squared feature units",
            lambda: sliced(x),
            control(sliced),
            **card(len(train)),
        ),
        measured_row(
            "two_sample",
            "distinguished by a classifier",
            "share",
            lambda: accuracy(x),
            control(accuracy),
            **card(classified),
        ),
    ]
    n = min(len(x), few)
    return rows + manifold_rows(x[:n], train[:n], test, card(n) | {"better": "higher"})


def manifold_rows(x: Tensor, train: Tensor, test: Tensor, card: dict) -> list[dict]:
    """Precision, recall, density and coverage of samples x (n, d) and as many real examples."""
    n = len(x)

    @cache
    def of_samples():
        return neighbours(x, train)

    @cache
    def of_real():
        return neighbours(test[:n], train)

    rows = []
    for name, unit in MANIFOLD_UNITS.items():
        # recall and coverage depend on the number of samples, the others hardly
        has_control = len(test) >= n
        if name in ("precision", "density"):
            has_control = has_control or len(test) >= CONTROL
        rows.append(
            measured_row(
                name,
                name,
                unit,
                lambda name=name: of_samples()[name],
                (lambda name=name: of_real()[name]) if has_control else None,
                k=coverage.K if name in ("precision", "recall") else coverage.K_COVERAGE,
                **card,
            )
        )
    return rows


def neighbours(x: Tensor, y: Tensor) -> dict[str, Estimate]:
    """``coverage.manifold``; NoSpreadError where all rows of y are equal but for rounding."""
    refuse_equal(y)
    return coverage.manifold(x, y)


def patch_rows(patch_reference: PatchReference, patches: list[Tensor]) -> list[dict]:
    """Distances of patches of all levels and of each level; of images with one level, once."""
    dataset = patch_reference.dataset
    n = patch_reference.n
    names = pyramid.names_of(dataset.spec.shape)
    if len(names) <= 2:
        names = names[:1]
    # the distance of two draws depends on their number
    has_control = len(dataset.split("test")) >= n
    card = dict(
        split="train",
        reference=reference_id(dataset, "train", n),
        evaluator=f"pyramid/{patch_reference.patches} patches of 7x7 an image",
        group="referees",
        better="lower",
    )

    @cache
    def of_samples():
        return patch_reference.distances(patches)

    rows = []
    for i, name in enumerate(names):
        label = "sliced Wasserstein distance of patches"
        if 0 < i < len(names) - 1:
            label += f", details of {name} pixels"
        elif i:
            label += f", what is left at {name} pixels"
        rows.append(
            measured_row(
                f"pyramid_swd_{name}" if i else "pyramid_swd",
                label,
                "thousandths of a deviation",
                lambda i=i: of_samples()[i],
                (lambda i=i: patch_reference.test_distances[i]) if has_control else None,
                **card,
            )
        )
    return rows
