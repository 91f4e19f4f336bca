"""Reconstructions: of the first examples, of those with the largest error, and beside PCA."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...core.capabilities import Encodes, Reconstructs, has
from ...evaluate.reconstruction import principal_directions
from ..conditions import is_image, reconstructs
from ..context import MAX_EXAMPLES, FigureContext
from ..figure import Figure, PageRequest, Section, always
from ..image_rows import WIDE_LABEL, ImageRow, sheet_of_rows, squared_error
from ..side_by_side import caption_of
from ..style import Drawing


@torch.no_grad()
def draw_recon(context: FigureContext, n: int = 10) -> Drawing:
    """Input above, reconstruction below, for the first rows of the split: two blocks of n."""
    batch = context.first(2 * n)
    x_hat = context.reconstruct(batch.x, batch.y)
    error = context.reconstruction_errors()
    note = (
        f"The first {len(batch)} rows of the {context.split} split. {_error_note(context, error)}"
    )
    title = "Reconstructions: input above, reconstruction below"
    rows = []
    for start in range(0, len(batch), n):
        part = slice(start, start + n)
        rows += _rows(context, batch.x[part], x_hat[part])
        rows[-1].gap = 12
    sheet = sheet_of_rows(title, note, context.caption("recon"), rows)
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
    note = (
        f"The {len(batch)} of {len(error):,} {context.split} examples with the largest error, "
        f"largest first. {_error_note(context, error)}"
    )
    rows = _rows(context, batch.x, x_hat)
    rows[-1].labels = [f"{error[row]:.3f}" for row in order]
    rows[-1].labels_name = "error"
    sheet = sheet_of_rows("Worst reconstructions", note, context.caption("worst"), rows)
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


def _rows(context: FigureContext, x: torch.Tensor, x_hat: torch.Tensor) -> list[ImageRow]:
    inputs = ImageRow("input", context.pixels(x))
    return [inputs, ImageRow("reconstruction", context.pixels(x_hat))]


def _error_note(context: FigureContext, error: np.ndarray) -> str:
    return (
        f"Mean squared error per pixel over {len(error):,} {context.split} images, "
        f"pixels in [0, 1]: {error.mean():.4f}."
    )


# -- several models, and PCA ------------------------------------------------------------------


@dataclass
class Reconstruction:
    """What one model, or PCA, makes of the images. size: of the code, None without a code."""

    size: int | None
    title: str
    mse: float
    pixels: np.ndarray


@torch.no_grad()
def compare_recon(page: PageRequest, n: int = 10) -> Drawing | None:
    """The models that reconstruct, and PCA."""
    pairs = zip(page.contexts, page.titles)
    pairs = [pair for pair in pairs if has(pair[0].model, Reconstructs)]
    if not pairs or not page.has_images:
        return None
    contexts, titles = zip(*pairs)
    first = contexts[0]
    batch = first.first(n)
    reconstructions = _reconstruct(contexts, titles, batch)
    reconstructions.sort(key=lambda r: (r.size or 10**9, r.mse))
    total = min(MAX_EXAMPLES, len(first.dataset.split(first.split)))
    note = (
        f"The first {len(batch)} {first.split} images and their reconstructions, by size of code, "
        f"then by error: the mean square per pixel over {total:,} {first.split} images, pixels in "
        "[0, 1]. PCA is fitted to the training split."
    )
    rows = [ImageRow("input", first.pixels(batch.x), gap=10)]
    size = reconstructions[0].size
    for r in reconstructions:
        if r.size != size:
            rows[-1].gap = 10
            size = r.size
        rows.append(ImageRow(r.title, r.pixels, f"error {r.mse:.4f}"))
    title = "Reconstructions beside PCA of equal code size"
    caption = caption_of(contexts, "reconstructions")
    sheet = sheet_of_rows(title, note, caption, rows, label=WIDE_LABEL, most=56)
    best = min(reconstructions, key=lambda r: r.mse)
    numbers = [{"title": r.title, "code_size": r.size, "mse": r.mse} for r in reconstructions]
    alt = (
        f"{len(batch)} images and their reconstructions by {len(numbers)} models; "
        f"least error: {best.title} with {best.mse:.4f}."
    )
    return sheet.finish({"rows": numbers, "n": total}, alt)


def _reconstruct(contexts: Sequence[FigureContext], titles: Sequence[str], batch) -> list:
    """By each model; and by PCA of each size of code, unless a model already equals it."""
    rows = []
    for context, title in zip(contexts, titles):
        size = context.model.latent_dim if has(context.model, Encodes) else None
        mse = float(context.reconstruction_errors().mean())
        pixels = context.pixels(context.reconstruct(batch.x, batch.y))
        rows.append(Reconstruction(size, title, mse, pixels))
    dims = contexts[0].spec.dims
    for size in {row.size for row in rows if row.size is not None and row.size < dims}:
        pixels, mse = pca_reconstruction(contexts[0], size, batch.x)
        if not any(row.size == size and abs(row.mse / mse - 1) < 1e-3 for row in rows):
            rows.append(Reconstruction(size, f"PCA, {size}-D", mse, pixels))
    return rows


def pca_reconstruction(
    context: FigureContext, size: int, x: torch.Tensor
) -> tuple[np.ndarray, float]:
    """x through PCA with ``size`` components of the training split, as pixels; the split's error."""
    pca = principal_directions(context.dataset, size)

    def project(x: torch.Tensor) -> torch.Tensor:
        centred = x.cpu().flatten(1).double() - pca.mean
        return (pca.mean + centred @ pca.basis @ pca.basis.T).view(x.shape).float()

    errors = []
    for batch, _ in context.batches():
        errors.append(squared_error(batch.x.cpu(), project(batch.x)))
    return context.pixels(project(x)), float(torch.cat(errors).double().mean())


FIGURES = (
    Figure(
        name="recon",
        about="input above, reconstruction below",
        group="reconstruction",
        needs=(is_image, reconstructs),
        draw=draw_recon,
        compare=compare_recon,
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
        needs=(is_image, reconstructs),
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
