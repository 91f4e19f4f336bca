"""The figure ``surprise``: -log2 p of each character of text, or of each pixel of images."""

import math

import numpy as np

from ...inference import sample
from ...inference.text import continue_texts
from ..colormap import draw_bits_scale, tint
from ..conditions import is_predicted_if_text, is_text, predicts
from ..context import FigureContext
from ..figure import Figure, Section
from ..image_rows import ImageRow, sheet_of_rows
from ..pixel_symbols import has_pixels_if_image, pixel_surprise
from ..style import WIDTH, Drawing
from ..text_cells import (
    TextBlock,
    characters,
    held_out_tokens,
    lay_out,
    passage,
    sheet_of_texts,
    surprise_of,
    units,
)

IMAGE_NOTE = (
    "Below each image the surprise of its pixels, -log2 p given the pixels before it: strong "
    "where the image differs from the prediction. For a perfect model, real images and samples "
    "are equally surprising on average."
)


def draw_surprise(context: FigureContext) -> Drawing:
    if context.spec.kind == "image":
        return draw_image_surprise(context)
    return draw_text_surprise(context)


def draw_text_surprise(
    context: FigureContext, rows: int = 12, length: int = 700, most: float = 8.0
) -> Drawing:
    """Held-out text above, a sample below; the colour under a character shows its bits."""
    tokenizer = context.tokenizer
    x = held_out_tokens(context)
    part = passage(context, length)
    own = continue_texts(context.loaded, length=length, seed=context.seed)[0]
    held_out_bits = surprise_of(context.model, x, part)
    own_bits = np.array(own.surprise) / math.log(2)
    blocks = []
    means = []
    numbers = {}
    for name, symbols, symbol_bits in (
        (f"held out ({context.split})", x[part.start : part.stop], held_out_bits),
        ("its own", own.symbols, own_bits),
    ):
        text, bits = characters(tokenizer, symbols, symbol_bits)
        lines = lay_out(text, rows)
        end = lines[-1].stop
        mean = float(bits[:end].mean())
        head = f"{name}: {mean:.2f} bits per character"
        means.append(f"{name} {mean:.2f} bits per character")
        blocks.append(TextBlock(head, text, lines, tint(bits, most)))
        numbers[name] = {"text": text[:end], "bits": bits[:end], "bits_per_character": mean}
    title = f"Surprise of {context.name}"
    note = _note(units(tokenizer), most)
    sheet = sheet_of_texts(title, note, context.caption("surprise"), blocks, top=14)
    draw_bits_scale(sheet, WIDTH - 12, 0, "bits per character", most)
    alt = f"Two passages of text coloured by the surprise of each character: {', '.join(means)}."
    return sheet.finish(numbers, alt)


def _note(unit: str, most: float) -> str:
    note = (
        "The colour under a character is its surprise, -log2 p given all characters before it: "
        f"{most:g} bits is a probability of 1 in {2**most:,.0f}. For a perfect model, real text "
        "and samples are equally surprising on average."
    )
    if unit != "characters":
        note += f" The symbols are {unit}; the bits of each are shared among its characters."
    return note


def draw_image_surprise(context: FigureContext, n: int = 10) -> Drawing:
    """Held-out images and samples, each above the map of its surprise."""
    spec = context.spec
    batch = context.first(n)
    y = context.labels(n)
    own = sample.sample(context.loaded, n, context.seed, context.label)
    held_out_y = batch.y if context.conditional else None
    images = {f"held out ({context.split})": batch.x, "its own": own}
    labels = (held_out_y, y)
    bits = {}
    for (name, x), y in zip(images.items(), labels):
        bits[name] = pixel_surprise(context.model, x, y, spec.shape)
    everything = np.concatenate(list(bits.values()))
    most = float(max(1, math.ceil(np.percentile(everything, 99.5))))
    title = f"Surprise of {context.name}"
    rows = []
    numbers = {}
    for name, x in images.items():
        image_bits = bits[name].sum((1, 2))
        rows.append(ImageRow(name, context.pixels(x)))
        maps = ImageRow("surprise", tint(bits[name], most), f"mean {image_bits.mean():.1f} bits")
        maps.labels = [f"{value:.0f}" for value in image_bits]
        maps.labels_name = "bits of the image"
        rows.append(maps)
        per_dim = float(image_bits.mean() / spec.dims)
        numbers[name] = {"bits": image_bits, "bits_per_dim": per_dim}
    sheet = sheet_of_rows(title, IMAGE_NOTE, context.caption("surprise"), rows, top=30)
    draw_bits_scale(sheet, WIDTH - 12, 0, "bits per pixel", most)
    means = ", ".join(f"{name} {bits[name].sum((1, 2)).mean():.1f} bits" for name in images)
    alt = f"Images above maps of the surprise of each pixel; on average {means} an image."
    return sheet.finish(numbers | {"most": most}, alt)


FIGURE = Figure(
    name="surprise",
    about="the surprise of each character or pixel, -log2 p",
    group="symbols",
    needs=(predicts, is_predicted_if_text, has_pixels_if_image),
    draw=draw_surprise,
    on_page=is_text,
    section=Section(
        "Surprise",
        "The bits of each character, in real text and in samples.",
        place=100,
    ),
)
