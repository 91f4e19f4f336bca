"""The distribution of all values of samples, beside that of real examples.

fromnoise finds this file through FROMNOISE_EXTENSIONS, a list of folders.
"""

import numpy as np

from fromnoise.inference.sample import sample
from fromnoise.show.context import FigureContext
from fromnoise.show.figure import Figure, Section, always
from fromnoise.show.style import MODEL, REAL, WIDTH, Drawing, Sheet

N = 500  # examples


def why_not(context: FigureContext) -> str:
    """ "" if the model can have the figure, else the reason in words."""
    return "its data are text" if context.spec.kind == "tokens" else ""


def draw(context: FigureContext) -> Drawing:
    """Called once for each run. All randomness comes from the seed, so that it can be repeated."""
    real = context.first(N).x.cpu().numpy().ravel()
    generated = sample(context.loaded, N, context.seed).cpu().numpy().ravel()
    edges = np.linspace(real.min(), real.max(), 41)
    sheet = Sheet(f"Values of {context.loaded.run.name}", "", context.caption("values"), 260)
    axes = sheet.add_axes(44, 8, WIDTH - 60, 220)  # left, top, width, height in pixels
    heights = {}
    for name, values, color in (("real", real, REAL), ("samples", generated, MODEL)):
        heights[name] = np.histogram(values, edges, density=True)[0]
        axes.stairs(heights[name], edges, color=color, label=name)
    axes.legend()
    numbers = {"edges": edges, **heights}  # written to values.json, beside values.png
    return sheet.finish(numbers, "Density of the values of real examples and of samples.")


FIGURE = Figure(
    name="values",
    about="distribution of all values, samples beside real examples",
    group="samples",  # its line in `fromnoise show --help`
    needs=(why_not,),  # several conditions are ready in fromnoise.show.conditions
    draw=draw,
    on_page=always,  # `fromnoise compare` shows it for each model that can have it
    section=Section("Values", "All values of samples and of real examples.", place=300),
)
