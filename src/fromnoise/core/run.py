"""The run directory: the only thing that stages after training exchange.

    run.json       family, config, data and its digest, seed, budget, versions, threads, command
    events.jsonl   one line for each interval of training: a function of the seed, clock fields aside
    sessions.jsonl one line for each start and stop of the training process
    checkpoints/   see training/checkpoint.py
"""

import itertools
import json
import os
import re
from pathlib import Path

from .errors import StorageError, UsageError, did_you_mean
from .files import canonical_json, read_json, storage_error, write_atomic

try:
    import fcntl
except ImportError:  # Windows: runs are not locked there
    fcntl = None

FORMAT = 1
CLOCK_FIELDS = ("seconds", "items_per_second", "eta", "memory_mb")  # of an event; everything else is exact


class Run:
    """A run on disk: ``Run(path)`` opens, ``Run.create`` makes."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not (self.path / "run.json").is_file():
            near = list_runs(self.path.parent) if self.path.parent.is_dir() else []
            hint = did_you_mean(self.path.name, [run.name for run in near])
            raise UsageError(f"{self.path} is no run (it has no run.json).{hint} `fromnoise runs` lists them")
        self.info = read_json(self.path / "run.json")
        if not isinstance(self.info, dict) or not {"family", "config", "train", "data", "steps"} <= self.info.keys():
            raise StorageError(f"{self.path / 'run.json'} is damaged: it does not describe a run")
        if self.info.get("format", 0) > FORMAT:
            raise StorageError(f"{self.path} was written by a newer fromnoise: update this one")

    @classmethod
    def create(cls, path: Path, info: dict) -> "Run":
        """Makes the folder; refuses one that already holds something. Raises StorageError, UsageError."""
        refuse_taken(path)
        try:
            for folder in ("checkpoints", "samples", "figures"):
                (path / folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, path) from error
        write_atomic(path / "run.json", canonical_json({"format": FORMAT, **info}))
        return cls(path)

    @property
    def name(self) -> str:
        return self.path.name

    def update(self, **changes) -> None:
        self.info |= changes
        write_atomic(self.path / "run.json", canonical_json(self.info))

    # -- events ----------------------------------------------------------------------------------------------

    def append(self, event: dict, file: str = "events.jsonl") -> None:
        try:
            with open(self.path / file, "a", encoding="utf-8") as out:
                out.write(json.dumps(event, allow_nan=False) + "\n")
        except OSError as error:
            raise storage_error(error, self.path / file) from error

    def events(self, kind: str | None = None) -> list[dict]:
        """All events, or those of one kind; a half-written last line is left out."""
        found = list(itertools.takewhile(lambda event: event is not None and "kind" in event, self._lines("events.jsonl")))
        return [event for event in found if kind in (None, event["kind"])]

    def seconds(self) -> float:
        """Of training, in all sessions; of one that was killed those to its last interval."""
        lines = [*self.events("interval"), *filter(None, self._lines("sessions.jsonl"))]
        return max((line["seconds"] for line in lines if isinstance(line.get("seconds"), int | float)), default=0.0)

    def _lines(self, file: str) -> list[dict | None]:
        """What ``append`` wrote; None for a line that it did not write, or not to the end."""
        path, found = self.path / file, []
        for line in path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else ():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append(None)
        return [line if isinstance(line, dict) else None for line in found]

    def rewind(self, count: int) -> None:
        """Keeps the first ``count`` events: those after the checkpoint will be made again, the same."""
        kept = self.events()[:count]
        write_atomic(self.path / "events.jsonl", "".join(json.dumps(event) + "\n" for event in kept))

    # -- one writer at a time --------------------------------------------------------------------------------

    def lock(self):
        """Holds the run for this process until it ends, however it ends. Raises StorageError when another has it."""
        try:
            file = open(self.path / ".lock", "a+")
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StorageError(f"{self.path} is being trained by process {file.read().strip() or '?'}: wait, or stop it") from None
        except OSError as error:
            raise storage_error(error, self.path) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        return file


def refuse_taken(path: Path) -> None:
    """Raises UsageError when something is there already."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        mend = f"`fromnoise resume {path}`, or another --out" if (path / "run.json").is_file() else "it is no run: choose another --out"
        raise UsageError(f"{path} exists already and is never overwritten: {mend}")


def next_folder(root: Path, stem: str) -> Path:
    """root/stem-0001, or the first free number after the highest."""
    stem = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "run"
    taken = [int(m[1]) for p in root.glob(f"{stem}-*") if (m := re.fullmatch(re.escape(stem) + r"-(\d{4,})", p.name))]
    return root / f"{stem}-{max(taken, default=0) + 1:04d}"


def claim_folder(root: Path, stem: str) -> Path:
    """``next_folder``, made at once: of two processes that ask together each gets its own. Raises StorageError."""
    while True:
        path = next_folder(root, stem)
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue
        except OSError as error:
            raise storage_error(error, path) from error


def list_runs(root: Path) -> list[Run]:
    """The runs in a folder, by name; damaged ones are left out."""
    found = []
    for path in sorted(root.glob("*/run.json")):
        try:
            found.append(Run(path.parent))
        except (StorageError, UsageError):
            continue
    return found
