"""The names of the figures, read without importing them: `fromnoise show --help` must be fast."""

import ast
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).with_name("figures")


def figure_names() -> dict[str, list[str]]:
    """Group -> names of the figures of one model, in the order of the alphabet."""
    names: dict[str, list[str]] = {}
    for path in sorted(FOLDER.glob("*.py")):
        for fields in _declared_figures(path):
            if "draw" in fields:
                group = ast.literal_eval(fields["group"])
                names.setdefault(group, []).append(ast.literal_eval(fields["name"]))
    return {group: sorted(names[group]) for group in names}


def _declared_figures(path: Path) -> Iterator[dict[str, ast.expr]]:
    """The keyword arguments of each ``Figure(...)`` of a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "Figure":
                yield {keyword.arg: keyword.value for keyword in node.keywords}
