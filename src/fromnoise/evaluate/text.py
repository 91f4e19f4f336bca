"""How well a model predicts held-out text, beside counts and a compressor, and what its own texts
copy.

Unusual: a symbol surprises about as much as its neighbours do, so that standard errors come from
consecutive blocks of the text. Bits for each character and byte are of the text itself, which their
card names by its digest: models that cut it into other symbols, or see less of it at once, stand on
the same line.
"""

import bz2
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from ..core.capabilities import HasLikelihood, Predicts, has
from ..data.dataset import Dataset
from ..data.stream import default_batch_size, in_order
from ..inference import text as inference_text
from ..inference.text_scoring import describe_context, describe_unknown, score
from ..measures.text import Hashes, copied, longest_copied
from ..nets.counts.ngram import KneserNey
from ..runs.load import LoadedRun
from .protocol import absent, row

BLOCKS = 50  # of a text: standard errors are found from their spread
SYMBOLS = 1_000_000  # of a held-out part that are predicted, the first ones
ORDER = 6  # of the counts that stand beside a model
# symbols of training text that are counted at most: some 100 bytes of memory each
COUNTED, QUICK_COUNTED = (
    20_000_000,
    2_000_000,
)
PACKED = 880_000  # bytes: what bzip2 looks at together is 900,000
TEXTS, QUICK_TEXTS, LENGTH = 20, 4, 500  # texts of a model, symbols of each
COPIED = 30  # characters: a shorter run may stand in two texts by chance

PREDICTION = {  # the numbers of a predicted text -> label, unit
    "nats_per_symbol": ("nats per symbol", "nats per symbol"),
    "bits_per_character": ("bits per character", "bits per character"),
    "bits_per_byte": ("bits per byte", "bits per byte"),
    "perplexity": ("perplexity of a symbol", "equally likely symbols"),
}
BASELINES = {
    "uniform": "any symbol, equally likely",
    "unigram": "symbols by how often they come",
    "kneser_ney": f"counts of order {ORDER} (Kneser-Ney)",
    "bzip2": "bzip2, after the training text",
}
GAIN = ("gain_over_counts", f"gain over counts of order {ORDER}", "bits per byte")
COPYING = {
    "longest_copied": ("longest part of a text that was copied", "characters"),
    "copied_share": (f"text in copied runs of {COPIED} characters or more", "share"),
}


# -- what is measured ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Passage:
    """The beginning of a held-out part, or all of it: tokens (L,) int64, and how many bytes and
    characters each stands for.

    size, characters  of the passage in UTF-8; of a whole part as it stands in the file, unknown
                      characters too
    unknown_nats      what it costs to say which character each unknown symbol stands for, (L,), 0
                      for others
    reference         names the text, however it is cut into tokens
    """

    split: str
    tokens: np.ndarray
    bytes_of: np.ndarray
    characters_of: np.ndarray
    size: int
    characters: int
    reference: str
    unknown_nats: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)


def passage(dataset: Dataset, split: str, most: int = SYMBOLS) -> Passage:
    """The first ``most`` symbols of a part of a text."""
    part, tokenizer = dataset.split(split), dataset.tokenizer
    tokens = np.asarray(part.x[:most]).astype(np.int64)
    symbols = [tokenizer.token_bytes(i) for i in range(tokenizer.vocabulary)]

    def begins(symbol):
        # characters: what is no continuation byte
        return sum((byte & 0xC0) != 0x80 for byte in symbol)

    bytes_of, characters_of = (
        np.array([measure(symbol) for symbol in symbols])[tokens] for measure in (len, begins)
    )
    whole = len(tokens) == len(part.x)
    size, characters = (
        (part.raw_bytes, part.characters)
        if whole
        else (int(bytes_of.sum()), int(characters_of.sum()))
    )
    digest = hashlib.sha256(tokenizer.decode_bytes(tokens)).hexdigest()
    unknown_nats = tokenizer.unknown_nats * (
        tokens == (-1 if tokenizer.unknown is None else tokenizer.unknown)
    )
    return Passage(
        split,
        tokens,
        bytes_of,
        characters_of,
        size,
        characters,
        f"text {digest[:12]}:{split}",
        unknown_nats,
    )


def text_id(dataset: Dataset) -> str:
    """Equal for two data sets of one text in the same three parts, whatever their tokens and their
    context.
    """
    h = hashlib.sha256(f"{dataset.split('train').raw_bytes}".encode())
    for split in ("validation", "test"):
        for block in blocks(dataset.split(split).x):
            h.update(dataset.tokenizer.decode_bytes(block))
        h.update(b"\xff")  # in no text
    return h.hexdigest()


