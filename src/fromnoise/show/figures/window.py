"""Bits per character against the length of context, of a network and of counts (a Markov chain).

    p(s_i | s_{i-k} .. s_{i-1}),  k = 0, 1, 2, ...

Counts are exact for a context that was seen, and there are V^k contexts of k symbols: a longer window helps
until most contexts are new. A network shares what it learns between contexts and improves further.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes

from ...core.capabilities import Predicts
from ...core.errors import UsageError
from ...inference.text import is_text_model
from ...measures.text import Hashes
from ...nets.counts.ngram import KneserNey
from ...runs.load import LoadedRun
from ..conditions import is_text
from ..context import FigureContext
from ..figure import Figure, Section
from ..style import ACCENT, INK, MODEL, SOFT, WIDTH, Drawing, Sheet, plain
from ..text_cells import held_out_tokens, log_p_at, units

ORDER = 8  # the longest context that is counted
PLACES = 1000  # held-out symbols that are predicted
COUNTED = 2_000_000  # symbols of the training text that are counted at most

Line = dict[int, float]  # window -> value


@dataclass
class Windows:
    """Of each model, "counts" first: bits per character by window, and its standard error.

    seen: window -> the share of contexts that stand in the training text; n: places; counted: symbols.
    """

    lines: dict[str, Line]
    errors: dict[str, Line]
    seen: Line
    n: int
    counted: int


def window_lengths(longest: int) -> list[int]:
    """0, 1, .. 8, 16, 32, .. and the longest."""
    lengths = [*range(ORDER + 1), *(2**i for i in range(4, 20))]
    return [k for k in lengths if k < longest] + [longest]


def longest_window(model: Predicts) -> int:
    """The most symbols of context in training, and so in this figure."""
    return model.length - 1 if model.context is None else min(model.context, model.length - 1)


def symbol_bits(log_p: torch.Tensor, symbols: np.ndarray) -> np.ndarray:
    """-log2 p of the symbols (P,), from log p (P, V) nats."""
    return -log_p.cpu().double().numpy()[np.arange(len(symbols)), symbols] / math.log(2)


def why_not_beside(context: FigureContext, other: LoadedRun) -> str:
    """Why the other model cannot share the plot, or ""."""
    if not is_text_model(other):
        return "it is no model of text"
    same = other.dataset.tokenizer.to_json() == context.tokenizer.to_json()
    x = other.dataset.split(context.split).x
    if not same or not np.array_equal(x, held_out_tokens(context)):
        return "it was trained on another text, or on other symbols of it"
    return ""


def draw_window(context: FigureContext) -> Drawing:
    """Bits per character of held-out text against the window k, at the same places for all lines."""
    runs = [context.loaded]
    if context.other is not None:
        if reason := why_not_beside(context, context.other):
            path = context.other.run.path
            raise UsageError(f"{path} cannot stand beside {context.loaded.run.path}: {reason}")
        runs.append(context.other)
    return _draw(context, _measure(context, runs))


def _measure(context: FigureContext, runs: list[LoadedRun]) -> Windows:
    split = context.dataset.split(context.split)
    x = held_out_tokens(context)
    training = np.asarray(context.dataset.split("train").x[:COUNTED])
    longest = [min(longest_window(run.model), len(x) // 2) for run in runs]
    order = min(ORDER, len(x) // 2)
    first = max(order, *longest)
    places = np.unique(np.linspace(first, len(x) - 1, PLACES).astype(int))
    symbols = x[places].astype(np.int64)
    counts = KneserNey(order, context.tokenizer.vocabulary).fit(training)
    bits: dict[str, dict[int, np.ndarray]] = {"counts": {}}
    for k in range(order + 1):
        contexts = x[places[:, None] + np.arange(-k, 0)].astype(np.int64)
        log_p = counts.log_probs(torch.from_numpy(contexts))
        bits["counts"][k] = symbol_bits(log_p, symbols)
    for run, last in zip(runs, longest):
        name = plain(run.run.name, 40)
        if run.run.name in bits:
            name = plain(str(run.run.path), 40)
        bits[name] = {}
        for k in window_lengths(last):
            log_p = log_p_at(run.model, x, places, k, run.device)
            bits[name][k] = symbol_bits(log_p, symbols)
    symbols_per_character = len(x) / max(1, split.characters)
    lines: dict[str, Line] = {}
    errors: dict[str, Line] = {}
    for name, by_window in bits.items():
        lines[name] = {}
        errors[name] = {}
        for k, values in by_window.items():
            error = float(values.std() / math.sqrt(len(values)))
            lines[name][k] = float(values.mean()) * symbols_per_character
            errors[name][k] = error * symbols_per_character
    seen = shares_seen(training, x, places, window_lengths(first))
    return Windows(lines, errors, seen, len(places), len(training))


def counted_in_words(context: FigureContext, n: int, unit: str) -> str:
    total = len(context.dataset.split("train").x)
    return f"the {'first ' * (n < total)}{n:,} training {unit}"


def best_window(line: Line) -> int:
    return min(line, key=line.get)


def shares_seen(
    training: np.ndarray, x: np.ndarray, places: np.ndarray, windows: list[int]
) -> Line:
    """k -> the share of places whose k preceding symbols stand anywhere in the training text."""
    training_hashes = _hash_tokens(training)
    hashes = _hash_tokens(x)
    shares = {}
    for k in windows:
        shares[k] = 1.0
        if k:
            is_seen = np.isin(hashes.windows(k)[places - k], training_hashes.windows(k))
            shares[k] = float(is_seen.mean())
    return shares


def _hash_tokens(tokens: np.ndarray) -> Hashes:
    raw = np.asarray(tokens).astype("<u4").tobytes()
    return Hashes(raw.decode("utf-32-le", "surrogatepass"))


def _draw(context: FigureContext, windows: Windows) -> Drawing:
    unit = units(context.tokenizer)
    best = best_window(windows.lines["counts"])
    note = _note(context, windows, unit, best)
    title = "Bits per character against the window"
    sheet = Sheet(title, note, context.caption("window"), 452)
    top = sheet.add_axes(48, 22, WIDTH - 60, 268)
    _draw_lines(top, windows.lines)
    bottom = sheet.add_axes(48, 338, WIDTH - 60, 76)
    shares = [100 * share for share in windows.seen.values()]
    bottom.plot(list(windows.seen), shares, color=INK, marker=".", linewidth=1.2)
    bottom.set_title("windows of k symbols that stand in the training text, %")
    bottom.set_ylim(0, 105)
    for axes in (top, bottom):
        axes.set_xscale("symlog", base=2, linthresh=1)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_xlim(-0.12, max(windows.seen) * 1.06)
        axes.grid(True)
    bottom.set_xlabel(f"window k: {unit} of context", labelpad=3)
    numbers = {
        "lines": windows.lines,
        "standard_errors": windows.errors,
        "seen": windows.seen,
        "places": windows.n,
        "counted": windows.counted,
        "best_order": best,
    }
    ends = []
    for name, line in windows.lines.items():
        ends.append(f"{name} {min(line.values()):.3f} at k = {best_window(line)}")
    alt = f"Bits per character against the window k, least: {', '.join(ends)}."
    return sheet.finish(numbers, alt)


def _note(context: FigureContext, windows: Windows, unit: str, best: int) -> str:
    error = max(line[max(line)] for line in windows.errors.values())
    end = f"here up to k = {best}" if best < ORDER else f"here still at k = {ORDER}"
    counted = counted_in_words(context, windows.counted, unit)
    return (
        f"The same {windows.n:,} {context.split} {unit} for every point, each predicted from the k "
        f"before it only (standard error {error:.2f}; less for differences). Counts: interpolated "
        f"Kneser-Ney of {counted}. Counts gain from a longer window until most windows are new: "
        f"{end}."
    )


def _draw_lines(axes: Axes, lines: dict[str, Line]) -> None:
    for i, (name, line) in enumerate(lines.items()):
        label = "counts (Kneser-Ney)" if i == 0 else name
        for k in dict.fromkeys((best_window(line), max(line))):
            label += f", {line[k]:.3f} at k = {k}"
        style = {"marker": "o", "linestyle": "-"}
        if i == 0:
            style = {"marker": "s", "linestyle": "--"}
        axes.plot(
            list(line),
            list(line.values()),
            color=(SOFT, MODEL, ACCENT)[i],
            markersize=4,
            linewidth=1.8,
            label=label.replace("$", r"\$"),
            **style,
        )
    axes.legend(loc="upper right")
    axes.set_title("bits per character, held out: less is better")


def is_network(context: FigureContext) -> str:
    return "" if context.model.phases() else "the model itself is made of counts"


FIGURE = Figure(
    name="window",
    about="bits per character against the length of context, beside counts",
    group="symbols",
    needs=(is_text,),
    draw=draw_window,
    on_page=is_network,
    section=Section(
        "The window",
        "The gain from a longer context, for counts and for the model.",
        place=110,
    ),
)
