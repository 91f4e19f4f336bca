"""Trajectories of points from noise to data, the vector field that moves them, and their clouds."""

import numpy as np
import torch
from matplotlib.axes import Axes

from ..conditions import denoises, is_plane, traces
from ..context import FigureContext
from ..figure import Figure, Section, always
from ..points import (
    Extent,
    draw_arrows,
    draw_clouds,
    extent_of,
    frame_of,
    grid_points,
    set_bare_frame,
)
from ..style import ACCENT, MODEL, REAL, SOFT, WIDTH, Drawing, Sheet
from .denoising import format_level

PATHS = 60  # trajectories that are drawn
POINTS = 512  # of a cloud
ARROWS = 18  # of the field, in each direction
FIELD_LEVEL = 0.4  # noise level of the field
CLOUDS = (1.0, 0.7, 0.45, 0.25, 0.1, 0.0)  # noise levels of the clouds


@torch.no_grad()
def draw_trajectories(context: FigureContext) -> Drawing:
    """Trajectories, the field at one noise level, and the cloud of points at six levels."""
    states, levels = _trace(context)
    points = context.first(POINTS).x.cpu().double().numpy()
    corners = np.quantile(states[0], [0.01, 0.99], axis=0)
    extent = extent_of(*frame_of(np.concatenate([points, corners]), 1.1))
    side = (WIDTH - 24) / 2
    small = (WIDTH - 8 * (len(CLOUDS) - 1)) / len(CLOUDS)
    title = f"Trajectories from noise to data of {context.name}"
    note = _note(len(states) - 1)
    sheet = Sheet(title, note, context.caption("trajectories"), side + 38 + small + 6)
    axes = sheet.add_axes(0, 18, side, side)
    draw_density(axes, context, extent, points)
    _draw_paths(axes, states)
    set_bare_frame(axes, extent, "trajectories")
    grid, push = _draw_field(sheet.add_axes(side + 24, 18, side, side), context, points)
    all_axes = sheet.add_panels(len(CLOUDS), len(CLOUDS), small, small, (8, 0), 0, side + 42)
    for axes, level in zip(all_axes, CLOUDS):
        i = int(np.abs(levels - level).argmin())
        draw_clouds(axes, points, states[i], 2)
        set_bare_frame(axes, extent, f"{format_level(levels[i])} noise")
    numbers = {
        "steps": len(states) - 1,
        "ends": states[-1, :PATHS],
        "starts": states[0, :PATHS],
        "level": FIELD_LEVEL,
        "grid": grid,
        "push": push,
    }
    alt = (
        f"Trajectories of {PATHS} points from noise to the data, the vector field at "
        f"{100 * FIELD_LEVEL:.0f} % noise, and clouds of points at {len(CLOUDS)} noise levels."
    )
    return sheet.finish(numbers, alt)


def _note(steps: int) -> str:
    return (
        f"Left: {PATHS} trajectories from noise (○) to a sample (●), {steps} steps. Right: at "
        f"{100 * FIELD_LEVEL:.0f} % noise, arrows from a point towards the prediction of its data "
        "point, at a quarter of their length: the velocity of the flow, and up to a drift to the "
        "middle the score, the direction in which the density of noised data (grey) grows. "
        f"Below: {POINTS} points on their way."
    )


def _trace(context: FigureContext) -> tuple[np.ndarray, np.ndarray]:
    """States (moments, POINTS, 2) of points on their way from noise, and their noise levels."""
    options = context.options
    if "steps" in type(options).model_fields:
        options = options.model_copy(update={"steps": 50})
    rng = context.rng("trajectories").per_row(range(POINTS))
    moments = context.model.trace(POINTS, context.labels(POINTS), options, rng)
    states = np.stack([m.x.cpu().double().numpy() for m in moments])
    return states, np.array([m.level for m in moments])


def _draw_field(
    axes: Axes, context: FigureContext, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Arrows from grid points (N, 2) over noised real points.

    Returns the grid, and the prediction minus each of its points.
    """
    centre, half = frame_of(points, 1.35)
    ticks = [np.linspace(c - half, c + half, ARROWS + 2)[1:-1] for c in centre]
    grid = torch.from_numpy(grid_points(*ticks)).float().to(context.loaded.device)
    y = context.same_condition(len(grid))
    goal = context.model.clean(grid, FIELD_LEVEL, y, context.options)
    push = (goal - grid).cpu().double().numpy()
    real = context.first(POINTS).x
    z = context.rng("field").per_row(range(len(real))).normal("z", real.shape)
    cloud = context.model.noised(real, FIELD_LEVEL, z).cpu().double().numpy()
    axes.scatter(*cloud.T, s=6, color=REAL, alpha=0.35, linewidths=0)
    draw_arrows(axes, grid.cpu().numpy(), push / 4, ACCENT)
    set_bare_frame(axes, extent_of(centre, half), f"field at {100 * FIELD_LEVEL:.0f} % noise")
    return grid.cpu().numpy(), push


def _draw_paths(axes: Axes, states: np.ndarray) -> None:
    for path in states[:, :PATHS].transpose(1, 0, 2):
        axes.plot(*path.T, color=MODEL, linewidth=0.8, alpha=0.55)
    style = {"facecolors": "none", "edgecolors": SOFT, "linewidths": 0.8}
    axes.scatter(*states[0, :PATHS].T, s=14, zorder=3, **style)
    axes.scatter(*states[-1, :PATHS].T, s=8, color=MODEL, linewidths=0, zorder=4)


def draw_density(
    axes: Axes, context: FigureContext, extent: Extent, points: np.ndarray, cells: int = 200
) -> None:
    """Real points, over the true density if it is known."""
    axes.scatter(*points.T, s=9, color=REAL, alpha=0.25, linewidths=0)
    if context.dataset.log_density is None:
        return
    x = np.linspace(*extent[:2], cells)
    y = np.linspace(*extent[2:], cells)
    p = np.exp(context.dataset.log_density(grid_points(x, y))).reshape(cells, cells)
    style = {"cmap": "Greys", "alpha": 0.55, "interpolation": "bilinear"}
    top = 1.2 * np.sqrt(p.max())
    axes.imshow(np.sqrt(p), origin="lower", extent=extent, vmin=0, vmax=top, **style)


FIGURE = Figure(
    name="trajectories",
    about="trajectories of points from noise to data, and their vector field",
    group="noise",
    needs=(is_plane, traces, denoises),
    draw=draw_trajectories,
    on_page=always,
    section=Section(
        "From noise to a sample, as trajectories",
        "The trajectory of each point, and the vector field that moves them.",
        place=60,
    ),
)
