"""Samples of a model of captioned images, and whether they show what their captions say."""

import textwrap

import numpy as np
import torch

from ...evaluate.metrics.captions import SPLITS, has_attributes
from ...inference import sample
from ...measures.attributes import ATTRIBUTES, check
from ..context import FigureContext
from ..figure import Figure
from ..image_rows import ImageRow, sheet_of_rows
from ..style import Drawing

COLUMNS = 8
ROWS = 2  # of each split
LINES = 6  # of text below an image
BELOW = 12 * LINES  # pixels
WRAP = 17  # characters of a line


def why_not(context: FigureContext) -> str:
    if has_attributes(context.loaded):
        return ""
    return "it is for models of captioned shapes (train with --conditional)"


def draw_captions(context: FigureContext) -> Drawing:
    """Samples for the first captions of the test split and of the split of unseen combinations."""
    n = COLUMNS * ROWS
    numbers = {}
    note = (
        f"Samples for the first {n} captions of each split. Below an image: its caption, and "
        "whether the shapes detected in it are exactly those of the caption, or what is wrong."
    )
    rows = []
    for split, name in SPLITS.items():
        images, captions, verdicts = sample_and_check(context, split, n)
        right = sum(verdict["correct"] for verdict in verdicts)
        texts = [_in_words(*pair) for pair in zip(captions, verdicts)]
        head = f"{name} combinations of colour and shape: {right} of {n} fully correct"
        for start in range(0, n, COLUMNS):
            part = slice(start, start + COLUMNS)
            row = ImageRow("", images[part], labels=texts[part], head=head, gap=BELOW)
            rows.append(row)
            head = ""
        numbers[name] = {"captions": captions, "verdicts": verdicts, "correct": right, "n": n}
    title = f"Samples of {context.name} for captions"
    sheet = sheet_of_rows(title, note, context.caption("captions"), rows, label=0, most=100)
    counts = ", ".join(f"{row['correct']} of {n} {name} ones" for name, row in numbers.items())
    alt = f"Samples for captions, with the caption below each; fully correct are {counts}."
    return sheet.finish(numbers, alt)


def _in_words(caption: str, verdict: dict) -> str:
    """The caption, and below it the verdict."""
    lines = textwrap.wrap(caption, WRAP) + textwrap.wrap(_verdict_in_words(verdict), WRAP)
    return "\n".join(lines[:LINES])


def _verdict_in_words(verdict: dict) -> str:
    if verdict["correct"]:
        return "✓"
    if not verdict["number"]:
        return "✗ number"
    return "✗ " + ", ".join(name for name in ATTRIBUTES if verdict[name] is False)


def sample_and_check(
    context: FigureContext, split: str, n: int
) -> tuple[np.ndarray, list[str], list[dict]]:
    """Samples (n, H, W, 3) uint8 for the first captions of a split, the captions, the verdicts."""
    y = torch.from_numpy(context.dataset.split(split).y[:n])
    x = torch.cat(list(sample.sample_blocks(context.loaded, n, context.seed, labels=y)))
    captions = context.dataset.caption_codec.decode(y)
    return context.pixels(x), captions, check(context.dataset.to_store(x), captions)


FIGURE = Figure(
    name="captions",
    about="samples for seen and unseen captions, and whether they show what these say",
    group="samples",
    needs=(why_not,),
    draw=draw_captions,
)
