"""One step of training, the same for every family: which phases are due, and what each of them updates."""

import math
from collections.abc import Sequence

import torch

from ..core.family import Family, Phase, turns
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
):
    """One step of the phases that are due: forward, zero_grad, backward, clip, step. Returns its terms and gradient norms.

    Freezing is ``backward(inputs=...)``: parameters outside the phase get no gradient and no update.
    """
    terms, norms = {}, {}
    for phase, place in due(model.phases(), step, stream.batches_per_epoch):
        if model.progress > phase.until:
            continue
        optimizer = optimizers[phase.trains]
        for repeat in range(phase.repeats):
            batch, key = stream.batch(place + repeat), rng.at("step", step, phase.name, repeat)
            key.seed_torch()
            with torch.autocast(
                batch.x.device.type, torch.bfloat16, enabled=config.precision == "bfloat16"
            ):
                loss = model.loss(batch, phase.name, key)
            optimizer.zero_grad()
            loss.value.backward(inputs=optimizer.params)
            norm, value = clip_gradients(optimizer.params, config.clip), float(loss.value.detach())
            terms |= {name: float(term.detach()) for name, term in loss.terms.items()}
            norms[phase.name] = norm
            if not (math.isfinite(norm) and math.isfinite(value)):
                raise health.NotFinite(step, health.describe_not_finite(terms, value, norm), model)
            optimizer.step(factor)
    return terms, norms


def due(phases: Sequence[Phase], step: int, batches_per_epoch: int) -> list[tuple[Phase, int]]:
    """The phases that run at a step, each with the number of its first batch; all batches are taken one after another.

    Usually every phase at each step. Phases with ``epochs`` take turns: "freeze G and train D for k epochs, then freeze
    D and train G for m epochs", over and over, so that a turn of an epoch sees each example once.
    """
    if not turns(phases, batches_per_epoch):
        first = step * sum(phase.repeats for phase in phases)
        places = [first + sum(phase.repeats for phase in phases[:i]) for i in range(len(phases))]
        return [(phase, place) for phase, place in zip(phases, places) if step % phase.every == 0]
    lengths = turns(phases, batches_per_epoch)
    cycle, step = divmod(step, sum(lengths))
    place = cycle * sum(length * phase.repeats for phase, length in zip(phases, lengths))
    for phase, length in zip(phases, lengths):
        if step < length:
            return [(phase, place + step * phase.repeats)]
        step, place = step - length, place + length * phase.repeats
    raise AssertionError


def clip_gradients(params: list[torch.Tensor], longest: float) -> float:
    """Shortens the gradient of all params together to norm ``longest`` if it is longer; returns its norm before."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in params if p.grad is not None])
    if norm > longest:  # the library's clip_grad_norm_ multiplies every gradient, every time
        torch.nn.utils.clip_grads_with_norm_(params, longest, norm)
    return float(norm)
