"""One image file of whatever kind -> upright, square, 8-bit pixels.

Unusual: a file's header is read before its pixels, so that a small file which unpacks to a giant picture is
refused before it takes the memory; and Pillow's own errors on damaged files become a reason in words.
"""

import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Only these decoders may run, whatever a file claims to be: Pillow would hand an EPS file to Ghostscript.
FORMATS = (
    "PNG",
    "JPEG",
    "MPO",
    "BMP",
    "DIB",
    "GIF",
    "WEBP",
    "TIFF",
    "PPM",
    "JPEG2000",
    "AVIF",
    "ICO",
    "CUR",
    "ICNS",
    "PCX",
    "DCX",
    "SGI",
    "DDS",
    "QOI",
    "PSD",
    "XBM",
    "XPM",
    "FITS",
    "BLP",
    "MSP",
)
TARGA = (
    ".tga",
    ".icb",
    ".vda",
    ".vst",
)  # this format has no mark at its beginning, so that the ending must say it
# Everything that Pillow is known to raise on a damaged file.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
)


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


@lru_cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _opened(path: Path) -> Image.Image:
    """The picture, told by its content. Raises what DAMAGE lists."""
    return Image.open(
        path, formats=(*_formats(), *(("TGA",) if path.suffix.lower() in TARGA else ()))
    )


def is_picture(path: Path) -> bool:
    """Whether the file begins as a picture that can be read does, whatever its name is."""
    try:
        with calm_pillow(), _opened(path):
            return True
    except DAMAGE:
        return False


def size_of(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height from the header alone. Raises ValueError on more pixels than are allowed."""
    with _opened(path) as image:
        width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"{width}x{height} pixels, more than --max-pixels {max_pixels}")
    return width, height


@dataclass(frozen=True)
class Picture:
    """pixels: uint8 (3 or 1, side, side); frames: it has more than the one taken; transparent: a background was laid behind it.

    alpha: uint8 (side, side), how far each pixel hides the background; None unless transparent.
    """

    pixels: np.ndarray
    frames: bool
    alpha: np.ndarray | None = None

    @property
    def transparent(self) -> bool:
        return self.alpha is not None

    @property
    def vanished(self) -> bool:
        """Whether the picture has a shape, which cannot be seen before the background."""
        flat = self.pixels.reshape(len(self.pixels), -1)
        return (
            self.transparent
            and bool((flat == flat[:, :1]).all())
            and bool((self.alpha != self.alpha[0, 0]).any())
        )


def decoded(
    path: Path,
    side: int,
    crop: str,
    grey: bool,
    background: str = "white",
    span: tuple[float, float] | None = None,
) -> np.ndarray:
    """One file -> uint8 (3 or 1, side, side): see ``picture``."""
    return picture(path, side, crop, grey, background, span).pixels


def picture(
    path: Path,
    side: int,
    crop: str,
    grey: bool,
    background: str = "white",
    span: tuple[float, float] | None = None,
) -> Picture:
    """One file, upright, over the background, square, resampled with antialiasing.

    span: the values of the file that become 0 and 255; None: those of its type.
    """
    with _opened(path) as opened:
        frames = opened.format != "MPO" and bool(getattr(opened, "is_animated", False))
        opened.draft(
            None, (2 * side, 2 * side)
        )  # JPEG: decodes at 1/2, 1/4 or 1/8 size where that is enough
        image, alpha = _eight_bit(ImageOps.exif_transpose(opened), background, span)
    pixels = np.asarray(_resized(_square(image, crop).convert("L" if grey else "RGB"), side))
    hides = None if alpha is None else np.asarray(_resized(_square(alpha, crop), side))
    return Picture(
        np.ascontiguousarray(pixels[None] if grey else pixels.transpose(2, 0, 1)), frames, hides
    )


def _resized(image: Image.Image, side: int) -> Image.Image:
    return (
        image
        if image.size == (side, side)
        else image.resize((side, side), Image.Resampling.LANCZOS)
    )


def extremes(path: Path, background: str) -> tuple[float, float]:
    """The smallest and the largest value in a file, in its own units. Raises ValueError where they are not finite."""
    with _opened(path) as image:
        deep = image.mode.startswith("I") or image.mode == "F"
        values = np.asarray(image if deep else _eight_bit(image, background, None)[0])
        low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("values that are not finite")
    return low, high


def _eight_bit(
    image: Image.Image, background: str, span: tuple[float, float] | None
) -> tuple[Image.Image, Image.Image | None]:
    """Any mode -> "L" or "RGB", and its alpha, "L", or None if nothing is transparent. 16 bits are scaled (65535 -> 255); floats are 0 .. 1 or else 0 .. 255."""
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        if span:
            return Image.fromarray(_spread(values, span)), None
        top = 65535 if image.mode != "F" else 1 if values.max() <= 1 else 255
        if not (values.min() >= 0 and values.max() <= top):  # NaN, too, is not within
            raise ValueError(
                f"values from {values.min():g} to {values.max():g}, not within 0 to {top}: --range data takes all of them"
            )
        return Image.fromarray(np.rint(values * (255 / top)).astype(np.uint8)), None
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A") if image.getextrema()[3][0] < 255 else None
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    image = image if image.mode == "L" else image.convert("RGB")
    return Image.fromarray(_spread(np.asarray(image, np.float64), span)) if span else image, alpha


def _spread(values: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Values -> uint8, those of the span on 0 .. 255; what lies outside is cut off."""
    low, high = span
    return np.rint(((values - low) * (255 / (high - low))).clip(0, 255)).astype(np.uint8)


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
        np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
        .mean(0)
        .round()
        .astype(int)
    )
    side = max(width, height)
    padded = Image.new(image.mode, (side, side), tuple(edge.tolist()) if edge.ndim else int(edge))
    padded.paste(image, ((side - width) // 2, (side - height) // 2))
    return padded
