"""Figures of walks through the latent space: one dimension at a time, from one image to another, to a given image."""

import numpy as np
import torch

from ...core.capabilities import EncodesDistribution, HasFeatures, Reconstructs, has
from ...inference.invert import invert
from ..context import FigureContext
from ..style import SOFT, Drawing, Sheet
from .curves import kl_of_dims
from .images import (
    GAP,
    LABEL,
    image_cell,
    reconstruct,
    row_height,
    rows_of_images,
    squared_error,
    strip,
)


def ordered_dims(subject: FigureContext) -> tuple[np.ndarray, np.ndarray, str]:
    """Dimensions, most used first; the number they are ordered by; its name."""
    if has(subject.model, EncodesDistribution):
        values, by = kl_of_dims(subject), "KL, nats"
    else:
        values, by = subject.codes.z.var(0), "variance"
    return np.argsort(-values, kind="stable"), values, by


def draw_traverse(subject: FigureContext, most: int = 10, columns: int = 13) -> Drawing:
    order, values, by = ordered_dims(subject)
    order = order[:most]
    steps = np.linspace(-3, 3, columns)
    mean, spread = subject.codes.z.mean(0), subject.codes.spread
    z = np.tile(mean, (len(order) * columns, 1))
    for i, dim in enumerate(order):
        z[i * columns : (i + 1) * columns, dim] += steps * spread[dim]
    images = subject.pixels(subject.decode(torch.from_numpy(z).float()))
    cell = image_cell(subject.spec, columns, most=54)
    height = len(order) * row_height(subject.spec, cell) + 34
    total = subject.codes.z.shape[1]
    note = (
        f"Each row moves one of {total} latent dimensions through ±3 standard deviations of the {subject.split} codes, the others "
        f"at the mean code{subject.of_class()}. Rows by {by.split(',')[0]}, largest first{'' if len(order) == total else f'; the first {len(order)}'}."
    )
    sheet = Sheet("Latent traversals", note, subject.caption("traverse"), height)
    for j, step in enumerate(steps):
        if j % 2 == 0:
            sheet.text(
                LABEL + (j + 0.5) * (cell + GAP) - GAP / 2,
                0,
                f"{step:+.0f}" if step else "mean",
                size=8,
                color=SOFT,
                ha="center",
            )
    rows = [
        (
            f"z{dim}",
            f"{by.split(',')[0]} {values[dim]:.3g}",
            images[i * columns : (i + 1) * columns],
        )
        for i, dim in enumerate(order)
    ]
    rows_of_images(sheet, rows, cell, 18)
    sheet.text(LABEL, height - 12, "standard deviations from the mean code", size=8, color=SOFT)
    numbers = {
        "dims": order,
        "ordered_by": by,
        "values": values[order],
        "standard_deviations": spread[order],
        "steps": steps,
    }
    return sheet.done(
        numbers,
        f"Images decoded while one latent dimension at a time moves from -3 to 3 standard deviations, {len(order)} dimensions.",
    )


def pairs(subject: FigureContext, count: int) -> list[tuple[int, int]]:
    """The first disjoint pairs of rows, of different classes (of the same class for a conditional model)."""
    y = subject.dataset.split(subject.split).labels
    n, found, free = min(200, len(subject.dataset.split(subject.split))), [], []
    for row in range(n):

        def fits(other):
            return y is None or ((y[row] == y[other]) == subject.conditional)

        partner = next((other for other in free if fits(other)), None)
        if partner is None:
            free.append(row)
        else:
            free.remove(partner)
            found.append((partner, row))
        if len(found) == count:
            break
    return found


