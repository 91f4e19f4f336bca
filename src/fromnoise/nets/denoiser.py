"""Denoising networks: (x (B, *shape), level (B,), condition or None) -> (B, *shape).

level is the share of noise in x, as an angle: 0 data, 1 noise. A vector made of the level and the
condition (class, caption) shifts, scales and gates the output of every layer (adaptive layer norm
zero, Peebles & Xie 2023, arXiv:2212.09748). Examples of a batch do not depend on each other, and all
layers have forward-mode derivatives (no fused kernels).

condition  a class as a one-hot row (B, K), or the tokens of a caption (B, L) int64; zeros: none
guess      (B, *shape): a denoised x, further input channels of a network made with guess=True
until      (B,): a second level, of networks that map one level to another (flow maps)
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.spec import Condition, ImageShape
from .captions import CaptionEncoder
from .conv import Fold, Unfold, normalise, zeroed

WAVES = 16  # frequencies of a level


class Conditioning(nn.Module):
    """(level (B,), condition or None, until (B,) or None) -> conditioning vector (B, width), and the words
    of a caption (B, T', width), zero for padding, or None.

    condition_size  K classes, or (L, V) of captions; 0: no condition
    """

    def __init__(self, width: int, condition_size: int | tuple[int, int], two_levels: bool):
        super().__init__()
        self.levels = Levels(width)
        self.until = Levels(width) if two_levels else None
        self.classes = None
        self.captions = None
        if isinstance(condition_size, tuple):
            self.captions = CaptionEncoder(*condition_size, width, attention_heads(width))
        elif condition_size:
            self.classes = nn.Linear(condition_size, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(
        self, level: Tensor, condition: Condition, until: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        conditioning = self.levels(level)
        words = None
        if self.until is not None:
            step = level - (level if until is None else until)
            conditioning = conditioning + self.until(step)
        if self.classes is not None and condition is not None:
            conditioning = conditioning + self.classes(condition)
        if self.captions is not None and condition is not None:
            pooled, words = self.captions(condition)
            conditioning = conditioning + pooled
        return F.silu(self.out(F.silu(conditioning))), words


def attention_heads(width: int) -> int:
    """The number of attention heads: of 32 features or a little more, a divisor of the width."""
    return next(heads for heads in range(max(1, width // 32), 0, -1) if width % heads == 0)


class Levels(nn.Module):
    """level (B,) -> (B, width): a linear layer on sines and cosines of low frequency, smooth in the
    level.
    """

    def __init__(self, width: int):
        super().__init__()
        frequency = torch.linspace(0, math.log(60.0), WAVES).exp()
        self.register_buffer("frequency", frequency, persistent=False)
        self.mix = nn.Linear(2 * WAVES, width)

    def forward(self, level: Tensor) -> Tensor:
        angle = level.float()[:, None] * self.frequency
        return self.mix(torch.cat([angle.cos(), angle.sin()], 1))


class PatchTransformer(nn.Module):
    """An image as patches of p x p pixels, a Transformer over them (Peebles & Xie 2023)."""

    def __init__(
        self,
        shape: ImageShape,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        condition_size=0,
        two_levels: bool = False,
        guess: bool = False,
    ):
        super().__init__()
        C, H, W = shape
        self.grid = (-(-H // patch), -(-W // patch))
        self.fold, self.unfold = Fold(patch), Unfold(patch, shape)
        self.conditioning = Conditioning(width, condition_size, two_levels)
        self.embed = nn.Linear((1 + guess) * C * patch**2, width)
        self.places = nn.Parameter(
            nn.init.normal_(torch.empty(self.grid[0] * self.grid[1], width), std=0.02)
        )
        self.layers = nn.ModuleList(TransformerLayer(width, heads) for _ in range(depth))
        self.last = zeroed(nn.Linear(width, 2 * width))
        self.out = zeroed(nn.Linear(width, C * patch**2))

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
        h = self.embed(self.fold(x).flatten(2).transpose(1, 2))  # B T width
        h = attend_with_caption(self.layers, h + self.places.to(h.dtype), conditioning, words)
        shift, scale = self.last(conditioning)[:, None].chunk(2, 2)
        h = self.out(normalise(h) * (1 + scale) + shift).to(x.dtype)
        return self.unfold(h.transpose(1, 2).unflatten(2, self.grid))


def attend_with_caption(
    layers: nn.ModuleList, h: Tensor, conditioning: Tensor, words: Tensor | None
) -> Tensor:
    """h (B, T, width) through the layers, with the words (B, T', width) as further positions to
    attend to.
    """
    T = h.shape[1]
    if words is not None:
        h = torch.cat([h, words.to(h.dtype)], 1)
    for layer in layers:
        h = layer(h, conditioning)
    return h[:, :T]


class TransformerLayer(nn.Module):
    """Attention, then an MLP, each shifted, scaled and gated by the conditioning; gates start at
    zero.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.tell = zeroed(nn.Linear(width, 6 * width))

    def forward(self, h: Tensor, conditioning: Tensor) -> Tensor:
        modulation = self.tell(conditioning)[:, None]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, 2)
        h = h + gate_a * self.attend(normalise(h) * (1 + scale_a) + shift_a)
        return h + gate_m * self.down(F.silu(self.up(normalise(h) * (1 + scale_m) + shift_m)))

    def attend(self, h: Tensor) -> Tensor:
        B, T, width = h.shape
        qkv = self.qkv(h).view(B, T, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # B heads T d
        q = normalise(q)
        k = normalise(k)
        weights = ((q * q.shape[3] ** -0.5) @ k.transpose(2, 3)).softmax(3).to(v.dtype)
        return self.mixed((weights @ v).transpose(1, 2).reshape(B, T, width))


def append_guess(x: Tensor, guess: Tensor | None) -> Tensor:
    """x with the guess as further channels (or numbers), if there is one."""
    return x if guess is None else torch.cat([x, guess], 1)


class MLPDenoiser(nn.Module):
    """Residual blocks of two layers, for vectors and flattened images: (B, *shape) -> (B, *shape).

    waves   frequencies of further inputs, the sine and cosine of each number with periods of 8, 4, 2 ..
            standard deviations: an MLP is slow to learn functions that change over short distances
            (Tancik et al. 2020, arXiv:2006.10739)
    """

    def __init__(
        self,
        dims: int,
        width: int,
        depth: int,
        condition_size=0,
        two_levels: bool = False,
        waves: int = 0,
        guess: bool = False,
    ):
        super().__init__()
        self.conditioning = Conditioning(width, condition_size, two_levels)
        self.register_buffer(
            "frequency", math.pi / 4 * 2.0 ** torch.arange(waves), persistent=False
        )
        self.embed = nn.Linear(dims * (1 + 2 * waves + guess), width)
        self.tell = nn.ModuleList(zeroed(nn.Linear(width, 3 * width)) for _ in range(depth))
        self.up = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.out = zeroed(nn.Linear(width, dims))

    def forward(
        self,
        x: Tensor,
        level: Tensor,
        condition: Condition = None,
        until: Tensor | None = None,
        guess: Tensor | None = None,
    ) -> Tensor:
        conditioning, _ = self.conditioning(level, condition, until)
        flat = x.flatten(1)
        angle = (flat[:, :, None] * self.frequency).flatten(1)
        waves = torch.cat([flat, angle.cos(), angle.sin()], 1)
        h = self.embed(append_guess(waves, None if guess is None else guess.flatten(1)))
        for tell, up, down in zip(self.tell, self.up, self.down):
            shift, scale, gate = tell(conditioning).chunk(3, 1)
            h = h + gate * down(F.silu(up(normalise(h) * (1 + scale) + shift)))
        return self.out(normalise(h)).to(x.dtype).view(x.shape)
