"""How far two sets of numbers lie apart."""

import torch
from torch import Tensor

PAIRED = 500  # rows whose distances from each other are measured


def separation(above: Tensor, below: Tensor) -> float:
    """P(a > b) + P(a = b) / 2 for scores a of ``above`` (n,), b of ``below`` (m,): the area under
    the ROC curve.

    All pairs are ranked, so that it does not matter what a score means in a loss. 0.5: no
    difference.
    """
    below = below.sort().values
    wins = (
        torch.searchsorted(below, above).double()
        + torch.searchsorted(below, above, right=True).double()
    )
    return float(wins.mean()) / (2 * len(below))


def mean_distance(x: Tensor) -> float:
    """Mean Euclidean distance between two different rows of x (n, d)."""
    return float(torch.pdist(x[:PAIRED]).mean())
