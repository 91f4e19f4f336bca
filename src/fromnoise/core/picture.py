"""uint8 images to a grid and to PNG."""

import io
import math

import numpy as np
from PIL import Image


def image_grid(
    images: np.ndarray, columns: int | None = None, gap: int = 1, scale: int | None = None
) -> np.ndarray:
    """(N, H, W[, 3]) uint8 -> one picture, row by row, on a mid-grey ground.

    columns: about square when not given. scale: each pixel becomes scale x scale (small images: so that a
    picture is at least 32 pixels wide).
    """
    n, h, w = images.shape[:3]
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    scale = scale or max(1, math.ceil(32 / w))
    images = images.repeat(scale, 1).repeat(scale, 2)
    h, w, gap = h * scale, w * scale, gap * max(1, scale // 2)
    picture = np.full(
        (rows * (h + gap) - gap, columns * (w + gap) - gap, *images.shape[3:]), 128, np.uint8
    )
    for i, image in enumerate(images):
        top, left = i // columns * (h + gap), i % columns * (w + gap)
        picture[top : top + h, left : left + w] = image
    return picture


def stack_rows(rows: list[np.ndarray], columns: int) -> np.ndarray:
    """Rows of N images each -> as many as fit beside each other, row under row, then the next ones: for ``image_grid``.

    (N, H, W[, 3]) uint8 each; the last ones are filled up with the grey of the ground.
    """
    n = len(rows[0])
    columns, out = min(columns, n), []
    for start in range(0, n, columns):
        for part in (row[start : start + columns] for row in rows):
            out += [part, np.full((columns - len(part), *part.shape[1:]), 128, np.uint8)]
    return np.concatenate(out)


def png_bytes(image: np.ndarray) -> bytes:
    """(H, W) or (H, W, 3) uint8 -> PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
