"""The order in which a model fills an image, as a film too."""

import numpy as np

from ...inference import sample
from ...probability.symbols import TALL, WIDE
from ..animation import FRAMES, MILLISECONDS, SHOWN, animate_tiles, tiles_of
from ..conditions import is_image, predicts
from ..context import FigureContext
from ..figure import Figure
from ..image_rows import ImageRow, sheet_of_rows
from ..pixel_symbols import blanked, has_blocks, has_pixels_if_image, places
from ..style import Drawing

HELD = 20  # frames that the finished images stay


def draw_order(context: FigureContext, columns: int = 12) -> Drawing:
    """Samples as they fill symbol by symbol: a film, and some of its frames."""
    spec = context.spec
    T = context.model.length
    tiles, per_line = tiles_of(spec)
    images = context.pixels(sample.sample(context.loaded, tiles, context.seed, context.label))
    completed_by = places(context.model, spec.shape)
    counts = np.unique(np.linspace(0, T, min(T, FRAMES) + 1).round().astype(int))
    frames = [blanked(images, completed_by >= count) for count in counts]
    film, size = animate_tiles(frames + frames[-1:] * HELD, per_line)
    n = min(SHOWN, tiles)
    note = (
        f"The film is order.webp: {tiles} samples of {T:,} symbols ({_unit(context)}), row by row "
        f"from the top, {len(counts)} frames of {MILLISECONDS} ms. Each symbol is drawn from its "
        "distribution given all before it. Blue: not drawn yet."
    )
    title = f"How {context.name} fills an image"
    moments = np.linspace(0, T, columns).round().astype(int)
    labels = [f"{moment:,}" for moment in moments]
    states = [blanked(images[:n], completed_by >= moment) for moment in moments]
    rows = []
    for i, name in enumerate(context.row_names(context.labels(n), n, "sample")):
        rows.append(ImageRow(name, np.stack([state[i] for state in states])))
    caption = context.caption("order")
    sheet = sheet_of_rows(title, note, caption, rows, labels, "symbols")
    numbers = {
        "symbols": T,
        "tiles": tiles,
        "frames": len(counts),
        "moments": moments,
        "bytes": len(film),
        "size": size,
    }
    alt = f"{n} rows of {columns} images: samples that fill row by row, up to {T:,} symbols."
    return sheet.finish(numbers, alt, webp=film)


def _unit(context: FigureContext) -> str:
    if has_blocks(context.model):
        return f"blocks of {TALL} x {WIDE} pixels"
    return "pixels" if context.spec.shape[0] == 1 else "colour components"


FIGURE = Figure(
    name="order",
    about="samples as they fill symbol by symbol, as a film too",
    group="symbols",
    needs=(is_image, predicts, has_pixels_if_image),
    draw=draw_order,
)
