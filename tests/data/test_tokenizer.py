"""Tokenisers: exact inverses, byte pairs as the textbook counts them, and no trace of where blocks ended."""

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from fromnoise.core.errors import StorageError
from fromnoise.core.json_files import canonical_json
from fromnoise.data.codecs.byte_pairs import learn_merges, split_pieces
from fromnoise.data.codecs.tokenizer import (
    BytePairs,
    Bytes,
    Characters,
    Tokenizer,
)

TEXT = (
    "the lower the better, newer words wider; the widest lowest newest town in the west.\n\tEs fährt — 日本語 🎉!\n"
    * 3
)
AWKWARD = [
    "",
    " ",
    "\0",
    "a\r\n b\n\n  c",
    "é",
    "🎉",
    "\ufeffx",
    "\ud800",
    "\udcff",
    "a" * 1000,
    " " * 100,
    "日本語" * 50,
]


@pytest.fixture(params=["char", "byte", "bpe"])
def tokenizer(request):
    return {
        "char": Characters("".join(sorted(set(TEXT)))),
        "byte": Bytes(),
        "bpe": BytePairs(learn_merges([TEXT.encode()], 300)),
    }[request.param]


def cut_up(raw: bytes, seed: int, longest: int) -> list[bytes]:
    edges = np.cumsum(np.random.default_rng(seed).integers(longest + 1, size=len(raw) + 1))
    edges = [0, *edges[edges < len(raw)].tolist(), len(raw)]
    return [raw[a:b] for a, b in pairwise(edges)]


def noise(n: int, seed: int) -> bytes:
    """Bytes that are hard to cut: spaces, whole and broken characters, in all orders."""
    return (
        np.random.default_rng(seed)
        .choice(np.frombuffer(b"ab \n\t\xc3\xa9\xe6\x97\xa5\x80\xff\0", np.uint8), n)
        .tobytes()
    )


def test_known_text_comes_back(tokenizer):
    tokens = tokenizer.encode(TEXT)
    assert tokenizer.decode(tokens) == TEXT and tokenizer.decode_bytes(tokens) == TEXT.encode()
    assert b"".join(tokenizer.token_bytes(int(i)) for i in tokens) == TEXT.encode()
    assert (
        tokens.dtype == tokenizer.dtype
        and tokens.ndim == 1
        and 0 <= tokens.min() <= tokens.max() < tokenizer.vocabulary
    )
    assert not tokenizer.count_unknown(tokens) and len(tokens) <= len(TEXT.encode())


@pytest.mark.parametrize("text", AWKWARD, ids=ascii)
def test_any_text_can_be_encoded(tokenizer, text):
    tokens = tokenizer.encode(text)
    assert tokens.dtype == tokenizer.dtype
    if tokenizer.kind == "char":
        known = set(tokenizer.characters)
        assert len(tokens) == len(text) and tokenizer.count_unknown(tokens) == sum(
            c not in known for c in text
        )
        assert tokenizer.decode(tokens) == "".join(c if c in known else "\ufffd" for c in text)
    else:
        raw = b"\xed\xa0\x80" if text == "\ud800" else text.encode(errors="surrogateescape")
        assert tokenizer.decode_bytes(tokens) == raw and not tokenizer.count_unknown(tokens)


def test_where_blocks_end_makes_no_difference(tokenizer):
    for seed in range(20):
        blocks = cut_up(TEXT.encode(), seed, 1 + seed)
        assert (
            np.concatenate(list(tokenizer.encode_blocks(blocks))).tolist()
            == tokenizer.encode(TEXT).tolist()
        )


def test_any_bytes_come_back():
    for kind in (Bytes(), BytePairs(learn_merges([noise(5000, 0)], 400))):
        for seed in range(10):
            raw = noise(3000, seed) + np.random.default_rng(seed).bytes(1000)
            whole = np.concatenate(list(kind.encode_blocks([raw])))
            assert kind.decode_bytes(whole) == raw
            assert kind.decode(whole) == raw.decode(errors="replace")
            assert np.array_equal(
                np.concatenate(list(kind.encode_blocks(cut_up(raw, seed, 9)))), whole
            )


