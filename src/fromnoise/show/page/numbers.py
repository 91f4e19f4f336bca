"""The table of the page: one metric a line, one model a column."""

from ...evaluate.cells import format_rate, group_columns, heading, real_row
from ...evaluate.cost import most_at_once
from ...evaluate.protocol import MetricColumn, align_columns, has_value
from ...evaluate.table import NEAR, explanations
from .html import Html, concat, element, table, table_row
from .verdict import spread, value_of
from .wording import NO_NUMBER, NO_VALUES, REAL_NOTE, TABLE_NOTE, describe_protocol, describe_run


def sampling_speed(cost: dict, batch: str) -> float | None:
    return cost.get("samples_per_second", {}).get(batch)


COSTS = {
    "parameters": lambda cost: cost.get("parameters"),
    "training seconds": lambda cost: cost.get("train_seconds"),
    "peak memory, MB": lambda cost: cost.get("memory_mb"),
    "samples a second, one at a time": lambda cost: sampling_speed(cost, "1"),
    "samples a second, up to 256 at once": lambda cost: (most_at_once(cost) or (0, None))[1],
    "network calls for a batch of samples": lambda cost: cost.get("network_calls"),
}


def numbers_table(reports: list[dict], titles: list[str], same_data: bool) -> Html:
    """All metrics and costs; the last column has the values of held-out real examples, if any.

    same_data: the models may be ranked.
    """
    notes: list[str] = []  # numbered footnotes, filled while the cells are made
    has_real = any(real_row(column) for _, columns in group_columns(reports) for column in columns)
    head = [Html("metric")]
    for report, title in zip(reports, titles):
        head.append(concat([title, element("small", describe_run(report))]))
    if has_real:
        head.append(concat(["real data", element("small", REAL_NOTE)]))
    rows = []
    for group, columns in _groups(reports):
        rows.append(_group_row(group, len(head)))
        for column in columns:
            rows.append(_metric_row(column, len(reports), same_data, has_real, notes))
    rows.append(_group_row("cost", len(head)))
    for name, cost_of in COSTS.items():
        cells = [_cost_cell(cost_of(report.get("cost") or {})) for report in reports]
        rows.append(table_row(name, cells + [""] * has_real))
    small = [element("p", TABLE_NOTE, class_="small")]
    for text in explanations(align_columns(reports)):
        if text != NEAR:
            small.append(element("p", f"{text}.", class_="small"))
    for number, note in enumerate(notes, 1):
        small.append(element("p", element("sup", number), f" {note}", class_="small"))
    return concat([table("Models and numbers", head, rows), *small])


def _groups(reports: list[dict]) -> list[tuple[str, list[MetricColumn]]]:
    """The groups of the table; metrics without a value come last, with the reasons."""
    groups = list(group_columns(reports))
    empty = [column for column in align_columns(reports) if not column.valued_rows()]
    if empty:
        groups.append((NO_VALUES, empty))
    return groups


def _group_row(name: str, width: int) -> Html:
    return element("tr", element("th", name, scope="rowgroup", colspan=width), class_="group")


def _metric_row(
    column: MetricColumn, count: int, same_data: bool, has_real: bool, notes: list[str]
) -> Html:
    # memory is not ranked: fewer copies than chance is not better
    is_ranked = same_data and column.card.get("group") != "memory"
    ranks = column.ranks() if is_ranked else {}
    cells = [_value_cell(column, i, ranks, notes) for i in range(count)]
    if has_real:
        real = real_row(column)
        content = [value_of(real), _interval(real)] if real else []
        cells.append(element("td", *content, class_="number soft" if real else None))
    name = [heading(column, features=False), element("small", describe_protocol(column))]
    return table_row(concat(name), cells)


def _value_cell(column: MetricColumn, i: int, ranks: dict[int, int], notes: list[str]) -> Html:
    """A number with its interval and a footnote, or the reason why there is none."""
    row = column.rows.get(i)
    reason = (row or {}).get("reason") or ""
    if not has_value(row):
        reason = reason.removeprefix("none: ") or NO_NUMBER
    if reason and reason not in notes:
        notes.append(reason)
    footnote = element("sup", notes.index(reason) + 1) if reason else Html("")
    if not has_value(row):
        return element("td", "none", footnote, class_="none")
    is_best = len(ranks) > 1 and ranks.get(i) == 1 and max(ranks.values()) > 1
    star = " ★" if is_best else ""
    css = "number best" if is_best else "number"
    return element("td", value_of(row), star, footnote, _interval(row), class_=css)


def _interval(row: dict) -> Html:
    """The interval under a number."""
    return element("small", spread(row)) if spread(row) else Html("")


def _cost_cell(value: float | None) -> Html:
    if value is None:
        return element("td", "not recorded", class_="none")
    return element("td", format_rate(value), class_="number")
