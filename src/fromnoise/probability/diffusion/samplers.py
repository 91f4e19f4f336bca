"""Samplers: from noise to data along a path (path.py), given a denoiser, a start and times.

    denoise(x_t, t) -> (x_hat, eps_hat)    (B, *shape) each, t () or (B,): x_t = alpha x_hat + sigma eps_hat

``times`` (n,) fall from the noisiest to the last one before the data; the last step goes to alpha = 1,
sigma = 0. After each step on_step(i, x, x_hat) is called. Guidance is no part of a sampler: ``guide``
makes one denoiser of two. dpm_with_known (dpm_with_known.py) is the sampler of denoisers with a part
in closed form.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...core.errors import UsageError
from ...core.rng import Rng
from .path import RATIOS, RHO, Path

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
FlowMap = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_t, t, r) -> x_r
Level = tuple[Tensor, Tensor]  # alpha, sigma
NO_RNG = Rng(0)  # where nothing is drawn


def time_grid(
    path: Path, n: int, spacing: str = "rho", low: float = RATIOS[0], high: float = RATIOS[1]
) -> Tensor:
    """n >= 1 different times (n,), falling, within the path's range.

    spacing   "time": equal steps of t down to the data; "rho": of (sigma / alpha)^(1/7) (Karras et
              al. 2022, eq. 5); "log": of log(sigma / alpha)
    low, high the ends of sigma / alpha for "rho" and "log"
    """
    if spacing == "time":
        last, first = path.range
        return torch.linspace(first, max(last, first / n), n, dtype=torch.float64)
    if spacing == "log":
        logs = torch.linspace(math.log(high), math.log(low), n, dtype=torch.float64)
        return path.at(logs.exp()).clamp(*path.range)
    last, first = (end ** (1 / RHO) for end in (low, high))
    return path.at(torch.linspace(first, last, n, dtype=torch.float64) ** RHO).clamp(*path.range)


def initial_state(path: Path, eps: Tensor, t: Tensor) -> Tensor:
    """Noise at t from eps ~ N(0, I), with the variance of x_t for data of variance 1."""
    alpha, sigma = path.coefficients(t)
    return torch.hypot(alpha, sigma) * eps


def alphas_and_sigmas(path: Path, times: Tensor) -> list[Level]:
    """(alpha, sigma) at each time, then those of the data. Raises UsageError unless the times fall."""
    if not len(times) or not bool((times.diff() < 0).all()):
        raise UsageError("a sampler needs one time or more, each below the one before it")
    alpha, sigma = path.coefficients(times)
    return [*zip(alpha, sigma), (alpha.new_ones(()), alpha.new_zeros(()))]


def removed_noise_share(at_t: Level, at_s: Level) -> Tensor:
    """1 - (r_s / r_t)^2, r = sigma / alpha: the share of the noise variance at t that a step to s
    removes.
    """
    alpha_t, sigma_t = at_t
    alpha_s, sigma_s = at_s
    return 1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2


def ddim(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    times: Tensor,
    eta: float = 0.0,
    rng: Rng = NO_RNG,
    on_step=None,
) -> Tensor:
    """DDIM (Song et al. 2021, arXiv:2010.02502, eq. 12): one evaluation a step.

    eta   share of new noise, which needs an rng. 0: an Euler step of the probability flow; 1: draws
          from q(x_s | x_t, x_hat), the sampler of DDPM (Ho et al. 2020, eqs. 6 and 7)
    """
    levels = alphas_and_sigmas(path, times)
    for i, t in enumerate(times):
        alpha_s, sigma_s = levels[i + 1]
        x_hat, eps_hat = denoise(x, t)
        fresh = eta * sigma_s * removed_noise_share(levels[i], levels[i + 1]).sqrt()  # eq. 16
        x = alpha_s * x_hat + (sigma_s**2 - fresh**2).sqrt() * eps_hat
        if eta and i + 1 < len(times):
            x = x + fresh * rng.at("step", i).normal("eps", x.shape).to(x.dtype)
        if on_step:
            on_step(i, x, x_hat)
    return x


def heun(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    times: Tensor,
    rng: Rng = NO_RNG,
    churn: float = 0.0,
    on_step=None,
) -> Tensor:
    """Heun's method (Karras et al. 2022, algorithm 2): order 2, two evaluations a step, one in the last.

    churn   S_churn, which needs an rng: noise is added before a step, min(churn / n, sqrt 2 - 1) of
            its ratio, never above the first time's
    """
    levels = alphas_and_sigmas(path, times)
    ratios = path.ratio(times)
    for i, t in enumerate(times):
        alpha, sigma = levels[i]
        ratio = ratios[i]
        gamma = min(churn / len(times), math.sqrt(2) - 1, float(ratios[0] / ratio) - 1)
        if gamma > 0:
            t = path.at((1 + gamma) * ratio)
            alpha_before = alpha
            alpha, sigma = path.coefficients(t)
            noise = rng.at("churn", i).normal("eps", x.shape).to(x.dtype)
            added = alpha * ratio * math.sqrt((1 + gamma) ** 2 - 1) * noise
            x = alpha / alpha_before * x + added
        d_alpha = levels[i + 1][0] - alpha
        d_sigma = levels[i + 1][1] - sigma
        x_hat, eps_hat = denoise(x, t)
        if i + 1 < len(times):
            x_end, eps_end = denoise(x + d_alpha * x_hat + d_sigma * eps_hat, times[i + 1])
            x_hat = (x_hat + x_end) / 2
            eps_hat = (eps_hat + eps_end) / 2
        x = x + d_alpha * x_hat + d_sigma * eps_hat
        if on_step:
            on_step(i, x, x_hat)
    return x


def dpm(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    times: Tensor,
    noise: bool = False,
    rng: Rng = NO_RNG,
    on_step=None,
) -> Tensor:
    """DPM-Solver++ 2M (Lu et al. 2022, arXiv:2211.01095, algorithm 2): order 2, one evaluation a step.

    It is exact in x_t, and x_hat is linear in lambda = log(alpha / sigma), extrapolated from the last
    two steps. The last step, to lambda = infinity, is Euler's.

    noise   solves the reverse SDE instead of the flow (SDE-DPM-Solver++ 2M, same paper), which needs
            an rng: new noise in each step, so that later steps correct errors of earlier ones.
            Without extrapolation it is the sampler of DDPM
    """
    levels = alphas_and_sigmas(path, times)
    x_hat_before = None
    h_before = None
    for i, t in enumerate(times):
        alpha_t, sigma_t = levels[i]
        alpha_s, sigma_s = levels[i + 1]
        x_hat, _ = denoise(x, t)
        h = (alpha_s / sigma_s).log() - (alpha_t / sigma_t).log()
        D = x_hat
        if x_hat_before is not None and i + 1 < len(times):
            D = x_hat + h / (2 * h_before) * (x_hat - x_hat_before)
        kept = (alpha_t * sigma_s / (alpha_s * sigma_t)) if noise else 1.0  # e^-h
        x = kept * sigma_s / sigma_t * x + (alpha_s - kept * sigma_s / sigma_t * alpha_t) * D
        if noise and i + 1 < len(times):
            eps = rng.at("step", i).normal("eps", x.shape).to(x.dtype)
            x = x + sigma_s * removed_noise_share(levels[i], levels[i + 1]).sqrt() * eps
        x_hat_before = x_hat
        h_before = h
        if on_step:
            on_step(i, x, x_hat)
    return x


def flow_map(leap: FlowMap, x: Tensor, times: Tensor, on_step=None) -> Tensor:
    """A flow map from each time to the next and from the last to the data: one evaluation a step.

    Steps may have any length (Geng et al. 2025, "MeanFlow", arXiv:2505.13447, algorithm 2).
    on_step gets x_r, and the data that leap predicts from x_t.
    """
    end = torch.zeros_like(times[0])
    for i, t in enumerate(times):
        is_last = i + 1 == len(times)
        x_hat = leap(x, t, end) if on_step and not is_last else None
        x = leap(x, t, end if is_last else times[i + 1])
        if on_step:
            on_step(i, x, x if x_hat is None else x_hat)
    return x


def guide(
    strong: Denoise,
    weak: Denoise,
    path: Path,
    weight: float,
    above: float = 0.0,
    below: float = math.inf,
) -> Denoise:
    """weak + weight (strong - weak) where sigma / alpha lies in [above, below], elsewhere strong; t is 0-d.

    weak without the label is classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, eq. 6,
    weight = 1 + w there); a worse model of the same data: autoguidance (Karras et al. 2024,
    arXiv:2406.02507, eq. 3); with bounds: guidance in an interval (Kynkaanniemi et al. 2024,
    arXiv:2404.07724, eq. 4). Weight 1 is ``strong``.
    """
    if not above < below:
        raise UsageError(
            f"guidance acts from a lower noise level to a higher one, "
            f"not from {above:g} to {below:g}: swap them"
        )
    if weight == 1:
        return strong

    def denoise(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        x_hat, eps_hat = strong(x_t, t)
        if not above <= float(path.ratio(t)) <= below:
            return x_hat, eps_hat
        x_weak, eps_weak = weak(x_t, t)
        return torch.lerp(x_weak, x_hat, weight), torch.lerp(eps_weak, eps_hat, weight)

    return denoise
