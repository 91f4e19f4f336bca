"""The run directory: the only thing that stages after training exchange.

    run.json       family, config, data and its digest, seed, steps and how they were decided, versions, threads, command
    events.jsonl   one line for each interval of training: a function of the seed, clock fields aside
    sessions.jsonl one line for each start and stop of the training process
    outputs.jsonl  one line for each figure, report or sample that was made of the run and lies in it
    checkpoints/   see runs/checkpoint.py

Each file carries digests: run.json of itself, the lines of the others each of itself. ``training.verify`` compares.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from ..core.errors import StorageError, UsageError, did_you_mean
from ..core.files import sha256, storage_error, write_atomic
from ..core.json_files import sealed
from ..core.lines import append_line, cut_unfinished_line, sealed_line
from .records.base import validate_record
from .records.events import read_records
from .records.run import RUN_FORMAT, RunRecord, read_run

try:
    import fcntl
except ImportError:  # Windows: runs are not locked there
    fcntl = None

CLOCK_FIELDS = (
    "seconds",
    "items_per_second",
    "step_seconds",
    "eta",
    "memory_mb",
)  # of an event; everything else is exact
FOLDERS = ("checkpoints", "samples", "figures")


class Run:
    """A run on disk: ``Run(path)`` opens, ``Run.create`` makes.

    record: what run.json says, typed; info: the same as JSON, where a whole configuration is handed on.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not is_file(self.path / "run.json"):
            near = list_runs(self.path.parent) if is_folder(self.path.parent) else []
            hint = did_you_mean(self.path.name, [run.name for run in near])
            raise UsageError(
                f"{self.path} is no run (it has no run.json).{hint} `fromnoise runs` lists them"
            )
        self.info, self.record = read_run(self.path / "run.json")

    @classmethod
    def create(cls, path: Path, info: dict) -> "Run":
        """Makes the folder; refuses one that already holds something. Raises StorageError, UsageError."""
        check_unused(path)
        info = {"format": RUN_FORMAT, **info}
        text, there = writable_text(info), path.exists()
        validate_record(RunRecord, info, path / "run.json")
        try:
            for folder in FOLDERS:
                (path / folder).mkdir(parents=True, exist_ok=True)
            write_atomic(path / "run.json", text)
        except OSError as error:
            with contextlib.suppress(OSError):  # nothing half-made stays behind
                shutil.rmtree(path) if not there else [
                    (path / folder).rmdir() for folder in FOLDERS
                ]
            raise (
                error if isinstance(error, StorageError) else storage_error(error, path)
            ) from error
        return cls(path)

    @property
    def name(self) -> str:
        return self.path.name

    def update(self, **changes) -> None:
        """Writes run.json with these changes and its new digest. Raises StorageError."""
        info = self.info | changes
        record = validate_record(RunRecord, info, self.path / "run.json")
        write_atomic(self.path / "run.json", sealed(info))
        self.info, self.record = info, record

    # -- events ----------------------------------------------------------------------------------------------

    def append(self, event: dict, file: str = "events.jsonl") -> None:
        append_line(self.path / file, event)

    def events(self, kind: str | None = None) -> list[dict]:
        """All events before the first damaged one, or those of one kind, checked. ``sound_events`` says what is damaged."""
        return [event for event in self.read_events()[0] if kind in (None, event["kind"])]

    def read_events(self) -> tuple[list[dict], str]:
        """The events before the first damaged line, and a sentence about that line, or "".

        Events behind a damaged line are not trusted. A last line that was not written to its end is no damage: a killed
        process leaves it.
        """
        try:
            found, problems = read_records(
                self.path / "events.jsonl", self.record.format >= 2, until_damage=True
            )
        except StorageError as error:
            return [], str(error)
        return found, next(
            (problem for problem in problems if not problem.endswith(UNFINISHED)), ""
        )

    def seconds(self) -> float:
        """Of training, in all sessions; of one that was killed those to its last interval."""
        lines = [*self.events(), *self._sessions()]
        return max(
            (line["seconds"] for line in lines if line.get("seconds") is not None), default=0.0
        )

    def _sessions(self) -> list[dict]:
        try:
            return self.lines("sessions.jsonl")[0]
        except StorageError:
            return []

    # -- checkpoints: which there are, and which there must be ------------------------------------------------

    def checkpoint_folders(self) -> dict[int, Path]:
        """The folders of checkpoints by their step, whatever is in them."""
        root = self.path / "checkpoints"
        return {
            int(m[1]): p
            for p in root.glob("step-*")
            if (m := re.fullmatch(r"step-([0-9]{8,18})", p.name))
        }

    def last_saved_step(self) -> int:
        """The step of the newest checkpoint that was certainly saved; 0 where none of a later step is proven.

        Proof is the end of the last session, which names its last checkpoint (those of earlier versions: that it was
        finished); its start, which was from a checkpoint; and an interval that other events follow, since an
        interval's checkpoint is saved right after its event. A rollback takes back what was saved after its target.
        """
        sessions = self._sessions()
        last = sessions[-1] if sessions else {}
        if last.get("saved") is not None:
            return last["saved"]
        if last.get("outcome") == "finished":
            return last["step"]
        starts = [line["step"] for line in sessions if line.get("started") is not None]
        saved, events = starts[-1] if starts else 0, self.events()
        for event, following in zip(events, [*events[1:], None]):
            if event["kind"] == "interval" and following is not None:
                saved = max(saved, event["step"])
            elif event["kind"] == "rollback":
                saved = min(saved, event["to"])
        return saved

    def missing_checkpoint(self) -> str:
        """A sentence where the newest checkpoint that was saved is gone, or ""."""
        step = self.last_saved_step()  # before the folders are listed: training may save one in between
        if step <= max(self.checkpoint_folders(), default=0):
            return ""
        return f"{self.path / 'checkpoints' / f'step-{step:08d}'} is missing: that checkpoint was saved, and is not there any more"

    def lines(self, file: str) -> tuple[list[dict], list[str]]:
        """The records of a file of lines, and a sentence for each line that is damaged or unfinished. Raises StorageError."""
        return read_records(self.path / file, required=self.record.format >= 2)

    def rewind(self, count: int, step: int, warn=lambda line: None) -> int:
        """Keeps the first ``count`` events, of the steps up to a checkpoint's: later ones will be made again, the same.

        Where some of them are damaged or missing the rest is kept, and the damaged file under another name; ``warn`` is
        told. Returns how many are kept. Raises StorageError.
        """
        path = self.path / "events.jsonl"
        found, problems = self.lines("events.jsonl")
        lost = [problem for problem in problems if not problem.endswith(UNFINISHED)]
        if lost or len(found) < count:
            aside = free_name(path)
            with contextlib.suppress(FileNotFoundError):
                write_atomic(aside, path.read_bytes())
            reason = lost[0] if lost else f"{path} has {len(found)} lines"
            kept = f", and the file as it was in {aside}" if aside.exists() else ""
            found = [event for event in found if event.get("to", event.get("step", 0)) <= step]
            warn(
                f"{reason}; the checkpoint of step {step} knows of {count}. The weights are not touched; {len(found[:count])} are kept{kept}"
            )
        write_atomic(path, "".join(map(sealed_line, found[:count])))
        return len(found[:count])

    def cut_last_lines(self) -> None:
        """Cuts off what a killed process left of a last line; that of an event goes with ``rewind``. Call with the run locked."""
        for file in ("sessions.jsonl", "outputs.jsonl"):
            try:
                if is_file(self.path / file):
                    with open(self.path / file, "rb+") as opened:
                        cut_unfinished_line(opened)
            except OSError as error:
                raise storage_error(error, self.path / file) from error

    def upgrade(self) -> None:
        """Gives the digests of this version to a run of an earlier one. Call with the run locked. Raises StorageError."""
        if self.record.format >= RUN_FORMAT:
            return
        for file in ("events.jsonl", "sessions.jsonl"):
            path = self.path / file
            if path.exists():
                records, problems = self.lines(file)
                if any(not problem.endswith(UNFINISHED) for problem in problems):
                    write_atomic(free_name(path), path.read_bytes())  # damaged lines stay somewhere
                write_atomic(path, "".join(map(sealed_line, records)))
        self.update(format=RUN_FORMAT)

    def record_outputs(self, files: Iterable[Path]) -> None:
        """Notes the digests of files that were made of the run, those that lie in its folder. Raises StorageError."""
        root = self.path.resolve()
        for file in files:
            where = file.resolve()
            if where.is_relative_to(root):
                self.append(
                    {
                        "file": where.relative_to(root).as_posix(),
                        "bytes": where.stat().st_size,
                        "sha256": sha256(where),
                    },
                    "outputs.jsonl",
                )

    # -- one writer at a time --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self):
        """Holds the run for this process until it ends, however it ends. Raises StorageError when another has it."""
        try:
            file = open(self.path / ".lock", "a+")
        except OSError as error:
            raise storage_error(error, self.path) from error
        with file:
            try:
                if fcntl:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                other = re.sub(r"[^0-9]", "", file.read(20)) or "?"
                raise StorageError(
                    f"{self.path} is being trained by process {other}: wait, or stop it"
                ) from None
            except OSError as error:
                raise storage_error(error, self.path) from error
            with contextlib.suppress(
                OSError
            ):  # on a full disk the name of the holder is missing, and nothing else
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
            try:
                yield self
            finally:
                with contextlib.suppress(OSError):
                    file.truncate(0)  # nobody holds it: an empty file


