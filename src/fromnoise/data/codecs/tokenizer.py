"""From text to whole numbers and back: one for each character, each byte, or each frequent run of bytes.

Unusual: a symbol *is* the bytes that it stands for, so that all kinds decode in the same way, and text is encoded
a block at a time, so that it may be larger than memory: where blocks end makes no difference.
"""

import codecs
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise

import numpy as np

from ...core.errors import StorageError

CODE_POINTS = 0x110000  # that Unicode has room for
UNKNOWN = "\N{REPLACEMENT CHARACTER}"

MOST_PIECES = (
    2**14
)  # different ones, the most frequent, that merges are learned from: rarer ones would hardly count

# A piece is a word with the space before it, or other white space: merges never cross its ends. It holds whole
# characters, at most 24, so that a line without any space is no endless word. Every byte is in some piece.
PIECE = re.compile(rb" ?(?:[^\s\x80-\xbf][\x80-\xbf]{0,3}){1,24}|\s{1,24}|[\x80-\xbf]{1,24}")


class Tokenizer:
    """Base of the kinds: symbols 0 .. vocabulary-1, each standing for ``symbols[i]``, some bytes of UTF-8 text.

    unknown: the symbol of characters that have none of their own; None where every text can be written.
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
        """(N,) tokens of any text whatever."""
        return np.concatenate([np.empty(0, self.dtype), *self.encode_blocks([encode_utf8(text)])])

    def encode_blocks(self, blocks: Iterable[bytes]) -> Iterator[np.ndarray]:
        """Tokens of a text given as consecutive blocks of bytes, which may end within a character."""
        raise NotImplementedError

    def decode(self, tokens) -> str:
        """The text of tokens (N,). Bytes that are no UTF-8 become U+FFFD, as unknown characters do."""
        return self.decode_bytes(tokens).decode(errors="replace")

    def decode_bytes(self, tokens) -> bytes:
        """The bytes that the tokens (N,) stand for: those that were encoded, unknown characters aside."""
        return b"".join(map(self.symbols.__getitem__, np.asarray(tokens).ravel().tolist()))

    def token_bytes(self, i: int) -> bytes:
        return self.symbols[i]

    def count_unknown(self, tokens) -> int:
        """How many tokens stand for a character that was not seen in training."""
        return (
            0 if self.unknown is None else int(np.count_nonzero(np.asarray(tokens) == self.unknown))
        )

    @property
    def unknown_nats(self) -> float:
        """log of how many characters the unknown symbol may stand for: what it costs to say which one, all equally likely.

        -log p of a text is that of its symbols and this for each unknown one. Without it many unknown characters
        would make a text cheap.
        """
        return 0.0

    def to_json(self) -> dict:
        return {"kind": self.kind}

    @staticmethod
    def from_json(stored: dict) -> "Tokenizer":
        """The inverse of ``to_json``. Raises StorageError."""
        try:
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
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            if isinstance(error, StorageError):
                raise
            raise StorageError(
                "the record of the tokeniser is damaged: bring back its file from a copy"
            ) from error


class Characters(Tokenizer):
    """One symbol for each Unicode code point of the training text, in their order, and one for all others, the last.

    A text's probability is that of its symbols, times 1 / (number of other code points) for each unknown character.
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
        return map(self.encode, decoded(blocks))

    def to_json(self) -> dict:
        return {"kind": self.kind, "characters": self.characters}


class Bytes(Tokenizer):
    """One symbol for each of the 256 bytes: any file can be encoded, and comes back byte for byte."""

    kind = "byte"
    symbols = [bytes([i]) for i in range(256)]

    def encode_blocks(self, blocks: Iterable[bytes]) -> Iterator[np.ndarray]:
        return (np.frombuffer(block, np.uint8) for block in blocks)


