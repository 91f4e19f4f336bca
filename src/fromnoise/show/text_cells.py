"""Text in a grid of cells, one for each character, with a colour under each.

A symbol need not be a character: the bits of a symbol are shared evenly among its bytes, and a character has
those of its bytes.
"""

import codecs
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.capabilities import Predicts
from ..data.codecs.tokenizer import Tokenizer
from ..inference.text_scoring import score
from .context import FigureContext
from .style import INK, SOFT, WIDTH, Sheet, plain

PITCH = 8.0  # width of a cell, pixels
LINE = 18  # height of a cell, pixels
COLUMNS = int(WIDTH // PITCH)
FONT = "DejaVu Sans Mono"
SIZE = 0.72 * PITCH / (1233 / 2048)  # points; a character is 1233 / 2048 as wide as its size
SIGNS = {"\n": "↵", "\t": "→", "\r": "␍"}
SIGN_COLOUR = "#8d95a3"
WORD = re.compile(rf"[{''.join(SIGNS.values())}]|[^\s{''.join(SIGNS.values())}]+")
AT_ONCE = 2**18  # log-probabilities at once: larger parts do not fit the cache
MAX_SEARCH = 200  # symbols within which a passage searches for the beginning of a line
UNITS = {"char": "characters", "byte": "bytes"}


def visible(text: str) -> str:
    """The text with signs for line ends, tabs and unprintable characters; as many characters."""
    return "".join(SIGNS.get(c, c if c.isprintable() else "·") for c in text)


def lay_out(text: str, rows: int, columns: int = COLUMNS) -> list[range]:
    """At most ``rows`` rows of characters; a long line continues in the next row."""
    ranges = []
    start = 0
    while start < len(text) and len(ranges) < rows:
        end = text.find("\n", start, start + columns) + 1 or min(start + columns, len(text))
        ranges.append(range(start, end))
        start = end
    return ranges


def draw_text(
    sheet: Sheet,
    text: str,
    rows: list[range],
    left: float,
    top: float,
    colours: np.ndarray | None = None,
) -> float:
    """Draws the rows of a text over colours (characters, 3) uint8. Returns the next free pixel."""
    columns = max(map(len, rows), default=1)
    axes = sheet.add_axes(left, top, columns * PITCH, len(rows) * LINE)
    axes.set_axis_off()
    ground = np.full((len(rows), LINE, columns, 3), 255, np.uint8)
    if colours is not None:
        for image, row in zip(ground, rows):  # one white line of pixels separates the rows
            image[:-1, : len(row)] = colours[row.start : row.stop]
    axes.imshow(
        ground.reshape(-1, columns, 3),
        extent=(0, columns, len(rows), 0),
        aspect="auto",
        interpolation="nearest",
    )
    style = {"fontsize": SIZE, "family": FONT, "va": "baseline", "parse_math": False}
    for i, row in enumerate(rows):
        # one word at a time: over a whole line the rounding of widths would add up
        for word in WORD.finditer(visible(text[row.start : row.stop])):
            colour = SIGN_COLOUR if word[0] in SIGNS.values() else INK
            axes.text(word.start(), i + 0.72, word[0], color=colour, **style)
    return top + len(rows) * LINE


@dataclass
class TextBlock:
    """A text over colours, see ``draw_text``, below a head and a note."""

    head: str
    text: str
    rows: list[range]
    colours: np.ndarray
    note: str = ""


def sheet_of_texts(
    title: str, note: str, caption: list[str], blocks: Sequence[TextBlock], top: float = 0
) -> Sheet:
    """Texts under each other. top: free pixels above them."""
    height = top + sum(len(block.rows) * LINE + 36 for block in blocks) - 14
    sheet = Sheet(title, note, caption, height)
    for block in blocks:
        sheet.add_head(0, top, block.head)
        sheet.add_text(118, top + 0.5, block.note, color=SOFT)
        top = draw_text(sheet, block.text, block.rows, 0, top + 20, block.colours) + 16
    return sheet


def characters(tokenizer: Tokenizer, symbols, bits) -> tuple[str, np.ndarray]:
    """Symbols and the bits of each -> their text and the bits of each character, of the same sum.

    Bytes that are not UTF-8 become U+FFFD, as in ``Tokenizer.decode``.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = ""
    shares: list[float] = []
    pending = 0.0  # bits of the bytes of an incomplete character
    for symbol, symbol_bits in zip(symbols, bits):
        raw = tokenizer.token_bytes(int(symbol))
        for byte in raw:
            pending += float(symbol_bits) / len(raw)
            if new := decoder.decode(bytes([byte])):
                text += new
                shares += [pending / len(new)] * len(new)
                pending = 0.0
    if new := decoder.decode(b"", final=True):
        text += new
        shares += [pending / len(new)] * len(new)
    return text, np.array(shares)


def symbol_name(tokenizer: Tokenizer, symbol: int) -> str:
    """A symbol as a label: spaces become visible, bytes without a character become numbers."""
    raw = tokenizer.token_bytes(symbol)
    try:
        return plain(visible(raw.decode()).replace(" ", "␣"), 24)
    except UnicodeDecodeError:
        return plain("".join(f"{byte:02x}" for byte in raw), 24)


def units(tokenizer: Tokenizer) -> str:
    return UNITS.get(tokenizer.kind, "tokens")


# -- held-out text -------------------------------------------------------------------------------


def held_out_tokens(context: FigureContext) -> np.ndarray:
    """The tokens of the split, one after another."""
    return context.dataset.split(context.split).x


def passage(context: FigureContext, n: int) -> range:
    """n places of the split, drawn with the seed, after enough symbols of context.

    They begin at the beginning of a line if one is near.
    """
    x = held_out_tokens(context)
    tokenizer = context.tokenizer
    before = min(context.model.length - 1, len(x) // 2)
    n = min(n, len(x) - before)
    choices = len(x) - before - n + 1
    start = before + int(context.rng("passage").integers("start", choices, (1,)))
    for i in range(start, min(start + MAX_SEARCH, len(x) - n)):
        if tokenizer.token_bytes(int(x[i])).endswith(b"\n"):
            return range(i + 1, i + 1 + n)
    return range(start, start + n)


def surprise_of(model: Predicts, x: np.ndarray, part: range) -> np.ndarray:
    """-log2 p of each symbol of a part of x given the symbols before it, (len(part),) bits."""
    before = min(model.length, part.start)
    return score(model, x[part.start - before : part.stop])[before:] / math.log(2)


@torch.no_grad()
def log_p_at(model: Predicts, x: np.ndarray, places: Sequence[int], k: int, device) -> Tensor:
    """log p of all symbols at places of x given only the k symbols before, (places, V) nats."""
    places = np.asarray(places)
    rows = max(1, AT_ONCE // ((k + 1) * model.vocabulary))
    parts = []
    for i in range(0, len(places), rows):
        windows = x[places[i : i + rows, None] + np.arange(-k, 1)].astype(np.int64)  # (n, k + 1)
        parts.append(model.log_probs(torch.from_numpy(windows).to(device))[:, -1])
    return torch.cat(parts)
