"""The training loop: what surrounds the one ``train_step`` of every family.

A run is a function of its seed: the batch, the noise and the learning rate of a step are computed from the
step's number. Clock readings decide only how many steps a budget in minutes is, and what they decide is recorded in
the run before the first step that depends on it (training/budget.py).
"""

import contextlib
import copy
import dataclasses
import math
import signal
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch

from ..core.capabilities import ChoosesSamples, FitsBefore, FitsInClosedForm, Judges, has
from ..core.config import BaseConfig
from ..core.device import callable_modules, can_compile, peak_memory_mb, pick_device, set_threads
from ..core.errors import DivergedError, StoppedError, StorageError, UsageError
from ..core.family import Family
from ..core.files import sha256
from ..core.output import warn
from ..core.rng import Rng
from ..core.signals import FIRST, SIGNALS
from ..core.spec import Batch
from ..data.dataset import Dataset
from ..data.stream import Stream, default_batch_size, in_order
from ..runs import checkpoint
from ..runs.averages import Ema
from ..runs.directory import Run
from ..runs.progress_samples import save_progress_samples
from . import budget
from .monitor import health
from .monitor.adversarial import AdversarialMonitor
from .monitor.validation import objective
from .optim import lr_factor, make_optimizers
from .settings import INTERVALS, TrainConfig
from .step import train_step, turns

LONG = 10**9  # steps of the imagined training that ``measure`` takes steps of
PATIENCE = 20.0  # seconds after which two steps of a kind are enough to time it
TIMES = 3  # that a run may diverge: twice it goes back and on with half the learning rate, the third time it ends


@dataclass
class State:
    """Everything that goes on from one step to the next besides tensors; floats survive JSON exactly.

    sums, counts  of the terms since the last interval
    events        lines of events.jsonl that belong to this state
    average       place of the average in use, among ``averages``
    good          step of the last interval's checkpoint: where a run that diverges goes back to
    rollbacks     how often it had to
    """

    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    history: list[float] = field(default_factory=list)
    best: dict | None = None
    events: int = 0
    average: int = 0
    good: int = 0
    rollbacks: int = 0

    def add(self, terms: dict[str, float]) -> None:
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def take_means(self) -> dict[str, float]:
        """Mean of each term over the steps that had it."""
        means = {name: value / self.counts[name] for name, value in sorted(self.sums.items())}
        self.sums, self.counts = {}, {}
        return means


