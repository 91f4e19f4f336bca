"""Fréchet distance between two sets of features, with its bias taken off and an interval that holds.

    FD = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)          (Dowson & Landau 1982; Heusel et al. 2017)

Means and covariances of samples make it too large. To second order, for two sets of one law with covariance S, by

    B (1/n + 1/m),   B = tr S + 1/2 sum_ij kappa_ij / (lambda_i + lambda_j),   kappa_ij = E y_i^2 y_j^2 - delta_ij lambda_i^2

in the eigenbasis of S; for two laws the same with the optimal transport map between them (``Side``). It is taken off.
Unusual: no matrix square root is taken. With S1 = A^T A and S2 = B^T B the last term is the sum of the singular values
of A B^T: exact where features are dead or samples are fewer than features, where others add a constant to S.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from .estimate import Estimate

WELL = 1e-3  # smallest over largest entry of a Cholesky factor's diagonal: below it the factor comes from a QR
FEW, MANY = 4, 50  # rows for each feature: the fewest that are measured, and enough for the second order alone
ROWS = 100  # rows that the variance at the null is estimated from, by all pairs of them
TINY = 1e-12  # eigenvalues below this share of the largest one belong to dead directions


@dataclass(frozen=True)
class Moments:
    """n, mean (d,), centred rows (n, d), factor (r, d) with factor^T factor = the covariance (divided by n - 1)."""

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
        return Moments(len(x), mean, centred, torch.linalg.qr(centred / math.sqrt(len(x) - 1), mode="r").R)
    return Moments(len(x), mean, centred, factor.T)


def by_chance(n: int) -> Tensor:
    """The rows 0 .. n - 1 in an order that has nothing to do with theirs: where labels come in turn every second row has half of
    the labels. The same for the same n."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(n))


def plug_in(p: Moments, q: Moments) -> float:
    """FD of the two sets' own means and covariances, squared feature units: biased upwards."""
    cross = torch.linalg.svdvals(p.factor @ q.factor.T).sum()
    return float((p.mean - q.mean).square().sum() + p.factor.square().sum() + q.factor.square().sum() - 2 * cross)


@dataclass(frozen=True)
class Side:
    """What the draw of one set does to FD, to second order.

    slope   influence of each row on FD, (n,)
    bias    that n draws add to FD, times n
    rows    (at most ROWS, .): the noise of single rows in mean and covariance, in units in which FD is a squared length
    """

    slope: Tensor
    bias: float
    rows: Tensor

    @staticmethod
    def of(p: Moments, q: Moments) -> "Side":
        """The side of p. With A B^T = U s V^T the optimal map to q is T = R R^T, R = A^-1 U s^(1/2), and R^T S1 R = s.

            slope      2 (mu1 - mu2)^T y + y^T (I - T) y,  y = x - mu1
            curvature  |noise of mu1|^2 + 1/2 sum_kl F_kl^2 / (s_k + s_l),  F = R^T (noise of S1) R

        since the map's own change D solves D s + s D = -F. Directions in which either set is dead have neither.
        """
        u, s, _ = torch.linalg.svd(p.factor @ q.factor.T, full_matrices=False)
        alive = s > TINY * s.max()
        u, s = u[:, alive], s[alive]
        moved = p.centred @ (torch.linalg.pinv(p.factor, rtol=1e-6) @ u) * s.sqrt()  # R^T y, (n, r)
        squares, sums = moved.square(), s[:, None] + s
        slope = 2 * p.centred @ (p.mean - q.mean) + p.centred.square().sum(1) - squares.sum(1)
        kappa = squares.T @ squares / p.n - s.square().diag()
        few = by_chance(p.n)[:ROWS]
        outer = (moved[few, :, None] * moved[few, None, :] - s.diag()) / (2 * sums).sqrt()  # (rows, r, r)
        rows = torch.cat([p.centred[few], outer.flatten(1)], 1)
        return Side(slope, float(p.factor.square().sum() + 0.5 * (kappa / sums).sum()), rows)


