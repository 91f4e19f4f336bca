"""Discovery of sources, metrics and figures: in the package's folders, and in folders of the user.

Every file that defines ``SOURCE``, ``METRIC`` or ``FIGURE`` (or several objects, as ``SOURCES``,
``METRICS`` or ``FIGURES``) adds to the package. The files of a user lie in the folders that the
environment variable FROMNOISE_EXTENSIONS names. A file is executed only if it defines what is
asked for: the others in the same folder may be anything.
"""

import ast
import hashlib
import importlib
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from .errors import UsageError
from .words import shown

# names of modules whose code comes from files of the user
USER_MODULES = ("fromnoise_extension_", "fromnoise_family_")
VARIABLE = "FROMNOISE_EXTENSIONS"  # folders, separated by os.pathsep
Item = TypeVar("Item")
# (resolved path, sha256 of the content) -> the module that was executed
_executed: dict[tuple[Path, str], ModuleType] = {}
_added: list[Path] = []  # files that count as the user's for a while


def discover(package: ModuleType, attribute: str) -> list[tuple[Path, object]]:
    """Every object that a module of the package, or a file of the user, defines as ``attribute``.

    attribute: "SOURCE", "METRIC" or "FIGURE"; ``<attribute>S``, a sequence, is accepted as well.

    Returns (file, object), first those of the package, by name of the module, then those of the
    user, by folder and name of the file. Raises UsageError: a file of the user cannot be read or
    executed, or it defines a name that exists; ValueError: the package defines a name twice.
    """
    pairs: list[tuple[Path, object]] = []
    for module_info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{module_info.name}")
        path = Path(str(module.__file__))
        for item in objects_of(module, attribute):
            pairs.append((path, item))
    _refuse_names_twice(pairs)
    for path in extension_files(attribute):
        for item in objects_of(execute_file(path), attribute):
            _refuse_known_names(path, item, pairs, attribute)
            pairs.append((path, item))
    return pairs


def discover_instances(
    package: ModuleType, attribute: str, kind: type[Item]
) -> list[tuple[Path, Item]]:
    """``discover`` for objects of one class. Raises UsageError for an object of another class."""
    pairs = []
    for path, item in discover(package, attribute):
        if not isinstance(item, kind):
            raise UsageError(
                f"{shown(path, 200)} defines {attribute} as {shown(type(item).__name__)}: make it a "
                f"{kind.__module__}.{kind.__name__}"
            )
        pairs.append((path, item))
    return pairs


def objects_of(module: ModuleType, attribute: str) -> list[object]:
    """What a module defines as ``attribute`` and in ``<attribute>S``."""
    objects = []
    if hasattr(module, attribute):
        objects.append(getattr(module, attribute))
    objects += getattr(module, f"{attribute}S", ())
    return objects


def names_of(item: object) -> list[str]:
    """The names that an object adds: its ``names``, or else its ``name``."""
    names: Iterable[str] = getattr(item, "names", None) or ()
    if names:
        return list(names)
    name = getattr(item, "name", "")
    return [name] if name else []


def extension_folders() -> list[Path]:
    """The folders that FROMNOISE_EXTENSIONS names. Raises UsageError if one of them is none."""
    folders = []
    for part in os.environ.get(VARIABLE, "").split(os.pathsep):
        if not part:
            continue
        folder = Path(part).expanduser()
        if not folder.is_dir():
            raise UsageError(
                f"{VARIABLE} names {shown(folder, 200)}, which is no folder: create it, or mend the "
                "variable"
            )
        folders.append(folder)
    return folders


def extension_files(attribute: str) -> list[Path]:
    """The .py files of the user that define ``attribute``, or ``<attribute>S``; executes nothing."""
    candidates = list(_added)
    for folder in extension_folders():
        candidates += sorted(folder.glob("*.py"))
    files: dict[Path, Path] = {}  # resolved path -> path
    for path in candidates:
        if path.is_file() and _mentions(path, attribute) and defined_kinds(path, (attribute,)):
            files.setdefault(path.resolve(), path)
    return list(files.values())


