"""Model, weight averages, optimisers and data stream of a run, and what is saved of them."""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..core.capabilities import ChoosesSamples, FitsBefore, FitsInClosedForm, Judges, has
from ..core.config import BaseConfig
from ..core.device import can_compile, compilable_modules, select_device, set_threads
from ..core.errors import DivergedError, StorageError, UsageError
from ..core.family import Family, turns
from ..core.output import warn
from ..core.rng import Rng
from ..data.dataset import Dataset
from ..data.stream import Stream, in_order
from ..runs import checkpoint, checkpoint_writer
from ..runs.averages import Ema
from ..runs.directory import Run
from . import budget
from .monitor import health
from .monitor.adversarial import AdversarialMonitor
from .monitor.validation import objective
from .optim import lr_factor, make_optimizers
from .settings import INTERVALS, TrainConfig
from .state import TrainerState
from .step import train_step

MAX_DIVERGENCES = 3  # twice a run goes back and on with half the learning rate; then it ends


class Trainer:
    """Everything that changes in the course of a training, made from its seed alone.

    build: constructs the model, called once, after torch's generators are seeded.
    options: how an adversarial family's samples are drawn where they are measured.
    """

    def __init__(
        self,
        build: Callable[[], Family],
        dataset: Dataset,
        config: TrainConfig,
        options: BaseConfig | None = None,
    ):
        self.config = config
        self.dataset = dataset
        self.options = options
        self.intervals = config.intervals or INTERVALS
        self.device = select_device(config.device)
        self.threads = set_threads(config.threads)
        self.rng = Rng(config.seed, device=self.device)
        self.compile = config.compile and can_compile()
        self.stream: Stream | None = None
        self.saved: int | None = None  # step of the newest checkpoint on the disk
        self._monitor: AdversarialMonitor | None = None
        self.start_from(self.build_model(build))
        if len(config.averages) > 1 and has(self.model, Judges):
            raise UsageError(
                "--averages: the losses of this family rank no averages, so give one width, "
                "such as --averages 0.05"
            )
        # raises now if the phases do not go together
        turns(self.model.phases(), self.stream.batches_per_epoch)

    # -- the model before step 1 ---------------------------------------------------------------------

    def build_model(self, build: Callable[[], Family]) -> Family:
        """The model with its initial weights, and with what is fitted before the first step."""
        self.rng.at("init").seed_torch()
        model = build().to(self.device)
        if has(model, FitsBefore):
            model.fit_before(
                lambda: in_order(self.dataset, "train", device=self.device, rest=True),
                self.rng.at("fit before"),
            )
        return model

    def start_from(self, model: Family) -> None:
        """Step 0 with this model: new averages, optimisers and state."""
        self.model = model
        self.ema = Ema(model, self.config.ema, self.config.averages)
        self.optimizers = make_optimizers(model, self.config)
        self.set_state(TrainerState())
        if self.compile:
            for module in compilable_modules(model):
                module.compile()

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Steps within it train a copy. Afterwards the model is as before, at step 0."""
        model = self.model
        self.start_from(copy.deepcopy(model))
        try:
            yield
        finally:
            self.start_from(model)

    def set_state(self, state: TrainerState) -> None:
        """Random numbers belong to a path: after a rollback it is another, and so are all batches."""
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

    # -- steps ---------------------------------------------------------------------------------------

    def advance(self, steps: int | budget.Decisions) -> tuple[dict[str, float], dict[str, float]]:
        """One step of a budget of ``steps``, or of a plan: its terms and gradient norms."""
        step = self.state.step
        section = budget.find_section([[0, steps]] if isinstance(steps, int) else steps, step)
        self.model.progress = section.at(step) / section.total
        factor = lr_factor(section.at(step), section.total, self.config) * 0.5**self.state.rollbacks
        result = train_step(
            self.model, self.optimizers, self.stream, step, self.step_rng, self.config, factor
        )
        self.ema.update(self.model, step)
        self.state.step += 1
        progress = section.at(self.state.step) / section.total
        self.model.progress = progress
        self.ema.model.progress = progress
        return result

    @torch.no_grad()
    def check_weights(self) -> None:
        """Called before anything is kept. Raises DivergedError."""
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise health.NotFinite(self.state.step, "a weight is not finite", self.model)

    @torch.no_grad()
    def finish(self) -> None:
        """Fits what a family computes from the whole training set: a closed form, a density of
        codes. Raises DivergedError."""
        self.check_weights()
        if has(self.model, FitsInClosedForm) and len(self.config.averages) > 1:
            self.validate()  # selects the average first: what is fitted belongs to its weights
        for model in (self.model, self.ema.model):
            if has(model, FitsInClosedForm):
                model.fit(
                    lambda: in_order(self.dataset, "train", device=self.device), self.rng.at("fit")
                )

    # -- validation ----------------------------------------------------------------------------------

    def validate(self) -> dict[str, float]:
        """Terms of the averaged weights on validation data; ``value`` ranks checkpoints, lower is
        better."""
        return self.validate_and_select_average()[0]

    def validate_and_select_average(self) -> tuple[dict[str, float], dict]:
        """The validation terms, and the numbers of the adversarial monitor (empty for other families).

        Of several averages the one with the lowest value is in use from here on.
        """
        rng = self.rng.at("validate")
        if has(self.model, Judges):
            return self.monitor(rng).measure(self.model, self.ema.model)
        self.average_terms = []  # of each average, with the same noise
        for index in range(len(self.ema.weights)):
            self.ema.use(index)
            terms = objective(
                self.ema.model, self.dataset, self.config.validation_examples, rng, self.device
            )
            self.average_terms.append(terms)
        values = [finite_or(terms["value"], math.inf) for terms in self.average_terms]
        self.state.average = values.index(min(values))
        self.ema.use(self.state.average)
        return self.average_terms[self.state.average], {}

    def monitor(self, rng: Rng) -> AdversarialMonitor:
        """Made once: the real examples are measured once."""
        if self._monitor is None:
            self._monitor = AdversarialMonitor(
                self.dataset, self.options, self.config.validation_examples, rng, self.device
            )
        return self._monitor

    def calibrate(self) -> None:
        """Fits the factor that turns D's scores into log ratios of densities, on validation data
        (families that select samples by D)."""
        if has(self.model, ChoosesSamples) and not self.model.choice.why_never():
            pairs = self._monitor.calibration_scores(self.ema.model)
            # the buffers of the averaged model are copied from the other one
            for model in (self.model, self.ema.model):
                choice: Any = model.choice
                choice.calibrate(*pairs)

    def average_fields(self) -> dict:
        """Validation value of each weight average, and the width of the selected one.

        None marks a value that is not finite. Empty if there is only one average.
        """
        widths = self.config.averages
        if len(widths) < 2:
            return {}
        values = [finite_or(terms["value"], None) for terms in self.average_terms]
        by_width = {str(width): value for width, value in zip(widths, values)}
        return {"average": {"width": widths[self.state.average], "held_out": by_width}}

    # -- checkpoints ---------------------------------------------------------------------------------

    def save(self, run: Run) -> None:
        """Writes a checkpoint; that of the last interval and the best one are kept besides."""
        optim = {}
        for key, optimizer in self.optimizers.items():
            for name, tensor in optimizer.tensors().items():
                optim[f"{'+'.join(key)}/{name}"] = tensor
        parts = {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optim": optim | self.ema.others(),
        }
        keep = {self.state.good}
        if self.state.best:
            keep.add(self.state.best["step"])
        state = vars(self.state) | {"threads": self.threads, "progress": self.ema.model.progress}
        checkpoint_writer.save(run, self.state.step, parts, state, keep)
        self.saved = self.state.step

    def load(self, saved: checkpoint.Checkpoint) -> None:
        """Goes to the state of a checkpoint. Raises StorageError where it is of another model."""
        averages = saved.tensors("ema")
        optim = saved.tensors("optim")
        saved.load_into(self.model, saved.tensors("model"))
        saved.load_into(self.ema.model, averages)
        try:
            self.ema.load(saved.manifest.average, averages, optim)
            for key, optimizer in self.optimizers.items():
                optimizer.load(without_prefix(optim, "+".join(key) + "/"))
        except (RuntimeError, ValueError, KeyError, IndexError) as error:
            raise StorageError(
                f"{saved.path} does not fit this version of its family: {error}"
            ) from None
        recorded = saved.manifest.state()
        self.set_state(
            TrainerState(
                **{name: recorded[name] for name in vars(TrainerState()) if name in recorded}
            )
        )
        self.saved = saved.step

    def roll_back(self, run: Run, error: DivergedError) -> dict:
        """Goes back to the last good checkpoint, with half the learning rate and other random numbers.

        Returns the event. Raises DivergedError the third time, StorageError when no checkpoint is left.
        """
        step = self.state.step
        rollbacks = self.state.rollbacks + 1
        reason = getattr(error, "reason", str(error))
        saved = checkpoint.find(run, until=self.state.good, warn=warn)
        if rollbacks == MAX_DIVERGENCES:
            where = f". The last good state is step {saved.step}, in {run.path}"
            raise health.NotFinite(step, reason, self.model, MAX_DIVERGENCES, where)
        self.load(saved)
        later_events = run.events()[self.state.events :]
        earlier_rollbacks = [event for event in later_events if event["kind"] == "rollback"]
        run.rewind(self.state.events, saved.step, warn)
        events = self.state.events + len(earlier_rollbacks) + 1
        self.set_state(dataclasses.replace(self.state, rollbacks=rollbacks, events=events))
        event = {
            "kind": "rollback",
            "step": step,
            "to": saved.step,
            "reason": reason,
            "lr_factor": 0.5**rollbacks,
        }
        for line in (*earlier_rollbacks, event):
            run.append(line)
        checkpoint_writer.discard_after(run, saved.step)
        return event


def finite_or(value: float, other: float | None) -> float | None:
    """value, or ``other`` where it is infinite or NaN."""
    return value if math.isfinite(value) else other


def without_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with ``prefix``, by the rest of their names."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
