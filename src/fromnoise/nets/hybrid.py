"""Predictions of the next symbol by a network, by n-grams, or by both together.

net, counts: either may be None. mix: the weights "network" and "counts" of a hybrid.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .counts.ngram import KneserNey, contexts


def predict(
    net: nn.Module | None,
    counts: KneserNey | None,
    s: Tensor,
    start: Tensor,
    fold: Tensor | None = None,
) -> tuple[Any, Any]:
    """The network's logits and the log p of the n-grams for symbols s (B, T): (B, T, V) or None.

    start (B,): start tokens. fold (B,): of the training set, which the counts leave out.
    """
    logits = None if net is None else net(s, start).float()
    if counts is None:
        return logits, None
    fold = None if fold is None else fold.repeat_interleave(s.shape[1])
    context = contexts(s, counts.order).flatten(0, 1)
    return logits, counts.log_probs(context, fold).view(*s.shape, -1)


def combine(mix: nn.ParameterDict, logits: Tensor | None, log_p: Tensor | None) -> Tensor:
    """log p up to a constant: one of the two, or the weighted sum of both."""
    if logits is None or log_p is None:
        return log_p if logits is None else logits
    return mix["network"] * logits + mix["counts"] * log_p


@dataclass
class Reader:
    """State of n sequences that are read symbol by symbol. start_symbol: (n,)."""

    net: Any
    counts: KneserNey | None
    mix: nn.ParameterDict
    start_symbol: Tensor

    def __post_init__(self):
        n = len(self.start_symbol)
        if self.net is not None:
            self.state = self.net.begin(n)
        if self.counts is not None:
            self.context = self.start_symbol.new_full((n, self.counts.order), -1)

    def step(self, symbol: Tensor | None) -> Tensor:
        """Reads one symbol (n,), None at the start -> log p of the next symbol, (n, V)."""
        log_p = None
        if self.counts is not None:
            if symbol is not None and self.counts.order:
                self.context = torch.cat([self.context[:, 1:], symbol[:, None]], 1)
            log_p = self.counts.log_probs(self.context)
        logits = None
        if self.net is not None:
            read = self.start_symbol if symbol is None else symbol
            logits = self.net.step(self.state, read).float()
        return combine(self.mix, logits, log_p).log_softmax(1)
