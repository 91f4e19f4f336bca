"""Figures of numbers: learning curves, KL by latent dimension."""

import numpy as np
import torch
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, ScalarFormatter

from ..training.health import ACTIVE, active_units
from .style import ACCENT, INK, MODEL, SOFT, WIDTH, Drawing, Sheet, plain
from .subject import Subject

NORM = "gradient_norm/"
BARS = 128  # latent dimensions that are drawn at most


# -- learning curves -----------------------------------------------------------------------------------------


def series(events: list[dict]) -> dict[str, dict[str, list]]:
    """Panel -> line -> [steps, values]; panels in the order of their first appearance, gradient norms last."""
    panels: dict[str, dict[str, list]] = {}
    for event in events:
        held_out = event.get("validation", {})
        same = {name for name, value in held_out.items() if name != "value" and value == held_out.get("value")}
        for source, terms in (("train", event.get("train", {})), ("held out", held_out)):
            for name, value in terms.items():
                if name == "value":
                    if same:
                        continue  # it is one of the terms, and drawn there
                    name = "objective"
                panel, line = ("gradient norm", name[len(NORM) :]) if name.startswith(NORM) else (name, source)
                steps, values = panels.setdefault(panel, {}).setdefault(line, ([], []))
                steps.append(event["step"]), values.append(value)
    norms = panels.pop("gradient norm", None)
    return panels | ({"gradient norm": norms} if norms else {})


