"""From names and options to a running training: ``plan``, ``start``, ``resume``."""

import contextlib
import copy
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from .. import data, families
from ..core.capabilities import Judges, has
from ..core.config import BaseConfig, build, flag
from ..core.device import best_precision, peak_memory_mb, pick_device
from ..core.errors import FromNoiseError, StoppedError, StorageError, UsageError, did_you_mean
from ..core.family import Family, count_parameters
from ..core.files import RETRY_HINT
from ..core.limits import Bounded
from ..core.output import warn
from ..core.spec import DataSpec
from ..data.config import DataConfig
from ..data.dataset import Dataset
from ..families import two_stage
from ..runs import checkpoint
from ..runs.directory import Run, claim_folder, next_folder, refuse_taken, writable_name
from ..runs.load import LoadedRun, dataset_of, found_at, recorded, restore
from . import budget as budgets
from .first_stage import check_first_stage, choose_form
from .loop import Clock, Stop, Trainer, fit, measure
from .settings import BUDGETS, FREE_ON_RESUME, INTERVALS, TrainConfig

DEFAULT_MINUTES = 1.0
WORTH_SAYING = 10.0  # seconds
VALIDATION_SHARE, MIN_INTERVALS = (
    0.2,
    2,
)  # share of the minutes that goes into intervals, where nobody says how many


@dataclass(frozen=True)
class Plan:
    """A training, resolved: nothing is left to default. taken: weights that are taken over, those of a first stage.

    bound: of a plan that a run recorded, what building its model may take.
    """

    family: families.FamilyFile
    preset: str
    config: BaseConfig
    train: TrainConfig
    dataset: Dataset
    taken: dict[str, torch.Tensor] = field(default_factory=dict)
    bound: Bounded | None = None

    @property
    def options(self) -> BaseConfig:
        """What the options of the command line made of the family."""
        return self.config.second_config() if self.family.second else self.config

    def build(self) -> Family:
        with copy.copy(self.bound) or contextlib.nullcontext():
            model = self.family.FAMILY(self.config, self.dataset.spec)
        if self.taken:
            model.load_state_dict(model.state_dict() | self.taken)
        return model

    def trainer(self) -> Trainer:
        return Trainer(self.build, self.dataset, self.train, self.family.progress_options)


def option_models(family: families.FamilyFile) -> tuple[type[BaseConfig], ...]:
    """Where the options of a training live; no name stands in two of them."""
    return (family.trained.Config, TrainConfig, DataConfig)


