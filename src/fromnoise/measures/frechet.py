"""Fréchet distance between two sets of features, with its bias taken off and an interval that
holds.

    FD = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)          (Dowson & Landau 1982; Heusel et al. 2017)

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
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from .estimate import Estimate, NoSpreadError

# smallest over largest entry of a Cholesky factor's diagonal: below it the factor comes from a QR
WELL = 1e-3
FEW = 4  # rows for each feature: the fewest that are measured
# groups of the jackknife, of it in each shuffling, shufflings R, blocks of the smaller set,
# (t_{R-1} / 1.96)^2 (1 + 1 / R)
NARROW = (48, 4, 60, 48, 1.0597)
WIDE = (8, 4, 20, 24, 1.1974)  # above WIDEST features: each group costs as the cube of them
WIDEST = 256
# rows of the larger set for each of the smaller one that take part in the shufflings: more change
# little
RATIO = 16
# of the growth of a variance above the value: chosen on the cases of benchmarks/measuring.py
STEEPEST = 1.3
ENOUGH = (
    25  # effective rows that a variance must rest on: its root is then known to one part in ten
)
ROUNDING = 1e-12  # of the features' size: rows that differ by less are equal
RIDGE = 1e-12  # of the trace, added to a covariance whose factor only serves differences
TINY = 1e-12  # eigenvalues below this share of the largest one belong to dead directions


@dataclass(frozen=True)
class Moments:
    """n, mean (d,), centred rows (n, d), factor (r, d) with factor^T factor = the covariance
    (divided by n - 1).
    """

    n: int
    mean: Tensor
    centred: Tensor
    factor: Tensor


def moments(x: Tensor, what: str = "the samples") -> Moments:
    """x (n, d) float64. Raises UsageError (fewer than 2 rows), DataError (not finite)."""
    if x.ndim != 2 or len(x) < 2:
        raise UsageError(f"{what}: at least 2 rows of features are needed, not {tuple(x.shape)}")
    if not bool(torch.isfinite(x).all()):
        raise DataError(f"{what} have features that are not finite: nothing can be measured")
    mean = x.mean(0)
    centred = x - mean
    if len(x) <= x.shape[1]:
        return Moments(len(x), mean, centred, centred / math.sqrt(len(x) - 1))
    covariance = centred.T @ centred / (len(x) - 1)
    factor, failed = torch.linalg.cholesky_ex(covariance)
    diagonal = factor.diagonal().abs()
    if int(failed) or float(diagonal.min()) < WELL * float(diagonal.max()):
        return Moments(
            len(x), mean, centred, torch.linalg.qr(centred / math.sqrt(len(x) - 1), mode="r").R
        )
    return Moments(len(x), mean, centred, factor.T)


def plug_in(p: Moments, q: Moments) -> float:
    """FD of the two sets' own means and covariances, squared feature units: biased upwards."""
    cross = torch.linalg.svdvals(p.factor @ q.factor.T).sum()
    return float(
        (p.mean - q.mean).square().sum()
        + p.factor.square().sum()
        + q.factor.square().sum()
        - 2 * cross
    )


