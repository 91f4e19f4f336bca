"""run.json: the family, its configuration, the data, the budget and the versions of a run."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from ...core.json_files import check_seal, read_json
from .base import Count, Record, Size, read_format, validate_record

RUN_FORMAT = 2  # 2: run.json and the lines of events and sessions carry digests


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
    def _check_consistency(self):
        if len(self.shape) != (3 if self.kind == "image" else 1):
            raise ValueError(f"{self.kind} examples do not have {len(self.shape)} dimensions")
        if self.blocks and sum(self.blocks) != self.shape[0]:
            raise ValueError("the blocks of columns do not add up to the shape")
        if self.cells and (self.kind != "vector" or len(self.cells) != self.shape[0]):
            raise ValueError("the cells of columns do not fit the shape")
        if len(self.caption) not in (0, 2) or (self.caption and self.classes):
            raise ValueError("a caption is two numbers, and excludes classes")
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
        """The number of components in x, as of ``data.codecs.columns.Column``."""
        return 0 if self.constant else max(1, len(self.values))


class ColumnsRecord(Record):
    model_config = ConfigDict(extra="allow")

    columns: Annotated[list[ColumnRecord], Field(min_length=1)]


class TokenizerRecord(Record):
    kind: str
    characters: str | None = None
    merges: list[Annotated[str, Field(pattern=r"^[0-9]{1,9} [0-9]{1,9}$")]] | None = None


class WordsRecord(Record):
    """The vocabulary of captions."""

    words: list[str]
    length: Size
    examples: list[str]


class DataRecord(Record):
    """The data of a run. digest: of the examples; splits: the number of examples of each.

    source_file: of the user, if the source of the data is none of the package.
    """

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
    source_file: str = ""

    @model_validator(mode="after")
    def _check_consistency(self):
        if self.class_names and len(self.class_names) != self.spec.classes:
            raise ValueError(f"{len(self.class_names)} names for {self.spec.classes} classes")
        if self.columns:
            width = sum(column.width for column in self.columns.columns)
            if width != self.spec.shape[0]:
                raise ValueError("the columns do not fit the shape of the examples")
        return self


class VersionsRecord(Record):
    python: str = "?"
    torch: str = "?"
    fromnoise: str = "?"


# From this step on, this number of steps in total.
Decision = Annotated[list[Count], Field(min_length=2, max_length=2)]


# Up to this share of the budget, so many seconds for a step.
Cost = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2, max_length=2)]


class BudgetRecord(Record):
    """The measurements that a budget in minutes was planned with, see ``training.budget.Timer``."""

    seconds: float
    look: float
    start: Count
    costs: Annotated[list[Cost], Field(min_length=1)]


class ExtensionRecord(Record):
    """Further training of a finished run: from which step, to how many steps."""

    from_step: Annotated[int, Field(ge=0, alias="from")]
    steps: Count
    plan: list[Decision] = []


class StageRecord(Record):
    family: str
    sha256: str = ""
    config: dict[str, Any]


class TwoStagesRecord(Record):
    """The configuration of ``families.two_stage``."""

    within: str
    digest: str
    form: str
    first: StageRecord
    second: StageRecord
    conditional: bool = False


class TrainRecord(Record):
    """``training.settings.TrainConfig`` as JSON: the fields that loading a run needs."""

    averages: list[Annotated[float, Field(ge=1e-3, le=0.28)]] = []


class RunRecord(Record):
    """run.json. steps: the budget, 0 for a model in closed form; intervals: of validation."""

    format: Count
    family: Annotated[str, Field(min_length=1)]
    family_file: str | None = None
    family_sha256: str | None = None
    preset: str
    config: dict[str, Any]
    train: TrainRecord
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
    def _check_consistency(self):
        if self.budget and self.budget.start >= self.steps:
            raise ValueError("budget: it starts after the last step")
        if self.has_two_stages:
            TwoStagesRecord.model_validate(self.config)
        return self


def read_run(path: Path) -> tuple[dict, RunRecord]:
    """The content of a run.json, as JSON without its digest and as a record.

    Raises StorageError with the file and the field.
    """
    value = read_json(path)
    number = read_format(value, RUN_FORMAT, path, "record of a run")
    info = check_seal(value, path, required=number >= 2)
    return info, validate_record(RunRecord, info, path)
