"""Families, discovered by file name: ``families/vae.py`` is ``vae``; a user's own file is its path.

A family file defines ``Config``, ``Options``, ``PRESETS`` and ``FAMILY``, and optionally
``preset_for(spec)`` and ``PROGRESS_OPTIONS``. ``latent`` cannot be trained by its name: it is made
of two other families (``--within``).

A family file is executed in two cases only: the user names it (``load``), or a run names it and the
user trusts that (``of_run``). A run directory may come from anybody: its run.json is never enough.
"""

import ast
import hashlib
import importlib
import sys
import types
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ..core.config import BaseConfig
from ..core.errors import UsageError, did_you_mean
from ..core.extensions import defined_kinds
from ..core.output import Say, ignore_message
from ..core.words import shown

HERE = Path(__file__).parent


@dataclass(frozen=True)
class FamilyFile:
    """What a family file defines.

    sha256    of a user's own file; "" for the families of the package
    progress_values  options of the samples that are drawn during training, by the generator alone
    second    of ``latent``: the family that is trained
    earlier   values of options that older runs do not record
    """

    name: str
    path: Path
    Config: type[BaseConfig]
    Options: type[BaseConfig]
    PRESETS: dict[str, dict]
    FAMILY: type
    preset_for: "object"
    second: "FamilyFile | None" = None
    progress_values: dict = field(default_factory=dict)
    earlier: dict = field(default_factory=dict)
    sha256: str = ""

    @property
    def is_ours(self) -> bool:
        """True for a family of the package."""
        return self.path.parent == HERE

    @property
    def trained(self) -> "FamilyFile":
        """The family that is trained, whose options a user gives: the second of two stages."""
        return self.second or self

    @property
    def progress_options(self) -> BaseConfig:
        """How samples are drawn while it trains."""
        return self.Options(**self.progress_values)


@cache
def names() -> tuple[str, ...]:
    """The families that come with the package: the files here that define ``FAMILY``."""
    files = sorted(HERE.glob("*.py"))
    return tuple(path.stem for path in files if defined_kinds(path, ("FAMILY",)))


def summary(name: str) -> str:
    """The first sentence of a family's docstring, read without importing it."""
    text = ast.get_docstring(ast.parse((HERE / f"{name}.py").read_text())) or ""
    return text.split("\n")[0]


@dataclass(frozen=True)
class Trust:
    """Which code that runs name may be executed.

    recorded: files whose sha256 is the one that the run recorded; files: these, as they are now.
    """

    recorded: bool = False
    files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, trust_code: "bool | str | Path | Sequence[str | Path] | Trust") -> "Trust":
        """From what the Python API takes: True, or a file or several that the user names."""
        if isinstance(trust_code, Trust):
            return trust_code
        if isinstance(trust_code, bool):
            return cls(recorded=trust_code)
        files = [trust_code] if isinstance(trust_code, str | Path) else trust_code
        return cls(files=tuple(Path(file).expanduser() for file in files))


NO_TRUST = Trust()
# (name in a run.json, recorded sha256) -> the file that was executed for it
_executed: dict[tuple[str, str], FamilyFile] = {}


def load(name: str) -> FamilyFile:
    """The family of a name that the user gave; a file is executed. Raises UsageError."""
    if is_file_name(name):
        return _execute(Path(name).expanduser())
    if name in ("latent", "two_stage"):
        raise UsageError(
            f"{name} is any family in the codes of a trained run: "
            "`fromnoise train FAMILY --within RUN`"
        )
    if name not in names():
        raise UsageError(
            f"there is no family '{name}'.{did_you_mean(name, names())} Known: {', '.join(names())}"
        )
    return _from_module(name, HERE / f"{name}.py", importlib.import_module(f".{name}", __name__))


def is_file_name(name: str) -> bool:
    """True if a family is named by its file, not by the name of one of the package."""
    return name.endswith(".py") or "/" in name or "\\" in name


def loaded(name: str, sha256: str) -> FamilyFile:
    """The family that a configuration names. Executes nothing: a file was trusted and executed
    before. Raises UsageError."""
    if not is_file_name(name):
        return load(name)
    if (name, sha256) not in _executed:
        raise UsageError(
            f"the code in {shown(name, 200)} is not trusted: open the run that it belongs to"
        )
    return _executed[name, sha256]


def of_run(
    info: dict,
    trust: Trust = NO_TRUST,
    whose: str = "this run",
    warn: Say = ignore_message,
) -> FamilyFile:
    """The family of a run, from its run.json.

    A file that the run names is executed only if ``trust`` covers it. whose: the name of the run in
    messages. Raises UsageError.
    """
    if has_two_stages(info):
        for stage in ("first", "second"):
            part = info["config"][stage]
            _trusted(part["family"], part.get("sha256", ""), trust, whose, warn)
        return importlib.import_module(".two_stage", __name__).two_stage_family(info["config"])
    return _trusted(
        info.get("family_file") or info["family"],
        info.get("family_sha256") or "",
        trust,
        whose,
        warn,
    )