def blocks(tokens: np.ndarray, size: int = 2**20) -> Iterator[np.ndarray]:
    return (tokens[start : start + size] for start in range(0, len(tokens), size))


class TextReference:
    """What models of one text are measured against; made once for many models. quick: counts of a
    smaller text only.
    """

    evaluator = None  # no features are looked at

    def __init__(self, dataset: Dataset, quick: bool = False):
        self.dataset, self.most = dataset, QUICK_COUNTED if quick else COUNTED
        self._baselines: dict[tuple[str, int], dict[str, np.ndarray | float]] = {}

    @cached_property
    def train(self) -> np.ndarray:
        return self.dataset.split("train").x

    @cached_property
    def corpus(self) -> Hashes | None:
        """The training text, to look for copies in; None where it is too long for that."""
        return inference_text.corpus_of(self.dataset)

    @cached_property
    def text(self) -> str:
        return f"text {text_id(self.dataset)[:12]}"

    @cached_property
    def counts(self) -> KneserNey | None:
        return (
            None
            if len(self.train) > self.most
            else KneserNey(ORDER, self.dataset.tokenizer.vocabulary).fit(self.train)
        )

    def baselines(self, of: Passage) -> dict[str, np.ndarray | float]:
        """Name -> -log p of each symbol (L,) nats, or of the passage as a whole; without what was
        too much to count.
        """
        key = (of.reference, len(of))
        if key not in self._baselines:
            tokenizer = self.dataset.tokenizer
            V = tokenizer.vocabulary
            seen = sum(np.bincount(block, minlength=V) for block in blocks(self.train))
            raw, tail = tokenizer.decode_bytes(of.tokens), b""
            if len(raw) < PACKED:
                tail = tokenizer.decode_bytes(self.train[-(PACKED - len(raw)) :])[
                    -(PACKED - len(raw)) :
                ]
            self._baselines[key] = {
                "uniform": np.full(len(of), math.log(V)),
                "unigram": -np.log((seen + 1) / (seen.sum() + V))[of.tokens],
                **(
                    {}
                    if self.counts is None
                    else {"kneser_ney": self.counts.score(of.tokens).double().numpy()}
                ),
                "bzip2": 8
                * math.log(2)
                * max(
                    0, len(bz2.compress(tail + raw)) - len(bz2.compress(tail))
                ),  # it may even shrink
            }
        return self._baselines[key]

    @property
    def why_no_counts(self) -> str:
        return (
            f"counts of {len(self.train):,} symbols would take {100 * len(self.train) / 1e9:.1f} "
            f"GB of memory: up to {self.most:,} are counted"
        )


# -- prediction ----------------------------------------------------------------------------------------------


