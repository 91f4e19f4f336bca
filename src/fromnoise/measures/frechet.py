"""Fréchet distance between two sets of features, without bias and with an interval.

    FD = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)

(Dowson & Landau 1982; Heusel et al. 2017.)

Means and covariances of samples make it too large, by B / n + C / m and terms of higher order. A
jackknife over groups of rows takes off the first (Quenouille 1956). What is left, and the spread
where the laws agree, is that of the same number after rows of the two sets changed sides by chance
(Fisher 1935; Pitman 1937): right for every law of the rows, where formulas in fourth moments fail
for heavy tails and rare features. Away from agreement the spread is that of the rows' influences on
FD.

Unusual: no matrix square root is taken. With S1 = A^T A and S2 = B^T B the last term is the sum of
the singular values of A B^T: exact where features are dead or samples are fewer than features,
where others add a constant to S.
"""

import math

from torch import Tensor

from ..core.errors import UsageError
from .estimate import Estimate
from .frechet_null import NullDistribution
from .intervals import score_interval
from .moments import influence, moments, plug_in, refuse_equal

FEW = 4  # rows for each feature: the fewest that are measured
# effective rows that a variance must rest on: its root is then known to one part in ten
ENOUGH = 25


def frechet(x: Tensor, y: Tensor) -> Estimate:
    """Debiased Fréchet distance of samples x (n, d) from a reference y (m, d).

    In squared feature units; raw is the number without correction. The standard error is the delta
    method's, and where the laws nearly agree, so that FD has no slope, the spread that it has
    there; for the interval the delta method's variance is raised by its own standard error. A note
    warns where few rows carry this variance: if the laws differ, the interval may be too short. The
    random numbers follow from n and m: equal sets, equal results. Raises UsageError (rows of
    different length, fewer than 4 for each feature), DataError (not finite, or a reference without
    any spread).
    """
    check_rows(x, y)
    p = moments(x)
    q = moments(y, "the reference")
    refuse_equal(y)
    raw = plug_in(p, q)
    null = NullDistribution.of(x, y)
    value = raw + null.added - null.middle
    influences = [influence(p, q), influence(q, p)]
    variances = [float(a.var()) / n for a, n in zip(influences, (p.n, q.n))]
    linear = max(sum(variances) - null.excess, 0.0)
    few = combined_rows(variances, influences)
    # too low variances come with low distances
    interval = score_interval(value, linear * (1 + few**-0.5), null.flat)
    return Estimate(
        value,
        math.sqrt(linear + null.flat),
        interval,
        null=0.0,
        raw=raw,
        n=p.n,
        m=q.n,
        note=describe_doubt(few),
    )


def check_rows(x: Tensor, y: Tensor) -> None:
    """Raises UsageError unless features x (n, d), y (m, d) have equal d and enough rows."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UsageError(
            f"features of samples {tuple(x.shape)} and reference {tuple(y.shape)} do not go "
            "together: both need (n, d) with the same d"
        )
    d = x.shape[1]
    fewest = max(FEW * d, 10)
    for rows, name in ((len(x), "samples"), (len(y), "reference examples")):
        if rows < fewest:
            raise UsageError(
                f"{rows:,} {name} are too few for a Fréchet distance of {d} features: {fewest:,} "
                "or more are needed"
            )


def combined_rows(variances: list[float], influences: list[Tensor]) -> float:
    """How many effective rows the sum of two variances rests on (Satterthwaite 1946)."""
    spread = sum(v**2 / effective_rows(a) for v, a in zip(variances, influences))
    return max(sum(variances) ** 2 / max(spread, 1e-300), 1.0)


def effective_rows(values: Tensor) -> float:
    """How many rows carry the variance of values (n,): sum(a^2)^2 / sum(a^4), a = value - mean.

    The variance is known to one part in the root of it. n / 3 for a Gaussian influence, 1 if one
    row decides.
    """
    squares = (values - values.mean()).square()
    return max(float(squares.sum() ** 2 / squares.square().sum().clamp(min=1e-300)), 1.0)


def describe_doubt(few: float) -> str:
    """A warning where a variance rests on fewer than ENOUGH effective rows; an empty string else."""
    if few >= ENOUGH:
        return ""
    return (
        f"the interval may be too short: it rests on about {few:.0f} rows of rare or extreme features "
        f"({ENOUGH} or more are needed); take more samples, or read another distance"
    )
