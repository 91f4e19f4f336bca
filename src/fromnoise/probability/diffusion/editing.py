"""Editing of a given x through a denoiser (samplers.py): keep parts of it, or map it to noise and back.

Known parts are built into the denoiser, and a start between data and noise is a shorter list of
times. So all samplers can edit.
"""

import torch
from torch import Tensor

from .path import Path, append_dims
from .samplers import Denoise, alphas_and_sigmas


def condition_on_known(denoise: Denoise, given: Tensor, known: Tensor, path: Path) -> Denoise:
    """A denoiser for x = given (B, *shape) where known (B, *shape) is True; data have variance 1.

    There x_hat = given and eps_hat is the rest of x_t, so that samplers move x_t along alpha given +
    sigma eps: the projection of Song et al. 2021 (arXiv:2011.13456, appendix I.2). Projection alone
    uses the known pixels too late: for a normal pair with correlation .9 it fills in half of the
    right mean. So x_hat is first corrected by a guidance term,

        x_hat + sigma^2 / alpha grad_x_t log N(given; x_hat, r^2),   r^2 = sigma^2 / (alpha^2 + sigma^2)

    (Song et al. 2023, "Pseudoinverse-guided diffusion models", eqs. 7 and 8; Ho et al. 2022,
    arXiv:2204.03458, eq. 7), which fills in 95 % of it and costs one gradient for each evaluation.
    (RePaint's resampling needs ten times the evaluations and fills in less.) The root mean square of
    the term over the unknown part is limited to twice that of the error over the known part: at
    strong noise a network's gradient is unreliable and long steps would follow it into saturation;
    where much is known, even the exact gradient overshoots.
    """

    def conditioned(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = (append_dims(part, x_t) for part in path.coefficients(t))
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_(True)
            x_hat, _ = denoise(x_t, t)
            error = torch.where(known, given - x_hat, 0.0).detach()
            weighted = error * (alpha**2 + sigma**2) / sigma**2 * x_hat
            (gradient,) = torch.autograd.grad(weighted.sum(), x_t)
        x_t = x_t.detach()
        x_hat = x_hat.detach()
        if bool(alpha > 0):  # else x_t does not depend on x
            term = sigma**2 / alpha * gradient
            limit = (2 * masked_rms(error, known)).clamp(min=1e-12)
            excess = masked_rms(term, ~known) / limit
            x_hat = x_hat + term / append_dims(excess.clamp(min=1), term)
        x_hat = torch.where(known, given, x_hat)
        return x_hat, (x_t - alpha * x_hat) / sigma

    return conditioned


def masked_rms(x: Tensor, mask: Tensor) -> Tensor:
    """Root mean square of x (B, *shape) over the elements where mask is True, (B,)."""
    mask = mask.flatten(1)
    return ((x.flatten(1).square() * mask).sum(1) / mask.sum(1).clamp(min=1)).sqrt()


def encode(denoise: Denoise, x: Tensor, path: Path, times: Tensor) -> Tensor:
    """x (B, *shape) -> the noise z (B, *shape) of the probability flow (Song et al. 2021, appendix D.2).

    Heun steps through ``times`` (falling) in reverse; z is x_t at the noisiest time, scaled to
    variance 1. No random numbers are drawn: a deterministic sampler maps z back to x, up to the
    errors of both solvers.
    """
    if times[-1] > 1.01 * path.range[0]:  # a grid of equal steps of t ends early
        times = torch.cat([times, times.new_tensor([path.range[0]])])
    up = times.flip(0)
    levels = alphas_and_sigmas(path, times)[-2::-1]  # without the data
    x = levels[0][0] * x  # the lowest noise level is negligible
    for i, (t, s) in enumerate(zip(up, up[1:])):
        d_alpha = levels[i + 1][0] - levels[i][0]
        d_sigma = levels[i + 1][1] - levels[i][1]
        x_hat, eps_hat = denoise(x, t)
        x_end, eps_end = denoise(x + d_alpha * x_hat + d_sigma * eps_hat, s)
        x = x + d_alpha * (x_hat + x_end) / 2 + d_sigma * (eps_hat + eps_end) / 2
    return x / torch.hypot(*levels[-1])


def below(times: Tensor, t: Tensor) -> Tensor:
    """The rest of the falling ``times`` from t on; t replaces the nearest of them."""
    return torch.cat([t[None], times[int((times - t).abs().argmin()) + 1 :]])


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation from a to b (d,), with linear change of the norm: (T, d) for t (T,) in [0, 1].

    A straight line between two draws of a d-dimensional normal leaves the region of typical draws:
    the squared length at its middle is half of theirs (White 2016, arXiv:1609.04468). If a and b are
    parallel, the result is a straight line.
    """
    t = t[:, None]
    r_a = a.norm()
    r_b = b.norm()
    u = a / r_a.clamp(min=1e-12)
    v = b / r_b.clamp(min=1e-12)
    angle = torch.arccos((u @ v).clamp(-1, 1))
    if angle.sin() < 1e-3:
        return a + t * (b - a)
    direction = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
    return ((1 - t) * r_a + t * r_b) * direction
