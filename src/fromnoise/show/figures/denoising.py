"""Samples on their way from noise, and the model's prediction at each step."""

import numpy as np
import torch

from ...core.capabilities import Moment
from ...core.rng import Rng
from ...inference import sample
from ..conditions import is_image, traces
from ..context import FigureContext
from ..figure import Figure, Section, always
from ..image_rows import ImageRow, sheet_of_rows
from ..style import Drawing


def format_level(level: float) -> str:
    return f"{level:.1%}" if 0 < level < 0.01 else f"{level:.0%}"


@torch.no_grad()
def trace_samples(context: FigureContext) -> list[Moment]:
    """The states of the first samples of the seed on their way from noise."""
    n = sample.BLOCK
    rng = Rng(context.seed, ("sample",), device=context.loaded.device).per_row(range(n))
    return context.model.trace(n, context.labels(n), context.options, rng)


@torch.no_grad()
def draw_denoising(context: FigureContext, shown: int = 4, most: int = 12) -> Drawing:
    """Samples on their way: x_t above, the prediction of x below."""
    y = context.labels(shown)
    moments = trace_samples(context)
    steps = np.linspace(0, len(moments) - 1, min(most, len(moments)))
    steps = np.unique(steps.round().astype(int))
    chosen = [moments[i] for i in steps]
    note = (
        f"The first {shown} samples of this seed on their way from noise, in {len(moments) - 1} "
        "steps. Above: the state x, scaled to constant contrast. Below: the prediction of the "
        "image at that state, which the next step moves towards. Coarse structure appears first, "
        "details last."
    )
    title = f"From noise to samples of {context.name}"
    x = np.stack([context.pixels(m.x[:shown].clamp(-1, 1)) for m in chosen])
    x_hat = np.stack([context.pixels(m.x_hat[:shown].clamp(-1, 1)) for m in chosen])
    rows = []
    for i in range(shown):
        name = "x" if y is None or y.ndim > 1 else context.class_name(int(y[i]))
        rows += [ImageRow(name, x[:, i]), ImageRow("prediction", x_hat[:, i], gap=8)]
    labels = [f"{step}\n{format_level(m.level)}" for step, m in zip(steps, chosen)]
    caption = context.caption("denoising")
    sheet = sheet_of_rows(title, note, caption, rows, labels, "steps\nnoise")
    numbers = {"steps": steps, "levels": [m.level for m in chosen], "samples": shown}
    alt = (
        f"{shown} samples at {len(chosen)} moments from noise to image; "
        "below each moment the prediction of the image."
    )
    return sheet.finish(numbers, alt)


FIGURE = Figure(
    name="denoising",
    about="samples on their way from noise, and the model's predictions",
    group="noise",
    needs=(is_image, traces),
    draw=draw_denoising,
    on_page=always,
    section=Section(
        "From noise to a sample",
        "The state of a diffusion model at each step, and its prediction of the image.",
        place=50,
    ),
)
