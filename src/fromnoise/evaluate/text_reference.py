"""Held-out passages of a text, and what counts and a compressor make of them."""

import bz2
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..data.dataset import Dataset
from ..inference.text import corpus_of
from ..measures.text import Hashes
from ..nets.counts.ngram import KneserNey

SYMBOLS = 1_000_000  # of a held-out part that are predicted at most, the first ones
ORDER = 6  # of the counts that are compared with a model
# symbols of training text that are counted at most: about 100 bytes of memory each
COUNTED = 20_000_000
QUICK_COUNTED = 2_000_000
PACKED = 880_000  # bytes: bzip2 compresses blocks of 900,000


@dataclass(frozen=True)
class Passage:
    """The first L symbols of a held-out part, or all of it.

    tokens            (L,) int64
    bytes_of, characters_of  how many bytes and characters each symbol is, (L,)
    size, characters  of the passage in UTF-8; of a whole part as it is in the file, unknown
                      characters included
    reference         names the text, however it is cut into tokens
    unknown_nats      -log p of which character each unknown symbol is, (L,), 0 for other symbols
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

    @property
    def card(self) -> dict:
        return {"split": self.split, "reference": self.reference}


def load_passage(dataset: Dataset, split: str, most: int = SYMBOLS) -> Passage:
    """The first ``most`` symbols of a part of a text."""
    part = dataset.split(split)
    tokenizer = dataset.tokenizer
    assert tokenizer is not None
    tokens = np.asarray(part.x[:most]).astype(np.int64)
    symbols = list(map(tokenizer.token_bytes, range(tokenizer.vocabulary)))
    bytes_of = np.array(list(map(len, symbols)))[tokens]
    characters_of = np.array(list(map(count_characters, symbols)))[tokens]
    if len(tokens) == len(part.x):
        size = part.raw_bytes
        characters = part.characters
    else:
        size = int(bytes_of.sum())
        characters = int(characters_of.sum())
    digest = hashlib.sha256(tokenizer.decode_bytes(tokens)).hexdigest()
    unknown = -1 if tokenizer.unknown is None else tokenizer.unknown
    return Passage(
        split,
        tokens,
        bytes_of,
        characters_of,
        size,
        characters,
        reference=f"text {digest[:12]}:{split}",
        unknown_nats=tokenizer.unknown_nats * (tokens == unknown),
    )


def count_characters(symbol: bytes) -> int:
    """How many characters of UTF-8 begin in a symbol: its bytes that are no continuation."""
    return sum((byte & 0xC0) != 0x80 for byte in symbol)


def text_id(dataset: Dataset) -> str:
    """A digest, equal for data sets of one text in the same three parts, whatever their tokens."""
    digest = hashlib.sha256(f"{dataset.split('train').raw_bytes}".encode())
    for split in ("validation", "test"):
        for block in token_blocks(dataset.split(split).x):
            digest.update(dataset.tokenizer.decode_bytes(block))
        digest.update(b"\xff")  # a byte that no text has
    return digest.hexdigest()


def token_blocks(tokens: np.ndarray, size: int = 2**20) -> Iterator[np.ndarray]:
    return (tokens[start : start + size] for start in range(0, len(tokens), size))


class TextReference:
    """What models of one text are compared with; made once for many models.

    quick: only a smaller text is counted.
    """

    evaluator = None  # text has no feature map

    def __init__(self, dataset: Dataset, quick: bool = False):
        self.dataset = dataset
        self.most = QUICK_COUNTED if quick else COUNTED
        self._baselines: dict[tuple[str, int], dict[str, np.ndarray | float]] = {}

    @cached_property
    def train(self) -> np.ndarray:
        return self.dataset.split("train").x

    @cached_property
    def corpus(self) -> Hashes | None:
        """The training text to search for copies; None where it is too long for that."""
        return corpus_of(self.dataset)

    @cached_property
    def text(self) -> str:
        return f"text {text_id(self.dataset)[:12]}"

    @cached_property
    def counts(self) -> KneserNey | None:
        if len(self.train) > self.most:
            return None
        return KneserNey(ORDER, self.dataset.tokenizer.vocabulary).fit(self.train)

    @property
    def why_no_counts(self) -> str:
        return (
            f"counts of {len(self.train):,} symbols would take "
            f"{100 * len(self.train) / 1e9:.1f} GB of memory: up to {self.most:,} are counted"
        )

    def baselines(self, passage: Passage) -> dict[str, np.ndarray | float]:
        """Name -> -log p of each symbol (L,) nats, or of the whole passage (bzip2).

        Without the counts where the training text is too long for them.
        """
        key = (passage.reference, len(passage))
        if key not in self._baselines:
            self._baselines[key] = self._compute_baselines(passage)
        return self._baselines[key]

    def _compute_baselines(self, passage: Passage) -> dict[str, np.ndarray | float]:
        V = self.dataset.tokenizer.vocabulary
        frequency = sum(np.bincount(block, minlength=V) for block in token_blocks(self.train))
        unigram = -np.log((frequency + 1) / (frequency.sum() + V))
        baselines = {
            "uniform": np.full(len(passage), math.log(V)),
            "unigram": unigram[passage.tokens],
        }
        if self.counts is not None:
            baselines["kneser_ney"] = self.counts.score(passage.tokens).double().numpy()
        baselines["bzip2"] = 8 * math.log(2) * self._packed_bytes(passage)
        return baselines

    def _packed_bytes(self, passage: Passage) -> int:
        """Bytes that the passage adds to the compressed end of the training text."""
        decode = self.dataset.tokenizer.decode_bytes
        raw = decode(passage.tokens)
        before = b""
        if len(raw) < PACKED:
            room = PACKED - len(raw)
            before = decode(self.train[-room:])[-room:]
        added = len(bz2.compress(before + raw)) - len(bz2.compress(before))
        return max(0, added)  # it may even shrink
