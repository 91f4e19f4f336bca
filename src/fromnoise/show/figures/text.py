"""Figures of a model of text: what it writes, what surprises it, what it expects next.

Text stands in a grid of cells, one for each character, so that a colour can lie under each. A symbol need not be a
character: the bits of a symbol are shared evenly among its bytes, and a character has those of its bytes.
"""

import codecs
import math
import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...core.capabilities import Predicts
from ...data.codecs.tokenizer import Tokenizer
from ...inference.text import LONGEST, continue_texts, corpus_of
from ...inference.text_generation import Generated
from ...inference.text_scoring import score
from ...measures.text import longest_copied
from ..colormap import bits_scale, tint
from ..context import FigureContext
from ..style import INK, MODEL, SOFT, WIDTH, Drawing, Sheet, plain

PITCH, LINE = 8.0, 18  # pixels of a cell
COLUMNS = int(WIDTH // PITCH)
FONT = "DejaVu Sans Mono"
SIZE = (
    0.72 * PITCH / (1233 / 2048)
)  # points: a character of this font is 1233 / 2048 as wide as its size
SIGNS = {"\n": "↵", "\t": "→", "\r": "␍"}
SIGN = "#8d95a3"  # their colour, and that of what stands beside text
COPIED = (255, 214, 160)
AT_ONCE = 2**18  # log-probabilities at once: larger parts do not fit the cache
REACH = 200  # symbols within which a passage looks for the beginning of a line
UNITS = {"char": "characters", "byte": "bytes"}


# -- text as cells -------------------------------------------------------------------------------------------


def visible(text: str) -> str:
    """The text with signs for line ends, tabs and what cannot be printed: as many characters."""
    return "".join(SIGNS.get(c, c if c.isprintable() else "·") for c in text)


def lay_out(text: str, rows: int, columns: int = COLUMNS) -> list[range]:
    """At most so many rows of characters: a line end closes its row, and a line too long goes on in the next."""
    found, start = [], 0
    while start < len(text) and len(found) < rows:
        end = text.find("\n", start, start + columns) + 1 or min(start + columns, len(text))
        found.append(range(start, end))
        start = end
    return found


def put_text(
    sheet: Sheet,
    text: str,
    rows: list[range],
    left: float,
    top: float,
    colours: np.ndarray | None = None,
) -> float:
    """Draws the rows of a text, colours (characters, 3) uint8 under them. Returns the next free pixel."""
    columns = max(map(len, rows), default=1)
    axes = sheet.axes(left, top, columns * PITCH, len(rows) * LINE)
    axes.set_axis_off()
    ground = np.full((len(rows), LINE, columns, 3), 255, np.uint8)
    for picture, row in zip(ground, rows):
        if colours is not None:
            picture[:-1, : len(row)] = colours[
                row.start : row.stop
            ]  # the last pixel parts the rows
    axes.imshow(
        ground.reshape(-1, columns, 3),
        extent=(0, columns, len(rows), 0),
        aspect="auto",
        interpolation="nearest",
    )
    for i, row in enumerate(rows):
        line = visible(text[row.start : row.stop])
        # a word at a time: over a whole line the rounding of widths would add up
        for word in re.finditer(
            rf"[{''.join(SIGNS.values())}]|[^\s{''.join(SIGNS.values())}]+", line
        ):
            colour = SIGN if word[0] in SIGNS.values() else INK
            axes.text(
                word.start(),
                i + 0.72,
                word[0],
                fontsize=SIZE,
                family=FONT,
                color=colour,
                va="baseline",
                parse_math=False,
            )
    return top + len(rows) * LINE


def characters(tokenizer: Tokenizer, symbols, bits) -> tuple[str, np.ndarray]:
    """Symbols and the bits of each -> their text and the bits of each character; the sum stays the same.

    What is no UTF-8 becomes U+FFFD, as ``Tokenizer.decode`` has it.
    """
    decoder, text, found, waiting = codecs.getincrementaldecoder("utf-8")("replace"), "", [], 0.0
    for symbol, its in zip(symbols, bits):
        raw = tokenizer.token_bytes(int(symbol))
        for byte in raw:
            waiting += float(its) / len(raw)
            if new := decoder.decode(bytes([byte])):
                text, found, waiting = text + new, found + [waiting / len(new)] * len(new), 0.0
    if new := decoder.decode(b"", final=True):
        text, found = text + new, found + [waiting / len(new)] * len(new)
    return text, np.array(found)


def symbol_name(tokenizer: Tokenizer, symbol: int) -> str:
    """A symbol as a label: spaces are seen, and bytes of no character of their own are written as numbers."""
    raw = tokenizer.token_bytes(symbol)
    try:
        return plain(visible(raw.decode()).replace(" ", "␣"), 24)
    except UnicodeDecodeError:
        return plain("".join(f"{byte:02x}" for byte in raw), 24)


def units(tokenizer: Tokenizer) -> str:
    return UNITS.get(tokenizer.kind, "tokens")


# -- what is read --------------------------------------------------------------------------------------------


def held_out(subject: FigureContext) -> np.ndarray:
    """The tokens of the split, one after another."""
    return subject.dataset.split(subject.split).x


def passage(subject: FigureContext, n: int) -> range:
    """Where n symbols stand in the split, after enough others; drawn by the seed, from the beginning of a line where one is near."""
    x, tokenizer = held_out(subject), subject.dataset.tokenizer
    before = min(subject.model.length - 1, len(x) // 2)
    n = min(n, len(x) - before)
    start = before + int(subject.rng("passage").integers("start", len(x) - before - n + 1, (1,)))
    for i in range(start, min(start + REACH, len(x) - n)):
        if tokenizer.token_bytes(int(x[i])).endswith(b"\n"):
            return range(i + 1, i + 1 + n)
    return range(start, start + n)


def surprise_of(model: Predicts, x: np.ndarray, part: range) -> np.ndarray:
    """-log2 p of the symbols of a part of x given what stands before it, (len(part),) bits."""
    before = min(model.length, part.start)
    return score(model, x[part.start - before : part.stop])[before:] / math.log(2)


@torch.no_grad()
def log_p_at(model: Predicts, x: np.ndarray, places: Sequence[int], k: int, device) -> Tensor:
    """log p of all symbols at these places of x given the k before each and nothing else, (len(places), V) nats."""
    places, rows, found = np.asarray(places), max(1, AT_ONCE // ((k + 1) * model.vocabulary)), []
    for i in range(0, len(places), rows):
        windows = x[places[i : i + rows, None] + np.arange(-k, 1)].astype(np.int64)  # (n, k + 1)
        found.append(model.log_probs(torch.from_numpy(windows).to(device))[:, -1])
    return torch.cat(found)


# -- surprise ------------------------------------------------------------------------------------------------


def draw_surprise(
    subject: FigureContext, rows: int = 12, length: int = 700, most: float = 8.0
) -> Drawing:
    """Held-out text above, the model's own below, each character on a ground that says how many bits it cost."""
    tokenizer, x = subject.dataset.tokenizer, held_out(subject)
    part = passage(subject, length)
    own = continue_texts(subject.loaded, length=length, seed=subject.seed)[0]
    blocks, numbers = [], {}
    for name, symbols, bits in (
        (
            f"held out ({subject.split})",
            x[part.start : part.stop],
            surprise_of(subject.model, x, part),
        ),
        ("its own", own.symbols, np.array(own.surprise) / math.log(2)),
    ):
        text, bits = characters(tokenizer, symbols, bits)
        lines = lay_out(text, rows)
        end = lines[-1].stop
        blocks.append((name, text, bits, lines, float(bits[:end].mean())))
        numbers[name] = {
            "text": text[:end],
            "bits": bits[:end],
            "bits_per_character": float(bits[:end].mean()),
        }
    note = (
        "The colour under a character says how much it surprised the model, -log2 p given all before it: nothing where it was sure of it, "
        f"{most:g} bits where it gave it less than 1 in {2**most:,.0f}. A perfect model is as surprised by real text as by its own, on average."
    )
    if units(tokenizer) != "characters":
        note += f" Its symbols are {units(tokenizer)}: the bits of each are shared among its characters."
    height = 30 + sum(len(lines) * LINE + 40 for *_, lines, _ in blocks) - 18
    sheet = Sheet(
        f"What surprises {plain(subject.loaded.run.name)}",
        note,
        subject.caption("surprise"),
        height,
    )
    bits_scale(sheet, WIDTH - 12, 0, "bits per character", most)
    top = 14.0
    for name, text, bits, lines, mean in blocks:
        sheet.text(0, top, f"{name}: {mean:.2f} bits per character", size=9, weight="bold")
        top = put_text(sheet, text, lines, 0, top + 18, tint(bits, most)) + 22
    alt = ", ".join(f"{name} {mean:.2f} bits per character" for name, *_, mean in blocks)
    return sheet.done(
        numbers,
        f"Two passages of text coloured by how much each character surprised the model: {alt}.",
    )


# -- what comes next -----------------------------------------------------------------------------------------


def draw_next(subject: FigureContext, count: int = 8, bars: int = 12, near: int = 200) -> Drawing:
    """The likeliest next symbols at some places of held-out text, the true one marked."""
    tokenizer, model, x = subject.dataset.tokenizer, subject.model, held_out(subject)
    part = passage(subject, near)
    context = min(model.length - 1, part.start)
    log_p = log_p_at(
        model, x, part, context, subject.loaded.device
    ).cpu().double().numpy() / math.log(2)  # (near, V) bits
    entropy = -(np.exp2(log_p) * np.where(np.isfinite(log_p), log_p, 0)).sum(1)
    order = np.argsort(entropy, kind="stable")
    chosen = np.sort(
        order[np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)]
    )
    bars = min(bars, model.vocabulary)
    note = (
        f"The {bars} likeliest next symbols at {len(chosen)} places of one held-out passage, with their probabilities; above each the text that comes before. "
        f"Orange: what really came. The places go evenly from the surest to the least sure of {len(part)}, in the order of the text."
    )
    columns, gap = 4, 24
    width, row, head = (WIDTH - (columns - 1) * gap) / columns, 15, 40
    tall = head + row * (bars + 1) + 20
    sheet = Sheet(
        f"What {plain(subject.loaded.run.name)} expects next",
        note,
        subject.caption("next"),
        -(-len(chosen) // columns) * tall - 14,
    )
    numbers = []
    for i, place in enumerate(chosen):
        left, top = i % columns * (width + gap), i // columns * tall
        true, p = int(x[part[place]]), np.exp2(log_p[place])
        likeliest = np.argsort(-p, kind="stable")
        rank = int(np.flatnonzero(likeliest == true)[0])
        before = visible(tokenizer.decode(x[part[place] - min(40, context) : part[place]]))[-22:]
        sheet.text(left, top, f"…{before}▯", size=8.5, family=FONT)
        sheet.text(
            left,
            top + 18,
            f"unsure by {entropy[place]:.1f} bits, surprised by {-log_p[place, true]:.1f}",
            size=7.5,
            color=SOFT,
        )
        shown = [*likeliest[:bars], *([true] if rank >= bars else [])]
        axes = sheet.axes(left + 44, top + head, width - 88, row * (bars + 1))
        axes.set_axis_off(), axes.set_xlim(0, 1), axes.set_ylim(bars + 1, 0)
        axes.barh(
            np.arange(len(shown)) + 0.5,
            p[shown],
            0.74,
            color=[MODEL if symbol == true else "#b4bac5" for symbol in shown],
        )
        for j, symbol in enumerate(shown):
            label, colour = symbol_name(tokenizer, int(symbol)), MODEL if symbol == true else INK
            axes.annotate(
                label if len(label) < 6 else label[:4] + "…",
                (0, j + 0.5),
                xytext=(-4, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=8.5,
                family=FONT,
                color=colour,
                parse_math=False,
            )
            place_of_true = f", place {rank + 1}" if j == bars else ""
            axes.annotate(
                percent(p[symbol]) + place_of_true,
                (p[symbol], j + 0.5),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=MODEL if symbol == true else SOFT,
            )
        numbers.append(
            {
                "context": before,
                "true": symbol_name(tokenizer, true),
                "rank": rank + 1,
                "p": p[true],
                "entropy": entropy[place],
                "likeliest": [
                    (symbol_name(tokenizer, int(symbol)), p[symbol]) for symbol in likeliest[:bars]
                ],
            }
        )
    first = sum(number["rank"] == 1 for number in numbers)
    return sheet.done(
        {"places": numbers},
        f"Bars of the {bars} likeliest next symbols at {len(numbers)} places; at {first} of them the likeliest one came.",
    )


def percent(p: float) -> str:
    return f"{100 * p:.0f} %" if p >= 0.1 else f"{100 * p:.1f} %" if p >= 0.001 else "< 0.1 %"


# -- what it writes ------------------------------------------------------------------------------------------


def draw_samples(subject: FigureContext, n: int = 4, length: int = 500, rows: int = 9) -> Drawing:
    """Texts, the longest part of each that stands in the training text marked."""
    made = continue_texts(subject.loaded, n=n, length=length, seed=subject.seed)
    tokenizer, corpus = subject.dataset.tokenizer, corpus_of(subject.dataset)
    x, part = held_out(subject), passage(subject, length)
    blocks = [(f"sample {i}", one.text) for i, one in enumerate(made, 1)] + [
        (f"real text ({subject.split})", tokenizer.decode(x[part.start : part.stop]))
    ]
    laid = [lay_out(text, rows) for _, text in blocks]
    note = f"The first {n} texts of seed {subject.seed}, none picked, and real text that was held out. "
    if corpus is None:
        note += f"The training text is longer than {LONGEST:,} symbols: copies were not looked for."
    else:
        note += "Marked: the longest part that stands in the training text, letter by letter. Real text repeats itself too: a sample copies where its part is much longer."
    height = sum(22 + len(lines) * LINE + 14 for lines in laid) - 14
    sheet = Sheet(
        f"Samples of {plain(subject.loaded.run.name)}", note, subject.caption("samples"), height
    )
    numbers, top = [], 0.0
    for (name, text), lines in zip(blocks, laid):
        text = text[: lines[-1].stop] if lines else ""
        copied, start, _ = (0, 0, 0) if corpus is None else longest_copied(text, corpus)
        colours = np.full((len(text), 3), 255, np.uint8)
        colours[start : start + copied] = COPIED
        sheet.text(0, top, name, size=9, weight="bold")
        if corpus is not None:
            sheet.text(
                118,
                top + 0.5,
                f"longest copied part: {copied} of {len(text)} characters",
                size=8.5,
                color=SOFT,
            )
        top = put_text(sheet, text, lines, 0, top + 20, colours) + 16
        numbers.append(
            {
                "name": name,
                "text": text,
                "copied": copied if corpus is not None else None,
                "start": start,
                "part": text[start : start + copied],
            }
        )
    longest = (
        ""
        if corpus is None
        else f" The longest copied parts have {', '.join(str(row['copied']) for row in numbers[:n])} characters."
    )
    return sheet.done(
        {"texts": numbers, "bits_per_symbol": [bits_per_symbol(one) for one in made]},
        f"{n} texts written by the model.{longest}",
    )


def bits_per_symbol(one: Generated) -> float:
    return float(np.mean(one.surprise)) / math.log(2)


def draw_progress(
    subject: FigureContext, steps: list[int], values: list[np.ndarray], note: str
) -> Drawing:
    """The first sample of each moment of training, two rows of it; values: symbols (n, T) of each step."""
    left, columns, short_of = 64, int((WIDTH - 64) // PITCH), lambda text: text[: 2 * columns]
    texts = [short_of(visible(subject.dataset.tokenizer.decode(of_step[0]))) for of_step in values]
    rows = [lay_out(text, 2, columns) for text in texts]
    sheet = Sheet(
        f"{plain(subject.loaded.run.name)} in training",
        note.replace("noise", "random numbers") + " ↵ is the end of a line.",
        subject.caption("progress"),
        sum(len(lines) * LINE + 8 for lines in rows),
    )
    top = 0.0
    for step, text, lines in zip(steps, texts, rows):
        sheet.text(left - 12, top + 3, f"{step:,}", size=8, color=SOFT, ha="right")
        top = put_text(sheet, text, lines, left, top) + 8
    return sheet.done(
        {"steps": steps, "texts": texts},
        f"What the model writes at {len(steps)} moments of training, from step {steps[0]:,} to step {steps[-1]:,}.",
    )
