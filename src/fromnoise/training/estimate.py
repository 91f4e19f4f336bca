"""How many steps a budget is, how long they take and how much memory, by timing some of them."""

import contextlib
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise

from ..core.capabilities import Judges, has
from ..core.device import peak_memory_mb
from ..core.errors import DivergedError
from ..core.family import count_parameters, turns
from ..core.output import Say, ignore_message
from . import budget
from .settings import BUDGETS, INTERVALS, TrainConfig
from .trainer import Trainer

DEFAULT_MINUTES = 1.0
MIN_NOTE_SECONDS = 10.0  # shorter times need no message
VALIDATION_SHARE = 0.2  # largest share of the minutes for intervals, unless --intervals is given
MIN_INTERVALS = 2  # the same in a very short training
MARGIN = 1.1  # an interval also saves samples and a checkpoint, which are not timed
IMAGINED_STEPS = 10**9  # length of the training whose steps are timed
MAX_SECONDS = 20.0  # after which two steps of a kind are enough to time it


@dataclass(frozen=True)
class Timing:
    """costs: see ``time_steps``; step, interval: seconds; begin: when the timing began."""

    costs: budget.Costs
    step: float
    interval: float
    begin: float


def estimate_cost(trainer: Trainer, config: TrainConfig, say: Say = ignore_message) -> dict:
    """Parameters, steps, intervals, seconds, examples a second and memory of a training.

    Some steps are timed and thrown away; the time of a model without steps is not known before.
    note: a warning for the user, or an empty string: the budget is too short, or validation takes
    most of it. budget: for minutes, what ``budget.Timer`` needs, else None. say: receives a line
    about what is being timed.
    """
    numbers = {
        "parameters": count_parameters(trainer.model),
        "steps": 0,
        "intervals": config.intervals or INTERVALS,
        "budget": None,
        "note": "",
        "seconds": None,
        "items_per_second": None,
        "step_seconds": None,
    }
    if trainer.model.phases():
        numbers |= estimate_steps(trainer, config, say)
    return numbers | {"memory_mb": peak_memory_mb(trainer.device)}


def estimate_steps(trainer: Trainer, config: TrainConfig, say: Say) -> dict:
    """The numbers of ``estimate_cost`` that depend on the cost of a step."""
    begin = time.monotonic()
    steps, minutes = steps_or_minutes(config, trainer.stream.batches_per_epoch)
    timing = time_parts(trainer, steps, minutes, begin, say)
    intervals = config.intervals or INTERVALS
    note = ""
    budget_record = None
    if steps is None:
        if config.intervals is None:
            affordable = int(VALIDATION_SHARE * 60 * minutes / timing.interval)
            intervals = min(intervals, max(MIN_INTERVALS, affordable))
        steps, note = steps_in_minutes(minutes, intervals, timing, config)
        budget_record = {
            "seconds": 60 * minutes - (time.monotonic() - begin),
            "look": timing.interval,
            "costs": timing.costs,
            "start": 0,
        }
    training_seconds = steps * timing.step
    validation_seconds = intervals * timing.interval
    return {
        "steps": steps,
        "intervals": intervals,
        "budget": budget_record,
        "note": note or validation_note(validation_seconds, training_seconds),
        "seconds": training_seconds + validation_seconds,
        "items_per_second": trainer.stream.batch_size / timing.step,
        "step_seconds": timing.step,
    }


def validation_note(validation: float, training: float) -> str:
    """A warning if validation takes longer than training; both in seconds."""
    if validation <= max(MIN_NOTE_SECONDS, training):
        return ""
    return (
        f"validation takes {validation:.0f} s of this budget, more than training: "
        "use fewer --intervals or fewer --validation-examples"
    )


def steps_or_minutes(
    config: TrainConfig, batches_per_epoch: int
) -> tuple[int | None, float | None]:
    """The budget as steps, or else as minutes: one of the two is None."""
    if config.steps:
        return config.steps, None
    if config.plan:
        return budget.parse_plan(config.plan)[-1][1], None
    if config.epochs:
        return max(1, round(config.epochs * batches_per_epoch)), None
    if all(getattr(config, name) is None for name in BUDGETS):
        return None, DEFAULT_MINUTES
    return None, config.minutes


