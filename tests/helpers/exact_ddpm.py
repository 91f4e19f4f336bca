"""The variational bound of DDPM's steps (Ho et al. 2020), term by term, for denoisers that are exact.

The family bounds log p(x) in continuous time (probability/diffusion/bounds.py); the steps are what
its samplers and that bound are compared with.
"""

from typing import Literal

import torch
from torch import Tensor

from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.probability.diffusion.bounds import prior_nats
from fromnoise.probability.diffusion.path import Path
from fromnoise.probability.diffusion.samplers import (
    Denoise,
    alphas_and_sigmas,
    removed_noise_share,
)
from fromnoise.probability.gaussian import kl_normal, log_normal


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
