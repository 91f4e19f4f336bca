"""Optimisers, the learning rate over the budget, and the averages of the weights."""

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ..core.errors import StorageError
from ..core.family import Family, Phase
from .settings import TrainConfig

DECAY = 0.4  # share of a warmup-stable-decay schedule in which the learning rate falls


class PhaseOptimizer:
    """The optimiser of everything that one phase trains: one torch optimiser, or Muon and AdamW side by side."""

    def __init__(self, model: Family, phase: Phase, config: TrainConfig):
        named = {name: p for name, p in model.parameters_of(phase).items() if p.requires_grad}
        self.params, self.lr = list(named.values()), phase.lr
        adam = {
            "lr": phase.lr,
            "betas": phase.betas,
            "fused": not any(p.is_complex() for p in self.params),
        }
        self.parts: list[tuple[dict[str, Tensor], torch.optim.Optimizer]] = []
        if config.optimizer == "muon":
            embeddings = {
                name for name, module in model.named_modules() if isinstance(module, nn.Embedding)
            }
            others = {f"{name}.weight" for name in embeddings | set(model.first_and_last)}
            matrices = {name: p for name, p in named.items() if p.ndim == 2 and name not in others}
            named = {name: p for name, p in named.items() if name not in matrices}
            if matrices:  # the rule that makes one learning rate serve both (Liu et al. 2025, "Muon is scalable")
                muon = torch.optim.Muon(
                    matrices.values(),
                    lr=phase.lr,
                    weight_decay=config.weight_decay,
                    adjust_lr_fn="match_rms_adamw",
                )
                self.parts.append((matrices, muon))
        if named:
            kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
            self.parts.append(
                (named, kind(named.values(), weight_decay=config.weight_decay, **adam))
            )

    def zero_grad(self) -> None:
        for p in self.params:
            p.grad = None

    def step(self, lr_factor: float) -> None:
        for _, optimizer in self.parts:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * lr_factor
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """The whole state as tensors, keyed part/parameter/entry."""
        return {
            f"{i}/{name}/{entry}": value
            for i, (named, optimizer) in enumerate(self.parts)
            for name, p in named.items()
            for entry, value in optimizer.state.get(p, {}).items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes over a state of ``tensors()``; none of the present one is left. Raises ValueError, KeyError where it is of other parameters."""
        for _, optimizer in self.parts:
            optimizer.state.clear()
        for key, value in tensors.items():
            i, name, entry = key.split("/")
            try:
                named, optimizer = self.parts[int(i)]
                p = named[name]
            except (IndexError, KeyError):
                raise StorageError(
                    f"the optimiser's state of {name} is of another version: train anew (sampling works)"
                ) from None
            if value.ndim and value.shape != p.shape:
                raise ValueError(
                    f"the optimiser's {entry} of {name} is {list(value.shape)}, not {list(p.shape)}"
                )
            optimizer.state[p][entry] = value.to(p.device)


def make_optimizers(model: Family, config: TrainConfig) -> dict[tuple[str, ...], PhaseOptimizer]:
    """One optimiser for each distinct ``trains``: phases that train the same parameters share their state."""
    return {phase.trains: PhaseOptimizer(model, phase, config) for phase in model.phases()}


def lr_factor(step: float, steps: int, config: TrainConfig) -> float:
    """Learning rate at ``step`` of ``steps`` relative to the phase's, in (0, 1]."""
    warmup = max(1, round(config.warmup * steps))
    rise = min(1.0, (step + 1) / warmup)
    done = max(0.0, (step - warmup) / max(1, steps - warmup))
    falls = {
        "constant": 1.0,
        "linear": 1 - done,
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "wsd": min(1.0, (1 - done) / DECAY),
    }
    return rise * (config.lr_end + (1 - config.lr_end) * falls[config.schedule])


def gamma_of(width: float) -> float:
    """The power gamma of an average whose weights at time t, tau^gamma for tau in [0, t], have standard deviation ``width`` t.

    width^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)): the largest root of a cubic (Karras et al. 2024, arXiv:2312.02696,
    appendix C). From width 12^-1/2 = 0.289, equal weights since the first step (gamma = 0), down to 0, the last ones only.
    """
    s = width**-2
    return float(np.roots([1, 7, 16 - s, 12 - s]).real.max())


def blend(widths: Sequence[float], wanted: float) -> list[float]:
    """Shares (they sum to 1) of averages of these widths whose mixture is nearest to the average of width ``wanted``.

    Least squares of the weights over time p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1), with the inner product
    <p_a, p_b> = (a + 1) (b + 1) / ((a + b + 1) t) (arXiv:2312.02696, appendix C), here with one t. From widths a factor of 2
    apart it is off by 5 % of the norm of p at most, in between.
    """

    def inner(a, b):
        return (a + 1) * (b + 1) / (a + b + 1)

    gamma, k = np.array([gamma_of(width) for width in widths]), len(widths)
    system = np.ones((k + 1, k + 1))
    system[:k, :k], system[k, k] = (
        inner(gamma[:, None], gamma),
        0,
    )  # the last row: constant weights stay as they are
    return np.linalg.lstsq(system, np.append(inner(gamma, gamma_of(wanted)), 1))[0][:k].tolist()


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
        self.powers = [gamma_of(width) + 1 for width in widths]
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


def callable_modules(model: Family, differentiated_twice: bool = False) -> list[nn.Module]:
    """The largest parts of what is trained that are called as functions: what torch.compile can take hold of.

    It cannot of a part whose gradient is itself differentiated (``Family.second_order``): those only if asked for.
    """

    def descend(module: nn.Module):
        if type(module).forward is nn.Module.forward:  # a container with methods of its own
            for child in module.children():
                yield from descend(child)
        else:
            yield module

    names = dict.fromkeys(
        name
        for phase in model.phases()
        for name in phase.trains
        if differentiated_twice or name not in model.second_order
    )
    return [part for name in names for part in descend(model.get_submodule(name))]
