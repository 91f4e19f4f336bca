"""How well a model predicts held-out text, compared with counts and a compressor.

The surprises of neighbouring symbols depend on each other, so that standard errors come from
consecutive blocks of the text. Bits per character and per byte are of the text itself, which the
card names by its digest: models that cut it into other symbols, or have a shorter context, are
comparable.
"""

import math
from dataclasses import replace

import numpy as np
import torch

from ...core.capabilities import HasLikelihood, Predicts, has
from ...data.dataset import Dataset
from ...data.stream import default_batch_size, in_order
from ...inference.text_scoring import describe_context, describe_unknown, score
from ...runs.load import LoadedRun
from ..context import MetricContext
from ..metric import Metric
from ..text_reference import ORDER, PACKED, Passage, TextReference, load_passage

BLOCKS = 50  # of a text: standard errors come from their spread


def held_out_nats(context: MetricContext) -> np.ndarray:
    """-log p (L,) of each symbol of the test passage. Raises DataError (a diverged model)."""
    model = context.loaded.model
    assert has(model, Predicts)
    return score(model, context.test_passage.tokens)


def measure_prediction(context: MetricContext) -> list[dict]:
    """Of the test text, and of the validation text in two ways."""
    loaded = context.loaded
    model = loaded.model
    if not has(model, Predicts):
        reason = "this family does not predict one symbol after another"
        return [metric.absent(reason, bound="exact", better=None) for metric in PREDICTION]
    note = describe_prediction(model, context.test_passage, loaded.dataset)
    rows = prediction_rows(context.test_passage, context.once(held_out_nats), note)
    rows.append(validation_row(loaded, context.text_limit))
    if has(model, HasLikelihood) and model.bound == "exact":
        rows.append(window_row(loaded, context.text_limit))
    return rows


def measure_baselines(context: MetricContext) -> list[dict]:
    if not context.predicts:
        return []
    nats = context.once(held_out_nats)
    return baseline_rows(context.test_passage, nats, context.text_reference)


