"""PacGAN's metrics of the modes of samples, for data that know their modes."""

from ..context import MetricContext
from ..metric import Metric


def mode_rows(context: MetricContext) -> list[dict]:
    """Of the first samples, and of as many test examples in their place."""
    modes = context.quality_reference.modes
    index = context.sample_features.modes
    if modes is None or index is None:
        return []
    n = len(index)
    estimates = modes.estimates(index)
    test = context.quality_reference.test_modes(n)
    real = modes.estimates(test) if len(test) == n else {}
    card = dict(
        n=n,
        m=None,
        reference=f"{context.dataset.digest[:12]}:modes",
        evaluator=modes.classifier,
    )
    rows = []
    for metric in METRICS:
        if metric.name in estimates:
            of = {"of": modes.count} if metric is MODES else {}
            control = real.get(metric.name)
            rows.append(metric.row(estimates[metric.name], real=control, **card, **of))
        elif metric is DIVERGENCE:
            rows.append(metric.absent("no sample belongs to a mode", **card))
    return rows


MODES = Metric(
    name="modes",
    label="modes that samples hit",
    unit="modes",
    better="higher",
    group="labels",
    measure=mode_rows,
    order=60,
)
GOOD = Metric(
    name="good_samples",
    label="samples that belong to a mode",
    unit="share",
    better="higher",
    group="labels",
)
DIVERGENCE = Metric(
    name="mode_kl",
    label="divergence of the modes' shares from equal ones",
    unit="nats",
    better="lower",
    group="labels",
)
METRICS = (MODES, GOOD, DIVERGENCE)
