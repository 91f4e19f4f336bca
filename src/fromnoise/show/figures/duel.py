"""Scores of the discriminator: a heat map over the plane with its gradient, or extreme images.

Raw weights are used: the discriminator was not trained against samples of the averaged weights.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from ...core.capabilities import Judges, has
from ...inference import sample
from ...measures.separation import separation
from ..context import BLOCK, FigureContext
from ..figure import Figure, Section, always
from ..image_rows import GAP, LABEL, draw_rows, image_cell, label_columns, row_height
from ..points import extent_of, frame_of, set_extent
from ..style import INK, MODEL, PAPER, REAL, SOFT, WIDTH, Drawing, Sheet, plain

CELLS = 160  # of the heat map, each way
ARROWS = 70
POINTS = 500  # real points that are drawn
MANY = 400  # scores, of which a few outliers may stay outside the histogram
SCORED = 1000  # samples, and at most so many real examples
COLORS = "PRGn"  # distinguishable with every kind of colour vision
SIDE = 560  # of the heat map, pixels
MAX_ARROW = 0.16  # length of an arrow over half the side of the frame


def why_not(context: FigureContext) -> str:
    if not has(context.model, Judges):
        return "this model has no discriminator"
    spec = context.spec
    if spec.kind == "image" or (spec.dims == 2 and context.dataset.columns is None):
        return ""
    return "it is for images and points in the plane"


@torch.no_grad()
def discriminator_scores(context: FigureContext, x: Tensor, y: Tensor | None) -> np.ndarray:
    """Scores (N,) of x by the raw weights; a high score means real."""
    model = context.raw.model
    y = y if context.conditional else None
    parts = []
    for i in range(0, len(x), BLOCK):
        y_part = None if y is None else y[i : i + BLOCK]
        parts.append(model.judge(x[i : i + BLOCK].to(context.raw.device), y_part))
    return torch.cat(parts).cpu().double().numpy()


def score_gradients(context: FigureContext, x: Tensor, y: Tensor | None) -> np.ndarray:
    """Gradient of the score at each x (N, *shape): the direction that the generator is moved in."""
    y = y if context.conditional else None
    with torch.enable_grad():
        x = x.to(context.raw.device).clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(context.raw.model.judge(x, y).sum(), x)
    return gradient.cpu().double().numpy()


@dataclass
class Scored:
    """Real examples and samples with their scores. numbers: of both kinds of figures."""

    real: Tensor
    fake: Tensor
    fake_y: Tensor | None
    scores: dict[str, np.ndarray]
    sentence: str
    numbers: dict = field(default_factory=dict)


def draw_duel(context: FigureContext) -> Drawing:
    scored = _score(context)
    return (_draw_images if context.spec.kind == "image" else _draw_plane)(context, scored)


def _score(context: FigureContext) -> Scored:
    n = SCORED
    options = context.raw.family.watching
    fake = sample.sample(context.raw, n, context.seed, options=options)
    fake_y = None
    if context.conditional:
        fake_y = context.dataset.default_conditions(range(n)).to(fake.device)
    real = context.first(n)
    scores = {
        "real": discriminator_scores(context, real.x, real.y),
        "fake": discriminator_scores(context, fake, fake_y),
    }
    right = separation(torch.from_numpy(scores["real"]), torch.from_numpy(scores["fake"]))
    sentence = (
        "With raw weights, not their average. The discriminator scores a real "
        f"{context.split} example above a sample in {100 * right:.0f} % of pairs (50 %: it cannot "
        "distinguish them)."
    )
    means = {name: values.mean() for name, values in scores.items()}
    numbers = {"separation": right, "n": n, "mean_score": means}
    return Scored(real.x, fake, fake_y, scores, sentence, numbers)


def _title(context: FigureContext) -> str:
    return f"Discriminator and samples of {plain(context.loaded.run.name)}"


# -- points --------------------------------------------------------------------------------------


@dataclass
class Push:
    """Samples inside the frame, the gradient of the score at each, and the arrows that show it.

    longest: the gradient whose arrow has full length, per unit; steeper ones are cut.
    """

    fakes: np.ndarray
    gradients: np.ndarray
    arrows: np.ndarray
    longest: float


def _draw_plane(context: FigureContext, scored: Scored) -> Drawing:
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
    sheet = Sheet(_title(context), note, context.caption("duel"), SIDE + 30)
    axes = sheet.add_axes(36, 2, SIDE, SIDE)
    shown = axes.imshow(
        heat,
        origin="lower",
        extent=extent,
        cmap=COLORS,
        vmin=middle - reach,
        vmax=middle + reach,
        alpha=0.8,
        interpolation="bilinear",
    )
    axes.scatter(*points[:POINTS].T, s=9, color=INK, alpha=0.5, linewidths=0)
    _draw_push(axes, push)
    set_extent(axes, extent)
    left = SIDE + 84
    bar = sheet.add_axes(left, 22, WIDTH - left - 10, 12)
    bar.figure.colorbar(shown, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=7)
    _draw_legend(sheet, context, left, min(POINTS, len(points)), len(push.fakes))
    _draw_histogram(sheet, scored.scores, left, 150, WIDTH - left - 10, 150)
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
    grid = torch.from_numpy(np.stack(np.meshgrid(*ticks), -1).reshape(-1, 2)).float()
    y = context.labels(1).expand(len(grid)) if context.conditional else None
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


def _draw_push(axes: Axes, push: Push) -> None:
    style = {"color": MODEL, "edgecolors": PAPER, "linewidths": 0.7}
    axes.scatter(*push.fakes.T, s=22, zorder=4, **style)
    if len(push.fakes):
        axes.quiver(
            *push.fakes.T,
            *push.arrows.T,
            angles="xy",
            scale_units="xy",
            scale=1,
            color=MODEL,
            width=0.004,
            headwidth=4,
            headlength=4.5,
            headaxislength=4,
            zorder=3,
        )


def _draw_legend(
    sheet: Sheet, context: FigureContext, left: float, n_real: int, n_fake: int
) -> None:
    sheet.add_text(left, 4, "fake ◄  score  ► real", size=8, color=SOFT)
    sheet.add_text(left, 70, "●", color=INK, size=9)
    sheet.add_text(left + 26, 71, f"real ({n_real} {context.split} points)", size=8)
    sheet.add_text(left, 88, "●→", color=MODEL, size=9)
    choice = ", unselected" if context.raw.family.watching else ""
    sheet.add_text(left + 26, 89, f"fake ({n_fake}{choice}), gradient", size=8)


def _draw_histogram(
    sheet: Sheet, scores: dict, left: float, top: float, width: float, height: float
) -> None:
    """Scores of real and fake examples."""
    axes = sheet.add_axes(left, top, width, height)
    both = np.concatenate(list(scores.values()))
    is_cut = len(both) > MANY
    low, high = np.quantile(both, [0.005, 0.995]) if is_cut else (both.min(), both.max())
    edges = np.linspace(low, high if high > low else low + 1, 31)
    for name, color, right in (("real", REAL, width - 34), ("fake", MODEL, width)):
        share = np.histogram(scores[name], edges)[0] / len(scores[name])
        axes.stairs(share, edges, fill=True, color=color, alpha=0.18)
        axes.stairs(share, edges, color=color, linewidth=1.4)
        sheet.add_text(left + right, top - 16, name, color=color, ha="right")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title("scores", fontsize=9)
    axes.set_xlabel("the middle 99 %" if is_cut else "", fontsize=8)
    axes.tick_params(labelsize=7)


# -- images --------------------------------------------------------------------------------------


def _draw_images(context: FigureContext, scored: Scored, columns: int = 8) -> Drawing:
    """The samples and the real images with the highest and the lowest scores."""
    columns = min(columns, len(scored.real))
    cell = image_cell(context.spec, columns + 2.6, most=60)
    line = row_height(context.spec, cell) + 20
    note = (
        f"{scored.sentence} Below each image its score, high for real; of {len(scored.fake):,} "
        f"samples and {len(scored.real):,} real {context.split} images."
    )
    if context.conditional:
        note += " Each is scored as an example of its class."
    sheet = Sheet(_title(context), note, context.caption("duel"), max(4 * line, 210))
    numbers = dict(scored.numbers)
    rows = (
        ("fake", "most real", False),
        ("fake", "least real", True),
        ("real", "it doubts most", True),
        ("real", "it trusts most", False),
    )
    for i, (kind, key, is_lowest) in enumerate(rows):
        scores = scored.scores[kind]
        order = np.argsort(-scores, kind="stable")
        chosen = (order[::-1] if is_lowest else order)[:columns]
        x = (scored.fake if kind == "fake" else scored.real)[chosen.tolist()]
        top = i * line
        below = draw_rows(sheet, [("", "", context.pixels(x))], cell, top)
        middle = (top + below) / 2
        head = "samples with the" if kind == "fake" else "real images with the"
        style = {"ha": "right", "va": "center"}
        sheet.add_text(LABEL - 10, middle - 8, head, color=SOFT, **style)
        color = MODEL if kind == "fake" else INK
        name = "lowest scores" if is_lowest else "highest scores"
        sheet.add_text(LABEL - 10, middle + 6, name, color=color, weight="bold", **style)
        label_columns(sheet, [f"{scores[row]:.2f}" for row in chosen], cell, LABEL, below)
        numbers[f"{kind} {key}"] = {"rows": chosen, "score": scores[chosen]}
    left = LABEL + columns * (cell + GAP) + 24
    _draw_histogram(sheet, scored.scores, left, 18, WIDTH - left - 6, 130)
    alt = (
        "Samples and real images with the discriminator's highest and lowest scores; "
        f"it orders {100 * numbers['separation']:.0f} % of pairs rightly."
    )
    return sheet.finish(numbers, alt)


FIGURE = Figure(
    name="duel",
    about="the discriminator's scores: over the plane with gradients, or of images",
    group="adversarial",
    why_not=why_not,
    draw=draw_duel,
    on_page=always,
    section=Section(
        "Discriminator and samples",
        "The discriminator's scores of samples and of real examples, with raw weights.",
        place=140,
    ),
)
