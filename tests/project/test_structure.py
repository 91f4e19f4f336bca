"""What keeps the house in order: places, names and sizes, read from the source."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import fromnoise

SOURCE = Path(fromnoise.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}
NAMES_IN_EACH_FAMILY = {"Config", "Options"}
# Words that say nothing about the thing that they name.
EMPTY_WORDS = {"told", "found", "said", "look", "walk", "made", "taken"}


def place(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def imported_modules(path: Path):
    """Absolute names, below fromnoise, of what a file imports."""
    package = path.relative_to(SOURCE).with_suffix("").parts
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level]
            module = tuple(node.module.split(".")) if node.module else ()
            for alias in node.names:
                yield ".".join((*base, *module, alias.name))


def test_only_the_python_interface_is_a_module_at_top_level():
    assert {path.name for path in SOURCE.glob("*.py")} == {"__init__.py", "__main__.py", "api.py"}


def test_measuring_and_showing_do_not_import_training():
    for path in FILES:
        if path.relative_to(SOURCE).parts[0] in ("evaluate", "show", "inference"):
            wrong = [name for name in imported_modules(path) if name.startswith("training.")]
            assert not wrong, f"{place(path)} imports {wrong}"


def test_no_public_class_name_is_used_twice():
    places = defaultdict(list)
    for path, tree in TREES.items():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(place(path))
    twice = {name: files for name, files in places.items() if len(files) > 1}
    assert not {name: files for name, files in twice.items() if name not in NAMES_IN_EACH_FAMILY}


def test_no_class_is_made_at_run_time():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert not (node.func.id == "type" and len(node.args) == 3), place(path)


def test_public_names_say_something():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                words = set(re.sub(r"([A-Z])", r"_\1", node.name).lower().split("_"))
                assert not words & EMPTY_WORDS, f"{place(path)}: {node.name}"


def test_the_step_of_training_is_at_most_twenty_lines():
    tree = TREES[SOURCE / "training" / "step.py"]
    step = next(node for node in tree.body if getattr(node, "name", "") == "train_step")
    body = step.body[1:]  # without its docstring
    assert body[-1].end_lineno - body[0].lineno + 1 <= 20
