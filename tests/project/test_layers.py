"""Data flows one way, and the folders say so: imports go only to a lower layer."""

import ast
import re
from pathlib import Path

import pytest

import fromnoise

SOURCE = Path(fromnoise.__file__).parent
ARCHITECTURE = Path(__file__).parents[2] / "docs" / "architecture.md"


def layers_in_the_documentation() -> dict[str, int]:
    """The table of docs/architecture.md: folder or module -> number of its layer."""
    rows = re.findall(r"^(\d+) +([a-z_]+)(?:\.py)? ", ARCHITECTURE.read_text(), re.MULTILINE)
    return {name: int(number) for number, name in rows}


LAYERS = layers_in_the_documentation() | {"__main__": 11, "__init__": 11}
MAY_IMPORT_SIBLINGS = {"vae", "hierarchical_vae", "_vae_inside", "vaegan", "two_stage"}


def imports(path: Path):
    """(part, module) for every import of our own package."""
    package = path.relative_to(SOURCE).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level] + tuple(
                (node.module or "").split(".") if node.module else ()
            )
            for alias in node.names:
                full = base + (alias.name,)
                yield full
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fromnoise":
            yield tuple(node.module.split(".")[1:])
        elif isinstance(node, ast.Import):
            yield from (
                tuple(a.name.split(".")[1:]) for a in node.names if a.name.startswith("fromnoise.")
            )


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_imports_go_down(path):
    here = path.relative_to(SOURCE).with_suffix("").parts
    assert here[0] in LAYERS, f"{here[0]} has no layer: add it to docs/architecture.md"
    for target in imports(path):
        if (
            not target
            or target[0] not in LAYERS
            or target[0] == here[0]
            or target[0].startswith("__")
        ):
            continue
        assert LAYERS[target[0]] < LAYERS[here[0]], f"{'/'.join(here)} imports {'.'.join(target)}"


def test_every_folder_is_in_the_documentation_and_nothing_else_is():
    folders = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert set(LAYERS) == folders | {"api", "__main__", "__init__"}


def test_families_do_not_import_each_other():
    for path in (SOURCE / "families").glob("*.py"):
        if path.stem in MAY_IMPORT_SIBLINGS or path.stem == "__init__":
            continue
        # files that begin with "_" are no families, but parts that families share
        siblings = {p.stem for p in (SOURCE / "families").glob("[!_]*.py")}
        assert not [t for t in imports(path) if t[:1] == ("families",) and t[1] in siblings], (
            path.name
        )


@pytest.mark.parametrize("path", sorted((SOURCE / "families").glob("*.py")), ids=lambda p: p.name)
def test_families_leave_speed_to_the_loop(path):
    names = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
    assert not names & {"cuda", "autocast", "compile", "item", "requires_grad_"}, path.name


def test_no_pickle_and_no_torchvision_anywhere():
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not {n.split(".")[0] for n in names} & {
                "pickle",
                "cloudpickle",
                "joblib",
                "torchvision",
                "torch_fidelity",
                "cleanfid",
            }, path
        assert (
            "torch.load(" not in path.read_text() and "allow_pickle=True" not in path.read_text()
        ), path
