"""Figures of numbers: learning curves, KL by latent dimension."""

import numpy as np
import torch
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, ScalarFormatter

from ...core.family import turns
from ...measures.latents import ACTIVE, active_units
from ..context import FigureContext
from ..style import ACCENT, INK, MODEL, PAPER, REFUSED, SOFT, WIDTH, Drawing, Sheet, halo, plain

NORM = "gradient_norm/"
BARS = 128  # latent dimensions that are drawn at most


# -- learning curves -----------------------------------------------------------------------------------------

# what an adversarial run says of its duel at each interval: term -> panel, line
DUEL = {
    "separation": ("D tells real from fake", "training examples"),
    "separation_held_out": ("D tells real from fake", "held-out examples"),
    "diversity": ("variety of fakes, 1 as real", "distance apart"),
    "entropy": ("variety of fakes, 1 as real", "entropy of modes"),
}
KINDS = ("real", "fake", "between")  # a term such as score_fake shares its panel with score_real
LINES = {
    "train": SOFT,
    "held out": MODEL,
    "averaged weights": MODEL,
    "weights in training": SOFT,
    "real": SOFT,
    "fake": MODEL,
    "between": ACCENT,
}
PHASES = (ACCENT, MODEL, SOFT)  # colours of the phases, here as in the panel of the gradient norms


def series(events: list[dict]) -> dict[str, dict[str, list]]:
    """Panel -> line -> [steps, values]; panels in the order of their first appearance, gradient norms last.

    Of a duel the distance of the samples comes first: it alone says how good they are.
    """
    panels: dict[str, dict[str, list]] = {}
    distance = ""
    for event in events:
        held_out = event.get("validation", {})
        same = {
            name
            for name, value in held_out.items()
            if name != "value" and value == held_out.get("value")
        }
        if "raw_distance" in held_out:
            distance = distance or next(
                (name for name in held_out if name not in ("value", "raw_distance")), ""
            )
        for source, terms in (
            ("train", event.get("train", {})),
            ("held out", held_out),
            ("duel", event.get("duel", {})),
        ):
            for name, value in terms.items():
                if name == "value":
                    if same:
                        continue  # it is one of the terms, and drawn there
                    name = "objective"
                stem, _, kind = name.rpartition("_")
                if source == "duel":
                    if name not in DUEL:
                        continue
                    panel, line = DUEL[name]
                elif name.startswith(NORM):
                    panel, line = "gradient norm", name[len(NORM) :]
                elif distance and name in (distance, "raw_distance"):
                    panel, line = (
                        f"{distance} distance".replace("_", " "),
                        "averaged weights" if name == distance else "weights in training",
                    )
                elif stem and kind in KINDS:
                    panel, line = stem, kind if source == "train" else f"{kind}, held out"
                else:
                    panel, line = name, source
                steps, values = panels.setdefault(panel, {}).setdefault(line, ([], []))
                steps.append(event["step"]), values.append(value)
    norms = panels.pop("gradient norm", None)
    first = {
        name: panels.pop(name)
        for name in [f"{distance} distance".replace("_", " ")]
        if distance and name in panels
    }
    return first | panels | ({"gradient norm": norms} if norms else {})


