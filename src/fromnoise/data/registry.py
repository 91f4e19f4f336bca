"""All data sources, discovered in data/sources and in the user's folders; and all their options."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import create_model

from ..core.config import BaseConfig, build, flag
from ..core.errors import DataError, UsageError, did_you_mean
from ..core.extensions import VARIABLE, discover_instances
from ..core.words import shown
from . import config as shared
from . import sources
from .source import ANY_FILE, Source


def all_sources() -> list[Source]:
    """Every source, in the order of their places. Raises UsageError: a file of the user is wrong."""
    pairs = discover_instances(sources, "SOURCE", Source)
    _refuse_suffixes_twice(pairs)
    for path, source in pairs:
        _refuse_redefined_options(path, source, [other for _, other in pairs])
    return sorted((source for _, source in pairs), key=_place)


def _place(source: Source) -> int:
    return source.place


def _refuse_suffixes_twice(pairs: Sequence[tuple[Path, Source]]) -> None:
    """Raises UsageError if two sources read files with the same suffix."""
    files: dict[str, Path] = {}
    for path, source in pairs:
        for suffix in source.suffixes:
            if suffix in files:
                raise UsageError(
                    f"{shown(path, 200)} reads files {shown(suffix)}, which {shown(files[suffix], 200)} "
                    "reads already: choose another suffix, or give the data a name"
                )
            files[suffix] = path


def _refuse_redefined_options(path: Path, source: Source, others: Sequence[Source]) -> None:
    """Raises UsageError if an option has the name of another one and differs from it."""
    for name, field in source.Options.model_fields.items():
        for other in others:
            known = other.Options.model_fields.get(name)
            if known is not None and repr(known) != repr(field):
                raise UsageError(
                    f"{shown(path, 200)}: the option {flag(name)} exists already and is defined in "
                    "another way: inherit its class of fromnoise.data.config, or choose another name"
                )


def user_file(source: Source) -> str:
    """The file of the user that declares a source; "" for those of the package."""
    package = Path(sources.__path__[0])
    for path, other in discover_instances(sources, "SOURCE", Source):
        if other is source and path.parent != package:
            return str(path.resolve())
    return ""


def require_source(file: str, whose: str) -> None:
    """Raises DataError if no source comes from a file with this name."""
    files = {path.name for path, _ in discover_instances(sources, "SOURCE", Source)}
    if Path(file).name not in files:
        raise DataError(
            f"the data of {whose} were read by {shown(file, 200)}, and no folder of {VARIABLE} has a "
            "file of that name: set it to the folder that holds your copy"
        )


def data_config() -> type[BaseConfig]:
    """``DataConfig``: the options of all sources, each with its bounds and its description."""
    options = dict.fromkeys(source.Options for source in all_sources())
    return _union_of_options(tuple(options))


@cache
def _union_of_options(models: tuple[type[BaseConfig], ...]) -> type[BaseConfig]:
    """A configuration with the fields of all: first those of data/config.py, in its order."""
    shared_models = [value for value in vars(shared).values() if _is_configuration(value)]
    used = {name for model in models for name in model.model_fields}
    fields: dict[str, Any] = {}
    for model in (*shared_models, *models):
        for name, field in model.model_fields.items():
            if name in used:
                fields.setdefault(name, (field.annotation, field))
    about = "How a source becomes a data set. A source refuses the options that it does not use."
    return create_model("DataConfig", __base__=BaseConfig, __doc__=about, **fields)


def _is_configuration(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseConfig) and value is not BaseConfig


def source_options(source: Source, name: str, given: Mapping[str, Any]) -> BaseConfig:
    """The options of a source. Raises UsageError for a given one that it does not have."""
    refuse_options(given, source.Options, source.title.format(name=name))
    return build(source.Options, given)


def refuse_options(given: Mapping[str, Any], allowed: type[BaseConfig], title: str) -> None:
    """Raises UsageError if an option is given that ``allowed`` does not have."""
    for name in sorted(given):
        if name not in allowed.model_fields:
            raise UsageError(f"{flag(name)} has no meaning for {title}: leave it out")


def catalogue() -> dict[str, str]:
    """Name -> one line about every data set that has a name."""
    lines: dict[str, str] = {}
    for source in all_sources():
        lines |= source.names
    return lines


def path_descriptions() -> list[str]:
    """The files and folders that the sources read, in words."""
    described = [source.described_paths for source in all_sources()]
    return [words for words in described if words]


def find_source(name: str) -> Source:
    """The source of the data with this name or at this path. Raises DataError."""
    known = all_sources()
    for source in known:
        if name in source.names:
            return source
    path = Path(name).expanduser()
    if not path.exists():
        raise DataError(_explain_missing(name, path))
    if path.is_dir():
        return _folder_source(known, path)
    if not path.is_file():
        raise DataError(
            f"data {shown(name)} is no file or folder, but a device or a pipe: name one that can be "
            "read more than once"
        )
    return _file_source(known, path)


def _explain_missing(name: str, path: Path) -> str:
    known = catalogue()
    if "/" in name or path.suffix:
        problem = "no such file or folder."
    else:
        problem = f"neither a known data set nor a path that exists.{did_you_mean(name, known)}"
    return f"data {shown(name, 200)}: {problem} Known names: {', '.join(known)}"


def _folder_source(known: Sequence[Source], path: Path) -> Source:
    by_priority = sorted(known, key=_folder_priority, reverse=True)
    for source in by_priority:
        if source.reads_folder(path):
            return source
    raise DataError(f"data {shown(path, 200)}: no source reads this folder")


def _folder_priority(source: Source) -> int:
    return source.folder_priority


def _file_source(known: Sequence[Source], path: Path) -> Source:
    """By the suffix; every other file is text."""
    by_suffix = {suffix: source for source in known for suffix in source.suffixes}
    return by_suffix.get(path.suffix.lower(), by_suffix[ANY_FILE])
