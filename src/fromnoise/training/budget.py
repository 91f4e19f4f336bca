"""A budget: how many steps a run takes, which share of it each step is, and in minutes the timing on the way.

A plan is the list of all decisions, [step, total]: from that step on the run takes ``total`` steps. The first is of
step 0. Schedules go on from where they are, linearly to the new end, so that a run is a function of its seed and its
plan, which is in run.json before the first step that depends on it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..core.errors import StorageError, UsageError
from ..runs.directory import Run

Decisions = Sequence[Sequence[int]]
Costs = Sequence[
    Sequence[float]
]  # [share of the budget until which a step takes so long, seconds], the last share is 1

CHECKS = (
    0.03,
    0.1,
    0.3,
    0.6,
    0.8,
)  # shares of the planned steps at which a budget in minutes is timed again
TOLERANCE = 0.1  # share of the planned steps by which the end may be off before a plan changes
ENOUGH = 0.02  # share of the budget's seconds that this process must have timed before it decides


@dataclass(frozen=True)
class Section:
    """The steps between two decisions. start: the first; place: where that is in a schedule of ``total`` steps."""

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


def section(plan: Decisions, step: int) -> Section:
    """The section that ``step`` is in. A decision that left the total as it was does not begin one."""
    found = Section(0, 0.0, plan[0][1])
    for start, total in plan[1:]:
        if start > step:
            break
        if total != found.total:
            found = Section(start, found.at(start) / found.total * total, total)
    return found


def ends_interval(plan: Decisions, done: int, intervals: int) -> bool:
    """Is the model looked at, and saved, when ``done`` steps (at least 1) are done? It always is after the last."""
    here = section(plan, done - 1)
    if done == here.total:
        return True
    if not here.start:
        return done % (-(-here.total // intervals)) == 0

    def passed(step):
        return math.floor(here.at(step) / here.total * intervals + 1e-9)

    return passed(done) > passed(done - 1)


# -- the plan as text and as record --------------------------------------------------------------------------------


def check(plan: Decisions) -> None:
    """Raises ValueError unless the first decision is of step 0, and each total comes after its step."""
    steps = [step for step, _ in plan]
    if not plan or steps[0] != 0 or steps != sorted(set(steps)):
        raise ValueError("the steps of a plan begin with 0 and grow")
    if any(total <= step for step, total in plan) or any(
        later[0] >= earlier[1] for earlier, later in pairwise(plan)
    ):
        raise ValueError(
            "a total of steps must be larger than the step at which it is decided, and that one smaller than the total before"
        )


def from_option(words: Sequence[str]) -> list[list[int]]:
    """("0:233", "23:112") -> [[0, 233], [23, 112]]. Of no words no plan. Raises UsageError."""
    plan = [[int(number) for number in word.split(":")] for word in words]
    if not plan:
        return []
    try:
        check(plan)
    except ValueError as error:
        raise UsageError(f"--plan {','.join(words)}: {error}") from None
    return plan


def as_option(plan: Decisions) -> str:
    return ",".join(f"{step}:{total}" for step, total in plan)


def plan_of(run: Run, steps: int | None = None) -> list[list[int]]:
    """The plan of a run; of one that records none a single total. Raises StorageError where it is damaged."""
    recorded = run.info.get("plan")
    if not recorded:
        return [[0, run.info["steps"] if steps is None else steps]]
    try:
        plan = [[int(step), int(total)] for step, total in recorded]
        if plan != [[0, 0]]:  # a model in closed form takes no step
            check(plan)
        return plan
    except (TypeError, ValueError) as error:
        raise StorageError(f"{run.path / 'run.json'} is damaged: plan: {error}") from None


def budget_of(run: Run) -> dict | None:
    """What a run records of its minutes, see ``Timer``. Raises StorageError where it is damaged."""
    recorded = run.info.get("budget")
    if recorded is None:
        return None
    try:
        budget = {name: float(recorded[name]) for name in ("seconds", "look")} | {
            "start": int(recorded["start"])
        }
        budget["costs"] = [[float(until), float(seconds)] for until, seconds in recorded["costs"]]
        if not all(map(math.isfinite, (budget["seconds"], budget["look"]))) or not all(
            until > 0 and 0 < cost < math.inf for until, cost in budget["costs"]
        ):
            raise ValueError("seconds must be finite, and those of a step more than 0")
        if not budget["costs"] or not 0 <= budget["start"] < run.info["steps"]:
            raise ValueError("it names no costs, or starts after the last step")
        return budget
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{run.path / 'run.json'} is damaged: budget: {error}") from None


# -- minutes ------------------------------------------------------------------------------------------------------


def mean_cost(costs: Costs, start: float = 0.0, end: float = 1.0) -> float:
    """Seconds of a step, averaged over the steps from share ``start`` to ``end`` of the budget."""
    total, before = 0.0, 0.0
    for until, seconds in costs:
        total += seconds * max(0.0, min(end, until) - max(start, before))
        before = until
    return total / (end - start) if end > start else costs[-1][1]


def seconds_words(seconds: float) -> str:
    """``0.25 s``, ``12 s``"""
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"


class Timer:
    """Times the steps of a run whose budget is in minutes, and says how many there should be.

    run.json has ``budget`` then: seconds  of training (``Run.seconds``) after which the run should end
                                  look     seconds of an interval's held-out examples, strip and checkpoint, as estimated
                                  costs    of a step, as estimated, by share of the budget
                                  start    the step from which the minutes count
    None: the budget is in steps or epochs, and is never changed.
    """

    def __init__(self, run: Run, intervals: int):
        self.budget, self.intervals = budget_of(run), intervals
        self.looks: list[float] = []  # seconds, of this process
        self.start()

    def start(self) -> None:
        """Forgets the steps that were timed."""
        self.seconds, self.expected = 0.0, 0.0

    def stepped(self, share: float, seconds: float) -> None:
        """share: of the budget, before the step."""
        if self.budget:
            self.seconds += seconds
            self.expected += next(
                (cost for until, cost in self.budget["costs"] if share < until),
                self.budget["costs"][-1][1],
            )

    def interval_ended(self, seconds: float) -> None:
        self.looks.append(seconds)

    def is_due(self, plan: Decisions, step: int) -> bool:
        """Was one of CHECKS passed since the last decision, and is enough timed to decide again?"""
        if not self.budget or self.seconds < ENOUGH * self.budget["seconds"] or step <= plan[-1][0]:
            return False
        first, total = self.budget["start"], plan[-1][1]
        last, now = ((at - first) / (total - first) for at in (max(first, plan[-1][0]), step))
        return step < total and any(last < check <= now for check in CHECKS)

    def total(self, plan: Decisions, step: int, seconds: float) -> int:
        """The total of steps with which a run that has had so many seconds ends in time; the present one where it is about right."""
        here = section(plan, step)
        share, slower = here.at(step) / here.total, max(self.seconds, 1e-9) / self.expected
        looks = math.ceil(self.intervals * (1 - share))
        look = sum(self.looks) / len(self.looks) if self.looks else self.budget["look"] * slower
        left = self.budget["seconds"] - seconds - looks * look
        steps = max(looks, int(left / (slower * mean_cost(self.budget["costs"], share))))
        return (
            step + steps if abs(step + steps - here.total) > TOLERANCE * here.total else here.total
        )
