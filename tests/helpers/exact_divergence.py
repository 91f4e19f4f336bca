"""The optimal discriminator and the value of the GAN game in closed form, on a grid of one dimension.

log_p, log_q: (N,) log densities of data and model at the grid points x (N,), ascending; sums are trapezoids.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fromnoise.core.errors import UsageError


def optimal_log_odds(log_p: Tensor, log_q: Tensor) -> Tensor:
    """log D*(x) / (1 - D*(x)): the output before the sigmoid of the best discriminator (Goodfellow et al. 2014, eq. 2)."""
    return log_p - log_q


def gan_value(log_p: Tensor, log_q: Tensor, x: Tensor) -> float:
    """V(D*, G) = E_p log D* + E_q log(1 - D*) in nats; 2 JSD - ln 4 by their theorem 1. Raises UsageError."""
    logits = optimal_log_odds(log_p, log_q)
    return _mean(F.logsigmoid(logits), log_p, x) + _mean(F.logsigmoid(-logits), log_q, x)


def jensen_shannon(log_p: Tensor, log_q: Tensor, x: Tensor) -> float:
    """JSD = 1/2 KL(p || m) + 1/2 KL(q || m) with m = (p + q) / 2, in nats, 0 to ln 2. Raises UsageError."""
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * _mean(log_p - log_m, log_p, x) + 0.5 * _mean(log_q - log_m, log_q, x)


def _mean(values: Tensor, log_density: Tensor, x: Tensor) -> float:
    density = log_density.exp()
    mass = float(torch.trapezoid(density, x))
    if not abs(mass - 1) < 1e-6:
        raise UsageError(
            f"the grid holds a mass of {mass:.6g} instead of 1: make it wider or finer, or normalise the density"
        )
    return float(torch.trapezoid(density * values, x))
