"""The names of the figures, read without importing them: `fromnoise show --help` must be fast."""

import ast
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).with_name("figures")
# headings in the help of `fromnoise show`; figures are listed and drawn in this order, then by name
GROUPS = ("training", "samples", "latents", "symbols", "noise", "reconstruction", "adversarial")


def figure_names() -> dict[str, list[str]]:
    """Group -> sorted names of its figures of one model, in the order of GROUPS."""
    names: dict[str, list[str]] = {group: [] for group in GROUPS}
    for path in sorted(FOLDER.glob("*.py")):
        for fields in _declared_figures(path):
            if "draw" in fields:
                group = ast.literal_eval(fields["group"])
                names[group].append(ast.literal_eval(fields["name"]))
    return {group: sorted(names[group]) for group in names}


def _declared_figures(path: Path) -> Iterator[dict[str, ast.expr]]:
    """The keyword arguments of each ``Figure(...)`` of a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "Figure":
                yield {keyword.arg or "": keyword.value for keyword in node.keywords}
