"""p(next symbol | symbol), as the model learned it and as counted."""

import math

import numpy as np
import torch
from matplotlib.axes import Axes

from ..colormap import draw_scale, tint
from ..conditions import is_text
from ..context import FigureContext
from ..figure import Figure
from ..style import INK, WIDTH, Drawing, Sheet
from ..text_cells import FONT, symbol_name
from .window import COUNTED, counted_in_words

SHOWN = 40  # symbols of the table
MARKS = {0: "≤ .0001", 0.25: ".001", 0.5: ".01", 0.75: ".1", 1: "1"}


def pairs_counted(tokens: np.ndarray, shown: np.ndarray, vocabulary: int) -> np.ndarray:
    """How often each symbol followed each of those shown, (len(shown), V)."""
    row = np.full(vocabulary, -1)
    row[shown] = np.arange(len(shown))
    before = row[tokens[:-1]]
    is_shown = before >= 0
    counts = np.zeros((len(shown), vocabulary), np.int64)
    np.add.at(counts, (before[is_shown], tokens[1:][is_shown]), 1)
    return counts


def divergence(counts: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p || q) of each row in bits: p the shares of the counts (S, V), log q (S, V) nats."""
    p = counts / counts.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * (np.log(p) - log_q), 0).sum(1) / math.log(2)


@torch.no_grad()
def draw_bigrams(context: FigureContext) -> Drawing:
    """log p(next | symbol) as a matrix, learned and counted."""
    tokenizer = context.tokenizer
    training = np.asarray(context.dataset.split("train").x[:COUNTED])
    frequency = np.bincount(training[:-1], minlength=tokenizer.vocabulary)
    count = min(SHOWN, int((frequency > 0).sum()))
    shown = np.sort(np.argsort(-frequency, kind="stable")[:count])
    counts = pairs_counted(training, shown, tokenizer.vocabulary)
    inputs = torch.tensor([[int(symbol), 0] for symbol in shown], device=context.loaded.device)
    # given this symbol only; (S, V) nats
    learned = context.model.log_probs(inputs)[:, 1].cpu().double().numpy()
    kl = divergence(counts, learned)
    mean = float(kl @ (counts.sum(1) / counts.sum()))
    names = [symbol_name(tokenizer, int(symbol)) for symbol in shown]
    is_long = max(map(len, names)) > 1
    label = min(64, 6 + 5.0 * max(map(len, names))) if is_long else 20
    side = WIDTH / 2 - label - 12
    title = f"Pairs of symbols: learned by {context.name}, and counted"
    note = _note(context, frequency, shown, len(training), mean)
    sheet = Sheet(title, note, context.caption("bigrams"), 36 + side + label)
    draw_scale(sheet, WIDTH - 12, 0, "p(next | symbol)", MARKS)
    with np.errstate(divide="ignore"):
        counted = np.log10(counts[:, shown] / counts.sum(1, keepdims=True))
    tables = {"learned": learned[:, shown] / math.log(10), "counted": counted}
    for i, (name, table) in enumerate(tables.items()):
        axes = sheet.add_axes(label + i * (WIDTH / 2 + 6), 36, side, side)
        axes.set_title(name)
        _draw_table(axes, table, names, min(8.5, 0.68 * side / count), is_long)
    numbers = {"symbols": names, "kl": kl, "mean_kl": mean} | tables
    numbers |= {"unit": "log10 p", "counted_symbols": len(training)}
    alt = (
        "Two matrices of p(next | symbol), learned and counted; "
        f"mean KL {mean:.4f} bits per symbol."
    )
    return sheet.finish(numbers, alt)


def _draw_table(axes: Axes, table: np.ndarray, names: list[str], size: float, turned: bool) -> None:
    """A matrix of log10 p with the names of its symbols."""
    axes.imshow(tint(table + 4, 4), aspect="auto", interpolation="nearest")
    style = {"fontsize": size, "family": FONT, "color": INK, "parse_math": False}
    axes.set_xticks(range(len(names)), names, rotation=90 if turned else 0, **style)
    axes.set_yticks(range(len(names)), names, **style)
    axes.tick_params(length=0, pad=2)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _note(
    context: FigureContext, frequency: np.ndarray, shown: np.ndarray, counted: int, mean: float
) -> str:
    symbols = "all symbols"
    if len(shown) < len(frequency):
        share = 100 * frequency[shown].sum() / frequency.sum()
        symbols = (
            f"the {len(shown)} most frequent of {len(frequency)} symbols, {share:.1f} % of the text"
        )
    return (
        f"Row: the symbol that is given; column: the next symbol. Shown: {symbols}. Counted in "
        f"{counted_in_words(context, counted, 'symbols')}. Mean over the rows of KL(counted || "
        f"learned), weighted by frequency: {mean:.4f} bits per symbol."
    )


FIGURE = Figure(
    name="bigrams",
    about="p(next symbol | symbol), learned and counted",
    group="symbols",
    needs=(is_text,),
    draw=draw_bigrams,
)
