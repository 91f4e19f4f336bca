"""Counting of n-grams with NumPy.

The contexts are the nodes of a trie, read from the newest symbol to the oldest, numbered level by
level; a gram is a node and the symbol that followed. KneserNey (ngram.py) describes the tables.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ...core.errors import DataError, UsageError

FALLBACK = (0.5, 1.0, 1.5)  # D(1), D(2), D(3+) where the counts of counts do not define them


@dataclass
class FoldCounts:
    """Grams of each of K folds: index (L,) into all grams, fold (L,), and the part (L, 2) that the
    fold has in the gram's two counts."""

    folds: int
    gram: np.ndarray
    fold: np.ndarray
    counts: np.ndarray


@dataclass
class GramCounts:
    """The tables of KneserNey, as arrays; by_fold: None without folds."""

    levels: np.ndarray
    nodes: np.ndarray
    grams: np.ndarray
    counts: np.ndarray
    discounts: np.ndarray
    begins: bool
    by_fold: FoldCounts | None


@dataclass
class ContextLevel:
    """The grams with contexts of k symbols: sorted grams (n,), counts (n, 2).

    Of K folds: held (m,) are the pairs gram K + fold that occur, and how often (m,).
    """

    grams: np.ndarray
    counts: np.ndarray
    held: np.ndarray | None = None
    held_count: np.ndarray | None = None


