"""One step of training, the same for every family: which phases are due, and what each updates."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..core.family import Family, Loss, Phase, turns
from ..core.rng import Rng
from ..data.stream import Stream
from .monitor import health
from .settings import TrainConfig


def train_step(
    model: Family,
    optimizers: dict,
    stream: Stream,
    step: int,
    rng: Rng,
    config: TrainConfig,
    factor: float,
) -> tuple[dict[str, float], dict[str, float]]:
    """One step of the phases that are due: forward, zero_grad, backward, clip, step.

    Returns the terms of the losses and the gradient norm of each phase, of its last repeat. Each
    repeat has a batch of its own. factor: multiplies all learning rates. Freezing is
    ``backward(inputs=...)``: parameters outside the phase get no gradient and no update. Raises
    DivergedError, before the update, if the loss or the gradient is not finite.
    """
    terms, norms = {}, {}
    for phase, first_batch in due_phases(model.phases(), step, stream.batches_per_epoch):
        if model.progress > phase.until:
            continue
        optimizer = optimizers[phase.trains]
        for repeat in range(phase.repeats):
            batch = stream.batch(first_batch + repeat)
            phase_rng = rng.at("step", step, phase.name, repeat)
            phase_rng.seed_torch()
            with autocast(batch.x.device, config.precision):
                loss = model.loss(batch, phase.name, phase_rng)
            optimizer.zero_grad()
            loss.value.backward(inputs=optimizer.params)
            norms[phase.name] = clip_gradients(optimizer.params, config.clip)
            terms |= {name: float(term.detach()) for name, term in loss.terms.items()}
            check_finite(loss, terms, norms[phase.name], step, model)
            optimizer.step(factor)
    return terms, norms


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision within it, if the precision is bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def check_finite(loss: Loss, terms: dict[str, float], norm: float, step: int, model: Family):
    """Raises DivergedError. norm: of the gradient."""
    value = float(loss.value.detach())
    if not (math.isfinite(norm) and math.isfinite(value)):
        raise health.NotFinite(step, health.describe_not_finite(terms, value, norm), model)


def due_phases(
    phases: Sequence[Phase], step: int, batches_per_epoch: int
) -> list[tuple[Phase, int]]:
    """The phases that run at a step, each with the number of its first batch.

    Usually every phase at each step. Phases with ``epochs`` take turns: "freeze G and train D for k
    epochs, then freeze D and train G for m epochs", over and over, so that a turn of an epoch sees
    each example once. Together the phases use all batches, one after another.
    """
    lengths = turns(phases, batches_per_epoch)
    if not lengths:
        due = []
        first_batch = step * sum(phase.repeats for phase in phases)
        for phase in phases:
            if step % phase.every == 0:
                due.append((phase, first_batch))
            first_batch += phase.repeats
        return due
    cycle, place = divmod(step, sum(lengths))
    first_batch = cycle * sum(length * phase.repeats for phase, length in zip(phases, lengths))
    for phase, length in zip(phases, lengths):
        if place < length:
            return [(phase, first_batch + place * phase.repeats)]
        place -= length
        first_batch += length * phase.repeats
    raise AssertionError("place is below the sum of all lengths")


def clip_gradients(params: list[Tensor], longest: float) -> float:
    """Shortens the gradient of all params together to norm ``longest`` if it is longer; returns its
    norm before."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
    # the library's clip_grad_norm_ multiplies every gradient, every time
    if norm > longest:
        torch.nn.utils.clip_grads_with_norm_(params, longest, norm)
    return float(norm)
