"""The reverse process: one sampler with its denoiser, path and times, and all that it can do.

It makes new samples, and it edits: from noise of any level to data, from data to noise, and parts
of an example from the others. All states are in units in which the data have variance 1.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...core.errors import UsageError
from ...core.rng import Rng
from . import editing, samplers
from .dpm_with_known import dpm_with_known
from .gaussian_data import GaussianData
from .path import RATIOS, Path
from .samplers import Denoise, FlowMap


@dataclass(frozen=True)
class ReverseProcess:
    """method    dpm, sde, heun, euler, ddpm (samplers.py), or jump
    path
    times     (n,) falling, from the noisiest to the last before the data
    denoise   (x_t, t) -> (x_hat, eps_hat), of all methods but jump
    jump      (x_t, t, r) -> x_r, of jump only
    churn     of heun
    known     Gaussian or mixture fitted to the data, whose denoiser has a closed form; None: none
    classes   one-hot rows (B, classes) that ``known`` denoises for, or None
    """

    method: str
    path: Path
    times: Tensor
    denoise: Denoise | None
    jump: FlowMap | None = None
    churn: float = 0.0
    known: GaussianData | None = None
    classes: Tensor | None = None

    def start(self, eps: Tensor) -> Tensor:
        """x_t (B, *shape) at the first of the times, from eps ~ N(0, I)."""
        t = self.times[0]
        if self.known is None:
            return samplers.initial_state(self.path, eps, t)
        return self.known.start(eps, *self.path.coefficients(t), self.classes)

    def run(self, x: Tensor, rng: Rng, on_step=None) -> Tensor:
        """x_t (B, *shape) at the first of the times -> x. on_step(i, x, x_hat) follows each step."""
        path = self.path
        times = self.times
        if self.jump is not None:
            return samplers.flow_map(self.jump, x, times, on_step)
        if self.method == "dpm" and self.known is not None:
            return dpm_with_known(self.denoise, x, path, times, self.known, self.classes, on_step)
        if self.method in ("dpm", "sde"):
            noise = self.method == "sde"
            return samplers.dpm(self.denoise, x, path, times, noise, rng, on_step=on_step)
        if self.method == "heun":
            return samplers.heun(self.denoise, x, path, times, rng, self.churn, on_step=on_step)
        eta = 1.0 if self.method == "ddpm" else 0.0
        return samplers.ddim(self.denoise, x, path, times, eta, rng, on_step=on_step)

    def sample(self, eps: Tensor, rng: Rng, on_step=None) -> Tensor:
        """eps ~ N(0, I), (B, *shape) -> new samples."""
        return self.run(self.start(eps), rng, on_step)

    # -- editing, with noise of a level s: x_s = (1 - s) x + s eps --------------------------------

    def from_level(self, x_s: Tensor, level: float, rng: Rng) -> Tensor:
        """x_s (B, *shape) -> x; from level 1 new samples."""
        self.check_can_edit()
        if level == 1:
            return self.sample(x_s, rng)
        t, scale = time_of_level(self.path, level)
        rest = replace(self, times=editing.below(self.times, t))
        return rest.run(x_s * scale, rng)

    def to_noise(self, x: Tensor) -> Tensor:
        """x (B, *shape) -> the eps from which the deterministic sampler makes x.

        Two evaluations for each of the times.
        """
        z = editing.encode(self.denoise, x, self.path, self.times)
        if self.known is None:
            return z
        alpha, sigma = self.path.coefficients(self.times[0])
        x_t = torch.hypot(alpha, sigma).to(z) * z
        return self.known.to_noise(x_t, alpha, sigma, self.classes)

    def complete(self, x_known: Tensor, mask: Tensor, eps: Tensor, rng: Rng) -> Tensor:
        """A sample that agrees with x_known where the mask is True, from eps ~ N(0, I)."""
        self.check_can_edit()
        denoise = editing.condition_on_known(self.denoise, x_known, mask, self.path)
        return replace(self, denoise=denoise).sample(eps, rng)

    def check_can_edit(self) -> None:
        """Raises UsageError for jumps, which start from pure noise."""
        if self.jump is not None:
            raise UsageError("--sampler jump makes new samples only: choose another one here")


def time_of_level(path: Path, level: float) -> tuple[Tensor, Tensor]:
    """The time t () with the noise of x_s = (1 - s) x + s eps, and the factor x_t / x_s."""
    ratio = torch.tensor(level / max(1 - level, 1e-9), dtype=torch.float64)
    t = path.at(ratio.clamp(*RATIOS))
    return t, torch.hypot(*path.coefficients(t)) / math.hypot(1 - level, level)
