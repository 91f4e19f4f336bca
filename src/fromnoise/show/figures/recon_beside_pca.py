"""The same images reconstructed by several models and by PCA of equal code size, for pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...core.capabilities import Encodes, Reconstructs, has
from ...core.errors import UsageError
from ...evaluate.reconstruction import principal_directions
from ...runs.load import LoadedRun
from ..context import MAX_EXAMPLES, FigureContext
from ..figure import PageRequest
from ..image_rows import (
    GAP,
    WIDE_LABEL,
    draw_strip,
    image_cell,
    name_row,
    row_height,
    squared_error,
)
from ..side_by_side import caption_of, contexts_of, titles_of
from ..style import Drawing, Sheet, drawing, save


@dataclass
class Reconstruction:
    """What one model, or PCA, makes of the images. size: of the code, None without a code."""

    size: int | None
    title: str
    mse: float
    pixels: np.ndarray


def compare_recon(
    runs: Sequence[LoadedRun],
    titles: Sequence[str] | None = None,
    *,
    out: Path,
    seed: int = 0,
    split: str = "test",
    command: str = "",
    name: str = "recon",
    n: int = 10,
) -> list[Path]:
    """The models that reconstruct, and PCA. Returns the files. Raises UsageError without any."""
    pairs = zip(runs, titles_of(runs, titles))
    pairs = [pair for pair in pairs if has(pair[0].model, Reconstructs)]
    if not pairs or pairs[0][0].dataset.spec.kind != "image":
        raise UsageError("no reconstructions to compare: none of these models reconstructs images")
    runs, titles = zip(*pairs)
    contexts = contexts_of(runs, seed, split, command=command)
    with drawing():
        return save(_compare(contexts, titles, n), out, name)


@torch.no_grad()
def _compare(contexts: list[FigureContext], titles: Sequence[str], n: int) -> Drawing:
    first = contexts[0]
    batch = first.first(n)
    reconstructions = _reconstruct(contexts, titles, batch)
    reconstructions.sort(key=lambda r: (r.size or 10**9, r.mse))
    total = min(MAX_EXAMPLES, len(first.dataset.split(first.split)))
    cell = image_cell(first.spec, n, label=WIDE_LABEL, most=56)
    line = row_height(first.spec, cell)
    note = (
        f"The first {len(batch)} {first.split} images and their reconstructions, by size of code, "
        f"then by error: the mean square per pixel over {total:,} {first.split} images, pixels in "
        "[0, 1]. PCA is fitted to the training split."
    )
    # a gap of 10 pixels where the size of the code changes
    sizes = [0] + [r.size for r in reconstructions]
    gaps = [0] + [10 * (a != b) for a, b in zip(sizes, sizes[1:])]
    tops = np.cumsum(gaps) + line * np.arange(len(gaps))
    title = "Reconstructions beside PCA of equal code size"
    caption = caption_of(contexts, "reconstructions")
    sheet = Sheet(title, note, caption, tops[-1] + line)
    rows = [("input", "", first.pixels(batch.x))]
    rows += [(r.title, f"error {r.mse:.4f}", r.pixels) for r in reconstructions]
    for top, (name, number, pixels) in zip(tops, rows):
        draw_strip(sheet, pixels, cell, WIDE_LABEL, top)
        middle = top + (line - GAP) / 2 - (7 if number else 0)
        name_row(sheet, name, number, WIDE_LABEL - 10, middle)
    best = min(reconstructions, key=lambda r: r.mse)
    numbers = [{"title": r.title, "code_size": r.size, "mse": r.mse} for r in reconstructions]
    alt = (
        f"{len(batch)} images and their reconstructions by {len(numbers)} models; "
        f"least error: {best.title} with {best.mse:.4f}."
    )
    return sheet.finish({"rows": numbers, "n": total}, alt)


def _reconstruct(contexts: list[FigureContext], titles: Sequence[str], batch) -> list:
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


def compare_on_page(page: PageRequest) -> list[Path]:
    if not page.has_images or not any(has(run.model, Reconstructs) for run in page.runs):
        return []
    return compare_recon(page.runs, page.titles, out=page.out, **page.options)
