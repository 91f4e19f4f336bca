"""Distances between two sets of features that need no Gaussian: kernel and sliced Wasserstein."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.rng import Rng
from .estimate import Estimate, normal_interval

BLOCK = 2**24  # kernel values held at once


def checked(x: Tensor, y: Tensor, fewest: int = 10) -> tuple[Tensor, Tensor]:
    """Two sets of features (n, d), (m, d). Raises UsageError (shape, too few), DataError (not finite)."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UsageError(f"features of samples {tuple(x.shape)} and reference {tuple(y.shape)} do not go together: both need (n, d) with the same d")
    if min(len(x), len(y)) < fewest:
        raise UsageError(f"{len(x):,} samples and {len(y):,} reference examples are too few: {fewest} of each or more are needed")
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise DataError("some features are not finite: nothing can be measured")
    return x, y


def polynomial(a: Tensor, b: Tensor) -> Tensor:
    """(a . b / d + 1)^3 (Binkowski et al. 2018)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def rbf(h2: float) -> Callable[[Tensor, Tensor], Tensor]:
    """exp(-|a - b|^2 / 2 h^2)."""
    return lambda a, b: (-torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square() / (2 * h2)).exp()


def kernel_distance(x: Tensor, y: Tensor, kernel: Callable[[Tensor, Tensor], Tensor] = polynomial) -> Estimate:
    """Squared maximum mean discrepancy, the U-statistic over *all* pairs: no bias, no subsets, no random numbers.

        MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_ij k(x_i, y_j)    (Gretton et al. 2012, eq. 3)

    Slightly negative values are legal: "no difference found". The variance has the linear term, from the means of the
    kernel's rows, which vanishes where the laws agree, and the pair term that is left there (Hoeffding 1948).
    """
    x, y = checked(x, y)
    n, m = len(x), len(y)
    xx, xx2 = _rows(x, x, kernel)
    yy, yy2 = _rows(y, y, kernel)
    xy, xy2 = _rows(x, y, kernel)
    yx, _ = _rows(y, x, kernel)
    own = lambda a: torch.cat([kernel(part, part).diagonal() for part in a.split(256)])
    dx, dy = own(x), own(y)
    xx, yy = (xx - dx) / (n - 1), (yy - dy) / (m - 1)  # mean over the others
    xy, yx = xy / m, yx / n
    value = float(xx.mean() + yy.mean() - 2 * xy.mean())
    linear = 4 * (float((xx - xy).var()) / n + float((yy - yx).var()) / m)
    pairs = lambda total2, diagonal2, rows, count: max(0.0, float(total2 - diagonal2) / count - 2 * float(rows.square().mean()) + float(rows.mean()) ** 2)
    within_x = pairs(xx2, dx.square().sum(), xx, n * (n - 1))
    within_y = pairs(yy2, dy.square().sum(), yy, m * (m - 1))
    between = max(0.0, float(xy2) / (n * m) - float(xy.square().mean()) - float(yx.square().mean()) + float(xy.mean()) ** 2)
    pair = 2 * within_x / (n * (n - 1)) + 2 * within_y / (m * (m - 1)) + 4 * between / (n * m)
    se = math.sqrt(max(linear - 2 * pair, 0.0) + pair)
    return Estimate(value, se, normal_interval(value, se), null=0.0, n=n, m=m)


def _rows(a: Tensor, b: Tensor, kernel) -> tuple[Tensor, Tensor]:
    """Sums of the kernel over b for each of a, and the sum of all its squares."""
    sums, squares = [], torch.zeros((), dtype=torch.float64)
    for part in a.split(max(1, BLOCK // len(b))):
        K = kernel(part, b)
        sums.append(K.sum(1))
        squares += K.square().sum()
    return torch.cat(sums), squares


def sliced_wasserstein(x: Tensor, y: Tensor, rng: Rng, directions: int = 256) -> Estimate:
    """Mean over random unit directions of the squared 2-Wasserstein distance of the projections, squared feature units.

    A shift by mu gives |mu|^2 / d. In one dimension the distance is that of the quantile functions, also for sets of
    different size (Bonneel et al. 2015). ``null`` is what two sets of the reference's law of these sizes would give,
    from halves of the reference, scaled by 1/n + 1/m; it is not taken off. The standard error is over the draw of x
    and y, from the Kantorovich potentials, for the directions at hand: another model meets the same ones.
    """
    x, y = checked(x, y)
    axes = rng.normal("directions", (directions, x.shape[1])).double()
    axes = axes / axes.norm(dim=1, keepdim=True)
    a, b = axes @ x.T, axes @ y.T  # (L, n), (L, m)
    half = len(y) // 2
    halves = float(wasserstein_1d(b[:, :half], b[:, half : 2 * half]).mean())
    null = halves * (1 / len(x) + 1 / len(y)) / (2 / half)
    value = float(wasserstein_1d(a, b).mean())
    se = math.sqrt(float(potential_1d(a, b).mean(0).var()) / len(x) + float(potential_1d(b, a).mean(0).var()) / len(y) + (null / 2) ** 2)
    return Estimate(value, se, normal_interval(value, se), null=null, n=len(x), m=len(y))


def potential_1d(a: Tensor, b: Tensor) -> Tensor:
    """Kantorovich potential of W_2^2 at each of a (L, n), with slope 2 (a - T a), T the map onto b (L, m): (L, n).

    It is the influence of one point on the distance (Santambrogio 2015, proposition 7.17).
    """
    (L, n), m = a.shape, b.shape[1]
    values, order = a.sort(1)
    matched = b.sort(1).values[:, ((torch.arange(n) + 0.5) * (m / n)).long().clamp(max=m - 1)]
    slope = 2 * (values - matched)
    steps = 0.5 * (slope[:, 1:] + slope[:, :-1]) * values.diff(dim=1)
    potential = torch.cat([torch.zeros(L, 1, dtype=a.dtype), steps.cumsum(1)], 1)
    return torch.empty_like(a).scatter_(1, order, potential)


def wasserstein_1d(a: Tensor, b: Tensor) -> Tensor:
    """Squared 2-Wasserstein distances of the rows of a (L, n) from those of b (L, m), (L,)."""
    a, b = a.sort(1).values, b.sort(1).values
    n, m = a.shape[1], b.shape[1]
    if n == m:
        return (a - b).square().mean(1)
    # both quantile functions are constant between the points i/n and j/m
    edges = torch.cat([torch.arange(1, n + 1, dtype=torch.float64) / n, torch.arange(1, m + 1, dtype=torch.float64) / m]).unique()
    widths = edges.diff(prepend=torch.zeros(1, dtype=torch.float64))
    middle = edges - widths / 2
    at = lambda values, count: values[:, (middle * count).long().clamp(max=count - 1)]
    return ((at(a, n) - at(b, m)).square() * widths).sum(1)