def draw_curves(subject: FigureContext) -> Drawing:
    """One panel for each loss term, in training and held out; above them, of several phases, which trains when."""
    run = subject.loaded.run
    events, rollbacks = run.events("interval"), run.events("rollback")
    panels, phases, best = series(events), subject.model.phases(), best_of(events)
    columns = min(3, max(2, len(panels)))
    rows = -(-len(panels) // columns)
    width, height = (WIDTH - 56 * columns + 16) / columns, 170
    note = "Means over each interval of training, and what held-out (validation) examples say of the averaged weights."
    if "duel" in events[-1]:
        note += " The losses of a duel only say who is winning; how good the samples are is told by their distance to held-out examples, low is good."
    above = 30 + (52 + 18 * len(phases) if len(phases) > 1 else 0)
    sheet = Sheet(
        f"Learning curves of {plain(run.name)}",
        note,
        subject.caption("curves"),
        above + rows * (height + 62) - 20,
    )
    _legend(
        sheet,
        best,
        rollbacks,
        any("train" in lines for lines in panels.values()),
        any("held out" in lines for lines in panels.values()),
    )
    if len(phases) > 1:
        _phase_strip(sheet, 24, phases, events, best[0], rollbacks)
    for i, (panel, lines) in enumerate(panels.items()):
        axes = sheet.axes(
            44 + i % columns * (width + 56), above + 8 + i // columns * (height + 62), width, height
        )
        _panel(axes, panel, lines)
        _marks(axes, lines, best, rollbacks, subject.loaded.step)
    alt = f"Learning curves over {subject.loaded.step} steps: {', '.join(panels)}. Best held-out objective {best[1]:.4g} at step {best[0]}."
    if rollbacks:
        alt += f" It went back to an earlier state {len(rollbacks)} times."
    numbers = {
        panel: {line: {"step": s, "value": v} for line, (s, v) in lines.items()}
        for panel, lines in panels.items()
    }
    told = {
        "panels": numbers,
        "best": {"step": best[0], "value": best[1]},
        "rollbacks": [event["step"] for event in rollbacks],
    }
    if len(phases) > 1:
        lengths = turns_of(phases, events) or [None] * len(phases)
        told["phases"] = [
            {"name": p.name, "every": p.every, "repeats": p.repeats, "turn": turn}
            for p, turn in zip(phases, lengths)
        ]
    return sheet.done(told, alt)


def best_of(events: list[dict]) -> tuple[int, float]:
    """Step and held-out objective of the best checkpoint."""
    return min(
        ((event["step"], event["validation"]["value"]) for event in events),
        key=lambda pair: pair[1],
    )


def _legend(
    sheet: Sheet, best: tuple[int, float], rollbacks: list[dict], train: bool, held_out: bool
) -> None:
    left = 44
    for sign, color, words, there in (
        ("●", SOFT, "training", train),
        ("●", MODEL, "held out, with its last value", held_out),
        ("★", INK, f"best checkpoint, step {best[0]:,}", True),
        (
            "✕",
            REFUSED,
            f"went back {len(rollbacks)} time{'s' * (len(rollbacks) > 1)}",
            bool(rollbacks),
        ),
    ):
        if there:
            sheet.text(left, 0, sign, color=color, size=8)
            sheet.text(left + 13, 0, words, size=8.5)
            left += 44 + 6.1 * len(words)


def turns_of(phases, events: list[dict]) -> list[int]:
    """Steps of each phase's turn; empty when all phases run at each step."""
    per_epoch = round(events[-1]["step"] / events[-1]["epoch"]) if events[-1].get("epoch") else 1
    return turns(phases, max(1, per_epoch))


def _phase_strip(
    sheet: Sheet, top: float, phases, events: list[dict], best: int, rollbacks: list[dict]
) -> None:
    """A lane for each phase over the steps, filled where it trains; the best checkpoint and rollbacks above the lanes."""
    lengths, steps = turns_of(phases, events), max(events[-1]["step"], 1)
    left, tall = 118, 16 + 18 * len(phases)
    axes = sheet.axes(left, top, WIDTH - left - 10, tall)
    axes.set_xlim(0, steps), axes.set_ylim(tall, 0)
    axes.set_yticks([])
    axes.tick_params(labelsize=7, pad=2)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.spines["left"].set_visible(False)
    cycle, begin = sum(lengths), 0
    drawn = bool(lengths) and steps / cycle <= 120  # finer turns would run into each other
    for i, phase in enumerate(phases):
        color, y = PHASES[i % 3], 14 + 18 * i
        often = f" {phase.repeats} times" if phase.repeats > 1 else ""
        if drawn:
            starts = np.arange(begin, steps, cycle)
            axes.broken_barh(
                [(start, min(lengths[i], steps - start)) for start in starts],
                (y, 15),
                facecolor=color,
                alpha=0.75,
                linewidth=0,
            )
        else:
            axes.broken_barh(
                [(0, steps)], (y, 15), facecolor=PAPER, edgecolor=color, hatch="||||", linewidth=0
            )
            words = (
                f"in turns of {lengths[i]:,} steps"
                if lengths
                else f"at every step{often}"
                if phase.every == 1
                else f"at one step in {phase.every}{often}"
            )
            axes.text(
                steps / 2,
                y + 7.5,
                words,
                fontsize=7.5,
                ha="center",
                va="center",
                color=color,
                path_effects=halo(5),
            )
        begin += lengths[i] if lengths else 0
        sheet.text(
            left - 8,
            top + y + 7.5,
            plain(phase.name, 16),
            size=8,
            color=color,
            ha="right",
            va="center",
            weight="bold",
        )
    axes.plot([best], [6], marker="*", color=INK, markersize=8, clip_on=False, linestyle="none")
    for event in rollbacks:
        axes.plot(
            [event["step"]],
            [6],
            marker="x",
            color=REFUSED,
            markersize=6,
            markeredgewidth=1.8,
            clip_on=False,
            linestyle="none",
        )
        axes.plot(
            [event.get("to", event["step"]), event["step"]],
            [6, 6],
            color=REFUSED,
            linewidth=1,
            clip_on=False,
        )
    if drawn:
        sheet.text(
            WIDTH - 10,
            top - 12,
            f"in turns: {', then '.join(f'{phase.name} {length:,} steps' for phase, length in zip(phases, lengths))}",
            size=7.5,
            color=SOFT,
            ha="right",
        )


def _marks(axes, lines: dict, best: tuple[int, float], rollbacks: list[dict], last: int) -> None:
    """A star where the best checkpoint is, on the line that ranks it; a dotted line where the run went back."""
    for event in rollbacks:
        axes.axvline(event["step"], color=REFUSED, linewidth=0.9, linestyle=":")
    for line in ("held out", "averaged weights"):
        steps, values = lines.get(line, ([], []))
        place = next((i for i, pair in enumerate(zip(steps, values)) if pair == best), None)
        if place is not None:
            axes.plot(
                [best[0]],
                [best[1]],
                marker="*",
                color=INK,
                markersize=9,
                zorder=6,
                linestyle="none",
                markeredgecolor=PAPER,
                markeredgewidth=0.6,
            )


def _panel(axes, panel: str, lines: dict[str, tuple[list, list]]) -> None:
    everything = [value for _, values in lines.values() for value in values]
    for i, (line, (steps, values)) in enumerate(lines.items()):
        kind, _, held_out = line.partition(",")
        color = LINES.get(kind, PHASES[i % 3])
        thick = line in ("held out", "averaged weights")
        label = plain(line, 30).replace("$", r"\$") + (
            f": last {values[-1]:.3g}" if line == "averaged weights" else ""
        )
        axes.plot(
            steps,
            values,
            color=color,
            linewidth=1.8 if thick else 1.3,
            linestyle="--" if held_out else "-",
            marker="o",
            markersize=2.2,
            label=label,
        )
        if line == "held out":
            axes.annotate(
                f"{values[-1]:.4g}",
                (steps[-1], values[-1]),
                xytext=(0, 7),
                textcoords="offset points",
                ha="right",
                fontsize=7.5,
                color=MODEL,
                path_effects=halo(),
            )
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
    axes.margins(y=0.1)
    axes.grid(True)
    if not {"train", "held out"} & set(lines):
        axes.legend(fontsize=7.5, loc="best", borderaxespad=0.1, handlelength=1.4)


# -- KL by dimension -----------------------------------------------------------------------------------------


@torch.no_grad()
def kl_of_dims(subject: FigureContext) -> np.ndarray:
    """Mean KL(q || p) over the first examples of the split by latent dimension, nats, (D,)."""
    total, n = 0, 0
    for batch, rows in subject.batches():
        rng = subject.rng("kl").per_row(rows)
        total = total + subject.model.kl_per_dimension(batch.x, batch.y, rng).double() * len(batch)
        n += len(batch)
    return (total / n).cpu().numpy()


def why_no_kl(subject: FigureContext) -> str:
    """ "" where codes have a variance."""
    return (
        ""
        if len(subject.dataset.split(subject.split)) > 1
        else f"it needs two or more examples in the {subject.split} split"
    )


def draw_kl(subject: FigureContext) -> Drawing:
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
            top.text(
                place, kl[dim], f"{kl[dim]:.2f}", ha="center", va="bottom", fontsize=7, color=SOFT
            )
    bottom.scatter(places, np.maximum(variance[shown], 1e-8), color=colors, s=16)
    bottom.set_yscale("log")
    bottom.axhline(ACTIVE, color=MODEL, linewidth=1, linestyle="--")
    bottom.text(
        max(len(shown), 8) - 0.5,
        ACTIVE,
        "below: inactive ",
        color=MODEL,
        fontsize=7.5,
        ha="right",
        va="bottom",
    )
    bottom.set_title("variance of the posterior mean (log axis)", fontsize=9)
    bottom.set_xlabel("latent dimension, largest KL first", labelpad=2)
    for axes in (top, bottom):
        axes.set_xlim(-0.6, max(len(shown), 8) - 0.4)
        axes.grid(True, axis="y")
        axes.set_xticks(
            places if len(shown) <= 40 else [],
            [str(dim) for dim in shown] if len(shown) <= 40 else [],
            fontsize=7,
        )
    for label, color, said in ((0, ACCENT, "active"), (1, "#c4c9d2", "inactive")):
        sheet.text(WIDTH - 130 + 62 * label, 2, "■", color=color, size=9)
        sheet.text(WIDTH - 118 + 62 * label, 3, said, color=INK, size=8)
    numbers = {
        "dims": order,
        "kl": kl[order],
        "variance_of_mean": variance[order],
        "active": int(active.sum()),
        "threshold": ACTIVE,
        "n": n,
    }
    return sheet.done(
        numbers,
        f"Bars of KL by latent dimension: {int(active.sum())} of {len(kl)} units active, {kl.sum():.2f} nats in all.",
    )
