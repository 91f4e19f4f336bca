"""Samples of a model of captioned images, and whether they show what their captions say."""

import textwrap

import numpy as np
import torch

from ...evaluate.metrics.captions import SPLITS, has_attributes
from ...inference import sample
from ...measures.attributes import ATTRIBUTES, check
from ..context import FigureContext
from ..figure import Figure
from ..image_rows import GAP, block_cell
from ..style import ACCENT, REFUSED, SOFT, WIDTH, Drawing, Sheet, plain

COLUMNS = 8
ROWS = 2  # of each split
LINES = 6  # of text below an image
BELOW = 12 * LINES + 8  # pixels


def why_not(context: FigureContext) -> str:
    if has_attributes(context.loaded):
        return ""
    return "it is for models of captioned shapes (train with --conditional)"


def draw_captions(context: FigureContext) -> Drawing:
    """Samples for the first captions of the test split and of the split of unseen combinations."""
    n = COLUMNS * ROWS
    cell = block_cell(context.spec, COLUMNS, WIDTH)
    height = cell + BELOW
    numbers = {}
    note = (
        f"Samples for the first {n} captions of each split. Below an image: its caption, and "
        "whether the shapes detected in it are exactly those of the caption, or what is wrong."
    )
    title = f"Samples of {plain(context.loaded.run.name)} for captions"
    sheet = Sheet(title, note, context.caption("captions"), 2 * (ROWS * height + 24))
    top = 0.0
    for split, name in SPLITS.items():
        images, captions, verdicts = sample_and_check(context, split, n)
        right = sum(verdict["correct"] for verdict in verdicts)
        head = f"{name} combinations of colour and shape: {right} of {n} fully correct"
        sheet.add_text(0, top, head, size=9, weight="bold")
        top += 20
        for i, (image, caption, verdict) in enumerate(zip(images, captions, verdicts)):
            left = i % COLUMNS * (cell + GAP)
            above = top + i // COLUMNS * height
            sheet.add_image(image, left, above, cell, cell)
            _draw_caption(sheet, caption, verdict, left, above + cell + 4, int(cell / 5.7))
        top += ROWS * height + 4
        numbers[name] = {"captions": captions, "verdicts": verdicts, "correct": right, "n": n}
    counts = ", ".join(f"{row['correct']} of {n} {name} ones" for name, row in numbers.items())
    alt = f"Samples for captions, with the caption below each; fully correct are {counts}."
    return sheet.finish(numbers, alt)


def _draw_caption(
    sheet: Sheet, caption: str, verdict: dict, left: float, top: float, width: int
) -> None:
    """The caption, then the verdict, in lines of ``width`` characters."""
    color = ACCENT if verdict["correct"] else REFUSED
    lines = [(line, SOFT) for line in textwrap.wrap(caption, width)]
    lines += [(line, color) for line in textwrap.wrap(_verdict_in_words(verdict), width)]
    for i, (line, line_color) in enumerate(lines[:LINES]):
        sheet.add_text(left, top + 12 * i, line, size=7.5, color=line_color)


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
    why_not=why_not,
    draw=draw_captions,
)
