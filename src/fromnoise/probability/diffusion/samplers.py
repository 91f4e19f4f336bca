"""From noise to data along a path (probability/diffusion/path.py): stateless functions of a denoiser, a start and the times to visit.

    denoise(x_t, t) -> (x_hat, eps_hat)    both (B, *shape), t () or (B,): what x_t = alpha x_hat + sigma eps_hat is made of

``times`` (n,) fall from the noisiest to the last before the data; the last step goes to alpha = 1, sigma = 0. After each
step on_step(i, x, x_hat) is called. All of them move x_t from one (alpha, sigma) to another. Nothing here is an option of a
network: ``guide`` makes one denoiser of two.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ...core.errors import UsageError
from ...core.rng import Rng
from .gaussian_data import GaussianData
from .path import RATIOS, RHO, Path

Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
REACH = 0.8  # of log r, over which the slope of a network's correction is extrapolated in full: four long steps overshoot
FlowMap = Callable[[Tensor, Tensor, Tensor], Tensor]


def time_grid(
    path: Path, n: int, spacing: str = "rho", low: float = RATIOS[0], high: float = RATIOS[1]
) -> Tensor:
    """n >= 1 times, falling, none twice, all in the path's range. "time": equal steps of t down to the data; "rho": of
    (sigma / alpha)^(1/7) (Karras et al. 2022, eq. 5); "log": of log(sigma / alpha). low, high: the ends of the last two."""
    if spacing == "time":
        last, first = path.range
        return torch.linspace(first, max(last, first / n), n, dtype=torch.float64)
    if spacing == "log":
        return path.at(
            torch.linspace(math.log(high), math.log(low), n, dtype=torch.float64).exp()
        ).clamp(*path.range)
    last, first = (end ** (1 / RHO) for end in (low, high))
    return path.at(torch.linspace(first, last, n, dtype=torch.float64) ** RHO).clamp(*path.range)


def initial_state(path: Path, eps: Tensor, t: Tensor) -> Tensor:
    """x_t of which nothing is known, with the variance that data of variance 1 have there, from eps ~ N(0, I)."""
    alpha, sigma = path.coefficients(t)
    return torch.hypot(alpha, sigma) * eps


def alphas_and_sigmas(path: Path, times: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(alpha, sigma) at each of the times, and that of the data. Raises UsageError unless the times fall."""
    if not len(times) or not bool((times.diff() < 0).all()):
        raise UsageError("a sampler needs one time or more, each below the one before it")
    alpha, sigma = path.coefficients(times)
    return [*zip(alpha, sigma), (alpha.new_ones(()), alpha.new_zeros(()))]


def ddim(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    times: Tensor,
    eta: float = 0.0,
    rng: Rng | None = None,
    on_step=None,
) -> Tensor:
    """x_s of what the denoiser sees in x_t (Song et al. 2021, arXiv:2010.02502, eq. 12). One evaluation a step.

    eta   share of new noise: 0 is a step of Euler's along the probability flow, whatever the path; 1 draws from
          q(x_s | x_t, x_hat), DDPM's sampler (Ho et al. 2020, eqs. 6 and 7). It takes an rng.
    """
    at = alphas_and_sigmas(path, times)
    for i, t in enumerate(times):
        (alpha_s, sigma_s), x_hat, eps_hat = at[i + 1], *denoise(x, t)
        fresh = eta * sigma_s * removed_noise_share(at[i], at[i + 1]).sqrt()  # eq. 16
        x = alpha_s * x_hat + (sigma_s**2 - fresh**2).sqrt() * eps_hat
        if eta and i + 1 < len(times):
            x = x + fresh * rng.at("step", i).normal("eps", x.shape).to(x.dtype)
        if on_step:
            on_step(i, x, x_hat)
    return x


