"""Numbers on a grid, as columns of a table are: each value is a cell, and a model gives a cell a probability.

    P(x) = Phi((upper - mu) / s) - Phi((lower - mu) / s),  lower, upper = x -+ width / 2

The two end cells are open, since what a model makes is clipped to the range of the data before it is written. So the
probabilities of all cells sum to one, and none exceeds one, however narrow the model is.
"""

import math

import torch
from torch import Tensor

from ..core.rng import Rng
from ..core.spec import DataSpec
from .gaussian import LOG_2PI

FAR = 1e4  # standard deviations: beyond it there is nothing, and derivatives stay finite
OPEN = 1e9  # where an open cell ends, in the units of x: finite, since 0 times infinity is no derivative
NARROW = (
    1e-2  # standard deviations: narrower cells have the density at their middle times their width
)
DRAWS_AT_ONCE = 2**19  # of latent numbers, rows times components times draws
BEST = 8  # components of a mixture that get more than one draw


def to_float64(x: Tensor) -> Tensor:
    """float64, or float32 on a device that has no float64."""
    return x.float() if x.device.type == "mps" else x.double()


class Cells:
    """Which components of a vector are cells, and where these end, in the units of x: (D,) tensors on the CPU.

    width: 0 for a continuous component.
    """

    def __init__(self, spec: DataSpec):
        cells = spec.cells or ((0.0, 0.0, 0.0),) * spec.dims
        self.width, self.low, self.high = torch.tensor(cells, dtype=torch.float64).unbind(1)
        self.is_cell = self.width > 0

    def edges(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Lower edge, upper edge and width of the cell of each component of x (..., D), float64; +-OPEN at the two ends."""
        x = to_float64(x)
        width, low, high = (part.to(x) for part in (self.width, self.low, self.high))
        first, last = x <= low + width / 4, x >= high - width / 4
        lower = torch.where(first, -OPEN, x - width / 2)
        upper = torch.where(last, OPEN, x + width / 2)
        return lower, upper, torch.where(first | last, OPEN, width)

    def log_mass(self, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        """log of the mass of N(mean, exp(logvar)) in the cells of x, (B, D) float64 nats; no meaning where width is 0."""
        lower, upper, width = self.edges(x)
        inverse = (-0.5 * to_float64(logvar)).exp()
        return log_mass((lower - mean) * inverse, (upper - mean) * inverse, width * inverse)

    def noise(self, x: Tensor, rng: Rng) -> Tensor:
        """x (B, D) with uniform noise within each cell; continuous components as they are."""
        return x + (rng.uniform("dequantise", x.shape) - 0.5) * self.width.to(x)

    def log_volume(self) -> float:
        """log of the volume of one cell of all gridded components, nats: what makes a density a bound of a probability."""
        return float(self.width[self.is_cell].log().sum())


def log_mass(lower: Tensor, upper: Tensor, width: Tensor) -> Tensor:
    """log(Phi(upper) - Phi(lower)), nats; width: upper - lower, of narrow cells with more digits than the difference has.

    Edges may be infinite; derivatives are finite where edges are. In float64 it has six digits or more.
    """
    lower, upper = lower.clamp(-FAR, FAR), upper.clamp(-FAR, FAR)
    narrow = width < NARROW
    flip = lower + upper > 0  # in the lower tail no digits are lost
    below, above = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    below = torch.where(narrow, above - 1, below)  # not used, but its derivative is finite
    top, bottom = torch.special.log_ndtr(above), torch.special.log_ndtr(below)
    wide = top + torch.log(-torch.expm1(bottom - top).clamp(max=-1e-30))
    middle = 0.5 * (lower + upper)
    density = -0.5 * (LOG_2PI + middle.square()) + width.clamp(min=1e-30).log()
    return torch.where(narrow, density, wide).clamp(max=0.0)


def truncated_normal_quantile(lower: Tensor, upper: Tensor, u: Tensor) -> Tensor:
    """The u-quantile of N(0, 1) between two edges, u in [0, 1), float64. Edges may be infinite."""
    flip = lower > 0  # to the tail where digits are
    below, above = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    start, end = torch.special.ndtr(below), torch.special.ndtr(above)
    z = torch.special.ndtri(start + torch.where(flip, 1 - u, u) * (end - start))
    z = torch.where(flip, -z, z)
    return torch.minimum(torch.maximum(z, lower.clamp(min=-FAR)), upper.clamp(max=FAR))


def log_gaussian_cells(x: Tensor, cells: Cells, mean: Tensor, factor: Tensor, u: Tensor) -> Tensor:
    """log of R unbiased estimates of what Gaussians give the cells of x (..., D): (..., R) nats, float64.

    mean (..., D), factor (..., D, D) lower triangular, u (..., R, D) uniform; leading dimensions broadcast. Components
    are sorted, continuous ones before cells. Continuous components give a density. Each cell is conditioned on those
    before it, at a place drawn within them ("GHK": Geweke 1991; Hajivassiliou & McFadden 1998). With one cell or none
    the value is exact, for any u.
    """
    lead, (R, D) = torch.broadcast_shapes(x.shape[:-1], mean.shape[:-1], u.shape[:-2]), u.shape[-2:]
    lower, upper, width = cells.edges(x)
    z = mean.new_zeros((*lead, R, D))
    log_p = mean.new_zeros((*lead, R))
    for i in range(D):
        scale = factor[..., i, i, None]
        centre = mean[..., i, None] + (z[..., :i] * factor[..., None, i, :i]).sum(-1)
        if not cells.is_cell[i]:
            z[..., i] = (x[..., i, None] - centre) / scale
            log_p = log_p - 0.5 * (LOG_2PI + z[..., i].square()) - scale.log()
            continue
        a, b = (lower[..., i, None] - centre) / scale, (upper[..., i, None] - centre) / scale
        log_p = log_p + log_mass(a, b, width[..., i, None] / scale)
        if i + 1 < D:
            z[..., i] = truncated_normal_quantile(a, b, u[..., i])
    return log_p


def sorted_cells(cells: Cells) -> tuple[Tensor, Cells]:
    """The order (D,) that puts continuous components first, and the cells in that order."""
    order = torch.argsort(cells.is_cell.to(torch.int8), stable=True)
    done = object.__new__(Cells)
    done.width, done.low, done.high, done.is_cell = (
        part[order] for part in (cells.width, cells.low, cells.high, cells.is_cell)
    )
    return order, done


def log_mixture_cells(
    x: Tensor,
    cells: Cells,
    log_weights: Tensor,
    means: Tensor,
    covariances: Tensor,
    rng: Rng,
    k: int = 1,
) -> Tensor:
    """log of an unbiased or too small estimate of the probability that a Gaussian mixture gives rows x (B, D), (B,) nats.

    log_weights (K,), means (K, D), covariances (K, D, D). On average at most log P, and nearer with more draws k: the
    ``BEST`` components of a row by a first draw get k draws of their own, the others keep the first one. A component that
    seems small by the first draw keeps that low estimate, which can only lower the sum. Exact where one component or
    none is a cell.
    """
    order, cells = sorted_cells(cells)
    x, log_weights, means, covariances = (
        to_float64(part) for part in (x, log_weights, means, covariances)
    )
    used = log_weights > -math.inf
    x, log_weights, means = x[:, order], log_weights[used], means[used][:, order]
    factors = cholesky(covariances[used][:, order][:, :, order])
    K, D = means.shape
    first = rng.uniform("cell, first draw", (len(x), 1, D)).to(x)
    exact = k == 1 or int(cells.is_cell.sum()) < 2
    more = None if exact else rng.uniform("cell", (len(x), k, D)).to(x)
    best, done = min(K, BEST), []
    size = max(1, DRAWS_AT_ONCE // max(K * D, best * k * D))
    for rows in torch.arange(len(x), device=x.device).split(size):
        here = x[rows, None]
        logs = (
            log_gaussian_cells(here, cells, means, factors, first[rows, None])[..., 0] + log_weights
        )  # b K
        if not exact:
            which = logs.topk(best, 1).indices  # b J
            again = log_gaussian_cells(
                here, cells, means[which], factors[which], more[rows, None]
            )  # b J k
            logs = logs.scatter(1, which, again.logsumexp(2) - math.log(k) + log_weights[which])
        done.append(logs.logsumexp(1))
    return torch.cat(done)


def cholesky(covariances: Tensor) -> Tensor:
    """Lower factors (K, D, D); what rounding made indefinite gets as much more variance as it takes."""
    scale = covariances.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-300)[:, None, None]
    eye = torch.eye(covariances.shape[1], dtype=covariances.dtype, device=covariances.device)
    extra = 0.0
    while True:
        factors, bad = torch.linalg.cholesky_ex(covariances + extra * scale * eye)
        if not bool(bad.any()) or extra > 1:
            return factors
        extra = max(1e-12, 10 * extra)
