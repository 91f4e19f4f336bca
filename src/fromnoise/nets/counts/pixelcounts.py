"""Binary images by counting: how often a pixel is white, given earlier pixels around it and its position.

The context is a list of features, nearest first: the ``pixels`` nearest pixels above and to the left
(outside of the image: black), then the position, in blocks whose sides halve down to ``cell`` pixels.
A context of more features falls back on the one of fewer, level by level, from a fair coin upwards:

    p = (c_white + a p_below) / (c_white + c_black + a)

(a prior worth ``a`` observations, MacKay & Peto 1995); a is chosen for each level, in powers of two,
by the likelihood of held-out images. Every level is a sum over the finest, so only one table is
counted. The fitted model is one table of log-odds: a pixel costs one look-up.
"""

import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import DataError, UsageError

STRENGTHS = 2.0 ** np.arange(-2, 11)
REACH = 6  # furthest row and column of a template
CHUNK = 2**20  # pixels processed at once
LARGEST = 2**26  # numbers of a table


def template(pixels: int) -> list[tuple[int, int]]:
    """(row, column) offsets of the nearest earlier pixels in raster order; of equal ones those
    above first.
    """
    reach = range(-REACH, REACH + 1)
    before = [(r, c) for r in reach for c in reach if (r, c) < (0, 0)]
    return sorted(before, key=lambda o: (o[0] ** 2 + o[1] ** 2, abs(o[1]) - abs(o[0])))[:pixels]


