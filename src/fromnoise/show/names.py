"""The names of the figures, read without importing them: `fromnoise show --help` must be fast."""

import ast
from collections.abc import Iterator
from pathlib import Path

from ..core.extensions import extension_files, parsed_file

FOLDER = Path(__file__).with_name("figures")
# headings in the help of `fromnoise show`; figures are listed and drawn in this order, then by name
GROUPS = ("training", "samples", "latents", "symbols", "noise", "reconstruction", "adversarial")
OTHER_GROUP = "other"  # of figures of the user that name no group
FIRST_FIELDS = ("name", "about", "group", "needs", "draw")  # of ``Figure``, in this order


def figure_names() -> dict[str, list[str]]:
    """Group -> sorted names of its figures of one model, in the order of GROUPS.

    Figures of the user may have further groups. Raises UsageError: a file of the user is no Python.
    """
    names: dict[str, list[str]] = {group: [] for group in GROUPS}
    for path in [*sorted(FOLDER.glob("*.py")), *extension_files("FIGURE")]:
        for fields in _declared_figures(path):
            name = _text_in(fields.get("name"))
            if name and "draw" in fields:
                names.setdefault(_text_in(fields.get("group")) or OTHER_GROUP, []).append(name)
    return {group: sorted(names[group]) for group in names}


def _declared_figures(path: Path) -> Iterator[dict[str, ast.expr]]:
    """The arguments of each ``Figure(...)`` of a file."""
    for node in ast.walk(parsed_file(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "Figure":
                arguments = dict(zip(FIRST_FIELDS, node.args))
                yield arguments | {keyword.arg or "": keyword.value for keyword in node.keywords}


def _text_in(node: ast.expr | None) -> str:
    """The text that an expression consists of; "" if it has to be computed, or there is none."""
    return str(node.value) if isinstance(node, ast.Constant) else ""