def block_error(values: np.ndarray, per: np.ndarray) -> float | None:
    """Standard error of sum(values) / sum(per) over a text of L symbols, (L,) each.

    From BLOCKS blocks of the text, which are independent if they are longer than the context that
    matters: a ratio's error by its residuals (Cochran 1977, eq. 6.13). None where the text is too
    short or a value is infinite.
    """
    if len(values) < 2 * BLOCKS or not np.isfinite(values).all():
        return None

    def block_sums(x):
        return np.add.reduceat(x.astype(float), np.arange(BLOCKS) * len(x) // BLOCKS)

    residuals = block_sums(values) - values.sum() / per.sum() * block_sums(per)
    return float(residuals.std(ddof=1) * math.sqrt(BLOCKS) / per.sum())


def prediction_rows(passage: Passage, nats: np.ndarray, note: str) -> list[dict]:
    """Rows about -log p (L,) of each symbol of a passage.

    note: what each symbol was predicted from. Bits are of the text: they include which character an
    unknown symbol is. Nats and perplexity are of the symbols.
    """
    L = len(passage)
    card = passage.card | {"bound": "exact", "reason": note}
    bits = (nats + passage.unknown_nats) / math.log(2)
    rows = []
    for metric, values, per, n in (
        (NATS, nats, np.ones(L), L),
        (CHARACTER, bits, passage.characters_of, passage.characters),
        (BYTE, bits, passage.bytes_of, passage.size),
    ):
        value = float(values.sum() / n)
        rows.append(metric.row(value, se=block_error(values, per), n=n, **card))
    interval = rows[0]["interval"] and list(map(exp, rows[0]["interval"]))
    rows.append(PERPLEXITY.row(exp(float(nats.mean())), interval=interval, n=L, **card))
    return rows


def exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def validation_row(loaded: LoadedRun, most: int) -> dict:
    """Nats per symbol of the validation text."""
    passage = load_passage(loaded.dataset, "validation", most)
    note = describe_prediction(loaded.model, passage, loaded.dataset)
    first = prediction_rows(passage, score(loaded.model, passage.tokens), note)[0]
    return first | {"name": VALIDATION.name, "label": VALIDATION.label}


@torch.no_grad()
def window_row(loaded: LoadedRun, most: int) -> dict:
    """Nats per symbol of the validation text in windows of T symbols without earlier context.

    Like nanoGPT's measure, but each window once (there they are drawn at random), and without its
    first symbol, which has no context.
    """
    model = loaded.model
    dataset = loaded.dataset
    T = model.length
    size = default_batch_size(dataset.spec, 500)
    first = 1 if T > 1 else 0
    parts = []
    for batch in in_order(dataset, "validation", size, max(1, most // T), loaded.device):
        log_p = model.log_probs(batch.x).gather(2, batch.x[:, :, None])
        parts.append(-log_p[:, first:, 0].sum(1))
    nats = torch.cat(parts).cpu().double().numpy()
    per = np.full(len(nats), float(T - first))
    passage = load_passage(dataset, "validation", len(nats) * T)
    return VALIDATION.row(
        float(nats.sum() / per.sum()),
        name=f"{NATS.name}_windows_{T}",
        label=f"{VALIDATION.label}, in windows of {T}",
        se=block_error(nats, per),
        n=int(per.sum()),
        bound="exact",
        reason=f"windows of {T} symbols without the text before them, all but their first symbol "
        "(nanoGPT's validation text is this one and the test text together)",
        **passage.card,
    )


def baseline_rows(passage: Passage, nats: np.ndarray, text_reference: TextReference) -> list[dict]:
    """Bits per byte of counts and a compressor, and the model's gain over counts.

    nats: -log p of each symbol under the model, (L,).
    """
    baselines = text_reference.baselines(passage)
    card = passage.card | {"n": passage.size}
    rows = []
    for metric in BASELINES:
        if metric.name in baselines:
            rows.append(_baseline_row(metric, baselines[metric.name], passage, card))
        else:
            rows.append(metric.absent(text_reference.why_no_counts, **card))
    if COUNTS.name not in baselines:
        return [*rows, GAIN.absent(text_reference.why_no_counts, **card)]
    gain = (baselines[COUNTS.name] - nats) / math.log(2)
    note = "symbol by symbol, so that it is surer than the two numbers apart"
    value = float(gain.sum() / passage.size)
    return [*rows, GAIN.row(value, se=block_error(gain, passage.bytes_of), reason=note, **card)]


def _baseline_row(metric: Metric, nats: np.ndarray | float, passage: Passage, card: dict) -> dict:
    se = None
    if isinstance(nats, np.ndarray):
        note = f"{float(np.sum(nats)) / len(passage):.4f} nats per symbol"
        each = nats + passage.unknown_nats
        if metric is not UNIFORM:
            se = block_error(each / math.log(2), passage.bytes_of)
    else:
        note = (
            f"bytes that it adds to the packed form of the last {PACKED:,} before it at most, "
            "which is all that it looks at"
        )
        each = nats + passage.unknown_nats.sum()
    value = float(np.sum(each)) / passage.size / math.log(2)
    return metric.row(value, se=se, reason=note, **card)


def describe_prediction(model: Predicts, passage: Passage, dataset: Dataset) -> str:
    """What each symbol was predicted from, and how unknown characters were counted."""
    total = len(dataset.split(passage.split).x)
    part = ""
    if len(passage) < total:
        part = f"the first {len(passage):,} of {total:,} symbols; "
    unknown = ""
    if count := dataset.tokenizer.count_unknown(passage.tokens):
        bits = dataset.tokenizer.unknown_nats / math.log(2)
        unknown = (
            f"; {describe_unknown(count)}, predicted as the one symbol that stands for all of "
            f"them, and {bits:.1f} bits each for which one it is"
        )
    return f"{part}each once, {describe_context(model, len(passage))}{unknown}"


# -- declarations ------------------------------------------------------------------------------

NATS = Metric(
    name="nats_per_symbol",
    label="nats per symbol",
    unit="nats per symbol",
    better="lower",
    group="text",
    measure=measure_prediction,
    data=("tokens",),
    order=10,
)
VALIDATION = replace(
    NATS,
    name="nats_per_symbol_validation",
    label="nats per symbol of the validation text",
    measure=None,
)
CHARACTER = replace(
    VALIDATION,
    name="bits_per_character",
    label="bits per character",
    unit="bits per character",
    headline="bits/character",
    question="Best likelihood of text",
    note="bits/character, of held-out text; counts: Kneser-Ney, the same text; copied text: in "
    "long runs that stand in the training text",
    progress="{:.3f} bits per character",
    headline_order=6,
    question_order=7,
    is_likelihood=True,
)
BYTE = replace(VALIDATION, name="bits_per_byte", label="bits per byte", unit="bits per byte")
PERPLEXITY = replace(
    VALIDATION,
    name="perplexity",
    label="perplexity of a symbol",
    unit="equally likely symbols",
)
PREDICTION = (NATS, CHARACTER, BYTE, PERPLEXITY)
UNIFORM = Metric(
    name="uniform",
    label="any symbol, equally likely",
    unit="bits per byte",
    group="baselines",
    measure=measure_baselines,
    data=("tokens",),
    order=20,
)
UNIGRAM = replace(UNIFORM, name="unigram", label="symbols by how often they come", measure=None)
COUNTS = replace(
    UNIGRAM,
    name="kneser_ney",
    label=f"counts of order {ORDER} (Kneser-Ney)",
    headline="counts, bits/byte",
    headline_order=7,
)
PACKING = replace(UNIGRAM, name="bzip2", label="bzip2, after the training text")
BASELINES = (UNIFORM, UNIGRAM, COUNTS, PACKING)
GAIN = replace(
    UNIGRAM,
    name="gain_over_counts",
    label=f"gain over counts of order {ORDER}",
    better="higher",
    group="text",
)
METRICS = (*PREDICTION, VALIDATION, *BASELINES, GAIN)
