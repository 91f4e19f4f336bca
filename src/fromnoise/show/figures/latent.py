"""Figures of the latent plane: codes by class, and the images decoded over it."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle

from ...core.capabilities import EncodesDistribution, has
from ..context import Codes, FigureContext
from ..style import ACCENT, CLASSES, INK, WIDTH, Drawing, Sheet, halo, plain, show_image
from .images import tile
from .progress import half_side

WIDEN = 1.3  # the decoded plane shows this times the range of the codes
POINTS = 2000  # codes that are drawn at most; more would hide each other


# -- codes by class ------------------------------------------------------------------------------------------


def draw_scatter(subject: FigureContext) -> Drawing:
    codes, d = subject.codes, subject.dims
    n, shown = len(codes.z), min(POINTS, len(codes.z))
    note = f"What is drawn: {codes.kind}, of {shown:,} {subject.split} examples."
    if codes.z.shape[1] > 2:
        note += f" Dimensions {d[0]} and {d[1]} of {codes.z.shape[1]}, counted from 0; the others are not seen here."
    if codes.y is not None:
        note += " A point is its class's glyph in its class's colour."
    if has_prior(subject):
        note += " Circles: the prior N(0, I) at 1 and 2 standard deviations."
    side = 600
    sheet = Sheet(
        f"Latent plane of {plain(subject.loaded.run.name)}",
        note,
        subject.caption("scatter"),
        side + 30,
    )
    axes = sheet.axes(44, 4, side, side)
    scatter(axes, subject, size=30 if n > 600 else 46)
    legend(sheet, subject, side + 70, codes.y[:shown] if codes.y is not None else np.array([]))
    ranges = [[codes.z[:, k].min(), codes.z[:, k].max()] for k in d]
    numbers = {
        "drawn": codes.kind,
        "dims": list(d),
        "range": ranges,
        "n": n,
        "z": codes.z[:shown, d],
        "y": None if codes.y is None else codes.y[:shown],
    }
    return sheet.done(
        numbers,
        f"Scatter plot of {codes.kind} in dimensions {d[0]} and {d[1]}, {shown} {subject.split} examples, by class.",
    )


def has_prior(subject: FigureContext) -> bool:
    """Is the plane's prior a standard normal? True of every family here that encodes a distribution."""
    return has(subject.model, EncodesDistribution)


