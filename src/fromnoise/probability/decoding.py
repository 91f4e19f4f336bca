"""Sampling of the next symbol (n,) from its log probabilities (n, V).

A filter maps log p (nats, -inf: excluded) to log p up to a constant in each row. All computations
are in float64 on the CPU, where sums are sequential: every machine draws the same symbol from the
same numbers, and never one of probability 0.
"""

import math

import torch
from pydantic import Field
from torch import Tensor

from ..core.config import BaseConfig, PositiveShare, Share
from ..core.errors import DataError

RECENT = 64  # symbols that the repetition penalty applies to


class DecodingOptions(BaseConfig):
    """How the next symbol is drawn; the defaults leave the model's distribution unchanged."""

    temperature: float = Field(
        1.0,
        ge=0,
        le=100,
        description="p^(1/temperature), normalised; 0 takes the most likely symbol",
    )
    top_k: int = Field(0, ge=0, description="only the k most likely symbols; 0: all")
    top_p: PositiveShare = Field(
        1.0,
        description="only the fewest symbols that have this probability together (nucleus)",
    )
    min_p: Share = Field(
        0.0,
        description="only symbols at least so probable, as a share of the most likely one",
    )
    repetition_penalty: float = Field(
        1.0, ge=1, le=100, description=f"makes the last {RECENT} symbols less likely; 1: does not"
    )


def choose_symbol(
    log_p: Tensor, history: Tensor | None, options: DecodingOptions, u: Tensor
) -> Tensor:
    """The next symbol of each row, (n,) int64; rows do not depend on each other.

    log_p (n, V) nats; history (n, H): the symbols before, -1 where there is none; u (n,) uniform
    in [0, 1), float64. Raises DataError if a row is no distribution (NaN, or all of it 0).
    """
    return inverse_cdf(filtered_log_p(log_p, history, options), u).to(log_p.device)


def filtered_log_p(log_p: Tensor, history: Tensor | None, options: DecodingOptions) -> Tensor:
    """log of the distribution that is sampled, (n, V) float64 nats, normalised.

    Filters are applied in this order: repetition penalty, temperature, top-k, top-p, min-p.
    """
    log_p = log_p.detach().cpu().double()
    if not bool(torch.isfinite(log_p.amax(1)).all()):
        raise DataError(
            "the model gives no probabilities of the next symbol (NaN, or 0 for all): "
            "it diverged; use an earlier --checkpoint"
        )
    if history is not None:
        log_p = repetition_penalty(log_p, history.cpu(), options.repetition_penalty)
    log_p = temperature(log_p, options.temperature)
    log_p = min_p(top_p(top_k(log_p, options.top_k), options.top_p), options.min_p)
    return log_p.log_softmax(1)


def inverse_cdf(log_p: Tensor, u: Tensor) -> Tensor:
    """The first symbol at which the cumulative distribution exceeds u, (n,)."""
    cumulative = log_p.softmax(1).cumsum(1)  # n V
    total = cumulative[:, -1:]
    below_total = total.nextafter(torch.zeros_like(total))
    target = torch.minimum(u[:, None].cpu().double() * total, below_total)
    # P(s - 1) <= target < P(s), so p(s) > 0
    return torch.searchsorted(cumulative, target, right=True)[:, 0]


def temperature(log_p: Tensor, value: float) -> Tensor:
    """log p / temperature. At 0 its limit: all mass on the most likely symbol, the first if equal."""
    if value == 0:
        return torch.full_like(log_p, -math.inf).scatter(1, log_p.argmax(1, keepdim=True), 0.0)
    return (log_p - log_p.amax(1, keepdim=True)) / value  # finite for any temperature


def top_k(log_p: Tensor, k: int) -> Tensor:
    """Keeps exactly k symbols (Fan et al. 2018), of equal ones the smaller numbers; 0 or k >= V:
    all.
    """
    if not 0 < k < log_p.shape[1]:
        return log_p
    return log_p.scatter(1, _most_likely_first(log_p)[:, k:], -math.inf)


def top_p(log_p: Tensor, mass: float) -> Tensor:
    """The nucleus: the fewest symbols with ``mass`` together or more (Holtzman et al. 2020, eq. 2)."""
    if mass >= 1:
        return log_p
    order = _most_likely_first(log_p)
    p = log_p.softmax(1).gather(1, order)
    # A symbol is excluded if those before it have enough mass; rounding may leave their sum below.
    excluded = p.cumsum(1) - p >= mass * (1 - 1e-9)
    return log_p.scatter(1, order, log_p.gather(1, order).masked_fill(excluded, -math.inf))


def min_p(log_p: Tensor, share: float) -> Tensor:
    """Keeps symbols with p >= share * max p (Nguyen et al. 2024, eq. 2)."""
    if share == 0:
        return log_p
    return log_p.masked_fill(log_p < log_p.amax(1, keepdim=True) + math.log(share), -math.inf)


def repetition_penalty(log_p: Tensor, history: Tensor, penalty: float) -> Tensor:
    """Divides the logits of the last RECENT symbols of history (n, H) by ``penalty``.

    After Keskar et al. 2019, section 4.1. log p gives logits up to a constant only: here their mean
    is 0, as for most networks, and negative ones are multiplied, since a division would raise them.
    -1 in the history stands for no symbol.
    """
    if penalty == 1 or history.shape[1] == 0:
        return log_p
    n, V = log_p.shape
    possible = log_p > -math.inf
    mean = log_p.where(possible, 0.0).sum(1, keepdim=True) / possible.sum(1, keepdim=True)
    logits = log_p - mean
    recent = history[:, -RECENT:]
    occurs = torch.zeros(n, V + 1, dtype=torch.bool)  # column V: no symbol
    occurs = occurs.scatter(1, recent.where(recent >= 0, V), True)[:, :V]
    penalised = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(occurs, penalised, logits)


def _most_likely_first(log_p: Tensor) -> Tensor:
    """(n, V) symbols of each row; equal ones in the order of their numbers."""
    return log_p.argsort(dim=1, descending=True, stable=True)
