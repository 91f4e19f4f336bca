"""Whether samples have the frequencies of real pictures: see measures/spectrum.py."""

import torch
from torch import Tensor

from ...measures.estimate import Estimate
from ...measures.spectrum import BANDS, spectrum_error
from ..context import MetricContext
from ..metric import Metric
from ..quality_reference import reference_id

PICTURES = 2000  # of samples and of training examples at most


def first_samples(context: MetricContext) -> Tensor:
    blocks = []
    missing = PICTURES
    for x in context.sample_blocks():
        blocks.append(x[:missing])
        missing -= len(x)
        if missing <= 0:
            break
    return torch.cat(blocks)


def spectrum_rows(context: MetricContext) -> list[dict]:
    """None of images below 4 x 4 pixels."""
    if min(context.dataset.spec.shape[1:]) < 4:
        return []
    train = context.real_examples("train", PICTURES)

    def measure() -> Estimate:
        return spectrum_error(first_samples(context), train, context.rng("spectrum"))

    def measure_real() -> float:
        test = context.real_examples("test", PICTURES)
        return spectrum_error(test, train, context.rng("real spectrum")).value

    reference = reference_id(context.dataset, "train", len(train))
    card = {"split": "train", "reference": reference, "evaluator": f"{BANDS} bands of frequencies"}
    return [METRIC.measured(measure, measure_real, **card)]


METRIC = Metric(
    name="spectrum_error",
    label="power at the worst frequency",
    unit="doublings",
    better="lower",
    group="referees",
    measure=spectrum_rows,
    data=("image",),
    order=41,
)