def block_error(values: np.ndarray, per: np.ndarray) -> float | None:
    """Standard error of sum(values) / sum(per) over a text of L symbols, from BLOCKS blocks of it;
    None where it is too short or infinite.

    Blocks are independent as far as they are longer than what a symbol's surprise depends on. A
    ratio's error by its residuals (Cochran 1977, eq. 6.13).
    """
    if len(values) < 2 * BLOCKS or not np.isfinite(values).all():
        return None

    def in_blocks(x):
        return np.add.reduceat(x.astype(float), np.arange(BLOCKS) * len(x) // BLOCKS)

    left = in_blocks(values) - values.sum() / per.sum() * in_blocks(per)
    return float(left.std(ddof=1) * math.sqrt(BLOCKS) / per.sum())


def predicted(of: Passage, nats: np.ndarray, how: str) -> list[dict]:
    """Rows about -log p (L,) of each symbol of a passage. how: what each was predicted from, in
    words.

    Bits are of the text: they charge for which character an unknown symbol is. Nats and perplexity
    are of the symbols.
    """
    common = card(of) | {"bound": "exact", "better": "lower", "group": "text", "reason": how}
    mean, rows = float(nats.mean()), []
    bits = (nats + of.unknown_nats) / math.log(2)
    for name, values, of_each, n in (
        ("nats_per_symbol", nats, np.ones(len(of)), len(of)),
        ("bits_per_character", bits, of.characters_of, of.characters),
        ("bits_per_byte", bits, of.bytes_of, of.size),
    ):
        label, unit = PREDICTION[name]
        rows.append(
            row(
                name,
                label,
                float(values.sum() / n),
                unit,
                se=block_error(values, of_each),
                n=n,
                **common,
            )
        )
    label, unit = PREDICTION["perplexity"]
    between = rows[0]["interval"] and [exp(end) for end in rows[0]["interval"]]
    return [*rows, row("perplexity", label, exp(mean), unit, interval=between, n=len(of), **common)]


def card(of: Passage) -> dict:
    return {"split": of.split, "reference": of.reference}


def exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


@torch.no_grad()
def in_windows(loaded: LoadedRun, most: int) -> list[dict]:
    """The validation text in windows of T symbols that know nothing of what came before; like
    nanoGPT's measure, without the first symbol of each window, which has nothing before it (but
    each window once, where that draws them at random).
    """
    model, dataset = loaded.model, loaded.dataset
    T, size = model.length, default_batch_size(dataset.spec, 500)
    batches = in_order(dataset, "validation", size, max(1, most // T), loaded.device)
    left = slice(1 if T > 1 else 0, None)

    def own(x):
        return model.log_probs(x).gather(2, x[:, :, None])[:, left, 0].sum(1)

    nats = torch.cat([-own(batch.x) for batch in batches]).cpu().double().numpy()
    how = (
        f"windows of {T} symbols that know nothing of the text before them, all but their first "
        "symbol (nanoGPT's validation text is this one and the test text together)"
    )
    found = passage(dataset, "validation", len(nats) * T)
    per = np.full(len(nats), float(T - left.start))
    return [
        row(
            f"nats_per_symbol_windows_{T}",
            f"nats per symbol of the validation text, in windows of {T}",
            float(nats.sum() / per.sum()),
            "nats per symbol",
            se=block_error(nats, per),
            n=int(per.sum()),
            bound="exact",
            better="lower",
            group="text",
            reason=how,
            **card(found),
        )
    ]


def beside(of: Passage, nats: np.ndarray, quality_reference: TextReference) -> list[dict]:
    """What counts and a compressor make of the same passage, in bits per byte; and how much better
    the model is than counts.
    """
    found, common, rows = (
        quality_reference.baselines(of),
        card(of) | {"group": "baselines", "n": of.size},
        [],
    )
    for name, label in BASELINES.items():
        if name not in found:
            rows.append(
                absent(name, label, "bits per byte", quality_reference.why_no_counts, **common)
            )
            continue
        symbolwise, alone = isinstance(found[name], np.ndarray), float(np.sum(found[name]))
        each = found[name] + (of.unknown_nats if symbolwise else of.unknown_nats.sum())
        total = float(np.sum(each))
        se = (
            block_error(each / math.log(2), of.bytes_of)
            if symbolwise and name != "uniform"
            else None
        )
        how = (
            f"{alone / len(of):.4f} nats per symbol"
            if symbolwise
            else (
                f"bytes that it adds to the packed form of the last {PACKED:,} before it at most, "
                "which is all that it looks at"
            )
        )
        rows.append(
            row(
                name,
                label,
                total / of.size / math.log(2),
                "bits per byte",
                se=se,
                reason=how,
                **common,
            )
        )
    name, label, unit = GAIN
    common |= {"group": "text", "better": "higher"}
    if "kneser_ney" not in found:
        return [*rows, absent(name, label, unit, quality_reference.why_no_counts, **common)]
    gain = (found["kneser_ney"] - nats) / math.log(2)
    how = "symbol by symbol, so that it is surer than the two numbers apart"
    return [
        *rows,
        row(
            name,
            label,
            float(gain.sum() / of.size),
            unit,
            se=block_error(gain, of.bytes_of),
            reason=how,
            **common,
        ),
    ]


# -- copies --------------------------------------------------------------------------------------------------


def runs_of(mark: np.ndarray) -> list[list[int]]:
    """A bool array -> [first, end] of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mark, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2).tolist()


def pieces(of: Passage, dataset: Dataset, n: int, length: int = LENGTH) -> list[str]:
    """At most n pieces of a held-out text, evenly spread, as long as a model's texts; shorter where
    it is.
    """
    starts = np.linspace(0, max(0, len(of) - length), max(1, min(n, len(of) // length))).astype(int)
    return [dataset.tokenizer.decode(of.tokens[start : start + length]) for start in starts]


def copying(
    texts: list[str], real: list[str], quality_reference: TextReference
) -> tuple[list[dict], dict]:
    """Rows about what the texts of a model copy from its training text; and the texts, with runs of
    them that are copied.
    """
    n, train = len(texts), quality_reference.train
    common = dict(
        n=n,
        split="train",
        reference=f"{quality_reference.text}:train",
        drawn=f"{LENGTH} symbols each",
        group="memory",
        better="lower",
    )
    if quality_reference.corpus is None:
        why = (
            f"copies are looked for in training texts of up to {inference_text.LONGEST:,} symbols, and "
            f"this one has {len(train):,}"
        )
        return [absent(name, *about, why, **common) for name, about in COPYING.items()], {
            "sampled": [{"text": text, "copied": []} for text in texts]
        }
    marks, rows, shown = {}, [], {}
    for whose, some in (("sampled", texts), ("real", real)):
        marks[whose] = [copied(text, quality_reference.corpus, COPIED) for text in some]
        shown[whose] = [
            {"text": text, "copied": runs_of(mark)} for text, mark in zip(some, marks[whose])
        ]
    longest, longest_real = (
        np.array([longest_copied(text, quality_reference.corpus)[0] for text in some])
        for some in (texts, real)
    )
    share, share_real = (
        np.array([mark.mean() if len(mark) else 0.0 for mark in marks[whose]])
        for whose in ("sampled", "real")
    )
    for name, values, control, how in (
        (
            "longest_copied",
            longest,
            longest_real,
            f"the mean over texts; the longest of all has {longest.max():,} characters",
        ),
        ("copied_share", share, share_real, ""),
    ):
        (label, unit), mean = COPYING[name], float(values.mean())
        se = float(values.std(ddof=1) / math.sqrt(n)) if n > 1 else None
        between = None if se is None else [max(0.0, mean - 1.96 * se), mean + 1.96 * se]
        rows.append(
            row(
                name,
                label,
                mean,
                unit,
                se=se,
                interval=between,
                real=float(control.mean()),
                reason=how,
                **common,
            )
        )
    return rows, shown


# -- rows of a report ----------------------------------------------------------------------------------------


def measure(
    loaded: LoadedRun, quality_reference: TextReference, n: int | None, texts: int, seed: int
) -> tuple[list[dict], dict]:
    """Rows of a report about a model of text, and its texts for the page.

    n: windows of the test text that are predicted (None: all, up to SYMBOLS symbols). Raises
    DataError (a diverged model).
    """
    model, dataset = loaded.model, loaded.dataset
    if not has(model, Predicts):
        why = "this family does not predict one symbol after another"
        return [
            absent(name, *about, why, bound="exact", group="text")
            for name, about in PREDICTION.items()
        ], {}
    most = min(SYMBOLS, SYMBOLS if n is None else n * dataset.spec.dims)
    test, validation = (passage(dataset, split, most) for split in ("test", "validation"))
    nats = score(model, test.tokens)
    rows = predicted(test, nats, context(model, test, dataset))
    first = predicted(
        validation, score(model, validation.tokens), context(model, validation, dataset)
    )[0]
    rows.append(
        first
        | {"name": "nats_per_symbol_validation", "label": "nats per symbol of the validation text"}
    )
    if has(model, HasLikelihood) and model.bound == "exact":
        rows += in_windows(loaded, most)
    rows += beside(test, nats, quality_reference)
    written = [
        found.text
        for found in inference_text.continue_texts(loaded, n=texts, length=LENGTH, seed=seed)
    ]
    about, shown = copying(written, pieces(test, dataset, texts), quality_reference)
    why = "a text is no point among features: what it copies is measured instead"
    return [
        *rows,
        *about,
        absent("frechet", "Fréchet distance", "squared feature units", why, group="samples"),
    ], shown


def context(model: Predicts, of: Passage, dataset: Dataset) -> str:
    """What each symbol was predicted from, and what was not told apart, in words."""
    part = dataset.split(of.split)
    lacking = dataset.tokenizer.count_unknown(of.tokens)
    unknown = (
        (
            f"; {describe_unknown(lacking)}, predicted as the one symbol that stands for all "
            f"of them, and {dataset.tokenizer.unknown_nats / math.log(2):.1f} bits each for which one "
            "it is"
        )
        if lacking
        else ""
    )
    some = "" if len(of) == len(part.x) else f"the first {len(of):,} of {len(part.x):,} symbols; "
    return f"{some}each once, {describe_context(model, len(of))}{unknown}"
