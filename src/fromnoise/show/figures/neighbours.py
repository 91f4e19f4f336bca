"""Samples beside what they may have been copied from, and the samples that are least like anything real."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ...evaluate.quality import QualityReference, nearest_training
from ...evaluate.report import drawn
from ...measures.memory import nearest
from ...runs.load import LoadedRun
from ..context import FigureContext
from ..style import INK, SOFT, Drawing, Sheet, drawing, plain, save
from .compare import caption_of, subjects_of, titles_of
from .images import GAP, LABEL, WIDE, image_cell, row_height, rows_of_images, strip

LOOKED = 1000  # samples among which the nearest and the farthest are sought
COLUMNS = 8


def _ranked(
    subject: FigureContext, quality_reference: QualityReference
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Samples, and for each the distance to and the row of its nearest training example."""
    x = torch.cat(list(drawn(subject.loaded, LOOKED, subject.seed).blocks())).cpu()
    distance, index = nearest_training(quality_reference, x)
    return x, distance.numpy(), index.numpy()


def _train_pixels(subject: FigureContext, rows: np.ndarray) -> np.ndarray:
    return subject.pixels(subject.dataset.batch("train", rows.tolist()).x)


def draw_nearest(subject: FigureContext) -> Drawing:
    """The samples nearest to a training example, and those farthest from all of them."""
    quality_reference = subject.quality_reference
    x, distance, index = _ranked(subject, quality_reference)
    order = np.argsort(distance, kind="stable")
    cell = image_cell(subject.spec, COLUMNS)
    note = (
        f"Of {LOOKED:,} samples, the {COLUMNS} nearest to a training example (was it copied?) and the {COLUMNS} farthest from all of them (is it real?), each above "
        f"its nearest training example. Distance: Euclidean, in {quality_reference.pixels.name.partition('/')[0]}."
    )
    sheet = Sheet(
        f"Nearest training examples of samples of {plain(subject.loaded.run.name)}",
        note,
        subject.caption("nearest"),
        4 * row_height(subject.spec, cell) + 60,
    )
    top = 0.0
    for words, rows in (
        ("nearest", order[:COLUMNS]),
        ("farthest", order[: -COLUMNS - 1 : -1].copy()),
    ):
        top = rows_of_images(
            sheet,
            [
                (f"{words} samples", "", subject.pixels(x[rows])),
                ("in the training set", "", _train_pixels(subject, index[rows])),
            ],
            cell,
            top,
        )
        for i, row in enumerate(rows):
            sheet.text(
                LABEL + (i + 0.5) * (cell + GAP),
                top,
                f"{distance[row]:.2f}",
                size=7.5,
                color=SOFT,
                ha="center",
            )
        top += 30
    numbers = {
        "samples": order[:COLUMNS].tolist(),
        "training": index[order[:COLUMNS]].tolist(),
        "distance": distance[order[:COLUMNS]].tolist(),
        "median": float(np.median(distance)),
    }
    return sheet.done(
        numbers,
        f"The {COLUMNS} samples nearest to training examples, each above the example, and the {COLUMNS} farthest.",
    )


def compare_nearest(
    restoreds: Sequence[LoadedRun],
    titles: Sequence[str] | None = None,
    *,
    out: Path,
    seed: int = 0,
    split: str = "test",
    command: str = "",
    name: str = "nearest",
    quality_reference: QualityReference | None = None,
) -> list[Path]:
    """One pair of rows for each model: its samples nearest to the training set, above what they are near to. For images."""
    subjects, titles = (
        subjects_of(restoreds, seed, split, command=command),
        titles_of(restoreds, titles),
    )
    quality_reference = quality_reference or QualityReference(subjects[0].dataset)
    with drawing():
        return save(_nearest(subjects, titles, quality_reference), out, name)


def _nearest(
    subjects: list[FigureContext], titles: list[str], quality_reference: QualityReference
) -> Drawing:
    first, half = subjects[0], 6
    label = WIDE
    cell = image_cell(first.spec, 2 * half, label=label + 40, most=46)
    line = row_height(first.spec, cell)
    held_out = quality_reference.features(quality_reference.pixels, "test")[:LOOKED]
    real = nearest(
        held_out, quality_reference.features(quality_reference.pixels, "train", everything=True), 1
    )[0][:, 0]
    note = (
        f"Left: of {LOOKED:,} samples of each model the {half} nearest to a training example; right: the {half} farthest from all of them. Below each: its nearest training "
        f"example. Held-out real examples lie at a median distance of {float(real.median()):.2f} ({quality_reference.pixels.name.partition('/')[0]})."
    )
    sheet = Sheet(
        "Nearest training examples",
        note,
        caption_of(subjects, "nearest"),
        len(subjects) * (2 * line + 12),
    )
    numbers = []
    for i, (subject, title) in enumerate(zip(subjects, titles)):
        x, distance, index = _ranked(subject, quality_reference)
        order = np.argsort(distance, kind="stable")
        top = i * (2 * line + 12)
        for column, rows in enumerate((order[:half], order[: -half - 1 : -1].copy())):
            left = label + column * (half * (cell + GAP) + 40)
            sheet.picture(*strip(subject.pixels(x[rows]), cell, left, top))
            sheet.picture(*strip(_train_pixels(subject, index[rows]), cell, left, top + line))
        sheet.text(label - 10, top + line / 2, title, ha="right", va="center", color=INK)
        sheet.text(
            label - 10,
            top + line / 2 + 14,
            f"median {np.median(distance):.2f}",
            size=7.5,
            ha="right",
            va="center",
            color=SOFT,
        )
        sheet.text(
            label - 10,
            top + 1.5 * line,
            "in the training set",
            size=7.5,
            ha="right",
            va="center",
            color=SOFT,
        )
        numbers.append(
            {
                "title": title,
                "median": float(np.median(distance)),
                "nearest": distance[order[:half]].tolist(),
            }
        )
    return sheet.done(
        {"models": numbers, "real_median": float(real.median())},
        "For each model the samples nearest to training examples and those farthest from them.",
    )