def test_characters_are_numbered_by_code_point_with_the_unknown_one_last():
    kind = Characters("\nab\ufffd🎉")
    assert kind.vocabulary == 6 and kind.unknown == 5
    assert kind.encode("b🎉\n\ufffdZ").tolist() == [1 + 1, 4, 0, 3, 5]
    assert (
        kind.decode([5, 1]) == "\ufffda"
        and kind.token_bytes(4) == "🎉".encode()
        and kind.count_unknown([5, 1, 5]) == 2
    )


def test_the_smallest_type_that_holds_the_symbols():
    for n, dtype in [(255, np.uint8), (256, np.uint16), (65_535, np.uint16), (65_536, np.int32)]:
        kind = Characters("".join(map(chr, range(0x20000, 0x20000 + n))))
        assert kind.dtype == dtype and kind.encode(chr(0x20000 + n - 1) + "a").tolist() == [
            n - 1,
            n,
        ]


def test_pieces_end_at_white_space_and_are_never_endless():
    assert list(split_pieces([b"the old  man,\n   said"])) == [
        [b"the", b" old", b"  ", b"man,", b"\n   "],
        [b"said"],
    ]
    assert list(split_pieces([b"", b" ", b"", b"a"])) == [[], [], [], [], [b" a"]]
    long = next(split_pieces([b"x" * 100_000 + b" "]))
    assert b"".join(long) == b"x" * 100_000 and max(map(len, long)) == 24
    assert all(
        piece.decode() for piece in next(split_pieces(["日本語".encode() * 1000]))
    )  # never within a character
    for seed in range(20):
        raw = noise(2000, seed)
        whole = [piece for found in split_pieces([raw]) for piece in found]
        assert b"".join(whole) == raw and b"" not in whole
        assert [piece for found in split_pieces(cut_up(raw, seed, 5)) for piece in found] == whole


# -- byte pairs against the textbook: count everything anew at each step -------------------------------------------


def replaced(word: tuple, pair: tuple, new: int) -> tuple:
    out = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] = new
        else:
            out.append(symbol)
    return tuple(out)


def textbook_merges(raw: bytes, vocabulary: int) -> list[tuple[int, int]]:
    words = Counter(tuple(piece) for found in split_pieces([raw]) for piece in found)
    merges = []
    while len(merges) < vocabulary - 256:
        totals = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                totals[pair] += count
        pair = min(totals, key=lambda pair: (-totals[pair], pair), default=None)
        if pair is None or totals[pair] < 2:
            break
        again = Counter()
        for word, count in words.items():
            again[replaced(word, pair, 256 + len(merges))] += count
        words = again
        merges.append(pair)
    return merges


@pytest.mark.parametrize(
    "raw",
    [TEXT.encode(), noise(4000, 3), b"aaaa aaa aa aaaaa b", b"abcabcabc " * 5, b"xyz", b""],
    ids=len,
)
def test_merges_are_those_of_the_textbook(raw):
    merges = textbook_merges(raw, 340)
    assert learn_merges(cut_up(raw, 0, 7), 340) == merges
    kind = BytePairs(merges)
    for found in split_pieces([raw]):
        for piece in found:
            word = tuple(piece)
            for rank, pair in enumerate(merges):  # all merges in their order
                word = replaced(word, pair, 256 + rank)
            assert kind.encode_blocks([piece]) and kind._encode_piece(piece) == list(word)


def test_a_text_that_was_seen_gets_short():
    kind = BytePairs(learn_merges([TEXT.encode()], 400))
    assert kind.vocabulary <= 400 and len(kind.encode(TEXT)) < len(TEXT) / 3
    assert len(set(kind.symbols)) >= 256 and b" the" in kind.symbols


# -- kept in a file ------------------------------------------------------------------------------------------------


def test_json_brings_it_back(tokenizer):
    for one in (tokenizer, Characters('\0\n"\\é🎉'), BytePairs([])):
        again = Tokenizer.from_json(json.loads(canonical_json(one.to_json())))
        assert type(again) is type(one) and again.symbols == one.symbols
        assert again.encode(TEXT).tolist() == one.encode(TEXT).tolist()


@pytest.mark.parametrize(
    "stored",
    [
        {},
        {"kind": "unigram"},
        {"kind": "bpe", "merges": ["1 2 3"]},
        {"kind": "bpe", "merges": ["1 999"]},
        {"kind": "char"},
        {"kind": "char", "characters": 7},
        [],
    ],
)
def test_a_damaged_record_is_told_in_one_line(stored):
    with pytest.raises(StorageError) as error:
        Tokenizer.from_json(stored)
    assert "\n" not in str(error.value)
