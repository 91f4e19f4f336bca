"""A budget: how many steps a run takes, the share of it that is done, and timing for minutes.

A plan is the list of all decisions, [step, total]: from that step on the run takes ``total`` steps.
The first is of step 0. Schedules go on from where they are, linearly to the new end, so that a run
is a function of its seed and its plan, which is in run.json before the first step that depends on
it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..core.errors import StorageError, UsageError
from ..runs.directory import Run

Decisions = Sequence[Sequence[int]]  # [[step, total], ...]
# [share of the budget up to which a step takes so long, seconds], ...; the last share is 1
Costs = Sequence[Sequence[float]]

# shares of the planned steps after which the total of a budget in minutes is decided again
CHECKS = (0.03, 0.1, 0.3, 0.6, 0.8)
TOLERANCE = 0.1  # share of the planned steps by which the end may be off before a plan changes
MIN_TIMED_SHARE = 0.02  # of the budget's seconds, timed by this process before it decides


@dataclass(frozen=True)
class PlanSection:
    """The steps between two decisions. start: the first; place: its place in a schedule of
    ``total`` steps."""

    start: int
    place: float
    total: int

    def at(self, step: int) -> float:
        """The place of a step, in [0, total]; its share of the budget is place / total."""
        if step >= self.total:
            return float(self.total)
        return self.place + (step - self.start) * (
            (self.total - self.place) / (self.total - self.start)
        )


def find_section(plan: Decisions, step: int) -> PlanSection:
    """The section that ``step`` is in. A decision that leaves the total as it was begins none."""
    section = PlanSection(0, 0.0, plan[0][1])
    for start, total in plan[1:]:
        if start > step:
            break
        if total != section.total:
            section = PlanSection(start, section.at(start) / section.total * total, total)
    return section


def ends_interval(plan: Decisions, done: int, intervals: int) -> bool:
    """Whether the model is validated and saved when ``done`` steps (at least 1) are done. It always
    is after the last one."""
    section = find_section(plan, done - 1)
    if done == section.total:
        return True
    if not section.start:
        steps_per_interval = -(-section.total // intervals)
        return done % steps_per_interval == 0

    def intervals_at(step: int) -> int:
        return math.floor(section.at(step) / section.total * intervals + 1e-9)

    return intervals_at(done) > intervals_at(done - 1)


# -- the plan as text and as record ---------------------------------------------------------------


def check_plan(plan: Decisions) -> None:
    """Raises ValueError unless the first decision is of step 0, and each total comes after its
    step."""
    steps = [step for step, _ in plan]
    if not plan or steps[0] != 0 or steps != sorted(set(steps)):
        raise ValueError("the steps of a plan begin with 0 and grow")
    if any(total <= step for step, total in plan) or any(
        later[0] >= earlier[1] for earlier, later in pairwise(plan)
    ):
        raise ValueError(
            "a total of steps must be larger than the step at which it is decided, "
            "and that one smaller than the total before"
        )


def parse_plan(words: Sequence[str]) -> list[list[int]]:
    """("0:233", "23:112") -> [[0, 233], [23, 112]]. Of no words no plan. Raises UsageError."""
    plan = [list(map(int, word.split(":"))) for word in words]
    if not plan:
        return []
    try:
        check_plan(plan)
    except ValueError as error:
        raise UsageError(f"--plan {','.join(words)}: {error}") from None
    return plan


def format_plan(plan: Decisions) -> str:
    """[[0, 233], [23, 112]] -> "0:233,23:112", as --plan takes it."""
    return ",".join(f"{step}:{total}" for step, total in plan)


def read_plan(run: Run, steps: int | None = None) -> list[list[int]]:
    """The plan of a run; if it records none, a single total. Raises StorageError if it is damaged."""
    plan = run.record.plan or [[0, run.record.steps if steps is None else steps]]
    if plan != [[0, 0]] and run.record.plan:  # a model in closed form takes no step
        try:
            check_plan(plan)
        except ValueError as error:
            raise StorageError(f"{run.path / 'run.json'} is damaged: plan: {error}") from None
    return plan


# -- minutes --------------------------------------------------------------------------------------


def mean_cost(costs: Costs, start: float = 0.0, end: float = 1.0) -> float:
    """Seconds of a step, averaged over the steps from share ``start`` to ``end`` of the budget."""
    if end <= start:
        return costs[-1][1]
    total = 0.0
    before = 0.0
    for until, seconds in costs:
        total += seconds * max(0.0, min(end, until) - max(start, before))
        before = until
    return total / (end - start)


def format_seconds(seconds: float) -> str:
    """``0.25 s``, ``12 s``"""
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"


class Timer:
    """Times the steps of a run whose budget is in minutes, and decides how many there should be.

    budget: that of run.json. None: the budget is in steps or epochs, and is never changed. Its fields:

    seconds  of training (``Run.seconds``) after which the run should end
    look     seconds of an interval's validation, samples and checkpoint, as estimated
    costs    of a step, as estimated, by share of the budget
    start    the step from which the minutes count
    """

    def __init__(self, run: Run, intervals: int):
        self.budget: Any = run.record.budget
        self.intervals = intervals
        self.interval_seconds: list[float] = []  # of this process
        self.forget_steps()

    def forget_steps(self) -> None:
        """Forgets the steps that were timed."""
        self.timed_seconds = 0.0
        self.expected_seconds = 0.0

    def add_step(self, share: float, seconds: float) -> None:
        """share: of the budget, before the step."""
        if self.budget:
            self.timed_seconds += seconds
            costs = self.budget.costs
            self.expected_seconds += next(
                (cost for until, cost in costs if share < until), costs[-1][1]
            )

    def is_due(self, plan: Decisions, step: int) -> bool:
        """Whether one of CHECKS was passed since the last decision, and enough steps are timed to
        decide again."""
        if not self.budget or self.timed_seconds < MIN_TIMED_SHARE * self.budget.seconds:
            return False
        decided, total = plan[-1]
        if not decided < step < total:
            return False
        first = self.budget.start
        share_then = (max(first, decided) - first) / (total - first)
        share_now = (step - first) / (total - first)
        return any(share_then < check <= share_now for check in CHECKS)

    def decide_total(self, plan: Decisions, step: int, seconds: float) -> int:
        """The number of steps with which the run ends on time, after ``seconds`` of training.

        Unchanged if it would change by less than TOLERANCE.
        """
        section = find_section(plan, step)
        share = section.at(step) / section.total
        slowdown = max(self.timed_seconds, 1e-9) / self.expected_seconds
        intervals_left = math.ceil(self.intervals * (1 - share))
        if self.interval_seconds:
            interval = sum(self.interval_seconds) / len(self.interval_seconds)
        else:
            interval = self.budget.look * slowdown
        seconds_left = self.budget.seconds - seconds - intervals_left * interval
        step_seconds = slowdown * mean_cost(self.budget.costs, share)
        total = step + max(intervals_left, int(seconds_left / step_seconds))
        return total if abs(total - section.total) > TOLERANCE * section.total else section.total