UNFINISHED = "was not written to its end"


def is_file(path: Path) -> bool:
    """Whether a file is there; False for a name that the system does not take."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def writable_text(info: dict) -> str:
    """What run.json will hold. Raises UsageError where a path in it cannot be written as text."""
    try:
        text = sealed(info)
        text.encode()
        return text
    except UnicodeEncodeError as error:
        name = ascii(error.object[max(0, error.start - 30) : error.end + 30])
        raise UsageError(
            f"a run cannot keep the name {name}, which is no UTF-8: rename the file or folder"
        ) from None


def free_name(path: Path) -> Path:
    """events.jsonl -> events-damaged-0001.jsonl, or the first that is free."""
    number = 1
    while (name := path.with_name(f"{path.stem}-damaged-{number:04d}{path.suffix}")).exists():
        number += 1
    return name


def check_file_name(path: str | Path, option: str = "--out") -> None:
    """Raises UsageError for a name that a file cannot have, or that cannot be written into the record of a run."""
    try:
        str(path).encode()
        Path(path).exists()
    except UnicodeEncodeError:
        raise UsageError(
            f"{option} {ascii(str(path))}: the name is no UTF-8: rename it, or choose another"
        ) from None
    except (OSError, ValueError) as error:
        shown = (
            str(path)
            if len(str(path)) < 80
            else f"{str(path)[:60]}... ({len(str(path))} characters)"
        )
        raise UsageError(
            f"{option} {ascii(shown)}: {getattr(error, 'strerror', None) or error}: choose another name"
        ) from None


def check_unused(path: Path) -> None:
    """Raises UsageError when something is there already."""
    check_file_name(path)
    if path.exists() and not is_empty(path):
        mend = (
            f"`fromnoise resume {path}`, or another --out"
            if (path / "run.json").is_file()
            else "it is no run: choose another --out"
        )
        raise UsageError(f"{path} exists already and is never overwritten: {mend}")


def is_empty(path: Path) -> bool:
    """A folder without content, or with what a run leaves that was killed before its run.json was there."""
    if not path.is_dir():
        return False
    for part in path.iterdir():
        half_made = part.name in FOLDERS and part.is_dir() and not any(part.iterdir())
        if not half_made and not re.fullmatch(r"\.run\.json\.\d+\.tmp", part.name):
            return False
    return True


def next_folder(root: Path, stem: str) -> Path:
    """root/stem-0001, or the first free number after the highest."""
    stem = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:80] or "run"
    taken = [
        int(m[1])
        for p in root.glob(f"{stem}-*")
        if (m := re.fullmatch(re.escape(stem) + r"-(\d{4,})", p.name))
    ]
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
    return [run for run in open_runs(root).values() if isinstance(run, Run)]


def open_runs(root: Path) -> dict[Path, Run | str]:
    """The runs in a folder, by name, opened; of a damaged one the reason in words."""
    found: dict[Path, Run | str] = {}
    for path in sorted(root.glob("*/run.json")):
        try:
            found[path.parent] = Run(path.parent)
        except (StorageError, UsageError) as error:
            found[path.parent] = str(error)
    return found
