"""Look-ups in sorted tables of integers."""

import torch
from torch import Tensor


def is_below(table: Tensor, end: int) -> bool:
    """Whether all numbers lie in 0 .. end - 1."""
    return not len(table) or 0 <= int(table.min()) <= int(table.max()) < end


def find(keys: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (N,) of ``wanted`` in the sorted keys, and whether they are there."""
    at = torch.searchsorted(keys, wanted).clamp_(max=max(0, len(keys) - 1))
    return at, (keys[at] == wanted if len(keys) else torch.zeros_like(wanted, dtype=torch.bool))


def ranges(first: Tensor, end: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All numbers first[i] .. end[i] - 1, one i after the other.

    Returns the i of each number, the numbers, and where those of each i start.
    """
    size = end - first
    start = size.cumsum(0) - size
    which = torch.arange(len(size), device=size.device).repeat_interleave(size)
    return which, torch.arange(len(which), device=size.device) + (first - start)[which], start
