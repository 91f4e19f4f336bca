"""Reconstructions: of the first examples, and of those with the largest error."""

import numpy as np
import torch

from ..conditions import all_of, is_image, reconstructs
from ..context import FigureContext
from ..figure import Figure, Section, always
from ..image_rows import LABEL, draw_rows, image_cell, label_columns, row_height, squared_error
from ..style import SOFT, Drawing, Sheet
from .recon_beside_pca import compare_on_page


@torch.no_grad()
def draw_recon(context: FigureContext, n: int = 10) -> Drawing:
    """Input above, reconstruction below, for the first rows of the split: two blocks of n."""
    batch = context.first(2 * n)
    x_hat = context.reconstruct(batch.x, batch.y)
    error = context.reconstruction_errors()
    cell = image_cell(context.spec, n)
    height = 4 * row_height(context.spec, cell) + 12
    note = (
        f"The first {len(batch)} rows of the {context.split} split. {_error_note(context, error)}"
    )
    title = "Reconstructions: input above, reconstruction below"
    sheet = Sheet(title, note, context.caption("recon"), height)
    top = 0.0
    for start in range(0, len(batch), n):
        part = slice(start, start + n)
        top = draw_rows(sheet, _rows(context, batch.x[part], x_hat[part]), cell, top) + 12
    numbers = {
        "rows": list(range(len(batch))),
        "mse": squared_error(batch.x, x_hat).tolist(),
        "mse_of_split": float(error.mean()),
        "n": len(error),
    }
    alt = (
        f"{len(batch)} {context.split} images and, below each, its reconstruction; "
        f"mean squared error {error.mean():.4f}."
    )
    return sheet.finish(numbers, alt)


@torch.no_grad()
def draw_worst(context: FigureContext, n: int = 8) -> Drawing:
    error = context.reconstruction_errors()
    order = np.argsort(-error, kind="stable")[:n]
    batch = context.rows(order)
    x_hat = context.reconstruct(batch.x, batch.y)
    cell = image_cell(context.spec, n)
    height = 2 * row_height(context.spec, cell) + 18
    note = (
        f"The {len(batch)} of {len(error):,} {context.split} examples with the largest error, "
        f"largest first. {_error_note(context, error)}"
    )
    sheet = Sheet("Worst reconstructions", note, context.caption("worst"), height)
    top = draw_rows(sheet, _rows(context, batch.x, x_hat), cell)
    label_columns(sheet, [f"{error[row]:.3f}" for row in order], cell, LABEL, top)
    sheet.add_text(LABEL - 10, top, "error", size=7.5, color=SOFT, ha="right")
    numbers = {
        "rows": order,
        "mse": error[order],
        "mse_of_split": float(error.mean()),
        "n": len(error),
    }
    alt = (
        f"The {len(batch)} worst reconstructions; "
        f"their errors go from {error[order[0]]:.3f} down to {error[order[-1]]:.3f}."
    )
    return sheet.finish(numbers, alt)


def _rows(context: FigureContext, x: torch.Tensor, x_hat: torch.Tensor) -> list:
    return [("input", "", context.pixels(x)), ("reconstruction", "", context.pixels(x_hat))]


def _error_note(context: FigureContext, error: np.ndarray) -> str:
    return (
        f"Mean squared error per pixel over {len(error):,} {context.split} images, "
        f"pixels in [0, 1]: {error.mean():.4f}."
    )


FIGURES = (
    Figure(
        name="recon",
        about="input above, reconstruction below",
        group="reconstruction",
        why_not=all_of(is_image, reconstructs),
        draw=draw_recon,
        compare=compare_on_page,
        section=Section(
            "Reconstructions beside PCA",
            "The same images through every model, and through PCA with a code of equal size.",
            place=130,
        ),
    ),
    Figure(
        name="worst",
        about="the eight worst reconstructions",
        group="reconstruction",
        why_not=all_of(is_image, reconstructs),
        draw=draw_worst,
        on_page=always,
        section=Section(
            "Worst cases",
            "The held-out examples with the largest reconstruction error of each model.",
            place=160,
            is_small=True,
        ),
    ),
)
