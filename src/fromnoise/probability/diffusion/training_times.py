"""The times at which a diffusion model is trained."""

import torch
from torch import Tensor

from ...core.rng import Rng
from .path import RATIOS, Path


def uniform_times(path: Path, n: int, rng: Rng) -> Tensor:
    """t (n,), uniform in the range of the path."""
    u = stratified(n, rng)
    return torch.lerp(*u.new_tensor(path.range), u)


def lognormal_times(path: Path, n: int, mean: float, std: float, rng: Rng) -> Tensor:
    """t (n,) with log(sigma / alpha) ~ N(mean, std^2) (Karras et al. 2022, table 1)."""
    u = stratified(n, rng)
    log_ratio = mean + std * torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))
    return path.at(log_ratio.exp().clamp(*RATIOS))


def stratified(n: int, rng: Rng) -> Tensor:
    """u (n,) rising, one in each n-th part of [0, 1], so that every batch has all levels of noise.

    (Kingma et al. 2021, arXiv:2107.00630, appendix I.1.) In validation each is drawn by itself.
    """
    if rng.rows is not None:
        return rng.uniform("t", (n,))
    return (torch.arange(n, device=rng.device) + rng.uniform("t", (1,))) / n
