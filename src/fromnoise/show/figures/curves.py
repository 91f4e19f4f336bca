"""Learning curves: loss terms and validation metrics over the steps, and which phase trains when."""

from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatterSciNotation, LogLocator, MaxNLocator, ScalarFormatter

from ..context import FigureContext
from ..figure import Figure, Section, always
from ..phases import PHASE_COLOURS, draw_phases, strip_height, turns_of
from ..series import best_of, series
from ..style import ACCENT, INK, MODEL, PAPER, REFUSED, SOFT, WIDTH, Drawing, Sheet, halo, plain

LINES = {
    "train": SOFT,
    "held out": MODEL,
    "averaged weights": MODEL,
    "weights in training": SOFT,
    "real": SOFT,
    "fake": MODEL,
    "between": ACCENT,
}
HEIGHT = 170  # of a panel, pixels


def why_not(context: FigureContext) -> str:
    if len(context.loaded.run.events("interval")) > 1:
        return ""
    return "it needs at least two intervals of training, and this run has none or one"


def draw_curves(context: FigureContext) -> Drawing:
    """A panel for each loss term, in training and validation; above them the phases."""
    run = context.loaded.run
    events = run.events("interval")
    rollbacks = run.events("rollback")
    panels = series(events)
    phases = context.model.phases()
    best = best_of(events)
    columns = min(3, max(2, len(panels)))
    rows = -(-len(panels) // columns)
    width = (WIDTH - 56 * columns + 16) / columns
    above = 30 + strip_height(phases)
    height = above + rows * (HEIGHT + 62) - 20
    title = f"Learning curves of {plain(run.name)}"
    sheet = Sheet(title, _note(events), context.caption("curves"), height)
    _draw_legend(sheet, panels, best, rollbacks)
    if len(phases) > 1:
        draw_phases(sheet, 24, phases, events, best[0], rollbacks)
    all_axes = sheet.add_panels(len(panels), columns, width, HEIGHT, (56, 62), 44, above + 8)
    for axes, (panel, lines) in zip(all_axes, panels.items()):
        _draw_panel(axes, panel, lines)
        _mark_events(axes, lines, best, rollbacks)
    names = ", ".join(panels)
    alt = (
        f"Learning curves over {context.loaded.step} steps: {names}. "
        f"Best validation objective {best[1]:.4g} at step {best[0]}."
    )
    if rollbacks:
        alt += f" Training rolled back {len(rollbacks)} times."
    return sheet.finish(_numbers(panels, best, rollbacks, phases, events), alt)


def _note(events: list[dict]) -> str:
    note = "Means over each interval of training, and validation values of the averaged weights."
    if "duel" in events[-1]:
        note += (
            " Adversarial losses show only the balance of generator and discriminator; the "
            "quality of samples is their distance to held-out examples, less is better."
        )
    return note


def _numbers(panels: dict, best: tuple[int, float], rollbacks: list, phases, events: list) -> dict:
    numbers = {
        "panels": {},
        "best": {"step": best[0], "value": best[1]},
        "rollbacks": [event["step"] for event in rollbacks],
    }
    for panel, lines in panels.items():
        values = {line: {"step": s, "value": v} for line, (s, v) in lines.items()}
        numbers["panels"][panel] = values
    if len(phases) > 1:
        lengths = turns_of(phases, events) or [None] * len(phases)
        numbers["phases"] = [
            {"name": p.name, "every": p.every, "repeats": p.repeats, "turn": turn}
            for p, turn in zip(phases, lengths)
        ]
    return numbers


def _draw_legend(
    sheet: Sheet, panels: dict, best: tuple[int, float], rollbacks: list[dict]
) -> None:
    entries = []
    if any("train" in lines for lines in panels.values()):
        entries.append(("●", SOFT, "training"))
    if any("held out" in lines for lines in panels.values()):
        entries.append(("●", MODEL, "validation, with its last value"))
    entries.append(("★", INK, f"best checkpoint, step {best[0]:,}"))
    if rollbacks:
        times = f"{len(rollbacks)} time{'s' * (len(rollbacks) > 1)}"
        entries.append(("✕", REFUSED, f"rolled back {times}"))
    sheet.add_legend(44, 0, entries)


def _mark_events(axes: Axes, lines: dict, best: tuple[int, float], rollbacks: list[dict]) -> None:
    """A star at the best checkpoint on its validation line; a dotted line at each rollback."""
    for event in rollbacks:
        axes.axvline(event["step"], color=REFUSED, linewidth=0.9, linestyle=":")
    style = {"markeredgecolor": PAPER, "markeredgewidth": 0.6, "linestyle": "none"}
    for line in ("held out", "averaged weights"):
        if best in zip(*lines.get(line, ([], []))):
            axes.plot(*best, marker="*", color=INK, markersize=9, zorder=6, **style)


def _draw_panel(axes: Axes, panel: str, lines: dict[str, tuple[list, list]]) -> None:
    for i, (line, (steps, values)) in enumerate(lines.items()):
        _draw_line(axes, line, steps, values, PHASE_COLOURS[i % 3])
    everything = [value for _, values in lines.values() for value in values]
    # a log axis where the values span far more than one power of ten and stay positive
    if min(everything) > 0 and max(everything) > 20 * min(everything):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=6))
        axes.yaxis.set_major_formatter(LogFormatterSciNotation())
        panel += " (log axis)"
    axes.set_title(plain(panel, 40), parse_math=False)
    axes.set_xlabel("step", labelpad=1)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlim(0, None)
    axes.margins(y=0.1)
    axes.grid(True)
    if not {"train", "held out"} & set(lines):
        axes.legend(loc="best", borderaxespad=0.1, handlelength=1.4)


def _draw_line(axes: Axes, line: str, steps: list, values: list, default_color: str) -> None:
    kind, _, held_out = line.partition(",")
    color = LINES.get(kind, default_color)
    is_thick = line in ("held out", "averaged weights")
    label = plain(line, 30).replace("$", r"\$")
    if line == "averaged weights":
        label += f": last {values[-1]:.3g}"
    axes.plot(
        steps,
        values,
        color=color,
        linewidth=1.8 if is_thick else 1.3,
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


FIGURE = Figure(
    name="curves",
    about="loss terms and validation metric over the steps, which phase trains when",
    group="training",
    needs=(why_not,),
    draw=draw_curves,
    on_page=always,
    section=Section("Learning curves", "", place=180, is_small=True),
)