class Trainer:
    """Model, average, optimisers and stream of a run, made from its seed alone.

    options: how an adversarial family's samples are drawn where they are measured.
    """

    def __init__(
        self,
        build: Callable[[], Family],
        dataset: Dataset,
        config: TrainConfig,
        options: BaseConfig | None = None,
    ):
        self.config, self.dataset, self.options = config, dataset, options
        self.intervals = config.intervals or INTERVALS
        self.device = pick_device(config.device)
        self.threads = set_threads(config.threads)
        self.rng = Rng(config.seed, device=self.device)
        self.build = build
        self.compile = config.compile and can_compile()
        self.stream, self._monitor, self._fitted = None, None, None
        self.saved: int | None = None  # step of the newest checkpoint on the disk
        self.start_afresh()
        if len(config.averages) > 1 and has(self.model, Judges):
            raise UsageError(
                "--averages: the losses of this family rank no averages, so give one width, such as --averages 0.05"
            )
        turns(
            self.model.phases(), self.stream.batches_per_epoch
        )  # phases that do not go together are told now

    def start_afresh(self) -> None:
        """Initial weights, as the seed has them; what is computed before the first step is computed once."""
        if self._fitted is not None:
            self.model = copy.deepcopy(self._fitted)
        else:
            self.rng.at("init").seed_torch()
            self.model = self.build().to(self.device)
            if has(self.model, FitsBefore):
                self.model.fit_before(
                    lambda: in_order(self.dataset, "train", device=self.device, rest=True),
                    self.rng.at("fit before"),
                )
                self._fitted = copy.deepcopy(self.model)
        self.ema = Ema(self.model, self.config.ema, self.config.averages)
        self.optimizers = make_optimizers(self.model, self.config)
        self.set_state(State())
        if self.compile:
            for module in callable_modules(self.model):
                module.compile()

    def set_state(self, state: State) -> None:
        """The numbers of a step are those of its path; after a rollback the path, and with it all batches, is another."""
        self.state = state
        self.step_rng = self.rng.at("rollback", state.rollbacks) if state.rollbacks else self.rng
        if self.stream is not None:
            self.stream.close()
        self.stream = Stream(
            self.dataset,
            self.config.batch_size,
            self.step_rng,
            device=self.device,
            workers=self.config.workers,
        )

    # -- steps -----------------------------------------------------------------------------------------------

    def advance(self, steps: int | budget.Plan) -> tuple[dict, dict]:
        """One step of a budget of ``steps``, or of a plan."""
        step = self.state.step
        here = budget.section([[0, steps]] if isinstance(steps, int) else steps, step)
        self.model.progress = here.at(step) / here.total
        factor = lr_factor(here.at(step), here.total, self.config) * 0.5**self.state.rollbacks
        out = train_step(
            self.model, self.optimizers, self.stream, step, self.step_rng, self.config, factor
        )
        self.ema.update(self.model, step)
        self.state.step += 1
        self.model.progress = self.ema.model.progress = here.at(self.state.step) / here.total
        return out

    @torch.no_grad()
    def check(self) -> None:
        """Before anything is kept. Raises DivergedError."""
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise health.NotFinite(self.state.step, "a weight is not finite", self.model)

    @torch.no_grad()
    def finish(self) -> None:
        """What a family computes from the whole training set: a density of the codes, a closed form."""
        self.check()
        if has(self.model, FitsInClosedForm) and len(self.config.averages) > 1:
            self.validate()  # what is fitted belongs to the weights: they are chosen before
        for model in (self.model, self.ema.model):
            if has(model, FitsInClosedForm):
                model.fit(
                    lambda: in_order(self.dataset, "train", device=self.device), self.rng.at("fit")
                )

    def validate(self) -> dict[str, float]:
        """What held-out examples say of the averaged weights; ``value`` (lower is better) ranks checkpoints."""
        return self.validate_and_select_average()[0]

    def validate_and_select_average(self) -> tuple[dict[str, float], dict]:
        """The same, and of an adversarial family the duel in numbers. Of several averages the best is in use from here on."""
        rng = self.rng.at("validate")
        if not has(self.model, Judges):
            self.held_out = []  # of each average, with the same noise
            for index in range(len(self.ema.weights)):
                self.ema.use(index)
                self.held_out.append(
                    objective(
                        self.ema.model,
                        self.dataset,
                        self.config.validation_examples,
                        rng,
                        self.device,
                    )
                )
            ranks = [
                terms["value"] if math.isfinite(terms["value"]) else math.inf
                for terms in self.held_out
            ]
            self.state.average = ranks.index(min(ranks))
            self.ema.use(self.state.average)
            return self.held_out[self.state.average], {}
        if self._monitor is None:
            self._monitor = AdversarialMonitor(
                self.dataset, self.options, self.config.validation_examples, rng, self.device
            )
        return self._monitor.measure(self.model, self.ema.model)

    def calibrate(self) -> None:
        """Has a family that samples by its own judgement measure, after a look, how sure that should be of the averaged weights."""
        if has(self.model, ChoosesSamples) and not self.model.why_never():
            pairs = self._monitor.pairs(self.ema.model)
            for model in (
                self.model,
                self.ema.model,
            ):  # the first is where the average gets its buffers from
                model.calibrate(*pairs)

    def averages(self) -> dict:
        """Of the last look: which of several averages was taken, and the held-out value of all by width; None: not finite."""
        if len(self.config.averages) < 2:
            return {}
        values = [terms["value"] for terms in self.held_out]
        known = {
            str(width): value if math.isfinite(value) else None
            for width, value in zip(self.config.averages, values)
        }
        return {"average": {"width": self.config.averages[self.state.average], "held_out": known}}

    # -- state -----------------------------------------------------------------------------------------------

    def save(self, run: Run) -> None:
        optim = {
            f"{'+'.join(key)}/{name}": t
            for key, o in self.optimizers.items()
            for name, t in o.tensors().items()
        }
        parts = {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optim": optim | self.ema.others(),
        }
        keep = {self.state.good} | ({self.state.best["step"]} if self.state.best else set())
        checkpoint.save(
            run,
            self.state.step,
            parts,
            vars(self.state) | {"threads": self.threads, "progress": self.ema.model.progress},
            keep,
        )
        self.saved = self.state.step

    def load(self, saved: checkpoint.Checkpoint) -> None:
        """Takes over a checkpoint. Raises StorageError where it is of another model."""
        averages, optim, known = (
            saved.tensors("ema"),
            saved.tensors("optim"),
            saved.manifest.state(),
        )
        saved.load_into(self.model, saved.tensors("model"))
        saved.load_into(self.ema.model, averages)
        try:
            self.ema.load(saved.manifest.average, averages, optim)
            for key, optimizer in self.optimizers.items():
                prefix = "+".join(key) + "/"
                optimizer.load(
                    {name[len(prefix) :]: t for name, t in optim.items() if name.startswith(prefix)}
                )
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            raise StorageError(
                f"{saved.path} does not fit this version of its family: {error}"
            ) from None
        self.set_state(State(**{name: known[name] for name in vars(State()) if name in known}))
        self.saved = saved.step

    def roll_back(self, run: Run, error: DivergedError) -> dict:
        """Back to the last good checkpoint, to go on from there with half the learning rate and other random numbers.

        Returns the event of it. Raises DivergedError the third time, StorageError when no checkpoint is left.
        """
        state, reason = self.state, getattr(error, "reason", str(error))
        saved = checkpoint.find(run, until=state.good, warn=warn)
        if state.rollbacks + 1 == TIMES:
            where = f". The last good state is step {saved.step}, in {run.path}"
            raise health.NotFinite(state.step, reason, self.model, TIMES, where)
        self.load(saved)
        before = [
            event for event in run.events()[self.state.events :] if event["kind"] == "rollback"
        ]
        run.rewind(self.state.events, saved.step, warn)
        rollbacks = state.rollbacks + 1
        self.set_state(
            dataclasses.replace(
                self.state, rollbacks=rollbacks, events=self.state.events + len(before) + 1
            )
        )
        event = {
            "kind": "rollback",
            "step": state.step,
            "to": saved.step,
            "reason": reason,
            "lr_factor": 0.5**rollbacks,
        }
        for line in (*before, event):
            run.append(line)
        checkpoint.discard_after(run, saved.step)
        return event


