"""One image file of whatever kind -> upright, square, 8-bit pixels.

Unusual: a file's header is read before its pixels, so that a small file which unpacks to a giant picture is
refused before it takes the memory; and Pillow's own errors on damaged files become a reason in words.
"""

import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Only these decoders may run, whatever a file claims to be: Pillow would hand an EPS file to Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "WEBP", "TIFF", "PPM")
# Everything that Pillow is known to raise on a damaged file.
DAMAGE = (
    OSError, SyntaxError, ValueError, LookupError, TypeError, ArithmeticError, EOFError,
    struct.error, zlib.error,
)  # fmt: skip


def attempted(work: Callable[[Path], object], path: Path):
    """``work(path)``, or in words why the file cannot be used."""
    try:
        if path.exists() and not path.is_file():
            return "no file, but a device or a pipe"
        return work(path)
    except UnidentifiedImageError:
        return "empty" if path.stat().st_size == 0 else "not an image"
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return " ".join(reason.split())[:100]


@contextmanager
def calm_pillow():
    """Sets aside Pillow's limit on pixels (``max_pixels`` is checked before decoding) and its warnings."""
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS = None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def size_of(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height from the header alone. Raises ValueError on more pixels than are allowed."""
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"{width}x{height} pixels, more than --max-pixels {max_pixels}")
    return width, height


def decoded(path: Path, side: int, crop: str, grey: bool) -> np.ndarray:
    """One file -> uint8 (3 or 1, side, side): upright, over white, square, resampled with antialiasing."""
    with Image.open(path, formats=FORMATS) as opened:
        opened.draft(None, (2 * side, 2 * side))  # JPEG: decodes at 1/2, 1/4 or 1/8 size where that is enough
        image = _eight_bit(ImageOps.exif_transpose(opened))
    image = _square(image, crop).convert("L" if grey else "RGB")
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if grey else pixels.transpose(2, 0, 1))


def _eight_bit(image: Image.Image) -> Image.Image:
    """Any mode -> "L" or "RGB". 16 bits are scaled (65535 -> 255); floats are 0 .. 1 or else 0 .. 255."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        top = 65535 if image.mode != "F" else 1 if values.max() <= 1 else 255
        if not (values.min() >= 0 and values.max() <= top):  # NaN, too, is not within
            raise ValueError(f"values from {values.min():g} to {values.max():g}, not within 0 to {top}")
        return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "L" else image.convert("RGB")


def _square(image: Image.Image, crop: str) -> Image.Image:
    width, height = image.size
    if width == height or crop == "stretch":
        return image
    if crop == "centre":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        return image.crop((left, top, left + side, top + side))
    pixels = np.asarray(image)
    edge = (
        np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]]).mean(0).round().astype(int)
    )
    side = max(width, height)
    padded = Image.new(image.mode, (side, side), tuple(edge.tolist()) if edge.ndim else int(edge))
    padded.paste(image, ((side - width) // 2, (side - height) // 2))
    return padded
