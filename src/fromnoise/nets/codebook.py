"""A codebook of vectors, and an encoder and decoder between images and grids of vectors.

Shapes: B batch, D features of a vector, h rows and w columns of the grid, K codes.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.spec import ImageShape
from .conv import Downward, Upward, conv3, pyramid, residual_blocks
from .latent import Reshaped
from .mlp import MLP


class Codebook(nn.Module):
    """K vectors of D numbers; idle: the number of training steps since each was last used."""

    def __init__(self, codes: int, dims: int):
        super().__init__()
        self.vectors = nn.Embedding(codes, dims)
        self.register_buffer(
            "idle", torch.full((codes,), torch.iinfo(torch.int64).max // 2)
        )  # not used yet

    def nearest(self, z: Tensor) -> Tensor:
        """z (B, D, h, w) -> the nearest code at each position, (B, h, w): |z - e|^2 without |z|^2.

        Not in bfloat16, which would assign other codes in training than afterwards.
        """
        with torch.autocast(z.device.type, enabled=False):
            e = self.vectors.weight  # K D
            z = z.permute(0, 2, 3, 1).to(e.dtype)  # B h w D
            return (e.square().sum(1) - 2 * z @ e.T).argmin(3)

    def forward(self, s: Tensor) -> Tensor:
        """s (B, h, w) -> its vectors (B, D, h, w)."""
        return self.vectors(s).permute(0, 3, 1, 2)

    @torch.no_grad()
    def restart(self, z: Tensor, pick: Tensor, patience: int) -> None:
        """Sets codes idle for ``patience`` steps to vectors of z (B, D, h, w), at indices pick
        (K,).
        """
        dead = self.idle >= patience
        places = z.permute(0, 2, 3, 1).flatten(0, 2)  # B h w, D
        self.vectors.weight.copy_(
            torch.where(dead[:, None], places[pick].to(self.vectors.weight), self.vectors.weight)
        )
        self.idle.masked_fill_(dead, 0)

    @torch.no_grad()
    def count(self, s: Tensor) -> Tensor:
        """How often each code is in s (B, h, w), (K,); the others have been idle for one step more."""
        counts = torch.bincount(s.flatten(), minlength=len(self.idle))
        self.idle.add_(1).masked_fill_(counts > 0, 0)
        return counts


def grid_encoder_decoder(
    network: str,
    shape: Any,
    dims: int,
    places: int,
    grid: int,
    hidden: Sequence[int],
    width: int,
    blocks: int,
    activation: str,
) -> tuple[nn.Module, nn.Module, tuple[int, int]]:
    """An encoder x -> (B, dims, h, w), a decoder back to (B, *shape), and (h, w).

    conv: halved until no side of the grid is larger than ``grid``; mlp: one row of ``places``.
    """
    if network == "conv":
        patch, sizes, channels = pyramid(shape, width, grid)
        return (
            GridEncoder(shape, patch, channels, dims, blocks),
            GridDecoder(shape, patch, sizes, channels, dims, blocks),
            sizes[-1],
        )
    encoder = Reshaped(MLP(math.prod(shape), hidden, dims * places, activation), (dims, 1, places))
    decoder = Reshaped(MLP(dims * places, hidden[::-1], math.prod(shape), activation), shape)
    return encoder, decoder, (1, places)


class GridEncoder(Downward):
    """(B, C, H, W) -> (B, dims, h, w)"""

    def __init__(self, shape: ImageShape, patch: int, channels: list[int], dims: int, blocks: int):
        super().__init__(shape, patch, channels)
        self.blocks = residual_blocks(channels[-1], blocks)
        self.out = nn.Conv2d(channels[-1], dims, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.silu(self.blocks(self.reduce(x))))


class GridDecoder(Upward):
    """(B, dims, h, w) -> (B, C, H, W); sizes and channels as on the way down, fine to coarse."""

    def __init__(
        self,
        shape: ImageShape,
        patch: int,
        sizes: list[tuple[int, int]],
        channels: list[int],
        dims: int,
        blocks: int,
    ):
        super().__init__()
        self.stem = conv3(dims, channels[-1])
        self.blocks = residual_blocks(channels[-1], blocks)
        self.add_layers(shape, patch, sizes[::-1], channels[::-1])

    def forward(self, z: Tensor) -> Tensor:
        return self.enlarge(self.blocks(self.stem(z)))
