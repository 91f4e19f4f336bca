"""Samples of text, with the longest part of each that stands in the training text."""

import math

import numpy as np

from ...inference.text import LONGEST, Generated, continue_texts, corpus_of
from ...measures.text import longest_copied
from ..context import FigureContext
from ..style import Drawing
from ..text_cells import TextBlock, held_out_tokens, lay_out, passage, sheet_of_texts

COPIED = (255, 214, 160)  # colour under copied characters


def draw_samples(context: FigureContext, n: int = 4, length: int = 500, rows: int = 9) -> Drawing:
    """n samples and a held-out text; the longest part of each that is copied is marked."""
    samples = continue_texts(context.loaded, n=n, length=length, seed=context.seed)
    corpus = corpus_of(context.dataset)
    x = held_out_tokens(context)
    part = passage(context, length)
    real = context.tokenizer.decode(x[part.start : part.stop])
    texts = [(f"sample {i}", one.text) for i, one in enumerate(samples, 1)]
    texts.append((f"real text ({context.split})", real))
    blocks = []
    numbers = []
    for name, text in texts:
        lines = lay_out(text, rows)
        text = text[: lines[-1].stop] if lines else ""
        copied, start = (0, 0) if corpus is None else longest_copied(text, corpus)[:2]
        colours = np.full((len(text), 3), 255, np.uint8)
        colours[start : start + copied] = COPIED
        block = TextBlock(name, text, lines, colours)
        if corpus is not None:
            block.note = f"longest copied part: {copied} of {len(text)} characters"
        blocks.append(block)
        numbers.append(
            {
                "name": name,
                "text": text,
                "copied": copied if corpus is not None else None,
                "start": start,
                "part": text[start : start + copied],
            }
        )
    title = f"Samples of {context.name}"
    note = _note(n, context.seed, corpus)
    sheet = sheet_of_texts(title, note, context.caption("samples"), blocks)
    alt = f"{n} texts sampled from the model."
    if corpus is not None:
        longest = ", ".join(str(row["copied"]) for row in numbers[:n])
        alt += f" The longest copied parts have {longest} characters."
    bits = list(map(bits_per_symbol, samples))
    return sheet.finish({"texts": numbers, "bits_per_symbol": bits}, alt)


def _note(n: int, seed: int, corpus) -> str:
    note = f"The first {n} samples of seed {seed}, and held-out real text. "
    if corpus is None:
        return note + f"No search for copies: the training text exceeds {LONGEST:,} symbols."
    return note + (
        "Marked: the longest part that stands in the training text, letter by letter. Real text "
        "repeats itself too: a sample is copied where its part is much longer."
    )


def bits_per_symbol(generated: Generated) -> float:
    return float(np.mean(generated.surprise)) / math.log(2)
