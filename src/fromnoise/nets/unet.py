"""A U-Net that sees noise, for images of any height, width and number of channels: a signature like nets/denoiser.py's.

What a CPU's core does well decides its form: the image is folded (patches of p x p pixels become
channels), so that no convolution runs on single pixels; convolutions are whole, since a depth-wise one with its mixing costs
the same and can do less; features lie last in memory; skips are added, not appended. At the coarsest resolution,
at most 8 x 8, it is a Transformer, as in "simple diffusion" (Hoogeboom et al. 2023, arXiv:2301.11093).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import Fold, Unfold, fold_size, sizes_down
from .denoiser import (
    Conditioning,
    TransformerLayer,
    attention_heads,
    normalise,
    attend_with_caption,
    append_guess,
    zeroed,
)


class UNet(nn.Module):
    """(x (B, C, H, W), level (B,), condition or None, until (B,) or None, guess (B, C, H, W) or None) -> (B, C, H, W).

    width features at the finest resolution, twice as many below; ``depth`` residual blocks on the way down and on the
    way up at each resolution, ``middle`` layers at the coarsest (None: 2 x depth).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
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
            return nn.ModuleList(Block(w, widths[-1]) for _ in range(depth))

        self.stem = Conv((1 + guess) * shape[0] * patch**2, width, 3, padding=1)
        self.ins, self.outs = (
            nn.ModuleList(map(blocks, widths[:-1])),
            nn.ModuleList(map(blocks, widths[:-1])),
        )
        self.down = nn.ModuleList(
            Conv(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:])
        )
        self.up = nn.ModuleList(Conv(b, a, 1) for a, b in zip(widths, widths[1:]))
        self.positions = nn.Parameter(
            nn.init.normal_(
                torch.empty(self.sizes[-1][0] * self.sizes[-1][1], widths[-1]), std=0.02
            )
        )
        self.layers = nn.ModuleList(
            TransformerLayer(widths[-1], heads) for _ in range(middle or 2 * depth)
        )
        self.out = zeroed(Conv(width, shape[0] * patch**2, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        condition: Tensor | None = None,
        until: Tensor | None = None,
        guess: Tensor | None = None,
    ) -> Tensor:
        x = append_guess(x, guess)
        (conditioning, words), seen = self.conditioning(level, condition, until), []
        h = self.stem(self.fold(x).to(memory_format=torch.channels_last))  # B width H/p W/p
        for blocks, down in zip(self.ins, self.down):
            for block in blocks:
                h = block(h, conditioning)
            seen.append(h)
            h = down(h)
        h = normalise(
            h.permute(0, 2, 3, 1).flatten(1, 2)
        )  # B T 2 width, as small as what the layers add
        h = h + self.positions.to(h.dtype)
        h = attend_with_caption(self.layers, h, conditioning, words)
        h = h.unflatten(1, self.sizes[-1]).permute(0, 3, 1, 2)
        for blocks, up, skip in zip(reversed(self.outs), reversed(self.up), reversed(seen)):
            h = skip + F.interpolate(up(h), size=skip.shape[2:], mode="nearest")
            for block in blocks:
                h = block(h, conditioning)
        return self.unfold(self.out(normalise_channels(h)).to(x.dtype))


class Conv(nn.Conv2d):
    """A convolution of k x k whose weights are one matrix (n_out, k k n_in), as an optimiser of matrices wants them (Muon)."""

    def __init__(self, n_in: int, n_out: int, k: int, **more):
        super().__init__(n_in, n_out, k, **more)
        self.weight = nn.Parameter(self.weight.detach().permute(0, 2, 3, 1).flatten(1))

    def forward(self, h: Tensor) -> Tensor:
        kernel = self.weight.unflatten(1, (*self.kernel_size, self.in_channels)).permute(
            0, 3, 1, 2
        )  # features last in memory
        return self._conv_forward(h, kernel, self.bias)


class Block(nn.Module):
    """h + conv(silu((1 + scale) norm(conv(silu(norm(h)))) + shift)), starting as the identity."""

    def __init__(self, width: int, n_told: int):
        super().__init__()
        self.first, self.second = (
            Conv(width, width, 3, padding=1),
            zeroed(Conv(width, width, 3, padding=1)),
        )
        self.tell = zeroed(nn.Linear(n_told, 2 * width))

    def forward(self, h: Tensor, conditioning: Tensor) -> Tensor:
        scale, shift = self.tell(conditioning)[:, :, None, None].chunk(2, 1)
        new = self.first(F.silu(normalise_channels(h)))
        return h + self.second(F.silu(normalise_channels(new) * (1 + scale) + shift))


def normalise_channels(h: Tensor) -> Tensor:
    """h (B, C, H, W) with mean 0 and variance 1 over the features of each place: the one norm that a CPU has whole."""
    return F.layer_norm(h.permute(0, 2, 3, 1), h.shape[1:2]).permute(0, 3, 1, 2)
