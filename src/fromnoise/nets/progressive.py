"""Progressive growing of GANs (Karras et al. 2018, arXiv:1710.10196), for images of any size.

Training starts at 4 pixels a side and fades in one size after another. The levels, coarsest first, are
the full size halved (rounded up) until no side is above 4: for 28 pixels 4, 7, 14, 28. At growth l, a
whole number, the networks work at level l; at l + alpha, 0 < alpha < 1, at the size of level l + 1, whose
weight in the output is alpha. The networks, and real images after ``shrink``, are continuous in the
growth. Layers that are not in use yet get no gradient.

Nearest-neighbour enlargement goes level by level and cuts off the odd row, so that averaging is its exact
inverse at every size. D's scores depend on the rest of the batch (``batch_std``).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..core.spec import Condition, ImageShape
from .adversarial import CRITIC_DIMS, Critic, leaky, pixel_norm
from .conv import beside, conv3, sizes_down

RELU = math.sqrt(2)  # gains that preserve the scale of activations, with a rectifier
LINEAR = 1.0  # and without


# -- how far the networks have grown -------------------------------------------------------------


def level_sizes(shape: ImageShape) -> list[tuple[int, int]]:
    """(H, W) of each level, coarsest first, the full size last."""
    return sizes_down(shape, 1, smallest=4)[::-1]


def growth_at(progress: float, levels: int) -> float:
    """The growth, in [0, levels - 1], when the share ``progress`` in [0, 1] of the budget is done.

    Every level is faded in and then held for equally many steps; level 0 is only held. Growing takes the
    first half of the budget. In the second half only the finest level is trained, since there the weights
    are averaged, and learning rate and penalties end. (In the paper growing takes 35 % of the images for
    32 pixels, 85 % for 1024.)
    """
    part = min(2 * progress, 1.0) * 2 * (levels - 1)  # two parts for each level after level 0
    return part // 2 + max(part % 2 - 1, 0.0)


def level_and_alpha(growth: float, levels: int) -> tuple[int, float]:
    """The level in work, and its weight in the output: 2.25 -> (3, 0.25), 2.0 -> (2, 1.0)."""
    level = min(math.ceil(growth), levels - 1)
    return level, 1.0 - (level - growth)


def up(x: Tensor, size: tuple[int, int]) -> Tensor:
    """To the next finer size by nearest neighbour; if a side is odd, its last pixel is not doubled."""
    return F.interpolate(x, size=size, mode="nearest")


def down(x: Tensor) -> Tensor:
    """To the next coarser size by averaging 2 x 2 pixels; fewer at the end of an odd side."""
    return F.avg_pool2d(x, 2, ceil_mode=True)


def shrink(x: Tensor, growth: float, sizes: Sequence[tuple[int, int]]) -> Tensor:
    """Real images (B, C, H, W) at the size of the growth's level: (B, C, h, w), the critic's input.

    While a level fades in, its detail does too: (1 - alpha) up(down(x)) + alpha x.
    """
    level, alpha = level_and_alpha(growth, len(sizes))
    for _ in range(len(sizes) - 1 - level):
        x = down(x)
    return x if alpha == 1 else torch.lerp(up(down(x), sizes[level]), x, alpha)


# -- layers --------------------------------------------------------------------------------------


class Scale(nn.Module):
    """weight -> scale weight."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, weight: Tensor) -> Tensor:
        return self.scale * weight


def equalised(layer: nn.Module, gain: float, fan_in: int | None = None) -> nn.Module:
    """``layer`` with equalised learning rate (section 4.1): N(0, 1) weights x gain / sqrt(fan_in).

    A step of Adam, equally large for all weights, then changes all layers by the same share of their scale.
    """
    nn.init.normal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    fan_in = fan_in or layer.weight[0].numel()
    parametrize.register_parametrization(layer, "weight", Scale(gain / math.sqrt(fan_in)))
    return layer


