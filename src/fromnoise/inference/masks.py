"""Masks: the part of an example that is filled in."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..core.config import build
from ..core.errors import DataError, UsageError
from ..core.spec import DataSpec
from ..data.config import FolderFiles
from ..data.formats.images import FORMATS, image_size, read_or_reason

WHITE = 128  # the lowest grey level that counts as white
PARTS = {  # of an image of height H and width W: rows, columns
    "left": lambda H, W: (slice(None), slice(0, W // 2)),
    "right": lambda H, W: (slice(None), slice(W // 2, None)),
    "top": lambda H, W: (slice(0, H // 2), slice(None)),
    "bottom": lambda H, W: (slice(H // 2, None), slice(None)),
    "centre": lambda H, W: (slice(H // 4, H - H // 4), slice(W // 4, W - W // 4)),
}


def build_mask(fill: str | Path | np.ndarray, spec: DataSpec) -> Tensor:
    """The mask of one example, bool (*shape): True where it is filled in.

    fill: for images left, right, top, bottom, centre, the path of a mask image whose white part is
    filled in, or bool (H, W); for vectors bool (D,). Raises UsageError, DataError (a mask image
    that cannot be read).
    """
    is_image = spec.kind == "image"
    size = spec.shape[1:] if is_image else spec.shape
    if is_image and isinstance(fill, str) and fill in PARTS:
        mask = np.zeros(size, bool)
        mask[PARTS[fill](*size)] = True
    elif is_image and isinstance(fill, str | Path):
        mask = read_white_part(Path(fill))
    else:
        mask = np.asarray(fill)
    if mask.shape != size:
        mask_size = format_size(mask.shape) if mask.ndim else str(fill)
        raise UsageError(
            f"the mask has the size {mask_size}, and the data {format_size(size)}: bring it to "
            "that size"
        )
    if mask.dtype != bool:
        raise UsageError("a mask is an array of True, what is to be filled in, and False")
    if not mask.any():
        raise UsageError(
            "the mask leaves nothing to fill in: what is white in it, or True, is filled in"
        )
    return torch.from_numpy(mask).expand(spec.shape)


def format_size(shape: tuple[int, ...]) -> str:
    """(height, width) -> "width x height"."""
    return " x ".join(map(str, shape[::-1]))


def read_white_part(path: Path) -> np.ndarray:
    """The white part of an image file, bool (H, W). Raises UsageError, DataError."""
    if not path.is_file():
        raise UsageError(
            f"there is no mask {path}: name {', '.join(PARTS)}, or an image whose white part is to "
            "be filled in"
        )
    mask = read_or_reason(_read_white_part, path)
    if isinstance(mask, str):
        raise DataError(f"the mask {path} cannot be read ({mask}): name another image")
    return mask


def _read_white_part(path: Path) -> np.ndarray:
    image_size(path, build(FolderFiles, {}).max_pixels)
    with Image.open(path, formats=FORMATS) as image:
        image = image.convert("RGBA")
        # transparent pixels are not white
        opaque = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
        return np.asarray(opaque.convert("L")) >= WHITE
