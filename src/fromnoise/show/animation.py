"""Animated WebP: every browser and GitHub play it, and it stores only what changes between frames."""

import io

import numpy as np
from PIL import Image

FRAMES = 96
MILLISECONDS = 60  # of each frame
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
