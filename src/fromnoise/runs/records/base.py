"""The base class of all records, and the checks that they share.

A record is strict (no number as text, no NaN). It ignores unknown fields, since a later version may have
written them. Fields with a default were added after the first version, so that older runs still open.
The configurations in a record (of family, training and data) are checked by their own classes when they
are built.
"""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core.errors import StorageError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1, le=2**31)]
Interval = Annotated[list[float], Field(min_length=2, max_length=2)]  # low, high


class Record(BaseModel):
    """Base of every record: immutable, strict, finite numbers."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", allow_inf_nan=False, protected_namespaces=()
    )


R = TypeVar("R", bound=Record)


def validate_record(model: type[R], value: Any, source: Path | str) -> R:
    """The record in a JSON value. Raises StorageError with the source (a file) and the field."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"]))[:80]
        reason = first["msg"].removeprefix("Value error, ")
        if field:
            reason = f"{field}: {reason[0].lower()}{reason[1:]}"
        raise StorageError(f"{source} is damaged: {ascii(reason)[1:-1]}") from None
    except RecursionError:
        raise StorageError(f"{source} is damaged: it is nested too deep") from None


def read_format(value: Any, newest: int, path: Path, kind: str) -> int:
    """The format number of a file. kind: what the file should be, for the error.

    Raises StorageError if there is no number, or that of a later version.
    """
    number = value.get("format") if isinstance(value, dict) else None
    if type(number) is not int or number < 0:
        raise StorageError(f"{path} is damaged: it is not a {kind}")
    if number > newest:
        raise StorageError(f"{path} was written by a newer fromnoise: update this one")
    return number
