"""Numbers as colours, from little (nearly paper) to much (orange). Ink stays legible on every one of them."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from .style import SOFT, Sheet

COLOURS = LinearSegmentedColormap.from_list("tint", ("#f5f6f8", "#fdebc6", "#fbbd74", "#ee6f26"))
BAR = 150  # pixels that the scale is wide


def tint(values, most: float) -> np.ndarray:
    """Numbers (...) -> uint8 colours (..., 3): 0 and less is palest, ``most`` and more strongest."""
    return (
        (COLOURS(np.clip(np.asarray(values, float) / most, 0, 1))[..., :3] * 255)
        .round()
        .astype(np.uint8)
    )


def scale(sheet: Sheet, right: float, top: float, words: str, marks: dict[float, str]) -> None:
    """The colours with what they mean, 28 pixels tall, ending at ``right``. marks: share of the scale -> its number."""
    left = right - BAR
    sheet.picture(tint(np.linspace(0, 1, 256)[None], 1), left, top + 2, BAR, 10)
    sheet.text(left - 10, top + 7, words, size=8, color=SOFT, ha="right", va="center")
    for share, mark in marks.items():
        sheet.text(left + share * BAR, top + 14, mark, size=7.5, color=SOFT, ha="center")


def bits_scale(sheet: Sheet, right: float, top: float, words: str, most: float) -> None:
    scale(
        sheet,
        right,
        top,
        words,
        {share: f"{share * most:g}" + (" +" if share == 1 else "") for share in (0, 0.5, 1)},
    )
