"""DPM-Solver++ 2M for denoisers with a part in closed form: a Gaussian or a mixture fitted to the data.

With y = x_t / alpha, r = sigma / alpha, and along each principal component of the data, of variance
s and mean m,

    w = (y - m) / sqrt(s + r^2),  theta = atan(r / sqrt(s)),  dw / dtheta = -n,
    n = (x_hat - m - s / (s + r^2) (y - m)) sqrt(s + r^2) / (r sqrt(s))

n vanishes for Gaussian data: there is no error then, however few the steps. Else it is extrapolated
from the last two substeps (Adams-Bashforth of order 2).
"""

from itertools import pairwise

import torch
from torch import Tensor

from ...core.spec import Condition
from .gaussian_data import GaussianData
from .path import Path
from .samplers import Denoise, alphas_and_sigmas

# step in log r up to which the correction's slope is used in full: long steps overshoot
REACH = 0.8


def dpm_with_known(
    denoise: Denoise,
    x: Tensor,
    path: Path,
    times: Tensor,
    known: GaussianData,
    condition: Condition = None,
    on_step=None,
) -> Tensor:
    """Samples with one evaluation of ``denoise`` and ``known.substeps`` of the known denoiser a step.

    Between two evaluations of the network only its correction of the known denoiser is extrapolated
    from the last two, linearly in log r, with a smaller slope if steps are longer than REACH. Outside
    of the basis of the principal components this is DPM-Solver++ 2M.
    condition: the classes that ``known`` denoises for, one-hot rows (B, classes).
    """
    levels = alphas_and_sigmas(path, times)
    ratios = path.ratio(times)
    mean = known.centre(x)
    along, outside = known.split(x / levels[0][0].to(x.dtype) - mean)
    solver = AngleSolver(known.variances.double())
    before = None  # r, correction and x_hat outside of the last step
    x = (mean + outside + known.join(along, x.shape)) * levels[0][0].to(x.dtype)
    for i, (t, r, r_next) in enumerate(zip(times, ratios, ratios[1:])):
        x_hat, _ = denoise(x, t)
        along_hat, outside_hat = known.split(x_hat - mean)
        correction = along_hat - known.denoise_along(along, r, condition)
        correction_slope, outside_slope = slopes(before, r, correction, outside_hat)
        for a, b in pairwise(log_spaced(r, r_next, known.substeps)):
            u_hat = known.denoise_along(along, a, condition)
            u_hat = u_hat + correction + float((r / a).log()) * correction_slope
            along = solver.step(along, u_hat, a, b)
        D = outside_hat + float((r / r_next).log()) / 2 * outside_slope
        outside = float(r_next / r) * outside + float(1 - r_next / r) * D
        before = (r, correction, outside_hat)
        x = (mean + outside + known.join(along, x.shape)) * levels[i + 1][0].to(x.dtype)
        if on_step:
            on_step(i, x, x_hat)
    return last_step(denoise, x, times, ratios[-1], known, along, on_step)


def last_step(
    denoise: Denoise,
    x: Tensor,
    times: Tensor,
    r: Tensor,
    known: GaussianData,
    along: Tensor,
    on_step,
) -> Tensor:
    """x_hat, and along the basis what the Gaussian of the data has below the last ratio r."""
    s = known.variances.double()
    x_hat, _ = denoise(x, times[-1])
    gain = (s / (s + r**2)).sqrt() - s / (s + r**2)
    x = x_hat + known.join(gain.to(x.dtype) * along, x.shape)
    if on_step:
        on_step(len(times) - 1, x, x_hat)
    return x


def log_spaced(r: Tensor, r_next: Tensor, n: int) -> Tensor:
    """n + 1 ratios from r to r_next, equal steps of log r."""
    return torch.linspace(float(r.log()), float(r_next.log()), n + 1, dtype=torch.float64).exp()


def slopes(
    before: tuple[Tensor, Tensor, Tensor] | None, r: Tensor, correction: Tensor, outside_hat: Tensor
) -> tuple[Tensor | float, Tensor | float]:
    """Changes of the correction and of x_hat outside with log r, from the last step to this one."""
    if before is None:
        return 0.0, 0.0
    r_before, correction_before, outside_before = before
    h = float((r_before / r).log())
    trust = min(1.0, (REACH / h) ** 2)
    return trust * (correction - correction_before) / h, (outside_hat - outside_before) / h


class AngleSolver:
    """Solves dw / dtheta = -n in steps of the ratio, for variances s (K,) along the basis."""

    def __init__(self, s: Tensor):
        self.s = s
        self.before: tuple[Tensor, Tensor] | None = None  # r and n of the last step

    def step(self, u: Tensor, u_hat: Tensor, r: Tensor, r_next: Tensor) -> Tensor:
        """u = y - m (B, K) at r_next, from u and the denoised u_hat at r."""
        s = self.s
        scale = (s + r**2).sqrt() / (r * s.sqrt())
        n = scale.to(u.dtype) * (u_hat - (s / (s + r**2)).to(u.dtype) * u)
        angle = self.angle(r, r_next)
        slope = n
        if self.before is not None:
            r_before, n_before = self.before
            weight = angle / (2 * self.angle(r_before, r))
            slope = n + weight.to(u.dtype) * (n - n_before)
        self.before = (r, n)
        kept = ((s + r_next**2) / (s + r**2)).sqrt().to(u.dtype) * u
        return kept + ((s + r_next**2).sqrt() * angle).to(u.dtype) * slope

    def angle(self, r: Tensor, r_next: Tensor) -> Tensor:
        """atan(r / sqrt(s)) - atan(r_next / sqrt(s))."""
        return torch.atan2((r - r_next) * self.s.sqrt(), self.s + r * r_next)