def _mentions(path: Path, attribute: str) -> bool:
    """False for a file that has nothing to do with ``attribute``, and may be no Python at all."""
    try:
        return attribute.encode() in path.read_bytes()
    except OSError:
        return True  # parsing says why it cannot be read


@contextmanager
def added(path: Path) -> Iterator[None]:
    """Within this context a file counts as one of the user's, wherever it lies: for its checks."""
    _added.append(path)
    try:
        yield
    finally:
        _added.remove(path)


def defined_kinds(path: Path, attributes: Iterable[str]) -> list[str]:
    """Those of the attributes that a file assigns, also as ``<attribute>S``; executes nothing.

    Raises UsageError if the file cannot be read, or is no Python.
    """
    assigned = set()
    for node in _module_statements(parsed_file(path)):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        elif isinstance(node, ast.ImportFrom):
            assigned |= {alias.asname or alias.name for alias in node.names}
        for target in targets:
            parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
            assigned |= {part.id for part in parts if isinstance(part, ast.Name)}
    return [name for name in attributes if name in assigned or f"{name}S" in assigned]


def _module_statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All parts of a file except what stands in functions and classes."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node
            yield from _module_statements(node)


def parsed_file(path: Path) -> ast.Module:
    """The syntax tree of a file. Raises UsageError if it cannot be read, or is no Python."""
    try:
        return ast.parse(_content(path), str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        place = f"line {line}: " if line else ""
        reason = getattr(error, "msg", str(error))
        raise UsageError(
            f"{shown(path, 200)} cannot be imported: {place}{type(error).__name__}: {reason}: mend "
            "the file, or move it out of its folder"
        ) from None


def execute_file(path: Path) -> ModuleType:
    """The module that a file of the user defines, executed once for each content.

    Raises UsageError if the file cannot be read or executed.
    """
    content = _content(path)
    sha256 = hashlib.sha256(content).hexdigest()
    key = (path.resolve(), sha256)
    if key in _executed:
        return _executed[key]
    module = ModuleType(f"fromnoise_extension_{path.stem}_{sha256[:8]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses read the module of a class
    try:
        exec(compile(content, str(path), "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{shown(path, 200)} cannot be imported: {_describe(error)}: mend the file, or move "
            "it out of its folder"
        ) from error
    _executed[key] = module
    return module


def explain_user_error(error: BaseException) -> str:
    """Where a file of the user raised an error, and which; "" if none of its code was running."""
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__", "")).startswith(USER_MODULES):
            file = shown(frame.f_globals["__file__"], 200)
            place = f"{file}, line {line}, in {frame.f_code.co_name}"
    if not place:
        return ""
    message = " ".join(str(error).split())[:300]
    return f"{place}: {type(error).__name__}: {message}: mend the file"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{shown(path, 200)} cannot be read ({error.strerror or error}): mend its path or "
            "permissions"
        ) from None


def _describe(error: BaseException) -> str:
    """The type and the first line of a message, with the line number of the file that raised it."""
    message = str(error).split("\n")[0]
    outer = error.__traceback__
    innermost = outer.tb_next if outer and outer.tb_next else outer
    line = f"line {innermost.tb_lineno}: " if innermost else ""
    return f"{line}{type(error).__name__}: {message}"


def _refuse_names_twice(pairs: list[tuple[Path, object]]) -> None:
    """Raises ValueError if two modules of the package define the same name."""
    places: dict[str, Path] = {}
    for path, item in pairs:
        for name in names_of(item):
            if name in places:
                raise ValueError(f"'{name}' is defined in {places[name]} and in {path}")
            places[name] = path


def _refuse_known_names(
    path: Path, item: object, pairs: list[tuple[Path, object]], attribute: str
) -> None:
    """Raises UsageError if a name of a user's object exists already."""
    for other_path, other in pairs:
        for name in names_of(item):
            if name in names_of(other):
                raise UsageError(
                    f"{shown(path, 200)} defines the {attribute.lower()} {shown(name)}, which "
                    f"{shown(other_path, 200)} defines already: choose another name"
                )