def plan(
    family_name: str,
    data_name: str | None = None,
    preset: str | None = None,
    within: str | Path | None = None,
    trust: families.Trust = families.NO_TRUST,
    warn: Callable[[str], None] = lambda line: None,
    **options,
) -> Plan:
    """Resolves a preset and options into configurations and loads the data (None: digits).

    An option belongs to the family, the training or the data, by its name. within: a run, in whose codes the family is
    trained; its data and their options are taken over; trust: whether code that it names may be executed, besides that of
    ``family_name``. Raises UsageError, DataError, StorageError.
    """
    family = families.load(family_name)
    models = option_models(family)
    known = [name for model in models for name in model.model_fields]
    for name in options:
        if name not in known:
            hint = did_you_mean(name, [*known, "data", "preset", "out", "within"])
            raise UsageError(f"{family.name} has no option {flag(name)}.{hint.replace('_', '-')}")
    if sum(options.get(name) not in (None, ()) for name in (*BUDGETS, "plan")) > 1:
        raise UsageError("give one budget: --minutes, --epochs or --steps (or --plan)")

    def pick(model, values):
        return {k: v for k, v in values.items() if k in model.model_fields}

    for model in models:  # complain about an option before loading anything
        build(model, pick(model, options))
    if family.sha256:
        trust = replace(trust, files=(*trust.files, family.path))
    first = first_stage(within, trust, warn) if within else None
    default_name, settings = (
        (first.run.record.data.name, first.run.record.data.settings) if first else ("digits", {})
    )
    data_name = data_name or default_name
    writable_name(data_name, "--data")
    data_name = found_at(data_name)
    dataset = data.load(data_name, build(DataConfig, settings | pick(DataConfig, options)))
    if first:
        check_same_data(first.run, dataset)
    form = choose_form(first.model, family) if first else None
    preset = preset or family.preset_for(
        two_stage.second_spec(first.model, form) if first else dataset.spec
    )
    if preset not in family.PRESETS:
        hint = did_you_mean(preset, family.PRESETS)
        raise UsageError(
            f"{family.name} has no preset '{preset}'.{hint} Known: {', '.join(family.PRESETS)}"
        )
    values = family.PRESETS[preset] | options
    if "ema" in options:  # instead of a preset's averages
        if options.get("averages"):
            raise UsageError("--averages take the place of --ema: give one of them")
        values = values | {"averages": ()}
    train = build(TrainConfig, pick(TrainConfig, values))
    if train.plan:
        budgets.from_option(train.plan)
    if (
        train.precision == "auto"
    ):  # once and for all: a resume on another machine computes in the same way
        train = train.model_copy(update={"precision": best_precision(pick_device(train.device))})
    config, taken = build(family.Config, pick(family.Config, values)), {}
    if not first:
        dataset = with_label_learned(dataset, data_name, config)
    if first:
        config = two_stages(first, form, family, config)
        family, taken = (
            two_stage.two_stage_family(config),
            {f"first.{name}": t for name, t in first.model.state_dict().items()},
        )
    result = Plan(family, preset, config, train, dataset, taken)
    result.build()  # options that do not go together are told now
    return result


def with_label_learned(dataset: Dataset, data_name: str, config: BaseConfig) -> Dataset:
    """The data, with the label column of a table among what is learned where the model is not told it; a note says so.

    Raises UsageError where ``learn_label`` is asked for in vain.
    """
    asked, label = (
        dataset.settings.get("learn_label"),
        dataset.columns is not None and dataset.columns.label,
    )
    conditional = getattr(config, "conditional", False)
    if asked and (conditional or not label):
        why = (
            "a conditional model is told the label"
            if conditional
            else "it goes with --label, which names the column"
        )
        raise UsageError(f"--learn-label: {why}: leave it out")
    if conditional or not label:
        return dataset
    if asked is False:
        note = f"the label column '{label}' is not learned and will not be in samples: leave --no-learn-label out"
    else:
        note = f"the label column '{label}' is learned as one more column; --conditional tells the model the label instead"
    if asked is None:
        dataset = data.load(data_name, build(DataConfig, dataset.settings | {"learn_label": True}))
    return replace(dataset, notes=(*dataset.notes, note))


# -- a second stage within a first one -------------------------------------------------------------------------


def first_stage(
    path: str | Path,
    trust: families.Trust = families.NO_TRUST,
    warn: Callable[[str], None] = lambda line: None,
) -> LoadedRun:
    """A run as a first stage, without its data. Raises UsageError, StorageError."""
    found = restore(Run(path), device="cpu", with_data=False, trust=trust, warn=warn)
    check_first_stage(found.model, str(path))
    return found


def check_same_data(first: Run, dataset: Dataset) -> None:
    """Raises UsageError unless the data are those of the first stage, in the same form."""
    then = first.record.data
    if (
        then.digest != dataset.digest
        or then.binarise != dataset.binarise
        or DataSpec(**then.spec.model_dump()) != dataset.spec
    ):
        what = (
            f"'{then.name}'"
            if then.name != dataset.name
            else "the same data in another form or as they were before"
        )
        raise UsageError(
            f"{first.path} was trained on {what}, not on this '{dataset.name}': leave --data and its options out, they are taken from the run"
        )


