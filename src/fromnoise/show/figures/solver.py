"""The error of the solver beside that of the network: few evaluations against so many that more change nothing."""

import time

import numpy as np
import torch
from torch import Tensor

from ...core.capabilities import Denoises, has
from ...core.errors import UsageError
from ...inference import sample
from ...measures.estimate import Estimate
from ...probability.pca import principal_components
from ..context import FigureContext
from ..style import ACCENT, INK, MODEL, REAL, SOFT, WIDTH, Drawing, Sheet, plain
from .noise import curve, measured, why_no_steps

EVALUATIONS = (5, 10, 20)
CONVERGED = 64  # evaluations whose samples stand for those of a solver without error
SAMPLES = {"image": 320, "vector": 2000}
TRAINING = 5000  # examples that principal components are computed from
PLACES = (0, 1, 5, 20, 50, 100, 200, 300)  # components from one to before the next are one group
COLOURS = (SOFT, MODEL, ACCENT, INK)


def why_no_solver(subject: FigureContext) -> str:
    if not has(subject.model, Denoises):
        return "this model does not solve a differential equation: diffusion models do"
    return why_no_steps(subject)


def variance_groups(subject: FigureContext) -> tuple[Tensor, Tensor, list[tuple[int, int]]]:
    """Principal components (D, K) of the training examples, their variances (K,), and the places of the groups."""
    x = subject.dataset.batch("train", slice(0, TRAINING)).x
    components = principal_components(
        lambda: iter([x]), subject.spec.dims, min(PLACES[-1], len(x) // 4, subject.spec.dims)
    )
    ends = [place for place in PLACES if place < len(components.eigenvalues)] + [
        len(components.eigenvalues)
    ]
    known = [
        (a, b)
        for a, b in zip(ends, ends[1:])
        if components.eigenvalues[a:b].min() > 1e-6 * components.eigenvalues[0]
    ]
    return components.basis, components.eigenvalues, known


@torch.no_grad()
def draw_solver(subject: FigureContext) -> Drawing:
    """Distance and variance by principal component at few evaluations of the network, beside the converged values."""
    loaded = subject.loaded
    n = SAMPLES[subject.spec.kind]
    basis, variances, groups = variance_groups(subject)
    if not groups:
        raise UsageError("the training examples do not differ: there is no variance to compare")
    name, distance, _ = measured(subject)
    distances: list[tuple[int, Estimate, float]] = []
    ratios = []
    for evaluations in (*EVALUATIONS, CONVERGED):
        begin = time.perf_counter()
        x = sample.sample(
            loaded, n, subject.seed, subject.label, {"steps": evaluations, "sampler": "dpm"}
        ).cpu()
        seconds = (time.perf_counter() - begin) / -(-n // sample.BLOCK)
        distances.append((evaluations, distance(x), seconds))
        spread = (x.flatten(1).double() @ basis).var(0) / variances
        ratios.append([float(spread[a:b].mean()) for a, b in groups])
    converged = distances.pop()[1]
    note = (
        f"{n:,} samples of the same noise at each number of evaluations. Dashed: {CONVERGED} evaluations, where the solver makes next to no "
        "error; what is wrong there is the network's. Left: distance to the training examples, less is better. Right: variance of the "
        "samples along the principal components of the training examples over that of the examples, mean in each group; 1 is right."
    )
    height, left = 320.0, 440.0
    sheet = Sheet(
        f"Solver and network of {plain(loaded.run.name)}", note, subject.caption("solver"), height
    )
    curve(sheet, distances, converged, name, left - 40, height)
    draw_variances(sheet, groups, ratios, left, height)
    numbers = {
        "metric": name,
        "n": n,
        "evaluations": [*EVALUATIONS, CONVERGED],
        "value": [e.value for _, e, _ in distances] + [converged.value],
        "components": [[a + 1, b] for a, b in groups],
        "variance_ratio": ratios,
    }
    worst = max(abs(few / many - 1) for few, many in zip(ratios[EVALUATIONS.index(10)], ratios[-1]))
    return sheet.done(
        numbers,
        f"{name} {converged.value:.3g} converged; at 10 evaluations variances differ from converged ones by {100 * worst:.0f} % at most.",
    )


def draw_variances(
    sheet: Sheet,
    groups: list[tuple[int, int]],
    ratios: list[list[float]],
    left: float,
    height: float,
) -> None:
    """A line for each number of evaluations, a point for each group of components."""
    axes = sheet.axes(left + 40, 22, WIDTH - left - 40, height - 84)
    places = np.arange(len(groups))
    axes.axhline(1.0, color=REAL, linewidth=1)
    for evaluations, values, colour in zip((*EVALUATIONS, CONVERGED), ratios, COLOURS):
        is_converged = evaluations == CONVERGED
        style = (
            dict(linestyle=(0, (4, 3)), linewidth=1.2)
            if is_converged
            else dict(marker="o", markersize=3.5, linewidth=1.4)
        )
        axes.plot(places, values, color=colour, label=f"{evaluations} evaluations", **style)
    axes.set_xticks(
        places, [f"{a + 1}" if b == a + 1 else f"{a + 1}-{b}" for a, b in groups], fontsize=7.5
    )
    axes.set_xlabel("principal components of the training examples", fontsize=8)
    axes.legend(fontsize=7.5, frameon=False, loc="best")
    axes.grid(True, axis="y")
    axes.margins(x=0.08)
    sheet.text(left, 0, "variance of samples over that of data", size=9, weight="bold")
