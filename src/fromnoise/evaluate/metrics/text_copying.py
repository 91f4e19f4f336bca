"""What the texts of a model copy from its training text."""

import math
from dataclasses import replace

import numpy as np

from ...data.dataset import Dataset
from ...inference import text as inference_text
from ...inference.text import continue_texts
from ...measures.text import copied, longest_copied
from ..context import MetricContext
from ..metric import Metric
from ..text_reference import Passage, TextReference
from .frechet import FRECHET

LENGTH = 500  # symbols of a generated text
COPIED = 30  # characters: a shorter run may be in two texts by chance


def copies(context: MetricContext) -> tuple[list[dict], dict]:
    """Rows about the copies of the model, and its texts with their copied runs, for the page."""
    if not context.predicts:
        return [], {}
    generated = continue_texts(context.loaded, n=context.texts, length=LENGTH, seed=context.seed)
    return copying_rows(
        [continuation.text for continuation in generated],
        held_out_texts(context.test_passage, context.dataset, context.texts),
        context.text_reference,
    )


def measure_copies(context: MetricContext) -> list[dict]:
    if not context.predicts:
        return []
    reason = "a text is no point among features: what it copies is measured instead"
    return [*context.once(copies)[0], FRECHET.absent(reason, better=None)]


def true_runs(mark: np.ndarray) -> list[list[int]]:
    """A bool array -> [first, end] of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mark, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2).tolist()


def held_out_texts(passage: Passage, dataset: Dataset, n: int, length: int = LENGTH) -> list[str]:
    """At most n parts of a held-out text, evenly spread, as long as a model's texts."""
    count = max(1, min(n, len(passage) // length))
    starts = np.linspace(0, max(0, len(passage) - length), count).astype(int)
    return [dataset.tokenizer.decode(passage.tokens[start : start + length]) for start in starts]


def copying_rows(
    texts: list[str], real: list[str], text_reference: TextReference
) -> tuple[list[dict], dict]:
    """Rows about copies in the texts of a model, and the texts with their copied runs.

    real: held-out texts, the control.
    """
    n = len(texts)
    train = text_reference.train
    corpus = text_reference.corpus
    card = dict(
        n=n,
        split="train",
        reference=f"{text_reference.text}:train",
        drawn=f"{LENGTH} symbols each",
    )
    if corpus is None:
        reason = (
            f"copies are looked for in training texts of up to {inference_text.LONGEST:,} symbols, "
            f"and this one has {len(train):,}"
        )
        rows = [metric.absent(reason, **card) for metric in METRICS]
        return rows, {"sampled": [{"text": text, "copied": []} for text in texts]}
    marks = [copied(text, corpus, COPIED) for text in texts]
    real_marks = [copied(text, corpus, COPIED) for text in real]
    longest = longest_copies(texts, corpus)
    note = f"the mean over texts; the longest of all has {longest.max():,} characters"
    rows = [
        _row(LONGEST, longest, longest_copies(real, corpus), note, card),
        _row(COPIED_SHARE, copied_shares(marks), copied_shares(real_marks), "", card),
    ]
    return rows, {"sampled": marked(texts, marks), "real": marked(real, real_marks)}


def marked(texts: list[str], marks: list[np.ndarray]) -> list[dict]:
    return [{"text": text, "copied": true_runs(mark)} for text, mark in zip(texts, marks)]


def longest_copies(texts: list[str], corpus) -> np.ndarray:
    return np.array([longest_copied(text, corpus)[0] for text in texts])


def copied_shares(marks: list[np.ndarray]) -> np.ndarray:
    return np.array([mark.mean() if len(mark) else 0.0 for mark in marks])


def _row(metric: Metric, values: np.ndarray, control: np.ndarray, note: str, card: dict) -> dict:
    n = len(values)
    mean = float(values.mean())
    se = interval = None
    if n > 1:
        se = float(values.std(ddof=1) / math.sqrt(n))
        interval = [max(0.0, mean - 1.96 * se), mean + 1.96 * se]
    real = float(control.mean())
    return metric.row(mean, se=se, interval=interval, real=real, reason=note, **card)


LONGEST = Metric(
    name="longest_copied",
    label="longest part of a text that was copied",
    unit="characters",
    better="lower",
    group="memory",
    measure=measure_copies,
    data=("tokens",),
    order=30,
)
COPIED_SHARE = replace(
    LONGEST,
    name="copied_share",
    label=f"text in copied runs of {COPIED} characters or more",
    unit="share",
    headline="copied text",
    headline_order=8,
    measure=None,
)
METRICS = (LONGEST, COPIED_SHARE)
