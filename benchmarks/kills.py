"""Kills a training at a random file operation, again and again, and looks whether it resumes to the same bits.

    python benchmarks/kills.py [--kills 500] [--seed 0]

A child process trains a tiny model into a folder. Its file operations (write, fsync, rename, replace, mkdir, rmdir,
unlink, truncate) are counted, and at one of them, drawn at random, the process ends at once, as by SIGKILL; of every
second write a part is on the disk by then. A second child goes on with the run (or begins it anew, where no run.json was
there yet), and is killed too in a third of the cases; the last one finishes. The weights, the averaged weights, the
state of the optimiser and the events must be those of a training that nobody disturbed, and ``verify`` must be content.

Children are forks of a process that has torch loaded and one thread. What a power failure does to data that were
written and not flushed is not simulated.
"""

import argparse
import builtins
import functools
import io
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from fromnoise.checks.exactness import first_difference
from fromnoise.core.errors import FromNoiseError, UsageError
from fromnoise.runs import checkpoint_writer
from fromnoise.runs.directory import Run
from fromnoise.runs.verify import verify
from fromnoise.training.launch import start_run
from fromnoise.training.plan import Plan, make_plan
from fromnoise.training.resume import resume_run

COMMON = {"batch_size": 32, "validation_examples": 20, "threads": 1, "intervals": 3}
MODELS = {
    "vae": {"family_name": "vae", "hidden": (4,), "latent_dim": 2, "steps": 6, **COMMON},
    "closed form": {"family_name": "classical", "latent_dim": 2, **COMMON},
}
KILLED, TORN = 77, 0.5  # exit status of a killed child; share of writes of which a part is there
OPERATIONS = ("fsync", "rename", "replace", "mkdir", "rmdir", "unlink", "truncate", "ftruncate")


class Saboteur:
    """Counts file operations below a folder and ends the process at the ``last``; 0 only counts.

    Installed for the rest of the process. Python's own buffered files are replaced by ones whose writes are seen.
    """

    def __init__(self, folder: Path, last: int, rng: np.random.Generator):
        self.folder, self.last, self.rng, self.count = str(folder), last, rng, 0

    def install(self) -> "Saboteur":
        for name in OPERATIONS:
            setattr(os, name, self.around(getattr(os, name)))
        self.real_open, self.real_write = builtins.open, os.write
        builtins.open = io.open = self.open
        return self

    def due(self) -> bool:
        self.count += 1
        return self.count == self.last

    def around(self, operation):
        def counted(*args, **options):
            if self.due():
                os._exit(KILLED)
            return operation(*args, **options)

        return counted

    def open(self, file, mode="r", *args, **options):
        opened = self.real_open(file, mode, *args, **options)
        mine = isinstance(file, str | os.PathLike) and os.path.abspath(file).startswith(self.folder)
        if not mine or not set(mode) & set("wax+"):
            return opened
        if self.due():  # the file is there, and empty
            os._exit(KILLED)
        return Watched(opened, self)


class Watched:
    """A file that is written to, whose writes reach the disk at once."""

    def __init__(self, file, saboteur: Saboteur):
        self.file, self.saboteur = file, saboteur

    def write(self, data) -> int:
        if self.saboteur.due():
            if self.saboteur.rng.random() < TORN:
                self.file.write(data[: int(self.saboteur.rng.integers(0, len(data) + 1))])
                self.file.flush()
            os._exit(KILLED)
        count = self.file.write(data)
        self.file.flush()
        return count

    def truncate(self, size=None):
        if self.saboteur.due():
            os._exit(KILLED)
        return self.file.truncate(size)

    def __enter__(self):
        self.file.__enter__()
        return self

    def __exit__(self, *error):
        return self.file.__exit__(*error)

    def __iter__(self):
        return iter(self.file)

    def __getattr__(self, name):
        return getattr(self.file, name)


def continue_text(folder: Path, plan: Plan) -> None:
    """Trains, or goes on with what a killed process left."""
    if not (folder / "run.json").exists():
        start_run(plan, folder)
        return
    try:
        resume_run(Run(folder), warn=lambda line: None)
    except UsageError as error:
        if "is finished" not in str(error):
            raise


def child(folder: Path, plan: Plan, last: int, seed: int) -> tuple[int, int]:
    """Runs ``go_on`` in a fork that ends at its file operation number ``last``: exit status, operations that it did."""
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        os.close(reader)
        status = 1
        try:
            saboteur = Saboteur(folder, last, np.random.Generator(np.random.Philox(seed))).install()
            continue_text(folder, plan)
            os.write(writer, str(saboteur.count).encode())
            status = 0
        except BaseException:
            os.write(writer, traceback.format_exc()[-2000:].encode())
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read().decode()
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if status not in (0, KILLED):
        raise AssertionError(said)
    return status, int(said) if status == 0 else last


def trial(
    folder: Path, plan: Plan, whole: Run, operations: int, rng: np.random.Generator
) -> tuple[str, int]:
    """One run that is killed once, in a third of the cases once more while it resumes: what is wrong with it, and the kills."""
    kills = 0
    for last in (
        int(rng.integers(1, operations + 1)),
        int(rng.integers(1, operations + 1)) if rng.random() < 1 / 3 else 0,
        0,
    ):
        try:
            status, _ = child(folder, plan, last, int(rng.integers(2**62)))
        except AssertionError as error:
            return str(error), kills
        kills += status == KILLED
    try:
        run = Run(folder)
        found = verify(run)
        leftovers = [
            path.name
            for path in folder.rglob("*")
            if path.name.endswith((".tmp", checkpoint_writer.REPLACED, checkpoint_writer.DISCARDED))
        ]
        problems = [
            first_difference(whole, run),
            *found.problems,
            *[f"{name} is left" for name in leftovers],
        ]
        return "; ".join(filter(None, problems)), kills
    except FromNoiseError as error:
        return f"{type(error).__name__}: {error}", kills


def campaign(root: Path, kills: int, seed: int, say=lambda line: None) -> tuple[Counter, list[str]]:
    """Kills trainings of each model so often, half and half: counts by model, and what went wrong."""
    torch.set_num_threads(1)
    rng, counts, failures = np.random.Generator(np.random.Philox(seed)), Counter(), []
    for name, options in MODELS.items():
        plan = make_plan(**options)
        plan.trainer()  # here, so that no child imports what an optimiser needs
        _, operations = child(root / f"{name} whole", plan, 0, 0)
        whole, done, number = Run(root / f"{name} whole"), 0, 0
        while done < kills // len(MODELS):
            number += 1
            problem, killed = trial(root / f"{name} {number}", plan, whole, operations, rng)
            done += killed
            counts[name, "kills"] += killed
            counts[name, "killed again in the resume"] += killed > 1
            counts[name, "runs"] += 1
            counts[name, "to the same bits"] += not problem
            if problem:
                failures.append(f"{name} {number}: {problem}")
                say(failures[-1])
        say(
            f"{name}: {operations} file operations a run; "
            + ", ".join(
                f"{what} {count}" for (whose, what), count in counts.items() if whose == name
            )
        )
    return counts, failures


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.monotonic()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # where flushing costs nothing
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        counts, failures = campaign(
            Path(folder), options.kills, options.seed, functools.partial(print, flush=True)
        )
    total = Counter()
    for (_, what), count in counts.items():
        total[what] += count
    print(
        f"{total['kills']} kills in {total['runs']} runs, {total['to the same bits']} of {total['runs']} to the same bits, {time.monotonic() - begin:.0f} s"
    )
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
