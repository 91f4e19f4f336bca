"""n-grams: counts of what followed each context, with interpolated modified Kneser-Ney smoothing.

    p(w | h) = max(c(h w) - D(c(h w)), 0) / c(h) + gamma(h) p(w | h'),   h' = h without its oldest symbol
    gamma(h) = sum_w D(c(h w)) / c(h),   below the shortest context: 1 / V

The longest context has plain counts c. A shorter one, as a fallback, has "continuation" counts: the
number of different symbols that occurred before h w (Kneser & Ney 1995). Each order and kind of count
has three discounts D(1), D(2), D(3 or more), from the numbers n1 .. n4 of grams that occur one to
four times: Y = n1 / (n1 + 2 n2), D(i) = i - (i + 1) Y n(i+1) / n(i) (Chen & Goodman 1999, eq. 26).

Both kinds of count are kept for every length. So a query with only j symbols of context is answered
exactly by the model of order j: one fit holds the models of all orders, and windows cut out of a text
lose as little as possible.

A query may leave out one part (a fold) of the counted data: it is answered from the counts of the
rest, with the discounts of all. Only what a fold changes is stored, so that memory does not grow with
the number of folds.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import UsageError
from .counting import FALLBACK, FoldCounts, count_grams
from .lookup import find, is_below, ranges
from .smoothing import NodeWeights

WHOLE = 2**22  # numbers up to which the distributions after short contexts are cached
CHUNK = 2**17  # symbols scored at once
LEAST = torch.finfo(torch.float32).tiny
TABLES = ("nodes", "grams", "counts")  # buffers whose sizes depend on the data
DERIVED = ("cells", "weight", "first", "gamma")  # of smoothing.py
DERIVED_OF_FOLDS = ("pairs", "scale", "rest", "lost", "lost_cell", "lost_weight")
CACHES = ("cached", "cached_of_folds")


def contexts(s: Tensor, order: int) -> Tensor:
    """The ``order`` symbols before each one, oldest first, -1 for none: (B, T) -> (B, T, order)."""
    if not order or not s.shape[1]:
        return s.new_empty(*s.shape, order)
    return F.pad(s, (order, -1), value=-1).unfold(1, order, 1)


class KneserNey(nn.Module):
    """p(symbol | the ``order`` symbols before it), symbols 0 .. vocabulary-1; uniform until it is fitted.

    The form of the fitted data says whether it is one text or separate sequences. The first symbol of
    a text is not special: -1 in a context means that the past is unknown. Separate sequences have a
    beginning, which is counted like a symbol: -1 means that nothing came before.

    Buffers in checkpoints (their sizes follow the data; load_state_dict takes any):
        levels (order + 2,)          contexts of k symbols are the nodes levels[k] .. levels[k + 1] - 1;
                                     node 0 is the empty one
        nodes (M - 1,)               node i + 1 is nodes[i] = (node of the context without its oldest
                                     symbol, that symbol + 1)
        grams (E,)                   (node, next symbol), sorted
        counts (E, 2)                continuation count, count
        discounts (order + 1, 2, 4)  D(0) = 0, D(1), D(2), D(3+), for each length and kind of count
        begins ()                    whether sequences have a beginning
    Pairs (a, b) are packed as a (V + 1) + b in nodes and as a V + b in grams.

    Copies of a model share their counts, which may be large and are not trained.
    """

    levels: Tensor
    nodes: Tensor
    grams: Tensor
    counts: Tensor
    discounts: Tensor
    begins: Tensor

    def __init__(self, order: int, vocabulary: int):
        super().__init__()
        if order < 0 or vocabulary < 1:
            text = "n-grams need an order of 0 or more and a vocabulary of 1 or more"
            raise UsageError(f"{text}, not {order} and {vocabulary}")
        self.order, self.vocabulary = order, vocabulary
        self.register_buffer("levels", torch.tensor([0] + [1] * (order + 1)))
        self.register_buffer("nodes", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("grams", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(0, 2, dtype=torch.int32))
        self.register_buffer("discounts", torch.tensor([0.0, *FALLBACK]).repeat(order + 1, 2, 1))
        self.register_buffer("begins", torch.tensor(False))
        for name in (*DERIVED, *DERIVED_OF_FOLDS, *CACHES):
            self.register_buffer(name, None, persistent=False)
        self._derive()

    def __deepcopy__(self, memo) -> "KneserNey":
        return self

    def fit(self, s, folds: Sequence[tuple[int, int]] = ()) -> "KneserNey":
        """Counts one text, s (n,), or separate sequences, s (N, T) or a list of (n_i,), of integers.

        folds: (first, end) of parts that a query may leave out, in symbols of a text or in sequences;
        they may overlap. A gram belongs to the fold of its last symbol. Checkpoints hold no folds.
        Raises DataError for symbols outside the vocabulary. Memory: some 100 bytes for each symbol,
        with folds 250.
        """
        tables = count_grams(s, self.order, self.vocabulary, folds)
        for name in ("levels", "nodes", "grams", "counts", "discounts"):
            setattr(self, name, torch.from_numpy(getattr(tables, name)).to(self.levels.device))
        self.begins = torch.tensor(tables.begins, device=self.levels.device)
        self._derive(tables.by_fold)
        return self

    def _derive(self, by_fold: FoldCounts | None = None) -> None:
        """The buffers that queries read (smoothing.py), from the counts."""
        self._levels = self.levels.tolist()
        self.folds = 0 if by_fold is None else by_fold.folds
        tables = (self.levels, self.grams, self.counts, self.discounts)
        weights = NodeWeights(self.vocabulary, *(table.cpu() for table in tables))
        derived = weights.of_nodes()
        if by_fold is not None:
            derived |= weights.of_folds(by_fold)
        for name in (*DERIVED_OF_FOLDS, *CACHES):
            setattr(self, name, None)
        for name, tensor in derived.items():
            setattr(self, name, tensor.to(self.levels.device))

    def _load_from_state_dict(self, state_dict, prefix, *rest) -> None:
        before = [getattr(self, name) for name in TABLES]
        for name in TABLES:
            if prefix + name in state_dict:
                setattr(self, name, getattr(self, name).new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
        errors = rest[-1]
        if errors:
            return
        if not self._is_consistent():
            errors.append(f"the tables of counts in {prefix or 'it'} do not go together")
        elif not all(torch.equal(old, getattr(self, name)) for old, name in zip(before, TABLES)):
            self._derive()  # folds are kept only if the counts are the same

    def _is_consistent(self) -> bool:
        """Whether the tables have the shapes and ranges that queries rely on: files may be damaged."""
        M = len(self.nodes) + 1
        V = self.vocabulary
        E = len(self.grams)
        shapes = {
            "levels": (self.order + 2,),
            "nodes": (M - 1,),
            "grams": (E,),
            "counts": (E, 2),
            "discounts": (self.order + 1, 2, 4),
            "begins": (),
        }
        if any(getattr(self, name).shape != shape for name, shape in shapes.items()):
            return False
        levels = self.levels.tolist()
        return (
            levels[:2] == [0, 1]
            and levels[-1] == M
            and levels == sorted(levels)
            and is_below(self.nodes, M * (V + 1))
            and is_below(self.grams, M * V)
            and bool((self.grams[1:] > self.grams[:-1]).all())
            and bool((self.counts >= 0).all())
            and bool(torch.isfinite(self.discounts).all())
        )

    # -- queries ----------------------------------------------------------------------------------

    @torch.no_grad()
    def log_probs(self, contexts: Tensor, fold: Tensor | None = None) -> Tensor:
        """log p(. | context), nats, for int64 contexts (N, order or fewer), oldest first: (N, V) float32.

        fold (N,): as if that fold had not been counted, exact but for the discounts, which stay those
        of all counts. So a network is trained with counts that do not contain the training symbols
        that it predicts.
        """
        if fold is not None and not self.folds:
            text = "these n-grams were counted without folds, or by an earlier version of fromnoise"
            raise UsageError(f"{text}: train anew")
        return self._mixture(self._context_nodes(contexts), fold).clamp_(min=LEAST).log_()

    @torch.no_grad()
    def score(self, s) -> Tensor:
        """-log p of each symbol given those before it, nats float32: (T,) or (B, T), as s."""
        s = torch.as_tensor(s if isinstance(s, Tensor) else np.asarray(s, np.int64))
        s = s.long().to(self.levels.device)
        self._check(s, 0)
        rows = torch.atleast_2d(s)
        nats = []
        for block in rows.split(max(1, CHUNK // max(1, s.shape[-1]))):
            h = contexts(block, self.order).flatten(0, 1)
            for part, w in zip(h.split(CHUNK), block.flatten().split(CHUNK)):
                nats.append(self._score(part, w))
        return torch.cat(nats).view_as(s)

    def _score(self, h: Tensor, w: Tensor) -> Tensor:
        """-log p(w | h), (N,), of contexts h (N, J) and symbols w (N,)."""
        p = torch.full(w.shape, 1 / self.vocabulary, device=w.device)
        for node in self._context_nodes(h):
            cell, hit = find(self.cells, node * self.vocabulary + w)
            weight = self.weight[cell] * hit if len(self.cells) else torch.zeros_like(p)
            p = weight + torch.where(node >= 0, self.gamma[node.clamp(min=0)], 1.0) * p
        return -p.clamp(min=LEAST).log()

    def _check(self, s: Tensor, least: int) -> None:
        if s.numel() and not least <= int(s.min()) <= int(s.max()) < self.vocabulary:
            raise UsageError(
                f"symbols reach from {int(s.min())} to {int(s.max())}: "
                f"the n-grams know {least} .. {self.vocabulary - 1}"
            )

    def _context_nodes(self, h: Tensor) -> Tensor:
        """Nodes of the last 0 .. J symbols of contexts (N, J), -1 if unseen: (J + 1, N)."""
        h = h[:, max(0, h.shape[1] - self.order) :]
        J = h.shape[1]
        self._check(h, -1)
        nodes = torch.zeros(J + 1, len(h), dtype=torch.int64, device=h.device)
        for k in range(1, J + 1):
            begin, end = self._levels[k : k + 2]
            key = nodes[k - 1] * (self.vocabulary + 1) + h[:, -k] + 1
            at, hit = find(self.nodes[begin - 1 : end - 1], key)
            nodes[k] = torch.where(hit, at + begin, -1)
        length = (h >= 0).flip(1).cumprod(1).sum(1)
        if self.begins:
            length = (length + 1).clamp(max=J)
        whole = nodes.gather(0, length[None])
        plain = torch.where(whole >= 0, whole + self._levels[-1], -1)
        return nodes.scatter_(0, length[None], plain)

    def _mix(self, p: Tensor, node: Tensor, fold: Tensor | None = None) -> None:
        """p <- weight + gamma p, in place, (N, V), in rows whose node is not -1."""
        V = self.vocabulary
        rows = (node >= 0).nonzero()[:, 0]
        if not len(rows):
            return
        at = node[rows]
        row, cell, start = ranges(self.first[at], self.first[at + 1])
        weight = self.weight[cell]
        gamma = torch.ones(len(p), device=p.device)
        gamma[rows] = self.gamma[at]
        if fold is not None:
            pair, hit = find(self.pairs, at * self.folds + fold[rows])
            pair = pair[hit]
            changed = hit.nonzero()[:, 0]
            scale = torch.ones(len(rows), device=p.device)
            scale[changed] = self.scale[pair]
            gamma[rows[changed]] = self.rest[pair]
            weight *= scale[row]
            keys = torch.stack([self.pairs[pair], self.pairs[pair] + 1]) * V
            which, entry, _ = ranges(*torch.searchsorted(self.lost, keys))
            which = changed[which]
            lost = start[which] + self.lost_cell[entry] - self.first[at[which]]
            weight[lost] = self.lost_weight[entry]
        p *= gamma[:, None]
        p.view(-1).index_add_(0, self.cells[cell] + ((rows - at) * V)[row], weight)

    def _mixture(self, nodes: Tensor, fold: Tensor | None) -> Tensor:
        """p (N, V): starts at the cached distributions after short contexts, adds the longer ones."""
        cached = self._cache(0 if fold is None else self.folds)
        longest = min(self._cached_length(len(cached)), len(nodes) - 1)
        M = self._levels[-1]
        deepest = nodes[0]
        for node in nodes[1 : longest + 1]:
            deepest = torch.where(node >= 0, node, deepest)
        plain = deepest >= M
        p = cached[0 if fold is None else fold, plain.long(), deepest - M * plain]
        for k in range(longest + 1, len(nodes)):
            self._mix(p, nodes[k], fold)
        return p

    def _cached_length(self, folds: int) -> int:
        """The length of the longest contexts whose distributions are cached."""
        sizes = [nodes * self.vocabulary * folds for nodes in self._levels[1:]]
        return max(k for k, size in enumerate(sizes) if k == 0 or size <= WHOLE)

    def _cache(self, folds: int) -> Tensor:
        """p (1 or folds, 2, nodes of short contexts, V), as a fallback and as a whole context."""
        name = "cached_of_folds" if folds else "cached"
        if getattr(self, name) is None:
            levels = self._levels
            longest = self._cached_length(max(1, folds))
            shape = (max(1, folds), 2, levels[longest + 1], self.vocabulary)
            p = torch.empty(shape, device=self.levels.device)
            for fold, q in enumerate(p):
                for k in range(longest + 1):
                    self._cache_level(q, k, fold if folds else None)
            setattr(self, name, p)
        return getattr(self, name)

    def _cache_level(self, q: Tensor, k: int, fold: int | None) -> None:
        """Fills in the distributions after contexts of k symbols, given those of k - 1 symbols."""
        begin, end = self._levels[k : k + 2]
        M = self._levels[-1]
        node = torch.arange(begin, end, device=q.device)
        folds = None if fold is None else torch.full_like(node, fold)
        for kind in (0, 1):
            shorter = self.nodes[node - 1] // (self.vocabulary + 1) if k else None
            q[kind, node] = q[0, shorter] if k else 1 / self.vocabulary
            self._mix(q[kind, begin:end], node + kind * M, folds)