def two_stages(
    first: LoadedRun, form: str, second: families.FamilyFile, config: BaseConfig
) -> BaseConfig:
    """What run.json keeps of both."""

    def name(family):
        return family.name if family.path.parent == families.HERE else str(family.path.resolve())

    return build(
        two_stage.Config,
        {
            "within": str(first.run.path.resolve()),
            "digest": weights_digest(first.run),
            "form": form,
            "first": {
                "family": name(first.family),
                "config": first.run.info["config"],
                "sha256": first.family.sha256,
            },
            "second": {
                "family": name(second),
                "config": config.model_dump(mode="json"),
                "sha256": second.sha256,
            },
            "conditional": (first.model.conditional or getattr(config, "conditional", False)),
        },
    )


def weights_digest(run: Run) -> str:
    """sha256 of the averaged weights of the last checkpoint."""
    return checkpoint.find(run).manifest.files["ema.safetensors"].sha256


def check_retrained(run: Run, warn: Callable[[str], None]) -> None:
    """Says so when the first stage of a run is another one by now. It does not matter: the run has its own copy."""
    try:
        now = weights_digest(Run(run.info["config"]["within"]))
    except FromNoiseError:  # gone, moved, damaged
        return
    if now != run.info["config"]["digest"]:
        warn(
            f"{run.info['config']['within']} was trained since {run.path} began, which keeps the first stage that it began with"
        )


def estimate(
    trainer: Trainer, config: TrainConfig, say: Callable[[str], None] = lambda line: None
) -> dict:
    """Parameters, steps, intervals, seconds, examples a second and memory of a training, by running some steps and throwing them away.

    note: in words, what the budget cannot keep, or what most of it goes into; or "". budget: of minutes, what
    ``budget.Timer`` needs; else None. say: is told what is being timed.
    """
    begin = time.monotonic()
    parameters, looks = count_parameters(trainer.model), config.intervals or INTERVALS
    if not trainer.model.phases():
        return {
            "parameters": parameters,
            "steps": 0,
            "intervals": looks,
            "budget": None,
            "note": "",
            "seconds": None,
            "items_per_second": None,
            "step_seconds": None,
            "memory_mb": peak_memory_mb(trainer.device),
        }
    planned = budgets.from_option(config.plan)[-1][1] if config.plan else None
    minutes = (
        DEFAULT_MINUTES
        if not planned and all(getattr(config, name) is None for name in BUDGETS)
        else config.minutes
    )
    per_epoch = trainer.stream.batches_per_epoch
    steps = (
        config.steps
        or planned
        or (max(1, round(config.epochs * per_epoch)) if config.epochs else None)
    )
    patience = 0.2 if steps else min(3.0, 0.03 * 60 * minutes)
    say("timing the first steps ...")
    costs = measure(trainer, patience, most=3 if steps else 500)
    step_seconds = budgets.mean_cost(costs)
    if time.monotonic() - begin > WORTH_SAYING:
        say(
            f"a step takes about {budgets.seconds_words(step_seconds)}; timing a look at the held-out examples ..."
        )
    if has(trainer.model, Judges):
        trainer.validate()  # the real examples are measured once
    before = time.monotonic()
    trainer.validate()
    interval_seconds = 1.1 * (time.monotonic() - before)
    note, budget = "", None
    if steps is None:
        if config.intervals is None:
            looks = min(
                looks, max(MIN_INTERVALS, int(VALIDATION_SHARE * 60 * minutes / interval_seconds))
            )
        left = 60 * minutes - looks * interval_seconds - (time.monotonic() - begin)
        steps = int(left / step_seconds)
        if steps < looks:
            steps = looks
            mend = (
                "fewer --validation-examples" if config.intervals is None else "fewer --intervals"
            )
            note = f"{minutes:g} minutes are too short for {steps} intervals of one step each, and will be overrun: give more, or {mend}"
        budget = {
            "seconds": 60 * minutes - (time.monotonic() - begin),
            "look": interval_seconds,
            "costs": costs,
            "start": 0,
        }
    looking = looks * interval_seconds
    if not note and looking > max(WORTH_SAYING, steps * step_seconds):
        note = f"{looking:.0f} s of it are for looking at held-out examples, more than for learning: give fewer --intervals, or fewer --validation-examples"
    return {
        "parameters": parameters,
        "steps": steps,
        "intervals": looks,
        "budget": budget,
        "note": note,
        "seconds": steps * step_seconds + looking,
        "items_per_second": trainer.stream.batch_size / step_seconds,
        "step_seconds": step_seconds,
        "memory_mb": peak_memory_mb(trainer.device),
    }


