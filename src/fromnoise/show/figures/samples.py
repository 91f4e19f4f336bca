"""The figure ``samples``, by kind of data, and samples of several models for pages."""

from collections.abc import Sequence
from pathlib import Path

from ...core.errors import UsageError
from ...evaluate.quality_reference import QualityReference, nearest_training
from ...inference import sample
from ...runs.load import LoadedRun
from ..conditions import is_predicted_if_text
from ..context import FigureContext
from ..figure import Figure, PageRequest, Section
from ..image_rows import block_cell, draw_strip, row_height
from ..side_by_side import caption_of, contexts_of, titles_of
from ..style import INK, SOFT, WIDTH, Drawing, Sheet, drawing, plain, save
from . import samples_of_images, samples_of_text, samples_of_vectors

DRAW = {
    "image": samples_of_images.draw_samples,
    "tokens": samples_of_text.draw_samples,
    "vector": samples_of_vectors.draw_samples,
}
GAP = 36  # pixels between samples and their nearest training examples


def draw_samples(context: FigureContext) -> Drawing:
    return DRAW[context.spec.kind](context)


def compare_samples(
    runs: Sequence[LoadedRun],
    titles: Sequence[str] | None = None,
    *,
    out: Path,
    seed: int = 0,
    split: str = "test",
    command: str = "",
    name: str = "samples",
    quality_reference: QualityReference | None = None,
) -> list[Path]:
    """Images: samples of each model beside their nearest training examples. Returns the files."""
    contexts = contexts_of(runs, seed, split, command=command)
    first = contexts[0]
    if first.spec.kind != "image":
        raise UsageError(f"samples of several models: {first.dataset.name} holds no images")
    with drawing():
        reference = quality_reference or first.quality_reference
        return save(_compare(contexts, titles_of(runs, titles), reference), out, name)


def _compare(
    contexts: list[FigureContext], titles: list[str], quality_reference: QualityReference
) -> Drawing:
    first = contexts[0]
    columns, rows = (10, 3) if first.spec.shape[2] <= 64 else (6, 2)
    n = columns * rows
    width = (WIDTH - GAP) / 2
    cell = block_cell(first.spec, columns, width)
    blocks = [(f"real ({first.split} images)", first.first(n).x.cpu())]
    for title, context in zip(titles, contexts):
        blocks.append((title, sample.sample(context.loaded, n, context.seed).cpu()))
    height = rows * row_height(first.spec, cell) + 34
    features = quality_reference.pixels.name.partition("/")[0]
    note = (
        f"Left: the first {n} samples of each model with this seed. Right, at the same place: "
        f"the nearest training example by {features}, from which a sample may be copied. "
        "The first block shows usual distances of real images."
    )
    caption = caption_of(contexts, "samples")
    sheet = Sheet(
        "Samples and their nearest training examples", note, caption, len(blocks) * height - 14
    )
    numbers = []
    for i, (title, x) in enumerate(blocks):
        top = i * height
        distance, index = nearest_training(quality_reference, x)
        median = float(distance.median())
        sheet.add_text(0, top, plain(title, 60), size=9, weight="bold", color=INK if i else SOFT)
        label = f"nearest training examples, median distance {median:.2f}"
        sheet.add_text(width + GAP, top, label, size=8, color=SOFT)
        nearest = first.dataset.batch("train", index.tolist()).x
        draw_strip(sheet, first.pixels(x), cell, 0, top + 17, columns)
        draw_strip(sheet, first.pixels(nearest), cell, width + GAP, top + 17, columns)
        numbers.append({"title": title, "nearest": index.tolist(), "median_distance": median})
    alt = (
        f"Blocks of {n} images: real ones, and samples of {', '.join(titles)}; "
        "beside each block the nearest training images."
    )
    return sheet.finish({"n": n, "titles": titles, "blocks": numbers}, alt)


def compare_on_page(page: PageRequest) -> list[Path]:
    if not page.has_images:
        return []
    return compare_samples(
        page.runs,
        page.titles,
        out=page.out,
        quality_reference=page.quality_reference,
        **page.options,
    )


def is_vector(context: FigureContext) -> bool:
    return context.spec.kind == "vector"


FIGURE = Figure(
    name="samples",
    about="samples beside nearest training examples, or real data; texts with copied parts",
    group="samples",
    why_not=is_predicted_if_text,
    draw=draw_samples,
    compare=compare_on_page,
    on_page=is_vector,
    section=Section(
        "Samples of all models",
        "The first samples of one seed, each beside its nearest training example.",
        place=20,
    ),
)
