"""The likeliest next symbols at some places of held-out text."""

import math

import numpy as np
from matplotlib.axes import Axes

from ...data.codecs.tokenizer import Tokenizer
from ..conditions import is_text
from ..context import FigureContext
from ..figure import Figure
from ..style import INK, MODEL, SOFT, WIDTH, Drawing, Sheet
from ..text_cells import FONT, held_out_tokens, log_p_at, passage, symbol_name, visible

COLUMNS = 4
GAP = 24  # pixels between columns
COLUMN = (WIDTH - (COLUMNS - 1) * GAP) / COLUMNS  # width, pixels
ROW = 15  # pixels of a bar
HEAD = 40  # pixels above the bars


def draw_next(context: FigureContext, count: int = 8, bars: int = 12, near: int = 200) -> Drawing:
    """Bars of the likeliest next symbols at ``count`` places of a passage, the true one marked."""
    tokenizer = context.tokenizer
    model = context.model
    x = held_out_tokens(context)
    part = passage(context, near)
    length = min(model.length - 1, part.start)
    log_p = log_p_at(model, x, part, length, context.loaded.device)
    log_p = log_p.cpu().double().numpy() / math.log(2)  # (near, V) bits
    entropy = -(np.exp2(log_p) * np.where(np.isfinite(log_p), log_p, 0)).sum(1)
    chosen = _spread_evenly(entropy, count)
    bars = min(bars, model.vocabulary)
    note = (
        f"The {bars} likeliest next symbols at {len(chosen)} places of one held-out passage, with "
        "their probabilities; above each the text before it. Orange: the true next symbol. The "
        f"places range evenly from the least to the largest entropy among {len(part)}."
    )
    height = HEAD + ROW * (bars + 1) + 20
    title = f"Next symbols predicted by {context.name}"
    total = -(-len(chosen) // COLUMNS) * height - 14
    sheet = Sheet(title, note, context.caption("next"), total)
    numbers = []
    for i, place in enumerate(chosen):
        left = i % COLUMNS * (COLUMN + GAP)
        top = i // COLUMNS * height
        before = tokenizer.decode(x[part[place] - min(40, length) : part[place]])
        before = visible(before)[-22:]
        sheet.add_text(left, top, f"…{before}▯", family=FONT)
        true = int(x[part[place]])
        label = f"entropy {entropy[place]:.1f} bits, surprise {-log_p[place, true]:.1f}"
        sheet.add_text(left, top + 18, label, size=7.5, color=SOFT)
        axes = sheet.add_axes(left + 44, top + HEAD, COLUMN - 88, ROW * (bars + 1))
        row = _draw_bars(axes, tokenizer, np.exp2(log_p[place]), true, bars)
        numbers.append({"context": before, "entropy": entropy[place]} | row)
    first = sum(row["rank"] == 1 for row in numbers)
    alt = (
        f"Bars of the {bars} likeliest next symbols at {len(numbers)} places; "
        f"at {first} of them the likeliest one is true."
    )
    return sheet.finish({"places": numbers}, alt)


def _spread_evenly(entropy: np.ndarray, count: int) -> np.ndarray:
    """``count`` places whose ranks by entropy are evenly spaced, in the order of the text."""
    order = np.argsort(entropy, kind="stable")
    ranks = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return np.sort(order[ranks])


def _draw_bars(axes: Axes, tokenizer: Tokenizer, p: np.ndarray, true: int, bars: int) -> dict:
    """Bars of the likeliest symbols, and of the true one if it is not among them.

    p (V,): probabilities of the next symbol. Returns the numbers of the place.
    """
    likeliest = np.argsort(-p, kind="stable")
    rank = int(np.flatnonzero(likeliest == true)[0])
    symbols = list(map(int, likeliest[:bars]))
    if rank >= bars:
        symbols.append(true)
    names = [symbol_name(tokenizer, symbol) for symbol in symbols]
    places = range(len(symbols))
    colours = [MODEL if symbol == true else "#b4bac5" for symbol in symbols]
    drawn = axes.barh(places, p[symbols], 0.74, color=colours)
    labels = [percent(p[symbol]) for symbol in symbols]
    if rank >= bars:
        labels[-1] += f", rank {rank + 1}"
    axes.bar_label(drawn, labels, padding=3, fontsize=7.5, color=SOFT)
    short = [name if len(name) < 6 else name[:4] + "…" for name in names]
    axes.set_yticks(places, short, fontsize=8.5, family=FONT, color=INK, parse_math=False)
    axes.get_yticklabels()[symbols.index(true)].set_color(MODEL)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_frame_on(False)
    axes.set_xlim(0, 1)
    axes.set_ylim(bars + 0.5, -0.5)
    return {
        "true": symbol_name(tokenizer, true),
        "rank": rank + 1,
        "p": p[true],
        "likeliest": list(zip(names[:bars], p[symbols[:bars]])),
    }


def percent(p: float) -> str:
    if p < 0.001:
        return "< 0.1 %"
    return f"{100 * p:.0f} %" if p >= 0.1 else f"{100 * p:.1f} %"


FIGURE = Figure(
    name="next",
    about="the likeliest next symbols at some places of a text",
    group="symbols",
    needs=(is_text,),
    draw=draw_next,
)
