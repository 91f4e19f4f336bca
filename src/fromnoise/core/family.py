"""The contract between a family of generative models and the rest of the package.

``Family`` is the only base class. A family declares what it can do beyond sampling by having the
methods of a capability (``core.capabilities``).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from .config import BaseConfig
from .errors import UsageError
from .rng import Rng
from .spec import Batch, DataSpec, Labels


@dataclass(frozen=True)
class Phase:
    """One part of a training step: which sub-modules are updated, and how.

    "Update the discriminator with the generator frozen, then the other way round" is two phases.

    trains   names of the sub-modules that are updated: attributes of the family, or paths such as
             "vae.net.decoder"
    every    run only at steps divisible by this number
    repeats  number of updates in a row, each on a batch of its own
    until    share of the training after which the phase stops
    epochs   phases take turns: this one alone for so many epochs, then the next one
             (0: all phases run at each step)
    """

    name: str
    trains: tuple[str, ...]
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    every: int = 1
    repeats: int = 1
    epochs: float = 0.0
    until: float = 1.0


@dataclass(frozen=True)
class Loss:
    """value: the scalar to minimise; terms: its named parts, scalars, for reports."""

    value: Tensor
    terms: dict[str, Tensor]


class Family(nn.Module):
    """A generative model and its training objective.

    progress: the share of the training budget that is done, in [0, 1]. The loop sets it at each step,
        in the averaged model too; a loaded checkpoint has the value of its step. Objectives that change
        over time (KL warm-up) and networks that grow read it. It is 1 during validation, so that the
        values of different steps are comparable.
    cost_stages: the training has so many equal parts whose steps differ in cost (networks that grow).
        The time estimate measures steps in each part.
    second_order: sub-modules whose gradient is part of a loss (a gradient penalty, an adaptive weight).
        They cannot be compiled.
    first_and_last: names of linear layers and convolutions at the input and the output of a network.
        The optimiser Muon leaves them to AdamW, as its authors recommend.
    latent_images: True if images (C, H, W) with levels = 0, of unbounded values, are accepted:
        a grid of codes.
    """

    config: Any  # the family's Config
    cost_stages: int = 1
    second_order: tuple[str, ...] = ()
    first_and_last: tuple[str, ...] = ()
    latent_images: bool = False

    def __init__(self, config: BaseConfig, spec: DataSpec):
        super().__init__()
        self.config = config
        self.spec = spec
        self.progress = 1.0

    @property
    def trained_config(self) -> BaseConfig:
        """The configuration whose fields are the options of this model's training."""
        return self.config

    @property
    def conditional(self) -> bool:
        """True for a model of p(x | y): it takes labels or captions."""
        return bool(getattr(self.config, "conditional", False))

    def phases(self) -> tuple[Phase, ...]:
        """The parts of one training step; empty for a model that is fitted in closed form."""
        raise NotImplementedError

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        """The objective of one phase on one batch."""
        raise NotImplementedError

    def sample(self, n: int, y: Labels, options: BaseConfig, rng: Rng) -> Tensor:
        """n new examples (n, *spec.shape), in the range of the data; y: (n,) labels or None."""
        raise NotImplementedError

    def condition(self, y: Labels) -> Tensor | None:
        """The input that stands for y; None for a model of p(x). Raises UsageError without y.

        Labels (B,) become one-hot rows (B, classes); captions (B, L) stay as they are.
        """
        if not self.conditional:
            return None
        if y is None:
            raise UsageError("this model learned p(x | y): give a label")
        return y if self.spec.caption else one_hot(y, self.spec.classes).float()

    def lacks(self, capability: type) -> bool:
        """True if this model cannot do what its class has the methods for (``has``)."""
        return False

    def parameters_of(self, phase: Phase) -> dict[str, nn.Parameter]:
        """Name -> parameter of everything that the phase trains."""
        return {
            f"{module}.{name}": parameter
            for module in phase.trains
            for name, parameter in self.get_submodule(module).named_parameters()
        }


def delegate(part: str, name: str) -> Callable:
    """A method that calls the method ``name`` of the attribute ``part``."""

    def method(self, *args, **options):
        return getattr(getattr(self, part), name)(*args, **options)

    return method


def collect(parts: Iterable[Tensor], most: int) -> Tensor:
    """The first ``most`` rows of consecutive parts (n_i, ...); no part is computed beyond them."""
    rows = []
    count = 0
    for part in parts:
        rows.append(part)
        count += len(part)
        if count >= most:
            break
    return torch.cat(rows)[:most]


def sum_per_example(values: Tensor) -> Tensor:
    """(B, ...) -> (B,)"""
    return values.flatten(1).sum(1)


@torch.no_grad()
def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def turns(phases: Sequence[Phase], batches_per_epoch: int) -> list[int]:
    """The number of steps of each phase's turn; empty if phases do not take turns.

    Raises UsageError if only some of the phases take turns.
    """
    if not any(phase.epochs for phase in phases):
        return []
    for phase in phases:
        if not phase.epochs or phase.every != 1:
            raise UsageError(
                f"phase {phase.name}: either all phases take turns (epochs above 0, every 1), "
                "or none does"
            )
    return [max(1, round(phase.epochs * batches_per_epoch / phase.repeats)) for phase in phases]
