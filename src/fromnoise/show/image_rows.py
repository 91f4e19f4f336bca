"""Rows and blocks of images on a sheet, with whole device pixels for each image pixel where they fit."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..core.spec import DataSpec
from .style import INK, SOFT, WIDTH, Sheet, cell_size

LABEL = 128  # pixels left of image rows, for their names
NARROW_LABEL = 64  # the same where the names are short
WIDE_LABEL = LABEL + 84  # the same where the names are those of models
GAP = 3  # pixels between images

Row = tuple[str, str, np.ndarray]  # name, number below the name, images (N, H, W[, 3]) uint8


def tile(images: np.ndarray, columns: int, cell: float, gap: float = GAP, ground: int = 255):
    """(N, H, W[, 3]) uint8 -> one image with gaps, and the width and height in pixels to show it at."""
    n, h, w = images.shape[:3]
    rows = -(-n // columns)
    factor = max(1, round(cell * 2 / w))
    images = images.repeat(factor, 1).repeat(factor, 2)
    space = round(gap * w * factor / cell)
    h *= factor
    w *= factor
    shape = (rows * (h + space) - space, columns * (w + space) - space, *images.shape[3:])
    tiled = np.full(shape, ground, np.uint8)
    for i, image in enumerate(images):
        top = i // columns * (h + space)
        left = i % columns * (w + space)
        tiled[top : top + h, left : left + w] = image
    return tiled, tiled.shape[1] * cell / w, tiled.shape[0] * cell / w


def image_cell(spec: DataSpec, columns: float, label: float = LABEL, most: float = 72) -> float:
    """Width in pixels of one image, so that ``columns`` of them fit to the right of the row names."""
    target = min(most, (WIDTH - label) / columns - GAP)
    cell = cell_size(spec.shape[2], target)
    return cell if columns * (cell + GAP) <= WIDTH - label + GAP else target


def block_cell(spec: DataSpec, columns: int, width: float) -> float:
    """Width in pixels of one image, so that ``columns`` of them fill a block of this width."""
    target = width / columns - GAP
    cell = cell_size(spec.shape[2], target)
    return cell if columns * (cell + GAP) <= width + GAP else target


def row_height(spec: DataSpec, cell: float) -> float:
    return cell * spec.shape[1] / spec.shape[2] + GAP


def draw_strip(
    sheet: Sheet, images: np.ndarray, cell: float, left: float, top: float, columns: int = 0
) -> float:
    """Images in one row, or in rows of ``columns``. Returns their height in pixels."""
    tiled, width, height = tile(images, columns or len(images), cell)
    sheet.add_image(tiled, left, top, width, height)
    return height


def draw_rows(
    sheet: Sheet, rows: Sequence[Row], cell: float, top: float = 0, label: float = LABEL
) -> float:
    """Rows of images under each other, ``label`` pixels for the names. Returns the next free pixel."""
    for name, number, images in rows:
        height = draw_strip(sheet, images, cell, label, top)
        name_row(sheet, name, number, label - 10, top + height / 2 - (7 if number else 0))
        top += height + GAP
    return top


def name_row(sheet: Sheet, name: str, number: str, right: float, middle: float) -> None:
    """The name of a row, and a number 14 pixels below it; both end at ``right``."""
    sheet.add_text(right, middle, name, color=INK, ha="right", va="center")
    if number:
        sheet.add_text(right, middle + 14, number, size=7.5, color=SOFT, ha="right", va="center")


def label_columns(
    sheet: Sheet, labels: Sequence[str], cell: float, left: float, top: float, name: str = ""
) -> None:
    """A label in the middle of each image of a row that begins at ``left``; ``name`` before it."""
    sheet.add_text(left - 10, top, name, size=7.5, color=SOFT, ha="right")
    for i, label in enumerate(labels):
        middle = left + (i + 0.5) * (cell + GAP) - GAP / 2
        sheet.add_text(middle, top, label, size=7.5, color=SOFT, ha="center")


def sheet_of_rows(
    title: str,
    note: str,
    caption: list[str],
    spec: DataSpec,
    rows: Sequence[Row],
    columns: Sequence[str],
    heading: str = "",
    *,
    label: float = NARROW_LABEL,
    most: float = 60,
) -> Sheet:
    """Rows of images with a label above each column."""
    cell = image_cell(spec, len(columns), label, most)
    sheet = Sheet(title, note, caption, 18 + len(rows) * row_height(spec, cell))
    label_columns(sheet, columns, cell, label, 0, heading)
    draw_rows(sheet, rows, cell, 16, label)
    return sheet


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error of each example (B,) per component, images on the scale [0, 1]."""
    return ((a - b) / 2).square().flatten(1).mean(1)
