"""The records of a run, typed: what is read from its JSON files is checked here, once, and nowhere else.

A record is strict (no number as text, no NaN) and takes fields that it does not know for those of a later version:
it ignores them. Fields with a default came with a later version than the first, so that older runs still open.
The configurations inside (of the family, the training, the data) are judged by their own models when they are built.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..core.errors import StorageError
from ..core.files import check_seal, read_json, read_lines

RUN_FORMAT = 2  # 2: run.json and the lines of events and sessions carry digests
MANIFEST_FORMAT = 2  # 2: carries its own digest
PARTS = ("model", "ema", "optim")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=1, le=2**31)]
Words = Annotated[str, Field(max_length=2000)]  # what is laid out in a table or a heading


class Record(BaseModel):
    """Base of every record: immutable, strict, finite numbers."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=()
    )


R = TypeVar("R", bound=Record)


def checked(model: type[R], value: Any, where: Path | str) -> R:
    """The record in a JSON value. Raises StorageError naming the file and the field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))[:80]
        said = first["msg"].removeprefix("Value error, ")
        reason = f"{place}: {said[0].lower()}{said[1:]}" if place else said
        raise StorageError(f"{where} is damaged: {ascii(reason)[1:-1]}") from None
    except RecursionError:
        raise StorageError(f"{where} is damaged: it is nested too deep") from None


def format_of(value: Any, newest: int, path: Path, what: str) -> int:
    """The number of the format of a file. Raises StorageError where there is none, or one of a later version."""
    number = value.get("format") if isinstance(value, dict) else None
    if type(number) is not int or number < 0:
        raise StorageError(f"{path} is damaged: it is no {what}")
    if number > newest:
        raise StorageError(f"{path} was written by a newer fromnoise: update this one")
    return number


# -- run.json -----------------------------------------------------------------------------------------------------


class SpecRecord(Record):
    """``core.spec.DataSpec`` as JSON."""

    kind: Literal["image", "tokens", "vector"]
    shape: list[Size]
    levels: Annotated[int, Field(ge=0, le=2**31)] = 0
    classes: Annotated[int, Field(ge=0, le=2**31)] = 0
    blocks: list[Size] = []
    caption: list[Size] = []
    separate: bool = False
    cells: list[Annotated[list[float], Field(min_length=3, max_length=3)]] = []

    @model_validator(mode="after")
    def _fits(self):
        if len(self.shape) != (3 if self.kind == "image" else 1):
            raise ValueError(f"{self.kind} examples do not have {len(self.shape)} dimensions")
        if self.blocks and sum(self.blocks) != self.shape[0]:
            raise ValueError("the blocks of columns do not add up to the shape")
        if self.cells and (self.kind != "vector" or len(self.cells) != self.shape[0]):
            raise ValueError("the cells of columns do not fit the shape")
        if len(self.caption) not in (0, 2) or (self.caption and self.classes):
            raise ValueError("a caption is two numbers, beside no classes")
        return self


class ColumnRecord(Record):
    model_config = ConfigDict(extra="allow")

    name: str
    mean: float = 0.0
    std: Annotated[float, Field(gt=0)] = 1.0
    whole: bool = False
    decimals: Annotated[int, Field(ge=0, le=20)] | None = None
    low: float | None = None
    high: float | None = None
    values: list[str] = []
    constant: bool = False

    @property
    def width(self) -> int:
        """As of ``data.columns.Column``."""
        return 0 if self.constant else max(1, len(self.values))


class ColumnsRecord(Record):
    model_config = ConfigDict(extra="allow")

    columns: Annotated[list[ColumnRecord], Field(min_length=1)]


class TokenizerRecord(Record):
    kind: str
    characters: str | None = None
    merges: list[Annotated[str, Field(pattern=r"^[0-9]{1,9} [0-9]{1,9}$")]] | None = None


class WordsRecord(Record):
    words: list[str]
    length: Size
    examples: list[str]


class DataRecord(Record):
    """What a run was trained on. digest: of the examples; splits: how many examples each has."""

    name: str
    settings: dict[str, Any]
    spec: SpecRecord
    digest: str
    splits: dict[str, Count] = {}
    binarise: Literal["none", "dynamic", "static"] = "none"
    class_names: list[str] = []
    class_counts: list[Count] = []
    columns: ColumnsRecord | None = None
    tokenizer: TokenizerRecord | None = None
    words: WordsRecord | None = None

    @model_validator(mode="after")
    def _fits(self):
        if self.class_names and len(self.class_names) != self.spec.classes:
            raise ValueError(f"{len(self.class_names)} names for {self.spec.classes} classes")
        if (
            self.columns
            and sum(column.width for column in self.columns.columns) != self.spec.shape[0]
        ):
            raise ValueError("the columns do not fit the shape of the examples")
        return self


class VersionsRecord(Record):
    python: str = "?"
    torch: str = "?"
    fromnoise: str = "?"


Decision = Annotated[
    list[Count], Field(min_length=2, max_length=2)
]  # from a step on, so many steps in all


class BudgetRecord(Record):
    """What a budget in minutes was planned with, see ``training.budget.Timer``."""

    seconds: float
    look: float
    start: Count
    costs: Annotated[
        list[Annotated[list[float], Field(min_length=2, max_length=2)]], Field(min_length=1)
    ]


class ExtensionRecord(Record):
    """A finished run that was trained further: from which step, to how many."""

    from_step: Annotated[int, Field(ge=0, alias="from")]
    steps: Count
    plan: list[Decision] = []


class StageRecord(Record):
    family: str
    sha256: str = ""
    config: dict[str, Any]


class TwoStagesRecord(Record):
    """The configuration of ``families.latent``."""

    within: str
    digest: str
    form: str
    first: StageRecord
    second: StageRecord
    conditional: bool = False


class RunRecord(Record):
    """run.json. steps: the budget, 0 for a model in closed form; intervals: how often it is looked at, if it says so."""

    format: Count
    family: Annotated[str, Field(min_length=1)]
    family_file: str | None = None
    family_sha256: str | None = None
    preset: str
    config: dict[str, Any]
    train: dict[str, Any]
    data: DataRecord
    seed: Annotated[int, Field(ge=0)]
    steps: Annotated[int, Field(ge=0, le=10**12)]
    intervals: Annotated[int, Field(ge=1, le=10**10)] | None = None
    threads: Annotated[int, Field(ge=0, le=4096)] = 0
    device: str = "cpu"
    versions: VersionsRecord = VersionsRecord()
    machine: str = ""
    command: str = ""
    extended: list[ExtensionRecord] = []
    plan: list[Decision] = []
    budget: BudgetRecord | None = None

    @property
    def has_two_stages(self) -> bool:
        return self.family == "latent" and not self.family_file

    @model_validator(mode="after")
    def _fits(self):
        if self.has_two_stages:
            TwoStagesRecord.model_validate(self.config)
        return self


def read_run(path: Path) -> tuple[dict, RunRecord]:
    """The content of a run.json, as JSON without its digest and as a record. Raises StorageError naming file and field."""
    value = read_json(path)
    number = format_of(value, RUN_FORMAT, path, "record of a run")
    info = check_seal(value, path, needed=number >= 2)
    return info, checked(RunRecord, info, path)


# -- manifest.json ------------------------------------------------------------------------------------------------


class FileRecord(Record):
    bytes: Count
    sha256: Sha256


class BestRecord(Record):
    step: Count
    value: float


class Manifest(Record):
    """manifest.json of a checkpoint: the digests of its files, and the state of the loop (``training.loop.State``)."""

    model_config = ConfigDict(
        extra="allow"
    )  # a state of a later version has more, which it reads itself

    format: Count
    step: Count
    files: dict[str, FileRecord]
    sums: dict[str, float] = {}
    counts: dict[str, Positive] = {}
    history: list[float] = []
    best: BestRecord | None = None
    events: Count = 0
    average: Count = 0
    good: Count | None = None
    rollbacks: Annotated[int, Field(ge=0, le=100)] = 0
    threads: Count = 0
    progress: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _fits(self):
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
    """Raises StorageError naming file and field."""
    value = read_json(path)
    number = format_of(value, MANIFEST_FORMAT, path, "manifest")
    return checked(Manifest, check_seal(value, path, needed=number >= 2), path)


# -- events.jsonl, sessions.jsonl, outputs.jsonl --------------------------------------------------------------------


class ValidationRecord(Record):
    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, float]
    value: float


class IntervalEvent(Record):
    """What an interval of training told. samples: sha256 of the samples that were kept of it, where there are some."""

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
    """A start or an end of the training process. saved: at an end, the step of the newest checkpoint."""

    started: float | None = None
    ended: float | None = None
    step: Count = 0
    threads: int = 0
    pid: int = 0
    seconds: float | None = None
    outcome: str = ""
    saved: Count | None = None


class OutputRecord(Record):
    """A file that was made of the run and lies in it: where, and its digest."""

    file: Annotated[str, Field(min_length=1, max_length=4096)]
    bytes: Count
    sha256: Sha256

    @model_validator(mode="after")
    def _lies_in_the_run(self):
        if self.file.startswith("/") or ".." in self.file.split("/") or "\0" in self.file:
            raise ValueError("it names a file outside of the run")
        return self


EVENTS: dict[str, type[Record]] = {"interval": IntervalEvent, "rollback": RollbackEvent}


def read_records(
    path: Path, needed: bool = True, up_to_damage: bool = False
) -> tuple[list[dict], list[str]]:
    """The checked records of a file of lines, as dictionaries, and one sentence for each line that is none.

    Events have a ``kind``, outputs a ``file``; other lines are of sessions. needed, up_to_damage: see ``files.read_lines``.
    """
    lines, problems = read_lines(path, needed, up_to_damage)
    records = []
    for line in lines:
        kind = line.get("kind")
        if path.name == "events.jsonl":
            model = EVENTS.get(kind, OtherEvent) if isinstance(kind, str) else OtherEvent
        else:
            model = OutputRecord if path.name == "outputs.jsonl" else SessionRecord
        try:
            checked(model, line, f"a line of {path}")
        except StorageError as error:
            if up_to_damage:
                return records, [str(error)]
            problems.append(str(error))
        else:
            records.append(line)
    return records, problems


# -- report.json --------------------------------------------------------------------------------------------------


class RowRecord(Record):
    """One number with its protocol, see ``evaluate.protocol.row``."""

    model_config = ConfigDict(extra="allow")

    name: Words
    label: Words
    value: float | None
    unit: Words
    se: float | None = None
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    null: float | None = None
    real: float | None = None
    real_interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
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
    model_config = ConfigDict(extra="allow")

    parameters: Count
    train_seconds: float
    memory_mb: float | None = None
    threads: Count = 0
    samples_per_second: dict[
        Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], float
    ]  # by how many are drawn at once
    network_calls: Count


class TrainingRecord(Record):
    last: BestRecord
    best: BestRecord
    rollbacks: Count = 0


class TextRecord(Record):
    """copied: the runs of it, from and to which character, that stand in the training text."""

    text: str
    copied: list[Annotated[list[Count], Field(min_length=2, max_length=2)]] = []


class TextsRecord(Record):
    sampled: list[TextRecord]
    real: list[TextRecord] = []


class ReportRecord(Record):
    """report.json. It stays a dictionary for what draws and prints it; this is what that may rely on."""

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
    """The checked content of a report, without its digest; what an older one lacks has its default. Raises StorageError."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise StorageError(f"{path} is damaged: it is no report")
    report = check_seal(value, path, needed=False)
    record = checked(ReportRecord, report, path)
    return record.model_dump(exclude=None if record.texts else {"texts"})
