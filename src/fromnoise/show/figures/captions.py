"""The figure of a model that was told captions: samples with what was asked for, and whether they show it."""

import textwrap

import numpy as np
import torch

from ...evaluate.attributes import SPLITS
from ...inference import sample
from ...measures.attributes import ATTRIBUTES, check
from ..context import FigureContext
from ..style import ACCENT, REFUSED, SOFT, WIDTH, Drawing, Sheet, plain
from .images import GAP, block_cell

COLUMNS, ROWS = 8, 2  # of each split
LINES = 6  # of text below a picture
BELOW = 12 * LINES + 8  # pixels


def draw_captions(subject: FigureContext) -> Drawing:
    """Samples for the first captions of the test split, and of the one whose combinations no training picture holds."""
    n, cell = COLUMNS * ROWS, block_cell(subject.spec, COLUMNS, WIDTH)
    tall, numbers = cell + BELOW, {}
    note = (
        f"The first {n} captions of each split, none picked. Below a picture: its caption, and whether the rules of drawing find there exactly what it says, "
        "or what is wrong."
    )
    sheet = Sheet(
        f"What {plain(subject.loaded.run.name)} draws when told",
        note,
        subject.caption("captions"),
        2 * (ROWS * tall + 24),
    )
    top = 0.0
    for split, words in SPLITS.items():
        pictures, captions, verdicts = judged(subject, split, n)
        right = sum(verdict["correct"] for verdict in verdicts)
        sheet.text(
            0,
            top,
            f"{words} combinations of colour and shape: {right} of {n} fully correct",
            size=9,
            weight="bold",
        )
        top += 20
        for i, (picture, caption, verdict) in enumerate(zip(pictures, captions, verdicts)):
            left, above = i % COLUMNS * (cell + GAP), top + i // COLUMNS * tall
            sheet.picture(picture, left, above, cell, cell)
            wrong = [name for name in ATTRIBUTES if verdict[name] is False]
            said = (
                "✓"
                if verdict["correct"]
                else "✗ number"
                if not verdict["number"]
                else f"✗ {', '.join(wrong)}"
            )
            lines, judged_at = (
                [textwrap.wrap(part, int(cell / 5.7)) for part in (caption, said)],
                ACCENT if verdict["correct"] else REFUSED,
            )
            for j, (line, color) in enumerate(
                [*((line, SOFT) for line in lines[0]), *((line, judged_at) for line in lines[1])][
                    :LINES
                ]
            ):
                sheet.text(left, above + cell + 4 + 12 * j, line, size=7.5, color=color)
        top += ROWS * tall + 4
        numbers[words] = {"captions": captions, "verdicts": verdicts, "correct": right, "n": n}
    told = ", ".join(f"{found['correct']} of {n} {words} ones" for words, found in numbers.items())
    return sheet.done(
        numbers,
        f"Pictures drawn for captions, with the caption below each; fully correct are {told}.",
    )


def judged(subject: FigureContext, split: str, n: int) -> tuple[np.ndarray, list[str], list[dict]]:
    """n samples for the first captions of a split: (n, H, W, 3) uint8, the captions, the verdicts."""
    y = torch.from_numpy(subject.dataset.split(split).y[:n])
    x = torch.cat(list(sample.sample_blocks(subject.loaded, n, subject.seed, labels=y)))
    captions = subject.dataset.caption_codec.decode(y)
    return subject.pixels(x), captions, check(subject.dataset.to_store(x), captions)
