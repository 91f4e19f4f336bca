"""Averages of the weights: of several widths at once, and of a width in between (Karras et al. 2024)."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..core.family import Family


def gamma_from_width(width: float) -> float:
    """The power gamma of an average whose weights at time t, tau^gamma for tau in [0, t], have standard deviation ``width`` t.

    width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)): the largest root of a cubic (Karras et al. 2024, arXiv:2312.02696,
    appendix C). From width 12^-1/2 = 0.289, equal weights since the first step (gamma = 0), down to 0, the last ones only.
    """
    s = width**-2
    return float(np.roots([1, 7, 16 - s, 12 - s]).real.max())


def mixture_shares(widths: Sequence[float], wanted: float) -> list[float]:
    """Shares (they sum to 1) of averages of these widths whose mixture is nearest to the average of width ``wanted``.

    Least squares of the weights over time p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1), with the inner product
    <p_a, p_b> = (a + 1) (b + 1) / ((a + b + 1) t) (arXiv:2312.02696, appendix C), here with one t. From widths a factor of 2
    apart it is off by 5 % of the norm of p at most, in between.
    """

    def inner(a, b):
        return (a + 1) * (b + 1) / (a + b + 1)

    gamma, k = np.array([gamma_from_width(width) for width in widths]), len(widths)
    system = np.ones((k + 1, k + 1))
    system[:k, :k], system[k, k] = (
        inner(gamma[:, None], gamma),
        0,
    )  # the last row: constant weights stay as they are
    return np.linalg.lstsq(system, np.append(inner(gamma, gamma_from_width(wanted)), 1))[0][:k].tolist()


class Ema:
    """Running averages of the weights, side by side; ``model`` has the one in use, in the same memory.

    Without widths there is one, exponential, short at first: decay min(d, (1 + step) / (10 + step)); with decay 0 there is
    none, its weights are the model's own. With widths there is for each the mean of the weights after steps 1 .. t, that of
    step k in proportion to k^gamma, by decay (1 - 1/t)^(gamma + 1): as long a part of a short training as of a long one.
    """

    def __init__(self, model: Family, decay: float, widths: Sequence[float] = ()):
        self.model, self.decay, self.widths = (
            copy.deepcopy(model).eval().requires_grad_(False),
            decay,
            tuple(widths),
        )
        self.powers = [gamma_from_width(width) + 1 for width in widths]
        self._theirs = [p.detach() for p in model.parameters()]
        mine = (
            self._theirs
            if not decay and not widths
            else [p.detach() for p in self.model.parameters()]
        )
        self.weights = [mine, *([p.clone() for p in mine] for _ in widths[1:])]
        self.use(0)

    def use(self, index: int) -> None:
        """Makes the average of this place the one that ``model`` has."""
        self.index = index
        for own, average in zip(self.model.parameters(), self.weights[index]):
            own.data = average

    @torch.no_grad()
    def update(self, model: Family, step: int) -> None:
        if self.decay or self.widths:
            decays = [(1 - 1 / (step + 1)) ** power for power in self.powers] or [
                min(self.decay, (1 + step) / (10 + step))
            ]
            for mine, decay in zip(self.weights, decays):
                torch._foreach_lerp_(mine, self._theirs, 1 - decay)
        for mine, theirs in zip(
            self.model.buffers(), model.buffers()
        ):  # running statistics are averages already
            mine.copy_(theirs)

    def others(self) -> dict[str, Tensor]:
        """The averages that are not in use, keyed "average WIDTH/parameter"."""
        names = [name for name, _ in self.model.named_parameters()]
        unused = [
            (width, mine)
            for i, (width, mine) in enumerate(zip(self.widths, self.weights))
            if i != self.index
        ]
        return {
            f"average {width}/{name}": p for width, mine in unused for name, p in zip(names, mine)
        }

    @torch.no_grad()
    def load(self, index: int, used: dict[str, Tensor], others: dict[str, Tensor]) -> None:
        """Takes over a state: which average is in use, ``model.state_dict()``, and ``others()`` among other tensors."""
        self.use(index)
        self.model.load_state_dict(used)
        for name, p in self.others().items():
            p.copy_(others[name])
