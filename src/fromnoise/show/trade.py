"""Quality against what it costs: one point for each model."""

from collections.abc import Sequence
from pathlib import Path

from ..evaluate.protocol import Column, columns_of, interval
from ..evaluate.table import heading
from .style import CLASSES, INK, SOFT, WIDTH, Drawing, Sheet, drawing, halo, plain, save

COSTS = (("training seconds", lambda cost: cost.get("train_seconds")), ("samples a second, 256 at once", lambda cost: cost.get("samples_per_second", {}).get("256")))


def main_column(reports: Sequence[dict]) -> Column | None:
    """The Fréchet distance by the main feature map, where two reports have it."""
    return next((column for column in columns_of(list(reports)) if column.name == "frechet" and len(column.there()) > 1), None)


def compare_trade(reports: Sequence[dict], titles: Sequence[str], *, out: Path, command: str = "", name: str = "trade") -> list[Path]:
    """Fréchet distance with its interval over training seconds and over sampling speed. Returns the files; [] when nothing is shared."""
    column = main_column(reports)
    if column is None:
        return []
    with drawing():
        return save(_trade(column, list(reports), [plain(title, 40) for title in titles], command), out, name)


def _trade(column: Column, reports: list[dict], titles: list[str], command: str) -> Drawing:
    there = column.there()
    card = column.card
    note = f"Fréchet distance of {card['n']:,} samples from {card['m']:,} training examples (features {card['evaluator']}), its bias taken off; bars are 95 % intervals over the draw of samples. Lower left, and lower right on the right, are better."
    sheet = Sheet("Quality against cost", note, [f"$ {plain(command, 400)}"] if command else [], 300)
    wide, numbers = (WIDTH - 120) / 2, []
    for place, (label, tell) in enumerate(COSTS):
        axes = sheet.axes(50 + place * (wide + 60), 10, wide, 240)
        for rank, i in enumerate(sorted(there, key=lambda i: there[i]["value"])):
            cost = tell(reports[i]["cost"])
            if not cost or cost <= 0:
                continue
            low, high = interval(there[i]) or (there[i]["value"],) * 2
            value, colour = there[i]["value"], CLASSES[i % len(CLASSES)]
            axes.errorbar(cost, value, [[max(0, value - low)], [max(0, high - value)]], fmt="o", color=colour, markersize=6, capsize=3)
            axes.annotate(titles[i], (cost, value), xytext=(7, 4 if rank % 2 else -10), textcoords="offset points", fontsize=7.5, color=INK, path_effects=halo())
            numbers.append({"title": titles[i], label: cost, "frechet": value, "interval": [low, high]})
        axes.set_xscale("log")
        if min(found["value"] for found in there.values()) > 0:
            axes.set_yscale("log")
        axes.margins(0.18)
        axes.set_xlabel(label)
        axes.grid(True)
        if not place:
            axes.set_ylabel(heading(column).removesuffix(" ↓"), color=SOFT)
    best = min(there, key=lambda i: there[i]["value"])
    return sheet.done({"points": numbers}, f"Fréchet distance over training seconds and over sampling speed; lowest: {titles[best]}.")
