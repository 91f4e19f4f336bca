"""From noise to data along a path (probability/path.py): stateless functions of a denoiser, a start and the times to visit.

    denoise(x_t, t) -> (x_hat, eps_hat)    both (B, *shape), t 0-d: what x_t is made of, as the network sees it

``times`` (n,) fall from the noisiest to the last before the data; the last step goes to alpha = 1, sigma = 0. After each
step on_step(i, x, x_hat) is called. All of them move x_t = alpha x_hat + sigma eps_hat from one (alpha, sigma) to another.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..core.rng import Rng
from .path import RHO, SIGMA, Path

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def spaced(path: Path, n: int, spacing: str = "rho") -> Tensor:
    """n times, falling. "time": equal steps of t from 1; "rho": of (sigma / alpha)^(1/7) from 80 (Karras et al. 2022, eq. 5)."""
    if spacing == "time":
        return torch.linspace(1, 0, n + 1, dtype=torch.float64)[:-1]
    low, high = (end ** (1 / RHO) for end in SIGMA)
    return path.at(torch.linspace(high, low, n, dtype=torch.float64) ** RHO)


def places(path: Path, times: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(alpha, sigma) at each of the times, and that of the data."""
    alpha, sigma = path.coefficients(times)
    return [*zip(alpha, sigma), (alpha.new_ones(()), alpha.new_zeros(()))]


def euler(denoise: Denoise, x: Tensor, path: Path, times: Tensor, on_step=None) -> Tensor:
    """Straight on with what the denoiser sees now. Of the probability flow on every path the same: DDIM (Song et al. 2021,
    arXiv:2010.02502, eq. 12 with sigma = 0). One evaluation a step."""
    at = places(path, times)
    for i, t in enumerate(times):
        x_hat, eps_hat = denoise(x, t)
        x = x + (at[i + 1][0] - at[i][0]) * x_hat + (at[i + 1][1] - at[i][1]) * eps_hat
        if on_step:
            on_step(i, x, x_hat)
    return x


def heun(denoise: Denoise, x: Tensor, path: Path, times: Tensor, on_step=None) -> Tensor:
    """The trapezoid of both ends of a step: second order, two evaluations a step, one in the last (Karras et al. 2022, alg. 1)."""
    at = places(path, times)
    for i, t in enumerate(times):
        d_alpha, d_sigma = at[i + 1][0] - at[i][0], at[i + 1][1] - at[i][1]
        x_hat, eps_hat = denoise(x, t)
        if i + 1 < len(times):
            x_end, eps_end = denoise(x + d_alpha * x_hat + d_sigma * eps_hat, times[i + 1])
            x_hat, eps_hat = (x_hat + x_end) / 2, (eps_hat + eps_end) / 2
        x = x + d_alpha * x_hat + d_sigma * eps_hat
        if on_step:
            on_step(i, x, x_hat)
    return x


def dpm(denoise: Denoise, x: Tensor, path: Path, times: Tensor, on_step=None) -> Tensor:
    """DPM-Solver++ 2M (Lu et al. 2022, arXiv:2211.01095, algorithm 2): exact in x_t, linear in x_hat over lambda = log alpha / sigma,
    extrapolated from the last two. Second order, one evaluation a step."""
    at, before, h_before = places(path, times), None, None
    for i, t in enumerate(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = at[i], at[i + 1]
        x_hat, _ = denoise(x, t)
        h = (alpha_s / sigma_s).log() - (alpha_t / sigma_t).log()
        ratio = h_before / h if before is not None else h.new_tensor(torch.inf)
        usable = bool(torch.isfinite(h) & torch.isfinite(ratio))                    # not from pure noise, nor to the data
        D = x_hat + (x_hat - before) / (2 * ratio) if usable else x_hat
        x = sigma_s / sigma_t * x + (alpha_s - sigma_s / sigma_t * alpha_t) * D
        before, h_before = x_hat, h
        if on_step:
            on_step(i, x, x_hat)
    return x


def ancestral(denoise: Denoise, x: Tensor, path: Path, times: Tensor, rng: Rng, eta: float = 1.0, on_step=None) -> Tensor:
    """New noise at each step: eta = 1 draws from q(x_s | x_t, x_hat), DDPM's sampler (Ho et al. 2020, eqs. 6 and 7); 0 is ``euler``."""
    at = places(path, times)
    for i, t in enumerate(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = at[i], at[i + 1]
        x_hat, eps_hat = denoise(x, t)
        left = 1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2                   # of the noise at t, what is not yet there at s
        fresh = eta * sigma_s * left.clamp(min=0).sqrt()
        x = alpha_s * x_hat + (sigma_s**2 - fresh**2).clamp(min=0).sqrt() * eps_hat
        if i + 1 < len(times):
            x = x + fresh * rng.at("step", i).normal("eps", x.shape).to(x.dtype)
        if on_step:
            on_step(i, x, x_hat)
    return x
