"""The strip above learning curves: which phase of training runs at which steps."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..core.family import Phase, turns
from .style import ACCENT, INK, MODEL, PAPER, REFUSED, SOFT, WIDTH, Sheet, halo, plain

PHASE_COLOURS = (ACCENT, MODEL, SOFT)  # here and in the panel of gradient norms
LEFT = 118  # pixels for the names of phases
LANE = 18  # height of a phase, pixels
MAX_CYCLES = 120  # more turns than this are not drawn one by one


def strip_height(phases: list[Phase]) -> int:
    """Pixels above the curves; 0 for a single phase."""
    return 52 + LANE * len(phases) if len(phases) > 1 else 0


def turns_of(phases: list[Phase], events: list[dict]) -> list[int]:
    """Steps of each phase's turn; empty when all phases run at each step."""
    last = events[-1]
    steps_per_epoch = round(last["step"] / last["epoch"]) if last.get("epoch") else 1
    return turns(phases, max(1, steps_per_epoch))


def draw_phases(
    sheet: Sheet,
    top: float,
    phases: list[Phase],
    events: list[dict],
    best: int,
    rollbacks: list[dict],
) -> None:
    """A lane for each phase, filled where it trains; above them the best checkpoint and rollbacks."""
    lengths = turns_of(phases, events)
    steps = max(events[-1]["step"], 1)
    height = 16 + LANE * len(phases)
    axes = sheet.add_axes(LEFT, top, WIDTH - LEFT - 10, height)
    _set_axes(axes, steps, height)
    has_turns = bool(lengths) and steps / sum(lengths) <= MAX_CYCLES
    begin = 0
    for i, phase in enumerate(phases):
        color = PHASE_COLOURS[i % 3]
        y = 14 + LANE * i
        if has_turns:
            starts = np.arange(begin, steps, sum(lengths))
            spans = [(start, min(lengths[i], steps - start)) for start in starts]
            axes.broken_barh(spans, (y, 15), facecolor=color, alpha=0.75, linewidth=0)
            begin += lengths[i]
        else:
            _draw_lane(axes, _schedule(phase, lengths[i] if lengths else 0), steps, y, color)
        name = plain(phase.name, 16)
        style = {"ha": "right", "va": "center", "weight": "bold"}
        sheet.add_text(LEFT - 8, top + y + 7.5, name, size=8, color=color, **style)
    _mark_events(axes, best, rollbacks)
    if has_turns:
        parts = [f"{phase.name} {length:,} steps" for phase, length in zip(phases, lengths)]
        label = f"in turns: {', then '.join(parts)}"
        sheet.add_text(WIDTH - 10, top - 12, label, size=7.5, color=SOFT, ha="right")


def _set_axes(axes: Axes, steps: int, height: float) -> None:
    axes.set_xlim(0, steps)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.tick_params(pad=2)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.spines["left"].set_visible(False)


def _schedule(phase: Phase, turn: int) -> str:
    """When a phase trains, in words. turn: its steps in each turn, 0 without turns."""
    if turn:
        return f"in turns of {turn:,} steps"
    repeats = f" {phase.repeats} times" if phase.repeats > 1 else ""
    if phase.every == 1:
        return f"at every step{repeats}"
    return f"at one step in {phase.every}{repeats}"


def _draw_lane(axes: Axes, label: str, steps: int, y: float, color: str) -> None:
    style = {"facecolor": PAPER, "edgecolor": color, "hatch": "||||", "linewidth": 0}
    axes.broken_barh([(0, steps)], (y, 15), **style)
    style = {"fontsize": 7.5, "ha": "center", "va": "center", "path_effects": halo(5)}
    axes.text(steps / 2, y + 7.5, label, color=color, **style)


def _mark_events(axes: Axes, best: int, rollbacks: list[dict]) -> None:
    style = {"clip_on": False, "linestyle": "none"}
    axes.plot([best], [6], marker="*", color=INK, markersize=8, **style)
    cross = style | {"marker": "x", "markersize": 6, "markeredgewidth": 1.8}
    for event in rollbacks:
        axes.plot([event["step"]], [6], color=REFUSED, **cross)
        span = [event.get("to", event["step"]), event["step"]]
        axes.plot(span, [6, 6], color=REFUSED, linewidth=1, clip_on=False)