class BytePairs(Tokenizer):
    """Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909): symbol 256 + r is the pair merges[r].

    Exact for any bytes, since the first 256 symbols are the bytes themselves.
    """

    kind = "bpe"

    def __init__(self, merges: Sequence[tuple[int, int]]):
        self.merges = list(merges)
        self.symbols = list(Bytes.symbols)
        for first, second in self.merges:
            self.symbols.append(self.symbols[first] + self.symbols[second])
        self._rank = {pair: rank for rank, pair in enumerate(self.merges)}
        self._tokens = lru_cache(2**16)(
            self._encode_piece
        )  # most pieces of a text are its few frequent ones

    def _encode_piece(self, piece: bytes) -> list[int]:
        """Merges in the order in which they were learned, each wherever it applies, until none does."""
        symbols, never = list(piece), len(self._rank)
        while len(symbols) > 1:
            pair = min(pairwise(symbols), key=lambda pair: self._rank.get(pair, never))
            if pair not in self._rank:
                break
            symbols = merged(symbols, pair, 256 + self._rank[pair])
        return symbols

    def encode_blocks(self, blocks: Iterable[bytes]) -> Iterator[np.ndarray]:
        for found in pieces(blocks):
            yield np.fromiter(chain.from_iterable(map(self._tokens, found)), self.dtype)

    def to_json(self) -> dict:
        return {"kind": self.kind, "merges": [f"{first} {second}" for first, second in self.merges]}


def learn_merges(blocks: Iterable[bytes], vocabulary: int) -> list[tuple[int, int]]:
    """The pairs to merge for a vocabulary of at most so many symbols: the most frequent pair, again and again.

    Each distinct piece is held once with its count, a merge visits only the pieces that hold its pair, and a heap
    finds the next one (its outdated entries are skipped). Of equally frequent pairs the smaller goes first, so that
    the same text always gives the same merges. Ends early when no pair occurs twice.
    """
    frequent = Counter(chain.from_iterable(pieces(blocks))).most_common(MOST_PIECES)
    words, weights = [list(piece) for piece, _ in frequent], [count for _, count in frequent]
    totals, where = Counter(), defaultdict(set)
    for i, word in enumerate(words):
        for pair in pairwise(word):
            totals[pair] += weights[i]
            where[pair].add(i)
    heap = [(-total, pair) for pair, total in totals.items() if total > 1]
    heapify(heap)
    merges: list[tuple[int, int]] = []
    while heap and len(merges) < vocabulary - 256:
        total, pair = heappop(heap)
        if -total != totals[pair]:
            continue
        new, change = 256 + len(merges), Counter()
        merges.append(pair)
        for i in where.pop(pair):
            before, words[i] = words[i], merged(words[i], pair, new)
            for old in pairwise(before):
                change[old] -= weights[i]
            for now in pairwise(words[i]):
                change[now] += weights[i]
                where[now].add(i)
        for changed, by in change.items():
            if by:
                totals[changed] += by
                if totals[changed] > 1:
                    heappush(heap, (-totals[changed], changed))
    return merges


def merged(symbols: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """The symbols with each occurrence of the pair, found from the left, replaced by the new one."""
    (first, second), out, i = pair, [], 0
    while i < len(symbols):
        if symbols[i] == first and i + 1 < len(symbols) and symbols[i + 1] == second:
            out.append(new)
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def pieces(blocks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The pieces of a text, block by block: the last of a block may go on in the next, and waits for it."""
    rest = b""
    for block in blocks:
        found = PIECE.findall(rest + block)
        rest = found.pop() if found else b""
        yield found
    yield [rest] if rest else []


def decoded(blocks: Iterable[bytes]) -> Iterator[str]:
    """The characters of a text, block by block; bytes that are no UTF-8 become U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for block in blocks:
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def code_points(text: str) -> np.ndarray:
    """(len(text),) uint32"""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))


def encode_utf8(text: str) -> bytes:
    """UTF-8; bytes that came from a command line or file name undecoded (PEP 383) are themselves again."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half of a surrogate pair of other origin
        return text.encode("utf-8", "surrogatepass")


def symbol_dtype(vocabulary: int) -> np.dtype:
    """The smallest type that holds 0 .. vocabulary-1 and that torch knows well."""
    return np.dtype(
        np.uint8 if vocabulary <= 2**8 else np.uint16 if vocabulary <= 2**16 else np.int32
    )
