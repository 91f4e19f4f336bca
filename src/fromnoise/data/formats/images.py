"""One image file of any kind -> upright, square, 8-bit pixels.

The header of a file is read before its pixels, so that a small file which unpacks to a giant image
is refused before it takes the memory. Pillow's errors on damaged files become a reason in words.
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

# Only these decoders may run, whatever a file claims to be: Pillow would hand an EPS file to
# Ghostscript.
FORMATS = tuple(
    "PNG JPEG MPO BMP DIB GIF WEBP TIFF PPM JPEG2000 AVIF ICO CUR ICNS PCX DCX SGI DDS QOI PSD XBM "
    "XPM FITS BLP MSP".split()
)
# A Targa file has no mark at its beginning: only its name tells its format.
TARGA_SUFFIXES = (".tga", ".icb", ".vda", ".vst")
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
MAX_REASON = 100  # characters


@dataclass(frozen=True)
class Conversion:
    """How files become pixels.

    side        pixels of the square result
    crop        "centre", "stretch" or "pad"
    grey        one channel instead of three
    background  colour behind transparent pixels
    span        values of the file that become 0 and 255; None: the limits of its type
    """

    side: int
    crop: str
    grey: bool
    background: str = "white"
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class DecodedImage:
    """pixels: uint8 (3 or 1, side, side); has_frames: the file holds more images than this first.

    alpha: uint8 (side, side), opacity over the background; None if nothing is transparent.
    """

    pixels: np.ndarray
    has_frames: bool
    alpha: np.ndarray | None = None

    @property
    def is_transparent(self) -> bool:
        return self.alpha is not None

    @property
    def is_invisible(self) -> bool:
        """Whether the image has a shape that cannot be seen before the background."""
        if self.alpha is None:
            return False
        pixels = self.pixels.reshape(len(self.pixels), -1)
        has_one_colour = bool((pixels == pixels[:, :1]).all())
        return has_one_colour and bool((self.alpha != self.alpha[0, 0]).any())


def read_or_reason(read: Callable[[Path], object], path: Path):
    """``read(path)``, or a text that says why the file cannot be used."""
    try:
        if path.exists() and not path.is_file():
            return "no file, but a device or a pipe"
        return read(path)
    except UnidentifiedImageError:
        return "empty" if path.stat().st_size == 0 else "not an image"
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return " ".join(reason.split())[:MAX_REASON]


@contextmanager
def quiet_pillow():
    """Switches off Pillow's warnings and its limit on pixels: ``image_size`` checks the limit."""
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


def _open_image(path: Path) -> Image.Image:
    """The format follows from the content. Raises the errors in DAMAGE."""
    targa = ("TGA",) if path.suffix.lower() in TARGA_SUFFIXES else ()
    return Image.open(path, formats=(*_formats(), *targa))


def is_image(path: Path) -> bool:
    """Whether the file begins like an image that can be read, whatever its name is."""
    try:
        with quiet_pillow(), _open_image(path):
            return True
    except DAMAGE:
        return False


def image_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Width and height from the header alone. Raises ValueError if there are too many pixels."""
    with _open_image(path) as image:
        width, height = image.size
    if width * height > max_pixels:
        raise ValueError(f"{width}x{height} pixels, more than --max-pixels {max_pixels}")
    return width, height


def value_limits(path: Path, background: str) -> tuple[float, float]:
    """Smallest and largest value in a file, in its own units. Raises ValueError if not finite."""
    with _open_image(path) as image:
        if not _is_deep(image):
            image, _ = _eight_bit(image, background, None)
        values = np.asarray(image)
        low = float(values.min())
        high = float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("values that are not finite")
    return low, high


def decode_image(path: Path, conversion: Conversion) -> DecodedImage:
    """One file, upright, over the background, square, resampled with antialiasing."""
    side = conversion.side
    with _open_image(path) as file:
        has_frames = file.format != "MPO" and bool(getattr(file, "is_animated", False))
        # JPEG decodes at 1/2, 1/4 or 1/8 of its size where that is enough.
        file.draft(None, (2 * side, 2 * side))
        upright = ImageOps.exif_transpose(file)
        image, alpha = _eight_bit(upright, conversion.background, conversion.span)
    image = _square(image, conversion.crop).convert("L" if conversion.grey else "RGB")
    pixels = np.asarray(_resize(image, side))
    pixels = pixels[None] if conversion.grey else pixels.transpose(2, 0, 1)
    if alpha is not None:
        alpha = np.asarray(_resize(_square(alpha, conversion.crop), side))
    return DecodedImage(np.ascontiguousarray(pixels), has_frames, alpha)


def _resize(image: Image.Image, side: int) -> Image.Image:
    if image.size == (side, side):
        return image
    return image.resize((side, side), Image.Resampling.LANCZOS)


def _is_deep(image: Image.Image) -> bool:
    """Whether a pixel has more than 8 bits: integers of 16 or 32 bits, or floats."""
    return image.mode.startswith("I") or image.mode == "F"


def _eight_bit(
    image: Image.Image, background: str, span: tuple[float, float] | None
) -> tuple[Image.Image, Image.Image | None]:
    """Any mode -> "L" or "RGB", and alpha, "L", or None if nothing is transparent."""
    if _is_deep(image):
        return Image.fromarray(
            _deep_to_bytes(np.asarray(image, np.float64), image.mode, span)
        ), None
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        lowest_alpha = image.getextrema()[3][0]
        alpha = image.getchannel("A") if lowest_alpha < 255 else None
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    if image.mode != "L":
        image = image.convert("RGB")
    if span:
        image = Image.fromarray(_stretch(np.asarray(image, np.float64), span))
    return image, alpha


def _deep_to_bytes(values: np.ndarray, mode: str, span: tuple[float, float] | None) -> np.ndarray:
    """16 bits are scaled (65535 -> 255); floats are 0 .. 1 or else 0 .. 255. Raises ValueError."""
    if span:
        return _stretch(values, span)
    if mode != "F":
        top = 65535
    else:
        top = 1 if values.max() <= 1 else 255
    if not (values.min() >= 0 and values.max() <= top):  # also if NaN
        raise ValueError(
            f"values from {values.min():g} to {values.max():g}, not within 0 to {top}: "
            "--range data takes all of them"
        )
    return np.rint(values * (255 / top)).astype(np.uint8)


def _stretch(values: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Values -> uint8, those of the span on 0 .. 255; values outside are clipped."""
    low, high = span
    return np.rint(((values - low) * (255 / (high - low))).clip(0, 255)).astype(np.uint8)


def _square(image: Image.Image, crop: str) -> Image.Image:
    width, height = image.size
    if width == height or crop == "stretch":
        return image
    if crop == "centre":
        side = min(width, height)
        left = (width - side) // 2
        top = (height - side) // 2
        return image.crop((left, top, left + side, top + side))
    pixels = np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    colour = border.mean(0).round().astype(int)
    side = max(width, height)
    fill = tuple(colour.tolist()) if colour.ndim else int(colour)
    padded = Image.new(image.mode, (side, side), fill)
    padded.paste(image, ((side - width) // 2, (side - height) // 2))
    return padded
