"""Latent codes by class."""

from ..conditions import encodes, has_dims
from ..context import FigureContext
from ..figure import Figure
from ..latent_plane import POINTS, draw_class_legend, draw_codes, has_prior
from ..style import Drawing, Sheet

SIDE = 600  # of the plot, pixels


def draw_scatter(context: FigureContext) -> Drawing:
    codes = context.codes
    dims = context.dims
    n = len(codes.z)
    shown = min(POINTS, n)
    note = f"Drawn: {codes.kind}, of {shown:,} {context.split} examples."
    if codes.z.shape[1] > 2:
        note += f" Dimensions {dims[0]} and {dims[1]} of {codes.z.shape[1]}, counted from 0."
    if codes.y is not None:
        note += " Colour and glyph of a point show its class."
    if has_prior(context):
        note += " Circles: the prior N(0, I) at 1 and 2 standard deviations."
    title = f"Latent plane of {context.name}"
    sheet = Sheet(title, note, context.caption("scatter"), SIDE + 30)
    axes = sheet.add_axes(44, 4, SIDE, SIDE)
    draw_codes(axes, context, size=30 if n > 600 else 46)
    y = None if codes.y is None else codes.y[:shown]
    if y is not None:
        draw_class_legend(sheet, context, SIDE + 70, y)
    numbers = {
        "drawn": codes.kind,
        "dims": list(dims),
        "range": [[codes.z[:, dim].min(), codes.z[:, dim].max()] for dim in dims],
        "n": n,
        "z": codes.z[:shown, dims],
        "y": y,
    }
    alt = (
        f"Scatter plot of {codes.kind} in dimensions {dims[0]} and {dims[1]}, "
        f"{shown} {context.split} examples, by class."
    )
    return sheet.finish(numbers, alt)


FIGURE = Figure(
    name="scatter",
    about="latent codes by class",
    group="latents",
    needs=(encodes, has_dims),
    draw=draw_scatter,
)
