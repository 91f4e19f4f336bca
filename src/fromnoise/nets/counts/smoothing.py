"""From counts of n-grams to the weights of interpolated modified Kneser-Ney (ngram.py).

A node has plain counts as the whole of a context, and continuation counts when it is a fallback. The
first is numbered M higher than the second (M nodes), so that there is one kind of node from here on.
"""

import torch
from torch import Tensor

from .counting import FoldCounts


class NodeWeights:
    """What queries read, from tables on the CPU.

    cells (G,)    each (node, symbol), packed as in grams
    count (G,)    c
    discount (G,) D(c)
    total (2M,)   c(h) of each node
    left (2M,)    the sum of its discounts
    """

    def __init__(self, V: int, levels: Tensor, grams: Tensor, counts: Tensor, discounts: Tensor):
        self.V = V
        self.nodes = int(levels[-1])
        self.grams = grams
        self.counts = counts
        self.level = torch.bucketize(grams // V, levels[1:], right=True)
        self.discounts = discounts.double()
        cells, count, discount = zip(*(self.tables(kind) for kind in (0, 1)))
        self.cells = torch.cat(cells)
        self.count = torch.cat(count)
        self.discount = torch.cat(discount)
        node = self.cells // V
        zeros = torch.zeros(2 * self.nodes, dtype=torch.float64)
        self.total = zeros.long().index_add(0, node, self.count.long())
        self.left = zeros.index_add(0, node, self.discount)

    def tables(self, kind: int) -> tuple[Tensor, Tensor, Tensor]:
        """Cells, counts and discounts of continuation counts (kind 0) or plain ones (1)."""
        count = self.counts[:, kind]
        rows = count > 0
        discount = self.discounts[self.level[rows], kind, count[rows].clamp(max=3)]
        return self.grams[rows] + kind * self.nodes * self.V, count[rows], discount

    def of_nodes(self) -> dict[str, Tensor]:
        """cells (G,), weight (G,)       (c - D(c)) / c(h)
        first (2M + 1,), gamma (2M,)  node i has the cells first[i] .. first[i + 1] - 1; gamma(h)
        """
        weight = (self.count - self.discount) / self.total[self.cells // self.V]
        return {
            "cells": self.cells,
            "weight": weight.float(),
            "first": torch.searchsorted(self.cells, torch.arange(2 * self.nodes + 1) * self.V),
            "gamma": torch.where(self.total > 0, self.left / self.total, 1.0).float(),
        }

    def of_folds(self, by_fold: FoldCounts) -> dict[str, Tensor]:
        """What each of K folds changes when it is left out.

        pairs (P,), scale (P,), rest (P,)            node K + fold; factor of the node's other weights; gamma
        lost (L,), lost_cell (L,), lost_weight (L,)  pair V + symbol; the cell; its weight without the fold
        """
        K = by_fold.folds
        gram = torch.from_numpy(by_fold.gram)
        # Both kinds of count, one after the other.
        lowered = torch.from_numpy(by_fold.counts).T.flatten()
        changed = lowered > 0
        lowered = lowered[changed]
        kind = torch.arange(2).repeat_interleave(len(gram))[changed]
        fold = torch.from_numpy(by_fold.fold).repeat(2)[changed]
        count = self.counts[gram].T.flatten()[changed]
        discounts = self.discounts[self.level[gram]].transpose(0, 1).flatten(0, 1)[changed]  # L 4
        cell = torch.searchsorted(
            self.cells, self.grams[gram].repeat(2)[changed] + kind * self.nodes * self.V
        )
        before, after = (
            discounts.gather(1, c.long().clamp(max=3)[:, None])[:, 0]
            for c in (count, count - lowered)
        )
        pairs, pair = torch.unique(self.cells[cell] // self.V * K + fold, return_inverse=True)
        total = self.total[pairs // K]
        n = total.index_add(0, pair, -lowered)
        left = self.left[pairs // K].index_add(0, pair, after - before)
        lost, order = (pairs[pair] * self.V + self.cells[cell] % self.V).sort()
        return {
            "pairs": pairs,
            "scale": (total / n.clamp(min=1)).float(),
            "rest": torch.where(n > 0, left / n, 1.0).float(),
            "lost": lost,
            "lost_cell": cell[order],
            "lost_weight": ((count - lowered - after) / n[pair].clamp(min=1))[order].float(),
        }
