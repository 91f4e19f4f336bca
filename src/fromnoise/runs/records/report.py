"""report.json: the metrics of a run, each with its protocol."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from ...core.errors import StorageError
from ...core.json_files import check_seal, read_json
from .base import Count, Interval, Record, validate_record
from .manifest import BestRecord

Words = Annotated[str, Field(max_length=2000)]  # text of a table or a heading


class RowRecord(Record):
    """One number with its protocol, see ``evaluate.protocol.row``."""

    model_config = ConfigDict(extra="allow")

    name: Words
    label: Words
    value: float | None
    unit: Words
    se: float | None = None
    interval: Interval | None = None
    null: float | None = None
    real: float | None = None
    real_interval: Interval | None = None
    raw: float | None = None
    n: int | None = None
    m: int | None = None
    split: Words | None = "test"
    group: Words = ""
    reference: Words | None = None
    evaluator: Words | None = None
    bound: Words | None = None
    k: int | None = None
    dequantisation: Words | None = None
    given: Words | None = None
    solver_error: float | None = None
    seed: int | None = None
    drawn: Words | None = None
    of: float | None = None
    better: Literal["lower", "higher", "near"] | None = None
    reason: Words = ""


class ReportData(Record):
    model_config = ConfigDict(extra="allow")

    name: str
    digest: str
    binarise: str = "none"


class CostRecord(Record):
    """samples_per_second: by the number of samples that are drawn at once."""

    model_config = ConfigDict(extra="allow")

    parameters: Count
    train_seconds: float
    memory_mb: float | None = None
    threads: Count = 0
    samples_per_second: dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], float]
    network_calls: Count


class TrainingRecord(Record):
    last: BestRecord
    best: BestRecord
    rollbacks: Count = 0


class TextRecord(Record):
    """copied: the parts of it (first and last character) that occur in the training text."""

    text: str
    copied: list[Annotated[list[Count], Field(min_length=2, max_length=2)]] = []


class TextsRecord(Record):
    sampled: list[TextRecord]
    real: list[TextRecord] = []


class ReportRecord(Record):
    """report.json. Figures and tables read it as a dictionary with these fields."""

    model_config = ConfigDict(extra="allow")

    run: Words
    family: Words
    preset: Words
    title: Words
    step: Count
    weights: Words = "ema"
    data: ReportData
    evaluator: dict[str, Any] | None = None
    health: list[Words]
    training: TrainingRecord | None = None
    metrics: list[RowRecord]
    cost: CostRecord
    settings: dict[str, Any]
    seeds: dict[str, Any]
    texts: TextsRecord | None = None


def read_report(path: Path) -> dict:
    """The checked content of a report without its digest, missing fields filled with defaults.

    Raises StorageError.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise StorageError(f"{path} is damaged: it is not a report")
    report = check_seal(value, path, required=False)
    record = validate_record(ReportRecord, report, path)
    return record.model_dump(exclude=None if record.texts else {"texts"})
