"""The event that ends an interval: validation, health, samples, speed."""

import math
from dataclasses import dataclass

from ..core.capabilities import FitsInClosedForm, has
from ..core.device import peak_memory_mb
from ..core.files import sha256
from ..data.stream import default_batch_size, in_order
from ..runs.directory import Run
from ..runs.progress_samples import save_progress_samples
from . import budget
from .clock import Clock
from .monitor import health
from .trainer import Trainer

MIN_SHARE = 0.25  # of the budget, before which the health of a model is not examined
BATCH_SIZE = 500  # validation examples whose codes are examined


@dataclass
class IntervalReport:
    """Writes the events of kind "interval" of a run."""

    trainer: Trainer
    run: Run
    clock: Clock

    def __post_init__(self):
        dataset = self.trainer.dataset
        size = default_batch_size(dataset.spec, BATCH_SIZE)
        self.batch = next(in_order(dataset, "validation", size, device=str(self.trainer.device)))

    def write(self, section: budget.PlanSection) -> dict:
        """Validates, writes the event and returns it.

        All of it but the clock fields is a function of the seed. Raises DivergedError if the
        validation metric is not finite.
        """
        trainer, state = self.trainer, self.trainer.state
        validation, adversarial = trainer.validate_and_select_average()
        if not all(math.isfinite(value) for value in validation.values()):
            reason = "the validation metric is not finite"
            raise health.NotFinite(state.step, reason, trainer.model)
        trainer.calibrate()
        state.add_validation(validation["value"])
        train = state.take_means()
        event = {
            "kind": "interval",
            "step": state.step,
            "steps": section.total,
            "epoch": state.step / trainer.stream.batches_per_epoch,
            "train": train,
            "validation": validation,
            "best": state.best,
            **trainer.average_fields(),
            **({"duel": adversarial} if adversarial else {}),
            "health": self.diagnose(section, train, adversarial),
            **self.clock.fields(section.total - state.step, trainer.stream.batch_size),
            "memory_mb": peak_memory_mb(trainer.device),
        }
        if draws_progress_samples(trainer):
            event["samples"] = self.save_samples()
        self.run.append(event)
        state.events += 1
        return event

    def diagnose(
        self, section: budget.PlanSection, train: dict[str, float], adversarial: dict
    ) -> list[str]:
        """What is wrong with the model; nothing early in the budget."""
        trainer, state = self.trainer, self.trainer.state
        if section.at(state.step) < MIN_SHARE * section.total:
            return []
        gradients = {
            name.removeprefix(health.NORM): value
            for name, value in train.items()
            if name.startswith(health.NORM)
        }
        return health.diagnose(
            trainer.ema.model,
            self.batch,
            state.history,
            trainer.intervals,
            adversarial,
            gradients,
            state.best,
        )

    def save_samples(self) -> str:
        """Saves the progress samples of this step; returns the sha256 of their file."""
        trainer = self.trainer
        path = save_progress_samples(
            self.run, trainer.ema.model, trainer.dataset, trainer.state.step, trainer.options
        )
        return sha256(path)


def draws_progress_samples(trainer: Trainer) -> bool:
    """False for a model in closed form, which can sample only once it is fitted."""
    return trainer.options is not None and not has(trainer.model, FitsInClosedForm)
