"""Probabilities of numbers on a grid, such as the columns of a table: each value is a cell.

    P(x) = Phi((upper - mu) / s) - Phi((lower - mu) / s),  lower, upper = x -+ width / 2

The two end cells are open, since samples are clipped to the range of the data before they are
written. So the probabilities of all cells sum to one, and none exceeds one, however narrow the
model's density is.
"""

import copy
import math

import torch
from torch import Tensor

from ..core.rng import Rng
from ..core.spec import DataSpec
from .gaussian import LOG_2PI

FAR = 1e4  # standard deviations: edges are clamped here, so that derivatives stay finite
OPEN = 1e9  # edge of an open cell, in units of x: finite, since 0 x infinity is no derivative
NARROW = 1e-2  # standard deviations: mass of narrower cells = density at the middle x width
DRAWS_AT_ONCE = 2**19  # latent numbers held at once: rows x components x draws
REFINED_COMPONENTS = 8  # components of a mixture, for each row, that get more than one draw


def to_float64(x: Tensor) -> Tensor:
    """float64, or float32 on a device that has no float64."""
    return x.float() if x.device.type == "mps" else x.double()


class Cells:
    """Cells of the components of a vector: tensors width, low and high (D,) on the CPU, in units of x.

    low and high are the middles of the two end cells. Continuous components have width 0.
    """

    def __init__(self, spec: DataSpec):
        cells = spec.cells or ((0.0, 0.0, 0.0),) * spec.dims
        self.width, self.low, self.high = torch.tensor(cells, dtype=torch.float64).unbind(1)
        self.is_cell = self.width > 0

    def permuted(self, order: Tensor) -> "Cells":
        """The cells with their components in the given order (D,)."""
        result = copy.copy(self)
        for name, values in vars(self).items():
            setattr(result, name, values[order])
        return result

    def edges(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Lower edge, upper edge and width of the cells of x (..., D), float64; +-OPEN at the ends."""
        x = to_float64(x)
        width, low, high = (part.to(x) for part in (self.width, self.low, self.high))
        is_first = x <= low + width / 4
        is_last = x >= high - width / 4
        lower = torch.where(is_first, -OPEN, x - width / 2)
        upper = torch.where(is_last, OPEN, x + width / 2)
        return lower, upper, torch.where(is_first | is_last, OPEN, width)

    def log_mass(self, x: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        """log of the mass of N(mean, exp(logvar)) in the cells of x, (B, D) float64 nats.

        Values of continuous components (width 0) have no meaning.
        """
        lower, upper, width = self.edges(x)
        inverse = (-0.5 * to_float64(logvar)).exp()
        return log_mass((lower - mean) * inverse, (upper - mean) * inverse, width * inverse)

    def noise(self, x: Tensor, rng: Rng) -> Tensor:
        """x (B, D) plus uniform noise within each cell; continuous components are unchanged."""
        return x + (rng.uniform("dequantise", x.shape) - 0.5) * self.width.to(x)

    def log_volume(self) -> float:
        """log of the volume of a cell of all gridded components, nats.

        Added to a log density of x + noise it gives a lower bound of a log probability.
        """
        return float(self.width[self.is_cell].log().sum())


def log_mass(lower: Tensor, upper: Tensor, width: Tensor) -> Tensor:
    """log(Phi(upper) - Phi(lower)), nats, to six digits or more in float64.

    width is upper - lower, given apart since the difference loses digits where cells are narrow.
    Edges may be infinite; derivatives are finite where edges are.
    """
    lower = lower.clamp(-FAR, FAR)
    upper = upper.clamp(-FAR, FAR)
    narrow = width < NARROW
    flip = lower + upper > 0  # the lower tail keeps all digits
    below = torch.where(flip, -upper, lower)
    above = torch.where(flip, -lower, upper)
    below = torch.where(narrow, above - 1, below)  # not used, but its derivative is finite
    top = torch.special.log_ndtr(above)
    bottom = torch.special.log_ndtr(below)
    wide = top + torch.log(-torch.expm1(bottom - top).clamp(max=-1e-30))
    middle = 0.5 * (lower + upper)
    density = -0.5 * (LOG_2PI + middle.square()) + width.clamp(min=1e-30).log()
    return torch.where(narrow, density, wide).clamp(max=0.0)


def truncated_normal_quantile(lower: Tensor, upper: Tensor, u: Tensor) -> Tensor:
    """The u-quantile of N(0, 1) between two edges, u in [0, 1), float64. Edges may be infinite."""
    flip = lower > 0  # the lower tail keeps all digits
    below = torch.where(flip, -upper, lower)
    above = torch.where(flip, -lower, upper)
    start = torch.special.ndtr(below)
    end = torch.special.ndtr(above)
    z = torch.special.ndtri(start + torch.where(flip, 1 - u, u) * (end - start))
    z = torch.where(flip, -z, z)
    return torch.minimum(torch.maximum(z, lower.clamp(min=-FAR)), upper.clamp(max=FAR))


def log_gaussian_cells(x: Tensor, cells: Cells, mean: Tensor, factor: Tensor, u: Tensor) -> Tensor:
    """log of R unbiased estimates of the probability of x (..., D) under Gaussians, (..., R) nats.

    mean (..., D), factor (..., D, D) lower triangular, u (..., R, D) uniform; leading dimensions
    broadcast; float64. Continuous components come before cells and contribute a density. Each cell
    is conditioned on the components before it, at points drawn within their cells (the GHK
    simulator: Geweke 1991; Hajivassiliou & McFadden 1998). With at most one cell the value is
    exact, for any u.
    """
    lead = torch.broadcast_shapes(x.shape[:-1], mean.shape[:-1], u.shape[:-2])
    R, D = u.shape[-2:]
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
        a = (lower[..., i, None] - centre) / scale
        b = (upper[..., i, None] - centre) / scale
        log_p = log_p + log_mass(a, b, width[..., i, None] / scale)
        if i + 1 < D:
            z[..., i] = truncated_normal_quantile(a, b, u[..., i])
    return log_p


def log_mixture_cells(
    x: Tensor,
    cells: Cells,
    log_weights: Tensor,
    means: Tensor,
    covariances: Tensor,
    rng: Rng,
    k: int = 1,
) -> Tensor:
    """log probabilities of rows x (B, D) under a Gaussian mixture, (B,) nats; on average at most log P.

    log_weights (K,), means (K, D), covariances (K, D, D). Every component gets one draw. With k > 1
    the components of a row that are largest by that draw get k further draws, which tightens the
    estimate; the others keep the first one, which can only lower the sum. Exact if at most one
    component of x is a cell.
    """
    order = torch.argsort(cells.is_cell.to(torch.int8), stable=True)  # continuous ones first
    cells = cells.permuted(order)
    used = log_weights > -math.inf
    x = to_float64(x)[:, order]
    log_weights = to_float64(log_weights)[used]
    means = to_float64(means)[used][:, order]
    factors = cholesky(to_float64(covariances)[used][:, order][:, :, order])
    K, D = means.shape
    u_first = rng.uniform("cell, first draw", (len(x), 1, D)).to(x)
    exact = k == 1 or int(cells.is_cell.sum()) < 2
    u = None if exact else rng.uniform("cell", (len(x), k, D)).to(x)
    refined = min(K, REFINED_COMPONENTS)
    size = max(1, DRAWS_AT_ONCE // max(K * D, refined * k * D))
    result = []
    for rows in torch.arange(len(x), device=x.device).split(size):
        part = x[rows, None]
        first = log_gaussian_cells(part, cells, means, factors, u_first[rows, None])  # b K 1
        logs = first[..., 0] + log_weights  # b K
        if not exact:
            top = logs.topk(refined, 1).indices  # b J
            more = log_gaussian_cells(part, cells, means[top], factors[top], u[rows, None])  # b J k
            logs = logs.scatter(1, top, more.logsumexp(2) - math.log(k) + log_weights[top])
        result.append(logs.logsumexp(1))
    return torch.cat(result)


def cholesky(covariances: Tensor) -> Tensor:
    """Lower factors (K, D, D). If rounding made a matrix indefinite, variance is added to all."""
    scale = covariances.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-300)[:, None, None]
    eye = torch.eye(covariances.shape[1], dtype=covariances.dtype, device=covariances.device)
    extra = 0.0
    while True:
        factors, errors = torch.linalg.cholesky_ex(covariances + extra * scale * eye)
        if not bool(errors.any()) or extra > 1:
            return factors
        extra = max(1e-12, 10 * extra)
