"""Images as sequences of symbols, without loss: what an auto-regressive model reads and writes.

components  each component is a symbol, row by row, the channels of a pixel one after another: V = levels, T = H W C
blocks      black and white images: 2 x 4 pixels are the 8 bits of one of 256 symbols, block by block in raster
            order: T = H W / 8. The likelihood is that of the pixels: the map between the two is one to one.
"""

from functools import cached_property

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.spec import DataSpec

TALL, WIDE = 2, 4  # pixels of a block: 28 x 28 divides by them, and so do 32 and 64


def can_pack(spec: DataSpec) -> bool:
    """Can images of this form be packed in blocks?"""
    return (
        spec.kind == "image"
        and spec.levels == 2
        and spec.shape[0] == 1
        and spec.shape[1] % TALL == 0
        and spec.shape[2] % WIDE == 0
    )


class Tokens:
    """Sequences that are symbols already."""

    def __init__(self, spec: DataSpec):
        self.vocabulary, self.length, self.grid, self.shape = (
            spec.levels,
            spec.shape[0],
            None,
            spec.shape,
        )

    def to_symbols(self, x: Tensor) -> Tensor:
        return x.long()

    def from_symbols(self, s: Tensor) -> Tensor:
        return s

    def allowed(self, given: Tensor, mask: Tensor, i: int) -> Tensor:
        """Which symbols at place i agree with what is known of it, (n, V) bool. given, mask: (n, *shape)."""
        return ~mask[:, i, None] | (
            torch.arange(self.vocabulary, device=given.device) == given[:, i, None]
        )


class Components(Tokens):
    """Images (B, C, H, W) in [-1, 1] <-> (B, H W C)."""

    def __init__(self, spec: DataSpec):
        C, H, W = self.shape = spec.shape
        self.vocabulary, self.length, self.grid = spec.levels, C * H * W, (H, W * C)

    def flat(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)

    def to_symbols(self, x: Tensor) -> Tensor:
        return ((self.flat(x).clamp(-1, 1) + 1) * ((self.vocabulary - 1) / 2)).round().long()

    def from_symbols(self, s: Tensor) -> Tensor:
        C, H, W = self.shape
        return (
            (s.float() * (2 / max(1, self.vocabulary - 1)) - 1)
            .view(-1, H, W, C)
            .permute(0, 3, 1, 2)
        )

    def allowed(self, given: Tensor, mask: Tensor, i: int) -> Tensor:
        return super().allowed(self.to_symbols(given), self.flat(mask), i)


class Blocks(Tokens):
    """Black and white images (B, 1, H, W) in {-1, 1} <-> (B, H W / 8); the upper left pixel is the highest bit."""

    def __init__(self, spec: DataSpec):
        _, H, W = self.shape = spec.shape
        self.grid = (H // TALL, W // WIDE)
        self.vocabulary, self.length = 2 ** (TALL * WIDE), self.grid[0] * self.grid[1]

    @cached_property
    def bits(self) -> Tensor:
        """(256, 8) bool: the pixels of each symbol, in raster order."""
        return (
            torch.arange(self.vocabulary)[:, None] >> torch.arange(TALL * WIDE - 1, -1, -1)
        ) % 2 == 1

    def cut(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) -> (B, T, 8)"""
        rows, columns = self.grid
        return (
            x.view(-1, rows, TALL, columns, WIDE).transpose(2, 3).reshape(len(x), -1, TALL * WIDE)
        )

    def to_symbols(self, x: Tensor) -> Tensor:
        return (
            (self.cut(x) > 0) * (2 ** torch.arange(TALL * WIDE - 1, -1, -1, device=x.device))
        ).sum(2)

    def from_symbols(self, s: Tensor) -> Tensor:
        rows, columns = self.grid
        pixels = self.bits.to(s.device)[s].view(-1, rows, columns, TALL, WIDE).transpose(2, 3)
        return pixels.reshape(-1, *self.shape).float() * 2 - 1

    def allowed(self, given: Tensor, mask: Tensor, i: int) -> Tensor:
        known, white, bits = (
            self.cut(mask)[:, i],
            self.cut(given)[:, i] > 0,
            self.bits.to(given.device),
        )
        return (~known[:, None] | (bits == white[:, None])).all(2)

    def by_pixel(self, log_p: Tensor, s: Tensor) -> Tensor:
        """log p of each pixel given those before it in its block and all blocks before, (B, T, 8) nats.

        log_p (B, T, 256) of the symbols, s (B, T). The chain rule inside a block, by sums over the symbols that agree:
        the eight add up to log p of the symbol.
        """
        bits = self.bits.to(s.device)
        own, out = bits[s], []  # (B, T, 8)
        agree = torch.ones_like(log_p, dtype=torch.bool)
        before = torch.zeros_like(log_p[..., 0])
        for j in range(TALL * WIDE):
            agree = agree & (bits[:, j] == own[..., j, None])
            now = log_p.masked_fill(~agree, -torch.inf).logsumexp(2)
            out.append(now - before)
            before = now
        return torch.stack(out, 2)


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
    return Blocks(spec) if pack and can_pack(spec) else Components(spec)
