"""The run directory: all that the stages after training exchange.

    run.json       family, config, data and its digest, seed, steps, versions, threads, command
    events.jsonl   one line for each interval of training: a function of the seed, clock fields aside
    sessions.jsonl one line for each start and stop of the training process
    outputs.jsonl  one line for each figure, report or sample file made from the run, in its folder
    checkpoints/   see runs/checkpoint.py

Each file carries digests: run.json one of its content, the other files one in each line.
``runs.verify`` checks them.
"""

import contextlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..core.errors import StorageError, UsageError, did_you_mean
from ..core.files import sha256, storage_error, write_atomic
from ..core.json_files import sealed
from ..core.lines import append_line, cut_unfinished_line, sealed_line
from ..core.output import Say, ignore_message
from .lock import lock_folder
from .paths import FOLDERS, check_unused, find_free_name, is_file, is_folder
from .records.base import validate_record
from .records.events import read_records
from .records.run import RUN_FORMAT, RunRecord, read_run

# Fields of an event that depend on the clock; all others are exact.
CLOCK_FIELDS = ("seconds", "items_per_second", "step_seconds", "eta", "memory_mb")
UNFINISHED = "was not written to its end"


class Run:
    """A run on disk: ``Run(path)`` opens one, ``Run.create`` makes one.

    record: the content of run.json, typed; info: the same as JSON, for whole configurations.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not is_file(self.path / "run.json"):
            siblings = list_runs(self.path.parent) if is_folder(self.path.parent) else []
            hint = did_you_mean(self.path.name, [run.name for run in siblings])
            raise UsageError(
                f"{self.path} is no run (it has no run.json).{hint} `fromnoise runs` lists them"
            )
        self.info, self.record = read_run(self.path / "run.json")

    @classmethod
    def create(cls, path: Path, info: dict) -> "Run":
        """Makes the folder, which must be empty or new. Raises StorageError, UsageError."""
        check_unused(path)
        info = {"format": RUN_FORMAT, **info}
        text = encode_info(info)
        existed = path.exists()
        validate_record(RunRecord, info, path / "run.json")
        try:
            for folder in FOLDERS:
                (path / folder).mkdir(parents=True, exist_ok=True)
            write_atomic(path / "run.json", text)
        except OSError as error:
            with contextlib.suppress(OSError):
                cls._remove_incomplete(path, existed)
            if isinstance(error, StorageError):
                raise
            raise storage_error(error, path) from error
        return cls(path)

    @staticmethod
    def _remove_incomplete(path: Path, existed: bool) -> None:
        if not existed:
            shutil.rmtree(path)
            return
        for folder in FOLDERS:
            (path / folder).rmdir()

    @property
    def name(self) -> str:
        return self.path.name

    def update(self, **changes) -> None:
        """Writes run.json with these changes and its new digest. Raises StorageError."""
        info = self.info | changes
        record = validate_record(RunRecord, info, self.path / "run.json")
        write_atomic(self.path / "run.json", sealed(info))
        self.info = info
        self.record = record

    # -- events -----------------------------------------------------------------------------------

    def append(self, event: dict, file: str = "events.jsonl") -> None:
        append_line(self.path / file, event)

    def events(self, kind: str | None = None) -> list[dict]:
        """The checked events before the first damaged one, all or of one kind (``read_events``)."""
        return [event for event in self.read_events()[0] if kind in (None, event["kind"])]

    def read_events(self) -> tuple[list[dict], str]:
        """The events before the first damaged line, and a sentence about that line, or "".

        Events after a damaged line are not trusted. An unfinished last line is not damage: a killed
        process leaves it.
        """
        path = self.path / "events.jsonl"
        try:
            events, problems = read_records(path, self.record.format >= 2, until_damage=True)
        except StorageError as error:
            return [], str(error)
        return events, next(iter(self._damage(problems)), "")

    @staticmethod
    def _damage(problems: list[str]) -> list[str]:
        return [problem for problem in problems if not problem.endswith(UNFINISHED)]

    def seconds(self) -> float:
        """Seconds of training, in all sessions; of a killed session up to its last interval."""
        lines = [*self.events(), *self._sessions()]
        seconds = [line["seconds"] for line in lines if line.get("seconds") is not None]
        return max(seconds, default=0.0)

    def _sessions(self) -> list[dict]:
        try:
            return self.lines("sessions.jsonl")[0]
        except StorageError:
            return []

    def lines(self, file: str) -> tuple[list[dict], list[str]]:
        """The records of a file of lines, and a sentence for each damaged or unfinished line.

        Raises StorageError.
        """
        return read_records(self.path / file, required=self.record.format >= 2)

    def rewind(self, count: int, step: int, warn: Say = ignore_message) -> int:
        """Keeps the first ``count`` events, those up to a checkpoint: training repeats the others.

        If some of them are damaged or missing, the rest is kept, the damaged file is copied under
        another name, and ``warn`` receives a message. Returns how many are kept.
        Raises StorageError.
        """
        path = self.path / "events.jsonl"
        events, problems = self.lines("events.jsonl")
        damage = self._damage(problems)
        if damage or len(events) < count:
            copy = find_free_name(path)
            with contextlib.suppress(FileNotFoundError):
                write_atomic(copy, path.read_bytes())
            reason = damage[0] if damage else f"{path} has {len(events)} lines"
            backup = f", and the file as it was in {copy}" if copy.exists() else ""
            events = [event for event in events if event.get("to", event.get("step", 0)) <= step]
            warn(
                f"{reason}; the checkpoint of step {step} expects {count}. The weights are not "
                f"affected; {len(events[:count])} are kept{backup}"
            )
        kept = events[:count]
        write_atomic(path, "".join(map(sealed_line, kept)))
        return len(kept)

    def cut_unfinished_lines(self) -> None:
        """Cuts off the unfinished last lines of a killed process, except of events (``rewind``).

        The run must be locked. Raises StorageError.
        """
        for file in ("sessions.jsonl", "outputs.jsonl"):
            path = self.path / file
            try:
                if is_file(path):
                    with open(path, "rb+") as opened:
                        cut_unfinished_line(opened)
            except OSError as error:
                raise storage_error(error, path) from error

    def upgrade(self) -> None:
        """Adds the digests of this version to a run of an earlier one. The run must be locked.

        Raises StorageError.
        """
        if self.record.format >= RUN_FORMAT:
            return
        for file in ("events.jsonl", "sessions.jsonl"):
            path = self.path / file
            if not path.exists():
                continue
            records, problems = self.lines(file)
            if self._damage(problems):
                write_atomic(find_free_name(path), path.read_bytes())
            write_atomic(path, "".join(map(sealed_line, records)))
        self.update(format=RUN_FORMAT)

    def record_outputs(self, files: Iterable[Path]) -> None:
        """Records the digests of those files that lie in the run's folder. Raises StorageError."""
        root = self.path.resolve()
        for file in files:
            path = file.resolve()
            if not path.is_relative_to(root):
                continue
            output = {
                "file": path.relative_to(root).as_posix(),
                "bytes": path.stat().st_size,
                "sha256": sha256(path),
            }
            self.append(output, "outputs.jsonl")

    # -- checkpoints: which exist, and which must exist -------------------------------------------

    def checkpoint_folders(self) -> dict[int, Path]:
        """The folders of checkpoints by step, whatever their content."""
        folders = {}
        for path in (self.path / "checkpoints").glob("step-*"):
            if match := re.fullmatch(r"step-([0-9]{8,18})", path.name):
                folders[int(match[1])] = path
        return folders

    def last_saved_step(self) -> int:
        """The step of the newest checkpoint that was certainly saved; 0 if no later one is proven.

        Proof is: the end of the last session, which names its last checkpoint (in earlier versions:
        that it finished); its start, which was from a checkpoint; and an interval that other events
        follow, since an interval's checkpoint is saved right after its event. A rollback revokes
        what was saved after its target.
        """
        sessions = self._sessions()
        last = sessions[-1] if sessions else {}
        if last.get("saved") is not None:
            return last["saved"]
        if last.get("outcome") == "finished":
            return last["step"]
        starts = [line["step"] for line in sessions if line.get("started") is not None]
        saved = starts[-1] if starts else 0
        events = self.events()
        for event, following in zip(events, [*events[1:], None]):
            if event["kind"] == "interval" and following is not None:
                saved = max(saved, event["step"])
            elif event["kind"] == "rollback":
                saved = min(saved, event["to"])
        return saved

    def missing_checkpoint(self) -> str:
        """A sentence if the newest checkpoint that was saved is missing, or ""."""
        # The step first, then the folders: training may save one in between.
        step = self.last_saved_step()
        if step <= max(self.checkpoint_folders(), default=0):
            return ""
        path = self.path / "checkpoints" / f"step-{step:08d}"
        return f"{path} is missing: that checkpoint was saved, and is not there any more"

    def lock(self) -> contextlib.AbstractContextManager:
        """Reserves the run for this process: one writer at a time (``lock_folder``)."""
        return lock_folder(self.path)


def encode_info(info: dict) -> str:
    """The text of run.json. Raises UsageError if a path in it cannot be written as text."""
    try:
        text = sealed(info)
        text.encode()
        return text
    except UnicodeEncodeError as error:
        name = ascii(error.object[max(0, error.start - 30) : error.end + 30])
        raise UsageError(
            f"a run cannot store the name {name}, which is no UTF-8: rename the file or folder"
        ) from None


def list_runs(root: Path) -> list[Run]:
    """The runs in a folder, by name, without damaged ones."""
    return [run for run in open_runs(root).values() if isinstance(run, Run)]


def open_runs(root: Path) -> dict[Path, Run | str]:
    """The runs in a folder, by name; for a damaged one the reason."""
    runs: dict[Path, Run | str] = {}
    for path in sorted(root.glob("*/run.json")):
        try:
            runs[path.parent] = Run(path.parent)
        except (StorageError, UsageError) as error:
            runs[path.parent] = str(error)
    return runs
