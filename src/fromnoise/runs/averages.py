"""Averages of the weights: of several widths at once, and of any width between them.

Post-hoc EMA: Karras et al. 2024, arXiv:2312.02696.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..core.family import Family


def gamma_from_width(width: float) -> float:
    """The power gamma of an average with the relative width ``width``.

    The weights at time t are proportional to tau^gamma for tau in [0, t]; their standard deviation is
    width * t: width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), the largest root of a cubic
    (arXiv:2312.02696, appendix C). Width 12^-1/2 = 0.289 is gamma = 0, equal weights since the first
    step; width 0 is the last step only.
    """
    s = width**-2
    return float(np.roots([1, 7, 16 - s, 12 - s]).real.max())


def mixture_shares(widths: Sequence[float], wanted: float) -> list[float]:
    """Shares, with sum 1, of averages of these widths: their mixture approximates width ``wanted``.

    Least squares of the weights over time p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1), with the
    inner product <p_a, p_b> = (a + 1) (b + 1) / ((a + b + 1) t) (arXiv:2312.02696, appendix C), here
    with one t. Between widths a factor of 2 apart the error is at most 5 % of the norm of p.
    """

    def inner(a, b):
        return (a + 1) * (b + 1) / (a + b + 1)

    gamma = np.array(list(map(gamma_from_width, widths)))
    k = len(widths)
    system = np.ones((k + 1, k + 1))  # the last row and column: the shares have sum 1
    system[:k, :k] = inner(gamma[:, None], gamma)
    system[k, k] = 0
    target = np.append(inner(gamma, gamma_from_width(wanted)), 1)
    return np.linalg.lstsq(system, target)[0][:k].tolist()


class Ema:
    """Running averages of the weights. ``model`` has the selected one, in the same memory.

    Without widths there is one exponential average, short at first: decay
    min(d, (1 + step) / (10 + step)). With decay 0 there is none: ``model`` has the trained weights.
    With widths there is one average for each: the mean of the weights after steps 1 .. t, that of step
    k in proportion to k^gamma, by decay (1 - 1/t)^(gamma + 1). It spans the same share of a training,
    short or long.
    """

    def __init__(self, model: Family, decay: float, widths: Sequence[float] = ()):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.widths = tuple(widths)
        self.powers = [gamma_from_width(width) + 1 for width in widths]
        self._trained = [p.detach() for p in model.parameters()]
        first = self._trained
        if decay or widths:
            first = [p.detach() for p in self.model.parameters()]
        self.weights = [first]
        for _ in widths[1:]:
            self.weights.append([p.clone() for p in first])
        self.use(0)

    def use(self, index: int) -> None:
        """Selects the average with this index for ``model``."""
        self.index = index
        for parameter, average in zip(self.model.parameters(), self.weights[index]):
            parameter.data = average

    @torch.no_grad()
    def update(self, model: Family, step: int) -> None:
        """Updates all averages with the weights after ``step`` (from 0 on), and copies the buffers."""
        for average, decay in zip(self.weights, self._decays(step)):
            torch._foreach_lerp_(average, self._trained, 1 - decay)
        # buffers such as running statistics are averages already
        for buffer, trained in zip(self.model.buffers(), model.buffers()):
            buffer.copy_(trained)

    def _decays(self, step: int) -> list[float]:
        """The decay of each average at this step; empty if there is none."""
        if self.widths:
            return [(1 - 1 / (step + 1)) ** power for power in self.powers]
        return [min(self.decay, (1 + step) / (10 + step))] if self.decay else []

    def others(self) -> dict[str, Tensor]:
        """The averages that are not selected, with keys "average WIDTH/parameter"."""
        names = [name for name, _ in self.model.named_parameters()]
        others = {}
        for index, (width, average) in enumerate(zip(self.widths, self.weights)):
            if index != self.index:
                others |= {f"average {width}/{name}": p for name, p in zip(names, average)}
        return others

    @torch.no_grad()
    def load(self, index: int, selected: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
        """Restores a state.

        index: of the selected average; selected: its ``model.state_dict()``; tensors: contain those
        of ``others()``.
        """
        self.use(index)
        self.model.load_state_dict(selected)
        for name, p in self.others().items():
            p.copy_(tensors[name])
