"""Rows and blocks of images on a sheet, with whole device pixels for each image pixel where they fit."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..core.spec import DataSpec
from .style import MARGIN, SOFT, WIDTH, Sheet, cell_size

LABEL = 128  # pixels left of image rows, for their names
WIDE_LABEL = LABEL + 84  # the same where the names are those of models
GAP = 3  # pixels between images


@dataclass
class ImageRow:
    """Images in one row.

    images        (N, H, W[, 3]) uint8
    name, number  left of the images, one below the other
    labels        below the images, with the name of the labels
    head          a title above the row
    gap           free pixels below the row
    """

    name: str
    images: np.ndarray
    number: str = ""
    labels: Sequence[str] = ()
    labels_name: str = ""
    head: str = ""
    gap: float = 0

    def height(self, cell: float) -> float:
        """Pixels from the top of this row to that of the next one."""
        height, width = self.images.shape[1:3]
        extra = self.gap + 20 * bool(self.head) + 18 * bool(self.labels)
        return cell * height / width + GAP + extra


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


def image_cell(width: int, columns: float, label: float = LABEL, most: float = 72) -> float:
    """Pixels for the width of one image, so that ``columns`` fit to the right of the row names."""
    target = min(most, (WIDTH - label) / columns - GAP)
    cell = cell_size(width, target)
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
    rows: Sequence[ImageRow],
    columns: Sequence[str] = (),
    columns_name: str = "",
    *,
    label: float = LABEL,
    most: float = 72,
    top: float = 0,
) -> Sheet:
    """A sheet with rows of images under each other.

    columns  a label above each column
    label    pixels for the names of rows
    most     pixels of an image
    top      free pixels above all
    """
    images = rows[0].images
    cell = image_cell(images.shape[2], len(images), label, most)
    above = 16 * (1 + columns[0].count("\n")) if columns else 0
    height = sum(row.height(cell) for row in rows)
    sheet = Sheet(title, note, caption, top + above + height)
    if columns:
        label_columns(sheet, columns, cell, label, top, columns_name)
    top += above
    for row in rows:
        draw_row(sheet, row, cell, label, top)
        top += row.height(cell)
    return sheet


def draw_row(sheet: Sheet, row: ImageRow, cell: float, label: float, top: float) -> None:
    """The images of a row from ``label`` on, its name in lines before them, its labels below."""
    if row.head:
        sheet.add_head(0, top, row.head)
        top += 20
    height = draw_strip(sheet, row.images, cell, label, top)
    right = label - 10
    middle = top + height / 2 - 7 * bool(row.number)
    lines = textwrap.wrap(row.name, max(1, int((right + MARGIN / 2) / 6.6)))
    sheet.add_text(right, middle, "\n".join(lines), ha="right", va="center")
    middle += 7 * len(lines) + 7
    sheet.add_text(right, middle, row.number, size=7.5, color=SOFT, ha="right", va="center")
    if row.labels:
        label_columns(sheet, row.labels, cell, label, top + height + GAP, row.labels_name)


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error of each example (B,) per component, images on the scale [0, 1]."""
    return ((a - b) / 2).square().flatten(1).mean(1)
