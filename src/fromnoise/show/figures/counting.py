"""Counts beside a network: bits per character against the window, and the table of pairs. The lecture's Markov chain.

    p(s_i | s_{i-k} .. s_{i-1}),  k = 0, 1, 2, ...

Counting is exact where it has seen the context, and of k symbols there are V^k: a longer window helps until most
contexts are new. A network shares what it learns between contexts, and goes on.
"""

import math

import numpy as np
import torch
from matplotlib.ticker import FixedLocator, NullLocator

from ...core.capabilities import Predicts
from ...core.errors import UsageError
from ...inference.text import is_text_model
from ...measures.text import Hashes
from ...nets.counts.ngram import KneserNey
from ...runs.load import LoadedRun
from ..colormap import scale, tint
from ..context import FigureContext
from ..style import ACCENT, INK, MODEL, SOFT, WIDTH, Drawing, Sheet, plain
from .text import FONT, held_out, log_p_at, symbol_name, units

ORDER = 8  # the longest context that is counted
PLACES = 1000  # held-out symbols that are predicted
COUNTED = 2_000_000  # symbols of the training text that are counted at most
SHOWN = 40  # symbols of the table of pairs


# -- the window ----------------------------------------------------------------------------------------------


def ladder(longest: int) -> list[int]:
    """0, 1, .. 8, 16, 32, .. and the longest: windows that are tried."""
    return [k for k in [*range(ORDER + 1), *(2**i for i in range(4, 20))] if k < longest] + [
        longest
    ]


def longest_window(model: Predicts) -> int:
    """The most symbols that a prediction can be given here: in training it had no more."""
    return model.length - 1 if model.context is None else min(model.context, model.length - 1)


def own(log_p: torch.Tensor, symbols: np.ndarray) -> np.ndarray:
    """-log2 p of the symbols (P,), from log p (P, V) nats."""
    return -log_p.cpu().double().numpy()[np.arange(len(symbols)), symbols] / math.log(2)


def why_no_counts(subject: FigureContext, other: LoadedRun) -> str:
    """Why the other model cannot stand in the same plot, or ""."""
    if not is_text_model(other):
        return "it is no model of text"
    same = other.dataset.tokenizer.to_json() == subject.dataset.tokenizer.to_json()
    if not same or not np.array_equal(other.dataset.split(subject.split).x, held_out(subject)):
        return "it was trained on another text, or on other symbols of it"
    return ""