def steps_in_minutes(
    minutes: float, intervals: int, timing: Timing, config: TrainConfig
) -> tuple[int, str]:
    """How many steps the minutes are, at least one for each interval, and a note if they are too
    few."""
    seconds_left = 60 * minutes - intervals * timing.interval - (time.monotonic() - timing.begin)
    steps = int(seconds_left / timing.step)
    if steps >= intervals:
        return steps, ""
    option = "--validation-examples" if config.intervals is None else "--intervals"
    note = (
        f"{minutes:g} minutes are too short for {intervals} intervals of one step each, and will "
        f"be overrun: give more --minutes, or fewer {option}"
    )
    return intervals, note


# -- timing ---------------------------------------------------------------------------------------


def time_parts(
    trainer: Trainer,
    steps: int | None,
    minutes: float | None,
    begin: float,
    say: Say,
) -> Timing:
    """Times steps and a validation."""
    say("timing the first steps ...")
    if steps:
        costs = time_steps(trainer, seconds=0.2, most=3)
    else:
        costs = time_steps(trainer, seconds=min(3.0, 0.03 * 60 * minutes), most=500)
    step = budget.mean_cost(costs)
    if time.monotonic() - begin > MIN_NOTE_SECONDS:
        say(f"a step takes about {budget.format_seconds(step)}; timing a validation ...")
    if has(trainer.model, Judges):
        trainer.validate()  # the first one also measures the real examples
    before = time.monotonic()
    trainer.validate()
    return Timing(costs, step, MARGIN * (time.monotonic() - before), begin)


def time_steps(trainer: Trainer, seconds: float, most: int) -> budget.Costs:
    """Seconds of a step by share of the budget; the trainer is at step 0 afterwards.

    Where the cost of a step changes in the course of the training (``cost_stages``, turns, a phase
    that ends before it) each kind of step is timed, for ``seconds`` together and at most ``most``
    steps each.
    """
    kinds = list_step_kinds(trainer)
    edges = cost_edges(trainer)
    sums = [0.0] * (len(edges) - 1)  # share times seconds, between two edges
    with trainer.rehearsal():
        for i, (first_step, share) in enumerate(kinds):
            trainer.state.step = first_step
            typical = median_step_seconds(trainer, seconds / len(kinds), most)
            sums[i * len(sums) // len(kinds)] += share * typical
    return [[end, total / (end - start)] for (start, end), total in zip(pairwise(edges), sums)]


def median_step_seconds(trainer: Trainer, seconds: float, most: int) -> float:
    """The first two steps (allocation, compilation) and moments of a busy machine do not count."""
    times = []
    begin = time.monotonic()
    # a step that diverges here diverges in the run as well, which reports it
    with contextlib.suppress(DivergedError):
        while len(times) < most + 2 and (len(times) < 5 or time.monotonic() - begin < seconds):
            before = time.monotonic()
            trainer.advance(IMAGINED_STEPS)
            times.append(time.monotonic() - before)
            if len(times) >= 2 and time.monotonic() - begin > MAX_SECONDS:
                break
    # a coarse clock may read 0
    return max(1e-9, statistics.median(times[2:] or times[1:] or times or [0.01]))


def cost_edges(trainer: Trainer) -> list[float]:
    """The shares of a budget, from 0 to 1, at which the cost of a step changes."""
    stages = trainer.model.cost_stages
    edges = {stage / stages for stage in range(stages + 1)}
    edges |= {min(1.0, phase.until) for phase in trainer.model.phases()}
    return sorted(edges)


def list_step_kinds(trainer: Trainer) -> list[tuple[int, float]]:
    """Kinds of steps that cost the same: a first step (of ``IMAGINED_STEPS``) and the share of all."""
    lengths = turns(trainer.model.phases(), trainer.stream.batches_per_epoch) or [1]
    edges = cost_edges(trainer)
    kinds = []
    for start, end in pairwise(edges):
        middle = int((start + end) / 2 * IMAGINED_STEPS) if len(edges) > 2 else 0
        first = middle - middle % sum(lengths)
        for i, length in enumerate(lengths):
            share = length / sum(lengths) * (end - start)
            kinds.append((first + sum(lengths[:i]), share))
    return kinds