def removed_noise_share(at_t: tuple[Tensor, Tensor], at_s: tuple[Tensor, Tensor]) -> Tensor:
    """1 - (r_s / r_t)^2, r = sigma / alpha: the share of the noise at t, as variance, that is not yet there at s < t."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = at_t, at_s
    return 1 - (alpha_t * sigma_s / (alpha_s * sigma_t)) ** 2


def heun(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    times: Tensor,
    rng: Rng | None = None,
    churn: float = 0.0,
    churn_from: float = 0.0,
    churn_to: float = math.inf,
    churn_noise: float = 1.0,
    on_step=None,
) -> Tensor:
    """The mean of both ends of a step: second order, two evaluations a step, one in the last (Karras et al. 2022, algorithm 2).

    churn   S_churn: before a step noise is added, min(churn / n, sqrt 2 - 1) of what is there but never above the first
            time's, where sigma / alpha lies in [churn_from, churn_to]; churn_noise: S_noise, its scale. It takes an rng.
    """
    at, ratios = alphas_and_sigmas(path, times), path.ratio(times)
    for i, t in enumerate(times):
        (alpha, sigma), ratio = at[i], ratios[i]
        more = (
            min(churn / len(times), math.sqrt(2) - 1, float(ratios[0] / ratio) - 1)
            if churn_from <= ratio <= churn_to
            else 0.0
        )
        if more > 0:
            t = path.at((1 + more) * ratio)
            (up, sigma), below = path.coefficients(t), alpha
            noise = churn_noise * rng.at("churn", i).normal("eps", x.shape).to(x.dtype)
            alpha, x = up, up / below * x + up * ratio * math.sqrt((1 + more) ** 2 - 1) * noise
        d_alpha, d_sigma = at[i + 1][0] - alpha, at[i + 1][1] - sigma
        x_hat, eps_hat = denoise(x, t)
        if i + 1 < len(times):
            x_end, eps_end = denoise(x + d_alpha * x_hat + d_sigma * eps_hat, times[i + 1])
            x_hat, eps_hat = (x_hat + x_end) / 2, (eps_hat + eps_end) / 2
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
    rng: Rng | None = None,
    on_step=None,
) -> Tensor:
    """DPM-Solver++ 2M (Lu et al. 2022, arXiv:2211.01095, algorithm 2): exact in x_t, linear in x_hat over lambda = log alpha / sigma,
    extrapolated from the last two. Second order, one evaluation a step; the last, to lambda = infinity, is Euler's.

    noise   solves the reverse SDE instead of the flow, exact in the same things (SDE-DPM-Solver++ 2M, the same paper):
            new noise in each step, by which later ones mend what earlier ones got wrong. Where x_hat is not extrapolated it is
            DDPM's sampler. It takes an rng.
    """
    at, before, h_before = alphas_and_sigmas(path, times), None, None
    for i, t in enumerate(times):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = at[i], at[i + 1]
        x_hat, _ = denoise(x, t)
        h = (alpha_s / sigma_s).log() - (alpha_t / sigma_t).log()
        D = (
            x_hat
            if before is None
            else x_hat + h / (2 * h_before) * (x_hat - before)
            if i + 1 < len(times)
            else x_hat
        )
        kept = (alpha_t * sigma_s / (alpha_s * sigma_t)) if noise else 1.0  # e^-h
        x = kept * sigma_s / sigma_t * x + (alpha_s - kept * sigma_s / sigma_t * alpha_t) * D
        if noise and i + 1 < len(times):
            x = x + sigma_s * removed_noise_share(at[i], at[i + 1]).sqrt() * rng.at("step", i).normal(
                "eps", x.shape
            ).to(x.dtype)
        before, h_before = x_hat, h
        if on_step:
            on_step(i, x, x_hat)
    return x


def dpm_with_known(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    times: Tensor,
    known: GaussianData,
    condition: Tensor | None = None,
    on_step=None,
) -> Tensor:
    """DPM-Solver++ 2M that evaluates a known part of the denoiser as often as it likes (a Gaussian or a mixture, fitted to the data).

    Between two evaluations of the network, of which there is one a step, only the network's correction of the known denoiser
    is extrapolated from the last two, over log r; with less of its slope where the steps are longer than REACH. The known denoiser is evaluated in each of ``known.substeps`` substeps. With
    y = x_t / alpha, r = sigma / alpha, and along each principal component of the data, of variance s and mean m,

        w = (y - m) / sqrt(s + r^2),  theta = atan(r / sqrt(s)),  dw / dtheta = -n,
        n = (x_hat - m - s / (s + r^2) (y - m)) sqrt(s + r^2) / (r sqrt(s))

    n vanishes for Gaussian data: no error is made there, however few the steps. Else it is extrapolated from the last
    two substeps (Adams-Bashforth of order 2). In the directions outside of the basis this is DPM-Solver++ 2M.
    condition: the classes that ``known`` denoises for, one-hot rows (B, classes).
    """
    at = alphas_and_sigmas(path, times)
    ratios = path.ratio(times)
    mean = known.centre(x)
    s = known.variances.double()
    along, outside = known.split(x / at[0][0].to(x.dtype) - mean)
    before = None  # of the last step: r, correction, x_hat outside
    substep_before = None  # of the last substep: r, n
    for i, t in enumerate(times):
        r, alpha = ratios[i], at[i][0].to(x.dtype)
        x_hat, _ = denoise((mean + outside + known.join(along, x.shape)) * alpha, t)
        along_hat, outside_hat = known.split(x_hat - mean)
        if i + 1 == len(times):
            # Outside of the basis x_hat is taken. Along it, what the Gaussian has of less than this noise remains.
            gain = (s / (s + r**2)).sqrt() - s / (s + r**2)
            x = x_hat + known.join(gain.to(x.dtype) * along, x.shape)
            if on_step:
                on_step(i, x, x_hat)
            return x
        r_next = ratios[i + 1]
        correction = along_hat - known.denoise_along(along, r, condition)
        # The change of both with log r, from the last step to this one.
        h = None if before is None else (before[0] / r).log()
        trust = 0.0 if h is None else min(1.0, (REACH / float(h)) ** 2)
        correction_slope = 0.0 if before is None else trust * (correction - before[1]) / float(h)
        outside_slope = 0.0 if before is None else (outside_hat - before[2]) / float(h)
        for a, b in pairwise(
            torch.linspace(
                float(r.log()), float(r_next.log()), known.substeps + 1, dtype=torch.float64
            ).exp()
        ):
            hat = (
                known.denoise_along(along, a, condition)
                + correction
                + float((r / a).log()) * correction_slope
            )
            n = ((s + a**2).sqrt() / (a * s.sqrt())).to(x.dtype) * (
                hat - (s / (s + a**2)).to(x.dtype) * along
            )
            slope = n
            if substep_before is not None:
                a_before, n_before = substep_before
                slope = n + (angle_between(s, a, b) / (2 * angle_between(s, a_before, a))).to(x.dtype) * (
                    n - n_before
                )
            along = ((s + b**2) / (s + a**2)).sqrt().to(x.dtype) * along + (
                (s + b**2).sqrt() * angle_between(s, a, b)
            ).to(x.dtype) * slope
            substep_before = (a, n)
        D = outside_hat + float((r / r_next).log()) / 2 * outside_slope
        outside = float(r_next / r) * outside + float(1 - r_next / r) * D
        before = (r, correction, outside_hat)
        if on_step:
            on_step(
                i, (mean + outside + known.join(along, x.shape)) * at[i + 1][0].to(x.dtype), x_hat
            )
    raise AssertionError("places() refuses an empty list of times")


def angle_between(s: Tensor, r: Tensor, r_next: Tensor) -> Tensor:
    """atan(r / sqrt(s)) - atan(r_next / sqrt(s)): the angle of a step for data of variance s."""
    return torch.atan2((r - r_next) * s.sqrt(), s + r * r_next)


def guide(
    strong: Denoise,
    weak: Denoise,
    path: Path,
    weight: float,
    above: float = 0.0,
    below: float = math.inf,
) -> Denoise:
    """weak + weight (strong - weak) where sigma / alpha lies in [above, below], elsewhere strong alone.

    weak without the label: classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598, eq. 6, weight = 1 + w there);
    a worse model of the same data: autoguidance (Karras et al. 2024, arXiv:2406.02507, eq. 3); with bounds: guidance in
    an interval (Kynkaanniemi et al. 2024, arXiv:2404.07724, eq. 4). Weight 1 is ``strong``. t is 0-d.
    """
    if not above < below:
        raise UsageError(
            f"guidance acts from a lower noise level to a higher one, not from {above:g} to {below:g}: swap them"
        )
    if weight == 1:
        return strong

    def denoise(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        seen = strong(x_t, t)
        if not above <= float(path.ratio(t)) <= below:
            return seen
        return tuple(torch.lerp(other, own, weight) for other, own in zip(weak(x_t, t), seen))

    return denoise


def flow_map(leap: FlowMap, x: Tensor, times: Tensor, on_step=None) -> Tensor:
    """By a flow map, leap(x_t, t, r) -> x_r, from each of the times to the next and from the last to the data: one evaluation a
    jump, of any length (Geng et al. 2025, "MeanFlow", arXiv:2505.13447, algorithm 2). on_step gets x_r, and where it leads."""
    end = torch.zeros_like(times[0])
    for i, t in enumerate(times):
        r = times[i + 1] if i + 1 < len(times) else end
        seen = leap(x, t, end) if on_step and i + 1 < len(times) else None
        x = leap(x, t, r)
        if on_step:
            on_step(i, x, x if seen is None else seen)
    return x
