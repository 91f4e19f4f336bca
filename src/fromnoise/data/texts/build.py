"""Tokenises a text into a memory-mapped store."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.words import shown
from ..codecs.byte_pairs import learn_merges
from ..codecs.tokenizer import (
    CODE_POINTS,
    BytePairs,
    Bytes,
    Characters,
    Tokenizer,
    code_points,
    decode_blocks,
)
from ..config import TextOptions
from ..formats.encoding import encoding_note, encoding_of, wide_encoding
from ..splits import SPLITS
from .documents import Document
from .parts import (
    byte_offsets,
    count_blocks,
    cut_places,
    divide_blocks,
    first_bytes,
    measure_text,
    text_blocks,
)

MAX_MERGE_BYTES = 2**24  # the first of the training part, that pairs are counted in
MAX_ALPHABET = 256  # characters of the training part up to which they, not bytes, are the tokens


def build_store(at: Path, name: str, documents: list[Document], config: TextOptions) -> dict:
    """Writes x.npy, the tokens of the three parts, into the folder ``at``.

    Returns what the store records. Raises DataError if the text is empty, or has no characters.
    """
    notes: list[str] = []
    if config.tokens != "byte":  # bytes as tokens stay as they are
        documents, notes = _detect_encodings(documents)
    text = measure_text(documents)
    if not text.size:
        raise DataError(f"data {shown(name)} is empty: give a text of some thousand characters")
    if any(document.has_byte_order_mark() for document in documents):
        notes.append("a byte order mark at its beginning was left out")
    if not text.invalid:
        cuts = byte_offsets(text_blocks(documents), cut_places(text.characters, config))
    elif config.tokens == "char":
        raise DataError(
            f"data {shown(name)}: not UTF-8 at {text.invalid}, so that it has no characters: "
            "save it as UTF-8, or give --tokens byte, which takes any bytes"
        )
    else:
        effect = "the tokens are bytes" if config.tokens == "auto" else "kept as it is"
        notes.append(f"not UTF-8 at {text.invalid}: {effect}")
        cuts = cut_places(text.size, config)
    tokenizer = _make_tokenizer(documents, cuts[0], not text.invalid, config, notes)
    counts, parts = _write_tokens(at / "x.npy", documents, cuts, tokenizer)
    notes += _notes_on_unknown(parts)
    return {
        "counts": counts,
        "class_names": (),
        "notes": notes,
        "about": {
            "vocabulary": tokenizer.vocabulary,
            "tokenizer": tokenizer.to_json(),
            "parts": parts,
        },
    }


def _detect_encodings(documents: list[Document]) -> tuple[list[Document], list[str]]:
    """The documents with the encodings of those that are not UTF-8, and notes about them."""
    detected = []
    for document in documents:
        encoding = wide_encoding(document.head())
        if not encoding and measure_text([document]).invalid:
            encoding = encoding_of(document.head(), document.blocks())
        detected.append(replace(document, encoding=encoding))
    notes = []
    for encoding in sorted({document.encoding for document in detected} - {""}):
        names = [document.name for document in detected if document.encoding == encoding]
        subject = names[0]
        if len(names) > 1:
            subject = f"each of {len(names)} files, such as {names[0]},"
        notes.append(encoding_note(subject, encoding))
    return detected, notes


def _make_tokenizer(
    documents: list[Document], train_end: int, is_utf8: bool, config: TextOptions, notes: list[str]
) -> Tokenizer:
    """train_end: bytes of the training part, from which the tokens are learned."""
    if config.tokens == "bpe":
        end = min(train_end, MAX_MERGE_BYTES)
        merges = learn_merges(first_bytes(text_blocks(documents), end), config.vocabulary)
        tokenizer = BytePairs(merges)
        if tokenizer.vocabulary < config.vocabulary:
            notes.append(
                f"{tokenizer.vocabulary} symbols instead of {config.vocabulary}: no other pair "
                "occurs twice"
            )
        return tokenizer
    if config.tokens == "byte" or not is_utf8:
        return Bytes()
    alphabet = _find_alphabet(first_bytes(text_blocks(documents), train_end))
    if config.tokens == "auto" and len(alphabet) > MAX_ALPHABET:
        notes.append(
            f"{len(alphabet):,} different characters: the tokens are bytes (--tokens char for "
            "characters)"
        )
        return Bytes()
    return Characters(alphabet)


def _find_alphabet(blocks: Iterable[bytes]) -> str:
    """Every character that occurs, once, by code point."""
    occurs = np.zeros(CODE_POINTS, bool)
    for text in decode_blocks(blocks):
        occurs[code_points(text)] = True
    return "".join(map(chr, np.flatnonzero(occurs).tolist()))


def _notes_on_unknown(parts: dict[str, dict[str, int]]) -> list[str]:
    notes = []
    for part, record in parts.items():
        if record["unknown"]:
            notes.append(
                f"{part}: {record['unknown']:,} characters do not occur in training; all are the "
                "unknown symbol"
            )
    return notes


def _write_tokens(
    path: Path, documents: list[Document], cuts: Iterable[int], tokenizer: Tokenizer
) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Numbers of tokens of the parts, and what ``TextSplit`` records of each part."""
    parts = {part: {"characters": 0, "raw_bytes": 0, "unknown": 0} for part in SPLITS}
    counts = dict.fromkeys(SPLITS, 0)
    with open(path, "wb") as out:
        _write_header(out, tokenizer.dtype, 0)  # has the same size for every length
        divided = divide_blocks(text_blocks(documents), cuts)
        for index, group in groupby(divided, itemgetter(0)):
            record = parts[SPLITS[index]]
            blocks = count_blocks(map(itemgetter(1), group), record)
            for tokens in tokenizer.encode_blocks(blocks):
                out.write(tokens)
                counts[SPLITS[index]] += len(tokens)
                record["unknown"] += tokenizer.count_unknown(tokens)
        out.seek(0)
        _write_header(out, tokenizer.dtype, sum(counts.values()))
    return counts, parts


def _write_header(out, dtype: np.dtype, n: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (n,)}
    np.lib.format.write_array_header_1_0(out, header)
