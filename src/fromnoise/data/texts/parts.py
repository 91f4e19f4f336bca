"""The sizes of a text, and its division into parts, on blocks of bytes.

Everything works on blocks of a few MB, so that neither the size of a text nor the length of a line
matters. The cuts depend on the text and not on the tokens, so that all kinds of tokens are measured
on the same characters.
"""

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np

from ..config import SplitShares
from .documents import BOM, Document

SHARE = 0.05  # of the characters for validation, and again for the test: nanoGPT's 10 % together


@dataclass
class TextSize:
    """invalid: place of the first byte that is not UTF-8, in words, or ""; characters count if all
    is UTF-8."""

    size: int = 0  # bytes
    characters: int = 0
    invalid: str = ""


def measure_text(documents: list[Document]) -> TextSize:
    """The size of the text of the documents, with a newline between two."""
    newlines = max(0, len(documents) - 1)
    total = TextSize(newlines, newlines)
    for document in documents:
        _add_size(document, total)
    return total


def _add_size(document: Document, total: TextSize) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    place = len(BOM) if document.has_byte_order_mark() else 0
    for block in chain(document.blocks(), [b""]):
        total.size += len(block)
        if total.invalid:
            continue
        pending = len(decoder.getstate()[0])  # bytes of a character that goes on in this block
        try:
            total.characters += len(decoder.decode(block, final=not block))
        except UnicodeDecodeError as error:
            total.invalid = f"byte {place - pending + error.start:,} of {document.name}"
        place += len(block)


def text_blocks(documents: list[Document]) -> Iterator[bytes]:
    """The text: the documents, with a newline between two."""
    for i, document in enumerate(documents):
        if i:
            yield b"\n"
        yield from document.blocks()


def cut_places(n: int, config: SplitShares) -> tuple[int, int]:
    """Where validation and test begin, of n characters."""
    validation = config.validation or SHARE
    test = config.test or SHARE
    train = int(n * (1 - (validation + test)))  # as nanoGPT rounds
    return train, train + round((n - train) * validation / (validation + test))


def byte_offsets(blocks: Iterable[bytes], characters: Sequence[int]) -> list[int]:
    """The bytes of a valid UTF-8 text at which these characters begin, from 0, in rising order."""
    offsets: list[int] = []
    byte = 0
    character = 0
    for block in blocks:
        is_start = (np.frombuffer(block, np.uint8) & 0xC0) != 0x80
        count = int(np.count_nonzero(is_start))
        while len(offsets) < len(characters) and characters[len(offsets)] < character + count:
            place = characters[len(offsets)] - character
            offsets.append(byte + int(np.flatnonzero(is_start)[place]))
        byte += len(block)
        character += count
    return offsets + [byte] * (len(characters) - len(offsets))


def divide_blocks(blocks: Iterable[bytes], cuts: Sequence[int]) -> Iterator[tuple[int, bytes]]:
    """(number of the part, block): blocks are divided at the cuts, empty ones left out."""
    start = 0
    for block in blocks:
        inner = [min(max(cut - start, 0), len(block)) for cut in cuts]
        for part, (low, high) in enumerate(pairwise([0, *inner, len(block)])):
            if low < high:
                yield part, block[low:high]
        start += len(block)


def first_bytes(blocks: Iterable[bytes], end: int) -> Iterator[bytes]:
    """The text up to this byte."""
    for part, block in divide_blocks(blocks, [end]):
        if part:
            return
        yield block


def count_blocks(blocks: Iterable[bytes], record: dict) -> Iterator[bytes]:
    """The blocks; adds their ``raw_bytes`` and ``characters`` to the record as they pass."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for block in blocks:
        record["raw_bytes"] += len(block)
        record["characters"] += len(decoder.decode(block))
        yield block
    record["characters"] += len(decoder.decode(b"", final=True))
