"""Frozen, strict configurations: values only, no logic.

The type, bounds, default and description of a field are the only source of the options of the command
line, the help text and the JSON schema.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UsageError, did_you_mean
from .words import escaped, shown

Width = Annotated[int, Field(ge=1, le=65_536)]  # of a layer
Channels = Annotated[int, Field(ge=4, le=1024)]  # of a convolutional network, at full resolution
Dimensions = Annotated[int, Field(ge=1, le=4096)]  # of a code
Size = Annotated[int, Field(ge=1, le=64)]
BlockCount = Annotated[int, Field(ge=0, le=16)]
Share = Annotated[float, Field(ge=0, le=1)]
OpenShare = Annotated[float, Field(ge=0, lt=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
Factor = Annotated[float, Field(ge=0, le=10)]
Weight = Annotated[float, Field(ge=0, le=1e6)]  # of a term of a loss
LearningRate = Annotated[float, Field(gt=0, le=1e31, description="learning rate")]
KINDS = {  # first part of the type of a pydantic error -> the kind of value that is expected
    "int": "a whole number",
    "float": "a finite number",
    "bool": "true or false",
    "finite": "a finite number",
}


class BaseConfig(BaseModel):
    """Base of every configuration: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


Configuration = TypeVar("Configuration", bound=BaseConfig)


def flag(name: str) -> str:
    """latent_dim -> --latent-dim"""
    return "--" + name.replace("_", "-")


def build(model: type[Configuration], values: Mapping[str, Any]) -> Configuration:
    """``model(**values)``. Raises UsageError with the first mistake in one line."""
    for name, value in values.items():
        field = model.model_fields.get(name)
        if field is not None and isinstance(value, bool) and field.annotation in (int, float):
            raise UsageError(f"{flag(name)} takes a number, not {value}")
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(name, model.model_fields)
            raise UsageError(
                f"there is no option {shown(name)} here.{hint.replace('_', '-')}"
            ) from None
        reason = explain_error(first, model.model_fields.get(name))
        raise UsageError(f"{flag(name)} {reason}") from None


def literals(annotation) -> tuple:
    """The choices of all Literals in an annotation."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return parts
    choices = ()
    for part in parts:
        choices += literals(part)
    return choices


def explain_error(error: dict, field) -> str:
    """A pydantic error as the rest of a sentence that begins with the option."""
    value = shown(error.get("input"), 200)
    if error["type"] == "literal_error":
        choices = list(map(str, literals(field.annotation))) if field else []
        hint = did_you_mean(str(error["input"]), choices)
        return f"cannot be {value}: choose from {', '.join(choices)}.{hint}"
    for start, kind in KINDS.items():
        if error["type"].startswith(start):
            return f"takes {kind}, not {value}"
    message = error["msg"]
    return f"cannot be {value}: {escaped(message[0].lower() + message[1:])}"
