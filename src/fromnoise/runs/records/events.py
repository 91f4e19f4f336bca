"""events.jsonl, sessions.jsonl and outputs.jsonl: one record a line."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from ...core.errors import StorageError
from ...core.lines import read_lines
from .base import Count, Record, Sha256, validate_record
from .manifest import BestRecord


class ValidationRecord(Record):
    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, float]
    value: float


class IntervalEvent(Record):
    """The result of one interval of training. samples: sha256 of its progress samples, if saved."""

    step: Count
    steps: Count
    epoch: float = 0.0
    train: dict[str, float]
    validation: ValidationRecord
    best: BestRecord
    average: dict[str, Any] | None = None
    duel: dict[str, float | str | list[float]] | None = None
    health: list[str] = []
    samples: Sha256 | None = None
    seconds: float = 0.0
    items_per_second: float = 0.0
    step_seconds: float = 0.0
    eta: float = 0.0
    memory_mb: float | None = None


class RollbackEvent(Record):
    step: Count
    to: Count
    reason: str
    lr_factor: float


class OtherEvent(Record):
    """An event of a kind that this version does not know."""

    kind: str
    step: Count = 0


class SessionRecord(Record):
    """A start or an end of the training process. saved: at an end, the step of the last checkpoint."""

    started: float | None = None
    ended: float | None = None
    step: Count = 0
    threads: int = 0
    pid: int = 0
    seconds: float | None = None
    outcome: str = ""
    saved: Count | None = None


class OutputRecord(Record):
    """A file in the run's folder that was made from the run: its path, size and digest."""

    file: Annotated[str, Field(min_length=1, max_length=4096)]
    bytes: Count
    sha256: Sha256

    @model_validator(mode="after")
    def _check_path(self):
        if self.file.startswith("/") or ".." in self.file.split("/") or "\0" in self.file:
            raise ValueError("it names a file outside of the run")
        return self


EVENTS: dict[str, type[Record]] = {"interval": IntervalEvent, "rollback": RollbackEvent}


def read_records(
    path: Path, required: bool = True, until_damage: bool = False
) -> tuple[list[dict], list[str]]:
    """The checked records of a file of lines, as dictionaries, and a sentence for each invalid line.

    required, until_damage: see ``core.lines.read_lines``.
    """
    lines, problems = read_lines(path, required, until_damage)
    records = []
    for line in lines:
        try:
            validate_record(_record_type(path.name, line), line, f"a line of {path}")
        except StorageError as error:
            if until_damage:
                return records, [str(error)]
            problems.append(str(error))
        else:
            records.append(line)
    return records, problems


def _record_type(file: str, line: dict) -> type[Record]:
    if file == "outputs.jsonl":
        return OutputRecord
    if file != "events.jsonl":
        return SessionRecord
    kind = line.get("kind")
    return EVENTS.get(kind, OtherEvent) if isinstance(kind, str) else OtherEvent
