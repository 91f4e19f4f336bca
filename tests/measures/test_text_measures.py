"""Entropies known to nine digits, and copies that were planted."""

import math
import random

import pytest
from helpers.entropy_rate import entropy_rate

from fromnoise.core.errors import DataError, UsageError
from fromnoise.measures.text import copied, longest_copied, perplexity

CHAIN = [[0.9, 0.1], [0.4, 0.6]]  # flips .1 and .4


def test_two_state_chain():
    rate = entropy_rate(CHAIN)
    assert rate == pytest.approx(0.569386594, abs=1e-9)
    assert perplexity(rate * math.log(2), 1) == pytest.approx(1.483892514, abs=1e-9)
    assert entropy_rate([[0.8, 0.2], [0.8, 0.2]]) == pytest.approx(
        0.721928095, abs=1e-9
    )  # its unigram (4/5, 1/5)


def test_other_chains():
    assert entropy_rate([[0, 1], [1, 0]]) == pytest.approx(0, abs=1e-12)  # periodic, certain
    assert entropy_rate([[0.25] * 4] * 4) == pytest.approx(2, abs=1e-12)
    assert entropy_rate([[0.5, 0.5], [0, 1]]) == pytest.approx(
        0, abs=1e-12
    )  # ends in the second state


def test_no_text_and_no_likelihood():
    with pytest.raises(UsageError, match="no text"):
        perplexity(1.0, 0)
    for nats in (math.nan, math.inf, -math.inf, 1e9):
        with pytest.raises(DataError, match="finite"):
            perplexity(nats, 10)


# -- copies -----------------------------------------------------------------------------------------------------


def copied_share(sample: str, corpus: str, n: int = 50) -> float:
    return float(copied(sample, corpus, n).mean())


def letters(seed: int, n: int, alphabet: str) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=n))


CORPUS = letters(0, 1_000_000, "abcdefghijklmnopqrstuvwxyz ")


def plainly(sample: str, corpus: str) -> int:
    best = 0
    for i in range(len(sample)):
        while i + best < len(sample) and sample[i : i + best + 1] in corpus:
            best += 1
    return best


def test_a_planted_copy_is_found_in_a_megabyte():
    sample = letters(1, 300, "0123456789") + CORPUS[654_321:654_521] + letters(2, 500, "0123456789")
    assert longest_copied(sample, CORPUS) == (200, 300, 654_321)
    assert copied_share(sample, CORPUS) == 0.2
    assert copied_share(sample, CORPUS, n=200) == 0.2 and copied_share(sample, CORPUS, n=201) == 0


def test_two_copies_and_a_short_one():
    sample = "#" * 100 + CORPUS[:60] + "#" * 100 + CORPUS[-90:] + "#" + CORPUS[500:549] + "#" * 100
    assert longest_copied(sample, CORPUS) == (90, 260, 999_910)
    assert copied_share(sample, CORPUS) == pytest.approx(150 / 500)
    assert copied_share(sample, CORPUS, n=49) == pytest.approx(199 / 500)


def test_overlapping_copies_count_once():
    corpus = "0123456789" + "-" + "56789abcde"
    assert copied_share("0123456789abcde", corpus, n=10) == 1
    assert longest_copied("0123456789abcde", corpus) == (10, 0, 0)


@pytest.mark.parametrize("seed", range(40))
def test_against_the_plain_search(seed):
    alphabet = ["ab", "aab", "abcd", "añ日🎈"][seed % 4]
    corpus, sample = letters(seed, 300, alphabet), letters(1000 + seed, 40 + seed, alphabet)
    length, i, j = longest_copied(sample, corpus)
    assert length == plainly(sample, corpus) > 0
    assert sample[i : i + length] == corpus[j : j + length]
    n = 1 + seed % 9
    covered = {
        k
        for s in range(len(sample) - n + 1)
        if sample[s : s + n] in corpus
        for k in range(s, s + n)
    }
    assert copied_share(sample, corpus, n) == pytest.approx(len(covered) / len(sample), abs=1e-12)


def test_windows_that_share_a_hash_are_no_copies():
    # Thue-Morse words and their complements collide under every polynomial hash modulo 2^64
    word = "a"
    for _ in range(11):
        word += word.translate(str.maketrans("ab", "ba"))
    other = word.translate(str.maketrans("ab", "ba"))
    length = longest_copied(word, other)[0]
    assert length == plainly(word, other) < len(word)
    assert copied_share(word, other, n=2048) == 0
    assert (
        longest_copied(word, other + word) == (2048, 0, (other + word).find(word)) != (2048, 0, 0)
    )


def test_edges_of_copying():
    assert (
        longest_copied("", CORPUS)
        == longest_copied("abc", "")
        == longest_copied("abc", "xyz")
        == (0, 0, 0)
    )
    assert longest_copied(CORPUS[:1000], CORPUS) == (1000, 0, 0)
    assert longest_copied("abc", "xabcxabc") == (3, 0, 1)
    assert copied_share("abc", "abc") == 0  # shorter than n
