"""A codebook of vectors, and an encoder and decoder between images and grids of vectors.

Shapes: B batch, D features of a vector, h rows and w columns of the grid, K codes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import Fold, ResidualBlock, Unfold, fold_size, sizes_down
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
    shape: tuple[int, ...],
    dims: int,
    places: int,
    grid: int,
    hidden=(256, 256),
    width=32,
    blocks=1,
    activation="silu",
) -> tuple[nn.Module, nn.Module, tuple[int, int]]:
    """An encoder x -> (B, dims, h, w), a decoder back to (B, *shape), and (h, w).

    conv: halved until no side of the grid is larger than ``grid``; mlp: one row of ``places``.
    """
    if network == "conv":
        patch = fold_size(shape)
        sizes = sizes_down(shape, patch, grid)
        channels = [min(width * 2**i, 4 * width) for i in range(len(sizes))]
        return (
            GridEncoder(shape, patch, channels, dims, blocks),
            GridDecoder(shape, patch, sizes, channels, dims, blocks),
            sizes[-1],
        )
    encoder = Reshaped(MLP(math.prod(shape), hidden, dims * places, activation), (dims, 1, places))
    decoder = Reshaped(MLP(dims * places, hidden[::-1], math.prod(shape), activation), shape)
    return encoder, decoder, (1, places)


class GridEncoder(nn.Module):
    """(B, C, H, W) -> (B, dims, h, w)"""

    def __init__(
        self, shape: tuple[int, int, int], patch: int, channels: list[int], dims: int, blocks: int
    ):
        super().__init__()
        self.fold = Fold(patch)
        self.stem = nn.Conv2d(shape[0] * patch**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(channels, channels[1:])
        )
        self.blocks = nn.Sequential(*(ResidualBlock(channels[-1]) for _ in range(blocks)))
        self.out = nn.Conv2d(channels[-1], dims, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(self.fold(x))
        for layer in self.down:
            h = layer(F.silu(h))
        return self.out(F.silu(self.blocks(h)))


class GridDecoder(nn.Module):
    """(B, dims, h, w) -> (B, C, H, W); sizes and channels as on the way down, fine to coarse."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        patch: int,
        sizes: list[tuple[int, int]],
        channels: list[int],
        dims: int,
        blocks: int,
    ):
        super().__init__()
        self.sizes = sizes[::-1]
        back = channels[::-1]
        self.stem = nn.Conv2d(dims, back[0], 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(back[0]) for _ in range(blocks)))
        self.up = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in zip(back, back[1:]))
        self.mix = nn.Conv2d(back[-1], back[-1], 3, padding=1)
        self.out = nn.Conv2d(back[-1], shape[0] * patch**2, 3, padding=1)
        self.unfold = Unfold(patch, shape)

    def forward(self, z: Tensor) -> Tensor:
        h = F.silu(self.blocks(self.stem(z)))
        for layer, size in zip(self.up, self.sizes[1:]):
            h = F.silu(layer(F.interpolate(h, size=size, mode="nearest")))
        return self.unfold(self.out(F.silu(self.mix(h))))
