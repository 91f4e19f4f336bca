"""Precision, recall, density and coverage of samples and as many real examples."""

from dataclasses import replace
from functools import cache

from torch import Tensor

from ...measures import coverage
from ...measures.estimate import Estimate
from ...measures.moments import refuse_equal
from ..context import MetricContext
from ..metric import Metric
from ..quality_reference import CONTROL, NEIGHBOURS, reference_id


def manifold_rows(context: MetricContext) -> list[dict]:
    """By the main feature map, and on at most NEIGHBOURS examples of each set."""
    train = context.real_features("train")
    test = context.real_features("test")
    n = min(context.n, len(train), NEIGHBOURS)

    @cache
    def of_samples() -> dict[str, Estimate]:
        return neighbours(context.features()[:n], train[:n])

    @cache
    def of_real() -> dict[str, Estimate]:
        return neighbours(test[:n], train[:n])

    rows = []
    for metric in METRICS:
        # recall and coverage depend on the number of samples, the others hardly
        has_control = len(test) >= n
        if metric in (PRECISION, DENSITY):
            has_control = has_control or len(test) >= CONTROL
        rows.append(
            metric.measured(
                lambda name=metric.name: of_samples()[name],
                (lambda name=metric.name: of_real()[name]) if has_control else None,
                k=coverage.K if metric in (PRECISION, RECALL) else coverage.K_COVERAGE,
                split="train",
                reference=reference_id(context.dataset, "train", n),
                evaluator=context.main_map.name,
            )
        )
    return rows


def neighbours(x: Tensor, y: Tensor) -> dict[str, Estimate]:
    """``coverage.manifold``; NoSpreadError where all rows of y are equal but for rounding."""
    refuse_equal(y)
    return coverage.manifold(x, y)


PRECISION = Metric(
    name="precision",
    label="precision",
    unit="share",
    better="higher",
    group="samples",
    measure=manifold_rows,
    order=30,
)
RECALL = replace(PRECISION, name="recall", label="recall", measure=None)
DENSITY = replace(
    RECALL,
    name="density",
    label="density",
    unit="balls of real examples around a sample, relative",
)
COVERAGE = replace(
    RECALL,
    name="coverage",
    label="coverage",
    question="Samples cover most of the data",
    question_order=2,
)
METRICS = (PRECISION, RECALL, DENSITY, COVERAGE)
