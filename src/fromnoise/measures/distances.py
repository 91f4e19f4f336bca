"""Distances between two sets of feature vectors that assume no Gaussian: kernel and sliced
Wasserstein.

Both are, to first order, a mean over samples and a mean over reference features (their influences);
where the two laws agree these vanish and a sum over pairs is left. The standard errors hold in both
cases, and between.
"""

import math

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.rng import Rng
from .estimate import Estimate, normal_interval
from .frechet import FEW
from .intervals import score_interval
from .moments import refuse_equal

ENTRIES = 2**22  # numbers of a Gram matrix, or of projections, that are held at once


def checked(x: Tensor, y: Tensor, fewest: int = 10) -> tuple[Tensor, Tensor]:
    """Two sets of features (n, d), (m, d). Raises UsageError (shape, too few), DataError (not
    finite).
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise UsageError(
            f"features of samples {tuple(x.shape)} and reference {tuple(y.shape)} do not go "
            "together: both need (n, d) with the same d"
        )
    if min(len(x), len(y)) < fewest:
        raise UsageError(
            f"{len(x):,} samples and {len(y):,} reference examples are too few: {fewest} of each "
            "or more are needed"
        )
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise DataError("some features are not finite: nothing can be measured")
    return x, y


# -- kernels ---------------------------------------------------------------------------------------


def cubic(x: Tensor, y: Tensor) -> Tensor:
    """(x . y / d + 1)^3 (Binkowski et al. 2018, section 4)."""
    k = (x @ y.T).div_(x.shape[1]).add_(1)
    return k.square().mul_(k)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(n, d), (m, d) -> (n, m). Near 0 only to rounding: where that matters, memory.py computes
    them again.
    """
    return torch.addmm(
        x.square().sum(1, keepdim=True) + y.square().sum(1), x, y.T, alpha=-2
    ).clamp_(min=0)


def kernel_distance(x: Tensor, y: Tensor, trained_on_y: bool = False) -> Estimate:
    """Squared maximum mean discrepancy of samples x (n, d) and reference y (m, d) ("KID").

        mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{ij} k(x_i, y_j)

    over *all* pairs (Gretton et al. 2012, eq. 3). Free of bias, so that about half of the values
    are negative where the laws agree. Unusual: no random subsets, whose spread is most of what
    others print as +-; the error is that of the U-statistic itself.

    trained_on_y: the model that made x has seen y. Its samples then depend on y, which the formula
    takes to be independent: those of a model that has learned y by heart come out at -L, L = (mean
    of k(y_i, y_i) - mean of k(y_i, y_j)) / m, where a new draw of y would give +L. Where y has
    fewer than 4 rows for each feature, and where the interval would lie below 0 as a whole, its
    upper end is raised by 2 L, and a note says so.

    Raises UsageError (too few rows), DataError (not finite, or a reference without any spread).
    """
    x, y = checked(x, y)
    refuse_equal(y)
    n, m = len(x), len(y)
    xx, xx2 = _within(x)
    yy, yy2 = _within(y)
    xy, yx, xy2 = _between(x, y)
    linear = 4 * float((xx - xy).var() / n + (yy - yx).var() / m)
    between = xy2 - xy.square().mean() - yx.square().mean() + xy.mean().square()
    within = _centred_variance(xx, xx2) / (n * (n - 1)) + _centred_variance(yy, yy2) / (m * (m - 1))
    pairs = 2 * max(0.0, float(within + 2 * between / (n * m)))
    value = float(xx.mean() + yy.mean() - 2 * xy.mean())
    # the row means that ``linear`` is taken from err by as much as the pairs: 2 pairs too much
    slope = max(linear - 2 * pairs, 0.0)
    low, high = score_interval(value, slope, pairs)
    note = ""
    if trained_on_y and (m < FEW * x.shape[1] or high < 0):
        own = torch.cat([cubic(row[None], row[None])[0] for row in y]).mean()
        high += 2 * max(float(own - yy.mean()) / m, 0.0)
        note = (
            f"the interval is wider, as the model was trained on these {m:,} reference examples, "
            "which makes a distance to them too low"
        )
    return Estimate(value, math.sqrt(slope + pairs), (low, high), null=0.0, n=n, m=m, note=note)


def _centred_variance(k: Tensor, k2: Tensor) -> Tensor:
    """Variance of what is left of a kernel once its means over either argument are taken off.

    k: mean of k(x_i, .) over the other rows, (n,); k2: mean of the squares.
    """
    return k2 - 2 * k.square().mean() + k.mean().square()


