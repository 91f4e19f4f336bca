"""Transforms between codes z of a first stage and the input v of a second one, measured on z.

``fit`` measures the transform, ``forward`` maps z to v, ``inverse`` maps v to z.
"""

import torch
from torch import Tensor, nn

BINS = 64  # values that a number of the code is rounded to for a second stage of symbols


class Standardised(nn.Module):
    """z (B, *shape) <-> v of mean 0 and variance 1 in each dimension, or in each channel D of a
    grid (D, h, w).

    flat: v is a vector. A dimension that is constant in the data is 0 in v, and its mean in z.
    """

    def __init__(self, shape: tuple[int, ...], flat: bool):
        super().__init__()
        self.shape = shape
        self.flat = flat
        self.register_buffer("mean", torch.zeros(shape[0], *[1] * (len(shape) - 1)))
        self.register_buffer("std", torch.ones_like(self.mean))

    def fit(self, z: Tensor) -> None:
        rows = z.double().transpose(0, 1).flatten(1)  # D, N h w
        std = rows.std(1, correction=0)
        std = torch.where(std > 1e-6 * std.max(), std, 0.0)
        self.mean.copy_(rows.mean(1).view_as(self.mean))
        self.std.copy_(std.view_as(self.std))

    def forward(self, z: Tensor) -> Tensor:
        v = torch.where(self.std > 0, (z - self.mean) / self.std, 0.0)
        return v.flatten(1) if self.flat else v

    def inverse(self, v: Tensor) -> Tensor:
        return self.mean + self.std * v.view(-1, *self.shape)


class Binned(nn.Module):
    """z (B, D) <-> symbols (B, D): the index of the one of ``BINS`` equally frequent intervals that
    holds each number. The inverse is the median of the interval.
    """

    def __init__(self, dims: int):
        super().__init__()
        self.register_buffer("edges", torch.zeros(dims, BINS - 1))
        self.register_buffer("medians", torch.zeros(dims, BINS))

    def fit(self, z: Tensor) -> None:
        levels = torch.arange(1, 2 * BINS, device=z.device, dtype=torch.double) / (2 * BINS)
        quantiles = z.double().quantile(levels, 0).T  # D, 2 BINS - 1
        self.edges.copy_(quantiles[:, 1::2])
        self.medians.copy_(quantiles[:, ::2])

    def forward(self, z: Tensor) -> Tensor:
        return torch.searchsorted(self.edges, z.T.contiguous()).T

    def inverse(self, s: Tensor) -> Tensor:
        return self.medians.T.gather(0, s)


class FlattenedGrid(nn.Module):
    """Symbols s (B, h, w) of a codebook <-> the same symbols in one row (B, h w)."""

    def __init__(self, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid

    def fit(self, s: Tensor) -> None:
        pass

    def forward(self, s: Tensor) -> Tensor:
        return s.flatten(1)

    def inverse(self, s: Tensor) -> Tensor:
        return s.view(-1, *self.grid)
