"""Images decoded over the latent plane."""

from ..conditions import decodes, encodes, has_dims, is_image
from ..context import FigureContext
from ..figure import Figure
from ..latent_plane import WIDEN, cells_for, decoded_plane, draw_plane, plane_image, plane_range
from ..style import WIDTH, Drawing, Sheet


def draw_grid(context: FigureContext) -> Drawing:
    dims = context.dims
    latent_dim = context.codes.z.shape[1]
    count = cells_for(context.spec)
    images, ranges = decoded_plane(context, count)
    note = (
        f"Each cell is the image{context.of_class()} decoded at its middle. The plane covers "
        f"{WIDEN} times the range of {len(context.codes.z):,} {context.split} codes "
        "(dashed frame: that range)."
    )
    if latent_dim > 2:
        note += f" Dimensions {dims[0]} and {dims[1]} of {latent_dim}; the others stay at the mean code."
    width = 700.0
    height = 700.0
    exact = plane_image(images, count).shape
    if max(exact[:2]) <= 2 * (WIDTH - 60):
        width = exact[1] / 2
        height = exact[0] / 2
    title = f"Decoded latent plane of {context.name}"
    sheet = Sheet(title, note, context.caption("grid"), height + 34)
    draw_plane(sheet.add_axes(52, 2, width, height), context, images, count, ranges)
    numbers = {
        "dims": list(dims),
        "range": ranges,
        "range_of_codes": plane_range(context.codes, dims, 1.0),
        "widened": WIDEN,
        "cells": count,
    }
    (left, right), (bottom, top) = ranges
    alt = (
        f"{count} by {count} images decoded over the latent plane, from {left:.2g} to "
        f"{right:.2g} across and from {bottom:.2g} to {top:.2g} up."
    )
    return sheet.finish(numbers, alt)


FIGURE = Figure(
    name="grid",
    about="images decoded over the latent plane",
    group="latents",
    needs=(is_image, encodes, decodes, has_dims),
    draw=draw_grid,
)