def describe(plan: Plan, command: str, steps: int, trainer: Trainer) -> dict:
    """What run.json holds."""
    return {
        "family": plan.family.name,
        "family_file": None
        if plan.family.path.parent == families.HERE
        else str(plan.family.path.resolve()),
        "family_sha256": plan.family.sha256 or None,
        "preset": plan.preset,
        "config": plan.config.model_dump(mode="json"),
        "train": plan.train.model_dump(mode="json"),
        "data": {
            "name": plan.dataset.name,
            "settings": plan.dataset.settings,
            "spec": plan.dataset.spec.to_json(),
            "digest": plan.dataset.digest,
            "splits": {name: len(part) for name, part in plan.dataset.splits.items()},
            "binarise": plan.dataset.binarise,
            "class_names": list(plan.dataset.class_names),
            "class_counts": list(plan.dataset.training_class_counts),
            "columns": plan.dataset.columns and plan.dataset.columns.to_json(),
            "tokenizer": plan.dataset.tokenizer and plan.dataset.tokenizer.to_json(),
            "words": plan.dataset.caption_codec and plan.dataset.caption_codec.to_json(),
        },
        "seed": plan.train.seed,
        "steps": steps,
        "plan": budgets.from_option(plan.train.plan) or [[0, steps]],
        "intervals": trainer.intervals,
        "threads": trainer.threads,
        "device": str(trainer.device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "fromnoise": _version(),
        },
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "command": command.encode(
            errors="backslashreplace"
        ).decode(),  # an argument may be no UTF-8
    }


def start(
    plan: Plan,
    out: str | Path | None = None,
    command: str = "",
    on_plan=lambda info: None,
    on_event=lambda e: None,
    say=lambda line: None,
) -> Run:
    """Trains from the first step and returns the run. say: see ``estimate``. Raises StoppedError, DivergedError, StorageError."""
    stem = f"{Path(plan.dataset.name).stem}-{plan.family.name}"
    path = Path(out) if out else next_folder(Path("runs"), stem)
    with Stop() as stop:
        refuse_taken(path)  # before any work
        _writable(path)
        trainer = plan.trainer()
        numbers = estimate(trainer, plan.train, say)
        trainer.intervals = numbers["intervals"]
        path = path if out else claim_folder(Path("runs"), stem)
        run = Run.create(
            path, describe(plan, command, numbers["steps"], trainer) | {"budget": numbers["budget"]}
        )
        on_plan(numbers | {"run": str(run.path), "preset": plan.preset})
        with run.lock():
            _train(trainer, run, numbers["steps"], on_event, stop)
    return Run(path)


def _writable(path: Path) -> None:
    parent = path
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK):
        raise StorageError(
            f"cannot write to {parent}: choose another folder with --out, or change its permissions"
        )


def _train(trainer: Trainer, run: Run, steps: int, on_event, stop: Stop) -> None:
    """The training of a locked run."""
    checkpoint.remove_leftovers(run)
    outcome, clock = "ended by an error", Clock(run)
    try:
        run.append(
            {
                "started": time.time(),
                "step": trainer.state.step,
                "threads": trainer.threads,
                "pid": os.getpid(),
            },
            "sessions.jsonl",
        )
        fit(trainer, run, steps, on_event, stop, clock)
        outcome = "finished"
    except FromNoiseError as error:
        outcome = str(error)
        if isinstance(error, StorageError) and outcome.endswith(RETRY_HINT):
            raise StorageError(
                f"{outcome.removesuffix(RETRY_HINT)}free some space, then `fromnoise resume {run.path}`"
            ) from error
        raise
    finally:
        trainer.stream.close()
        saved = {} if trainer.saved is None else {"saved": trainer.saved}
        with contextlib.suppress(StorageError):  # a full disk has been told already
            run.append(
                {
                    "ended": time.time(),
                    "step": trainer.state.step,
                    "seconds": clock.seconds(),
                    "outcome": outcome,
                }
                | saved,
                "sessions.jsonl",
            )
    if stop.signal:
        raise StoppedError(
            f"{run.path} had just finished when the signal came: nothing is lost", stop.signal
        )


