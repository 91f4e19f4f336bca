"""A given x changed through a denoiser (samplers.py): parts of it kept, all of it carried to noise and back.

Nothing here knows of a sampler: what is known goes into the denoiser, and a start between data and noise is a shorter
list of times. So every sampler edits.
"""

import torch
from torch import Tensor

from .path import Path, append_dims
from .samplers import Denoise, alphas_and_sigmas


def condition_on_known(denoise: Denoise, given: Tensor, known: Tensor, path: Path) -> Denoise:
    """A denoiser of what is open, given (B, *shape) where known (B, *shape) is True: for data of variance 1.

    There x_hat = given and the rest of x_t is its noise, so that each sampler moves it along alpha given + sigma eps: the
    projection of Song et al. 2021 (arXiv:2011.13456, appendix I.2). Alone it hears what is known too late: of a normal
    pair with correlation .9 it fills in half of the right mean. So x_hat is first pulled to agree with what is known,

        x_hat + sigma^2 / alpha grad_x_t log N(given; x_hat, r^2),   r^2 = sigma^2 / (alpha^2 + sigma^2)

    (Song et al. 2023, "Pseudoinverse-guided diffusion models", eqs. 7 and 8; Ho et al. 2022, arXiv:2204.03458, eq. 7), which
    fills in nineteen parts of twenty of it and costs a gradient for each evaluation. (Going back and forth, as RePaint does,
    needs ten times the evaluations for less.) No pull is larger than twice the error that it mends, as root mean squares, that of
    what is open and that of what is known: at strong noise a network's slope may be anything, and long steps would follow it into
    saturation; where much is known, even the exact slope overshoots.
    """

    def sure(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = (append_dims(part, x_t) for part in path.coefficients(t))
        with torch.enable_grad():
            x_t = x_t.detach().requires_grad_(True)
            x_hat, _ = denoise(x_t, t)
            error = torch.where(known, given - x_hat, 0.0).detach()
            (pull,) = torch.autograd.grad(
                (error * (alpha**2 + sigma**2) / sigma**2 * x_hat).sum(), x_t
            )
        x_t, x_hat = x_t.detach(), x_hat.detach()
        if bool(alpha > 0):  # else x_t says nothing of x, and nothing pulls
            pull = sigma**2 / alpha * pull
            too_large = masked_rms(pull, ~known) / (2 * masked_rms(error, known)).clamp(min=1e-12)
            x_hat = x_hat + pull / append_dims(too_large.clamp(min=1), pull)
        x_hat = torch.where(known, given, x_hat)
        return x_hat, (x_t - alpha * x_hat) / sigma

    return sure


def masked_rms(x: Tensor, where: Tensor) -> Tensor:
    """Root mean square of x (B, *shape) where that is True, (B,)."""
    where = where.flatten(1)
    return ((x.flatten(1).square() * where).sum(1) / where.sum(1).clamp(min=1)).sqrt()


def encode(denoise: Denoise, x: Tensor, path: Path, times: Tensor) -> Tensor:
    """x (B, *shape) -> the noise z (B, *shape) that the probability flow carries to it (Song et al. 2021, appendix D.2).

    Heun's steps up the ``times``, which fall; z is x_t at the first of them, with variance 1. No random number is drawn: z
    belongs to x, and a sampler without noise of its own brings it back, up to its error and this one.
    """
    if times[-1] > 1.01 * path.range[0]:  # equal steps of t end early
        times = torch.cat([times, times.new_tensor([path.range[0]])])
    up, at = times.flip(0), alphas_and_sigmas(path, times)[-2::-1]  # the data are not visited
    x = at[0][0] * x  # the first level hides nothing
    for i, (t, s) in enumerate(zip(up, up[1:])):
        d_alpha, d_sigma = at[i + 1][0] - at[i][0], at[i + 1][1] - at[i][1]
        x_hat, eps_hat = denoise(x, t)
        x_end, eps_end = denoise(x + d_alpha * x_hat + d_sigma * eps_hat, s)
        x = x + d_alpha * (x_hat + x_end) / 2 + d_sigma * (eps_hat + eps_end) / 2
    return x / torch.hypot(*at[-1])


def below(times: Tensor, t: Tensor) -> Tensor:
    """The rest of the ``times``, which fall, from t on: t takes the place of the nearest of them."""
    return torch.cat([t[None], times[int((times - t).abs().argmin()) + 1 :]])


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """From a to b (d,) on a great circle, the distance from the origin changing evenly: (T, d) for t (T,) in [0, 1].

    A straight line between two draws of a d-dimensional normal passes where no draw ever is: its middle has half of their
    squared length (White 2016, arXiv:1609.04468). Where a and b point the same way or apart it is a straight line.
    """
    t, r_a, r_b = t[:, None], a.norm(), b.norm()
    u, v = a / r_a.clamp(min=1e-12), b / r_b.clamp(min=1e-12)
    angle = torch.arccos((u @ v).clamp(-1, 1))
    if angle.sin() < 1e-3:
        return a + t * (b - a)
    direction = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
    return ((1 - t) * r_a + t * r_b) * direction
