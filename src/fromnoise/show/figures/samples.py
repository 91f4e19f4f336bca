"""The figure ``samples``, by kind of data, and samples of several models for pages."""

from ...evaluate.quality_reference import nearest_training
from ...inference import sample
from ..conditions import is_predicted_if_text, is_vector
from ..context import FigureContext
from ..figure import Figure, PageRequest, Section
from ..image_rows import block_cell, draw_strip, label_columns, row_height, tile
from ..side_by_side import caption_of
from ..style import INK, SOFT, WIDTH, Drawing, Sheet, plain
from . import samples_of_text, samples_of_vectors

GAP = 40  # pixels between samples and their nearest training examples


def draw_samples(context: FigureContext) -> Drawing:
    draw = {
        "image": draw_image_samples,
        "tokens": samples_of_text.draw_samples,
        "vector": samples_of_vectors.draw_samples,
    }
    return draw[context.spec.kind](context)


def draw_image_samples(context: FigureContext) -> Drawing:
    """A block of samples; at the same places of a second block the nearest training examples."""
    classes = context.dataset.learned_classes if context.conditional else ()
    by_class = 0 < len(classes) <= 10
    columns = len(classes) if by_class else 8
    n = columns * 8
    width = (WIDTH - GAP) / 2
    x = sample.sample(context.loaded, n, context.seed).cpu()
    distance, index = nearest_training(context.quality_reference, x)
    nearest = context.training_pixels(index)
    cell = block_cell(context.spec, columns, width)
    head = 34 if by_class else 20
    run = context.name
    height = tile(nearest, columns, cell)[2] + head
    sheet = Sheet(
        f"Samples of {run}", _note(context, n, by_class), context.caption("samples"), height
    )
    sheet.add_head(0, 0, "samples")
    sheet.add_head(width + GAP, 0, "nearest training examples", color=SOFT)
    if by_class:
        label_columns(sheet, list(map(context.class_name, classes)), cell, 0, 17)
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


def compare_samples(page: PageRequest) -> Drawing | None:
    """Images: samples of each model beside their nearest training examples."""
    if not page.has_images:
        return None
    titles = page.titles
    first = page.contexts[0]
    quality_reference = page.samples_reference
    columns, rows = (10, 3) if first.spec.shape[2] <= 64 else (6, 2)
    n = columns * rows
    width = (WIDTH - GAP) / 2
    cell = block_cell(first.spec, columns, width)
    blocks = [(f"real ({first.split} images)", first.first(n).x.cpu())]
    for title, context in zip(titles, page.contexts):
        blocks.append((title, sample.sample(context.loaded, n, context.seed).cpu()))
    height = rows * row_height(first.spec, cell) + 34
    features = quality_reference.pixels.name.partition("/")[0]
    note = (
        f"Left: the first {n} samples of each model with this seed. Right, at the same place: "
        f"the nearest training example by {features}, from which a sample may be copied. "
        "The first block shows usual distances of real images."
    )
    caption = caption_of(page.contexts, "samples")
    title = "Samples and their nearest training examples"
    sheet = Sheet(title, note, caption, len(blocks) * height - 14)
    numbers = []
    for i, (title, x) in enumerate(blocks):
        top = i * height
        distance, index = nearest_training(quality_reference, x)
        median = float(distance.median())
        sheet.add_head(0, top, plain(title, int(width / 8)), color=INK if i else SOFT)
        label = f"nearest training examples, median distance {median:.2f}"
        sheet.add_text(width + GAP, top, label, size=8, color=SOFT)
        draw_strip(sheet, first.pixels(x), cell, 0, top + 17, columns)
        draw_strip(sheet, first.training_pixels(index), cell, width + GAP, top + 17, columns)
        numbers.append({"title": title, "nearest": index.tolist(), "median_distance": median})
    alt = (
        f"Blocks of {n} images: real ones, and samples of {', '.join(titles)}; "
        "beside each block the nearest training images."
    )
    return sheet.finish({"n": n, "titles": titles, "blocks": numbers}, alt)


FIGURE = Figure(
    name="samples",
    about="samples beside nearest training examples, or real data; texts with copied parts",
    group="samples",
    needs=(is_predicted_if_text,),
    draw=draw_samples,
    compare=compare_samples,
    on_page=is_vector,
    section=Section(
        "Samples of all models",
        "The first samples of one seed, each beside its nearest training example.",
        place=20,
    ),
)
