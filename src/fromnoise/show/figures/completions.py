"""Upper halves of images, several completions of each, and the truth."""

from itertools import combinations

import numpy as np
import torch

from ..conditions import completes, is_image
from ..context import FigureContext
from ..figure import Figure, Section, always
from ..image_rows import ImageRow, sheet_of_rows
from ..pixel_symbols import blanked
from ..style import Drawing


@torch.no_grad()
def draw_completions(context: FigureContext, n: int = 10, draws: int = 6) -> Drawing:
    """Held-out images whose upper half is given, and ``draws`` completions of each."""
    spec = context.spec
    batch = context.first(n)
    n = len(batch)
    given = max(1, spec.shape[1] // 4 * 2)  # even: a block of two rows is given as a whole
    samples = _complete(context, batch, given, draws)
    to_truth = float(np.mean([_difference(one, batch.x, given) for one in samples]))
    to_each_other = float(np.mean([_difference(a, b, given) for a, b in combinations(samples, 2)]))
    measure = "pixels that differ" if spec.levels == 2 else "mean difference of pixels in [0, 1]"
    note = (
        f"The upper {given} of {spec.shape[1]} rows of the first {n} {context.split} images are "
        f"given; the model completes each {draws} times. In the lower part, {measure}: "
        f"{to_truth:.3f} between a completion and the truth, {to_each_other:.3f} between two "
        "completions. For a perfect model the two are equal."
    )
    if context.conditional:
        note += " The class is given too."
    title = f"Completions by {context.name}"
    open = np.arange(spec.shape[1])[:, None] >= given + np.zeros((1, spec.shape[2]))
    true = context.pixels(batch.x)
    rows = [ImageRow("given", blanked(true, open)), ImageRow("true", true, gap=12)]
    for i, completed in enumerate(samples, 1):
        rows.append(ImageRow(f"draw {i}", context.pixels(completed)))
    sheet = sheet_of_rows(title, note, context.caption("completions"), rows)
    numbers = {
        "rows": list(range(n)),
        "given": given,
        "draws": draws,
        "draw_to_truth": to_truth,
        "draw_to_draw": to_each_other,
    }
    alt = f"The upper halves of {n} images, the true images, and {draws} completions of each."
    return sheet.finish(numbers, alt)


def _complete(context: FigureContext, batch, given: int, draws: int) -> torch.Tensor:
    """``draws`` completions of each image, (draws, n, *shape)."""
    n = len(batch)
    mask = torch.zeros_like(batch.x, dtype=torch.bool)
    mask[:, :, :given] = True
    y = batch.y[torch.arange(n).repeat(draws)] if context.conditional else None
    rng = context.rng("completions").per_row(range(n * draws))
    x = batch.x.repeat(draws, 1, 1, 1)
    completed = context.model.complete(x, mask.repeat(draws, 1, 1, 1), y, context.options, rng)
    return completed.view(draws, n, *context.spec.shape)


def _difference(a: torch.Tensor, b: torch.Tensor, given: int) -> float:
    """Mean absolute difference below the given rows, of pixels in [0, 1]."""
    return float(((a - b) / 2)[..., given:, :].abs().mean())


FIGURE = Figure(
    name="completions",
    about="upper halves of images, several completions, the truth",
    group="symbols",
    needs=(is_image, completes),
    draw=draw_completions,
    on_page=always,
    section=Section("Completions", "Upper halves of held-out images, and several completions.", 90),
)
