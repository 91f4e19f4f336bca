"""What a denoiser says of log p(x): the variational bounds of a diffusion model, in steps and in continuous time, and its flow.

    x_t = alpha_t x + sigma_t eps,  -log p(x) <= KL(q(x_T | x) || N) + sum of what each step down costs - E log p(x | x_first)

Denoisers and paths are those of probability/diffusion/samplers.py; data have variance 1, levels go through the path's range. Bounds
hold for any denoiser, however bad. The flow is another model than the steps, and no theorem orders the two.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from ...core.errors import UsageError
from ...core.rng import Rng
from ..gaussian import kl_normal, log_normal
from .ode import Drift
from .path import RATIOS, Path
from .samplers import Denoise, removed_noise_share, alphas_and_sigmas

LOG_LOW, LOG_HIGH = (math.log(ratio) for ratio in RATIOS)

# -- in steps ------------------------------------------------------------------------------------------------


def ddpm_schedule(T: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """alpha_t^2 = prod (1 - beta), beta from first to last in T equal steps, (T,) float64: that of Ho et al. 2020, made for
    T = 1000, whose limit is the path ``linear``. Raises UsageError."""
    if not (T >= 2 and 0 < first <= last < 1):
        raise UsageError(
            f"a schedule needs T >= 2 and 0 < first <= last < 1, not T = {T}, first = {first}, last = {last}"
        )
    return (1 - torch.linspace(first, last, T, dtype=torch.float64)).cumprod(0)


def posterior(
    x_t: Tensor, x: Tensor, at_t: tuple[Tensor, Tensor], at_s: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x), s < t, from (alpha, sigma) at t and at s (Ho et al. 2020, eqs. 6 and 7, for any path)."""
    gone, (alpha_t, sigma_t), (alpha_s, sigma_s) = removed_noise_share(at_t, at_s), at_t, at_s
    return gone * alpha_s * x + alpha_t / alpha_s * (
        sigma_s / sigma_t
    ) ** 2 * x_t, gone * sigma_s**2


def step_variances(
    path: Path,
    times: Tensor,
    kind: Literal["optimal", "beta", "posterior"],
    mse: Tensor | None = None,
) -> Tensor:
    """Variance of p(x_s | x_t) in each step down, (n,) as the times; the last is that of x itself.

    beta        of q(x_t | x_s), right for x ~ N(0, I) (Ho et al. 2020, section 3.2)
    posterior   of q(x_s | x_t, x), right where x is one point; 0 in the last step, which takes the value of the one before
    optimal     E (x_s - mean)^2 from the mean squared error (n,) of the denoiser's eps_hat, a component's: no other
                number makes the bound tighter (Bao et al. 2022, arXiv:2201.06503, theorem 1)
    """
    alpha, sigma = path.coefficients(times)
    alpha_s, sigma_s = (
        torch.cat([alpha[1:], alpha.new_ones(1)]),
        torch.cat([sigma[1:], sigma.new_zeros(1)]),
    )
    gone = removed_noise_share((alpha, sigma), (alpha_s, sigma_s))
    if kind == "beta":
        return sigma**2 * gone
    variance = gone * sigma_s**2
    if kind == "posterior":
        if len(times) < 2:
            raise UsageError(
                "the posterior's variance needs two steps or more: the last one takes that of the one before"
            )
        return torch.cat([variance[:-1], variance[-2:-1]])
    if mse is None:
        raise UsageError(
            "the optimal variance needs the denoiser's mean squared error at each step: give mse"
        )
    return variance + (gone * alpha_s * sigma / alpha) ** 2 * mse


def step_bound(
    denoise: Denoise, x: Tensor, path: Path, times: Tensor, variances: Tensor, rng: Rng
) -> Tensor:
    """All terms of the bound of the n steps of DDPM's sampler (Ho et al. 2020, eq. 5), x (B, *shape) -> (B, n + 1) nats: first
    KL(q(x_T | x) || N(0, I alpha_T^2 + I sigma_T^2)), then KL(q(x_s | x_t, x) || p(x_s | x_t)) of each step, last -log p(x | x_t),
    for continuous x. Their sum is at least -log p(x), on average over rng."""
    at = alphas_and_sigmas(path, times)
    terms = [prior_nats(x, path, times[0])]
    for i, t in enumerate(times):
        x_t = path.mix(x, rng.at("step", i).normal("eps", x.shape).to(x.dtype), t)
        mu, _ = posterior(x_t, denoise(x_t, t)[0], at[i], at[i + 1])
        mean, variance = posterior(x_t, x, at[i], at[i + 1])
        logvar = variances[i].log()
        nats = (
            kl_normal(mean, variance.log(), mu, logvar)
            if i + 1 < len(times)
            else -log_normal(x, mu, logvar)
        )
        terms.append(nats.flatten(1).sum(1))
    return torch.stack(terms, 1)