def draw_curves(subject: Subject) -> Drawing:
    """One panel for each loss term, in training and held out; several phases only add panels."""
    panels = series(subject.restored.run.events("interval"))
    columns = min(3, max(2, len(panels)))
    rows = -(-len(panels) // columns)
    width, height = (WIDTH - 56 * columns + 16) / columns, 170
    phases = subject.model.phases()
    note = "Means over each interval of training, and the same terms on held-out (validation) examples with the averaged weights."
    if len(phases) > 1:
        note += " Phases of a step: " + ", then ".join(f"{phase.name} ({'+'.join(phase.trains)})" for phase in phases) + "."
    sheet = Sheet(f"Learning curves of {plain(subject.restored.run.name)}", note, subject.caption("curves"), rows * (height + 62) + 8)
    for left, color, said in ((44, SOFT, "training"), (124, MODEL, "held out, with its last value")):
        sheet.text(left, 0, "●", color=color, size=8)
        sheet.text(left + 12, 0, said, size=8.5)
    for i, (panel, lines) in enumerate(panels.items()):
        axes = sheet.axes(44 + i % columns * (width + 56), 38 + i // columns * (height + 62), width, height)
        _panel(axes, panel, lines)
    best = _best(subject)
    alt = f"Learning curves over {subject.restored.step} steps: {', '.join(panels)}. Best held-out objective {best[1]:.4g} at step {best[0]}."
    numbers = {panel: {line: {"step": s, "value": v} for line, (s, v) in lines.items()} for panel, lines in panels.items()}
    return sheet.done({"panels": numbers, "best": {"step": best[0], "value": best[1]}}, alt)


def _best(subject: Subject) -> tuple[int, float]:
    events = subject.restored.run.events("interval")
    return min(((event["step"], event["validation"]["value"]) for event in events), key=lambda pair: pair[1])


def _panel(axes, panel: str, lines: dict[str, tuple[list, list]]) -> None:
    colors = {"train": SOFT, "held out": MODEL}
    everything = [value for _, values in lines.values() for value in values]
    for i, (line, (steps, values)) in enumerate(lines.items()):
        color = colors.get(line, (ACCENT, MODEL, SOFT)[i % 3])
        axes.plot(steps, values, color=color, linewidth=1.8 if line == "held out" else 1.3, label=plain(line, 30).replace("$", r"\$"), marker="o", markersize=2.2)
    if "held out" in lines:
        steps, values = lines["held out"]
        axes.annotate(f"{values[-1]:.4g}", (steps[-1], values[-1]), xytext=(0, 7), textcoords="offset points", ha="right", fontsize=7.5, color=MODEL)
    # a log axis where the values span far more than one power of ten and stay positive
    if min(everything) > 0 and max(everything) > 20 * min(everything):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(LogFormatterSciNotation())
        panel += " (log axis)"
    axes.set_title(plain(panel, 40), fontsize=9, parse_math=False)
    axes.set_xlabel("step", fontsize=8, labelpad=1)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlim(0, None)
    axes.grid(True)
    if not {"train", "held out"} & set(lines) and len(lines) > 1:
        axes.legend(fontsize=7.5, loc="best", borderaxespad=0.1, handlelength=1.4)


# -- KL by dimension -----------------------------------------------------------------------------------------


@torch.no_grad()
def kl_of_dims(subject: Subject) -> np.ndarray:
    """Mean KL(q || p) over the first examples of the split by latent dimension, nats, (D,)."""
    total, n = 0, 0
    for batch, rows in subject.batches():
        rng = subject.rng("kl").per_row(rows)
        total = total + subject.model.kl_per_dimension(batch.x, batch.y, rng).double() * len(batch)
        n += len(batch)
    return (total / n).cpu().numpy()


def draw_kl(subject: Subject) -> Drawing:
    kl, variance = kl_of_dims(subject), subject.codes.z.var(0, ddof=1)
    order = np.argsort(-kl, kind="stable")
    active = active_units(torch.from_numpy(subject.codes.z), torch.from_numpy(kl)).numpy()
    shown = order[:BARS]
    n = len(subject.codes.z)
    note = (
        f"{int(active.sum())} of {len(kl)} latent units are active: the variance of their posterior mean over {n:,} {subject.split} "
        f"examples (Burda et al. 2016) and their KL are above {ACTIVE}. KL in all: {kl.sum():.2f} nats per example."
    )
    if len(shown) < len(kl):
        note += f" The {len(shown)} dimensions with the largest KL."
    sheet = Sheet("KL(q(z|x) || p(z)) by latent dimension", note, subject.caption("kl"), 400)
    places = np.arange(len(shown))
    colors = [ACCENT if active[dim] else "#c4c9d2" for dim in shown]
    top, bottom = sheet.axes(60, 16, WIDTH - 70, 190), sheet.axes(60, 262, WIDTH - 70, 96)
    top.bar(places, kl[shown], color=colors, width=0.8)
    top.set_title("KL, nats per example", fontsize=9)
    if len(shown) <= 24:
        for place, dim in zip(places, shown):
            top.text(place, kl[dim], f"{kl[dim]:.2f}", ha="center", va="bottom", fontsize=7, color=SOFT)
    bottom.scatter(places, np.maximum(variance[shown], 1e-8), color=colors, s=16)
    bottom.set_yscale("log")
    bottom.axhline(ACTIVE, color=MODEL, linewidth=1, linestyle="--")
    bottom.text(max(len(shown), 8) - 0.5, ACTIVE, "below: inactive ", color=MODEL, fontsize=7.5, ha="right", va="bottom")
    bottom.set_title("variance of the posterior mean (log axis)", fontsize=9)
    bottom.set_xlabel("latent dimension, largest KL first", labelpad=2)
    for axes in (top, bottom):
        axes.set_xlim(-0.6, max(len(shown), 8) - 0.4)
        axes.grid(True, axis="y")
        axes.set_xticks(places if len(shown) <= 40 else [], [str(dim) for dim in shown] if len(shown) <= 40 else [], fontsize=7)
    for label, color, said in ((0, ACCENT, "active"), (1, "#c4c9d2", "inactive")):
        sheet.text(WIDTH - 130 + 62 * label, 2, "■", color=color, size=9)
        sheet.text(WIDTH - 118 + 62 * label, 3, said, color=INK, size=8)
    numbers = {"dims": order, "kl": kl[order], "variance_of_mean": variance[order], "active": int(active.sum()), "threshold": ACTIVE, "n": n}
    return sheet.done(numbers, f"Bars of KL by latent dimension: {int(active.sum())} of {len(kl)} units active, {kl.sum():.2f} nats in all.")
