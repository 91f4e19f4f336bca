"""n-grams: counts of what followed each context, smoothed by interpolated modified Kneser-Ney. No gradient steps.

    p(w | h) = max(c(h w) - D(c(h w)), 0) / c(h) + gamma(h) p(w | h'),   h' = h without its oldest symbol
    gamma(h) = sum_w D(c(h w)) / c(h),   below the shortest context: 1 / V

The longest context has plain counts c; a shorter one that is only fallen back on has "continuation" counts, the
number of different symbols that were seen before h w, since it is asked where the longer ones failed (Kneser & Ney
1995). Each order and kind of count has three discounts D(1), D(2), D(3 or more) from the numbers n1 .. n4 of grams
seen once .. four times: Y = n1 / (n1 + 2 n2), D(i) = i - (i + 1) Y n(i+1) / n(i) (Chen & Goodman 1999, eq. 26).

What is unusual: both kinds of count are kept for every length. A query that knows only j symbols is answered by the
model of order j, exactly, so one fit holds the models of all orders, and windows cut out of a text lose as little
as can be. Contexts are the nodes of a trie, read from the newest symbol to the oldest, numbered level by level.

A query may leave out one part (a fold) of what was counted: it is answered by the counts of the rest, with the discounts
of all. Only what a fold changes is kept, so that memory does not grow with the number of folds.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import DataError, UsageError

FALLBACK = (0.5, 1.0, 1.5)  # D(1), D(2), D(3+) where the counts of counts say nothing
WHOLE = 2**22  # numbers for which the distributions after short contexts are kept whole
CHUNK = 2**17  # symbols scored at once
LEAST = torch.finfo(torch.float32).tiny
TABLES = ("nodes", "grams", "counts")  # their sizes are the data's


def contexts(s: Tensor, order: int) -> Tensor:
    """The ``order`` symbols before each one, oldest first, -1 where there are none: (B, T) -> (B, T, order)."""
    if not order or not s.shape[1]:
        return s.new_empty(*s.shape, order)
    return F.pad(s, (order, -1), value=-1).unfold(1, order, 1)


class KneserNey(nn.Module):
    """p(symbol | the ``order`` symbols before it), symbols 0 .. vocabulary-1; uniform until it is fitted.

    One text and separate sequences are told apart by the form of what is fitted. In a text, nothing is special about
    the first symbol: -1 in a context means that the past is not known. Separate sequences have a beginning, which is
    counted like a symbol: -1 means that nothing came before.

    Buffers, all that a checkpoint needs (their sizes follow the data; load_state_dict takes any):
        levels (order + 2,)         contexts of k symbols are the nodes levels[k] .. levels[k + 1] - 1, the empty one is node 0
        nodes (M - 1,)              node i + 1 is nodes[i] = (node of the context without its oldest symbol, that symbol + 1)
        grams (E,)                  (node, next symbol), sorted
        counts (E, 2)               continuation count, count
        discounts (order + 1, 2, 4) D(0) = 0, D(1), D(2), D(3+), for each length and kind of count
        begins ()                   whether sequences have a beginning
    Pairs (a, b) are packed as a (V + 1) + b in nodes and as a V + b in grams.

    Copies of a model share their counts: nothing trains them, and they may be large.
    """

    def __init__(self, order: int, vocabulary: int):
        super().__init__()
        if order < 0 or vocabulary < 1:
            raise UsageError(
                f"n-grams need an order of 0 or more and a vocabulary of 1 or more, not {order} and {vocabulary}"
            )
        self.order, self.vocabulary = order, vocabulary
        self.register_buffer("levels", torch.tensor([0] + [1] * (order + 1)))
        self.register_buffer("nodes", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("grams", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(0, 2, dtype=torch.int32))
        self.register_buffer("discounts", torch.tensor([0.0, *FALLBACK]).repeat(order + 1, 2, 1))
        self.register_buffer("begins", torch.tensor(False))
        for name in (
            "cells",
            "count",
            "weight",
            "first",
            "total",
            "gamma",
            "whole",
            "lost",
            "lost_cell",
            "lost_weight",
            "pairs",
            "scale",
            "rest",
            "whole_of_folds",
        ):
            self.register_buffer(name, None, persistent=False)
        self._derive()

    def __deepcopy__(self, memo) -> "KneserNey":
        return self

    @property
    def entries(self) -> int:
        """Number of different grams, of all lengths."""
        return len(self.grams)

    # -- counting ---------------------------------------------------------------------------------------------

    def fit(self, s, folds: Sequence[tuple[int, int]] = ()) -> "KneserNey":
        """Counts one text, s (n,), or separate sequences, s (N, T) or a list of (n_i,); arrays or tensors of integers.

        folds: (first, end) of parts that a query may leave out, in symbols of a text or in sequences; they may overlap. An
        occurrence belongs where its symbol stands. State dicts hold no folds.
        Raises DataError for symbols outside the vocabulary. Memory: some 100 bytes for each symbol, with folds 250.
        """
        V = self.vocabulary
        parts, begins = sequences(s)
        for part in parts:
            if part.size and not 0 <= part.min() <= part.max() < V:
                raise DataError(
                    f"symbols reach from {part.min()} to {part.max()}: they must lie in 0 .. {V - 1}"
                )
        flat = np.concatenate(
            [np.pad(part, [(0, 0), (self.order, 0)], constant_values=-1).ravel() for part in parts]
        )
        rows = np.concatenate([np.full(len(part), self.order + part.shape[1]) for part in parts])
        place = (
            np.repeat(np.arange(len(rows)), rows) if begins else np.arange(len(flat)) - self.order
        )  # what folds are given in
        here = np.flatnonzero(
            flat >= 0
        )  # positions whose context of k symbols exists, k = 0, 1, ..
        node = np.zeros(len(here), np.int64)  # their contexts, numbered within a level
        levels, nodes, grams, counts, lost, K = (
            [0, 1],
            [np.zeros(0, np.int64)],
            [],
            [],
            [],
            len(folds),
        )
        for k in range(self.order + 1):
            if k:
                oldest = flat[here - k]
                there = oldest >= 0
                if begins:  # the beginning is a symbol too, but nothing comes before it
                    there |= flat[here - k + 1] >= 0
                here = here[there]
                found, _, node = distinct(node[there] * (V + 1) + oldest[there] + 1, which=True)
                nodes.append(found + levels[k - 1] * (V + 1))
                levels.append(levels[k] + len(found))
            found, count, gram = distinct(node * V + flat[here], which=K > 0)
            if K:  # which grams each fold holds, and how often
                ends = np.searchsorted(place[here], folds)
                lost.append(
                    distinct(
                        np.concatenate([gram[a:b] * K + fold for fold, (a, b) in enumerate(ends)])
                    )[:2]
                )
            grams.append(found + levels[k] * V)
            counts.append(np.stack([np.zeros_like(count), count], 1))
        nodes = np.concatenate(nodes)
        discounts = np.zeros((self.order + 1, 2, 4))
        for k in range(self.order + 1):
            if (
                k < self.order
            ):  # each gram one symbol longer is one symbol seen before its shorter self
                shorter = nodes[grams[k + 1] // V - 1] // (V + 1) * V + grams[k + 1] % V
                shorter = np.searchsorted(grams[k], shorter)
                counts[k][:, 0] = np.bincount(shorter, minlength=len(grams[k]))
            if K:  # a gram that only this fold holds no longer continues its shorter self
                continued = np.zeros_like(lost[k][0])
                if k < self.order:
                    longer, held = lost[k + 1]
                    only = longer[held == counts[k + 1][longer // K, 1]]
                    continued = np.bincount(
                        np.searchsorted(lost[k][0], shorter[only // K] * K + only % K),
                        minlength=len(continued),
                    )
                lost[k] = (*lost[k], continued)
            for kind in (0, 1):
                discounts[k, kind, 1:] = discounts_of(counts[k][:, kind])
        found = {
            "levels": np.array(levels),
            "nodes": nodes,
            "grams": np.concatenate(grams),
            "begins": np.array(begins),
        }
        found |= {
            "counts": np.concatenate(counts).astype(np.int32),
            "discounts": discounts.astype(np.float32),
        }
        for name, array in found.items():
            setattr(self, name, torch.from_numpy(array).to(self.levels.device))
        if K:
            first = np.cumsum([0, *map(len, grams)])
            pair = np.concatenate([pair + first[k] * K for k, (pair, _, _) in enumerate(lost)])
            taken = np.stack([np.concatenate([level[i] for level in lost]) for i in (2, 1)], 1)
            self._derive(
                torch.from_numpy(pair // K), torch.from_numpy(pair % K), torch.from_numpy(taken), K
            )
        else:
            self._derive()
        return self

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        before = [getattr(self, name) for name in TABLES]
        for name in TABLES:
            if prefix + name in state_dict:
                setattr(self, name, getattr(self, name).new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        errors = rest[-1]
        if not errors and not self._consistent():
            errors.append(f"the tables of counts in {prefix or 'it'} do not go together")
        if not errors and not all(
            torch.equal(old, getattr(self, name)) for old, name in zip(before, TABLES)
        ):
            self._derive()  # folds are forgotten, unless these are the counts that were there

    def _consistent(self) -> bool:
        """Whether the tables have the forms and ranges that queries rely on: they may come from a file."""
        M, V, E = len(self.nodes) + 1, self.vocabulary, len(self.grams)
        forms = [
            (self.levels, (self.order + 2,)),
            (self.nodes, (M - 1,)),
            (self.grams, (E,)),
            (self.counts, (E, 2)),
        ]
        forms += [(self.discounts, (self.order + 1, 2, 4)), (self.begins, ())]
        if any(table.shape != form for table, form in forms):
            return False
        levels, inside = (
            self.levels.tolist(),
            lambda table, end: not len(table) or 0 <= int(table.min()) <= int(table.max()) < end,
        )
        return (
            levels[:2] == [0, 1]
            and levels[-1] == M
            and levels == sorted(levels)
            and inside(self.nodes, M * (V + 1))
            and inside(self.grams, M * V)
            and bool((self.grams[1:] > self.grams[:-1]).all())
            and bool((self.counts >= 0).all())
            and bool(torch.isfinite(self.discounts).all())
        )

    def _derive(
        self,
        gram: Tensor | None = None,
        fold: Tensor | None = None,
        taken: Tensor | None = None,
        folds: int = 0,
    ) -> None:
        """What queries read. A node that is asked as the whole of a context (plain counts) is numbered M higher than
        when it is fallen back on (continuation counts), so that from here on there is one kind of node.

            cells (G,), weight (G,)                   of each (node, symbol): packed as in grams; its (c - D(c)) / c(h)
            first (2M + 1,), gamma (2M,)              of each node: its cells are first[i] .. first[i + 1] - 1; gamma(h)

        Of K folds, gram, fold (L,): which grams each holds; taken (L, 2): by how much it lowers the counts. Of what changes:

            pairs (P,), scale (P,), rest (P,)         node K + fold; what the node's other weights are multiplied by; gamma
            lost (L,), lost_cell (L,), lost_weight (L,)   pair V + symbol; the cell; its weight without the fold
        """
        V, levels = self.vocabulary, self.levels.cpu()
        self._levels, M = levels.tolist(), int(levels[-1])
        grams, counts, discounts = (
            self.grams.cpu(),
            self.counts.cpu(),
            self.discounts.cpu().double(),
        )
        level = torch.bucketize(grams // V, levels[1:], right=True)
        seen = [counts[:, kind] > 0 for kind in (0, 1)]
        cells = torch.cat([grams[seen[0]], grams[seen[1]] + M * V])
        count = torch.cat([counts[seen[0], 0], counts[seen[1], 1]])
        discount = torch.cat(
            [
                discounts[level[seen[kind]], kind, counts[seen[kind], kind].clamp(max=3)]
                for kind in (0, 1)
            ]
        )
        owner = cells // V
        total = torch.zeros(2 * M, dtype=torch.int64).index_add_(0, owner, count.long())
        left = torch.zeros(2 * M, dtype=torch.float64).index_add_(0, owner, discount)
        derived = {
            "cells": cells,
            "weight": ((count - discount) / total[owner]).float(),
            "first": torch.searchsorted(cells, torch.arange(2 * M + 1) * V),
            "gamma": torch.where(total > 0, left / total, 1.0).float(),
        }
        if folds:
            kind = torch.arange(2).repeat_interleave(len(gram))
            gram, fold, taken = gram.repeat(2), fold.repeat(2), taken.T.flatten()
            gram, fold, taken, kind = (x[taken > 0] for x in (gram, fold, taken, kind))
            cell = torch.searchsorted(cells, grams[gram] + kind * M * V)
            D, c = discounts[level[gram], kind], counts[gram, kind]  # (L, 4), (L,)
            before, after = (
                D.gather(1, n.long().clamp(max=3)[:, None])[:, 0] for n in (c, c - taken)
            )
            pairs, pair = torch.unique(owner[cell] * folds + fold, return_inverse=True)
            n = total[pairs // folds].index_add(0, pair, -taken)
            left = left[pairs // folds].index_add(0, pair, after - before)
            lost, order = (pairs[pair] * V + cells[cell] % V).sort()
            derived |= {
                "pairs": pairs,
                "scale": (total[pairs // folds] / n.clamp(min=1)).float(),
                "rest": torch.where(n > 0, left / n, 1.0).float(),
                "lost": lost,
                "lost_cell": cell[order],
                "lost_weight": ((c - taken - after) / n[pair].clamp(min=1))[order].float(),
            }
        for name in (
            "pairs",
            "scale",
            "rest",
            "lost",
            "lost_cell",
            "lost_weight",
            "whole",
            "whole_of_folds",
        ):
            setattr(self, name, None)
        for name, tensor in derived.items():
            setattr(self, name, tensor.to(self.levels.device))
        self.folds = folds

    # -- queries ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def log_probs(self, contexts: Tensor, fold: Tensor | None = None) -> Tensor:
        """log p(. | context), natural log, for int64 contexts (N, order or fewer), oldest symbol first -> (N, V) float32.

        fold (N,): as if that fold had not been counted, exact but for the discounts, which stay those of all counts. What
        a training symbol's own counts, and those of the passage around it, say of it would be an echo.
        """
        if fold is not None and not self.folds:
            raise UsageError(
                "these n-grams were counted without folds, or by an earlier version of fromnoise: train anew"
            )
        return self._mixture(self._walk(contexts), fold).clamp_(min=LEAST).log_()

    @torch.no_grad()
    def score(self, s) -> Tensor:
        """-log p of each symbol given those before it, nats: (T,) -> (T,), or for each row (B, T) -> (B, T), float32."""
        s = (
            torch.as_tensor(s if isinstance(s, Tensor) else np.asarray(s, np.int64))
            .long()
            .to(self.levels.device)
        )
        self._check(s, 0)
        rows, found = torch.atleast_2d(s), []
        for block in rows.split(max(1, CHUNK // max(1, s.shape[-1]))):
            h = contexts(block, self.order).flatten(0, 1)
            found += [
                self._score(a, b) for a, b in zip(h.split(CHUNK), block.flatten().split(CHUNK))
            ]
        return torch.cat(found).view_as(s)

    def _score(self, h: Tensor, w: Tensor) -> Tensor:
        p = torch.full(w.shape, 1 / self.vocabulary, device=w.device)
        for node in self._walk(h):
            cell, hit = self._find(self.cells, node * self.vocabulary + w)
            weight = self.weight[cell] * hit if len(self.cells) else torch.zeros_like(p)
            p = weight + torch.where(node >= 0, self.gamma[node.clamp(min=0)], 1.0) * p
        return -p.clamp(min=LEAST).log()

    def _check(self, s: Tensor, least: int) -> None:
        if s.numel() and not least <= int(s.min()) <= int(s.max()) < self.vocabulary:
            raise UsageError(
                f"symbols reach from {int(s.min())} to {int(s.max())}: the n-grams know {least} .. {self.vocabulary - 1}"
            )

    @staticmethod
    def _find(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Where in the sorted keys, and whether at all."""
        at = torch.searchsorted(keys, wanted).clamp_(max=max(0, len(keys) - 1))
        return at, (keys[at] == wanted if len(keys) else torch.zeros_like(wanted, dtype=torch.bool))

    def _walk(self, h: Tensor) -> Tensor:
        """The node of the last k symbols of each context, -1 where they were never seen: (N, J) -> (J + 1, N)."""
        h = h[:, max(0, h.shape[1] - self.order) :]
        V, M, J = self.vocabulary, self._levels[-1], h.shape[1]
        self._check(h, -1)
        nodes = torch.zeros(J + 1, len(h), dtype=torch.int64, device=h.device)
        length = (h >= 0).flip(1).cumprod(1).sum(1)
        for k in range(1, J + 1):
            begin, end = self._levels[k : k + 2]
            at, hit = self._find(
                self.nodes[begin - 1 : end - 1], nodes[k - 1] * (V + 1) + h[:, -k] + 1
            )
            nodes[k] = torch.where(hit, at + begin, -1)
        if self.begins:
            length = (length + 1).clamp(max=J)
        top = nodes.gather(0, length[None])
        return nodes.scatter_(0, length[None], torch.where(top >= 0, top + M, -1))

    def _mix(self, p: Tensor, node: Tensor, fold: Tensor | None = None) -> None:
        """p <- weight + gamma p, in place, (N, V), in rows whose node is not -1."""
        V, rows = self.vocabulary, (node >= 0).nonzero()[:, 0]
        if not len(rows):
            return
        at = node[rows]
        row, cell, start = ranges(self.first[at], self.first[at + 1])
        weight, gamma = self.weight[cell], torch.ones(len(p), device=p.device)
        gamma[rows] = self.gamma[at]
        if fold is not None:
            pair, hit = self._find(self.pairs, at * self.folds + fold[rows])
            scale, pair, changed = (
                torch.ones(len(rows), device=p.device),
                pair[hit],
                hit.nonzero()[:, 0],
            )
            scale[changed], gamma[rows[changed]] = self.scale[pair], self.rest[pair]
            weight *= scale[row]
            ends = torch.searchsorted(
                self.lost, torch.stack([self.pairs[pair], self.pairs[pair] + 1]) * V
            )
            its, entry, _ = ranges(*ends)
            its = changed[its]
            weight[start[its] + self.lost_cell[entry] - self.first[at[its]]] = self.lost_weight[
                entry
            ]
        p *= gamma[:, None]
        p.view(-1).index_add_(0, self.cells[cell] + ((rows - at) * V)[row], weight)

    def _mixture(self, nodes: Tensor, fold: Tensor | None) -> Tensor:
        """p (N, V), from the distributions after short contexts, which are kept whole, to those after the whole context."""
        kept = self._kept(0 if fold is None else self.folds)
        longest, M = min(self._short(len(kept)), len(nodes) - 1), self._levels[-1]
        deepest = nodes[0]
        for node in nodes[1 : longest + 1]:
            deepest = torch.where(node >= 0, node, deepest)
        plain = deepest >= M
        p = kept[0 if fold is None else fold, plain.long(), deepest - M * plain]
        for k in range(longest + 1, len(nodes)):
            self._mix(p, nodes[k], fold)
        return p

    def _short(self, folds: int) -> int:
        """The longest contexts whose distributions are kept whole."""
        return max(
            k
            for k in range(self.order + 1)
            if k == 0 or self._levels[k + 1] * self.vocabulary * folds <= WHOLE
        )

    def _kept(self, folds: int) -> Tensor:
        """p (1 or folds, 2, nodes of short contexts, V), fallen back on and asked as the whole of a context."""
        name = "whole_of_folds" if folds else "whole"
        if getattr(self, name) is None:
            V, M, levels, short = (
                self.vocabulary,
                self._levels[-1],
                self._levels,
                self._short(max(1, folds)),
            )
            p = torch.empty(max(1, folds), 2, levels[short + 1], V, device=self.levels.device)
            for fold, q in enumerate(p):
                for k in range(short + 1):
                    node = torch.arange(levels[k], levels[k + 1], device=p.device)
                    for kind in (0, 1):
                        q[kind, node] = q[0, self.nodes[node - 1] // (V + 1)] if k else 1 / V
                        mixed = q[kind, levels[k] : levels[k + 1]]
                        self._mix(
                            mixed, node + kind * M, torch.full_like(node, fold) if folds else None
                        )
            setattr(self, name, p)
        return getattr(self, name)


def ranges(first: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All numbers first[i] .. end[i] - 1, one i after the other: which i each is of, the numbers, where those of each i start."""
    size = end - first
    start = size.cumsum(0) - size
    which = torch.arange(len(size), device=size.device).repeat_interleave(size)
    return which, torch.arange(len(which), device=size.device) + (first - start)[which], start


def sequences(s) -> tuple[list[np.ndarray], bool]:
    """One text or separate sequences as int64 arrays (n_i, T_i), and whether they are separate. Raises UsageError."""
    begins = isinstance(s, (list, tuple)) or s.ndim == 2
    parts = [
        np.asarray(part.cpu() if isinstance(part, Tensor) else part)
        for part in (s if isinstance(s, (list, tuple)) else [s])
    ]
    if not parts or any(part.ndim not in (1, 2) or part.dtype.kind not in "iu" for part in parts):
        raise UsageError(
            "n-grams are counted in integers: one text (n,), sequences (N, T) or a list of arrays (n_i,)"
        )
    return [np.atleast_2d(part).astype(np.int64) for part in parts], begins


def distinct(
    keys: np.ndarray, which: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The different keys, sorted, how often each occurs, and, if asked, which of them each key is."""
    if len(keys) and keys.max() < 4 * len(keys):  # a table is quicker than sorting
        table = np.bincount(keys)
        found = np.flatnonzero(table)
        count = table[found]
        if which:
            table[found] = np.arange(len(found))
        return found, count, table[keys] if which else None
    if which:
        found, inverse, count = np.unique(keys, return_inverse=True, return_counts=True)
        return found, count, inverse
    return *np.unique(keys, return_counts=True), None


def discounts_of(counts: np.ndarray) -> tuple[float, ...]:
    """D(1), D(2), D(3+) of modified Kneser-Ney; the fallback for those that come out undefined or outside (0, i)."""
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    found = []
    for i, fallback in enumerate(FALLBACK, 1):
        D = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[i + 1] / n[i] if n[1] and n[i] else 0.0
        found.append(D if 0 < D < i else fallback)
    return tuple(found)
