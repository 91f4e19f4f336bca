"""Images decoded while one latent dimension at a time changes."""

import numpy as np
import torch

from ...core.capabilities import EncodesDistribution, has
from ..conditions import decodes, encodes, is_image
from ..context import FigureContext
from ..figure import Figure
from ..image_rows import ImageRow, sheet_of_rows
from ..style import Drawing
from .kl import kl_of_dims


def ordered_dims(context: FigureContext) -> tuple[np.ndarray, np.ndarray, str]:
    """Dimensions, most used first; the values that they are ordered by; the name of these."""
    if has(context.model, EncodesDistribution):
        values = kl_of_dims(context)
        name = "KL, nats"
    else:
        values = context.codes.z.var(0)
        name = "variance"
    return np.argsort(-values, kind="stable"), values, name


def draw_traverse(context: FigureContext, most: int = 10, columns: int = 13) -> Drawing:
    order, values, ordered_by = ordered_dims(context)
    order = order[:most]
    steps = np.linspace(-3, 3, columns)
    latent_dim = context.codes.z.shape[1]
    images = _decode(context, order, steps)
    name = ordered_by.split(",")[0]
    limit = "" if len(order) == latent_dim else f"; the first {len(order)}"
    note = (
        f"Each row moves one of {latent_dim} latent dimensions through ±3 standard deviations of "
        f"the {context.split} codes, the others at the mean code{context.of_class()}. "
        f"Rows by {name}, largest first{limit}."
    )
    labels = [f"{step:+.0f}" if step else "mean" for step in steps]
    labels[1::2] = [""] * len(labels[1::2])
    rows = []
    for i, dim in enumerate(order):
        of_dim = images[i * columns : (i + 1) * columns]
        rows.append(ImageRow(f"z{dim}", of_dim, f"{name} {values[dim]:.3g}"))
    note += " Above: standard deviations from the mean code."
    title = "Latent traversals"
    caption = context.caption("traverse")
    sheet = sheet_of_rows(title, note, caption, rows, labels)
    numbers = {
        "dims": order,
        "ordered_by": ordered_by,
        "values": values[order],
        "standard_deviations": context.codes.spread[order],
        "steps": steps,
    }
    alt = (
        "Images decoded while one latent dimension at a time moves from -3 to 3 standard "
        f"deviations, {len(order)} dimensions."
    )
    return sheet.finish(numbers, alt)


def _decode(context: FigureContext, dims: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Pixels (dims * steps, H, W[, 3]): each dimension at each step, in standard deviations."""
    codes = context.codes
    z = np.tile(codes.z.mean(0), (len(dims), len(steps), 1))
    for i, dim in enumerate(dims):
        z[i, :, dim] += steps * codes.spread[dim]
    return context.pixels(context.decode(torch.from_numpy(z).float().flatten(0, 1)))


FIGURE = Figure(
    name="traverse",
    about="one latent dimension at a time",
    group="latents",
    needs=(is_image, encodes, decodes),
    draw=draw_traverse,
)
