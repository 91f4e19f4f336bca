"""How well a model predicts held-out text, compared with counts and a compressor.

The surprises of neighbouring symbols depend on each other, so that standard errors come from
consecutive blocks of the text. Bits per character and per byte are of the text itself, which the
card names by its digest: models that cut it into other symbols, or have a shorter context, are
comparable.
"""

import math

import numpy as np
import torch

from ..core.capabilities import HasLikelihood, Predicts, has
from ..data.dataset import Dataset
from ..data.stream import default_batch_size, in_order
from ..inference.text import continue_texts
from ..inference.text_scoring import describe_context, describe_unknown, score
from ..runs.load import LoadedRun
from .protocol import absent, row
from .text_copying import LENGTH, copying_rows, held_out_texts
from .text_reference import ORDER, PACKED, SYMBOLS, Passage, TextReference, load_passage

BLOCKS = 50  # of a text: standard errors come from their spread
TEXTS = 20  # that a model generates
QUICK_TEXTS = 4

PREDICTION = {  # name -> label, unit
    "nats_per_symbol": ("nats per symbol", "nats per symbol"),
    "bits_per_character": ("bits per character", "bits per character"),
    "bits_per_byte": ("bits per byte", "bits per byte"),
    "perplexity": ("perplexity of a symbol", "equally likely symbols"),
}
BASELINES = {  # name -> label
    "uniform": "any symbol, equally likely",
    "unigram": "symbols by how often they come",
    "kneser_ney": f"counts of order {ORDER} (Kneser-Ney)",
    "bzip2": "bzip2, after the training text",
}
GAIN = ("gain_over_counts", f"gain over counts of order {ORDER}", "bits per byte")


def measure_text(
    loaded: LoadedRun, text_reference: TextReference, n: int | None, texts: int, seed: int
) -> tuple[list[dict], dict]:
    """Rows of a report about a model of text, and the texts that it generated, for the page.

    n: windows of the test text that are predicted (None: all, up to SYMBOLS symbols). Raises
    DataError (a diverged model).
    """
    model = loaded.model
    dataset = loaded.dataset
    if not has(model, Predicts):
        reason = "this family does not predict one symbol after another"
        rows = []
        for name, about in PREDICTION.items():
            rows.append(absent(name, *about, reason, bound="exact", group="text"))
        return rows, {}
    most = SYMBOLS if n is None else min(SYMBOLS, n * dataset.spec.dims)
    test = load_passage(dataset, "test", most)
    nats = score(model, test.tokens)
    rows = prediction_rows(test, nats, describe_prediction(model, test, dataset))
    rows.append(validation_row(loaded, most))
    if has(model, HasLikelihood) and model.bound == "exact":
        rows.append(window_row(loaded, most))
    rows += baseline_rows(test, nats, text_reference)
    generated = continue_texts(loaded, n=texts, length=LENGTH, seed=seed)
    copy_rows, shown = copying_rows(
        [continuation.text for continuation in generated],
        held_out_texts(test, dataset, texts),
        text_reference,
    )
    rows += copy_rows
    reason = "a text is no point among features: what it copies is measured instead"
    rows.append(
        absent("frechet", "Fréchet distance", "squared feature units", reason, group="samples")
    )
    return rows, shown


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
    card = passage.card | {"bound": "exact", "better": "lower", "group": "text", "reason": note}
    bits = (nats + passage.unknown_nats) / math.log(2)
    rows = []
    for name, values, per, n in (
        ("nats_per_symbol", nats, np.ones(L), L),
        ("bits_per_character", bits, passage.characters_of, passage.characters),
        ("bits_per_byte", bits, passage.bytes_of, passage.size),
    ):
        label, unit = PREDICTION[name]
        value = float(values.sum() / n)
        rows.append(row(name, label, value, unit, se=block_error(values, per), n=n, **card))
    label, unit = PREDICTION["perplexity"]
    interval = rows[0]["interval"] and [exp(end) for end in rows[0]["interval"]]
    value = exp(float(nats.mean()))
    rows.append(row("perplexity", label, value, unit, interval=interval, n=L, **card))
    return rows


def exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def validation_row(loaded: LoadedRun, most: int) -> dict:
    """Nats per symbol of the validation text."""
    passage = load_passage(loaded.dataset, "validation", most)
    note = describe_prediction(loaded.model, passage, loaded.dataset)
    first = prediction_rows(passage, score(loaded.model, passage.tokens), note)[0]
    return first | {
        "name": "nats_per_symbol_validation",
        "label": "nats per symbol of the validation text",
    }


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
    return row(
        f"nats_per_symbol_windows_{T}",
        f"nats per symbol of the validation text, in windows of {T}",
        float(nats.sum() / per.sum()),
        "nats per symbol",
        se=block_error(nats, per),
        n=int(per.sum()),
        bound="exact",
        better="lower",
        group="text",
        reason=f"windows of {T} symbols without the text before them, all but their first symbol "
        "(nanoGPT's validation text is this one and the test text together)",
        **passage.card,
    )


def baseline_rows(passage: Passage, nats: np.ndarray, text_reference: TextReference) -> list[dict]:
    """Bits per byte of counts and a compressor, and the model's gain over counts.

    nats: -log p of each symbol under the model, (L,).
    """
    baselines = text_reference.baselines(passage)
    card = passage.card | {"group": "baselines", "n": passage.size}
    rows = []
    for name in BASELINES:
        if name in baselines:
            rows.append(_baseline_row(name, baselines[name], passage, card))
        else:
            reason = text_reference.why_no_counts
            rows.append(absent(name, BASELINES[name], "bits per byte", reason, **card))
    name, label, unit = GAIN
    card |= {"group": "text", "better": "higher"}
    if "kneser_ney" not in baselines:
        return [*rows, absent(name, label, unit, text_reference.why_no_counts, **card)]
    gain = (baselines["kneser_ney"] - nats) / math.log(2)
    value = float(gain.sum() / passage.size)
    se = block_error(gain, passage.bytes_of)
    note = "symbol by symbol, so that it is surer than the two numbers apart"
    return [*rows, row(name, label, value, unit, se=se, reason=note, **card)]


def _baseline_row(name: str, nats: np.ndarray | float, passage: Passage, card: dict) -> dict:
    se = None
    if isinstance(nats, np.ndarray):
        note = f"{float(np.sum(nats)) / len(passage):.4f} nats per symbol"
        each = nats + passage.unknown_nats
        if name != "uniform":
            se = block_error(each / math.log(2), passage.bytes_of)
    else:
        note = (
            f"bytes that it adds to the packed form of the last {PACKED:,} before it at most, "
            "which is all that it looks at"
        )
        each = nats + passage.unknown_nats.sum()
    value = float(np.sum(each)) / passage.size / math.log(2)
    return row(name, BASELINES[name], value, "bits per byte", se=se, reason=note, **card)


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
