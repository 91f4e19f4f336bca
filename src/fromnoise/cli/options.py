"""Flags made from configurations: a field's type, default, bounds and description are all that there is."""

import types
from typing import Any, Literal, Union, get_args, get_origin

import click

from ..core.config import BaseConfig, flag
from ..core.errors import UsageError, did_you_mean


def flags_of(model: type[BaseConfig], preset: dict | None = None) -> list[click.Option]:
    """One click option for each field. Values stay strings: the configuration judges them."""
    preset = preset or {}
    made = []
    for name, field in model.model_fields.items():
        default = preset.get(name, field.default)
        kind, choices = _kind(field.annotation)
        text = field.description or ""
        if default is not None and default != () and not isinstance(default, bool):
            text += f" [{','.join(map(str, default)) if isinstance(default, tuple) else default}]"
        if kind == "bool":
            made.append(
                click.Option([f"{flag(name)}/--no-{flag(name)[2:]}", name], default=None, help=text)
            )
        else:
            metavar = "|".join(choices) if choices else {"int": "N", "float": "X"}.get(kind, "TEXT")
            if kind == "list":
                metavar = "A,B,..."
            made.append(click.Option([flag(name), name], metavar=metavar, help=text))
    return made


def _kind(annotation) -> tuple[str, tuple[str, ...]]:
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return "choice", tuple(map(str, get_args(annotation)))
    if get_origin(annotation) is tuple:
        return "list", ()
    return annotation.__name__, ()


def given(model: type[BaseConfig], values: dict[str, Any]) -> dict[str, Any]:
    """The options of a configuration that the user gave, lists split at commas."""
    out = {}
    for name, value in values.items():
        if value is None or name not in model.model_fields:
            continue
        if isinstance(value, str) and _kind(model.model_fields[name].annotation)[0] == "list":
            value = [part.strip() for part in value.split(",")] if value.strip() else []
        out[name] = value
    return out


def loose(
    models: type[BaseConfig] | tuple[type[BaseConfig], ...], args: list[str]
) -> dict[str, Any]:
    """``--name value`` and ``--name=value`` for configurations known only once the run is open. Raises UsageError."""
    models = models if isinstance(models, tuple) else (models,)
    fields = {name: model for model in models for name in model.model_fields}
    out, rest = {}, list(args)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        field = name.replace("-", "_")
        plain = field.removeprefix("no_")
        if (
            word.startswith("--")
            and plain in fields
            and _kind(fields[plain].model_fields[plain].annotation)[0] == "bool"
        ):
            out[plain] = field == plain
            continue
        if not word.startswith("--") or field not in fields:
            raise UsageError(
                f"there is no option '{word}' here.{did_you_mean(name, [flag(known)[2:] for known in fields])}"
            )
        if not equals and not rest:
            raise UsageError(f"{word} needs a value")
        out |= given(fields[field], {field: value if equals else rest.pop(0)})
    return out


class SectionedCommand(click.Command):
    """A command whose help groups its options under headings: ``sections`` is [(heading, option names)].

    elsewhere: options of another command that belong to the same thing, told last: (heading, options).
    """

    sections: list[tuple[str, set[str]]] = []
    elsewhere: tuple[str, list[click.Option]] = ("", [])

    def format_options(self, ctx, formatter):
        placed = set().union(*(names for _, names in self.sections)) if self.sections else set()
        groups = [*self.sections, ("Other", {p.name for p in self.get_params(ctx)} - placed)]
        listed = [
            (heading, [p for p in self.get_params(ctx) if p.name in names])
            for heading, names in groups
        ]
        for heading, params in [*listed, self.elsewhere]:
            rows = [record for p in params if (record := p.get_help_record(ctx))]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


class SuggestingGroup(click.Group):
    """A group that answers an unknown command with the nearest known one."""

    def resolve_command(self, ctx, args):
        name = args[0]
        if self.get_command(ctx, name) is None:
            known = self.list_commands(ctx)
            raise UsageError(
                f"there is no command '{name}'.{did_you_mean(name, known)} Known: {', '.join(known)}"
            )
        return super().resolve_command(ctx, args)
