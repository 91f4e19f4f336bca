"""How real, varied and new a set of samples is: the metrics that need only samples.

Each number comes with the value of held-out real examples in the samples' place, where that is
defined.
"""

from .context import MetricContext
from .metric import SAMPLE_GROUPS, all_metrics, measure_all
from .quality_reference import QualityReference
from .samples import Samples


def measure_quality(
    quality_reference: QualityReference, samples: Samples, seed: int = 0
) -> list[dict]:
    """Rows of a report about a set of samples.

    Raises UsageError (too few samples), DataError (not finite, wrong shape or range).
    """
    context = MetricContext(quality_reference, seed, samples=samples)
    metrics = [metric for metric in all_metrics() if metric.group in SAMPLE_GROUPS]
    return measure_all(context, metrics)
