"""Distances between samples and real examples that compare single points, by the main feature map."""

from collections.abc import Callable

from torch import Tensor

from ...measures import distances, twosample
from ...measures.estimate import Estimate
from ..context import MetricContext
from ..metric import Metric
from ..quality_reference import CONTROL, NEIGHBOURS, reference_id

CLASSIFIED = 2_000  # examples of each set for training and testing a classifier


def kernel_row(context: MetricContext) -> list[dict]:
    train = context.real_features("train")
    few = min(len(train), NEIGHBOURS)

    def distance(z: Tensor, trained: bool = False) -> Estimate:
        return distances.scaled_kernel_distance(z, train, few, trained)

    def of_samples() -> Estimate:
        return distance(context.features(), True)

    return [_row(context, KERNEL, distance, few, of_samples)]


def sliced_row(context: MetricContext) -> list[dict]:
    train = context.real_features("train")

    def distance(z: Tensor) -> Estimate:
        return distances.sliced_wasserstein(z, train, context.rng("quality").at("sliced"))

    return [_row(context, SLICED, distance, len(train))]


def two_sample_row(context: MetricContext) -> list[dict]:
    train = context.real_features("train")
    count = min(context.n, len(train), CLASSIFIED)

    def accuracy(z: Tensor) -> Estimate:
        rng = context.rng("quality").at("two-sample")
        return twosample.two_sample_accuracy(z[:count], train[:count], rng)

    return [_row(context, TWO_SAMPLE, accuracy, count)]


def _row(
    context: MetricContext,
    metric: Metric,
    distance: Callable[[Tensor], Estimate],
    count: int,
    of_samples: Callable[[], Estimate] | None = None,
) -> dict:
    """count: of the training examples that samples are compared with."""
    test = context.real_features("test")

    def of_real() -> Estimate:
        return distance(test)

    return metric.measured(
        of_samples or (lambda: distance(context.features())),
        of_real if len(test) >= CONTROL else None,
        split="train",
        reference=reference_id(context.dataset, "train", count),
        evaluator=context.main_map.name,
    )


KERNEL = Metric(
    name="kernel_distance",
    label="kernel distance",
    unit="squared mean discrepancy",
    better="lower",
    group="samples",
    measure=kernel_row,
    order=20,
    is_doubted=True,
)
SLICED = Metric(
    name="sliced_wasserstein",
    label="sliced Wasserstein distance",
    unit="squared feature units",
    better="lower",
    group="samples",
    measure=sliced_row,
    order=21,
)
TWO_SAMPLE = Metric(
    name="two_sample",
    label="distinguished by a classifier",
    unit="share",
    better="lower",
    group="samples",
    question="Hardest to tell from real data",
    measure=two_sample_row,
    order=22,
    question_order=3,
)
METRICS = (KERNEL, SLICED, TWO_SAMPLE)
