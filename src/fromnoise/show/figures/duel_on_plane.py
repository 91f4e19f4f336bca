"""The discriminator's score over the plane as a heat map, with its gradient at samples."""

from dataclasses import dataclass

import numpy as np
import torch

from ..context import FigureContext
from ..points import draw_arrows, extent_of, frame_of, grid_points, set_extent
from ..style import INK, MODEL, PAPER, SOFT, WIDTH, Drawing, Sheet
from .duel_scores import (
    Scored,
    discriminator_scores,
    draw_scores,
    figure_title,
    score_gradients,
)

CELLS = 160  # of the heat map, each way
ARROWS = 70
POINTS = 500  # real points that are drawn
COLORS = "PRGn"  # distinguishable with every kind of colour vision
SIDE = 560  # of the heat map, pixels
MAX_ARROW = 0.16  # length of an arrow over half the side of the frame


@dataclass
class Push:
    """Samples inside the frame, the gradient of the score at each, and the arrows that show it.

    longest: the gradient whose arrow has full length, per unit; steeper ones are cut.
    """

    fakes: np.ndarray
    gradients: np.ndarray
    arrows: np.ndarray
    longest: float


def draw_plane(context: FigureContext, scored: Scored) -> Drawing:
    points = scored.real.cpu().double().numpy()
    centre, half = frame_of(points, 1.25)
    extent = extent_of(centre, half)
    heat = _heat_map(context, centre, half)
    middle = float(np.median(heat))  # most losses do not fix the meaning of score 0
    reach = float(np.quantile(np.abs(heat - middle), 0.95)) or 1.0
    push = _compute_push(context, scored, centre, half)
    note = (
        f"Colour: the discriminator's score{context.of_class()}, green above and purple below its "
        f"median over this frame. {scored.sentence} An arrow is the gradient of the score at a "
        f"sample, the direction in which the generator is trained to move it: {push.longest:.3g} "
        "per unit at full length (a tenth is steeper and cut)."
    )
    sheet = Sheet(figure_title(context), note, context.caption("duel"), SIDE + 30)
    axes = sheet.add_axes(36, 2, SIDE, SIDE)
    style = {"cmap": COLORS, "alpha": 0.8, "vmin": middle - reach, "vmax": middle + reach}
    shown = axes.imshow(heat, origin="lower", extent=extent, interpolation="bilinear", **style)
    axes.scatter(*points[:POINTS].T, s=9, color=INK, alpha=0.5, linewidths=0)
    axes.scatter(*push.fakes.T, s=22, zorder=4, color=MODEL, edgecolors=PAPER, linewidths=0.7)
    if len(push.fakes):
        draw_arrows(axes, push.fakes, push.arrows, MODEL)
    set_extent(axes, extent)
    left = SIDE + 84
    bar = sheet.add_axes(left, 22, WIDTH - left - 10, 12)
    sheet.figure.colorbar(shown, cax=bar, orientation="horizontal")
    _draw_legend(sheet, context, left, min(POINTS, len(points)), len(push.fakes))
    draw_scores(sheet, scored.scores, left, 150, WIDTH - left - 10, 150)
    numbers = scored.numbers | {
        "median": middle,
        "reach": reach,
        "heat": heat[:: CELLS // 16, :: CELLS // 16],
        "fakes": push.fakes,
        "push": push.gradients,
    }
    alt = (
        f"Heat map of the discriminator's score with {len(push.fakes)} samples and an arrow at "
        f"each; it orders {100 * numbers['separation']:.0f} % of pairs of real and fake rightly."
    )
    return sheet.finish(numbers, alt)


def _heat_map(context: FigureContext, centre: np.ndarray, half: float) -> np.ndarray:
    """Scores at the middles of CELLS x CELLS cells of the frame."""
    ticks = [np.linspace(c - half, c + half, 2 * CELLS + 1)[1::2] for c in centre]
    grid = torch.from_numpy(grid_points(*ticks)).float()
    y = context.same_condition(len(grid))
    return discriminator_scores(context, grid, y).reshape(CELLS, CELLS)


def _compute_push(context: FigureContext, scored: Scored, centre: np.ndarray, half: float) -> Push:
    fakes = scored.fake.cpu().double().numpy()
    inside = np.flatnonzero((np.abs(fakes - centre) < half).all(1))[:ARROWS]
    gradients = np.zeros((0, 2))
    longest = 0.0
    if len(inside):
        y = None if scored.fake_y is None else scored.fake_y[inside]
        gradients = score_gradients(context, scored.fake[inside], y)
        longest = float(np.quantile(np.linalg.norm(gradients, axis=1), 0.9))
    scale = MAX_ARROW * half / longest if longest > 0 else 0.0
    norms = np.linalg.norm(gradients, axis=1)
    cut = np.minimum(1.0, longest / np.maximum(norms, 1e-30))
    return Push(fakes[inside], gradients, gradients * scale * cut[:, None], longest)


def _draw_legend(
    sheet: Sheet, context: FigureContext, left: float, n_real: int, n_fake: int
) -> None:
    sheet.add_text(left, 4, "fake ◄  score  ► real", size=8, color=SOFT)
    sheet.add_text(left, 70, "●", color=INK, size=9)
    sheet.add_text(left + 26, 71, f"real ({n_real} {context.split} points)", size=8)
    sheet.add_text(left, 88, "●→", color=MODEL, size=9)
    choice = ", unselected" if context.raw.family.progress_values else ""
    sheet.add_text(left + 26, 89, f"fake ({n_fake}{choice})", size=8)
