"""Convolutional encoder and decoder for images of any height, width and number of channels.

Fine resolutions are where a CPU's time goes, so the image is first folded: patches of p x p pixels become
channels (space to depth), and all convolutions run at 1/p of the resolution and below.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fold_size(shape: tuple[int, int, int]) -> int:
    """Side of the patch that becomes channels: 1 below 16 pixels, 2 below 64, then 4."""
    side = min(shape[1:])
    if side < 16:
        return 1
    return 2 if side < 64 else 4


def sizes_down(shape: tuple[int, int, int], patch: int, smallest: int) -> list[tuple[int, int]]:
    """(H, W) after folding and after each halving (rounded up) until no side is larger than
    ``smallest``.
    """
    sizes = [(math.ceil(shape[1] / patch), math.ceil(shape[2] / patch))]
    while max(sizes[-1]) > smallest:
        sizes.append(tuple(math.ceil(side / 2) for side in sizes[-1]))
    return sizes


class Fold(nn.Module):
    """(B, C, H, W) -> (B, C p p, ceil(H/p), ceil(W/p)); borders are repeated where p does not
    divide.
    """

    def __init__(self, patch: int):
        super().__init__()
        self.patch = patch

    def forward(self, x: Tensor) -> Tensor:
        bottom, right = -x.shape[2] % self.patch, -x.shape[3] % self.patch
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        return F.pixel_unshuffle(x, self.patch)


class Unfold(nn.Module):
    """The inverse of Fold, cut to (H, W)."""

    def __init__(self, patch: int, shape: tuple[int, int, int]):
        super().__init__()
        self.patch, self.shape = patch, shape

    def forward(self, h: Tensor) -> Tensor:
        return F.pixel_shuffle(h, self.patch)[:, :, : self.shape[1], : self.shape[2]]


def with_planes(h: Tensor, condition: Tensor | None) -> Tensor:
    """Appends the condition (B, K) to the channels of h (B, C, H, W) as K constant planes."""
    if condition is None:
        return h
    return torch.cat([h, condition[:, :, None, None].expand(-1, -1, *h.shape[2:])], 1)


class ConvEncoder(nn.Module):
    """(B, C, H, W), condition (B, K) or None -> (B, n_out)."""

    def __init__(
        self, shape: tuple[int, int, int], n_out: int, width: int = 32, n_condition: int = 0
    ):
        super().__init__()
        patch = fold_size(shape)
        sizes = sizes_down(shape, patch, smallest=4)
        channels = [min(width * 2**i, 4 * width) for i in range(len(sizes))]
        self.fold = Fold(patch)
        self.stem = nn.Conv2d(shape[0] * patch**2 + n_condition, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(channels, channels[1:])
        )
        self.out = nn.Linear(channels[-1] * math.prod(sizes[-1]), n_out)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = F.silu(self.stem(with_planes(self.fold(x), condition)))
        for layer in self.down:
            h = F.silu(layer(h))
        return self.out(h.flatten(1))


class ConvDecoder(nn.Module):
    """z (B, D), condition (B, K) or None -> (B, C, H, W)."""

    def __init__(
        self, n_in: int, shape: tuple[int, int, int], width: int = 32, n_condition: int = 0
    ):
        super().__init__()
        patch = fold_size(shape)
        self.sizes = sizes_down(shape, patch, smallest=4)[::-1]
        channels = [min(width * 2**i, 4 * width) for i in range(len(self.sizes))][::-1]
        self.stem = nn.Linear(n_in + n_condition, channels[0] * math.prod(self.sizes[0]))
        self.up = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(channels, channels[1:])
        )
        self.mix = nn.Conv2d(channels[-1], channels[-1], 3, padding=1)
        self.out = nn.Conv2d(channels[-1], shape[0] * patch**2, 3, padding=1)
        self.unfold = Unfold(patch, shape)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.stem(z if condition is None else torch.cat([z, condition], 1))
        h = F.silu(h.view(len(z), -1, *self.sizes[0]))
        for layer, size in zip(self.up, self.sizes[1:]):
            h = F.silu(layer(F.interpolate(h, size=size, mode="nearest")))
        return self.unfold(self.out(F.silu(self.mix(h))))


class ResidualBlock(nn.Module):
    """h + conv(silu(conv(silu(h)))), starting as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.second(F.silu(self.first(F.silu(h))))
