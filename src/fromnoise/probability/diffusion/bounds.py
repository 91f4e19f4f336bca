"""Bounds of log p(x) from a denoiser: a variational bound in continuous time, and the probability flow.

Denoisers and paths are those of samplers.py; data have variance 1, noise levels cover the path's
range. The variational bound holds for any denoiser. The flow defines another model than the
bound, and no theorem says which of the two likelihoods is higher.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...core.rng import Rng
from ..gaussian import kl_normal
from .ode import Drift
from .path import RATIOS, Path
from .samplers import Denoise

LOG_LOW, LOG_HIGH = (math.log(ratio) for ratio in RATIOS)


def prior_nats(x: Tensor, path: Path, t: Tensor) -> Tensor:
    """KL(q(x_t | x) || N(0, alpha^2 + sigma^2)) (B,), nats: what x_t still contains of x (B,
    *shape).
    """
    alpha, sigma = path.coefficients(t)
    log_size = 2 * torch.hypot(alpha, sigma).log()
    return kl_normal(alpha * x, 2 * sigma.log(), 0.0, log_size).flatten(1).sum(1)


def variational_bound(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    log_decode: Callable[[Tensor, Tensor, float], Tensor],
    rng: Rng,
    levels: int,
    lowest: float = RATIOS[0],
) -> Tensor:
    """A lower bound of log p(x), x (B, *shape) -> (B,) nats, on average over rng.

    Kingma et al. 2021 (arXiv:2107.00630), eqs. 11 and 17:

        KL(q(x_T | x) || N) + 1/2 int e^lambda |x - x_hat|^2 d lambda - E log p(x | x_lowest)

    with lambda = log alpha^2 / sigma^2; the integral is that of |eps - eps_hat|^2 over log r,
    r = sigma / alpha. It is estimated at ``levels`` ratios for each example, one in each part of
    equal probability of log r / (1 + r): few where hardly anything of x is left.

    log_decode(x, x_hat, std)  log p(x | x_t) of each component at the lowest ratio, where
                               approximately x = x_hat + std eps
    """
    first, last = (math.log(r / (1 + r)) for r in (lowest, RATIOS[1]))
    u = rng.uniform("levels", (len(x), levels)).to(x.dtype)
    low, high = path.at(torch.tensor([lowest, RATIOS[1]], dtype=torch.float64)).clamp(0, 1)
    nats = prior_nats(x, path, high)
    for j in range(levels):
        odds = torch.exp(first + (last - first) * (u[:, j] + j) / levels)  # r / (1 + r), (B,)
        t = path.at(odds / (1 - odds)).clamp(*path.range)
        eps = rng.at("level", j).normal("eps", x.shape).to(x.dtype)
        _, eps_hat = denoise(path.mix(x, eps, t), t)
        squared_error = (eps - eps_hat).square().flatten(1).sum(1)
        nats = nats + (last - first) / levels / (1 - odds) * squared_error
    x_hat, _ = denoise(path.mix(x, rng.normal("eps", x.shape).to(x.dtype), low), low)
    return log_decode(x, x_hat, lowest).flatten(1).sum(1) - nats


def log_level(
    x: Tensor, mean: Tensor, std: float, half: Tensor, lowest: Tensor, highest: Tensor
) -> Tensor:
    """log of the mass of N(mean, std^2) within ``half`` of x, nats, same shape as x.

    The lowest and the highest level include the tails (Ho et al. 2020, eq. 13).
    """
    upper = (x + half - mean) / std
    lower = (x - half - mean) / std
    flip = (upper + lower) > 0  # the lower tail keeps all digits
    top = torch.special.log_ndtr(torch.where(flip, -lower, upper))
    bottom = torch.special.log_ndtr(torch.where(flip, -upper, lower))
    inside = top + torch.log(-torch.expm1(bottom - top))
    below = torch.special.log_ndtr((x + half - mean) / std)
    above = torch.special.log_ndtr((mean + half - x) / std)
    return torch.where(x <= lowest + half, below, torch.where(x >= highest - half, above, inside))


def probability_flow(denoise: Denoise, path: Path) -> tuple[Drift, float, float]:
    """The flow of y = x_t / sqrt(alpha^2 + sigma^2) over log r, r = sigma / alpha, and the ends of log r.

    With tan phi = r it is the same on every path: y = cos phi x + sin phi eps and
    d phi / d log r = sin phi cos phi. Each scale of the data takes a similar part of log r, so
    equal steps suit all of them.
    """

    def drift(y: Tensor, log_ratio: float) -> Tensor:
        phi = math.atan(math.exp(log_ratio))
        t = path.at(torch.tensor(math.exp(log_ratio), dtype=torch.float64)).clamp(*path.range)
        alpha, sigma = path.coefficients(t)
        x_hat, eps_hat = denoise(torch.hypot(alpha, sigma) * y, t)
        return math.sin(phi) * math.cos(phi) * (math.cos(phi) * eps_hat - math.sin(phi) * x_hat)

    return drift, LOG_LOW, LOG_HIGH
