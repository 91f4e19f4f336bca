"""Samples of the same noise during training, from the arrays that training/monitor/progress.py saved."""

import numpy as np

from ...runs.progress_samples import list_progress_samples, read_progress_samples
from ..conditions import judges
from ..context import FigureContext
from ..figure import Figure, Section
from ..image_rows import ImageRow, sheet_of_rows
from ..points import count_outside, draw_clouds, extent_of, frame_of, set_bare_frame
from ..style import SOFT, WIDTH, Drawing, Sheet
from ..text_cells import LINE, PITCH, draw_text, lay_out, visible

MAX_MOMENTS = 12
TEXT_LEFT = 64


def why_not(context: FigureContext) -> str:
    spec = context.spec
    if spec.kind == "tokens" and context.tokenizer is None:
        return "it is for text, images and points in the plane"
    if spec.kind == "vector" and (spec.dims != 2 or context.dataset.columns is not None):
        return "it is for images and points in the plane"
    if len(list_progress_samples(context.loaded.run, context.loaded.step)) > 1:
        return ""
    return "it needs samples of at least two intervals, which training saves in samples/"


def choose_evenly(steps: list[int], most: int = MAX_MOMENTS) -> list[int]:
    """At most ``most`` of the steps: the last and every k-th before it, and the first."""
    if len(steps) <= most:
        return steps
    stride = -(-(len(steps) - 1) // (most - 1))
    chosen = steps[::-1][::stride][::-1]
    return chosen if chosen[0] == steps[0] else steps[:1] + chosen


def draw_progress(context: FigureContext) -> Drawing:
    files = list_progress_samples(context.loaded.run, context.loaded.step)
    steps = choose_evenly(list(files))
    values = [read_progress_samples(files[step]) for step in steps]
    intervals = f"all {len(files)} intervals"
    if len(steps) < len(files):
        intervals = f"{len(steps)} of {len(files)} intervals"
    start = "random numbers" if context.spec.kind == "tokens" else "noise"
    note = (
        f"Samples of the same {start} after {intervals} of training, with the weights for sampling"
    )
    note += ", without choice among samples." if context.loaded.family.progress_values else "."
    draw = {"image": _draw_images, "tokens": _draw_texts, "vector": _draw_points}
    return draw[context.spec.kind](context, steps, values, note)


def _draw_images(
    context: FigureContext, steps: list[int], values: list[np.ndarray], note: str
) -> Drawing:
    n = len(values[0])
    note += " Each row is one noise, the first samples of seed 0."
    y = context.dataset.default_conditions(range(n)) if context.conditional else None
    rows = []
    for i, name in enumerate(context.row_names(y, n, "z")):
        rows.append(ImageRow(name, np.stack([at_step[i] for at_step in values])))
    labels = list(map(short, steps))
    caption = context.caption("progress")
    sheet = sheet_of_rows(_title(context), note, caption, rows, labels, "step")
    alt = f"{n} rows of {len(steps)} images: samples of the same noise {_steps_in_words(steps)}."
    return sheet.finish({"steps": steps, "rows": n}, alt)


def _draw_texts(
    context: FigureContext, steps: list[int], values: list[np.ndarray], note: str
) -> Drawing:
    """The first sample of each moment, two rows of it. values: symbols (n, T) of each step."""
    columns = int((WIDTH - TEXT_LEFT) // PITCH)
    texts = []
    for at_step in values:
        text = visible(context.tokenizer.decode(at_step[0]))
        texts.append(text[: 2 * columns])
    rows = [lay_out(text, 2, columns) for text in texts]
    note += " ↵ is the end of a line."
    height = sum(len(lines) * LINE + 8 for lines in rows)
    sheet = Sheet(_title(context), note, context.caption("progress"), height)
    top = 0.0
    for step, text, lines in zip(steps, texts, rows):
        sheet.add_text(TEXT_LEFT - 12, top + 3, f"{step:,}", size=8, color=SOFT, ha="right")
        top = draw_text(sheet, text, lines, TEXT_LEFT, top) + 8
    alt = f"A sample of the model at {len(steps)} moments of training, {_steps_in_words(steps)}."
    return sheet.finish({"steps": steps, "texts": texts}, alt)


def _draw_points(
    context: FigureContext, steps: list[int], values: list[np.ndarray], note: str
) -> Drawing:
    real = context.first(500).x.cpu().numpy()
    centre, half = frame_of(real)
    per_line = min(4, len(steps))
    side = min((WIDTH - 12 * (per_line - 1)) / per_line, 260)
    height = -(-len(steps) // per_line) * (side + 26) - 6
    note += f" Grey: {len(real)} {context.split} points."
    sheet = Sheet(_title(context), note, context.caption("progress"), height)
    outside = []
    all_axes = sheet.add_panels(len(steps), per_line, side, side, (12, 26), 0, 18)
    for axes, step, x in zip(all_axes, steps, values):
        draw_clouds(axes, real, x, 5)
        outside.append(count_outside(x, centre, half))
        title = f"step {step:,}" + (f"  ({outside[-1]} outside)" if outside[-1] else "")
        set_bare_frame(axes, extent_of(centre, half), title)
    numbers = {"steps": steps, "points": len(values[0]), "outside": outside}
    alt = f"{len(steps)} scatter plots: samples of the same noise {_steps_in_words(steps)}."
    return sheet.finish(numbers, alt)


def _title(context: FigureContext) -> str:
    return f"{context.name} in training"


def _steps_in_words(steps: list[int]) -> str:
    return f"from step {steps[0]:,} to step {steps[-1]:,}"


def short(step: int) -> str:
    """1,200 stays; 12,340 becomes 12.3k and 123,400 becomes 123k, to fit above an image."""
    if step < 10_000:
        return f"{step:,}"
    return f"{step / 1000:,.1f}k" if step < 100_000 else f"{step / 1000:,.0f}k"


FIGURE = Figure(
    name="progress",
    about="samples of the same noise over the course of training",
    group="training",
    needs=(why_not,),
    draw=draw_progress,
    on_page=judges,
    section=Section("In training", "Samples of the same noise after each interval.", place=150),
)