@dataclass(frozen=True)
class Sums:
    """Of blocks of rows: how many rows (k,), their sums (k, d), the sums of their outer products
    (k, d, d).
    """

    count: Tensor
    first: Tensor
    second: Tensor

    @staticmethod
    def of(x: Tensor, blocks: int) -> "Sums":
        """x (n, d), cut into ``blocks`` of as equal size as possible."""
        size = len(x) // blocks
        d = x.shape[1]
        whole, rest = x[: blocks * size].reshape(blocks, size, d), x[blocks * size :]
        count, first, second = (
            x.new_full((blocks,), size),
            whole.sum(1),
            whole.transpose(1, 2) @ whole,
        )
        count[: len(rest)] += 1
        first[: len(rest)] += rest
        second[: len(rest)] += rest[:, :, None] * rest[:, None, :]
        return Sums(count, first, second)

    def groups(self, into: Tensor, count: int) -> "Sums":
        """The blocks put together to ``count`` groups; into: the group of each block, (k,)."""
        member = self.count.new_zeros(count, len(into))
        member[into, torch.arange(len(into))] = 1
        return Sums(
            member @ self.count,
            member @ self.first,
            (member @ self.second.flatten(1)).view(count, *self.second.shape[1:]),
        )

    def part(self, begin: int, end: int) -> "Sums":
        return Sums(self.count[begin:end], self.first[begin:end], self.second[begin:end])

    def without_each(self) -> tuple[Tensor, Tensor]:
        """Means (k + 1, d) and covariances (k + 1, d, d): first of all rows, then of all but those
        of each block.
        """

        def leave(t):
            return torch.cat([t.sum(0, keepdim=True), t.sum(0, keepdim=True) - t])

        n, first, second = leave(self.count)[:, None], leave(self.first), leave(self.second)
        mean = first / n
        return mean, (second - first[:, :, None] * mean[:, None, :]) / (n[:, :, None] - 1)


def joined(a: Sums, b: Sums) -> Sums:
    return Sums(
        torch.cat([a.count, b.count]),
        torch.cat([a.first, b.first]),
        torch.cat([a.second, b.second]),
    )


