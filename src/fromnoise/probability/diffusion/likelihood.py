"""log p(x) of a diffusion model, in the units of the data: a variational bound, and the flow's.

u = (x - shift) / scale has variance 1: bounds.py and ode.py work with u.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.rng import Rng
from ..cells import Cells
from ..gaussian import log_normal
from .bounds import log_level, probability_flow
from .ode import EXACT_TRACE_DIMS, TRACE_PROBES, OdeLikelihood, ode_log_likelihood
from .path import RATIOS, Path
from .samplers import Denoise


@dataclass(frozen=True)
class Decoder:
    """p(x | u_hat) with u ~ N(u_hat, std^2): a probability of components with levels or cells, a
    density of the others. x (B, *shape) are the data; levels 0 and cells None: there are none.
    """

    x: Tensor
    shift: Tensor
    scale: Tensor
    levels: int
    cells: Cells | None

    def log_p(self, u: Tensor, u_hat: Tensor, std: float) -> Tensor:
        """log p(x | u_hat) of each component, (B, *shape) nats."""
        if self.levels:
            half_level = 1 / ((self.levels - 1) * self.scale)
            lowest = (-1 - self.shift) / self.scale
            highest = (1 - self.shift) / self.scale
            return log_level(u, u_hat, std, half_level, lowest, highest)
        log_density = log_normal(u, u_hat, 2 * math.log(std)) - self.scale.log()
        if self.cells is None:
            return log_density
        mean = u_hat * self.scale + self.shift
        logvar = 2 * (std * self.scale).log().expand_as(mean)
        log_mass = self.cells.log_mass(self.x, mean, logvar).to(log_density)
        return torch.where(self.cells.is_cell.to(self.x.device), log_mass, log_density)

    @property
    def lowest_ratio(self) -> float:
        """The ratio of noise to data at which the bound hands over to this decoder.

        Any ratio gives a bound. Below half a level the network would have to know that there are
        levels; where they are few, the decoder's rounding knows them already.
        """
        half = 0 * self.scale
        if self.levels:
            half = 1 / ((self.levels - 1) * self.scale)
        if self.cells is not None and bool(self.cells.is_cell.all()):
            half = self.cells.width.min().to(self.scale) / (2 * self.scale)
        return max(RATIOS[0], min(float(half), 0.1))


def flow_log_likelihood(
    denoise: Denoise,
    path: Path,
    x: Tensor,
    shift: Tensor,
    scale: Tensor,
    rng: Rng,
    probes: int | None = None,
    steps: int = 16,
    most: int = 128,
) -> OdeLikelihood:
    """log p(x) (B,) nats along the probability flow, which ends at the lowest ratio of noise.

    probes: for the trace; 0: exact, as many products as dimensions [0 up to 16 dimensions, then 2].
    Raises UsageError if the error of the solver is above 0.01 bits for a dimension.
    """
    dims = x[0].numel()
    drift, low, high = probability_flow(denoise, path)
    if probes is None:
        probes = 0 if dims <= EXACT_TRACE_DIMS else TRACE_PROBES
    # At the lowest ratio u is taken for y / cos, where y = cos u + sin eps.
    cos = 1 / math.hypot(1, RATIOS[0])
    log_jacobian = dims * (math.log(cos) - float(scale.log()))

    def log_prior(y: Tensor) -> Tensor:
        return log_normal(y).double().flatten(1).sum(1) + log_jacobian

    return ode_log_likelihood(
        drift,
        cos * (x - shift) / scale,
        log_prior,
        low,
        high,
        steps,
        tolerance=0.01 * dims * math.log(2),
        most=most,
        probes=probes,
        rng=rng,
    )
