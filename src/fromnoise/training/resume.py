"""Continues a training from its newest checkpoint, to its end or with a budget that is added."""

import torch

from .. import families
from ..core.config import build, flag
from ..core.errors import StorageError, UsageError, did_you_mean
from ..core.family import count_parameters
from ..core.limits import BoundedConstruction
from ..core.output import OnEvent, Say, ignore_event, ignore_message, warn
from ..runs import checkpoint, checkpoint_writer
from ..runs.directory import Run
from ..runs.load import build_recorded, load_run_data
from . import budget
from .estimate import estimate_cost
from .first_stage import first_stage_weights, warn_if_retrained
from .launch import train_locked
from .plan import Plan
from .settings import BUDGETS, FREE_ON_RESUME, TrainConfig
from .stop import StopRequest
from .trainer import Trainer


def resume_run(
    run: Run,
    changes: dict | None = None,
    on_plan: OnEvent = ignore_event,
    on_event: OnEvent = ignore_event,
    warn: Say = warn,
    say: Say = ignore_message,
    trust: families.Trust = families.NO_TRUST,
    stop: StopRequest | None = None,
) -> Run:
    """Continues from the newest valid checkpoint, or from step 0 where there is none, with exactly
    the result of a run without the stop.

    changes: options given now. A budget is added to the steps of the last checkpoint, and its
    schedules are stretched over the new end; ``workers`` is free; any other difference is refused.
    Raises UsageError, DataError, StorageError, StoppedError.
    """
    changes = {name: value for name, value in (changes or {}).items() if value is not None}
    data_name = changes.pop("data", None)
    added = check_changes(run, changes)
    free = {name: changes[name] for name in ("workers", "device", "threads") if name in changes}
    with run.lock():
        # before the newest checkpoint is looked for: it may be a leftover, to be renamed
        checkpoint_writer.remove_leftovers(run)
        run.cut_unfinished_lines()
    plan = recorded_plan(run, data_name, trust, warn, **{"threads": run.record.threads} | free)
    if plan.family.second:
        warn_if_retrained(run, warn)
    with stop or StopRequest() as stop, run.lock():
        trainer, numbers = prepare_steps(run, plan, added, warn, say)
        info = {"run": str(run.path), "parameters": count_parameters(trainer.model)}
        on_plan(info | numbers)
        train_locked(trainer, run, numbers["steps"], on_event, stop)
    return Run(run.path)


def prepare_steps(run: Run, plan: Plan, added: dict, warn: Say, say: Say) -> tuple[Trainer, dict]:
    """The trainer in the state of the newest checkpoint, and the numbers of its steps.

    added: a budget, which is recorded. Raises UsageError if no step is left.
    """
    saved = newest_checkpoint(run, warn)
    first_step = saved.step if saved else 0
    if saved and first_step >= run.record.steps and not added:
        raise finished(run)
    trainer = resumed_trainer(run, plan, saved)
    numbers = {"steps": run.record.steps - first_step, "note": ""}
    if added:
        numbers = estimate_extension(run, plan, trainer, added, saved, say)
    warn_of_differences(run, trainer, warn)
    steps = first_step + numbers["steps"]
    if saved and first_step >= steps:
        raise finished(run, closed_form=True)
    if added:
        record_extension(run, trainer, first_step, steps, numbers["budget"])
    trainer.state.events = run.rewind(trainer.state.events, first_step, warn)
    run.upgrade()  # after every refusal: an earlier version can then still use the run
    return trainer, {"steps": steps, "from": first_step, "note": numbers["note"]}


def resumed_trainer(run: Run, plan: Plan, saved: checkpoint.Checkpoint | None) -> Trainer:
    """The trainer in the state of the checkpoint; without one, at step 0."""
    trainer = plan.trainer()
    if saved:
        trainer.load(saved)
    trainer.intervals = run.record.intervals or trainer.intervals
    return trainer


# -- what a run recorded --------------------------------------------------------------------------


def recorded_plan(
    run: Run,
    data_name: str | None = None,
    trust: families.Trust = families.NO_TRUST,
    warn: Say = ignore_message,
    **changes,
) -> Plan:
    """The plan that a run recorded, with changes of the training's options.

    data_name: where its data are now; trust: see ``load_run``. Raises UsageError, StorageError, and
    DataError when the data are gone or are others.
    """
    family = families.of_run(run.info, trust, str(run.path), warn)
    config = build_recorded(family.Config, family.earlier | run.info["config"], run)
    train = build_recorded(TrainConfig, run.info["train"], run).model_dump()
    saved = newest_checkpoint(run)
    initial_weights = {}
    if family.second:
        initial_weights = first_stage_weights(run, saved, trust, warn)
    size = saved.size() if saved else ()
    return Plan(
        family,
        run.record.preset,
        config,
        build(TrainConfig, train | changes),
        load_run_data(run, data_name),
        initial_weights,
        BoundedConstruction(str(run.path), *size),
    )


