"""What a discriminator thinks: its score over the plane with the push it gives to each fake, or the images it is sure of.

Drawn with the weights that are trained. The average that is sampled from was never judged by this discriminator.
"""

import numpy as np
import torch
from torch import Tensor

from ...inference import sample
from ...measures.separation import separation
from ..context import FigureContext
from ..style import INK, MODEL, PAPER, REAL, SOFT, WIDTH, Drawing, Sheet, plain
from .images import LABEL, image_cell, row_height, rows_of_images
from .progress import frame_of

CELLS = 160  # of the heat map, each way
ARROWS = 70
MANY = 400  # scores, of which a few far ones may stay outside the picture
JUDGED = 1000  # samples, and at most so many real examples
COLORS = "PRGn"  # told apart by every kind of colour vision


def why_not(subject: FigureContext) -> str:
    if subject.spec.kind == "image" or (subject.spec.dims == 2 and subject.dataset.columns is None):
        return ""
    return "it is for images and points in the plane"


@torch.no_grad()
def judged(subject: FigureContext, x: Tensor, y: Tensor | None) -> np.ndarray:
    """Scores (N,) of x by the weights that are trained."""
    model, y = subject.raw.model, y if subject.conditional else None
    parts = [
        model.judge(x[i : i + 500].to(subject.raw.device), None if y is None else y[i : i + 500])
        for i in range(0, len(x), 500)
    ]
    return torch.cat(parts).cpu().double().numpy()


def pushes(subject: FigureContext, x: Tensor, y: Tensor | None) -> np.ndarray:
    """The gradient of the score at each x (N, *shape): where the generator is told to move it."""
    y = y if subject.conditional else None
    with torch.enable_grad():
        x = x.to(subject.raw.device).clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(subject.raw.model.judge(x, y).sum(), x)
    return slope.cpu().double().numpy()


def draw_duel(subject: FigureContext) -> Drawing:
    n = JUDGED
    x_fake = sample.sample(subject.raw, n, subject.seed, options=subject.raw.family.watching)
    y_fake = subject.dataset.default_conditions(range(n)).to(x_fake.device) if subject.conditional else None
    real = subject.first(n)
    scores = {"real": judged(subject, real.x, real.y), "fake": judged(subject, x_fake, y_fake)}
    right = separation(torch.from_numpy(scores["real"]), torch.from_numpy(scores["fake"]))
    said = (
        f"With the weights in training, not their average. Of a real {subject.split} example and a fake the discriminator scores the real one higher in "
        f"{100 * right:.0f} % of pairs (50 %: it cannot tell them apart)."
    )
    draw = _images if subject.spec.kind == "image" else _plane
    return draw(
        subject,
        real,
        x_fake,
        y_fake,
        scores,
        said,
        {
            "separation": right,
            "n": n,
            "mean_score": {name: values.mean() for name, values in scores.items()},
        },
    )


# -- points --------------------------------------------------------------------------------------------------


