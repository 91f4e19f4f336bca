"""Codes in two latent dimensions, and the images decoded over the same plane."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle

from ..core.capabilities import EncodesDistribution, has
from ..core.spec import DataSpec
from .context import Codes, FigureContext
from .image_rows import tile
from .points import extent_of, half_side, set_extent
from .style import ACCENT, CLASSES, INK, WIDTH, Sheet, halo, show_image

WIDEN = 1.3  # the decoded plane covers this times the range of the codes
POINTS = 2000  # codes that are drawn at most; more would hide each other

Ranges = list[list[float]]  # [[low, high], [low, high]] of the two dimensions


# -- codes by class ------------------------------------------------------------------------------


def has_prior(context: FigureContext) -> bool:
    """True if the prior is a standard normal, as in every family that encodes a distribution."""
    return has(context.model, EncodesDistribution)


def draw_codes(axes: Axes, context: FigureContext, size: float = 34) -> None:
    """The codes in the two dimensions asked for, equal units on both axes."""
    codes = context.codes
    dims = list(context.dims)
    z = codes.z[:POINTS, dims]
    if codes.y is None:
        axes.scatter(*z.T, s=size / 4, color=ACCENT, alpha=0.6, linewidths=0)
    else:
        _draw_classes(axes, context, z, codes.y[:POINTS], size)
    if has_prior(context):
        _draw_prior(axes)
    _set_limits(axes, codes.z[:, dims], has_prior(context))
    _name_axes(axes, context)
    axes.grid(True)


def _draw_classes(
    axes: Axes, context: FigureContext, z: np.ndarray, y: np.ndarray, size: float
) -> None:
    """Each point as the glyph of its class; a large glyph at the median of each class."""
    # classes take turns, so that none covers all others
    for part in np.array_split(np.arange(len(z)), max(1, len(z) // 250)):
        for label in np.unique(y[part]):
            color, marker = class_mark(context, label)
            area = size * (1.0 if len(marker) == 3 else 1.9)
            points = z[part][y[part] == label]
            style = {"marker": marker, "linewidths": 0, "alpha": 0.85}
            axes.scatter(*points.T, s=area, color=color, **style)
    style = {"ha": "center", "va": "center", "path_effects": halo(4), "zorder": 5}
    for label in np.unique(y):
        middle = np.median(z[y == label], 0)
        color = class_mark(context, label)[0]
        text = glyph(context, label)
        axes.text(*middle, text, fontsize=15, weight="bold", color=color, **style)


def _draw_prior(axes: Axes) -> None:
    """Circles at 1 and 2 standard deviations of N(0, I)."""
    style = {"ha": "center", "va": "center", "path_effects": halo(), "zorder": 6}
    line = {"fill": False, "color": INK, "linewidth": 0.9, "linestyle": "--", "zorder": 4}
    for radius in (1, 2):
        axes.add_patch(Circle((0, 0), radius, **line))
        axes.text(0, -radius, f"{radius}σ", fontsize=7, **style)


def _set_limits(axes: Axes, z: np.ndarray, with_prior: bool) -> None:
    low = z.min(0)
    high = z.max(0)
    if with_prior:
        low = np.minimum(low, -2.1)
        high = np.maximum(high, 2.1)
    centre = (low + high) / 2
    half = half_side(low, high, 1.05)
    set_extent(axes, extent_of(centre, half))


def _name_axes(axes: Axes, context: FigureContext) -> None:
    axes.set_xlabel(f"$z_{{{context.dims[0]}}}$", parse_math=True, labelpad=2)
    axes.set_ylabel(f"$z_{{{context.dims[1]}}}$", parse_math=True, labelpad=2)


def glyph(context: FigureContext, label: int) -> str:
    """The sign of a class: its name if that is one letter or digit, else its number."""
    name = context.class_name(int(label))
    return name if len(name) == 1 and name.isascii() and name.isalnum() else str(int(label))


def class_mark(context: FigureContext, label: int) -> tuple[str, str]:
    """Colour and matplotlib marker of a class."""
    return CLASSES[int(label) % len(CLASSES)], f"${glyph(context, label)}$"


def draw_class_legend(sheet: Sheet, context: FigureContext, left: float, y: np.ndarray) -> None:
    """At most 25 classes with their numbers of examples. y (n,): the class of each example."""
    handles = []
    for label in np.unique(y)[:25].tolist():
        color, marker = class_mark(context, label)
        name = context.class_name(label)
        if name == glyph(context, label):
            name = f"class {name}"
        name += f"  ({int((y == label).sum())})"
        style = {"linestyle": "", "markersize": 8, "markeredgewidth": 0}
        handles.append(Line2D([], [], color=color, marker=marker, label=name, **style))
    axes = sheet.add_axes(left, 4, WIDTH - left, 20 * len(handles) + 24)
    axes.set_axis_off()
    legend = axes.legend(
        handles=handles,
        loc="upper left",
        borderaxespad=0,
        title="class (examples)",
        alignment="left",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


# -- the decoded plane ---------------------------------------------------------------------------


def plane_range(codes: Codes, dims: tuple[int, int], widen: float = WIDEN) -> Ranges:
    """The range of the codes in two dimensions, ``widen`` times as wide about its middle."""
    ranges = []
    for dim in dims:
        low = float(codes.z[:, dim].min())
        high = float(codes.z[:, dim].max())
        half = max((high - low) / 2, 1e-6) * widen
        ranges.append([(low + high) / 2 - half, (low + high) / 2 + half])
    return ranges


def decoded_plane(context: FigureContext, count: int) -> tuple[np.ndarray, Ranges]:
    """count x count images, the top row at the highest z of the second dimension; the ranges.

    Each image is decoded at the middle of its cell; the other dimensions stay at the mean code.
    """
    ranges = plane_range(context.codes, context.dims)
    cells = np.arange(count) + 0.5
    across, up = (low + (high - low) * cells / count for low, high in ranges)
    z = np.tile(context.codes.z.mean(0), (count * count, 1))
    z[:, context.dims[0]] = np.tile(across, count)
    z[:, context.dims[1]] = np.repeat(up[::-1], count)
    return context.pixels(context.decode(torch.from_numpy(z).float())), ranges


def plane_image(images: np.ndarray, count: int, target: int = 1300) -> np.ndarray:
    """The cells with thin white lines between and around them, near ``target`` pixels wide."""
    side = images.shape[2]
    factor = max(1, round(target / count / side))
    tiled, _, _ = tile(images, count, side * factor / 2, gap=1)
    return np.pad(tiled, [(1, 1), (1, 1)] + [(0, 0)] * (tiled.ndim - 2), constant_values=255)


def draw_plane(
    axes: Axes, context: FigureContext, images: np.ndarray, count: int, ranges: Ranges
) -> None:
    """The image of the plane, and a dashed frame at the range of the codes."""
    extent = (*ranges[0], *ranges[1])
    show_image(axes, plane_image(images, count), extent=extent, interpolation="auto")
    (x0, x1), (y0, y1) = plane_range(context.codes, context.dims, 1.0)
    style = {"fill": False, "color": "#ffb000", "linewidth": 1.1, "linestyle": (0, (5, 3))}
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, **style))
    _name_axes(axes, context)


def cells_for(spec: DataSpec) -> int:
    """Images on each side of the plane."""
    side = max(spec.shape[1:])
    if side < 16:
        return 15
    return 20 if side <= 32 else 12
