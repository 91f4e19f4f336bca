"""Fréchet distance between two sets of features, with its bias taken off and an interval that holds.

    FD = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)          (Dowson & Landau 1982; Heusel et al. 2017)

Means and covariances of samples make it too large, also for two sets of one law, by about B (1/n + 1/m) with

    B = tr S + 1/2 sum_ij kappa_ij / (lambda_i + lambda_j),   kappa_ij = E y_i^2 y_j^2 - delta_ij lambda_i^2

in the eigenbasis of S: the second-order Taylor term of FD in mean and covariance. Unusual: no matrix square root is
taken. With S1 = A^T A and S2 = B^T B the last term is the sum of the singular values of A B^T, which is exact where
features are dead or fewer samples than features were drawn, and where the usual way adds a constant to S.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from .estimate import Estimate, normal_interval

WELL = 1e-3  # smallest over largest entry of a Cholesky factor's diagonal: below it the factor comes from a QR
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


def plug_in(p: Moments, q: Moments) -> float:
    """FD of the two sets' own means and covariances, squared feature units: biased upwards."""
    cross = torch.linalg.svdvals(p.factor @ q.factor.T).sum()
    return float((p.mean - q.mean).square().sum() + p.factor.square().sum() + q.factor.square().sum() - 2 * cross)


def noise_constant(q: Moments) -> tuple[float, float]:
    """(B, V): over sets of n and m draws of this law FD has mean B (1/n + 1/m) and, nearly, variance V (1/n + 1/m)^2."""
    _, singular, directions = torch.linalg.svd(q.factor, full_matrices=False)
    alive = singular.square() > TINY * singular.square().max()
    values = singular.square()[alive]
    squares = (q.centred @ directions[alive].T).square()
    kappa = squares.T @ squares / q.n - values.square().diag()
    sums = values[:, None] + values
    share = kappa / sums
    B = values.sum() + 0.5 * share.sum()
    V = 2 * values.square().sum() + share.square().sum() - 0.5 * share.diagonal().square().sum()
    return float(B), float(V)


def influence(p: Moments, q: Moments) -> Tensor:
    """d FD / d law of p at each of its rows, (n,): 2 (mu1 - mu2)^T y + y^T (I - T) y, y = x - mu1, T the optimal map.

    T = A^-1 U s U^T A^-T for the singular value decomposition A B^T = U s V^T. Dead directions of p have no slope.
    """
    u, s, _ = torch.linalg.svd(p.factor @ q.factor.T, full_matrices=False)
    inverse = torch.linalg.pinv(p.factor, rtol=1e-6)  # A^-1 (d, r)
    moved = (p.centred @ (inverse @ u)) * s.sqrt()
    return 2 * p.centred @ (p.mean - q.mean) + p.centred.square().sum(1) - moved.square().sum(1)


def frechet(x: Tensor, y: Tensor) -> Estimate:
    """Debiased Fréchet distance of samples x (n, d) from a reference y (m, d), squared feature units.

    raw is what others print. The standard error is the delta method's, and where the laws nearly agree, so that FD has
    no slope, the spread that it has there. Raises UsageError (rows of different length, no more rows than features), DataError
    (not finite, or a reference without any spread).
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UsageError(f"features of samples {tuple(x.shape)} and reference {tuple(y.shape)} do not go together: both need (n, d) with the same d")
    d = x.shape[1]
    for rows, what in ((len(x), "samples"), (len(y), "reference examples")):
        if rows <= d + 1:
            raise UsageError(f"{rows:,} {what} are too few for a Fréchet distance of {d} features: {d + 2:,} or more are needed")
    p, q = moments(x), moments(y, "the reference")
    if not float(q.factor.abs().max()) > 0:
        raise DataError("all reference examples have the same features: there is nothing to measure against")
    raw = plug_in(p, q)
    B, V = noise_constant(q)
    scale = 1 / p.n + 1 / q.n
    slope = float(influence(p, q).var()) / p.n + float(influence(q, p).var()) / q.n
    V *= scale**2  # slope holds 2 V too much, from the noise in the moments that it is taken at, and misses V
    value, se = raw - B * scale, math.sqrt(max(slope - V, V))
    return Estimate(value, se, normal_interval(value, se), null=0.0, raw=raw, n=p.n, m=q.n)


def gaussian_frechet(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """FD of two Gaussians, means (d,), covariances (d, d) positive semi-definite."""

    def root(cov):
        values, vectors = torch.linalg.eigh(cov)
        return values.clamp(min=0).sqrt()[:, None] * vectors.T

    cross = torch.linalg.svdvals(root(cov1) @ root(cov2).T).sum()
    return float((mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross)