def fit(
    trainer: Trainer,
    run: Run,
    steps: int,
    on_event: Callable[[dict], None],
    stop: "Stop",
    clock: "Clock | None" = None,
) -> None:
    """Trains to ``steps``, or to the end of the plan in run.json, with an event, a validation and a checkpoint at each interval.

    In a budget of minutes the plan may change on the way; ``on_event`` is then told of it, in an event of kind "plan".
    An interval is told to ``on_event`` once its state is saved, so that nothing that happens there can cost it.
    Raises DivergedError, StorageError, and StoppedError once the state is saved after a signal.
    """
    clock = clock or Clock(run)
    batch = next(
        in_order(
            trainer.dataset,
            "validation",
            default_batch_size(trainer.dataset.spec, 500),
            device=trainer.device,
        )
    )
    plan, timer = budget.plan_of(run, steps), budget.Timer(run, trainer.intervals)
    if trainer.state.step == 0 and steps:
        trainer.save(run)
    while trainer.state.step < plan[-1][1]:
        try:
            here, begin = budget.section(plan, trainer.state.step), time.monotonic()
            terms, norms = trainer.advance(plan)
            state, clock.steps = trainer.state, clock.steps + 1
            timer.stepped(here.at(state.step - 1) / here.total, time.monotonic() - begin)
            state.add(terms | {f"{health.NORM}{name}": norm for name, norm in norms.items()})
            ends = state.step == here.total
            if budget.ends_interval(plan, state.step, trainer.intervals):
                begin = time.monotonic()
                trainer.finish() if ends else trainer.check()
                event = _report(trainer, run, here, batch, clock)
                state.good = state.step
                trainer.save(run)
                timer.interval_ended(time.monotonic() - begin)
                on_event(event)
            if stop.signal and not ends:
                trainer.check()
                trainer.save(run)
                raise StoppedError(
                    f"stopped at step {state.step} of {plan[-1][1]}, state saved: `fromnoise resume {run.path}`",
                    stop.signal,
                )
            if timer.is_due(plan, state.step):
                plan = [*plan, [state.step, timer.total(plan, state.step, clock.seconds())]]
                run.update(
                    plan=plan, steps=plan[-1][1]
                )  # on the disk before the first step that depends on it
                timer.start()
                if plan[-1][1] != here.total:
                    on_event(
                        {
                            "kind": "plan",
                            "step": state.step,
                            "planned": here.total,
                            "steps": plan[-1][1],
                        }
                    )
        except DivergedError as error:
            on_event(trainer.roll_back(run, error))
    if not steps:
        trainer.finish()
        event = _report(trainer, run, budget.Section(0, 0.0, 0), batch, clock)
        trainer.save(run)
        on_event(event)


class Clock:
    """Seconds of all of the training, and steps of this session: the only things in an event that are not exact."""

    def __init__(self, run: Run):
        self.now = time.monotonic()
        self.started, self.steps = self.now - run.seconds(), 0

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def fields(self, left: int, batch_size: int) -> dict:
        now = time.monotonic()
        rate = self.steps / max(now - self.now, 1e-9)
        eta, step_seconds = (left / rate, 1 / rate) if self.steps else (0.0, 0.0)
        return {
            "seconds": now - self.started,
            "items_per_second": rate * batch_size,
            "step_seconds": step_seconds,
            "eta": eta,
        }


