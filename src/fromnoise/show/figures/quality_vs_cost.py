"""Quality of samples against cost: one point for each model, on pages."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from ...evaluate.cells import heading
from ...evaluate.cost import most_at_once
from ...evaluate.metrics.frechet import FRECHET
from ...evaluate.protocol import MetricColumn, align_columns, interval
from ..figure import Figure, PageRequest, Section
from ..style import CLASSES, INK, SOFT, WIDTH, Drawing, Sheet, drawing, plain, save


def training_seconds(cost: dict) -> float | None:
    return cost.get("train_seconds")


def samples_per_second(cost: dict) -> float | None:
    return (most_at_once(cost) or (0, None))[1]


COSTS = {
    "training seconds": training_seconds,
    "samples a second, up to 256 at once": samples_per_second,
}
PER_LINE = 4  # models of a line of the legend


def main_column(reports: Sequence[dict]) -> MetricColumn | None:
    """The Fréchet distance by the main feature map, if at least two reports have it."""
    for column in align_columns(list(reports)):
        if column.name == FRECHET.name and len(column.valued_rows()) > 1:
            return column
    return None


def compare_quality_and_cost(
    reports: Sequence[dict],
    titles: Sequence[str],
    *,
    out: Path,
    command: str = "",
    name: str = "trade",
) -> list[Path]:
    """Fréchet distance over training seconds and over sampling speed.

    Returns the files; [] if fewer than two models share the metric.
    """
    column = main_column(reports)
    if column is None:
        return []
    titles = [plain(title, 34) for title in titles]
    with drawing():
        return save(_draw(column, list(reports), titles, command), out, name)


def _draw(column: MetricColumn, reports: list[dict], titles: list[str], command: str) -> Drawing:
    values = column.valued_rows()
    card = column.card
    note = (
        f"Fréchet distance of {card['n']:,} samples from {card['m']:,} training examples (features "
        f"{card['evaluator']}), corrected for bias; bars are 95 % intervals over the draw of "
        "samples. Less is better; left is cheap to train, right is fast to sample."
    )
    order = sorted(values, key=lambda i: values[i]["value"])  # the letters follow the ranks
    caption = [f"$ {plain(command, 400)}"] if command else []
    height = 310 + 16 * -(-len(order) // PER_LINE)
    sheet = Sheet("Quality against cost", note, caption, height)
    width = (WIDTH - 110) / 2
    numbers = []
    for place, (label, cost_of) in enumerate(COSTS.items()):
        axes = sheet.add_axes(50 + place * (width + 60), 10, width, 240)
        for rank, i in enumerate(order):
            cost = cost_of(reports[i]["cost"])
            if cost and cost > 0:
                limits = _draw_point(axes, rank, cost, values[i])
                row = {"title": titles[i], label: cost, FRECHET.name: values[i]["value"]}
                numbers.append(row | {"interval": limits})
        _set_scales(axes, label, min(row["value"] for row in values.values()) > 0)
        if place == 0:
            axes.set_ylabel(heading(column).removesuffix(" ↓"), color=SOFT)
    for rank, i in enumerate(order):
        left = rank % PER_LINE * (WIDTH / PER_LINE)
        top = 300 + rank // PER_LINE * 16
        sheet.add_text(left, top, _letter(rank), weight="bold", color=_colour(rank))
        sheet.add_text(left + 14, top, titles[i], size=8, color=INK)
    alt = f"Fréchet distance over training seconds and sampling speed; lowest: {titles[order[0]]}."
    return sheet.finish({"points": numbers}, alt)


def _draw_point(axes: Axes, rank: int, cost: float, row: dict) -> list[float]:
    """A point with its letter and interval. Returns the interval."""
    value = row["value"]
    low, high = interval(row) or (value, value)
    error = [[max(0, value - low)], [max(0, high - value)]]
    axes.errorbar(cost, value, error, color=_colour(rank), capsize=4, linewidth=1)
    axes.plot(cost, value, "o", color=_colour(rank), markersize=13, alpha=0.9)
    style = {"ha": "center", "va": "center", "color": "white", "weight": "bold"}
    axes.annotate(_letter(rank), (cost, value), fontsize=7.5, **style)
    return [low, high]


def _set_scales(axes: Axes, label: str, is_positive: bool) -> None:
    axes.set_xscale("log")
    if is_positive:
        axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())  # minor labels overlap over a short range
    axes.margins(0.12)
    axes.set_xlabel(label)
    axes.grid(True)


def _letter(rank: int) -> str:
    return chr(ord("A") + rank) if rank < 26 else str(rank + 1)


def _colour(rank: int) -> str:
    return CLASSES[rank % len(CLASSES)]


def compare_on_page(page: PageRequest) -> list[Path]:
    return compare_quality_and_cost(page.reports, page.titles, out=page.out, command=page.command)


FIGURE = Figure(
    name="trade",
    about="quality against cost, one point for each model",
    compare=compare_on_page,
    section=Section(
        "Quality against cost",
        "Each model by the cost of its training and of its sampling.",
        place=10,
    ),
)