def planned(
    run: Run,
    data_name: str | None = None,
    trust: families.Trust = families.NO_TRUST,
    warn: Callable[[str], None] = lambda line: None,
    **changes,
) -> Plan:
    """The plan that a run recorded; data_name: where its data are now; trust: see ``restore``. Raises DataError when they are gone or others."""
    family = families.of_run(run.info, trust, str(run.path), warn)
    config, taken = recorded(family.Config, family.earlier | run.info["config"], run), {}
    train = build(TrainConfig, recorded(TrainConfig, run.info["train"], run).model_dump() | changes)
    if family.second:
        taken = first_weights(run, trust, warn)
    saved = newest(run)
    bound = Bounded(str(run.path), *saved.size()) if saved else Bounded(str(run.path))
    return Plan(family, run.record.preset, config, train, dataset_of(run, data_name), taken, bound)


def first_weights(
    run: Run, trust: families.Trust, warn: Callable[[str], None]
) -> dict[str, torch.Tensor]:
    """The weights of the first stage of a run, its own; of one without a checkpoint those that it began with, proven by their digest.

    Raises StorageError where they are not there any more.
    """
    saved = newest(run)
    if saved:
        return {name: t for name, t in saved.tensors("model").items() if name.startswith("first.")}
    within, digest = run.info["config"]["within"], run.info["config"]["digest"]
    try:
        if weights_digest(Run(within)) == digest:
            return {
                f"first.{name}": t
                for name, t in first_stage(within, trust, warn).model.state_dict().items()
            }
        reason = "was trained since"
    except FromNoiseError as error:
        reason = f"cannot be opened: {error}"
    raise StorageError(
        f"{run.path} has no checkpoint yet, and its first stage {within} {reason}: train anew"
    )


def newest(
    run: Run, warn: Callable[[str], None] = lambda line: None
) -> checkpoint.Checkpoint | None:
    """The newest valid checkpoint; None where there is none, and a run begins at step 0, as it did: it is a function of its seed."""
    try:
        return checkpoint.find(run, warn=warn)
    except StorageError as error:
        warn(f"{error}; it begins at step 0, as it did before")
        return None