def newest_checkpoint(run: Run, warn: Say = ignore_message) -> checkpoint.Checkpoint | None:
    """The newest valid checkpoint; None where there is none, and the run begins at step 0."""
    try:
        return checkpoint.find(run, warn=warn)
    except StorageError as error:
        warn(f"{error}; it begins at step 0, as it did before")
        return None


# -- what may change ------------------------------------------------------------------------------


def check_changes(run: Run, changes: dict) -> dict:
    """The budget among the changes, at most one option.

    Raises UsageError for unknown options, and for changes that would change the result.
    """
    known = run.info["train"] | families.options_of(run.info) | run.record.data.settings
    for name, value in changes.items():
        if name not in known:
            hint = did_you_mean(name, known).replace("_", "-")
            raise UsageError(f"{run.record.family} has no option {flag(name)}.{hint}")
        if name not in FREE_ON_RESUME and is_different(value, known[name]):
            raise UsageError(
                f"{flag(name)} was {known[name]} in {run.path} and cannot become {value} on "
                "resume: train anew"
            )
    added = {name: changes[name] for name in BUDGETS if name in changes}
    if len(added) > 1:
        raise UsageError("give one budget: --minutes, --epochs or --steps")
    return added


def is_different(given, build_recorded) -> bool:
    """Compares values of an option, which may be text from the command line."""
    try:
        return float(given) != float(build_recorded)
    except (TypeError, ValueError):
        return as_text(given).lower() != as_text(build_recorded).lower()


def as_text(value) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def finished(run: Run, closed_form: bool = False) -> UsageError:
    """The error for a run that has no steps left."""
    steps = run.record.steps
    if closed_form or not steps:
        more = "it was fitted in closed form"
    else:
        more = (
            "to train it further give --minutes, --epochs or --steps, each the amount to add "
            "(`--steps 20`: 20 more steps)"
        )
    return UsageError(f"{run.path} is finished ({steps} steps): {more}")


def warn_of_differences(run: Run, trainer: Trainer, warn: Say) -> None:
    """Warns where the machine differs from the one before, so that the result is not exact."""
    before = run.record
    for name, old, new in (
        ("torch", before.versions.torch, torch.__version__),
        ("the number of threads", before.threads, trainer.threads),
        ("the device", before.device, str(trainer.device)),
    ):
        if old != new:
            warn(
                f"{name} is {new}, was {old}: the result will be close to, but not bit for bit, "
                "the uninterrupted one"
            )


# -- a larger budget ------------------------------------------------------------------------------


def estimate_extension(
    run: Run,
    plan: Plan,
    trainer: Trainer,
    added: dict,
    saved: checkpoint.Checkpoint | None,
    say: Say,
) -> dict:
    """``estimate_cost`` of the steps that are added. added: the budget. Raises UsageError."""
    check_extensible(run, trainer)
    values = plan.train.model_dump() | dict.fromkeys(BUDGETS) | {"plan": ()} | added
    numbers = estimate_cost(trainer, build(TrainConfig, values), say)
    if plan.train.intervals is None:  # as often as in a new run of that budget
        steps = (saved.step if saved else 0) + numbers["steps"]
        trainer.intervals = -(-steps * numbers["intervals"] // max(1, numbers["steps"]))
    if saved:
        trainer.load(saved)  # timing went back to step 0
    return numbers


def check_extensible(run: Run, trainer: Trainer) -> None:
    """Raises UsageError if what a model learns depends on the share of its budget that is done."""
    model = trainer.model
    if getattr(model.trained_config, "jumps", 0):
        reason = "learns to jump in the last part of its budget"
    elif model.cost_stages > 1 and hasattr(model, "growth"):
        reason = "grows its networks over its budget"
    else:
        return
    raise UsageError(
        f"{run.path} {reason}, which cannot be stretched: train anew with a larger one"
    )


def record_extension(
    run: Run, trainer: Trainer, first_step: int, steps: int, timed: dict | None
) -> None:
    """Writes the new total of steps into run.json. timed: of a budget in minutes."""
    plan_before = budget.read_plan(run)
    extension = {"from": first_step, "steps": steps}
    if len(plan_before) > 1:
        extension["plan"] = plan_before
    if timed:
        timed = timed | {"seconds": run.seconds() + timed["seconds"], "start": first_step}
    run.update(
        steps=steps,
        plan=[[0, steps]],
        budget=timed,
        intervals=trainer.intervals,
        extended=[*run.info.get("extended", []), extension],
    )