def prior_nats(x: Tensor, path: Path, t: Tensor) -> Tensor:
    """KL(q(x_t | x) || N(0, alpha^2 + sigma^2)), (B,) nats: what is still seen of x (B, *shape) where sampling starts."""
    alpha, sigma = path.coefficients(t)
    log_size = 2 * torch.hypot(alpha, sigma).log()
    return kl_normal(alpha * x, 2 * sigma.log(), 0.0, log_size).flatten(1).sum(1)


# -- in continuous time --------------------------------------------------------------------------------------


def bound(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    log_decode: Callable[[Tensor, Tensor, float], Tensor],
    rng: Rng,
    levels: int,
    lowest: float = RATIOS[0],
) -> Tensor:
    """A lower bound of log p(x), x (B, *shape) -> (B,) nats, on average over rng (Kingma et al. 2021, arXiv:2107.00630, eqs. 11 and 17).

    log_decode(x, x_hat, std): log p(x | x_t) of each component at the lowest ratio of noise, where x = x_hat + std eps, about.
    The steps between cost 1/2 int e^lambda |x - x_hat|^2 d lambda, lambda = log alpha^2 / sigma^2: an integral of
    |eps - eps_hat|^2 over log ratio. It is estimated at ``levels`` ratios for each example, one in each part of equal
    probability of log r / (1 + r): few of them where next to nothing is left to be seen.
    """
    first, last = (math.log(r / (1 + r)) for r in (lowest, RATIOS[1]))
    u, low, high = (
        rng.uniform("levels", (len(x), levels)).to(x.dtype),
        *path.at(torch.tensor([lowest, RATIOS[1]], dtype=torch.float64)).clamp(0, 1),
    )
    nats = prior_nats(x, path, high)
    for j in range(levels):
        odds = torch.exp(first + (last - first) * (u[:, j] + j) / levels)  # r / (1 + r), (B,)
        t, eps = (
            path.at(odds / (1 - odds)).clamp(*path.range),
            rng.at("level", j).normal("eps", x.shape).to(x.dtype),
        )
        _, eps_hat = denoise(path.mix(x, eps, t), t)
        nats = nats + (last - first) / levels / (1 - odds) * (eps - eps_hat).square().flatten(
            1
        ).sum(1)
    x_hat, _ = denoise(path.mix(x, rng.normal("eps", x.shape).to(x.dtype), low), low)
    return log_decode(x, x_hat, lowest).flatten(1).sum(1) - nats


def log_level(
    x: Tensor, mean: Tensor, std: float, half: Tensor, lowest: Tensor, highest: Tensor
) -> Tensor:
    """log of the mass of N(mean, std^2) within ``half`` of x, nats, same shape as x; the end levels take the tails (Ho et al. 2020, eq. 13)."""
    upper, lower = (x + half - mean) / std, (x - half - mean) / std
    flip = (upper + lower) > 0  # in the lower tail no digits are lost
    upper, lower = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    top, bottom = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    inside = top + torch.log(-torch.expm1(bottom - top))
    below, above = (
        torch.special.log_ndtr((x + half - mean) / std),
        torch.special.log_ndtr((mean + half - x) / std),
    )
    return torch.where(x <= lowest + half, below, torch.where(x >= highest - half, above, inside))


def probability_flow(denoise: Denoise, path: Path) -> tuple[Drift, float, float]:
    """The flow of y = x_t / sqrt(alpha^2 + sigma^2) over log ratio, and the two ends of that clock: on every path the same.

    With the angle phi between data and noise, y = cos phi x + sin phi eps, d phi / d log ratio = sin phi cos phi: each scale
    of the data has its own unit of time, and equal steps do for all of them.
    """

    def drift(y: Tensor, log_ratio: float) -> Tensor:
        phi = math.atan(math.exp(log_ratio))
        t = path.at(torch.tensor(math.exp(log_ratio), dtype=torch.float64)).clamp(*path.range)
        alpha, sigma = path.coefficients(t)
        x_hat, eps_hat = denoise(torch.hypot(alpha, sigma) * y, t)
        return math.sin(phi) * math.cos(phi) * (math.cos(phi) * eps_hat - math.sin(phi) * x_hat)

    return drift, LOG_LOW, LOG_HIGH