def resume(
    run: Run,
    changes: dict | None = None,
    on_plan=lambda info: None,
    on_event=lambda e: None,
    warn: Callable[[str], None] = warn,
    say: Callable[[str], None] = lambda line: None,
    trust: families.Trust = families.NO_TRUST,
) -> Run:
    """Goes on from the newest valid checkpoint, or from step 0 where there is none, with exactly the result of a run without the stop.

    changes: options given now. A budget counts from the last checkpoint (its schedules are stretched over the new end); ``workers`` is free;
    any other difference is refused by name. Raises UsageError, DataError, StorageError, StoppedError.
    """
    changes = {name: value for name, value in (changes or {}).items() if value is not None}
    data_name = changes.pop("data", None)
    known = run.info["train"] | families.options_of(run.info) | run.record.data.settings
    for name, value in changes.items():
        if name not in known:
            raise UsageError(
                f"{run.record.family} has no option {flag(name)}.{did_you_mean(name, known).replace('_', '-')}"
            )
        if name not in FREE_ON_RESUME and _differs(value, known[name]):
            raise UsageError(
                f"{flag(name)} was {known[name]} in {run.path} and cannot become {value} on resume: train anew"
            )
    budget = {name: changes[name] for name in BUDGETS if name in changes}
    if len(budget) > 1:
        raise UsageError("give one budget: --minutes, --epochs or --steps")
    free = {name: changes[name] for name in ("workers", "device", "threads") if name in changes}
    with run.lock():
        checkpoint.remove_leftovers(
            run
        )  # before the newest one is looked for: it may have lost its name
        run.cut_last_lines()
    plan = planned(run, data_name, trust, warn, **{"threads": run.record.threads} | free)
    if plan.family.second:
        check_retrained(run, warn)
    with Stop() as stop, run.lock():
        saved = newest(run, warn)
        begin = saved.step if saved else 0
        steps, note = run.record.steps, ""
        if saved and saved.step >= steps and not budget:
            more = (
                "to train it further give --minutes, --epochs or --steps, each the amount to add (`--steps 20`: 20 more steps)"
                if steps
                else "it was fitted in closed form"
            )
            raise UsageError(f"{run.path} is finished ({steps} steps): {more}")
        trainer = plan.trainer()
        if saved:
            trainer.load(saved)
        trainer.intervals = run.record.intervals or trainer.intervals
        if budget and getattr(trainer.model.trained_config, "jumps", 0):
            raise UsageError(
                f"{run.path} learns to jump in the last part of its budget, which cannot be stretched: train anew with a larger one"
            )
        if budget and trainer.model.cost_stages > 1 and hasattr(trainer.model, "growth"):
            raise UsageError(
                f"{run.path} grows its networks over its budget, which cannot be stretched: train anew with a larger one"
            )
        if budget:
            more = build(
                TrainConfig,
                {**plan.train.model_dump(), **dict.fromkeys(BUDGETS), "plan": (), **budget},
            )
            numbers = estimate(trainer, more, say)
            steps, note = begin + numbers["steps"], numbers["note"]
            if plan.train.intervals is None:  # as often as a new run of that budget would
                trainer.intervals = -(-steps * numbers["intervals"] // max(1, numbers["steps"]))
            if saved:
                trainer.load(saved)  # again: the steps that were timed have moved it
        for what, then, now in (
            ("torch", run.record.versions.torch, torch.__version__),
            ("the number of threads", run.record.threads, trainer.threads),
            ("the device", run.record.device, str(trainer.device)),
        ):
            if then != now:
                warn(
                    f"{what} is {now}, was {then}: the result will be close to, but not bit for bit, the uninterrupted one"
                )
        if saved and saved.step >= steps:
            raise UsageError(
                f"{run.path} is finished ({steps} steps): it was fitted in closed form"
            )
        if budget:
            before, timed = budgets.plan_of(run), numbers["budget"]
            extension = {"from": begin, "steps": steps} | (
                {"plan": before} if len(before) > 1 else {}
            )
            timed = timed and timed | {"seconds": run.seconds() + timed["seconds"], "start": begin}
            extended = [*run.info.get("extended", []), extension]
            run.update(
                steps=steps,
                plan=[[0, steps]],
                budget=timed,
                intervals=trainer.intervals,
                extended=extended,
            )
        trainer.state.events = run.rewind(trainer.state.events, begin, warn)
        run.upgrade()  # after every refusal: an earlier version can then still use the run
        on_plan(
            {
                "run": str(run.path),
                "parameters": count_parameters(trainer.model),
                "steps": steps,
                "from": begin,
                "note": note,
            }
        )
        _train(trainer, run, steps, on_event, stop)
    return Run(run.path)


def _differs(given, recorded) -> bool:
    def as_text(value):
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)

    try:
        return float(given) != float(recorded)
    except (TypeError, ValueError):
        return as_text(given).lower() != as_text(recorded).lower()


def _version() -> str:
    from .. import __version__

    return __version__


def command_line(argv: list[str] | None = None) -> str:
    """The command to run again, quoted for a shell."""
    import shlex

    argv = sys.argv[1:] if argv is None else argv
    return shlex.join(["fromnoise", *argv])
