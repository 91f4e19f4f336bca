"""The order in which a model fills an image, as a film too."""

import numpy as np

from ...inference import sample
from ...probability.symbols import TALL, WIDE
from ..animation import FRAMES, MILLISECONDS, animate
from ..conditions import all_of, is_image, predicts
from ..context import FigureContext
from ..figure import Figure
from ..image_rows import draw_rows, image_cell, label_columns, row_height, tile
from ..pixel_symbols import blanked, has_blocks, has_pixels_if_image, places
from ..style import Drawing, Sheet, plain

HELD = 20  # frames that the finished images stay
LEFT = 64  # pixels left of the rows


def draw_order(context: FigureContext, columns: int = 12) -> Drawing:
    """Samples as they fill symbol by symbol: a film, and some of its frames."""
    spec = context.spec
    T = context.model.length
    tiles, per_line = (10, 5) if max(spec.shape) <= 64 else (3, 3)
    images = context.pixels(sample.sample(context.loaded, tiles, context.seed, context.label))
    completed_by = places(context.model, spec.shape)
    counts = np.unique(np.linspace(0, T, min(T, FRAMES) + 1).round().astype(int))
    film, size = _film([blanked(images, completed_by >= count) for count in counts], per_line)
    n = min(6, tiles)
    cell = image_cell(spec, columns, label=LEFT, most=60)
    note = (
        f"The film is order.webp: {tiles} samples of {T:,} symbols ({_unit(context)}), row by row "
        f"from the top, {len(counts)} frames of {MILLISECONDS} ms. Each symbol is drawn from its "
        "distribution given all before it. Blue: not drawn yet."
    )
    title = f"How {plain(context.loaded.run.name)} fills an image"
    sheet = Sheet(title, note, context.caption("order"), 18 + n * row_height(spec, cell))
    moments = np.linspace(0, T, columns).round().astype(int)
    label_columns(sheet, [f"{moment:,}" for moment in moments], cell, LEFT, 0, "symbols")
    states = [blanked(images[:n], completed_by >= moment) for moment in moments]
    y = context.labels(tiles)
    rows = []
    for i in range(n):
        name = f"sample {i + 1}" if y is None else context.class_name(int(y[i]))
        rows.append((name, "", np.stack([state[i] for state in states])))
    draw_rows(sheet, rows, cell, 16, label=LEFT)
    numbers = {
        "symbols": T,
        "tiles": tiles,
        "frames": len(counts),
        "moments": moments,
        "bytes": len(film),
        "size": size,
    }
    alt = f"{n} rows of {columns} images: samples that fill row by row, up to {T:,} symbols."
    drawing = sheet.finish(numbers, alt)
    drawing.more["webp"] = film
    return drawing


def _film(states: list[np.ndarray], per_line: int) -> tuple[bytes, tuple[int, int]]:
    """Each state (tiles, H, W, 3) as a frame; the last one stays for HELD frames more."""
    width = max(56.0, states[0].shape[2] / 2)
    frames = [tile(state, per_line, width)[0] for state in states]
    return animate(frames + frames[-1:] * HELD)


def _unit(context: FigureContext) -> str:
    if has_blocks(context.model):
        return f"blocks of {TALL} x {WIDE} pixels"
    return "pixels" if context.spec.shape[0] == 1 else "colour components"


FIGURE = Figure(
    name="order",
    about="samples as they fill symbol by symbol, as a film too",
    group="symbols",
    why_not=all_of(is_image, predicts, has_pixels_if_image),
    draw=draw_order,
)
