"""Many reports as a short table: one model a line, with the few most important numbers."""

from ..core.words import escaped
from .cells import format_cell, perfect_row, short_evaluator
from .metric import Metric, all_metrics, metrics_by_name
from .metrics.copies import NEAR_COPIES
from .metrics.frechet import FRECHET
from .metrics.reconstruction import ERROR as RECONSTRUCTION
from .protocol import MetricColumn, align_columns


def headline_metrics() -> list[Metric]:
    """The metrics of the short table, in its order."""
    chosen = [metric for metric in all_metrics() if metric.headline]
    return sorted(chosen, key=lambda metric: metric.headline_order)


def summary(reports: list[dict]) -> str:
    """A table of at most 110 columns, with notes below it."""
    columns = headline_columns(reports)
    heads = [headline(column, columns) for column in columns]
    grid = [["", *heads, "trained"]]
    for i, report in enumerate(reports):
        cells = [brief_cell(column.rows.get(i)) for column in columns]
        seconds = f"{report['cost']['train_seconds']:.0f} s"
        grid.append([escaped(report["title"]), *cells, seconds])
    widths = [max(map(len, cells)) for cells in zip(*grid)]
    lines = [align_line(cells, widths) for cells in grid]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join([*lines, *summary_notes(columns, heads)])


def headline_columns(reports: list[dict]) -> list[MetricColumn]:
    """All columns of likelihoods; the first of other metrics, which has the main feature map."""
    columns = [column for column in align_columns(reports) if column.valued_rows()]
    chosen = []
    for metric in headline_metrics():
        same = [column for column in columns if column.name == metric.name]
        chosen += same if metric.every_protocol else same[:1]
    return chosen


def headline(column: MetricColumn, columns: list[MetricColumn]) -> str:
    card = column.card
    head = metrics_by_name()[column.name].headline
    if (card["k"] or 1) > 1:
        head += f" k={card['k']}"
    same = [other for other in columns if other.name == column.name]
    if card["dequantisation"] and len(same) > 1:
        head += ", cells"
    if card.get("given"):
        head += f", given {card['given']}"
    return head


def brief_cell(row: dict | None) -> str:
    """A cell without its interval."""
    return format_cell(row).partition(" ±")[0].partition(" (")[0]


def align_line(cells: list[str], widths: list[int]) -> str:
    """The first cell to the left, the others to the right."""
    padded = [cells[0].ljust(widths[0])]
    padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
    return "  ".join(padded)


def summary_notes(columns: list[MetricColumn], heads: list[str]) -> list[str]:
    """What the heads of the columns mean."""
    by_name = {column.name: column for column in columns}
    notes = []
    if FRECHET.name in by_name:
        maps = {short_evaluator(column.card) for column in columns if column.name == FRECHET.name}
        notes.append(
            "Fréchet: debiased distance of samples from the training set "
            f"(features {', '.join(sorted(maps))})"
        )
    if NEAR_COPIES.name in by_name or RECONSTRUCTION.name in by_name:
        notes.append(
            "copies: as close to training examples as 1 % of real ones are; error: of "
            "reconstructions; others in nats"
        )
        perfect = perfect_row(by_name[NEAR_COPIES.name]) if NEAR_COPIES.name in by_name else None
        if perfect:
            notes.append(f"a perfect model has {brief_cell(perfect)} copies on this data")
    for metric in headline_metrics():
        if metric.note and metric.name in by_name:
            notes.append(metric.note)
    if any("cells" in head for head in heads):
        notes.append("cells: a density, made comparable by noise over each grey level's cell")
    return notes
