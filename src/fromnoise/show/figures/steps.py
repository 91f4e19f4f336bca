"""Quality of samples, and time, by evaluations of the network."""

import torch
from torch import Tensor

from ...measures.estimate import Estimate
from ..conditions import is_plane, traces
from ..context import FigureContext
from ..evaluations import draw_distance_curve, measure_curve, why_no_steps
from ..figure import Figure, Section
from ..image_rows import GAP, draw_strip, label_columns, row_height
from ..points import draw_clouds, extent_of, frame_of, set_bare_frame
from ..style import WIDTH, Drawing, Sheet

STEPS = (1, 2, 4, 10, 20, 35)
SAMPLES = {"image": 500, "vector": 2000}  # of each: the figure takes up to a quarter of a minute
POINTS = 512  # drawn at most
HEIGHT = 320.0
LEFT = 440.0  # pixels left of the samples


def draw_steps(context: FigureContext) -> Drawing:
    """Distance to the training examples, and time, by evaluations of DPM-Solver."""
    n = SAMPLES[context.spec.kind]
    curve = measure_curve(context, n, STEPS)
    has_images = context.spec.kind == "image"
    has_points = not is_plane(context)
    title = f"Quality by evaluations of the network: {context.name}"
    sheet = Sheet(title, _note(context, n, curve.real), context.caption("steps"), HEIGHT)
    draw_distance_curve(sheet, curve, LEFT - 40, HEIGHT)
    if has_images:
        _draw_images(sheet, context, curve.samples)
    elif has_points:
        _draw_points(sheet, context, curve.samples)
    numbers = {
        "metric": curve.name,
        "n": n,
        "real": curve.real.value if curve.real else None,
        "steps": STEPS,
        "value": curve.values,
        "interval": [distance.interval for distance in curve.distances],
        "seconds_for_64": curve.seconds,
    }
    pairs = zip(curve.values, STEPS)
    values = ", ".join(f"{value:.3g} at {steps}" for value, steps in pairs)
    return sheet.finish(numbers, f"{curve.name} by evaluations of the network: {values}.")


def _note(context: FigureContext, n: int, real: Estimate | None) -> str:
    note = (
        f"Left: distance of {n:,} samples to the training examples, corrected for bias, with its "
        "95 % interval; less is better. "
    )
    if real and real.value > 0:
        note += f"Dashed: {real.value:.3g}, of held-out examples. "
    if context.spec.kind == "image":
        note += "Right: samples from the same noise; each row is one noise. "
    elif not is_plane(context):
        note += "Right: samples. "
    return note + "Times were measured on this machine."


def _draw_images(sheet: Sheet, context: FigureContext, samples: list[Tensor]) -> None:
    """A column for each number of steps; a row is one noise."""
    cell = min((WIDTH - LEFT) / len(STEPS) - GAP, 56.0)
    line = row_height(context.spec, cell)
    label_columns(sheet, list(map(str, STEPS)), cell, LEFT, 0)
    for i in range(max(1, min(8, int((HEIGHT - 20) / line)))):
        row = context.pixels(torch.stack([x[i] for x in samples]).clamp(-1, 1))
        draw_strip(sheet, row, cell, LEFT, 16 + i * line)


def _draw_points(sheet: Sheet, context: FigureContext, samples: list[Tensor]) -> None:
    points = context.first(POINTS).x.cpu().double().numpy()
    extent = extent_of(*frame_of(points, 1.2))
    side = (WIDTH - LEFT - 16) / 3
    all_axes = sheet.add_panels(len(STEPS), 3, side, side, (8, 24), LEFT, 18)
    for axes, steps, x in zip(all_axes, STEPS, samples):
        draw_clouds(axes, points, x[:POINTS].double().numpy(), 2)
        set_bare_frame(axes, extent, f"{steps} evaluation{'s' * (steps > 1)}")


FIGURE = Figure(
    name="steps",
    about="quality against the evaluations of the network for a sample",
    group="noise",
    needs=(why_no_steps,),
    draw=draw_steps,
    on_page=traces,
    section=Section(
        "Quality by number of steps",
        "The same model with few and with many evaluations of its network for a sample.",
        place=80,
    ),
)
