"""Families are found by file name: ``families/vae.py`` is ``vae``, a stranger's ``path/to/mine.py`` is itself.

A family file holds ``Config``, ``Options``, ``PRESETS`` and ``FAMILY`` (and, if it likes, ``preset_for(spec)`` and ``WATCHING``).
``latent`` is no family to train by its name: it is made of two others (``--within``).
"""

import ast
import importlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path

from ..core.config import BaseConfig
from ..core.errors import UsageError, did_you_mean

HERE = Path(__file__).parent


@dataclass(frozen=True)
class FamilyFile:
    """What a family file defines. watching: options of the samples that are looked at in training, and that show G alone. second: of ``latent``, the family whose options are those of its training."""

    name: str
    path: Path
    Config: type[BaseConfig]
    Options: type[BaseConfig]
    PRESETS: dict[str, dict]
    FAMILY: type
    preset_for: "object"
    second: "FamilyFile | None" = None
    watching: dict = field(default_factory=dict)

    @property
    def watched(self) -> BaseConfig:
        """How samples are drawn while it trains."""
        return self.Options(**self.watching)


def names() -> list[str]:
    """The families that come with the package."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_") and path.stem != "latent")


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
    if name == "latent":
        raise UsageError("latent is any family in the codes of a trained run: `fromnoise train FAMILY --within RUN`")
    if name not in names():
        raise UsageError(f"there is no family '{name}'.{did_you_mean(name, names())} Known: {', '.join(names())}")
    return _from_module(name, HERE / f"{name}.py", importlib.import_module(f".{name}", __name__))


def of_run(info: dict) -> FamilyFile:
    """The family of a run, from its run.json. Raises UsageError."""
    if has_two_stages(info):
        return importlib.import_module(".latent", __name__).of(info["config"])
    return load(info.get("family_file") or info["family"])


def options_of(info: dict) -> dict:
    """The options of the family that a run was trained with, from its run.json; of ``latent`` those of its second stage."""
    return info["config"]["second"]["config"] if has_two_stages(info) else info["config"]


def has_two_stages(info: dict) -> bool:
    """Whether a run, by its run.json, is one family in the codes of another; a stranger's family may have the same name."""
    return info["family"] == "latent" and not info.get("family_file")


def short_name(info: dict) -> str:
    """Of a run's family, from its run.json: "vae", "mixture within vae"."""
    if not has_two_stages(info):
        return info["family"]
    name = lambda stage: stage["config"].get("model") or Path(stage["family"]).stem
    return f"{name(info['config']['second'])} within {name(info['config']['first'])}"


def _from_module(name, path, module) -> FamilyFile:
    missing = [part for part in ("Config", "Options", "PRESETS", "FAMILY") if not hasattr(module, part)]
    if missing:
        raise UsageError(f"{path} is no family file: it does not define {', '.join(missing)}")
    preset_for = getattr(module, "preset_for", lambda spec: "default")
    watching = getattr(module, "WATCHING", {})
    return FamilyFile(name, path, module.Config, module.Options, module.PRESETS, module.FAMILY, preset_for, watching=watching)
