"""Byte-pair encoding: pieces of a text, and the pairs of symbols to merge in them.

Source: Sennrich et al. 2016, arXiv:1508.07909, on bytes.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise

BYTES = 256  # symbols that are single bytes
# Different pieces, the most frequent, that merges are learned from: rarer ones would hardly count.
MAX_PIECES = 2**14

# A piece is a word with the space before it, or other white space: merges never cross its ends. It
# holds whole characters, at most 24, so that a line without any space is no endless word. Every
# byte is in some piece.
PIECE = re.compile(rb" ?(?:[^\s\x80-\xbf][\x80-\xbf]{0,3}){1,24}|\s{1,24}|[\x80-\xbf]{1,24}")

Pair = tuple[int, int]


def split_pieces(blocks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The pieces of a text, block by block. The last of a block may go on in the next block."""
    rest = b""
    for block in blocks:
        pieces = PIECE.findall(rest + block)
        rest = pieces.pop() if pieces else b""
        yield pieces
    yield [rest] if rest else []


def merge_pair(symbols: list[int], pair: Pair, new: int) -> list[int]:
    """The symbols with each occurrence of the pair, from the left, replaced by the new one."""
    first, second = pair
    merged = []
    i = 0
    while i < len(symbols):
        if symbols[i] == first and i + 1 < len(symbols) and symbols[i + 1] == second:
            merged.append(new)
            i += 2
        else:
            merged.append(symbols[i])
            i += 1
    return merged


def learn_merges(blocks: Iterable[bytes], vocabulary: int) -> list[Pair]:
    """The pairs to merge for a vocabulary of at most so many symbols: repeatedly the most frequent.

    Of equally frequent pairs the smaller goes first, so that the same text always gives the same
    merges. Ends early when no pair occurs twice.
    """
    counts = Counter(chain.from_iterable(split_pieces(blocks)))
    words = PieceCounts(counts.most_common(MAX_PIECES))
    merges: list[Pair] = []
    while len(merges) < vocabulary - BYTES:
        pair = words.pop_most_frequent_pair()
        if pair is None:
            break
        words.merge(pair, BYTES + len(merges))
        merges.append(pair)
    return merges


class PieceCounts:
    """Counts of the pairs in the pieces of a text.

    Each distinct piece is held once with its count, a merge visits only the pieces that hold its
    pair, and a heap yields the next pair (its outdated entries are skipped).
    """

    def __init__(self, pieces: list[tuple[bytes, int]]):
        self.words = [list(piece) for piece, _ in pieces]
        self.weights = [count for _, count in pieces]
        self.totals: Counter[Pair] = Counter()
        self.words_with: dict[Pair, set[int]] = defaultdict(set)
        for i, word in enumerate(self.words):
            for pair in pairwise(word):
                self.totals[pair] += self.weights[i]
                self.words_with[pair].add(i)
        self.heap = [(-total, pair) for pair, total in self.totals.items() if total > 1]
        heapify(self.heap)

    def pop_most_frequent_pair(self) -> Pair | None:
        """None if no pair occurs twice."""
        while self.heap:
            negative_total, pair = heappop(self.heap)
            if -negative_total == self.totals[pair]:
                return pair
        return None

    def merge(self, pair: Pair, new: int) -> None:
        """Replaces the pair by a new symbol in all words."""
        change: Counter[Pair] = Counter()
        for i in self.words_with.pop(pair):
            for old_pair in pairwise(self.words[i]):
                change[old_pair] -= self.weights[i]
            self.words[i] = merge_pair(self.words[i], pair, new)
            for new_pair in pairwise(self.words[i]):
                change[new_pair] += self.weights[i]
                self.words_with[new_pair].add(i)
        for changed_pair, difference in change.items():
            if not difference:
                continue
            self.totals[changed_pair] += difference
            if self.totals[changed_pair] > 1:
                heappush(self.heap, (-self.totals[changed_pair], changed_pair))
