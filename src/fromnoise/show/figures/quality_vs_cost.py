"""Quality against what it costs: one point for each model."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import NullFormatter

from ...evaluate.cost import most_at_once
from ...evaluate.protocol import Column, columns_of, interval
from ...evaluate.table import heading
from ..style import CLASSES, INK, SOFT, WIDTH, Drawing, Sheet, drawing, plain, save

COSTS = (
    ("training seconds", lambda cost: cost.get("train_seconds")),
    ("samples a second, up to 256 at once", lambda cost: (most_at_once(cost) or (0, None))[1]),
)


def main_column(reports: Sequence[dict]) -> Column | None:
    """The Fréchet distance by the main feature map, where two reports have it."""
    return next(
        (
            column
            for column in columns_of(list(reports))
            if column.name == "frechet" and len(column.there()) > 1
        ),
        None,
    )


def compare_trade(
    reports: Sequence[dict],
    titles: Sequence[str],
    *,
    out: Path,
    command: str = "",
    name: str = "trade",
) -> list[Path]:
    """Fréchet distance with its interval over training seconds and over sampling speed. Returns the files; [] when nothing is shared."""
    column = main_column(reports)
    if column is None:
        return []
    with drawing():
        return save(
            _trade(column, list(reports), [plain(title, 34) for title in titles], command),
            out,
            name,
        )


def _trade(column: Column, reports: list[dict], titles: list[str], command: str) -> Drawing:
    there, card = column.there(), column.card
    note = (
        f"Fréchet distance of {card['n']:,} samples from {card['m']:,} training examples (features {card['evaluator']}), its bias taken off; bars are "
        "95 % intervals over the draw of samples. Low is good; left is cheap to train, right is fast to sample."
    )
    order = sorted(there, key=lambda i: there[i]["value"])  # the letters follow the ranks
    per_line, wide, numbers = 4, (WIDTH - 110) / 2, []
    lines = -(-len(order) // per_line)
    sheet = Sheet(
        "Quality against cost",
        note,
        [f"$ {plain(command, 400)}"] if command else [],
        310 + 16 * lines,
    )
    for place, (label, tell) in enumerate(COSTS):
        axes = sheet.axes(50 + place * (wide + 60), 10, wide, 240)
        for rank, i in enumerate(order):
            cost, value = tell(reports[i]["cost"]), there[i]["value"]
            if not cost or cost <= 0:
                continue
            low, high = interval(there[i]) or (value, value)
            axes.errorbar(
                cost,
                value,
                [[max(0, value - low)], [max(0, high - value)]],
                color=_colour(rank),
                capsize=4,
                linewidth=1,
            )
            axes.plot(cost, value, "o", color=_colour(rank), markersize=13, alpha=0.9)
            axes.annotate(
                _letter(rank),
                (cost, value),
                ha="center",
                va="center",
                fontsize=7.5,
                color="white",
                weight="bold",
            )
            numbers.append(
                {"title": titles[i], label: cost, "frechet": value, "interval": [low, high]}
            )
        axes.set_xscale("log")
        if min(found["value"] for found in there.values()) > 0:
            axes.set_yscale("log")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_formatter(NullFormatter())  # their labels collide over a short range
        axes.margins(0.12)
        axes.set_xlabel(label)
        axes.grid(True)
        if not place:
            axes.set_ylabel(heading(column).removesuffix(" ↓"), color=SOFT)
    for rank, i in enumerate(order):
        left, top = rank % per_line * (WIDTH / per_line), 300 + rank // per_line * 16
        sheet.text(left, top, _letter(rank), weight="bold", color=_colour(rank))
        sheet.text(left + 14, top, titles[i], size=8, color=INK)
    return sheet.done(
        {"points": numbers},
        f"Fréchet distance over training seconds and over sampling speed; lowest: {titles[order[0]]}.",
    )


def _letter(rank: int) -> str:
    return chr(ord("A") + rank) if rank < 26 else str(rank + 1)


def _colour(rank: int) -> str:
    return CLASSES[rank % len(CLASSES)]
