"""Means and covariances of features, as factors without a matrix square root."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from .estimate import NoSpreadError

# smallest over largest entry of a Cholesky factor's diagonal: below it the factor comes from a QR
WELL = 1e-3
ROUNDING = 1e-12  # of the features' size: rows that differ by less are equal
TINY = 1e-12  # eigenvalues below this share of the largest one belong to dead directions


@dataclass(frozen=True)
class Moments:
    """Of n rows: mean (d,), centred rows (n, d), factor (r, d).

    factor^T factor is the covariance (divided by n - 1).
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


def influence(p: Moments, q: Moments) -> Tensor:
    """Influence of each row of p on FD, (n,), to first order.

    It is corrected for the row's own part in the moments that it is taken at:

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
    """Mean FD of n and m draws from the law of y (N, d), whose distance is 0: B (1/n + 1/m)."""
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
