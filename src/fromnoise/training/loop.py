"""The training loop: steps, intervals, stops, and new decisions of a budget in minutes.

A run is a function of its seed: the batch, the noise and the learning rate of a step are computed
from the step's number. Clock readings decide only how many steps a budget in minutes is, and what
they decide is recorded in the run before the first step that depends on it (training/budget.py).
"""

import time
from dataclasses import dataclass

from ..core.errors import DivergedError, StoppedError
from ..core.output import OnEvent
from ..runs.directory import Run
from . import budget
from .clock import Clock
from .interval import IntervalReport
from .monitor import health
from .stop import StopRequest
from .trainer import Trainer


def fit(
    trainer: Trainer,
    run: Run,
    steps: int,
    on_event: OnEvent,
    stop: StopRequest,
    clock: Clock | None = None,
) -> None:
    """Trains to ``steps``, or to the end of the plan in run.json.

    Each interval ends with an event, a validation and a checkpoint. ``on_event`` receives the event
    once the state is saved, so that an error in it loses nothing. In a budget of minutes it also
    receives an event of kind "plan" when the number of steps changes.
    Raises DivergedError, StorageError, and StoppedError once the state is saved after a signal.
    """
    loop = Loop(trainer, run, steps, on_event, stop, clock or Clock(run))
    if not steps:
        loop.fit_closed_form()
        return
    if trainer.state.step == 0:
        trainer.save(run)
    while trainer.state.step < loop.total:
        try:
            loop.advance()
        except DivergedError as error:
            on_event(trainer.roll_back(run, error))


@dataclass
class Loop:
    """What ``fit`` does at one step."""

    trainer: Trainer
    run: Run
    steps: int
    on_event: OnEvent
    stop: StopRequest
    clock: Clock

    def __post_init__(self):
        self.report = IntervalReport(self.trainer, self.run, self.clock)
        self.plan = budget.read_plan(self.run, self.steps)
        self.timer = budget.Timer(self.run, self.trainer.intervals)

    @property
    def total(self) -> int:
        """Steps of the whole training, as decided last."""
        return self.plan[-1][1]

    def advance(self) -> None:
        """One step, and what is due after it."""
        trainer = self.trainer
        section = budget.find_section(self.plan, trainer.state.step)
        begin = time.monotonic()
        terms, norms = trainer.advance(self.plan)
        state = trainer.state
        self.clock.steps += 1
        self.timer.add_step(section.at(state.step - 1) / section.total, time.monotonic() - begin)
        state.add(terms | {f"{health.NORM}{name}": norm for name, norm in norms.items()})
        is_last = state.step == section.total
        if budget.ends_interval(self.plan, state.step, trainer.intervals):
            self.end_interval(section, is_last)
        if not is_last:
            self.stop_if_requested()
        if self.timer.is_due(self.plan, state.step):
            self.decide_again(section)

    def end_interval(self, section: budget.PlanSection, is_last: bool) -> None:
        begin = time.monotonic()
        if is_last:
            self.trainer.finish()
        else:
            self.trainer.check_weights()
        event = self.report.write(section)
        self.trainer.state.good = self.trainer.state.step
        self.trainer.save(self.run)
        self.timer.interval_seconds.append(time.monotonic() - begin)
        self.on_event(event)

    def stop_if_requested(self) -> None:
        """Saves and raises StoppedError if a signal came."""
        step = self.trainer.state.step
        signal = self.stop.signal_after(step)
        if signal:
            self.trainer.check_weights()
            self.trainer.save(self.run)
            raise StoppedError(
                f"stopped at step {step} of {self.total}, state saved: "
                f"`fromnoise resume {self.run.path}`",
                signal,
            )

    def decide_again(self, section: budget.PlanSection) -> None:
        """Changes the number of steps to what the minutes allow."""
        step = self.trainer.state.step
        total = self.timer.decide_total(self.plan, step, self.clock.seconds())
        self.plan = [*self.plan, [step, total]]
        # on the disk before the first step that depends on it
        self.run.update(plan=self.plan, steps=total)
        self.timer.forget_steps()
        if total != section.total:
            self.on_event({"kind": "plan", "step": step, "planned": section.total, "steps": total})

    def fit_closed_form(self) -> None:
        """The whole training of a model without steps."""
        self.trainer.finish()
        event = self.report.write(budget.PlanSection(0, 0.0, 0))
        self.trainer.save(self.run)
        self.on_event(event)
