"""Frozen, strict configurations. They store what they were given; no logic lives in them.

A field's type, bounds, default and description are the only source of the command line's flags, the help
text and the JSON schema.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import UsageError, did_you_mean
from .words import escaped, shown

Width = Annotated[int, Field(ge=1, le=65_536)]  # of a layer


class BaseConfig(BaseModel):
    """Base of every configuration: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()
    )


def flag(name: str) -> str:
    """latent_dim -> --latent-dim"""
    return "--" + name.replace("_", "-")


def build(
    model: type[BaseConfig], values: Mapping[str, Any], known: tuple[str, ...] = ()
) -> BaseConfig:
    """``model(**values)``, its mistakes told in one line.

    known: further keys to offer in "did you mean". Raises UsageError.
    """
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
            hint = did_you_mean(name, [*model.model_fields, *known])
            raise UsageError(
                f"there is no option {shown(name)} here.{hint.replace('_', '-')}"
            ) from None
        raise UsageError(f"{flag(name)} {_say(first, model.model_fields.get(name))}") from None


def literals(annotation) -> tuple:
    """The choices of a Literal, wherever in the annotation it stands."""
    parts = get_args(annotation)
    return (
        parts
        if get_origin(annotation) is Literal
        else tuple(choice for part in parts for choice in literals(part))
    )


def _say(error: dict, field) -> str:
    given = shown(error.get("input"), 200)
    choices = literals(field.annotation) if field is not None else ()
    if error["type"] == "literal_error":
        return f"cannot be {given}: choose from {', '.join(map(str, choices))}.{did_you_mean(str(error['input']), map(str, choices))}"
    kinds = {
        "int": "a whole number",
        "float": "a finite number",
        "bool": "true or false",
        "finite": "a finite number",
    }
    for start, kind in kinds.items():
        if error["type"].startswith(start):
            return f"takes {kind}, not {given}"
    return f"cannot be {given}: {escaped(error['msg'][0].lower() + error['msg'][1:])}"
