"""Families are found by file name: ``families/vae.py`` is ``vae``, a stranger's ``path/to/mine.py`` is itself.

A family file holds ``Config``, ``Options``, ``PRESETS`` and ``FAMILY`` (and, if it likes, ``preset_for(spec)``).
"""

import ast
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from ..core.config import BaseConfig
from ..core.errors import UsageError, did_you_mean

HERE = Path(__file__).parent


@dataclass(frozen=True)
class FamilyFile:
    """What a family file defines."""

    name: str
    path: Path
    Config: type[BaseConfig]
    Options: type[BaseConfig]
    PRESETS: dict[str, dict]
    FAMILY: type
    preset_for: "object"


def names() -> list[str]:
    """The families that come with the package."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def summary(name: str) -> str:
    """The first sentence of a family's docstring, read without importing it."""
    text = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or ""
    return text.split("\n")[0]


def load(name: str) -> FamilyFile:
    """The family of that name, or in that file. Raises UsageError."""
    if name.endswith(".py") or "/" in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise UsageError(f"there is no family file {name}")
        spec = importlib.util.spec_from_file_location(f"fromnoise_family_{path.stem}", path)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
        return _from_module(path.stem, path, module)
    if name not in names():
        raise UsageError(f"there is no family '{name}'.{did_you_mean(name, names())} Known: {', '.join(names())}")
    return _from_module(name, HERE / f"{name}.py", importlib.import_module(f".{name}", __name__))


def _from_module(name, path, module) -> FamilyFile:
    missing = [part for part in ("Config", "Options", "PRESETS", "FAMILY") if not hasattr(module, part)]
    if missing:
        raise UsageError(f"{path} is no family file: it does not define {', '.join(missing)}")
    preset_for = getattr(module, "preset_for", lambda spec: "default")
    return FamilyFile(name, path, module.Config, module.Options, module.PRESETS, module.FAMILY, preset_for)
