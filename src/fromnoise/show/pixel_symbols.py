"""Images that are predicted symbol by symbol: which symbol holds which pixel."""

import math

import numpy as np
import torch
from torch import Tensor

from ..core.capabilities import Predicts
from ..probability.symbols import TALL, WIDE, Blocks
from .context import FigureContext, in_blocks

OPEN = (186, 202, 230)  # colour of pixels that are not drawn yet; grey would be a pixel value
AT_ONCE = 2**24  # log-probabilities in memory


def has_blocks(model: Predicts) -> bool:
    """True if a symbol is a block of TALL x WIDE pixels."""
    return isinstance(getattr(model, "symbols", None), Blocks)


def why_no_pixels(context: FigureContext) -> str:
    if has_blocks(context.model) or context.model.length == context.spec.dims:
        return ""
    return "the symbols of this model are not pixels one after another"


def has_pixels_if_image(context: FigureContext) -> str:
    return why_no_pixels(context) if context.spec.kind == "image" else ""


def places(model: Predicts, shape: tuple[int, int, int]) -> np.ndarray:
    """The number of the symbol that completes each pixel, (H, W)."""
    C, H, W = shape
    if has_blocks(model):
        blocks = np.arange(model.length).reshape(H // TALL, W // WIDE)
        return blocks.repeat(TALL, 0).repeat(WIDE, 1)
    return np.arange(H * W).reshape(H, W) * C + C - 1


@torch.no_grad()
def pixel_surprise(
    model: Predicts, x: Tensor, y: Tensor | None, shape: tuple[int, ...]
) -> np.ndarray:
    """-log2 p of each pixel given those before it, (B, H, W) bits; their sum is the image's."""
    C, H, W = shape
    blocks = getattr(model, "symbols", None)
    rows = max(1, AT_ONCE // (model.length * model.vocabulary))

    def log_p_of_pixels(x: Tensor, y: Tensor | None) -> Tensor:
        s = model.to_symbols(x)
        log_p = model.log_probs(s, y)  # (b, T, V)
        if not isinstance(blocks, Blocks):
            return log_p.gather(2, s[:, :, None]).view(-1, H, W, C).sum(3)
        within = blocks.by_pixel(log_p, s).view(-1, H // TALL, W // WIDE, TALL, WIDE)
        return within.transpose(2, 3).reshape(-1, H, W)

    return -in_blocks(log_p_of_pixels, x, y, rows).cpu().double().numpy() / math.log(2)


def blanked(images: np.ndarray, open: np.ndarray) -> np.ndarray:
    """uint8 images (N, H, W[, 3]) -> (N, H, W, 3), painted over where ``open`` (H, W) is True."""
    colour = np.repeat(images[..., None], 3, 3) if images.ndim == 3 else images.copy()
    colour[np.broadcast_to(open, colour.shape[:3])] = OPEN
    return colour
