"""Fully connected networks."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.spec import Condition

Activation = Literal["relu", "silu", "gelu", "tanh", "linear"]  # to choose from in options
ACTIVATIONS = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "linear": nn.Identity,
    "leaky": lambda: nn.LeakyReLU(0.2),
}


class MLP(nn.Module):
    """(B, n_in) and optionally a condition (B, n_condition), put beside the input -> (B, n_out)."""

    def __init__(
        self, n_in: int, hidden: Sequence[int], n_out: int, activation="silu", n_condition: int = 0
    ):
        super().__init__()
        widths = [n_in + n_condition, *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], n_out))

    def forward(self, x: Tensor, condition: Condition = None) -> Tensor:
        x = x.flatten(1)
        return self.layers(x if condition is None else torch.cat([x, condition], 1))
