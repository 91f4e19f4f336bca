"""Optimisers, the learning rate over the budget, and the averages of the weights."""

import math

import torch
from torch import Tensor, nn

from ..core.errors import StorageError
from ..core.family import Family, Phase
from .settings import TrainConfig

DECAY = 0.4  # share of a warmup-stable-decay schedule in which the learning rate falls


class PhaseOptimizer:
    """The optimiser of all that one phase trains: one torch optimiser, or Muon and AdamW together."""

    def __init__(self, model: Family, phase: Phase, config: TrainConfig):
        named = {name: p for name, p in model.parameters_of(phase).items() if p.requires_grad}
        self.params = list(named.values())
        self.lr = phase.lr
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
            if matrices:
                # match_rms_adamw: one learning rate suits both (Liu et al. 2025, "Muon is scalable")
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
        """Replaces the state by one of ``tensors()``.

        Raises ValueError, KeyError, StorageError where it is of other parameters.
        """
        for _, optimizer in self.parts:
            optimizer.state.clear()
        for key, value in tensors.items():
            i, name, entry = key.split("/")
            try:
                named, optimizer = self.parts[int(i)]
                p = named[name]
            except (IndexError, KeyError):
                raise StorageError(
                    f"the optimiser's state of {name} is of another version: "
                    "train anew (sampling works)"
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
    share = max(0.0, (step - warmup) / max(1, steps - warmup))  # of the steps after the warmup
    falls = {
        "constant": 1.0,
        "linear": 1 - share,
        "cosine": 0.5 * (1 + math.cos(math.pi * share)),
        "wsd": min(1.0, (1 - share) / DECAY),
    }
    return rise * (config.lr_end + (1 - config.lr_end) * falls[config.schedule])
