"""What a model costs: parameters, training seconds, memory, and how fast it samples."""

import statistics
import time

import torch

from ..core.capabilities import Predicts, has
from ..core.config import build
from ..core.device import compilable_modules
from ..core.family import count_parameters
from ..core.rng import Rng
from ..runs.load import LoadedRun

# batch sizes: the first and the largest that is affordable are reported
SIZES = (
    1,
    4,
    16,
    64,
    256,
)
REPEATS = 100  # draws of one size at most


def cost(loaded: LoadedRun, seconds: float = 1.0, limit: float = 60.0) -> dict:
    """Costs of a run: clock readings, so they differ from one machine to the next and from hour to
    hour.

    samples_per_second   by batch size: of 1, and of 256 or as many as can be drawn within the
                         limit; see ``speeds``
    network_calls        for one batch of samples: how often the busiest part of the network is
                         called
    """
    calls = network_calls(loaded)  # first: what a first call costs more is not timed
    events = loaded.run.events("interval")
    return {
        "parameters": count_parameters(loaded.model),
        "train_seconds": loaded.run.seconds(),
        "memory_mb": events[-1]["memory_mb"] if events else 0.0,
        "threads": loaded.run.record.threads,
        "samples_per_second": {
            str(size): speed for size, speed in speeds(loaded, seconds, limit).items()
        },
        "network_calls": calls,
    }


@torch.no_grad()
def speeds(loaded: LoadedRun, seconds: float, limit: float) -> dict[int, float]:
    """Samples in a second one at a time and at the largest of SIZES that is affordable, medians
    over ``seconds`` each.

    A larger batch is drawn only where four times the time of the one before still fits into
    ``limit`` seconds of drawing in all, and repeated only while another draw fits. So a model that
    needs long for one sample costs one draw.
    """
    begin = time.perf_counter()
    times = {}
    largest = SIZES[0]

    def timed(size: int) -> float:
        before = time.perf_counter()
        _sampler(loaded, size)()
        return time.perf_counter() - before

    def left():
        return limit - (time.perf_counter() - begin)

    for size in SIZES:
        if times and 4 * times[largest][0] > left():
            break
        times[size] = [timed(size)]
        largest = size
    for size in dict.fromkeys((1, largest)):
        known = times[size]
        while len(known) < REPEATS and sum(known) < seconds and max(known) < left():
            known.append(timed(size))
    return {size: size / statistics.median(times[size]) for size in dict.fromkeys((1, largest))}


def most_at_once(cost: dict) -> tuple[int, float] | None:
    """The largest batch size whose speed a report knows, and the samples in a second; None where it
    knows none.
    """
    known = {int(size): speed for size, speed in cost.get("samples_per_second", {}).items()}
    return (max(known), known[max(known)]) if known else None


@torch.no_grad()
def network_calls(loaded: LoadedRun) -> int:
    if (
        has(loaded.model, Predicts) and loaded.model.phases()
    ):  # one step for each symbol, which is no forward()
        return loaded.model.length
    counts: dict[int, int] = {}

    def count(module, *_):
        counts[id(module)] = counts.get(id(module), 0) + 1

    hooks = [
        module.register_forward_hook(count)
        for module in compilable_modules(loaded.model, differentiated_twice=True)
    ]
    try:
        _sampler(loaded, 1)()
    finally:
        for hook in hooks:
            hook.remove()
    return max(counts.values(), default=0)


def _sampler(loaded: LoadedRun, size: int):
    model, y = loaded.model, None
    if model.conditional:
        y = loaded.dataset.default_conditions(range(size)).to(loaded.device)
    options, rng = build(loaded.family.Options, {}), Rng(0, ("cost",), device=loaded.device)
    # to the number: an accelerator only queues
    return lambda: float(model.sample(size, y, options, rng).flatten()[0])