@torch.no_grad()
def draw_interp(subject: FigureContext, count: int = 8, steps: int = 10) -> Drawing:
    found = pairs(subject, count)
    a, b = (subject.rows([pair[i] for pair in found]) for i in (0, 1))
    z_a, z_b = subject.model.encode(a.x, a.y), subject.model.encode(b.x, b.y)
    t = torch.linspace(0, 1, steps, device=z_a.device)[None, :, None]
    z = (z_a[:, None] + t * (z_b - z_a)[:, None]).flatten(0, 1)
    y = a.y.repeat_interleave(steps, 0) if subject.conditional else None
    path = subject.decode(z, y).view(len(found), steps, *subject.spec.shape)
    cell = image_cell(subject.spec, steps + 3, label=0, most=60)
    line = row_height(subject.spec, cell)
    note = (
        f"Left and right: two {subject.split} images. Between them: images decoded on the straight line from the code of the one "
        "to the code of the other. The first disjoint pairs of rows "
        + (
            "of one class."
            if subject.conditional
            else "of different classes."
            if a.labels is not None
            else "of the split."
        )
    )
    sheet = Sheet("Interpolation", note, subject.caption("interp"), len(found) * line + 18)
    middle = 1.35 * cell + GAP
    right = middle + steps * (cell + GAP) + 0.35 * cell
    for left, text in (
        (cell / 2, "image"),
        (middle + steps * (cell + GAP) / 2, "decoded on the line"),
        (right + cell / 2, "image"),
    ):
        sheet.text(left, 0, text, size=8, color=SOFT, ha="center")
    for i in range(len(found)):
        top = 16 + i * line
        for left, images in (
            (0, subject.pixels(a.x[i : i + 1])),
            (middle, subject.pixels(path[i])),
            (right, subject.pixels(b.x[i : i + 1])),
        ):
            sheet.picture(*strip(images, cell, left, top))
    numbers = {
        "pairs": found,
        "steps": steps,
        "distance_of_codes": (z_b - z_a).norm(dim=1).cpu().numpy(),
    }
    return sheet.done(
        numbers,
        f"{len(found)} rows, each fading from one {subject.split} image to another through {steps} images decoded between their codes.",
    )


# -- inversion -----------------------------------------------------------------------------------------------


def draw_invert(subject: FigureContext, n: int = 10) -> Drawing:
    """Real images and, below each, what the decoder makes of the best z that was found for it."""
    batch, model = subject.first(n), subject.model
    y = batch.y if subject.conditional else None
    found = invert(model, batch.x, y, subject.loaded.family.Options(), subject.rng("invert"))
    error = squared_error(batch.x, found.x_hat).cpu().numpy()
    rows = [
        (f"{subject.split} images", "", subject.pixels(batch.x)),
        ("best z found", f"error {error.mean():.4f}", subject.pixels(found.x_hat)),
    ]
    numbers = {
        "rows": list(range(len(batch))),
        "mse": error,
        "how": found.how,
        "squared_norm": found.z.square().sum(1).cpu().numpy(),
    }
    said = f"Below: what the decoder makes of the z {found.how}."
    if has(model, Reconstructs):
        x_hat = reconstruct(subject, batch.x, batch.y)
        by_encoder = squared_error(batch.x, x_hat).cpu().numpy()
        rows.append(("z of the encoder", f"error {by_encoder.mean():.4f}", subject.pixels(x_hat)))
        numbers["mse_of_encoder"] = by_encoder
        said += " Last row: the encoder's own z; what the search gains over it, the encoder has left lying."
    if has(model, HasFeatures):
        said += (
            " Likeness is judged by pixels and by the features of the model's own discriminator."
        )
    cell = image_cell(subject.spec, n)
    note = f"{said} What no z comes near to, the model has not learned. Below each its mean squared error per pixel, pixels in [0, 1]."
    sheet = Sheet(
        "Inversion: real images above, the nearest that the model can make below",
        note,
        subject.caption("invert"),
        len(rows) * row_height(subject.spec, cell) + 18,
    )
    top = rows_of_images(sheet, rows, cell)
    for i, value in enumerate(error):
        sheet.text(
            LABEL + (i + 0.5) * (cell + GAP), top, f"{value:.4f}", size=7.5, color=SOFT, ha="center"
        )
    sheet.text(LABEL - 10, top, "error of the best z", size=7.5, color=SOFT, ha="right")
    return sheet.done(
        numbers,
        f"{len(batch)} real images above the nearest images that the decoder can make; mean squared error {error.mean():.4f}.",
    )
