"""A denoising U-Net for images of any height, width and number of channels, called like nets/denoiser.py.

Its form is one that is fast on a CPU: the image is folded (patches of p x p pixels become channels),
so that no convolution runs at full resolution; convolutions are full, since depth-wise ones with
their mixing cost the same and can do less; memory is channels-last; skips are added, not
concatenated. At the coarsest resolution, at most 8 x 8, it is a Transformer, as in "simple diffusion"
(Hoogeboom et al. 2023, arXiv:2301.11093).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.spec import Condition, ImageShape
from .conv import Fold, Unfold, fold_size, sizes_down
from .denoiser import (
    Conditioning,
    TransformerLayer,
    append_guess,
    attend_with_caption,
    attention_heads,
    normalise,
    zeroed,
)


class UNet(nn.Module):
    """(x (B, C, H, W), level (B,), condition, until (B,), guess (B, C, H, W)) -> (B, C, H, W).

    The last three may be None. width features at the finest resolution, twice as many below; ``depth``
    residual blocks before and after at each resolution, ``middle`` layers at the coarsest (None: 2
    depth).
    """

    def __init__(
        self,
        shape: ImageShape,
        width: int,
        depth: int,
        condition_size=0,
        two_levels: bool = False,
        middle: int | None = None,
        guess: bool = False,
    ):
        super().__init__()
        patch = fold_size(shape)
        self.sizes = sizes_down(
            shape, patch, smallest=min(8, math.ceil(max(shape[1:]) / (2 * patch)))
        )
        widths = [width] + [2 * width] * (len(self.sizes) - 1)
        self.fold, self.unfold = Fold(patch), Unfold(patch, shape)
        self.conditioning = Conditioning(widths[-1], condition_size, two_levels)
        heads = attention_heads(widths[-1])

        def blocks(w):
            return nn.ModuleList(UNetBlock(w, widths[-1]) for _ in range(depth))

        self.stem = Conv((1 + guess) * shape[0] * patch**2, width, 3, padding=1)
        self.ins = nn.ModuleList(map(blocks, widths[:-1]))
        self.outs = nn.ModuleList(map(blocks, widths[:-1]))
        self.down = nn.ModuleList(
            Conv(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:])
        )
        self.up = nn.ModuleList(Conv(b, a, 1) for a, b in zip(widths, widths[1:]))
        positions = torch.empty(self.sizes[-1][0] * self.sizes[-1][1], widths[-1])
        self.positions = nn.Parameter(nn.init.normal_(positions, std=0.02))
        self.layers = nn.ModuleList(
            TransformerLayer(widths[-1], heads) for _ in range(middle or 2 * depth)
        )
        self.out = zeroed(Conv(width, shape[0] * patch**2, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        condition: Condition = None,
        until: Tensor | None = None,
        guess: Tensor | None = None,
    ) -> Tensor:
        x = append_guess(x, guess)
        conditioning, words = self.conditioning(level, condition, until)
        skips = []
        h = self.stem(self.fold(x).to(memory_format=torch.channels_last))  # B width H/p W/p
        for blocks, down in zip(self.ins, self.down):
            for block in blocks:
                h = block(h, conditioning)
            skips.append(h)
            h = down(h)
        h = normalise(
            h.permute(0, 2, 3, 1).flatten(1, 2)
        )  # B T 2 width, at the scale of the layers
        h = h + self.positions.to(h.dtype)
        h = attend_with_caption(self.layers, h, conditioning, words)
        h = h.unflatten(1, self.sizes[-1]).permute(0, 3, 1, 2)
        for blocks, up, skip in zip(reversed(self.outs), reversed(self.up), reversed(skips)):
            h = skip + F.interpolate(up(h), size=skip.shape[2:], mode="nearest")
            for block in blocks:
                h = block(h, conditioning)
        return self.unfold(self.out(normalise_channels(h)).to(x.dtype))


class Conv(nn.Conv2d):
    """A k x k convolution whose weights are one matrix (n_out, k k n_in), for the optimiser Muon."""

    def __init__(self, n_in: int, n_out: int, k: int, **more):
        super().__init__(n_in, n_out, k, **more)
        self.weight = nn.Parameter(self.weight.detach().permute(0, 2, 3, 1).flatten(1))

    def forward(self, h: Tensor) -> Tensor:
        kernel = self.weight.unflatten(1, (*self.kernel_size, self.in_channels))
        kernel = kernel.permute(0, 3, 1, 2)  # channels last
        return self._conv_forward(h, kernel, self.bias)


class UNetBlock(nn.Module):
    """h + conv(silu((1 + scale) norm(conv(silu(norm(h)))) + shift)), starting as the identity."""

    def __init__(self, width: int, conditioning_width: int):
        super().__init__()
        self.first = Conv(width, width, 3, padding=1)
        self.second = zeroed(Conv(width, width, 3, padding=1))
        self.tell = zeroed(nn.Linear(conditioning_width, 2 * width))

    def forward(self, h: Tensor, conditioning: Tensor) -> Tensor:
        scale, shift = self.tell(conditioning)[:, :, None, None].chunk(2, 1)
        new = self.first(F.silu(normalise_channels(h)))
        return h + self.second(F.silu(normalise_channels(new) * (1 + scale) + shift))


def normalise_channels(h: Tensor) -> Tensor:
    """h (B, C, H, W) with mean 0 and variance 1 over the channels of each pixel."""
    return F.layer_norm(h.permute(0, 2, 3, 1), h.shape[1:2]).permute(0, 3, 1, 2)
