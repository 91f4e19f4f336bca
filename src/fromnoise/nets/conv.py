"""Convolutional encoder and decoder for images of any height, width and number of channels.

Fine resolutions are where a CPU's time goes, so the image is first folded: patches of p x p pixels become
channels (space to depth), and all convolutions run at 1/p of the resolution and below.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.spec import Condition, ImageShape


def fold_size(shape: ImageShape) -> int:
    """Side of the patch that becomes channels: 1 below 16 pixels, 2 below 64, then 4."""
    side = min(shape[1:])
    if side < 16:
        return 1
    return 2 if side < 64 else 4


def sizes_down(shape: ImageShape, patch: int, smallest: int) -> list[tuple[int, int]]:
    """(H, W) after folding and after each halving (rounded up) until no side is larger than
    ``smallest``.
    """
    sizes = [(math.ceil(shape[1] / patch), math.ceil(shape[2] / patch))]
    while max(sizes[-1]) > smallest:
        sizes.append(tuple(math.ceil(side / 2) for side in sizes[-1]))
    return sizes


def pyramid(
    shape: ImageShape, width: int, smallest: int, patch: int = 0, widest: int = 4
) -> tuple[int, list[tuple[int, int]], list[int]]:
    """Side of the folded patches (0: ``fold_size``), and sizes (H, W) and channels, finest first.

    Channels are doubled where sizes are halved, up to ``widest`` times the width.
    """
    patch = patch or fold_size(shape)
    sizes = sizes_down(shape, patch, smallest)
    return patch, sizes, [min(width * 2**i, widest * width) for i in range(len(sizes))]


def conv3(n_in: int, n_out: int, stride: int = 1) -> nn.Conv2d:
    """A 3 x 3 convolution; with stride 2 it halves the size, rounded up."""
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1)


def conv_chain(channels: Sequence[int], stride: int = 1) -> nn.ModuleList:
    """Convolutions from each number of channels to the next."""
    return nn.ModuleList(conv3(a, b, stride) for a, b in pairwise(channels))


def beside(z: Tensor, condition: Condition) -> Tensor:
    """z (B, D) with the condition (B, K) appended to its features."""
    return z if condition is None else torch.cat([z, condition], 1)


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

    def __init__(self, patch: int, shape: ImageShape):
        super().__init__()
        self.patch, self.shape = patch, shape

    def forward(self, h: Tensor) -> Tensor:
        return F.pixel_shuffle(h, self.patch)[:, :, : self.shape[1], : self.shape[2]]


def with_planes(h: Tensor, condition: Condition) -> Tensor:
    """Appends the condition (B, K) to the channels of h (B, C, H, W) as K constant planes."""
    if condition is None:
        return h
    return torch.cat([h, condition[:, :, None, None].expand(-1, -1, *h.shape[2:])], 1)


class Downward(nn.Module):
    """(B, C, H, W), condition (B, K) or None -> features (B, channels[-1], h, w), halved in steps."""

    def __init__(self, shape: ImageShape, patch: int, channels: list[int], n_condition: int = 0):
        super().__init__()
        self.fold = Fold(patch)
        self.stem = conv3(shape[0] * patch**2 + n_condition, channels[0])
        self.down = conv_chain(channels, stride=2)

    def reduce(self, x: Tensor, condition: Condition = None) -> Tensor:
        h = self.stem(with_planes(self.fold(x), condition))
        for layer in self.down:
            h = layer(F.silu(h))
        return h


class Upward(nn.Module):
    """Features (B, channels[0], h, w) -> (B, C, H, W), enlarged in steps to ``sizes``."""

    def add_layers(
        self,
        shape: ImageShape,
        patch: int,
        sizes: list[tuple[int, int]],
        channels: list[int],
    ) -> None:
        """sizes and channels: coarsest first."""
        self.sizes = sizes
        self.up = conv_chain(channels)
        self.mix = conv3(channels[-1], channels[-1])
        self.out = conv3(channels[-1], shape[0] * patch**2)
        self.unfold = Unfold(patch, shape)

    def enlarge(self, h: Tensor) -> Tensor:
        h = F.silu(h)
        for layer, size in zip(self.up, self.sizes[1:]):
            h = F.silu(layer(F.interpolate(h, size=size, mode="nearest")))
        return self.unfold(self.out(F.silu(self.mix(h))))


class ConvEncoder(Downward):
    """(B, C, H, W), condition (B, K) or None -> (B, n_out)."""

    def __init__(self, shape: ImageShape, n_out: int, width: int, n_condition: int):
        patch, sizes, channels = pyramid(shape, width, smallest=4)
        super().__init__(shape, patch, channels, n_condition)
        self.out = nn.Linear(channels[-1] * math.prod(sizes[-1]), n_out)

    def forward(self, x: Tensor, condition: Condition = None) -> Tensor:
        return self.out(F.silu(self.reduce(x, condition)).flatten(1))


class ConvDecoder(Upward):
    """z (B, D), condition (B, K) or None -> (B, C, H, W)."""

    def __init__(self, n_in: int, shape: ImageShape, width: int, n_condition: int = 0):
        super().__init__()
        patch, sizes, channels = pyramid(shape, width, smallest=4)
        self.stem = nn.Linear(n_in + n_condition, channels[-1] * math.prod(sizes[-1]))
        self.add_layers(shape, patch, sizes[::-1], channels[::-1])

    def forward(self, z: Tensor, condition: Condition = None) -> Tensor:
        return self.enlarge(self.stem(beside(z, condition)).view(len(z), -1, *self.sizes[0]))


def zeroed(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    """The layer with its weights set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def normalise(h: Tensor) -> Tensor:
    """h with mean 0 and variance 1 over its last dimension; faster here than a root-mean-square
    norm.
    """
    return F.layer_norm(h, h.shape[-1:])


def residual_blocks(channels: int, n: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(n)))


class ResidualBlock(nn.Module):
    """h + conv(silu(conv(silu(h)))), starting as the identity."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = conv3(channels, channels)
        self.second = zeroed(conv3(channels, channels))

    def forward(self, h: Tensor) -> Tensor:
        return h + self.second(F.silu(self.first(F.silu(h))))
