"""Reports as a table for a terminal: one metric a line, one model a column, in groups."""

from ..core.words import escaped
from .cells import (
    checkpoint_value,
    format_cell,
    format_rate,
    group_columns,
    heading,
    perfect_row,
    real_row,
    short_evaluator,
)
from .cost import most_at_once
from .metric import all_metrics
from .protocol import MetricColumn, align_columns, has_value

EXPLAINED = ("samples", "memory", "baselines")  # groups whose absent rows are explained
BELOW_ZERO = (
    "a distance below 0: its bias is taken off, so that chance takes it below 0 where the laws are "
    "nearly the same"
)
NEAR = "≈: near to a perfect model is best"


def rich_table(reports: list[dict], title: str | None = None):
    from rich import box
    from rich.table import Table

    table = Table(title=title and _plain(title), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("±, ( to ): 95 % interval")
    for report in reports:
        table.add_column(_plain(report["title"]), justify="right")
    table.add_column("a perfect model", justify="right", style="dim")
    table.add_column("real data", justify="right", style="dim")
    for title, columns in group_columns(reports):
        table.add_section()
        table.add_row(f"[bold]{title}[/bold]")
        for column in columns:
            table.add_row(*map(_plain, metric_cells(column, len(reports))))
    table.add_section()
    table.add_row("[bold]cost[/bold]")
    for cells in [*training_cells(reports), *speed_cells(reports)]:
        table.add_row(*cells)
    notes = [
        *absence_notes(reports),
        *doubts(reports),
        *explanations(align_columns(reports)),
    ]
    if notes:
        table.caption = _plain("; ".join(notes))
    return table


def _plain(words: str):
    """Text without markup: [link=...] would write control characters."""
    from rich.text import Text

    return Text(escaped(words))


def metric_cells(column: MetricColumn, count: int) -> list[str]:
    """A line of the table: the heading, ``count`` models, a perfect model, real data."""
    cells = [heading(column)]
    cells += [format_cell(column.rows.get(i)) for i in range(count)]
    for row in (perfect_row(column), real_row(column)):
        cells.append(format_cell(row) if row else "")
    return cells


def training_cells(reports: list[dict]) -> list[list[str]]:
    """Lines of the table: parameters, seconds, validation values."""
    costs = [report["cost"] for report in reports]
    lines = [
        ["parameters", *(f"{cost['parameters']:,}" for cost in costs)],
        ["training seconds", *(f"{cost['train_seconds']:.1f}" for cost in costs)],
    ]
    if any(report.get("training") for report in reports):
        for which in ("last", "best"):
            line = [f"held-out value of the {which} checkpoint ↓"]
            for report in reports:
                training = report.get("training")
                line.append(checkpoint_value(training, which) if training else "-")
            lines.append(line)
    return lines


def speed_cells(reports: list[dict]) -> list[list[str]]:
    """Lines of the table: samples a second, one at once and as many as possible."""
    sizes = [most_at_once(report["cost"]) for report in reports]
    if not all(sizes):
        return []
    alone = [report["cost"]["samples_per_second"]["1"] for report in reports]
    most = max(size for size, _ in sizes)
    line = [f"samples a second, {most} at once"]
    for size, speed in sizes:
        fewer = "" if size == most else f" ({size} at once)"
        line.append(format_rate(speed) + fewer)
    return [["samples a second, 1 at once", *map(format_rate, alone)], line]


def absence_notes(reports: list[dict]) -> list[str]:
    """Why models have no likelihood of any kind, and why other numbers are missing."""
    likelihoods = {metric.name for metric in all_metrics() if metric.is_likelihood}
    missing = set()
    others = set()
    for report in reports:
        rows = [row for row in report["metrics"] if row["name"] in likelihoods]
        if not any(map(has_value, rows)):
            missing |= {f"{report['title']}: {row['reason']}" for row in rows}
        for row in report["metrics"]:
            if row.get("group") in EXPLAINED and not has_value(row):
                others.add((row["label"], row["reason"]))
    notes = ["likelihood: " + "; ".join(sorted(missing))] if missing else []
    return notes + [f"{label}: {reason}" for label, reason in sorted(others)]


def explanations(columns: list[MetricColumn]) -> list[str]:
    """Sentences that explain negative distances and the sign ≈, where they occur."""
    has_negative = False
    has_near = False
    for column in columns:
        rows = list(column.valued_rows().values())
        better = column.card.get("better")
        if better == "lower" and any(row["null"] == 0 for row in rows):
            has_negative |= any(row["value"] < 0 for row in rows)
        has_near |= better == "near" and bool(rows)
    texts = [BELOW_ZERO] if has_negative else []
    return texts + [NEAR] if has_near else texts


def doubts(reports: list[dict]) -> list[str]:
    """A sentence for each number whose interval may be too short."""
    doubted = {metric.name for metric in all_metrics() if metric.is_doubted}
    sentences = []
    for report in reports:
        for row in report["metrics"]:
            if row["name"] in doubted and has_value(row) and row.get("reason"):
                evaluator = short_evaluator(row)
                sentences.append(f"{report['title']}: {row['label']}, {evaluator}: {row['reason']}")
    return sentences


def plain_table(reports: list[dict]) -> str:
    from rich.console import Console

    console = Console(width=max(110, 64 + 24 * len(reports)), no_color=True, force_terminal=False)
    with console.capture() as capture:
        console.print(rich_table(reports))
    return capture.get()