def draw_window(subject: FigureContext) -> Drawing:
    """Bits per character of held-out text against the window k, at the same places for every line."""
    restoreds = [subject.loaded] + ([subject.other] if subject.other is not None else [])
    if len(restoreds) > 1 and (reason := why_no_counts(subject, restoreds[1])):
        raise UsageError(
            f"{restoreds[1].run.path} cannot stand beside {restoreds[0].run.path}: {reason}"
        )
    tokenizer, split, x = (
        subject.dataset.tokenizer,
        subject.dataset.split(subject.split),
        held_out(subject),
    )
    training = np.asarray(subject.dataset.split("train").x[:COUNTED])
    longest = [min(longest_window(r.model), len(x) // 2) for r in restoreds]
    order = min(ORDER, len(x) // 2)
    first = max(order, *longest)
    places = np.unique(np.linspace(first, len(x) - 1, PLACES).astype(int))
    symbols, each = (
        x[places].astype(np.int64),
        len(x) / max(1, split.characters),
    )  # symbols of a character

    counts = KneserNey(order, tokenizer.vocabulary).fit(training)
    bits = {
        "counts": {
            k: own(
                counts.log_probs(
                    torch.from_numpy(x[places[:, None] + np.arange(-k, 0)].astype(np.int64))
                ),
                symbols,
            )
            for k in range(order + 1)
        }
    }
    for r, last in zip(restoreds, longest):
        name = plain(r.run.name, 40) if r.run.name not in bits else plain(str(r.run.path), 40)
        bits[name] = {
            k: own(log_p_at(r.model, x, places, k, r.device), symbols) for k in ladder(last)
        }
    lines = {
        name: {k: float(values.mean()) * each for k, values in of.items()}
        for name, of in bits.items()
    }
    seen = shares_seen(training, x, places, ladder(first))
    errors = {
        name: {k: float(values.std() / math.sqrt(len(values))) * each for k, values in of.items()}
        for name, of in bits.items()
    }
    return _window(subject, lines, errors, seen, len(places), len(training))


def counted_in_words(subject: FigureContext, n: int, what: str) -> str:
    whole = len(subject.dataset.split("train").x)
    return f"the {'first ' * (n < whole)}{n:,} training {what}"


def least(line: dict[int, float]) -> int:
    """The window of the smallest number."""
    return min(line, key=line.get)


def shares_seen(
    training: np.ndarray, x: np.ndarray, places: np.ndarray, windows: list[int]
) -> dict[int, float]:
    """k -> the share of the places whose k symbols before them stand somewhere in the training text."""
    texts = [
        Hashes(np.asarray(tokens).astype("<u4").tobytes().decode("utf-32-le", "surrogatepass"))
        for tokens in (training, x)
    ]
    return {
        k: float(np.isin(texts[1].windows(k)[places - k], texts[0].windows(k)).mean()) if k else 1.0
        for k in windows
    }


def _window(
    subject: FigureContext, lines: dict, errors: dict, seen: dict, n: int, counted: int
) -> Drawing:
    unit = units(subject.dataset.tokenizer)
    best = least(lines["counts"])
    error = max(of[max(of)] for of in errors.values())
    end = (
        f"here they gain nothing beyond k = {best}"
        if best < ORDER
        else f"here they still gain at k = {ORDER}"
    )
    note = (
        f"The same {n:,} {subject.split} {unit} for every point, each predicted from the k before it and nothing else (standard error {error:.2f}; differences are surer). "
        f"Counts: interpolated Kneser-Ney of {counted_in_words(subject, counted, unit)}. A longer window helps counts until it was rarely seen: {end}."
    )
    sheet = Sheet("Bits per character against the window", note, subject.caption("window"), 452)
    top, bottom = sheet.axes(48, 22, WIDTH - 60, 268), sheet.axes(48, 338, WIDTH - 60, 76)
    for i, (name, values) in enumerate(lines.items()):
        colour, last = (SOFT, MODEL, ACCENT)[i], max(values)
        told = "".join(
            f", {values[k]:.3f} at k = {k}" for k in dict.fromkeys((least(values), last))
        )
        label = f"{'counts (Kneser-Ney)' if i == 0 else name}{told}"
        top.plot(
            list(values),
            list(values.values()),
            color=colour,
            marker="s" if i == 0 else "o",
            markersize=4,
            linewidth=1.8,
            linestyle="--" if i == 0 else "-",
            label=label.replace("$", r"\$"),
        )
    top.legend(fontsize=8.5, loc="upper right")
    top.set_title("bits per character, held out: low is good", fontsize=9)
    bottom.plot(
        list(seen), [100 * share for share in seen.values()], color=INK, marker=".", linewidth=1.2
    )
    bottom.set_title("windows of k symbols that stand in the training text, %", fontsize=9)
    bottom.set_ylim(0, 105)
    ticks = [
        k
        for k in seen
        if k <= 8 and k != 7 or k & (k - 1) == 0 or k == max(seen) and k & (k + 1) == 0
    ]
    for axes in (top, bottom):
        axes.set_xscale(
            "function",
            functions=(lambda k: np.log2(np.maximum(k, -0.9) + 1), lambda v: np.exp2(v) - 1),
        )
        axes.set_xlim(-0.12, max(seen) * 1.06)
        (
            axes.xaxis.set_major_locator(FixedLocator(ticks)),
            axes.xaxis.set_minor_locator(NullLocator()),
        )
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.grid(True)
    bottom.set_xlabel(f"window k: {unit} that a prediction sees", labelpad=3)
    numbers = {
        "lines": lines,
        "standard_errors": errors,
        "seen": seen,
        "places": n,
        "counted": counted,
        "best_order": best,
    }
    ends = ", ".join(
        f"{name} {min(values.values()):.3f} at k = {least(values)}"
        for name, values in lines.items()
    )
    return sheet.done(numbers, f"Bits per character against the window k, least: {ends}.")


# -- pairs ---------------------------------------------------------------------------------------------------


def pairs_counted(tokens: np.ndarray, shown: np.ndarray, vocabulary: int) -> np.ndarray:
    """How often each symbol followed each of those shown, (len(shown), V)."""
    row = np.full(vocabulary, -1)
    row[shown] = np.arange(len(shown))
    before, after = row[tokens[:-1]], tokens[1:].astype(np.int64)
    kept = before >= 0
    return np.bincount(
        before[kept] * vocabulary + after[kept], minlength=len(shown) * vocabulary
    ).reshape(len(shown), vocabulary)


def divergence(counts: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """KL(p || q) of each row in bits: p the shares of the counts (S, V), log q (S, V) nats."""
    p = counts / counts.sum(1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * (np.log(p) - log_q), 0).sum(1) / math.log(2)


@torch.no_grad()
def draw_bigrams(subject: FigureContext) -> Drawing:
    """log p(next | symbol) as the model has learned it, and as counted."""
    tokenizer, model = subject.dataset.tokenizer, subject.model
    V, training = tokenizer.vocabulary, np.asarray(subject.dataset.split("train").x[:COUNTED])
    frequency = np.bincount(training[:-1], minlength=V)
    shown = np.sort(np.argsort(-frequency, kind="stable")[: min(SHOWN, int((frequency > 0).sum()))])
    counts = pairs_counted(training, shown, V)
    read = torch.tensor([[int(symbol), 0] for symbol in shown], device=subject.loaded.device)
    learned = (
        model.log_probs(read)[:, 1].cpu().double().numpy()
    )  # after this symbol and nothing else; (S, V)
    kl = divergence(counts, learned)
    share = counts.sum(1) / counts.sum()
    mean = float(kl @ share)
    names = [symbol_name(tokenizer, int(symbol)) for symbol in shown]
    which = (
        f"the {len(shown)} most frequent of {V} symbols, {100 * frequency[shown].sum() / frequency.sum():.1f} % of the text"
        if len(shown) < V
        else "all symbols"
    )
    note = (
        f"Row: a symbol that is all the model knows; column: what comes next. Shown are {which}. "
        f"Counted in {counted_in_words(subject, len(training), 'symbols')}. Mean over the rows of KL(counted || learned): {mean:.4f} bits per symbol, rows weighted by how often they occur."
    )
    long = max(map(len, names)) > 1
    label = 20 if not long else min(64, 6 + 5.0 * max(map(len, names)))
    side = WIDTH / 2 - label - 12
    sheet = Sheet(
        f"Pairs of symbols: learned by {plain(subject.loaded.run.name)}, and counted",
        note,
        subject.caption("bigrams"),
        36 + side + label,
    )
    scale(
        sheet,
        WIDTH - 12,
        0,
        "p(next | symbol)",
        {0: "≤ .0001", 0.25: ".001", 0.5: ".01", 0.75: ".1", 1: "1"},
    )
    with np.errstate(divide="ignore"):
        tables = {
            "learned": learned[:, shown] / math.log(10),
            "counted": np.log10(counts[:, shown] / counts.sum(1, keepdims=True)),
        }
    size = min(8.5, 0.68 * side / len(shown))
    for i, (name, table) in enumerate(tables.items()):
        axes = sheet.axes(label + i * (WIDTH / 2 + 6), 36, side, side)
        axes.imshow(tint(table + 4, 4), aspect="auto", interpolation="nearest")
        axes.set_title(name, fontsize=9.5)
        look = dict(fontsize=size, family=FONT, color=INK, parse_math=False)
        axes.set_xticks(range(len(names)), names, rotation=90 if long else 0, **look)
        axes.set_yticks(range(len(names)), names, **look)
        axes.tick_params(length=0, pad=2)
        for spine in axes.spines.values():
            spine.set_visible(False)
    numbers = {
        "symbols": names,
        "kl": kl,
        "mean_kl": mean,
        "learned": tables["learned"],
        "counted": tables["counted"],
        "unit": "log10 p",
        "counted_symbols": len(training),
    }
    return sheet.done(
        numbers,
        f"Two matrices of p(next | symbol), learned and counted; mean KL {mean:.4f} bits per symbol.",
    )
