"""The table of the page: one metric a line, one model a column."""

from ...evaluate.cells import format_rate, group_columns, heading, real_row
from ...evaluate.cost import most_at_once
from ...evaluate.protocol import MetricColumn, align_columns, has_value
from ...evaluate.table import NEAR, explanations
from .table import Cell, PageTable, Row
from .verdict import spread, value_of
from .wording import NO_NUMBER, NO_VALUES, REAL_NOTE, TABLE_NOTE, describe_protocol, describe_run

COSTS = {
    "parameters": lambda cost: cost.get("parameters"),
    "training seconds": lambda cost: cost.get("train_seconds"),
    "peak memory, MB": lambda cost: cost.get("memory_mb"),
    "samples a second, one at a time": lambda cost: cost.get("samples_per_second", {}).get("1"),
    "samples a second, up to 256 at once": lambda cost: (most_at_once(cost) or (0, None))[1],
    "network calls for a batch of samples": lambda cost: cost.get("network_calls"),
}


def numbers_table(reports: list[dict], titles: list[str]) -> PageTable:
    """All metrics and costs; the last column has the values of held-out real examples, if any."""
    footnotes: list[str] = []  # filled while the cells are made
    has_real = any(real_row(column) for _, columns in group_columns(reports) for column in columns)
    head = [Cell("metric")]
    for report, title in zip(reports, titles):
        head.append(Cell(title, small=describe_run(report)))
    if has_real:
        head.append(Cell("real data", small=REAL_NOTE))
    rows = []
    for group, columns in _groups(reports):
        rows.append(Row(Cell(group), is_heading=True))
        for column in columns:
            rows.append(_metric_row(column, len(reports), has_real, footnotes))
    rows.append(Row(Cell("cost"), is_heading=True))
    for name, cost_of in COSTS.items():
        cells = [_cost_cell(cost_of(report.get("cost") or {})) for report in reports]
        rows.append(Row(Cell(name), cells + [Cell()] * has_real))
    notes = [TABLE_NOTE]
    for text in explanations(align_columns(reports)):
        if text != NEAR:
            notes.append(f"{text}.")
    return PageTable("Models and numbers", head, rows, notes=notes, footnotes=footnotes)


def _groups(reports: list[dict]) -> list[tuple[str, list[MetricColumn]]]:
    """The groups of the table; metrics without a value come last, with the reasons."""
    groups = list(group_columns(reports))
    empty = [column for column in align_columns(reports) if not column.valued_rows()]
    if empty:
        groups.append((NO_VALUES, empty))
    return groups


def _metric_row(column: MetricColumn, count: int, has_real: bool, footnotes: list[str]) -> Row:
    # memory is not ranked: fewer copies than chance is not better
    ranks = {} if column.card.get("group") == "memory" else column.ranks()
    cells = [_value_cell(column, i, ranks, footnotes) for i in range(count)]
    if has_real:
        real = real_row(column)
        cells.append(Cell(value_of(real), "number soft", spread(real)) if real else Cell())
    name = Cell(heading(column, features=False), small=describe_protocol(column))
    return Row(name, cells)


def _value_cell(column: MetricColumn, i: int, ranks: dict[int, int], footnotes: list[str]) -> Cell:
    """A number with its interval and a footnote, or the reason why there is none."""
    row = column.rows.get(i)
    has_number = row is not None and has_value(row)
    reason = (row or {}).get("reason") or ""
    if not has_number:
        reason = reason.removeprefix("none: ") or NO_NUMBER
    if reason and reason not in footnotes:
        footnotes.append(reason)
    note = footnotes.index(reason) + 1 if reason else None
    if row is None or not has_number:
        return Cell("none", "none", note=note)
    if len(ranks) > 1 and ranks.get(i) == 1 and max(ranks.values()) > 1:
        return Cell(f"{value_of(row)} ★", "number best", spread(row), note)
    return Cell(value_of(row), "number", spread(row), note)


def _cost_cell(value: float | None) -> Cell:
    if value is None:
        return Cell("not recorded", "none")
    return Cell(format_rate(value), "number")
