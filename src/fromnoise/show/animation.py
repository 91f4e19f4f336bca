"""Animated WebP: every browser and GitHub play it, and it stores only what changes between frames."""

import io

import numpy as np
from PIL import Image

from ..core.spec import DataSpec
from .image_rows import tile

FRAMES = 96
MILLISECONDS = 60  # of each frame
SHOWN = 6  # images of the film whose moments stand on the sheet
LIMIT = 1_500_000  # bytes of a film
FORMS = (  # share of the width, quality of WebP: tried in turn until the film fits the limit
    (1.0, 85),
    (1.0, 70),
    (1.0, 50),
    (0.5, 70),
    (0.5, 40),
    (0.25, 50),
)


def animate(frames: list[np.ndarray], limit: int = LIMIT) -> tuple[bytes, tuple[int, int]]:
    """uint8 frames (H, W[, 3]) -> an endless animated WebP of at most ``limit`` bytes; its width, height.

    The smallest form is returned even where it exceeds the limit.
    """
    for share, quality in FORMS:
        images = [Image.fromarray(frame).convert("RGB") for frame in frames]
        width, height = images[0].size
        size = (max(1, round(width * share)), max(1, round(height * share)))
        if size != images[0].size:
            images = [image.resize(size, Image.Resampling.LANCZOS) for image in images]
        content = _encode(images, quality)
        if len(content) <= limit:
            break
    return content, size


def animate_tiles(frames: list[np.ndarray], columns: int) -> tuple[bytes, tuple[int, int]]:
    """The same of frames (N, H, W[, 3]) that are tiled in rows of ``columns`` images."""
    width = max(56.0, frames[0].shape[2] / 2)
    return animate([tile(frame, columns, width)[0] for frame in frames])


def tiles_of(spec: DataSpec) -> tuple[int, int]:
    """The number of images of a film, and how many of them stand in a row."""
    return (10, 5) if max(spec.shape) <= 64 else (3, 3)


def _encode(images: list[Image.Image], quality: int) -> bytes:
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        "WEBP",
        save_all=True,
        append_images=images[1:],
        duration=MILLISECONDS,
        loop=0,
        quality=quality,
        method=2,
    )
    return buffer.getvalue()
