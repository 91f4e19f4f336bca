"""What a model costs: parameters, training seconds, memory, and how fast it samples."""

import statistics
import time

import torch

from ..core.config import build
from ..core.family import Predicts, count_parameters
from ..core.rng import Rng
from ..training.optim import callable_modules
from ..training.restore import Restored

BATCHES = (1, 256)


def cost(restored: Restored, seconds: float = 1.0) -> dict:
    """Costs of a run: clock readings, so they differ from one machine to the next and from hour to hour.

    samples_per_second   by batch size, medians over about ``seconds`` each
    network_calls        for one batch of samples: how often the busiest part of the network is called
    """
    events = restored.run.events("interval")
    return {
        "parameters": count_parameters(restored.model),
        "train_seconds": restored.run.seconds(),
        "memory_mb": events[-1]["memory_mb"] if events else 0.0,
        "threads": restored.run.record.threads,
        "samples_per_second": {str(size): speed(restored, size, seconds) for size in BATCHES},
        "network_calls": network_calls(restored),
    }


@torch.no_grad()
def speed(restored: Restored, size: int, seconds: float) -> float:
    """Samples in a second at batch size ``size``."""
    draw, times, begin = _sampler(restored, size), [], time.perf_counter()
    draw()
    while len(times) < 3 or time.perf_counter() - begin < seconds:  # a sampler of many steps is timed but once
        if times and time.perf_counter() - begin > 10 * seconds:
            break
        before = time.perf_counter()
        draw()
        times.append(time.perf_counter() - before)
        if len(times) >= 100:
            break
    return size / statistics.median(times)


@torch.no_grad()
def network_calls(restored: Restored) -> int:
    if isinstance(restored.model, Predicts) and restored.model.phases():  # one step for each symbol, which is no forward()
        return restored.model.length
    counts: dict[int, int] = {}

    def count(module, *_):
        counts[id(module)] = counts.get(id(module), 0) + 1

    hooks = [module.register_forward_hook(count) for module in callable_modules(restored.model, differentiated_twice=True)]
    try:
        _sampler(restored, 1)()
    finally:
        for hook in hooks:
            hook.remove()
    return max(counts.values(), default=0)


def _sampler(restored: Restored, size: int):
    model, y = restored.model, None
    if getattr(model.config, "conditional", False):
        y = restored.dataset.in_turn(range(size)).to(restored.device)
    options, rng = build(restored.family.Options, {}), Rng(0, ("cost",), device=restored.device)
    return lambda: float(model.sample(size, y, options, rng).flatten()[0])  # to the number: an accelerator only queues
