"""The same noise over the course of training, from the arrays that training/monitor/progress.py left behind."""

import numpy as np

from ...runs.progress_samples import list_progress_samples, read_progress_samples
from ..context import FigureContext
from ..style import MODEL, REAL, SOFT, WIDTH, Drawing, Sheet, plain
from . import text
from .images import GAP, image_cell, row_height, rows_of_images

MOST = 12  # moments that are shown


def why_not(subject: FigureContext) -> str:
    if subject.spec.kind == "tokens" and subject.dataset.tokenizer is None:
        return "it is for text, images and points in the plane"
    if subject.spec.kind == "vector" and (
        subject.spec.dims != 2 or subject.dataset.columns is not None
    ):
        return "it is for images and points in the plane"
    return (
        ""
        if len(list_progress_samples(subject.loaded.run, subject.loaded.step)) > 1
        else "it needs samples of two intervals of training or more, which trainings leave in samples/"
    )


def evenly(steps: list[int], most: int = MOST) -> list[int]:
    """At most so many of the steps: the last and every k-th before it, and the first."""
    if len(steps) <= most:
        return steps
    stride = -(-(len(steps) - 1) // (most - 1))
    chosen = steps[::-1][::stride][::-1]
    return chosen if chosen[0] == steps[0] else steps[:1] + chosen


def draw_progress(subject: FigureContext) -> Drawing:
    files = list_progress_samples(subject.loaded.run, subject.loaded.step)
    steps = evenly(list(files))
    values = [read_progress_samples(files[step]) for step in steps]
    said = (
        f"{len(steps)} of {len(files)} intervals"
        if len(steps) < len(files)
        else f"all {len(files)} intervals"
    )
    note = f"What the same noise became at {said} of training, with the weights that are sampled from at that step"
    note += ", of the generator alone." if subject.loaded.family.watching else "."
    return {"image": _images, "tokens": text.draw_progress, "vector": _points}[subject.spec.kind](
        subject, steps, values, note
    )


def _images(
    subject: FigureContext, steps: list[int], values: list[np.ndarray], note: str
) -> Drawing:
    spec, rows = subject.spec, len(values[0])
    cell = image_cell(spec, len(steps), label=58, most=64)
    sheet = Sheet(
        f"{plain(subject.loaded.run.name)} in training",
        note + " A row is one noise; down the columns the first samples of seed 0.",
        subject.caption("progress"),
        20 + rows * row_height(spec, cell),
    )
    for j, step in enumerate(steps):
        sheet.text(
            58 + (j + 0.5) * (cell + GAP) - GAP / 2,
            0,
            short(step),
            size=7.5,
            color=SOFT,
            ha="center",
        )
    sheet.text(48, 0, "step", size=7.5, color=SOFT, ha="right")
    drawn = (
        subject.dataset.default_conditions(range(rows)).tolist()
        if subject.conditional and spec.classes
        else []
    )
    names = [subject.class_name(y) for y in drawn] or [f"z {i + 1}" for i in range(rows)]
    rows_of_images(
        sheet,
        [(name, "", np.stack([of_step[i] for of_step in values])) for i, name in enumerate(names)],
        cell,
        18,
        label=58,
    )
    return sheet.done(
        {"steps": steps, "rows": rows},
        f"{rows} rows of {len(steps)} images: what the same noise became from step {steps[0]:,} to step {steps[-1]:,}.",
    )


def short(step: int) -> str:
    """1,200 -> 1.2k: as many figures as fit above an image."""
    return (
        f"{step:,}"
        if step < 10_000
        else f"{step / 1000:,.1f}k"
        if step < 100_000
        else f"{step / 1000:,.0f}k"
    )


def frame_of(real: np.ndarray, widen: float = 1.15) -> tuple[np.ndarray, float]:
    """Centre (2,) and half the side of the square that holds the real points (N, 2)."""
    low, high = real.min(0), real.max(0)
    return (low + high) / 2, half_side(low, high, widen)


def half_side(low: np.ndarray, high: np.ndarray, widen: float) -> float:
    """Half the side of a square that holds the box from low (2,) to high (2,); never 0, also where all points are equal."""
    half = float((high - low).max()) / 2 * widen
    return half if half > 1e-6 * max(1.0, float(np.abs([low, high]).max())) else 1.0


def _points(
    subject: FigureContext, steps: list[int], values: list[np.ndarray], note: str
) -> Drawing:
    real = subject.first(500).x.cpu().numpy()
    centre, half = frame_of(real)
    per_line = min(4, len(steps))
    side = (WIDTH - 12 * (per_line - 1)) / per_line
    side = min(side, 260)
    lines = -(-len(steps) // per_line)
    sheet = Sheet(
        f"{plain(subject.loaded.run.name)} in training",
        note + f" Grey: {len(real)} {subject.split} points.",
        subject.caption("progress"),
        lines * (side + 26) - 6,
    )
    beyond = []
    for i, (step, x) in enumerate(zip(steps, values)):
        axes = sheet.axes(i % per_line * (side + 12), 18 + i // per_line * (side + 26), side, side)
        axes.scatter(*real.T, s=5, color=REAL, alpha=0.35, linewidths=0)
        axes.scatter(*x.T, s=6, color=MODEL, alpha=0.7, linewidths=0)
        (
            axes.set_xlim(centre[0] - half, centre[0] + half),
            axes.set_ylim(centre[1] - half, centre[1] + half),
        )
        axes.set_aspect("equal"), axes.set_xticks([]), axes.set_yticks([])
        beyond.append(int((np.abs(x - centre) > half).any(1).sum()))
        axes.set_title(
            f"step {step:,}" + (f"  ({beyond[-1]} outside)" if beyond[-1] else ""),
            fontsize=8,
            fontweight="normal",
            color=SOFT,
            pad=3,
        )
    return sheet.done(
        {"steps": steps, "points": len(values[0]), "outside": beyond},
        f"{len(steps)} scatter plots: what the same noise became from step {steps[0]:,} to step {steps[-1]:,}.",
    )
