"""uint8 images: several on one grid, and PNG."""

import io
import math

import numpy as np
from PIL import Image

GREY = 128  # of the background


def image_grid(images: np.ndarray, columns: int | None = None) -> np.ndarray:
    """(N, H, W[, 3]) uint8 -> one image, row by row, on a grey background.

    columns: by default about square. Small images become at least 32 pixels wide.
    """
    n, _, width = images.shape[:3]
    columns = columns or math.ceil(math.sqrt(n))
    scale = max(1, math.ceil(32 / width))
    images = images.repeat(scale, 1).repeat(scale, 2)
    gap = max(1, scale // 2)
    borders = [(0, -n % columns), (0, gap), (0, gap)] + [(0, 0)] * (images.ndim - 3)
    tiles = np.pad(images, borders, constant_values=GREY)
    _, height, width = tiles.shape[:3]
    rows = tiles.reshape(-1, columns, *tiles.shape[1:])  # rows, columns, height, width
    grid = rows.swapaxes(1, 2).reshape(-1, columns * width, *tiles.shape[3:])
    return grid[:-gap, :-gap]


def stack_rows(rows: list[np.ndarray], columns: int) -> np.ndarray:
    """Interleaves rows of N images in blocks of at most ``columns``, for ``image_grid``.

    rows: (N, H, W[, 3]) uint8 each. A block has one line of each row, one below the other. The last
    block is filled up with grey.
    """
    n = len(rows[0])
    columns = min(columns, n)
    blocks = []
    for start in range(0, n, columns):
        for row in rows:
            part = row[start : start + columns]
            filler = np.full((columns - len(part), *part.shape[1:]), GREY, np.uint8)
            blocks += [part, filler]
    return np.concatenate(blocks)


def png_bytes(image: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 -> PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