def scatter(axes: Axes, subject: FigureContext, size: float = 34) -> None:
    """The codes in the two dimensions asked for, equal units on both axes."""
    codes, d = subject.codes, list(subject.dims)
    z = codes.z[:POINTS, d]
    if codes.y is None:
        axes.scatter(*z.T, s=size / 4, color=ACCENT, alpha=0.6, linewidths=0)
    else:
        y = codes.y[:POINTS]
        for part in np.array_split(
            np.arange(len(z)), max(1, len(z) // 250)
        ):  # in turn: no class lies on top of all others
            for label in np.unique(y[part]):
                color, marker = class_mark(subject, label)
                here = z[part][y[part] == label]
                axes.scatter(
                    *here.T,
                    s=size * marker_scale(marker),
                    color=color,
                    marker=marker,
                    linewidths=0,
                    alpha=0.85,
                )
        for label in np.unique(y):
            x0, y0 = np.median(z[y == label], 0)
            axes.text(
                x0,
                y0,
                glyph(subject, label),
                fontsize=15,
                weight="bold",
                color=class_mark(subject, label)[0],
                ha="center",
                va="center",
                path_effects=halo(4),
                zorder=5,
            )
    if has_prior(subject):
        for radius in (1, 2):
            axes.add_patch(
                Circle(
                    (0, 0), radius, fill=False, color=INK, linewidth=0.9, linestyle="--", zorder=4
                )
            )
            axes.text(
                0,
                -radius,
                f"{radius}σ",
                fontsize=7,
                ha="center",
                va="center",
                path_effects=halo(),
                zorder=6,
            )
    square(axes, codes.z[:, d], has_prior(subject))
    axes.set_xlabel(f"$z_{{{d[0]}}}$", parse_math=True, labelpad=2)
    axes.set_ylabel(f"$z_{{{d[1]}}}$", parse_math=True, labelpad=2)
    axes.grid(True)


def square(axes: Axes, z: np.ndarray, prior: bool) -> None:
    """The same length for the same number on both axes, in a square frame."""
    low, high = z.min(0), z.max(0)
    if prior:
        low, high = np.minimum(low, -2.1), np.maximum(high, 2.1)
    centre, half = (low + high) / 2, half_side(low, high, 1.05)
    axes.set_xlim(centre[0] - half, centre[0] + half)
    axes.set_ylim(centre[1] - half, centre[1] + half)
    axes.set_aspect("equal")


def glyph(subject: FigureContext, label: int) -> str:
    """One sign for a class: its name if that is one letter or digit, else its number."""
    name = subject.class_name(int(label))
    return name if len(name) == 1 and name.isascii() and name.isalnum() else str(int(label))


def class_mark(subject: FigureContext, label: int) -> tuple[str, str]:
    """Colour and matplotlib marker of a class."""
    return CLASSES[int(label) % len(CLASSES)], f"${glyph(subject, label)}$"


def marker_scale(marker: str) -> float:
    return 1.0 if len(marker) == 3 else 1.9


def legend(sheet: Sheet, subject: FigureContext, left: float, y: np.ndarray) -> None:
    labels = [int(label) for label in np.unique(y)]
    if not labels:
        return
    handles = []
    for label in labels[:25]:
        color, marker = class_mark(subject, label)
        name, count = subject.class_name(label), int((y == label).sum())
        name = f"{name}  ({count})" if name != glyph(subject, label) else f"class {name}  ({count})"
        handles.append(
            Line2D(
                [],
                [],
                color=color,
                marker=marker,
                linestyle="",
                markersize=8,
                markeredgewidth=0,
                label=name,
            )
        )
    axes = sheet.axes(left, 4, WIDTH - left, 20 * len(handles) + 24)
    axes.set_axis_off()
    axes.legend(
        handles=handles,
        loc="upper left",
        borderaxespad=0,
        handletextpad=0.4,
        labelspacing=0.75,
        fontsize=8.5,
        title="class (examples)",
        title_fontsize=8,
        alignment="left",
    )
    for text in axes.get_legend().get_texts():
        text.set_parse_math(False)


# -- the decoded plane ---------------------------------------------------------------------------------------


def plane_range(codes: Codes, dims: tuple[int, int], widen: float = WIDEN) -> list[list[float]]:
    """[[low, high], [low, high]]: the range of the codes about its middle, times ``widen``."""
    out = []
    for d in dims:
        low, high = float(codes.z[:, d].min()), float(codes.z[:, d].max())
        half = max((high - low) / 2, 1e-6) * widen
        out.append([(low + high) / 2 - half, (low + high) / 2 + half])
    return out


def decoded_plane(subject: FigureContext, count: int) -> tuple[np.ndarray, list[list[float]]]:
    """count x count images, the top row at the highest z of the second dimension; the ranges they stand for.

    Each image is decoded at the middle of its cell; the other dimensions stay at the mean code.
    """
    ranges = plane_range(subject.codes, subject.dims)
    across, up = (
        [low + (high - low) * (i + 0.5) / count for i in range(count)] for low, high in ranges
    )
    z = np.tile(subject.codes.z.mean(0), (count * count, 1))
    z[:, subject.dims[0]] = np.tile(across, count)
    z[:, subject.dims[1]] = np.repeat(up[::-1], count)
    return subject.pixels(subject.decode(torch.from_numpy(z).float())), ranges


def plane_picture(images: np.ndarray, count: int, target: int = 1300) -> np.ndarray:
    """The cells with thin white lines between and around them, near ``target`` pixels wide."""
    side = images.shape[2]
    factor = max(1, round(target / count / side))
    picture, _, _ = tile(images, count, side * factor / 2, gap=1)
    return np.pad(picture, [(1, 1), (1, 1)] + [(0, 0)] * (picture.ndim - 2), constant_values=255)


def plane_axes(
    axes: Axes, subject: FigureContext, images: np.ndarray, count: int, ranges: list
) -> None:
    """The picture of the plane with its values, and a frame at the range of the codes themselves."""
    show_image(
        axes, plane_picture(images, count), extent=(*ranges[0], *ranges[1]), interpolation="auto"
    )
    (x0, x1), (y0, y1) = plane_range(subject.codes, subject.dims, 1.0)
    axes.add_patch(
        Rectangle(
            (x0, y0),
            x1 - x0,
            y1 - y0,
            fill=False,
            color="#ffb000",
            linewidth=1.1,
            linestyle=(0, (5, 3)),
        )
    )
    axes.set_xlabel(f"$z_{{{subject.dims[0]}}}$", parse_math=True, labelpad=2)
    axes.set_ylabel(f"$z_{{{subject.dims[1]}}}$", parse_math=True, labelpad=2)


def cells_for(spec) -> int:
    side = max(spec.shape[1:])
    return 15 if side < 16 else 20 if side <= 32 else 12


def draw_grid(subject: FigureContext) -> Drawing:
    d, D, count = subject.dims, subject.codes.z.shape[1], cells_for(subject.spec)
    images, ranges = decoded_plane(subject, count)
    note = (
        f"Each cell is the image{subject.of_class()} decoded at its middle. The plane covers {WIDEN} times the range of "
        f"{len(subject.codes.z):,} {subject.split} codes (dashed frame: that range)."
    )
    if D > 2:
        note += f" Dimensions {d[0]} and {d[1]} of {D}; the others stay at the mean code."
    exact = plane_picture(images, count).shape
    width, height = (
        (exact[1] / 2, exact[0] / 2) if max(exact[:2]) <= 2 * (WIDTH - 60) else (700, 700)
    )
    sheet = Sheet(
        f"Decoded latent plane of {plain(subject.loaded.run.name)}",
        note,
        subject.caption("grid"),
        height + 34,
    )
    axes = sheet.axes(52, 2, width, height)
    plane_axes(axes, subject, images, count, ranges)
    numbers = {
        "dims": list(d),
        "range": ranges,
        "range_of_codes": plane_range(subject.codes, d, 1.0),
        "widened": WIDEN,
        "cells": count,
    }
    return sheet.done(
        numbers,
        f"{count} by {count} images decoded over the latent plane, from {ranges[0][0]:.2g} to {ranges[0][1]:.2g} across and from {ranges[1][0]:.2g} to {ranges[1][1]:.2g} up.",
    )