def _report(trainer: Trainer, run: Run, here: budget.Section, batch: Batch, clock: Clock) -> dict:
    """Writes the event of an interval and returns it: everything but the clock fields is a function of the seed."""
    state, (held_out, duel) = trainer.state, trainer.validate_and_select_average()
    if not all(math.isfinite(value) for value in held_out.values()):
        raise health.NotFinite(state.step, "the held-out metric is not finite", trainer.model)
    trainer.calibrate()
    settled = here.at(state.step) >= 0.25 * here.total  # a model that has only begun is not ill
    state.history.append(held_out["value"])
    if state.best is None or held_out["value"] < state.best["value"]:
        state.best = {"step": state.step, "value": held_out["value"]}
    train = state.take_means()
    gradients = {
        name.removeprefix(health.NORM): value
        for name, value in train.items()
        if name.startswith(health.NORM)
    }
    ill = (
        health.examine(
            trainer.ema.model, batch, state.history, trainer.intervals, duel, gradients, state.best
        )
        if settled
        else []
    )
    event = {
        "kind": "interval",
        "step": state.step,
        "steps": here.total,
        "epoch": state.step / trainer.stream.batches_per_epoch,
        "train": train,
        "validation": held_out,
        "best": state.best,
        **trainer.averages(),
        **({"duel": duel} if duel else {}),
        "health": ill,
        **clock.fields(here.total - state.step, trainer.stream.batch_size),
        "memory_mb": peak_memory_mb(trainer.device),
    }
    if trainer.options is not None and not has(
        trainer.model, FitsInClosedForm
    ):  # those sample once they are fitted
        path = save_progress_samples(
            run, trainer.ema.model, trainer.dataset, state.step, trainer.options
        )
        event["samples"] = sha256(path)
    run.append(event)
    state.events += 1
    return event


def measure(trainer: Trainer, seconds: float, most: int) -> budget.Costs:
    """Seconds of a step, by share of the budget, timed on throw-away steps; the trainer starts afresh afterwards.

    The median: the first steps (allocation, compilation) and moments when the machine was busy do not count. Where the
    cost of a step changes in the course of the training (``cost_stages``, turns, a phase that ends before it) each kind of step is timed.
    """
    kinds, edges = kinds_of_step(trainer), edges_of(trainer)
    sums = [0.0] * (len(edges) - 1)  # of each stretch between two edges: share times seconds
    for i, (start, share) in enumerate(kinds):
        times, begin = [], time.monotonic()
        trainer.state.step = start
        with contextlib.suppress(
            DivergedError
        ):  # it will diverge again in the run itself, which then says so
            while len(times) < most + 2 and (
                len(times) < 5 or time.monotonic() - begin < seconds / len(kinds)
            ):
                before = time.monotonic()
                trainer.advance(LONG)
                times.append(time.monotonic() - before)
                if len(times) >= 2 and time.monotonic() - begin > PATIENCE:
                    break
        middle = max(
            1e-9, statistics.median(times[2:] or times[1:] or times or [0.01])
        )  # a coarse clock may read 0
        sums[i * len(sums) // len(kinds)] += share * middle
    trainer.start_afresh()
    return [[end, total / (end - start)] for (start, end), total in zip(pairwise(edges), sums)]


def edges_of(trainer: Trainer) -> list[float]:
    """The shares of a budget, from 0 to 1, at which the cost of a step changes."""
    stages = trainer.model.cost_stages
    return sorted(
        {stage / stages for stage in range(stages + 1)}
        | {min(1.0, phase.until) for phase in trainer.model.phases()}
    )


def kinds_of_step(trainer: Trainer) -> list[tuple[int, float]]:
    """The first of some steps of a training of ``LONG`` that cost the same, and their share of all, for each kind."""
    lengths, found = turns(trainer.model.phases(), trainer.stream.batches_per_epoch) or [1], []
    edges = edges_of(trainer)
    for start, end in pairwise(edges):
        middle = int((start + end) / 2 * LONG) if len(edges) > 2 else 0
        first = middle - middle % sum(lengths)
        found += [
            (first + sum(lengths[:i]), length / sum(lengths) * (end - start))
            for i, length in enumerate(lengths)
        ]
    return found


class Stop:
    """SIGINT, SIGTERM and SIGHUP set a flag that the loop reads between steps.

    Which of several signals counts: ``core.signals``.
    A signal that the process was started to ignore (``nohup``) stays ignored.
    """

    def __init__(self):
        self.signal, self._old = 0, {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            FIRST.forget()
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number, frame):
        if FIRST.is_first(number):
            self.signal = number

    def __exit__(self, *_):
        for number, handler in self._old.items():
            signal.signal(number, handler)
