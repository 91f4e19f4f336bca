"""The error of the solver beside that of the network: few evaluations against a converged solver."""

import numpy as np
import torch
from torch import Tensor

from ...core.capabilities import Denoises, has
from ...core.errors import UsageError
from ...probability.pca import principal_components
from ..context import FigureContext
from ..evaluations import draw_distance_curve, measure_curve, why_no_steps
from ..figure import Figure, Section
from ..style import ACCENT, INK, MODEL, REAL, SOFT, WIDTH, Drawing, Sheet

EVALUATIONS = (5, 10, 20)
CONVERGED = 64  # evaluations of a solver with negligible error
SAMPLES = {"image": 320, "vector": 2000}
TRAINING = 5000  # examples that principal components are computed from
PLACES = (0, 1, 5, 20, 50, 100, 200, 300)  # components from one to before the next are one group
COLOURS = (SOFT, MODEL, ACCENT, INK)
HEIGHT = 320.0
LEFT = 440.0  # pixels left of the variances

NOTE = (
    f"At {CONVERGED} evaluations the error of the solver is negligible and that of the network "
    "remains. Left: distance to the training examples, less is better; dashed: of held-out examples. "
    "Right: variance of the samples along the principal components of the training examples, relative "
    "to that of the examples, mean in each group; 1 is right."
)

Groups = list[tuple[int, int]]  # first component, and the one after the last


def why_not(context: FigureContext) -> str:
    if not has(context.model, Denoises):
        return "this model does not solve a differential equation: diffusion models do"
    return why_no_steps(context)


def variance_groups(context: FigureContext) -> tuple[Tensor, Tensor, Groups]:
    """Principal components (D, K) of the training examples, their variances (K,), and groups."""
    x = context.dataset.batch("train", slice(0, TRAINING)).x
    dims = context.spec.dims
    count = min(PLACES[-1], len(x) // 4, dims)
    components = principal_components(lambda: iter([x]), dims, count)
    variances = components.eigenvalues
    ends = [place for place in PLACES if place < len(variances)] + [len(variances)]
    groups = []
    for a, b in zip(ends, ends[1:]):
        if variances[a:b].min() > 1e-6 * variances[0]:
            groups.append((a, b))
    return components.basis, variances, groups


@torch.no_grad()
def draw_solver(context: FigureContext) -> Drawing:
    """Distance, and variance by principal component, at few evaluations and converged."""
    n = SAMPLES[context.spec.kind]
    basis, variances, groups = variance_groups(context)
    if not groups:
        raise UsageError("the training examples do not differ: there is no variance to compare")
    evaluations = (*EVALUATIONS, CONVERGED)
    curve = measure_curve(context, n, evaluations)
    ratios = []
    for x in curve.samples:
        ratio = (x.flatten(1).double() @ basis).var(0) / variances
        ratios.append([float(ratio[a:b].mean()) for a, b in groups])
    note = f"{n:,} samples from the same noise at each number of evaluations. {NOTE}"
    title = f"Solver and network of {context.name}"
    sheet = Sheet(title, note, context.caption("solver"), HEIGHT)
    draw_distance_curve(sheet, curve, LEFT - 40, HEIGHT)
    _draw_variances(sheet, groups, ratios)
    numbers = {
        "metric": curve.name,
        "n": n,
        "evaluations": list(evaluations),
        "value": list(curve.values),
        "components": [[a + 1, b] for a, b in groups],
        "variance_ratio": ratios,
    }
    few = np.array(ratios[EVALUATIONS.index(10)])
    worst = float(np.abs(few / np.array(ratios[-1]) - 1).max())
    alt = (
        f"{curve.name} {curve.values[-1]:.3g} converged; at 10 evaluations variances differ from "
        f"converged ones by {100 * worst:.0f} % at most."
    )
    return sheet.finish(numbers, alt)


def _draw_variances(sheet: Sheet, groups: Groups, ratios: list[list[float]]) -> None:
    """A line for each number of evaluations, a point for each group of components."""
    axes = sheet.add_axes(LEFT + 40, 22, WIDTH - LEFT - 40, HEIGHT - 84)
    places = np.arange(len(groups))
    axes.axhline(1.0, color=REAL, linewidth=1)
    for evaluations, values, colour in zip((*EVALUATIONS, CONVERGED), ratios, COLOURS):
        style = {"marker": "o", "markersize": 3.5, "linewidth": 1.4}
        if evaluations == CONVERGED:
            style = {"linestyle": (0, (4, 3)), "linewidth": 1.2}
        axes.plot(places, values, color=colour, label=f"{evaluations} evaluations", **style)
    labels = [f"{a + 1}" if b == a + 1 else f"{a + 1}-{b}" for a, b in groups]
    axes.set_xticks(places, labels)
    axes.set_xlabel("principal components of the training examples")
    axes.legend(loc="best")
    axes.grid(True, axis="y")
    axes.margins(x=0.08)
    sheet.add_head(LEFT, 0, "variance of samples over that of data")


FIGURE = Figure(
    name="solver",
    about="the solver's error beside the network's: distance and variances by evaluations",
    group="noise",
    needs=(why_not,),
    draw=draw_solver,
    section=Section(
        "Solver and network",
        "The error of few evaluations, beside the error of the network itself.",
        place=70,
    ),
)
