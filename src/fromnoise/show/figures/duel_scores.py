"""Scores of samples and of real examples by the discriminator.

Raw weights are used: the discriminator was not trained against samples of the averaged weights.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...inference import sample
from ...measures.separation import separation
from ..context import FigureContext, in_blocks
from ..points import draw_histogram
from ..style import MODEL, REAL, Sheet

MANY = 400  # scores, of which a few outliers may stay outside the histogram
SCORED = 1000  # samples, and at most so many real examples


@torch.no_grad()
def discriminator_scores(context: FigureContext, x: Tensor, y: Tensor | None) -> np.ndarray:
    """Scores (N,) of x by the raw weights; a high score means real."""
    y = y if context.conditional else None
    model: Any = context.raw.model
    scores = in_blocks(model.judge, x.to(context.raw.device), y)
    return scores.cpu().double().numpy()


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


def score_examples(context: FigureContext) -> Scored:
    n = SCORED
    options = context.raw.family.progress_values
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


def figure_title(context: FigureContext) -> str:
    return f"Discriminator and samples of {context.name}"


def draw_scores(
    sheet: Sheet, scores: dict, left: float, top: float, width: float, height: float
) -> None:
    """Scores of real and fake examples."""
    axes = sheet.add_axes(left, top, width, height)
    both = np.concatenate(list(scores.values()))
    is_cut = len(both) > MANY
    low, high = np.quantile(both, [0.005, 0.995]) if is_cut else (both.min(), both.max())
    edges = np.linspace(low, high if high > low else low + 1, 31)
    for name, color, right in (("real", REAL, width - 34), ("fake", MODEL, width)):
        draw_histogram(axes, scores[name], edges, color)
        sheet.add_text(left + right, top - 16, name, color=color, ha="right")
    axes.set_title("scores")
    axes.set_xlabel("the middle 99 %" if is_cut else "")
