"""From text to whole numbers and back: one for each character, byte, or frequent run of bytes.

A symbol *is* the bytes that it stands for, so that all kinds decode in the same way. Text is encoded
a block at a time, so that it may be larger than memory: where blocks end makes no difference.
"""

import codecs
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import chain, pairwise

import numpy as np

from ...core.errors import StorageError
from .byte_pairs import BYTES, Pair, merge_pair, split_pieces

CODE_POINTS = 0x110000  # that Unicode has room for
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
CACHED_PIECES = 2**16  # most pieces of a text are its few frequent ones


class Tokenizer:
    """Base of all kinds: symbol i of 0 .. vocabulary-1 stands for the bytes ``symbols[i]``.

    unknown: the symbol of characters that have none of their own; None if all text has symbols.
    """

    kind = ""
    unknown: int | None = None
    symbols: Sequence[bytes]

    @property
    def vocabulary(self) -> int:
        return len(self.symbols)

    @property
    def dtype(self) -> np.dtype:
        return symbol_dtype(self.vocabulary)

    def encode(self, text: str) -> np.ndarray:
        """(N,) tokens of any text."""
        return np.concatenate([np.empty(0, self.dtype), *self.encode_blocks([encode_utf8(text)])])

    def encode_blocks(self, blocks: Iterable[bytes]) -> Iterator[np.ndarray]:
        """Tokens of a text given as consecutive blocks of bytes, which may end within a character."""
        raise NotImplementedError

    def decode(self, tokens) -> str:
        """The text of tokens (N,). Bytes that are not UTF-8 and unknown characters become U+FFFD."""
        return self.decode_bytes(tokens).decode(errors="replace")

    def decode_bytes(self, tokens) -> bytes:
        """The bytes of tokens (N,): those that were encoded, except for unknown characters."""
        return b"".join(map(self.symbols.__getitem__, np.asarray(tokens).ravel().tolist()))

    def token_bytes(self, i: int) -> bytes:
        return self.symbols[i]

    def count_unknown(self, tokens) -> int:
        """Number of tokens that stand for a character which does not occur in training."""
        if self.unknown is None:
            return 0
        return int(np.count_nonzero(np.asarray(tokens) == self.unknown))

    @property
    def unknown_nats(self) -> float:
        """log of the number of characters that the unknown symbol may stand for, all equally likely.

        -log p of a text is that of its symbols plus this for each unknown one. Without it many
        unknown characters would make a text too probable.
        """
        return 0.0

    def to_json(self) -> dict:
        return {"kind": self.kind}

    @staticmethod
    def from_json(stored: dict) -> "Tokenizer":
        """The inverse of ``to_json``. Raises StorageError."""
        try:
            return _restore(stored)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise StorageError(
                "the record of the tokeniser is damaged: bring back its file from a copy"
            ) from error


class Characters(Tokenizer):
    """One symbol for each Unicode code point of the training text, in order, and a last one for
    all others.

    The probability of a text is that of its symbols, times 1 / (number of other code points) for
    each unknown character.
    """

    kind = "char"

    def __init__(self, characters: str):
        self.characters = characters
        self.symbols = [c.encode() for c in (*characters, UNKNOWN)]
        self.unknown = len(characters)

    @cached_property
    def _symbol_of(self) -> np.ndarray:
        table = np.full(CODE_POINTS, self.unknown, self.dtype)
        table[code_points(self.characters)] = np.arange(len(self.characters))
        return table

    @property
    def unknown_nats(self) -> float:
        return math.log(CODE_POINTS - len(self.characters))

    def encode(self, text: str) -> np.ndarray:
        return self._symbol_of[code_points(text)]

    def encode_blocks(self, blocks: Iterable[bytes]) -> Iterator[np.ndarray]:
        return map(self.encode, decode_blocks(blocks))

    def to_json(self) -> dict:
        return {"kind": self.kind, "characters": self.characters}


class Bytes(Tokenizer):
    """One symbol for each of the 256 bytes: any file can be encoded, and comes back byte for byte."""

    kind = "byte"
    symbols = [bytes([i]) for i in range(256)]

    def encode_blocks(self, blocks: Iterable[bytes]) -> Iterator[np.ndarray]:
        return (np.frombuffer(block, np.uint8) for block in blocks)


class BytePairs(Tokenizer):
    """Byte-level byte-pair encoding (see ``byte_pairs``): symbol 256 + r is the pair merges[r].

    Exact for any bytes, since the first 256 symbols are the bytes themselves.
    """

    kind = "bpe"

    def __init__(self, merges: Sequence[Pair]):
        self.merges = list(merges)
        self.symbols = list(Bytes.symbols)
        for first, second in self.merges:
            self.symbols.append(self.symbols[first] + self.symbols[second])
        self._rank = {pair: rank for rank, pair in enumerate(self.merges)}
        self._encode_cached = lru_cache(CACHED_PIECES)(self._encode_piece)

    def _encode_piece(self, piece: bytes) -> list[int]:
        """Applies merges in the order in which they were learned, each wherever it applies."""
        symbols = list(piece)
        no_rank = len(self._rank)
        while len(symbols) > 1:
            pair = min(pairwise(symbols), key=lambda pair: self._rank.get(pair, no_rank))
            if pair not in self._rank:
                break
            symbols = merge_pair(symbols, pair, BYTES + self._rank[pair])
        return symbols

    def encode_blocks(self, blocks: Iterable[bytes]) -> Iterator[np.ndarray]:
        for pieces in split_pieces(blocks):
            symbols = chain.from_iterable(map(self._encode_cached, pieces))
            yield np.fromiter(symbols, self.dtype)

    def to_json(self) -> dict:
        return {"kind": self.kind, "merges": [f"{first} {second}" for first, second in self.merges]}


def _restore(stored: dict) -> Tokenizer:
    match stored["kind"]:
        case "char":
            return Characters(stored["characters"])
        case "byte":
            return Bytes()
        case "bpe":
            return BytePairs([tuple(map(int, pair.split())) for pair in stored["merges"]])
        case kind:
            raise StorageError(
                f"the tokeniser '{kind}' is not known to this version: update fromnoise"
            )


def decode_blocks(blocks: Iterable[bytes]) -> Iterator[str]:
    """The characters of a text, block by block; bytes that are not UTF-8 become U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for block in blocks:
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def code_points(text: str) -> np.ndarray:
    """(len(text),) uint32"""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def encode_utf8(text: str) -> bytes:
    """UTF-8. Undecoded bytes of a command line or file name (PEP 383) become themselves again."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair of other origin
        return text.encode("utf-8", "surrogatepass")


def symbol_dtype(vocabulary: int) -> np.dtype:
    """The smallest type that holds 0 .. vocabulary-1 and that torch supports well."""
    if vocabulary <= 2**8:
        return np.dtype(np.uint8)
    return np.dtype(np.uint16 if vocabulary <= 2**16 else np.int32)
