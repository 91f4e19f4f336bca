"""Reports of several models -> a table of what may be compared, and a verdict in words with its hedges.

A column holds only numbers of the same kind: the same name, kind of bound, k and unit. Everything
else about a metric is read from the report: no metric is known here by name, but for the PCA yardstick.
"""

import math
from dataclasses import dataclass, field

RATIO_TO_PCA = "ratio_to_pca"
CLEAR = 2.0  # standard errors that two numbers must lie apart to be told apart


@dataclass
class Column:
    """cells: report index -> metric."""

    name: str
    bound: str | None
    k: int | None
    label: str
    unit: str
    better: str | None
    cells: dict[int, dict] = field(default_factory=dict)

    @property
    def mixed(self) -> bool:
        """Do the models call it differently ("active units of 16", "... of 2")?"""
        return len({cell.get("label") for cell in self.cells.values() if has_value(cell)}) > 1

    @property
    def head(self) -> str:
        return self.name.replace("_", " ") if self.mixed else self.label

    @property
    def kind(self) -> str:
        """What sort of number it is, in words."""
        parts = {"exact": ["exact"], "lower": ["lower bound"]}.get(self.bound or "", [])
        return ", ".join(parts + ([f"k = {self.k}"] if self.k and self.k > 1 and f"k = {self.k}" not in self.head else []))

    def ranked(self) -> list[int]:
        """Report indices with a number, best first; empty when no direction is better."""
        if self.better not in ("lower", "higher"):
            return []
        sign = 1 if self.better == "lower" else -1
        return sorted((i for i, cell in self.cells.items() if has_value(cell)), key=lambda i: sign * self.cells[i]["value"])

    def clearly_apart(self, a: int, b: int) -> bool | None:
        """Further apart than two standard errors of the difference? None: no standard error is known."""
        one, two = self.cells[a], self.cells[b]
        if one.get("se") is None or two.get("se") is None:
            return None
        return abs(one["value"] - two["value"]) > CLEAR * math.hypot(one["se"], two["se"])


def has_value(cell: dict | None) -> bool:
    return cell is not None and cell.get("value") is not None and math.isfinite(cell["value"])


def columns_of(reports: list[dict]) -> list[Column]:
    """Columns in the order of their first appearance.

    A metric without a number has no bound of its own: its reason goes into every column of its name.
    """
    columns: dict[tuple, Column] = {}
    missing: list[tuple[int, dict]] = []
    for i, report in enumerate(reports):
        for metric in report.get("metrics", []):
            if not has_value(metric):
                missing.append((i, metric))
                continue
            key = (metric["name"], metric.get("bound"), metric.get("k"), metric.get("unit"))
            column = columns.setdefault(key, _column(metric))
            column.cells[i] = metric
    names = {column.name for column in columns.values()}
    for i, metric in missing:
        if metric["name"] not in names:
            columns.setdefault((metric["name"],), _column(metric))
        for column in columns.values():
            if column.name == metric["name"] and i not in column.cells:
                column.cells[i] = metric
    return list(columns.values())


def _column(metric: dict) -> Column:
    words = metric.get("label") or metric["name"].replace("_", " ")
    return Column(metric["name"], metric.get("bound"), metric.get("k"), words, metric.get("unit") or "", metric.get("better"))


def number(value: float, se: float | None = None) -> str:
    """``0.0396 ± 0.0008``: as many digits as the standard error supports, four without one."""
    if se is None or not se > 0 or not math.isfinite(se):
        return f"{value:,.0f}" if value == int(value) and abs(value) < 1e9 or 1e4 <= abs(value) < 1e9 else f"{value:,.4g}"
    digits = max(0, 1 - math.floor(math.log10(se)))
    if digits > 7:
        return f"{value:.3g} ± {se:.2g}"
    return f"{value:,.{digits}f} ± {se:,.{digits}f}"


def shown(cell: dict) -> str:
    return number(cell["value"], cell.get("se"))


def verdict(reports: list[dict], titles: list[str], same_data: bool = True) -> list[str]:
    """Sentences, plain text."""
    if not same_data:
        return ["These runs were trained on different data: their numbers stand beside each other, but none is better than another."]
    said = []
    for column in columns_of(reports):
        order = [] if column.name.startswith("pca_") else column.ranked()
        if column.name == RATIO_TO_PCA:
            said += _beside_pca(column, titles)
        elif len(order) > 1:
            said.append(_best(column, order, titles))
    return said or ["There is no metric that two of these models share: nothing can be ranked."]


def _best(column: Column, order: list[int], titles: list[str]) -> str:
    first, second = order[:2]
    kind = f" ({column.kind})" if column.kind else ""
    unit = f" {column.unit}" if column.unit and len(column.unit) < 28 else ""
    start = f"Best {column.head}{kind}: {titles[first]} with {shown(column.cells[first])}{unit}; next is {titles[second]} with {shown(column.cells[second])}"
    apart = column.clearly_apart(first, second)
    if apart is None:
        return start + ". No standard error is known, so a small difference may be chance."
    return start + ("." if apart else f": less than {CLEAR:.0f} standard errors apart, so this is a tie.")


def _beside_pca(column: Column, titles: list[str]) -> list[str]:
    better = [titles[i] for i, cell in column.cells.items() if has_value(cell) and cell["value"] < 0.999]
    worse = [titles[i] for i, cell in column.cells.items() if has_value(cell) and cell["value"] > 1.001]
    said = []
    if better:
        said.append(f"Reconstructs better than PCA with a code of the same size: {'; '.join(better)}.")
    if worse:
        said.append(f"Reconstructs worse than PCA with a code of the same size: {'; '.join(worse)}.")
    return said


def hedges(reports: list[dict], seeds: set[int], code_sizes: set[int]) -> list[str]:
    """What the verdict does not say."""
    said = ["± is one standard error over the test examples; it does not cover another training run, whose result may differ by more."]
    columns = columns_of(reports)
    kinds = {(c.bound, c.k) for c in columns if c.bound and any(has_value(cell) for cell in c.cells.values())}
    if any(bound == "lower" for bound, _ in kinds):
        said.append("A lower bound says that the true log-likelihood is at least this; bounds of different k and exact values are not ranked against each other.")
    if len(code_sizes) > 1:
        sizes = ", ".join(map(str, sorted(code_sizes)))
        said.append(f"The codes differ in size ({sizes} numbers), and a larger code reconstructs better: compare errors at equal size.")
    said.append(f"Each model was trained once ({'seed ' + str(min(seeds)) if len(seeds) == 1 else 'seeds ' + ', '.join(map(str, sorted(seeds)))}).")
    return said
