"""Optimisers, the learning rate over the budget, and the average of the weights."""

import copy
import math

import torch
from torch import Tensor, nn

from ..core.family import Family, Phase
from .settings import TrainConfig

DECAY = 0.4  # share of a warmup-stable-decay schedule in which the learning rate falls


class PhaseOptimizer:
    """The optimiser of everything that one phase trains: one torch optimiser, or Muon and AdamW side by side."""

    def __init__(self, model: Family, phase: Phase, config: TrainConfig):
        named = {name: p for name, p in model.parameters_of(phase).items() if p.requires_grad}
        self.params, self.lr = list(named.values()), phase.lr
        adam = {"lr": phase.lr, "betas": phase.betas, "fused": not any(p.is_complex() for p in self.params)}
        self.parts: list[tuple[dict[str, Tensor], torch.optim.Optimizer]] = []
        if config.optimizer == "muon":
            tables = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.Embedding)}
            matrices = {name: p for name, p in named.items() if p.ndim == 2 and name not in tables}
            named = {name: p for name, p in named.items() if name not in matrices}
            if matrices:  # the rule that makes one learning rate serve both (Liu et al. 2025, "Muon is scalable")
                muon = torch.optim.Muon(
                    matrices.values(), lr=phase.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
                )
                self.parts.append((matrices, muon))
        if named:
            kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
            self.parts.append((named, kind(named.values(), weight_decay=config.weight_decay, **adam)))

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
        """Takes over a state of ``tensors()``; none of the present one is left."""
        for _, optimizer in self.parts:
            optimizer.state.clear()
        for key, value in tensors.items():
            i, name, entry = key.split("/")
            named, optimizer = self.parts[int(i)]
            p = named[name]
            optimizer.state[p][entry] = value.to(p.device)


def make_optimizers(model: Family, config: TrainConfig) -> dict[tuple[str, ...], PhaseOptimizer]:
    """One optimiser for each distinct ``trains``: phases that train the same parameters share their state."""
    return {phase.trains: PhaseOptimizer(model, phase, config) for phase in model.phases()}


def lr_factor(step: int, steps: int, config: TrainConfig) -> float:
    """Learning rate at ``step`` of ``steps`` relative to the phase's, in (0, 1]."""
    warmup = max(1, round(config.warmup * steps))
    rise = min(1.0, (step + 1) / warmup)
    done = max(0.0, (step - warmup) / max(1, steps - warmup))
    falls = {"constant": 1.0, "linear": 1 - done, "cosine": 0.5 * (1 + math.cos(math.pi * done)), "wsd": min(1.0, (1 - done) / DECAY)}
    return rise * (config.lr_end + (1 - config.lr_end) * falls[config.schedule])


class Ema:
    """A running average of the weights, short at first: decay min(d, (1 + step) / (10 + step)).

    With decay 0 there is no average: its weights are the model's own, in the same memory.
    """

    def __init__(self, model: Family, decay: float):
        self.model, self.decay = copy.deepcopy(model).eval().requires_grad_(False), decay
        self._pairs = None

    @torch.no_grad()
    def update(self, model: Family, step: int) -> None:
        if self._pairs is None:
            mine, theirs = dict(self.model.named_parameters()), dict(model.named_parameters())
            self._pairs = list(mine.values()), [theirs[name] for name in mine]
            if not self.decay:
                for own, other in zip(*self._pairs):
                    own.data = other.data
        if self.decay:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(*self._pairs, 1 - decay)
        for mine, theirs in zip(self.model.buffers(), model.buffers()):  # running statistics are averages already
            mine.copy_(theirs)


def callable_modules(model: Family) -> list[nn.Module]:
    """The largest parts of what is trained that are called as functions: what torch.compile can take hold of.

    It cannot of a part whose gradient is itself differentiated (``Family.second_order``).
    """

    def descend(module: nn.Module):
        if type(module).forward is nn.Module.forward:  # a container with methods of its own
            for child in module.children():
                yield from descend(child)
        else:
            yield module

    names = dict.fromkeys(name for phase in model.phases() for name in phase.trains if name not in model.second_order)
    return [part for name in names for part in descend(model.get_submodule(name))]
