"""manifest.json of a checkpoint: the digests of its files and the state of the training loop."""

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, model_validator

from ...core.json_files import check_seal, read_json
from .base import Count, Record, Sha256, read_format, validate_record

MANIFEST_FORMAT = 2  # 2: carries its own digest
PARTS = ("model", "ema", "optim")


class FileRecord(Record):
    bytes: Count
    sha256: Sha256


class BestRecord(Record):
    """A step and its validation value."""

    step: Count
    value: float


class Manifest(Record):
    """manifest.json: the digests of the files, and the state of the loop (``training.state.TrainerState``).

    Unknown fields are kept: a later version of the loop reads its own.
    """

    model_config = ConfigDict(extra="allow")

    format: Count
    step: Count
    files: dict[str, FileRecord]
    sums: dict[str, float] = {}
    counts: dict[str, Annotated[int, Field(ge=1)]] = {}
    history: list[float] = []
    best: BestRecord | None = None
    events: Count = 0
    average: Count = 0
    good: Count | None = None
    rollbacks: Annotated[int, Field(ge=0, le=100)] = 0
    threads: Count = 0
    progress: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _check_consistency(self):
        if set(self.files) != {f"{part}.safetensors" for part in PARTS}:
            raise ValueError(f"it names other files than {', '.join(PARTS)}")
        if self.sums.keys() != self.counts.keys():
            raise ValueError("sums and counts are of different terms")
        if (self.good or 0) > self.step or (self.best and self.best.step > self.step):
            raise ValueError("it names a step that comes after its own")
        return self

    def state(self) -> dict:
        """The fields of the loop's state, as plain values."""
        return self.model_dump() | {"good": self.step if self.good is None else self.good}


def read_manifest(path: Path) -> Manifest:
    """Raises StorageError with the file and the field."""
    value = read_json(path)
    number = read_format(value, MANIFEST_FORMAT, path, "manifest")
    return validate_record(Manifest, check_seal(value, path, required=number >= 2), path)
