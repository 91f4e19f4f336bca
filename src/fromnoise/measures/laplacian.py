"""Laplacian pyramids of images (Burt & Adelson 1983).

Images are smoothed with (1, 4, 6, 4, 1) / 16 along both axes, mirrored at the edges.
"""

import math

import torch
from torch import Tensor

COARSEST = 16  # pixels: a level is halved while its shorter side has twice as many


def _ends(x: Tensor, axis: int, left: list[int], right: list[int]) -> Tensor:
    """x with more entries before and after along an axis: copies of those with these numbers."""

    def piece(numbers):
        return x.index_select(axis, torch.tensor(numbers) % x.shape[axis])

    return torch.cat([piece(left), x, piece(right)], axis)


def halved(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2)): every other pixel of the smoothed image."""
    for axis in (2, 3):
        length = -(-x.shape[axis] // 2)
        x = _ends(x, axis, [2, 1], [-2, -3])

        def tap(start, x=x, axis=axis, length=length):
            return x[(slice(None),) * axis + (slice(start, start + 2 * length - 1, 2),)]

        x = (tap(0) + tap(4) + 4 * (tap(1) + tap(3)) + 6 * tap(2)) / 16
    return x


def doubled(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """Back to (H, W) = shape: zeros between the pixels, smoothed, times 4.

    The zeros are left out of the sum.
    """
    for axis, side in zip((2, 3), shape):
        x = _ends(x, axis, [1], [-1 if side % 2 == 0 else -2])
        before, centre, after = (x.narrow(axis, start, x.shape[axis] - 2) for start in (0, 1, 2))
        x = (
            torch.stack([(before + 6 * centre + after) / 8, (centre + after) / 2], axis + 1)
            .flatten(axis, axis + 1)
            .narrow(axis, 0, side)
        )
    return x


def level_shapes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """(H, W) of every level of images (C, H, W), finest first; one level below 32 pixels."""
    sides = [tuple(shape[1:])]
    while min(sides[-1]) >= 2 * COARSEST:
        sides.append(tuple(math.ceil(side / 2) for side in sides[-1]))
    return sides


def laplacian_pyramid(x: Tensor) -> list[Tensor]:
    """x (B, C, H, W) -> details of every level, finest first; the last level is the small image.

    Below 32 pixels that is the image itself.
    """
    levels = [x]
    for _ in level_shapes(x.shape[1:])[1:]:
        small = halved(levels[-1])
        levels[-1] = levels[-1] - doubled(small, levels[-1].shape[2:])
        levels.append(small)
    return levels