def _trusted(name: str, sha256: str, trust: Trust, whose: str, warn: Say) -> FamilyFile:
    """The family that a run names, recorded with that sha256 ("" in runs of before). Raises UsageError."""
    if not is_file_name(name):
        return load(name)
    if "\0" in name:
        raise UsageError(f"{whose} names a family file that cannot be: {shown(name)}")
    path = Path(name).expanduser().resolve()
    named = _named(path, sha256, trust.files)
    if named is None and not trust.recorded:
        unknown = "" if sha256 else ", of which it recorded no digest"
        raise UsageError(
            f"{whose} was trained with code in {shown(path, 200)}{unknown}, and opening it executes "
            "that file: read the file, then add --trust-code, or --trust-file FILE.py for one that "
            "you name (in Python trust_code=True or the file)"
        )
    now = file_sha256(named or path)
    if now != sha256 and named is None and sha256:
        raise UsageError(
            f"{shown(path, 200)} changed since {whose} was trained with it (sha256 {sha256[:12]} "
            f"then, {now[:12]} now): bring the old file back, or accept it as it is with "
            f"--trust-file {path} (in Python trust_code={str(path)!r})"
        )
    if now != sha256:
        why = (
            f"sha256 {sha256[:12]} then, {now[:12]} now"
            if sha256
            else "it recorded no digest of it"
        )
        warn(
            f"{shown(named or path, 200)} may not be the code that {whose} was trained with: {why}"
        )
    family = _execute(named or path, now)
    _executed[name, sha256] = family
    return family


def _named(path: Path, sha256: str, files: Sequence[Path]) -> Path | None:
    """The file that the user named with the recorded content, or else with the same name."""
    same = [file for file in files if sha256 and file_sha256(file) == sha256]
    return next(iter(same + [file for file in files if file.name == path.name]), None)


def file_sha256(path: Path) -> str:
    return hashlib.sha256(_source(path)).hexdigest()


def _source(path: Path) -> bytes:
    """The content of a family file. Raises UsageError."""
    if not path.is_file():
        raise UsageError(f"there is no family file {shown(path, 200)}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the family file {shown(path, 200)} cannot be read ({error.strerror or error})"
        ) from None


def _execute(path: Path, expected: str = "") -> FamilyFile:
    """What a file defines. The bytes that are hashed are executed, never cached bytecode.

    expected: a sha256 compared before; the file may have changed since. Raises UsageError.
    """
    source = _source(path)
    sha256 = hashlib.sha256(source).hexdigest()
    if expected and sha256 != expected:
        raise UsageError(f"{shown(path, 200)} changed while it was read: try again")
    module = types.ModuleType(f"fromnoise_family_{path.stem}_{sha256[:8]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), vars(module))
    except Exception as error:
        raise UsageError(
            f"{shown(path, 200)} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    family = _from_module(path.stem, path, module, sha256)
    _executed[str(path.resolve()), sha256] = family
    return family


def options_of(info: dict) -> dict:
    """The options of the trained family, from run.json; of ``latent`` those of the second stage."""
    return info["config"]["second"]["config"] if has_two_stages(info) else info["config"]


def has_two_stages(info: dict) -> bool:
    """True if a run, by its run.json, is one family in the codes of another."""
    return info["family"] == "latent" and not info.get("family_file")


def short_name(info: dict) -> str:
    """Of a run's family, from its run.json: "vae", "mixture within vae"."""
    if not has_two_stages(info):
        return info["family"]

    def name(stage):
        return stage["config"].get("model") or Path(stage["family"]).stem

    return f"{name(info['config']['second'])} within {name(info['config']['first'])}"


def _from_module(name, path, module, sha256="") -> FamilyFile:
    missing = [
        part for part in ("Config", "Options", "PRESETS", "FAMILY") if not hasattr(module, part)
    ]
    if missing:
        raise UsageError(f"{path} is no family file: it does not define {', '.join(missing)}")
    preset_for = getattr(module, "preset_for", lambda spec: "default")
    progress_values = getattr(module, "PROGRESS_OPTIONS", getattr(module, "WATCHING", {}))
    earlier = getattr(module, "EARLIER", {})
    return FamilyFile(
        name,
        path,
        module.Config,
        module.Options,
        module.PRESETS,
        module.FAMILY,
        preset_for,
        progress_values=progress_values,
        earlier=earlier,
        sha256=sha256,
    )