def scaled_kernel_distance(x: Tensor, y: Tensor, most: int, trained_on_y: bool = False) -> Estimate:
    """``kernel_distance`` of the first ``most`` rows of x (n, d) and y (m, d), y's mean taken off,
    in units of its spread.

    The spread is one number for all features, so that the kernel is not blind to their scale.
    Raises what ``kernel_distance`` raises.
    """
    checked(x, y)
    refuse_equal(y)
    centre, spread = y.mean(0), y.var(0).mean().sqrt()
    return kernel_distance(
        (x[:most] - centre) / spread, (y[:most] - centre) / spread, trained_on_y=trained_on_y
    )


def _within(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the other rows of k(x_i, .), (n,), and the mean of k^2 over pairs; half of the
    symmetric matrix is computed.
    """
    n = len(x)
    sums, squares = x.new_zeros(n), x.new_zeros(())
    rows = max(1, ENTRIES // n)
    for i in range(0, n, rows):
        k = cubic(x[i : i + rows], x[i:]).triu_(1)
        sums[i : i + rows] += k.sum(1)
        sums[i:] += k.sum(0)
        squares += 2 * k.square_().sum()
    return sums / (n - 1), squares / (n * (n - 1))


def _between(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means of k(x_i, y_j) over j, (n,), and over i, (m,), and the mean of k^2."""
    n, m = len(x), len(y)
    over_y, over_x, squares = [], y.new_zeros(m), x.new_zeros(())
    for part in x.split(max(1, ENTRIES // m)):
        k = cubic(part, y)
        over_y.append(k.mean(1))
        over_x += k.sum(0)
        squares += k.square_().sum()
    return torch.cat(over_y), over_x / n, squares / (n * m)


# -- optimal transport -----------------------------------------------------------------------------
def sliced_wasserstein(x: Tensor, y: Tensor, rng: Rng, directions: int = 512) -> Estimate:
    """SW_2^2: the squared 2-Wasserstein distance along a direction, averaged over random ones
    (Bonneel et al. 2015, eq. 9).

    x (n, d), y (m, d), in squared feature units: |mu|^2 / d for a shift by mu. Exact in one
    dimension, also for n != m. value = raw - bias, where the bias is what two draws of n and m from
    the *reference* give (bootstrap, anew for each direction). se: over samples, by the optimal
    potentials, and over directions; somewhat large where the laws agree. Raises UsageError,
    DataError (not finite, or a reference without any spread).
    """
    x, y = checked(x, y)
    refuse_equal(y)
    (n, d), m = x.shape, len(y)
    axes = rng.normal("directions", (directions, d)).double()
    axes /= axes.norm(dim=1, keepdim=True)
    draw = rng.numpy("bootstrap")
    i, j, mass = _coupling(n, m)
    costs, null, influence_x, influence_y = [], [], x.new_zeros(n), y.new_zeros(m)
    for part in axes.split(max(1, ENTRIES // (n + m))):
        (a, a_order), (b, b_order) = (part @ x.T).sort(1), (part @ y.T).sort(1)
        costs.append((a[:, i] - b[:, j]).square() @ mass)
        influence_x.index_add_(0, a_order.flatten(), _potential(a, b[:, j], i, n * mass).flatten())
        influence_y.index_add_(0, b_order.flatten(), _potential(b, a[:, i], j, m * mass).flatten())

        def again(count, b=b):
            return b.gather(
                1, torch.from_numpy(draw.integers(m, size=(len(b), count))).sort(1).values
            )

        null.append((again(n)[:, i] - again(m)[:, j]).square() @ mass)
    costs, bias = torch.cat(costs), float(torch.cat(null).mean())
    sampling = float(influence_x.var() / n + influence_y.var() / m) / directions**2
    raw, over_directions = (
        float(costs.mean()),
        float(costs.var() / directions) if directions > 1 and d > 1 else 0.0,
    )
    value, se = raw - bias, math.sqrt(sampling + over_directions)
    return Estimate(value, se, normal_interval(value, se), null=0.0, raw=raw, n=n, m=m)


def _coupling(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which of n and of m sorted points are coupled, and with what mass: i, j, mass, each (n + m -
    gcd(n, m),).
    """
    ends = torch.cat(
        [torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]
    ).unique()  # in units of 1 / (n m)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return starts // m, starts // n, (ends - starts).double() / (n * m)


def _potential(a: Tensor, b: Tensor, i: Tensor, share: Tensor) -> Tensor:
    """Kantorovich potential of W_2^2 at a (D, n), sorted: the influence of a point there
    (Santambrogio 2015, 7.2.2).

    Its slope is 2 (a - T a), where T a_i is the mean of those b (D, .) that are coupled to it, in
    ``share``s of 1.
    """
    half_slope = a - torch.zeros_like(a).index_add_(1, i, b * share)
    steps = (half_slope[:, 1:] + half_slope[:, :-1]) * a.diff()
    return torch.cat([torch.zeros_like(a[:, :1]), steps.cumsum(1)], 1)
