"""Numbers as colours, from nearly white to orange. Dark text is legible on all of them."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from .style import SOFT, Sheet

COLOURS = LinearSegmentedColormap.from_list("tint", ("#f5f6f8", "#fdebc6", "#fbbd74", "#ee6f26"))
BAR = 150  # width of the colour bar, pixels


def tint(values, most: float) -> np.ndarray:
    """Numbers (...) -> uint8 colours (..., 3): palest at 0 and below, strongest at ``most`` and above."""
    shares = np.clip(np.asarray(values, float) / most, 0, 1)
    return (COLOURS(shares)[..., :3] * 255).round().astype(np.uint8)


def draw_scale(sheet: Sheet, right: float, top: float, name: str, marks: dict[float, str]) -> None:
    """A colour bar of 28 pixels height with its name, ending at ``right``.

    marks: share of the bar -> its number.
    """
    left = right - BAR
    sheet.add_image(tint(np.linspace(0, 1, 256)[None], 1), left, top + 2, BAR, 10)
    sheet.add_text(left - 10, top + 7, name, size=8, color=SOFT, ha="right", va="center")
    for share, mark in marks.items():
        sheet.add_text(left + share * BAR, top + 14, mark, size=7.5, color=SOFT, ha="center")


def draw_bits_scale(sheet: Sheet, right: float, top: float, name: str, most: float) -> None:
    marks = {0: "0", 0.5: f"{0.5 * most:g}", 1: f"{most:g} +"}
    draw_scale(sheet, right, top, name, marks)
