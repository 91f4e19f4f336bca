"""Surprise of each pixel of held-out images and of samples."""

import math

import numpy as np

from ...inference import sample
from ..colormap import draw_bits_scale, tint
from ..context import FigureContext
from ..image_rows import LABEL, draw_rows, image_cell, label_columns, row_height
from ..pixel_symbols import has_pixels_if_image, pixel_surprise
from ..style import SOFT, WIDTH, Drawing, Sheet, plain

__all__ = ["draw_surprise", "has_pixels_if_image"]

NOTE = (
    "Below each image the surprise of its pixels, -log2 p given the pixels before it: strong "
    "where the image differs from the prediction. For a perfect model, real images and samples "
    "are equally surprising on average."
)


def draw_surprise(context: FigureContext, n: int = 10) -> Drawing:
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
    cell = image_cell(spec, n)
    height = 26 + 2 * (2 * row_height(spec, cell) + 22) + 4
    title = f"Surprise of {plain(context.loaded.run.name)}"
    sheet = Sheet(title, NOTE, context.caption("surprise"), height)
    draw_bits_scale(sheet, WIDTH - 12, 0, "bits per pixel", most)
    top = 30.0
    numbers = {}
    for name, x in images.items():
        image_bits = bits[name].sum((1, 2))
        maps = ("surprise", f"mean {image_bits.mean():.1f} bits", tint(bits[name], most))
        top = draw_rows(sheet, [(name, "", context.pixels(x)), maps], cell, top)
        label_columns(sheet, [f"{value:.0f}" for value in image_bits], cell, LABEL, top)
        sheet.add_text(LABEL - 10, top, "bits of the image", size=7.5, color=SOFT, ha="right")
        top += 22
        per_dim = float(image_bits.mean() / spec.dims)
        numbers[name] = {"bits": image_bits, "bits_per_dim": per_dim}
    means = ", ".join(f"{name} {bits[name].sum((1, 2)).mean():.1f} bits" for name in images)
    alt = f"Images above maps of the surprise of each pixel; on average {means} an image."
    return sheet.finish(numbers | {"most": most}, alt)