def batch_std(h: Tensor) -> Tensor:
    """Standard deviation of the features (B, C, H, W) within groups: (B,), to detect collapse (section 3).

    That of each feature at each pixel over the group, averaged to one number for the group. Example i is
    in group i mod m, of m groups of four or more. From 8 examples on m is even, so that real and fake
    ones that come in turn are not mixed; fewer are one group. A group of one has deviation 0.
    """
    n = len(h)
    m = 2 * (n // 8) or 1
    k = math.ceil(n / m)
    exists = (torch.arange(k * m, device=h.device) < n).view(k, m, 1)
    h = rows(h).to(torch.promote_types(h.dtype, torch.float32))  # no sums of squares in bfloat16
    h = F.pad(h, (0, 0, 0, k * m - n)).view(k, m, -1)
    mean = h.sum(0) / exists.sum(0)
    variance = (exists * (h - mean).square()).sum(0) / exists.sum(0)
    return (variance + 1e-8).sqrt().mean(1).repeat(k)[:n]


def rows(h: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H W C): without a copy in channels-last order, which gradients then keep."""
    return h.permute(0, 2, 3, 1).flatten(1)


class ProgressiveBlock(nn.Module):
    """3 x 3 convolutions, each with a leaky rectifier and optionally pixel norm."""

    def __init__(self, *channels: int, norm: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(equalised(conv3(a, b), RELU) for a, b in pairwise(channels))
        self.norm = norm

    def forward(self, h: Tensor) -> Tensor:
        for layer in self.layers:
            h = leaky(layer(h))
            h = pixel_norm(h) if self.norm else h
        return h


def channels_of(width: int, levels: int) -> list[int]:
    """Channels of each level, coarsest first: ``width`` at the finest, doubled up to 8 widths."""
    return [min(width * 2**i, 8 * width) for i in range(levels)][::-1]


# -- the two networks ----------------------------------------------------------------------------


class ProgressiveGenerator(nn.Module):
    """z (B, latent_dim), label as one-hot (B, K) or None -> x (B, C, H, W), not squashed."""

    def __init__(self, latent_dim: int, shape: ImageShape, width: int, n_classes: int = 0):
        super().__init__()
        self.sizes = level_sizes(shape)
        channels = channels_of(width, len(self.sizes))
        self.stem = equalised(
            nn.Linear(latent_dim + n_classes, channels[0] * math.prod(self.sizes[0])), RELU
        )
        self.blocks = nn.ModuleList([ProgressiveBlock(channels[0], channels[0], norm=True)])
        self.blocks.extend(ProgressiveBlock(a, b, b, norm=True) for a, b in pairwise(channels))
        self.to_image = nn.ModuleList(
            equalised(nn.Conv2d(c, shape[0], 1), LINEAR) for c in channels
        )

    def forward(self, z: Tensor, label: Condition, growth: float) -> Tensor:
        """(B, C, h, w), the size of the level that is worked at."""
        level, alpha = level_and_alpha(growth, len(self.sizes))
        h = beside(pixel_norm(z), None if label is None else pixel_norm(label))
        h = self.stem(h).view(len(z), *self.sizes[0], -1).permute(0, 3, 1, 2)  # channels last
        h = self.blocks[0](pixel_norm(leaky(h)))
        for block, size in zip(self.blocks[1 : level + 1], self.sizes[1:]):
            before = h
            h = block(up(h, size))
        x = self.to_image[level](h)
        if alpha == 1:
            return x
        coarse = up(self.to_image[level - 1](before), self.sizes[level])
        return torch.lerp(coarse, x, alpha)


class ProgressiveCritic(Critic):
    """x (B, C, h, w) at the size of the growth's level, label as one-hot (B, K) or None -> a score
    (B,).
    """

    def __init__(self, shape: ImageShape, width: int, n_classes: int):
        super().__init__(CRITIC_DIMS, n_classes)
        sizes = level_sizes(shape)
        channels = channels_of(width, len(sizes))
        self.from_image = nn.ModuleList(
            equalised(nn.Conv2d(shape[0], c, 1), RELU) for c in channels
        )
        self.blocks = nn.ModuleList([ProgressiveBlock(channels[0] + 1, channels[0])])
        self.blocks.extend(ProgressiveBlock(b, b, a) for a, b in pairwise(channels))
        self.join = equalised(nn.Linear(channels[0] * math.prod(sizes[0]), CRITIC_DIMS), RELU)
        equalised(self.score, LINEAR)
        if self.project is not None:
            # <embedding of y, features> has dims terms
            equalised(self.project, LINEAR, fan_in=CRITIC_DIMS)

    def features(self, x: Tensor, growth: float) -> Tensor:
        level, alpha = level_and_alpha(growth, len(self.blocks))
        h = self.read(x, level)
        for i in range(level, 0, -1):
            h = down(self.blocks[i](h))
            if i == level and alpha < 1:
                h = torch.lerp(self.read(down(x), level - 1), h, alpha)
        deviation = batch_std(h).to(h.dtype).view(-1, 1, 1, 1).expand(-1, 1, *h.shape[2:])
        h = torch.cat([h, deviation], 1).to(memory_format=torch.channels_last)
        return leaky(self.join(rows(self.blocks[0](h))))

    def read(self, x: Tensor, level: int) -> Tensor:
        """Images at a level's size -> its features."""
        h = self.from_image[level](x.to(memory_format=torch.channels_last))
        # With one channel the memory order of the convolution's output is ambiguous.
        return leaky(h.to(memory_format=torch.channels_last))