def distances(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """FD of k pairs of means (k, d) and covariances (k, d, d), (k,): faster than ``plug_in`` and
    less exact.

    The last term is the sum of the roots of the eigenvalues of B S1 B^T with S2 = B^T B; RIDGE
    keeps S2 regular.
    """

    def trace(cov):
        return cov.diagonal(dim1=1, dim2=2).sum(1)

    eye = torch.eye(mean1.shape[1], dtype=mean1.dtype)
    factor, failed = torch.linalg.cholesky_ex(cov2 + RIDGE * trace(cov2).mean() * eye)
    if int(failed.max()):
        values, vectors = torch.linalg.eigh(cov2)
        factor = vectors * values.clamp(min=0).sqrt()[:, None, :]
    roots = torch.linalg.eigvalsh(factor.transpose(1, 2) @ cov1 @ factor).clamp(min=0).sqrt()
    return (mean1 - mean2).square().sum(1) + trace(cov1) + trace(cov2) - 2 * roots.sum(1)


def jackknife(a: Sums, b: Sums) -> tuple[float, float]:
    """FD, and what takes its bias of order 1/n off: (G - 1) (FD - mean of FD without one group of
    either set), G groups.
    """
    found = distances(*a.without_each(), *b.without_each())
    return float(found[0]), float((len(found) - 2) * (found[0] - found[1:].mean()))


@dataclass(frozen=True)
class Null:
    """What two sets of one law would have.

    added   what the jackknife adds to the FD of the two sets as they are
    middle  mean of the corrected FD where rows change sides by chance: the bias of higher order. Of
            a value far from the others, as one extreme row in a small set makes it, no more than
            four standard deviations count
    flat    variance of the corrected FD there, made larger for the few shufflings: 1.96 of its
            roots are Student's quantile
    excess  what the noise in the moments adds to the variance of the rows' influences: twice the
            variance of FD there
    """

    added: float
    middle: float
    flat: float
    excess: float

    @staticmethod
    def of(x: Tensor, y: Tensor) -> "Null":
        """x (n, d), y (m, d). Rows change sides in blocks, so that each shuffling costs no pass
        over the rows.
        """
        x, y = (x, y) if len(x) <= len(y) else (y, x)
        (n, d), m = x.shape, len(y)
        most, groups, shuffles, blocks, student = NARROW if d <= WIDEST else WIDE
        most = min(most, n)
        # both the spread and what is left of the bias go as G / (G - 1)
        less = (groups - 1) / groups * most / (most - 1)
        chance = torch.Generator().manual_seed(n + m)

        def mixed(z):
            return (z - y.mean(0))[torch.randperm(len(z), generator=chance)]

        size = max(1, n // blocks)
        one, other = Sums.of(mixed(x), n // size), Sums.of(mixed(y), m // size)
        few, many = len(one.count), len(other.count)
        added = jackknife(
            one.groups(torch.arange(few) % most, most),
            other.groups(torch.arange(many) % most, most),
        )[1]
        scale = 1.0
        if m > RATIO * n:
            other = other.part(0, RATIO * few)
            scale = (1 / n + 1 / m) / (1 / n + 1 / (RATIO * n))
        pool, values = joined(one, other), []
        into = torch.empty(len(pool.count), dtype=torch.int64)
        for _ in range(shuffles):
            order = torch.randperm(len(pool.count), generator=chance)
            into[order[:few]] = torch.arange(few) % groups
            into[order[few:]] = groups + torch.arange(len(order) - few) % groups
            both = pool.groups(into, 2 * groups)
            values.append(
                scale * sum(jackknife(both.part(0, groups), both.part(groups, 2 * groups)))
            )
        variance, centre = statistics.variance(values), statistics.median(values)
        # four standard deviations of a Gaussian
        far = 6 * statistics.median(abs(value - centre) for value in values)
        middle = statistics.fmean(min(max(value, centre - far), centre + far) for value in values)
        return Null(
            added, less * middle, student * less * variance, 2 * variance * (groups - 1) / groups
        )


def slope(p: Moments, q: Moments) -> Tensor:
    """Influence of each row of p on FD, (n,), to first order as if it had no part in the moments
    that it is taken at.

        2 (mu1 - mu2)^T y + y^T (I - T) y,  y = x - mu1,  T the optimal map to q

    With A B^T = U s V^T it is T = R R^T, R = A^-1 U s^(1/2), and R^T S1 R = s. A row's own share of
    the noise F of S1 changes T by R D R^T, D s + s D = -R^T F R. Directions in which either set is
    dead have no influence.
    """
    u, s, _ = torch.linalg.svd(p.factor @ q.factor.T, full_matrices=False)
    alive = s > TINY * s.max()
    u, s = u[:, alive], s[alive]
    moved = (
        p.centred @ (torch.linalg.pinv(p.factor, rtol=1e-6) @ u * s.sqrt())
    ).square()  # (R^T y)^2, (n, r)
    length = p.centred.square().sum(1)
    own = 2 * length + ((moved @ (1 / (s[:, None] + s))) * moved).sum(1) - moved.sum(1) / 2
    return 2 * p.centred @ (p.mean - q.mean) + length - moved.sum(1) - own / p.n


def noise_floor(y: Tensor, n: int, m: int) -> float:
    """FD that n and m draws of the law of y (N, d) have on average, though their distance is 0: B
    (1/n + 1/m).
    """
    q = moments(y, "the reference")
    values, vectors = torch.linalg.eigh(q.factor.T @ q.factor)
    alive = values > TINY * values.max()
    values, squares = values[alive], (q.centred @ vectors[:, alive]).square()
    kappa = squares.T @ squares / q.n - values.square().diag()
    return float(values.sum() + 0.5 * (kappa / (values[:, None] + values)).sum()) * (1 / n + 1 / m)


def refuse_equal(y: Tensor) -> None:
    """Raises NoSpreadError where all rows of a reference (m, d) are equal but for rounding."""
    if float((y - y.mean(0)).abs().max()) <= ROUNDING * max(1.0, float(y.abs().max())):
        raise NoSpreadError(
            "all reference examples have the same features: there is nothing to measure against"
        )


def frechet(x: Tensor, y: Tensor) -> Estimate:
    """Debiased Fréchet distance of samples x (n, d) from a reference y (m, d), squared feature
    units.

    raw is what others print. The standard error is the delta method's, and where the laws nearly
    agree, so that FD has no slope, the spread that it has there; for the interval the delta
    method's variance is raised by its own standard error. note warns where few rows carry the delta
    method's variance: if the laws differ, the interval may be too short. The chance that is used
    follows from n and m: equal sets, equal numbers. Raises UsageError (rows of different length,
    fewer than 4 for each feature), DataError (not finite, or a reference without any spread).
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UsageError(
            f"features of samples {tuple(x.shape)} and reference {tuple(y.shape)} do not go "
            "together: both need (n, d) with the same d"
        )
    d = x.shape[1]
    for rows, what in ((len(x), "samples"), (len(y), "reference examples")):
        if rows < (fewest := max(FEW * d, 10)):
            raise UsageError(
                f"{rows:,} {what} are too few for a Fréchet distance of {d} features: {fewest:,} "
                "or more are needed"
            )
    p, q = moments(x), moments(y, "the reference")
    refuse_equal(y)
    raw = plug_in(p, q)
    null = Null.of(x, y)
    value = raw + null.added - null.middle
    sides = [(slope(p, q), p.n), (slope(q, p), q.n)]
    parts = [float(influence.var()) / n for influence, n in sides]
    linear = max(sum(parts) - null.excess, 0.0)
    # Satterthwaite 1946
    few = max(
        sum(parts) ** 2 / max(sum(v**2 / effective(a) for v, (a, _) in zip(parts, sides)), 1e-300),
        1.0,
    )
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
        note=doubt(few),
    )


def effective(influence: Tensor) -> float:
    """How many rows carry the variance of influence (n,): sum(a^2)^2 / sum(a^4), a = what is above
    the mean.

    The variance is known to one part in the root of it. n / 3 for a Gaussian influence, 1 if one
    row decides.
    """
    squares = (influence - influence.mean()).square()
    return max(float(squares.sum() ** 2 / squares.square().sum().clamp(min=1e-300)), 1.0)


def doubt(few: float) -> str:
    """A warning where the variance rests on fewer than ENOUGH effective rows, else ""."""
    if few >= ENOUGH:
        return ""
    return (
        f"the interval may be too short: it rests on about {few:.0f} rows of rare or extreme features "
        f"({ENOUGH} or more are needed); take more samples, or read another distance"
    )


def score_interval(
    value: float, slope: float, flat: float, z: float = 1.959963985
) -> tuple[float, float]:
    """The interval of all distances theta with |value - theta| <= z sqrt(V(theta)), squared feature
    units.

    flat is the variance of the estimate where the laws agree, flat + slope its variance at
    ``value``. Below the value V(theta) = flat + slope theta / value: near 0 a distance varies as
    its own root. As for Wilson's interval of a share the upper end is then farther away. Above it V
    grows as theta^2, up to STEEPEST times the former: in simulations with heavy tails an estimate
    that is 10 % too low comes with a variance that is 25 to 30 % too low.
    """
    s = slope / max(value, math.sqrt(flat), 1e-300)
    low, high = linear_ends(value, s, flat, z)
    steep = linear_ends(value, STEEPEST * s, flat, z)[1]
    base = max(value, 2 * math.sqrt(flat), 1e-300)  # the unit in which squares stay finite
    square = base * square_end(value / base, slope / base / base, flat / base / base, z)
    return low, max(high, min(steep, square))


def linear_ends(value: float, s: float, flat: float, z: float) -> tuple[float, float]:
    """Both solutions theta of (value - theta)^2 = z^2 (s theta + flat)."""
    middle = value + z * z * s / 2
    half = z * math.sqrt(z * z * s * s / 4 + max(s * value, 0.0) + flat)
    return middle - half, middle + half


def square_end(value: float, a: float, flat: float, z: float) -> float:
    """The larger solution theta of (theta - value)^2 = z^2 (a theta^2 + flat); infinite from z^2 a
    = 1 on.
    """
    rest = 1 - z * z * a
    if rest <= 0:
        return math.inf
    under_root = value * value - rest * (value * value - z * z * flat)
    return (value + math.sqrt(max(under_root, 0.0))) / rest


def gaussian_frechet(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """FD of two Gaussians, means (d,), covariances (d, d) positive semi-definite."""

    def root(cov):
        values, vectors = torch.linalg.eigh(cov)
        return values.clamp(min=0).sqrt()[:, None] * vectors.T

    cross = torch.linalg.svdvals(root(cov1) @ root(cov2).T).sum()
    return float((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross)
