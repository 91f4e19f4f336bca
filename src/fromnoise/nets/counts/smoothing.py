"""From counts of n-grams to the weights of interpolated modified Kneser-Ney (ngram.py).

A node has plain counts as the whole of a context, and continuation counts when it is a fallback. The
first is numbered M higher than the second (M nodes), so that there is one kind of node from here on.
"""

import torch
from torch import Tensor

from .counting import FoldCounts


def node_weights(
    V: int,
    levels: Tensor,
    grams: Tensor,
    counts: Tensor,
    discounts: Tensor,
    by_fold: FoldCounts | None = None,
) -> dict[str, Tensor]:
    """What queries read, from tables on the CPU.

        cells (G,), weight (G,)       each (node, symbol), packed as in grams; (c - D(c)) / c(h)
        first (2M + 1,), gamma (2M,)  node i has the cells first[i] .. first[i + 1] - 1; gamma(h)

    and the values of ``fold_weights``.
    """
    M = int(levels[-1])
    discounts = discounts.double()
    level = torch.bucketize(grams // V, levels[1:], right=True)
    positive = [counts[:, kind] > 0 for kind in (0, 1)]
    cells = torch.cat([grams[positive[0]], grams[positive[1]] + M * V])
    count = torch.cat([counts[positive[kind], kind] for kind in (0, 1)])
    discount = torch.cat(
        [
            discounts[level[positive[kind]], kind, counts[positive[kind], kind].clamp(max=3)]
            for kind in (0, 1)
        ]
    )
    node = cells // V
    total = torch.zeros(2 * M, dtype=torch.int64).index_add_(0, node, count.long())  # c(h)
    left = torch.zeros(2 * M, dtype=torch.float64).index_add_(0, node, discount)
    weights = {
        "cells": cells,
        "weight": ((count - discount) / total[node]).float(),
        "first": torch.searchsorted(cells, torch.arange(2 * M + 1) * V),
        "gamma": torch.where(total > 0, left / total, 1.0).float(),
    }
    if by_fold is None:
        return weights
    gram = torch.from_numpy(by_fold.gram)
    return weights | fold_weights(
        V,
        by_fold.folds,
        torch.from_numpy(by_fold.fold),
        torch.from_numpy(by_fold.counts),
        grams[gram],
        counts[gram],
        discounts[level[gram]],
        M,
        cells,
        total,
        left,
    )


def fold_weights(
    V: int,
    folds: int,
    fold: Tensor,
    lowered: Tensor,
    grams: Tensor,
    counts: Tensor,
    discounts: Tensor,
    M: int,
    cells: Tensor,
    total: Tensor,
    left: Tensor,
) -> dict[str, Tensor]:
    """What each of K folds changes when it is left out.

    fold, grams (L,), counts (L, 2) and discounts (L, 2, 4) of the grams that a fold holds, and by how
    much leaving it out lowers their counts (L, 2).

        pairs (P,), scale (P,), rest (P,)            node K + fold; factor of the node's other weights; gamma
        lost (L,), lost_cell (L,), lost_weight (L,)  pair V + symbol; the cell; its weight without the fold
    """
    # Both kinds of count, one after the other.
    taken = lowered.T.flatten()
    changed = taken > 0
    taken = taken[changed]
    kind = torch.arange(2).repeat_interleave(len(fold))[changed]
    fold = fold.repeat(2)[changed]
    c = counts.T.flatten()[changed]
    D = discounts.transpose(0, 1).flatten(0, 1)[changed]  # L 4
    cell = torch.searchsorted(cells, grams.repeat(2)[changed] + kind * M * V)
    before = D.gather(1, c.long().clamp(max=3)[:, None])[:, 0]
    after = D.gather(1, (c - taken).long().clamp(max=3)[:, None])[:, 0]
    pairs, pair = torch.unique(cells[cell] // V * folds + fold, return_inverse=True)
    n = total[pairs // folds].index_add(0, pair, -taken)
    left = left[pairs // folds].index_add(0, pair, after - before)
    lost, order = (pairs[pair] * V + cells[cell] % V).sort()
    return {
        "pairs": pairs,
        "scale": (total[pairs // folds] / n.clamp(min=1)).float(),
        "rest": torch.where(n > 0, left / n, 1.0).float(),
        "lost": lost,
        "lost_cell": cell[order],
        "lost_weight": ((c - taken - after) / n[pair].clamp(min=1))[order].float(),
    }
