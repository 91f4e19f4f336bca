"""Starts a training: from a ``Plan`` to a finished run."""

import contextlib
import os
import platform
import shlex
import sys
import time
from pathlib import Path

import torch

from ..core.errors import FromNoiseError, StoppedError, StorageError
from ..core.files import RETRY_HINT
from ..core.output import OnEvent, Say, ignore_event, ignore_message
from ..data.dataset import Dataset
from ..runs import checkpoint_writer
from ..runs.directory import Run
from ..runs.paths import check_unused, claim_folder, next_folder
from . import budget
from .clock import Clock
from .estimate import estimate_cost
from .loop import fit
from .plan import Plan
from .stop import StopRequest
from .trainer import Trainer


def start_run(
    plan: Plan,
    out: str | Path | None = None,
    command: str = "",
    on_plan: OnEvent = ignore_event,
    on_event: OnEvent = ignore_event,
    say: Say = ignore_message,
    stop: StopRequest | None = None,
) -> Run:
    """Trains from the first step and returns the run.

    say: receives a line about what is being timed; stop: what ends it early [signals].
    Raises StoppedError, DivergedError, StorageError.
    """
    stem = f"{Path(plan.dataset.name).stem}-{plan.family.name}"
    path = Path(out) if out else next_folder(Path("runs"), stem)
    with stop or StopRequest() as stop:
        # before any work
        check_unused(path)
        check_writable(path)
        trainer = plan.trainer()
        numbers = estimate_cost(trainer, plan.train, say)
        trainer.intervals = numbers["intervals"]
        path = path if out else claim_folder(Path("runs"), stem)
        info = describe_run(plan, command, numbers["steps"], trainer)
        run = Run.create(path, info | {"budget": numbers["budget"]})
        on_plan(numbers | {"run": str(run.path), "preset": plan.preset})
        with run.lock():
            train_locked(trainer, run, numbers["steps"], on_event, stop)
    return Run(path)


def check_writable(path: Path) -> None:
    """Raises StorageError if a folder cannot be made there."""
    parent = path
    while not parent.exists():
        parent = parent.parent
    if not os.access(parent, os.W_OK):
        raise StorageError(
            f"cannot write to {parent}: choose another folder with --out, or change its permissions"
        )


def train_locked(
    trainer: Trainer,
    run: Run,
    steps: int,
    on_event: OnEvent,
    stop: StopRequest,
) -> None:
    """Trains a locked run, with the start and the end in sessions.jsonl. Raises as ``fit``."""
    checkpoint_writer.remove_leftovers(run)
    clock = Clock(run)
    outcome = "ended by an error"
    try:
        started = {"started": time.time(), "step": trainer.state.step}
        process = {"threads": trainer.threads, "pid": os.getpid()}
        run.append(started | process, "sessions.jsonl")
        fit(trainer, run, steps, on_event, stop, clock)
        outcome = "finished"
    except FromNoiseError as error:
        outcome = str(error)
        if isinstance(error, StorageError) and outcome.endswith(RETRY_HINT):
            advice = f"free some space, then `fromnoise resume {run.path}`"
            raise StorageError(outcome.removesuffix(RETRY_HINT) + advice) from error
        raise
    finally:
        trainer.stream.close()
        ended = {
            "ended": time.time(),
            "step": trainer.state.step,
            "seconds": clock.seconds(),
            "outcome": outcome,
        }
        if trainer.saved is not None:
            ended["saved"] = trainer.saved
        with contextlib.suppress(StorageError):  # a full disk was reported already
            run.append(ended, "sessions.jsonl")
    if stop.signal:
        raise StoppedError(
            f"{run.path} had just finished when the signal came: nothing is lost", stop.signal
        )


# -- run.json -------------------------------------------------------------------------------------


def describe_run(plan: Plan, command: str, steps: int, trainer: Trainer) -> dict:
    """The content of run.json. command: that made the run."""
    from .. import __version__

    family = plan.family
    return {
        "family": family.name,
        "family_file": None if family.is_ours else str(family.path.resolve()),
        "family_sha256": family.sha256 or None,
        "preset": plan.preset,
        "config": plan.config.model_dump(mode="json"),
        "train": plan.train.model_dump(mode="json"),
        "data": describe_data(plan.dataset),
        "seed": plan.train.seed,
        "steps": steps,
        "plan": budget.parse_plan(plan.train.plan) or [[0, steps]],
        "intervals": trainer.intervals,
        "threads": trainer.threads,
        "device": str(trainer.device),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "fromnoise": __version__,
        },
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        # an argument may be no UTF-8
        "command": command.encode(errors="backslashreplace").decode(),
    }


def describe_data(dataset: Dataset) -> dict:
    """What run.json keeps of the data: enough to sample without them, and to recognise them."""
    described = {
        "name": dataset.name,
        "settings": dataset.settings,
        "spec": dataset.spec.to_json(),
        "digest": dataset.digest,
        "splits": {name: len(part) for name, part in dataset.splits.items()},
        "binarise": dataset.binarise,
        "class_names": list(dataset.class_names),
        "class_counts": list(dataset.training_class_counts),
        "columns": dataset.columns and dataset.columns.to_json(),
        "tokenizer": dataset.tokenizer and dataset.tokenizer.to_json(),
        "words": dataset.caption_codec and dataset.caption_codec.to_json(),
    }
    if dataset.source_file:
        described["source_file"] = dataset.source_file
    return described


def command_line(arguments: list[str] | None = None) -> str:
    """The command to run again, quoted for a shell [this one]."""
    return shlex.join(["fromnoise", *(sys.argv[1:] if arguments is None else arguments)])


def python_call(family: str, data: str, preset: str | None, within, options: dict) -> str:
    """The call of the Python interface that makes a run."""
    arguments = {"data": data, "preset": preset, "within": within and str(within)}
    arguments = {name: value for name, value in arguments.items() if value} | options
    listed = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    return f"fn.train({family!r}, {listed})"
