"""Samples of images beside their nearest training examples."""

from ...evaluate.quality_reference import nearest_training
from ...inference import sample
from ..context import FigureContext
from ..image_rows import block_cell, draw_strip, label_columns, tile
from ..style import SOFT, WIDTH, Drawing, Sheet, plain

GAP = 40  # pixels between the two blocks


def draw_samples(context: FigureContext) -> Drawing:
    """A block of samples; at the same places of a second block the nearest training examples."""
    classes = context.dataset.learned_classes if context.conditional else ()
    by_class = 0 < len(classes) <= 10
    columns = len(classes) if by_class else 8
    n = columns * 8
    width = (WIDTH - GAP) / 2
    x = sample.sample(context.loaded, n, context.seed).cpu()
    distance, index = nearest_training(context.quality_reference, x)
    nearest = context.pixels(context.dataset.batch("train", index.tolist()).x)
    cell = block_cell(context.spec, columns, width)
    head = 34 if by_class else 20
    run = plain(context.loaded.run.name)
    height = tile(nearest, columns, cell)[2] + head
    sheet = Sheet(
        f"Samples of {run}", _note(context, n, by_class), context.caption("samples"), height
    )
    sheet.add_text(0, 0, "samples", size=9, weight="bold")
    sheet.add_text(width + GAP, 0, "nearest training examples", size=9, weight="bold", color=SOFT)
    if by_class:
        label_columns(sheet, [context.class_name(y) for y in classes], cell, 0, 17)
    draw_strip(sheet, context.pixels(x), cell, 0, head, columns)
    draw_strip(sheet, nearest, cell, width + GAP, head, columns)
    numbers = {
        "n": n,
        "columns": columns,
        "labels": context.dataset.default_conditions(range(n)) if context.conditional else None,
        "nearest": index.tolist(),
        "distance": distance.numpy(),
        "median_distance": float(distance.median()),
    }
    alt = (
        f"A grid of {n} images sampled from the model {run}, "
        "beside a grid of the nearest training images."
    )
    return sheet.finish(numbers, alt)


def _note(context: FigureContext, n: int, by_class: bool) -> str:
    features = context.quality_reference.pixels.name.partition("/")[0]
    note = (
        f"Left: the first {n} samples of this seed. Right, at the same place: the nearest training "
        f"example by {features}. Equal pairs are copies; pairs that differ completely are samples "
        "unlike the data."
    )
    return note + (" Each column of samples has one class." if by_class else "")