def _plane(
    subject: FigureContext, real, x_fake: Tensor, y_fake, scores: dict, said: str, numbers: dict
) -> Drawing:
    points, fakes = real.x.cpu().double().numpy(), x_fake.cpu().double().numpy()
    centre, half = frame_of(points, 1.25)
    ticks = [np.linspace(c - half, c + half, 2 * CELLS + 1)[1::2] for c in centre]
    grid = torch.from_numpy(np.stack(np.meshgrid(*ticks), -1).reshape(-1, 2)).float()
    y = subject.labels(1).expand(len(grid)) if subject.conditional else None
    heat = judged(subject, grid, y).reshape(CELLS, CELLS)
    middle = float(np.median(heat))  # most losses leave open what score 0 means
    reach = float(np.quantile(np.abs(heat - middle), 0.95)) or 1.0
    inside = np.flatnonzero((np.abs(fakes - centre) < half).all(1))[:ARROWS]
    push = (
        pushes(subject, x_fake[inside], None if y_fake is None else y_fake[inside])
        if len(inside)
        else np.zeros((0, 2))
    )
    slope = np.linalg.norm(push, axis=1)
    longest = float(np.quantile(slope, 0.9)) if len(slope) else 0.0
    length = 0.16 * half / longest if longest > 0 else 0.0
    arrows = push * length * np.minimum(1.0, longest / np.maximum(slope, 1e-30))[:, None]

    side = 560
    note = (
        f"Colour: the discriminator's score{subject.of_class()}, green above and purple below its median over this frame. {said} An arrow shows where the generator "
        f"is told to move that fake: the gradient of the score, {longest:.3g} per unit at full length (a tenth is steeper and cut)."
    )
    sheet = Sheet(
        f"The duel in {plain(subject.loaded.run.name)}", note, subject.caption("duel"), side + 30
    )
    axes = sheet.axes(36, 2, side, side)
    extent = (centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half)
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
    axes.scatter(*points[:500].T, s=9, color=INK, alpha=0.5, linewidths=0)
    axes.scatter(*fakes[inside].T, s=22, color=MODEL, edgecolors=PAPER, linewidths=0.7, zorder=4)
    if len(inside):
        axes.quiver(
            *fakes[inside].T,
            *arrows.T,
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
    axes.set_xlim(*extent[:2]), axes.set_ylim(*extent[2:])
    axes.set_aspect("equal")
    left = side + 84
    bar = sheet.axes(left, 22, WIDTH - left - 10, 12)
    bar.figure.colorbar(shown, cax=bar, orientation="horizontal")
    bar.tick_params(labelsize=7)
    sheet.text(left, 4, "fake ◄  score  ► real", size=8, color=SOFT)
    for i, (color, words) in enumerate(
        (
            (INK, f"real ({min(500, len(points))} {subject.split} points)"),
            (
                MODEL,
                f"fake ({len(inside)}{', G alone' if subject.raw.family.watching else ''}), its push",
            ),
        )
    ):
        sheet.text(left, 70 + 18 * i, "●→" if i else "●", color=color, size=9)
        sheet.text(left + 26, 71 + 18 * i, words, size=8)
    _histogram(sheet, scores, left, 150, WIDTH - left - 10, 150)
    numbers |= {
        "median": middle,
        "reach": reach,
        "heat": heat[:: CELLS // 16, :: CELLS // 16],
        "fakes": fakes[inside],
        "push": push,
    }
    alt = f"Heat map of the discriminator's score with {len(inside)} fakes and an arrow at each; it orders {100 * numbers['separation']:.0f} % of pairs of real and fake rightly."
    return sheet.done(numbers, alt)


def _histogram(
    sheet: Sheet, scores: dict, left: float, top: float, width: float, height: float
) -> None:
    """Scores of real and fake examples."""
    axes = sheet.axes(left, top, width, height)
    both = np.concatenate(list(scores.values()))
    low, high = np.quantile(both, [0.005, 0.995]) if len(both) > MANY else (both.min(), both.max())
    edges = np.linspace(low, high if high > low else low + 1, 31)
    for name, color in (("real", REAL), ("fake", MODEL)):
        share = np.histogram(scores[name], edges)[0] / len(scores[name])
        axes.stairs(share, edges, fill=True, color=color, alpha=0.18)
        axes.stairs(share, edges, color=color, linewidth=1.4)
        sheet.text(
            left + width - 34 * (name == "real"), top - 16, name, color=color, size=8.5, ha="right"
        )
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_title("scores", fontsize=9)
    axes.set_xlabel("the middle 99 %" if len(both) > MANY else "", fontsize=8)
    axes.tick_params(labelsize=7)


# -- images --------------------------------------------------------------------------------------------------


def _images(
    subject: FigureContext,
    real,
    x_fake: Tensor,
    y_fake,
    scores: dict,
    said: str,
    numbers: dict,
    columns: int = 8,
) -> Drawing:
    order = {name: np.argsort(-values, kind="stable") for name, values in scores.items()}
    columns = min(columns, len(real))
    rows = [
        ("fakes it finds", "most real", x_fake, "fake", order["fake"][:columns]),
        ("fakes it finds", "least real", x_fake, "fake", order["fake"][::-1][:columns]),
        ("real images that", "it doubts most", real.x, "real", order["real"][::-1][:columns]),
        ("real images that", "it trusts most", real.x, "real", order["real"][:columns]),
    ]
    cell = image_cell(subject.spec, columns + 2.6, most=60)
    line = row_height(subject.spec, cell) + 20
    note = f"{said} Below each image its score, high for real; of {len(x_fake):,} fakes and {len(real):,} real {subject.split} images."
    if subject.conditional:
        note += " Each is judged as one of its class."
    height = max(4 * line, 210)
    sheet = Sheet(
        f"The duel in {plain(subject.loaded.run.name)}", note, subject.caption("duel"), height
    )
    for i, (first, second, x, kind, chosen) in enumerate(rows):
        top = i * line
        below = rows_of_images(sheet, [("", "", subject.pixels(x[chosen.tolist()]))], cell, top)
        middle = (top + below) / 2
        sheet.text(LABEL - 10, middle - 8, first, ha="right", va="center", color=SOFT)
        sheet.text(
            LABEL - 10,
            middle + 6,
            second,
            ha="right",
            va="center",
            color=MODEL if kind == "fake" else INK,
            weight="bold",
        )
        for j, row in enumerate(chosen):
            sheet.text(
                LABEL + (j + 0.5) * (cell + 3),
                below,
                f"{scores[kind][row]:.2f}",
                size=7.5,
                color=SOFT,
                ha="center",
            )
    left = LABEL + columns * (cell + 3) + 24
    _histogram(sheet, scores, left, 18, WIDTH - left - 6, 130)
    numbers |= {
        f"{kind} {second}": {"rows": chosen, "score": scores[kind][chosen]}
        for _, second, _, kind, chosen in rows
    }
    alt = f"Samples that the discriminator finds most and least real, and real images that it doubts and trusts most; it orders {100 * numbers['separation']:.0f} % of pairs rightly."
    return sheet.done(numbers, alt)