class PixelCounts(nn.Module):
    """p(x) of images (N, H, W) of zeros and ones, exact; p(1) = 1/2 for each pixel until it is fitted.

    Buffer: logits (rows, columns, 2^pixels), log p(1) / p(0) for each cell of the image and each
    pattern of the template, whose j-th nearest pixel is bit j.
    """

    logits: Tensor

    def __init__(self, shape: tuple[int, int], pixels: int = 14, cell: int = 2):
        super().__init__()
        self.shape = tuple(shape)
        self.pixels = pixels
        self.cell = cell
        self.template = template(pixels)
        rows, columns = (-(-side // cell) for side in shape)
        if not 1 <= pixels <= len(self.template) or rows * columns * 2**pixels > LARGEST:
            raise UsageError(
                f"a table of {pixels} pixels and {rows} x {columns} positions has no room: "
                "use fewer pixels or larger cells"
            )
        self.register_buffer("logits", torch.zeros(rows, columns, 2**pixels))

    # -- counting ---------------------------------------------------------------------------------

    def fit(self, x, held_out) -> "PixelCounts":
        """Counts images x (N, H, W); other images, held_out (M, H, W), choose a. Raises DataError.

        If images are binarised at random each time, x may hold several draws of each.
        """
        levels = self.levels()
        tables = [(self._count(x), self._count(held_out))]
        for (pixels, side), (_, finer) in reversed(list(zip(levels, levels[1:]))):
            tables.append(tuple(coarser(table, pixels, side // finer) for table in tables[-1]))
        p = np.full((1, 1, 1), 0.5)
        for counts, held_out_counts in reversed(tables):
            rows, columns, codes = counts.shape[:3]
            below = np.tile(p, codes // p.shape[2])  # further pixels are the higher bits
            if p.shape[:2] != (rows, columns):
                below = below.repeat(2, 0).repeat(2, 1)[:rows, :columns]
            p = mixed(counts, below, best_strength(counts, below, held_out_counts))
        self.logits.copy_(torch.from_numpy(np.log(p) - np.log1p(-p)))
        return self

    def levels(self) -> list[tuple[int, int]]:
        """(pixels, side of a block in cells) from the coarsest to the finest: first pixels, then
        position.
        """
        whole = 2 ** math.ceil(math.log2(max(self.logits.shape[:2])))
        sides = [whole >> j for j in range(1, whole.bit_length())]
        by_pixels = [(m, whole) for m in (*range(2, self.pixels, 2), self.pixels)]
        return by_pixels + [(self.pixels, side) for side in sides]

    def _count(self, x) -> np.ndarray:
        """(rows, columns, 2^pixels, 2): how often each context was followed by 0 and by 1."""
        counts = np.zeros(self.logits.numel() * 2, np.int64)
        for block in self._blocks(torch.as_tensor(x), 4 * CHUNK):
            parts = []
            for part in block.split(max(1, CHUNK // math.prod(self.shape))):
                parts.append((self._context(part) * 2 + part).flatten())
            counts += np.bincount(torch.cat(parts).cpu().numpy(), minlength=len(counts))
        return counts.reshape(*self.logits.shape, 2)

    def _blocks(self, x: Tensor, most: int):
        """x (N, H, W) in int32 pieces of at most ``most`` pixels. Raises DataError."""
        if x.ndim != 3 or tuple(x.shape[1:]) != self.shape:
            raise DataError(
                f"images must be (N, {self.shape[0]}, {self.shape[1]}), not {tuple(x.shape)}"
            )
        for block in x.split(max(1, most // math.prod(self.shape))):
            if not ((block == 0) | (block == 1)).all():
                raise DataError("pixels must be 0 or 1: use --binarise")
            yield block.to(self.logits.device, torch.int32)

    # -- queries ----------------------------------------------------------------------------------

    def _context(self, x: Tensor) -> Tensor:
        """Index into the flattened ``logits`` for each pixel of int32 x, (N, H, W) -> (N, H, W)."""
        H, W = self.shape
        _, columns, codes = self.logits.shape
        padded = F.pad(x, (REACH, REACH, REACH, 0))
        row = torch.arange(H, dtype=torch.int32, device=x.device) // self.cell
        column = torch.arange(W, dtype=torch.int32, device=x.device) // self.cell
        index = ((row[:, None] * columns + column) * codes).expand_as(x).contiguous()
        for j, (r, c) in enumerate(self.template):
            index += padded[:, REACH + r : REACH + r + H, REACH + c : REACH + c + W] << j
        return index

    # -- the contract of nets/sequence.py, pixel by pixel in raster order; start tokens are ignored

    context = None  # the position depends on all earlier pixels

    def forward(self, s: Tensor, start: Tensor) -> Tensor:
        parts = []
        for block in self._blocks(s.view(-1, *self.shape), CHUNK):
            parts.append(self.logits.flatten()[self._context(block)].flatten(1))
        logits = torch.cat(parts)  # (B, T)
        return F.logsigmoid(torch.stack([-logits, logits], 2))

    def begin(self, n: int) -> SimpleNamespace:
        """x (n, H, W): the pixels so far; i: the last pixel that was read, -1 at the start."""
        x = self.logits.new_zeros((n, *self.shape), dtype=torch.int64)
        return SimpleNamespace(x=x, i=-1)

    @torch.no_grad()
    def step(self, state: SimpleNamespace, symbol: Tensor) -> Tensor:
        """Reads one pixel (n,), or the start token -> log p of the next one being 0 and 1, (n, 2)."""
        x = state.x
        if state.i >= 0:
            x.view(len(x), -1)[:, state.i] = symbol
        state.i += 1
        row, column = divmod(state.i, self.shape[1])
        code = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        for j, (r, c) in enumerate(self.template):
            if 0 <= row + r and 0 <= column + c < self.shape[1]:
                code += x[:, row + r, column + c] << j
        logits = self.logits[row // self.cell, column // self.cell, code]
        return F.logsigmoid(torch.stack([-logits, logits], 1))


def coarser(counts: np.ndarray, pixels: int, side: int) -> np.ndarray:
    """Counts (rows, columns, codes, 2) summed over blocks of side x side and all but the nearest
    pixels.
    """
    counts = counts.reshape(*counts.shape[:2], -1, 2**pixels, 2).sum(2)
    for axis in (0, 1):
        counts = np.add.reduceat(counts, np.arange(0, counts.shape[axis], side), axis)
    return counts


def mixed(counts: np.ndarray, below: np.ndarray, a: float) -> np.ndarray:
    """p of white (...) from counts (..., 2) and the p of the coarser level (...)."""
    return (counts[..., 1] + a * below) / (counts[..., 0] + counts[..., 1] + a)


def best_strength(counts: np.ndarray, below: np.ndarray, held_out: np.ndarray) -> float:
    """The a that gives the held-out counts (..., 2) the highest likelihood."""
    occurs = held_out.any(-1)
    c = counts[occurs]
    h = held_out[occurs]
    below = below[occurs]

    def nats(a: float) -> float:
        p = mixed(c, below, a)
        return -(h[:, 1] @ np.log(p) + h[:, 0] @ np.log1p(-p))

    return min(STRENGTHS, key=nats)
