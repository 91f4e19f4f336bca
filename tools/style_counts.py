"""Counts of what makes code hard to read, of the whole source or of some files and folders.

    python tools/style_counts.py [PATH ...] [--list]

--list names every long line, long file, long function and public name with a word that says nothing.
"""

import argparse
import ast
import re
from pathlib import Path

LONG_LINE = 100
LONGEST_LINE = 110
LONGEST_FILE = 300
LONGEST_FUNCTION = 40
# longer functions, with the reason
REASONS = {"evaluate/report.py:evaluate": "signature and docstring of a public function, 34 lines"}
EMPTY_WORDS = {"told", "found", "said", "look", "walk", "made", "taken"}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def has_reason(path: Path, name: str) -> bool:
    return f"{path.parent.name}/{path.name}:{name}" in REASONS


class Counts:
    def __init__(self) -> None:
        self.lines = 0
        self.long_lines = 0
        self.tuple_assignments = 0
        self.comprehensions = 0
        self.nested_ternaries = 0
        self.remarks: list[str] = []

    def add_file(self, path: Path) -> None:
        lines = path.read_text().splitlines()
        self.lines += len(lines)
        if len(lines) > LONGEST_FILE:
            self.remarks.append(f"{path}: {len(lines)} lines")
        for number, line in enumerate(lines, 1):
            self.long_lines += len(line) > LONG_LINE
            if len(line) > LONGEST_LINE:
                self.remarks.append(f"{path}:{number}: {len(line)} columns")
        for node in ast.walk(ast.parse(path.read_text())):
            self.add_node(path, node)

    def add_node(self, path: Path, node: ast.AST) -> None:
        if isinstance(node, COMPREHENSIONS):
            self.comprehensions += 1
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple):
            # (a, b) = f(x) unpacks a result; a, b = x, y assigns two unrelated values
            self.tuple_assignments += isinstance(node.value, ast.Tuple)
        if isinstance(node, ast.IfExp):
            parts = (node.body, node.test, node.orelse)
            self.nested_ternaries += any(isinstance(part, ast.IfExp) for part in parts)
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            words = set(re.sub(r"([A-Z])", r"_\1", node.name).lower().split("_"))
            if not node.name.startswith("_") and words & EMPTY_WORDS:
                self.remarks.append(f"{path}:{node.lineno}: the name {node.name}")
        if isinstance(node, ast.FunctionDef):
            length = node.end_lineno - node.lineno + 1
            if length > LONGEST_FUNCTION and not has_reason(path, node.name):
                self.remarks.append(f"{path}:{node.lineno}: {node.name} has {length} lines")

    def summary(self) -> str:
        per_thousand = 1000 / max(1, self.lines)
        return (
            f"{self.lines:,} lines; over {LONG_LINE} columns {100 * self.long_lines / self.lines:.1f} %; "
            f"in 1,000 lines: tuple assignments {self.tuple_assignments * per_thousand:.1f}, "
            f"comprehensions {self.comprehensions * per_thousand:.1f}; "
            f"nested ternaries {self.nested_ternaries}; remarks {len(self.remarks)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("paths", nargs="*", type=Path, default=[Path("src/fromnoise")])
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    counts = Counts()
    for path in args.paths:
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            counts.add_file(file)
    print(counts.summary())
    if args.list:
        print("\n".join(counts.remarks))


if __name__ == "__main__":
    main()