def noise(p: Moments, q: Moments) -> tuple[float, float, float]:
    """Of the plug-in FD: its bias, its variance by the delta method, and the variance that is left where FD is flat.

    The last is that of a squared length |mean of rows|^2: 2 E (w_i w_j)^2 / n^2 over different rows (Hoeffding 1948).
    """
    one, other = Side.of(p, q), Side.of(q, p)
    n, m = p.n, q.n
    delta = float(one.slope.var()) / n + float(other.slope.var()) / m
    same = lambda w: ((w @ w.T).square().sum() - w.square().sum(1).square().sum()) / (len(w) * (len(w) - 1))
    flat = same(one.rows) / n**2 + same(other.rows) / m**2
    if one.rows.shape[1] == other.rows.shape[1]:
        flat = flat + 2 * (one.rows @ other.rows.T).square().mean() / (n * m)
    return one.bias / n + other.bias / m, delta, 2 * float(flat)


def noise_floor(y: Tensor, n: int, m: int) -> float:
    """FD that n and m draws of the law of y (N, d) have on average, though their distance is 0: B (1/n + 1/m)."""
    q = moments(y, "the reference")
    return Side.of(q, q).bias * (1 / n + 1 / m)


def frechet(x: Tensor, y: Tensor) -> Estimate:
    """Debiased Fréchet distance of samples x (n, d) from a reference y (m, d), squared feature units.

    raw is what others print. The standard error is the delta method's, and where the laws nearly agree, so that FD has
    no slope, the spread that it has there. Below 50 rows for each feature the next order of the bias is taken off too,
    found from halves. Raises UsageError (rows of different length, fewer than 4 for each feature), DataError (not
    finite, or a reference without any spread).
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UsageError(f"features of samples {tuple(x.shape)} and reference {tuple(y.shape)} do not go together: both need (n, d) with the same d")
    d = x.shape[1]
    for rows, what in ((len(x), "samples"), (len(y), "reference examples")):
        if rows < (fewest := max(FEW * d, 10)):
            raise UsageError(f"{rows:,} {what} are too few for a Fréchet distance of {d} features: {fewest:,} or more are needed")
    p, q = moments(x), moments(y, "the reference")
    if not float(q.factor.abs().max()) > 0:
        raise DataError("all reference examples have the same features: there is nothing to measure against")
    raw = plug_in(p, q)
    bias, delta, flat = noise(p, q)
    value, slope = raw - bias, max(delta - 2 * flat, 0.0)  # the noise in the moments that slope is taken at adds 2 flat
    if min(len(x), len(y)) < MANY * d:  # what is left of the bias falls as 1 / n^2: halves have four times as much
        first, second = by_chance(len(x)), by_chance(len(y))
        halves = [(moments(x[first[i::2]]), moments(y[second[i::2]])) for i in (0, 1)]
        value -= (sum(plug_in(*half) - noise(*half)[0] for half in halves) / 2 - value) / 3
    return Estimate(value, math.sqrt(slope + flat), score_interval(value, slope, flat), null=0.0, raw=raw, n=p.n, m=q.n)


def score_interval(value: float, slope: float, flat: float, z: float = 1.959963985) -> tuple[float, float]:
    """All theta with |value - theta| <= z sqrt(slope theta / value + flat): near 0 a distance varies as its own root.

    Like Wilson's for a share, longer to the right than to the left, where a low estimate comes with a low error.
    """
    s = slope / max(value, math.sqrt(flat), 1e-300)
    middle, half = value + z * z * s / 2, z * math.sqrt(z * z * s * s / 4 + max(s * value, 0.0) + flat)
    return middle - half, middle + half


def gaussian_frechet(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """FD of two Gaussians, means (d,), covariances (d, d) positive semi-definite."""

    def root(cov):
        values, vectors = torch.linalg.eigh(cov)
        return values.clamp(min=0).sqrt()[:, None] * vectors.T

    cross = torch.linalg.svdvals(root(cov1) @ root(cov2).T).sum()
    return float((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross)
