"""Fully connected networks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "tanh": nn.Tanh, "linear": nn.Identity, "leaky": lambda: nn.LeakyReLU(0.2)}


class MLP(nn.Module):
    """(B, n_in) and optionally a condition (B, n_condition), put beside the input -> (B, n_out)."""

    def __init__(self, n_in: int, hidden: Sequence[int], n_out: int, activation="silu", n_condition: int = 0):
        super().__init__()
        widths = [n_in + n_condition, *hidden]
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:]):
            layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], n_out))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        x = x.flatten(1)
        return self.layers(x if condition is None else torch.cat([x, condition], 1))


class Waves(nn.Module):
    """x (B, D), variance 1 -> (B, width): each number beside its cosines and sines of n periods, 8, 4, 2 .. standard deviations.

    A network is slow to learn what changes over short distances (Tancik et al. 2020, arXiv:2006.10739).
    """

    def __init__(self, dims: int, n: int):
        super().__init__()
        self.register_buffer("frequency", math.pi / 4 * 2.0 ** torch.arange(n), persistent=False)
        self.width = dims * (1 + 2 * n)

    def forward(self, x: Tensor) -> Tensor:
        angle = (x[:, :, None] * self.frequency).flatten(1)
        return torch.cat([x, angle.cos(), angle.sin()], 1)
