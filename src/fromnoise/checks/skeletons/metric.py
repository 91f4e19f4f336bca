"""Contrast: the standard deviation within one example, averaged over the samples.

fromnoise finds this file through FROMNOISE_EXTENSIONS, a list of folders.
"""

from torch import Tensor

from fromnoise.evaluate.context import MetricContext
from fromnoise.evaluate.metric import Metric
from fromnoise.measures.estimate import Estimate, normal_interval


def mean_contrast(x: Tensor) -> Estimate:
    """Of examples (n, *shape), with its standard error: how far other samples would change it."""
    contrast = x.double().flatten(1).std(1)
    value = float(contrast.mean())
    se = float(contrast.std()) / len(contrast) ** 0.5
    return Estimate(value, se, normal_interval(value, se), n=len(contrast))


def measure(context: MetricContext) -> Estimate:
    """Called once for each run. A UsageError raised here becomes the reason why it is missing.

    context.samples are images in [-1, 1] or vectors in the units of the data; context.features()
    are their features, context.loaded is the model.
    """
    return mean_contrast(context.samples)


def measure_real(context: MetricContext) -> Estimate:
    """The same of held-out examples: the value of a perfect model."""
    return mean_contrast(context.real_examples())


METRIC = Metric(
    name="contrast",  # in report.json
    label="contrast within an example",  # in tables
    unit="",
    better="near",  # to real examples; or "lower", "higher", None
    group="samples",  # the part of the report
    measure=measure,
    real=measure_real,
    data=("image", "vector"),  # the kinds of data that it is measured on
)