def count_grams(s, order: int, V: int, folds: Sequence[tuple[int, int]]) -> GramCounts:
    """Counts a text or sequences, as KneserNey.fit. Raises DataError for symbols outside 0 .. V-1."""
    parts, begins = sequences(s)
    check_symbols(parts, V)
    padded = [np.pad(part, [(0, 0), (order, 0)], constant_values=-1).ravel() for part in parts]
    flat = np.concatenate(padded)
    place = np.arange(len(flat)) - order  # in units of the folds: symbols of a text
    if begins:  # or sequences
        lengths = np.concatenate([np.full(len(part), order + part.shape[1]) for part in parts])
        place = np.repeat(np.arange(len(lengths)), lengths)
    levels, nodes, tables = count_levels(flat, place, order, V, begins, folds)
    discounts = np.zeros((order + 1, 2, 4))
    continued = []  # of the grams of each fold: how far it lowers the continuation count
    for k, level in enumerate(tables):
        longer = tables[k + 1] if k < order else None
        shorter = None
        if longer is not None:
            # Each gram one symbol longer is one symbol that occurred before its shorter self.
            shorter = nodes[longer.grams // V - 1] // (V + 1) * V + longer.grams % V
            shorter = np.searchsorted(level.grams, shorter)
            level.counts[:, 0] = np.bincount(shorter, minlength=len(level.grams))
        if folds:
            continued.append(lost_continuations(level, longer, shorter, len(folds)))
        for kind in (0, 1):
            discounts[k, kind, 1:] = discounts_of(level.counts[:, kind])
    return GramCounts(
        levels,
        nodes,
        np.concatenate([level.grams for level in tables]),
        np.concatenate([level.counts for level in tables]).astype(np.int32),
        discounts.astype(np.float32),
        begins,
        fold_counts(tables, continued, len(folds)) if folds else None,
    )


def count_levels(
    flat: np.ndarray,
    place: np.ndarray,
    order: int,
    V: int,
    begins: bool,
    folds: Sequence[tuple[int, int]],
) -> tuple[np.ndarray, np.ndarray, list[ContextLevel]]:
    """levels, nodes and the grams of each level; continuation counts are still 0.

    flat: symbols, -1 where there is none; place: where each symbol stands, in units of the folds.
    """
    K = len(folds)
    here = np.flatnonzero(flat >= 0)  # positions whose context of k symbols exists, k = 0, 1, ..
    node = np.zeros(len(here), np.int64)  # their contexts, numbered within a level
    levels = [0, 1]
    nodes = [np.zeros(0, np.int64)]
    tables = []
    for k in range(order + 1):
        if k:
            oldest = flat[here - k]
            exists = oldest >= 0
            if begins:  # the beginning is a symbol too, but nothing comes before it
                exists |= flat[here - k + 1] >= 0
            here = here[exists]
            keys, _, node = distinct(node[exists] * (V + 1) + oldest[exists] + 1, inverse=True)
            nodes.append(keys + levels[k - 1] * (V + 1))
            levels.append(levels[k] + len(keys))
        keys, count, gram = distinct(node * V + flat[here], inverse=K > 0)
        level = ContextLevel(keys + levels[k] * V, np.stack([np.zeros_like(count), count], 1))
        if K:
            ends = np.searchsorted(place[here], folds)
            pairs = np.concatenate([gram[a:b] * K + fold for fold, (a, b) in enumerate(ends)])
            level.held, level.held_count, _ = distinct(pairs)
        tables.append(level)
    return np.array(levels), np.concatenate(nodes), tables


def lost_continuations(
    level: ContextLevel, longer: ContextLevel | None, shorter: np.ndarray | None, K: int
) -> np.ndarray:
    """By how much each fold lowers the continuation counts of its grams, (m,).

    A gram that only one fold holds does not continue its shorter self without that fold.
    """
    if longer is None:
        return np.zeros_like(level.held)
    only = longer.held[longer.held_count == longer.counts[longer.held // K, 1]]
    pairs = np.searchsorted(level.held, shorter[only // K] * K + only % K)
    return np.bincount(pairs, minlength=len(level.held))


def fold_counts(tables: list[ContextLevel], continued: list[np.ndarray], K: int) -> FoldCounts:
    first = np.cumsum([0, *(len(level.grams) for level in tables)])
    pair = np.concatenate([level.held + first[k] * K for k, level in enumerate(tables)])
    held = np.concatenate([level.held_count for level in tables])
    return FoldCounts(K, pair // K, pair % K, np.stack([np.concatenate(continued), held], 1))


def sequences(s) -> tuple[list[np.ndarray], bool]:
    """One text or separate sequences as int64 arrays (n_i, T_i), and whether they are separate.

    Raises UsageError.
    """
    is_list = isinstance(s, list | tuple)
    parts = []
    for part in s if is_list else [s]:
        parts.append(np.asarray(part.cpu() if isinstance(part, Tensor) else part))
    if not parts or any(part.ndim not in (1, 2) or part.dtype.kind not in "iu" for part in parts):
        raise UsageError(
            "n-grams are counted in integers: one text (n,), sequences (N, T) or a list of arrays (n_i,)"
        )
    return [np.atleast_2d(part).astype(np.int64) for part in parts], is_list or s.ndim == 2


def check_symbols(parts: list[np.ndarray], V: int) -> None:
    for part in parts:
        if part.size and not 0 <= part.min() <= part.max() < V:
            raise DataError(
                f"symbols reach from {part.min()} to {part.max()}: they must lie in 0 .. {V - 1}"
            )


def distinct(
    keys: np.ndarray, inverse: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The different keys, sorted, how often each occurs, and if asked the index of each key."""
    if len(keys) and keys.max() < 4 * len(keys):  # a table is quicker than sorting
        table = np.bincount(keys)
        unique = np.flatnonzero(table)
        count = table[unique]
        if not inverse:
            return unique, count, None
        table[unique] = np.arange(len(unique))
        return unique, count, table[keys]
    if inverse:
        unique, index, count = np.unique(keys, return_inverse=True, return_counts=True)
        return unique, count, index
    return *np.unique(keys, return_counts=True), None


def discounts_of(counts: np.ndarray) -> tuple[float, ...]:
    """D(1), D(2), D(3+) of modified Kneser-Ney; FALLBACK where undefined or outside (0, i)."""
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    discounts = []
    for i, fallback in enumerate(FALLBACK, 1):
        D = 0.0
        if n[1] and n[i]:
            D = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[i + 1] / n[i]
        discounts.append(D if 0 < D < i else fallback)
    return tuple(discounts)
