"""Samples nearest to the training set, which may be copies, and samples farthest from it."""

import numpy as np
import torch

from ...evaluate.quality_reference import QualityReference, nearest_training
from ...evaluate.samples import draw_samples
from ...measures.memory import nearest
from ..conditions import is_image
from ..context import FigureContext
from ..figure import Figure, PageRequest, Section
from ..image_rows import WIDE_LABEL, ImageRow, sheet_of_rows
from ..side_by_side import caption_of
from ..style import Drawing

SAMPLES = 1000  # among which the nearest and the farthest are searched
COLUMNS = 8
HALF = 6  # nearest and farthest samples of each model on a page


def _measure_distances(
    context: FigureContext, quality_reference: QualityReference
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Samples; the distance to the nearest training example of each, and its row."""
    x = torch.cat(list(draw_samples(context.loaded, SAMPLES, context.seed).blocks())).cpu()
    distance, index = nearest_training(quality_reference, x)
    return x, distance.numpy(), index.numpy()


def draw_nearest(context: FigureContext) -> Drawing:
    """The samples nearest to a training example, and those farthest from all of them."""
    x, distance, index = _measure_distances(context, context.quality_reference)
    order = np.argsort(distance, kind="stable")
    features = context.quality_reference.pixels.name.partition("/")[0]
    note = (
        f"Of {SAMPLES:,} samples, the {COLUMNS} nearest to a training example (possible copies) "
        f"and the {COLUMNS} farthest from all of them (possible failures), each above its nearest "
        f"training example. Distance: Euclidean, in {features}."
    )
    image_rows = []
    farthest = order[: -COLUMNS - 1 : -1].copy()
    for name, rows in (("nearest", order[:COLUMNS]), ("farthest", farthest)):
        image_rows.append(ImageRow(f"{name} samples", context.pixels(x[rows])))
        originals = ImageRow("in the training set", context.training_pixels(index[rows]), gap=12)
        originals.labels = [f"{distance[row]:.2f}" for row in rows]
        image_rows.append(originals)
    title = f"Nearest training examples of samples of {context.name}"
    sheet = sheet_of_rows(title, note, context.caption("nearest"), image_rows)
    numbers = {
        "samples": order[:COLUMNS].tolist(),
        "training": index[order[:COLUMNS]].tolist(),
        "distance": distance[order[:COLUMNS]].tolist(),
        "median": float(np.median(distance)),
    }
    alt = (
        f"The {COLUMNS} samples nearest to training examples, each above the example, "
        f"and the {COLUMNS} farthest."
    )
    return sheet.finish(numbers, alt)


def compare_nearest(page: PageRequest) -> Drawing | None:
    """Images: two rows for each model, its samples above their nearest training examples."""
    if not page.has_images:
        return None
    quality_reference = page.samples_reference
    real_median = _median_of_real(quality_reference)
    features = quality_reference.pixels.name.partition("/")[0]
    note = (
        f"Of {SAMPLES:,} samples of each model: left the {HALF} nearest to a training example, "
        f"right the {HALF} farthest from all of them. Below each: its nearest training example. "
        f"Held-out real examples have a median distance of {real_median:.2f} ({features})."
    )
    rows = []
    numbers = []
    for context, title in zip(page.contexts, page.titles):
        x, distance, index = _measure_distances(context, quality_reference)
        order = np.argsort(distance, kind="stable")
        ends = np.concatenate([order[:HALF], order[: -HALF - 1 : -1]])
        median = float(np.median(distance))
        rows.append(ImageRow(title, context.pixels(x[ends]), f"median {median:.2f}"))
        originals = context.training_pixels(index[ends])
        rows.append(ImageRow("in the training set", originals, gap=12))
        nearest_ones = distance[order[:HALF]].tolist()
        numbers.append({"title": title, "median": median, "nearest": nearest_ones})
    columns = ["nearest"] * HALF + ["farthest"] * HALF
    title = "Nearest training examples"
    caption = caption_of(page.contexts, "nearest")
    sheet = sheet_of_rows(title, note, caption, rows, columns, label=WIDE_LABEL, most=46)
    alt = "For each model the samples nearest to training examples and those farthest from them."
    return sheet.finish({"models": numbers, "real_median": real_median}, alt)


def _median_of_real(quality_reference: QualityReference) -> float:
    """Median distance of held-out examples to their nearest training example."""
    pixels = quality_reference.pixels
    held_out = quality_reference.features(pixels, "test")[:SAMPLES]
    train = quality_reference.features(pixels, "train", everything=True)
    return float(nearest(held_out, train, 1)[0][:, 0].median())


FIGURE = Figure(
    name="nearest",
    about="samples nearest to the training set, and farthest from it",
    group="samples",
    needs=(is_image,),
    draw=draw_nearest,
    compare=compare_nearest,
    section=Section(
        "Nearest training examples",
        "A copy equals its training example; a bad sample is far from all of them.",
        place=30,
    ),
)
