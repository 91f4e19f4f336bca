"""Options from configurations: type, default, bounds and description of a field define its option."""

import types
from typing import Any, Literal, Union, get_args, get_origin

import click

from ..core.config import BaseConfig, flag
from ..core.errors import UsageError, did_you_mean

METAVARS = {"int": "N", "float": "X", "list": "A,B,..."}


def make_options(model: type[BaseConfig], preset: dict | None = None) -> list[click.Option]:
    """One click option for each field. Values stay strings: the configuration checks them."""
    preset = preset or {}
    options = []
    for name, field in model.model_fields.items():
        default = preset.get(name, field.default)
        kind, choices = field_kind(field.annotation)
        text = (field.description or "") + format_default(default)
        if kind == "bool":
            names = f"{flag(name)}/--no-{flag(name)[2:]}"
            options.append(click.Option([names, name], default=None, help=text))
        else:
            metavar = "|".join(choices) if choices else METAVARS.get(kind, "TEXT")
            options.append(click.Option([flag(name), name], metavar=metavar, help=text))
    return options


def format_default(default) -> str:
    """`` [0.1,0.2]``; empty for None, for an empty list and for a flag."""
    if default is None or default == () or isinstance(default, bool):
        return ""
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    return f" [{default}]"


def field_kind(annotation) -> tuple[str, tuple[str, ...]]:
    """The kind of a field ("bool", "int", "float", "str", "list" or "choice") and its choices."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return "choice", tuple(map(str, get_args(annotation)))
    if get_origin(annotation) is tuple:
        return "list", ()
    return annotation.__name__, ()


def given_options(model: type[BaseConfig], values: dict[str, Any]) -> dict[str, Any]:
    """The values of a configuration's fields that are not None, lists split at commas."""
    options = {}
    for name, value in values.items():
        if value is None or name not in model.model_fields:
            continue
        kind, _ = field_kind(model.model_fields[name].annotation)
        if isinstance(value, str) and kind == "list":
            value = [part.strip() for part in value.split(",")] if value.strip() else []
        options[name] = value
    return options


def parse_extra_options(
    models: type[BaseConfig] | tuple[type[BaseConfig], ...], args: list[str]
) -> dict[str, Any]:
    """Parses ``--name value`` and ``--name=value`` of configurations that a run determines.

    models: whose fields are the known options. Raises UsageError.
    """
    models = models if isinstance(models, tuple) else (models,)
    fields = {name: model for model in models for name in model.model_fields}
    options = {}
    rest = list(args)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        field = name.replace("-", "_")
        switch = field.removeprefix("no_")
        if word.startswith("--") and is_switch(fields, switch):
            options[switch] = field == switch
            continue
        if not word.startswith("--") or field not in fields:
            hint = did_you_mean(name, [flag(known)[2:] for known in fields])
            raise UsageError(f"there is no option '{word}' here.{hint}")
        if not equals:
            if not rest:
                raise UsageError(f"{word} needs a value")
            value = rest.pop(0)
        options |= given_options(fields[field], {field: value})
    return options


def is_switch(fields: dict[str, type[BaseConfig]], name: str) -> bool:
    """True for the name of a boolean field."""
    if name not in fields:
        return False
    return field_kind(fields[name].model_fields[name].annotation)[0] == "bool"


class SectionedCommand(click.Command):
    """A command whose help groups its options under headings.

    sections: [(heading, names of options)]; related: options of another command, which are listed last
    under a heading of their own.
    """

    sections: list[tuple[str, set[str]]] = []
    related: tuple[str, list[click.Option]] = ("", [])

    def format_options(self, ctx, formatter):
        params = self.get_params(ctx)
        others = {param.name for param in params}
        for _, names in self.sections:
            others -= names
        for heading, names in [*self.sections, ("Other", others)]:
            members = [param for param in params if param.name in names]
            self.write_section(ctx, formatter, heading, members)
        self.write_section(ctx, formatter, *self.related)

    @staticmethod
    def write_section(ctx, formatter, heading: str, params: list[click.Option]) -> None:
        rows = [row for param in params if (row := param.get_help_record(ctx))]
        if rows:
            with formatter.section(heading):
                formatter.write_dl(rows)


class SuggestingGroup(click.Group):
    """A group that suggests the nearest known command for an unknown one."""

    def resolve_command(self, ctx, args):
        name = args[0]
        if self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            raise UsageError(
                f"there is no command '{name}'.{did_you_mean(name, known)} "
                f"Known: {', '.join(known)}"
            )
        return super().resolve_command(ctx, args)
