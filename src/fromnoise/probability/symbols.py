"""Lossless maps between images and sequences of symbols, for autoregressive models.

components  each component is a symbol, row by row, the channels of a pixel one after another: V = levels,
            T = H W C
blocks      black and white images: 2 x 4 pixels are the 8 bits of one of 256 symbols, block by block in
            raster order: T = H W / 8. The map is one to one, so the likelihood is that of the pixels
"""

from functools import cached_property

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.spec import DataSpec

TALL, WIDE = 2, 4  # pixels of a block: 28 x 28 divides by them, and so do 32 and 64


def can_pack(spec: DataSpec) -> bool:
    """Whether images of this form can be packed in blocks."""
    return (
        spec.kind == "image"
        and spec.levels == 2
        and spec.shape[0] == 1
        and spec.shape[1] % TALL == 0
        and spec.shape[2] % WIDE == 0
    )


class Tokens:
    """Data that are sequences of symbols already."""

    def __init__(self, spec: DataSpec):
        self.vocabulary = spec.levels
        self.length = spec.shape[0]
        self.grid = None
        self.shape = spec.shape

    def to_symbols(self, x: Tensor) -> Tensor:
        return x.long()

    def from_symbols(self, s: Tensor) -> Tensor:
        return s

    def allowed(self, given: Tensor, mask: Tensor, i: int) -> Tensor:
        """Symbols at position i that agree with given (n, *shape) where mask (n, *shape): (n, V)
        bool.
        """
        symbols = torch.arange(self.vocabulary, device=given.device)
        return ~mask[:, i, None] | (symbols == given[:, i, None])


class SymbolComponents(Tokens):
    """Images (B, C, H, W) in [-1, 1] <-> (B, H W C)."""

    def __init__(self, spec: DataSpec):
        C, H, W = self.shape = spec.shape
        self.vocabulary = spec.levels
        self.length = C * H * W
        self.grid = (H, W * C)

    def flat(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)

    def to_symbols(self, x: Tensor) -> Tensor:
        return ((self.flat(x).clamp(-1, 1) + 1) * ((self.vocabulary - 1) / 2)).round().long()

    def from_symbols(self, s: Tensor) -> Tensor:
        C, H, W = self.shape
        x = s.float() * (2 / max(1, self.vocabulary - 1)) - 1
        return x.view(-1, H, W, C).permute(0, 3, 1, 2)

    def allowed(self, given: Tensor, mask: Tensor, i: int) -> Tensor:
        return super().allowed(self.to_symbols(given), self.flat(mask), i)


class Blocks(Tokens):
    """Black and white images (B, 1, H, W) in {-1, 1} <-> (B, H W / 8); the upper left pixel is the
    highest bit.
    """

    def __init__(self, spec: DataSpec):
        _, H, W = self.shape = spec.shape
        self.grid = (H // TALL, W // WIDE)
        self.vocabulary = 2 ** (TALL * WIDE)
        self.length = self.grid[0] * self.grid[1]

    @cached_property
    def bits(self) -> Tensor:
        """(256, 8) bool: the pixels of each symbol, in raster order."""
        bit = torch.arange(TALL * WIDE - 1, -1, -1)
        return (torch.arange(self.vocabulary)[:, None] >> bit) % 2 == 1

    def cut(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, T, 8)"""
        rows, columns = self.grid
        blocks = x.view(-1, rows, TALL, columns, WIDE).transpose(2, 3)
        return blocks.reshape(len(x), -1, TALL * WIDE)

    def to_symbols(self, x: Tensor) -> Tensor:
        values = 2 ** torch.arange(TALL * WIDE - 1, -1, -1, device=x.device)
        return ((self.cut(x) > 0) * values).sum(2)

    def from_symbols(self, s: Tensor) -> Tensor:
        rows, columns = self.grid
        pixels = self.bits.to(s.device)[s].view(-1, rows, columns, TALL, WIDE).transpose(2, 3)
        return pixels.reshape(-1, *self.shape).float() * 2 - 1

    def allowed(self, given: Tensor, mask: Tensor, i: int) -> Tensor:
        known = self.cut(mask)[:, i]
        white = self.cut(given)[:, i] > 0
        bits = self.bits.to(given.device)
        return (~known[:, None] | (bits == white[:, None])).all(2)

    def by_pixel(self, log_p: Tensor, s: Tensor) -> Tensor:
        """log p of each pixel given earlier ones in its block and all earlier blocks, (B, T, 8) nats.

        log_p (B, T, 256) of the symbols, s (B, T). The chain rule inside a block, by sums over the symbols
        that agree so far: the eight values add up to log p of the symbol.
        """
        bits = self.bits.to(s.device)
        own = bits[s]  # (B, T, 8)
        result = []
        agree = torch.ones_like(log_p, dtype=torch.bool)
        before = torch.zeros_like(log_p[..., 0])
        for j in range(TALL * WIDE):
            agree = agree & (bits[:, j] == own[..., j, None])
            now = log_p.masked_fill(~agree, -torch.inf).logsumexp(2)
            result.append(now - before)
            before = now
        return torch.stack(result, 2)


def symbol_codec(spec: DataSpec, pack: bool) -> Tokens:
    """The symbols of data of this form; pack: black and white images in blocks. Raises UsageError."""
    if spec.kind == "vector":
        raise UsageError(
            "the family autoregressive is for text and images: "
            "for points and tables take gan, vae or classical"
        )
    if spec.kind == "image" and not 2 <= spec.levels <= 256:
        raise UsageError("the family autoregressive needs images with 2 to 256 levels")
    if spec.kind == "tokens":
        return Tokens(spec)
    return Blocks(spec) if pack and can_pack(spec) else SymbolComponents(spec)
