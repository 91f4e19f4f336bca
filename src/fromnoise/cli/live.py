"""The output of a training: a line for each interval, and a progress bar on a terminal."""

import sys
from typing import TextIO

from ..core.output import Unfailing
from ..core.words import escaped, unescaped
from ..training.budget import format_seconds
from ..training.settings import INTERVALS


class Live:
    """Callbacks for ``start_run`` and ``resume_run`` that print to ``stream``, as long as it is open.

    quiet: only health warnings.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None):
        from rich.console import Console

        stream = stream or sys.stdout
        self.console = Console(file=Unfailing(unescaped(stream)), highlight=False, soft_wrap=True)
        self.quiet = quiet
        self.bar = None
        self.task = None
        self.active_warnings: set[str] = set()  # names of the problems of the last interval

    def on_plan(self, info: dict) -> None:
        if self.quiet:
            return
        for line in plan_line(info).split("\n"):
            self.print(line)
        if self.console.is_terminal and info.get("steps"):
            self.start_bar(info["steps"], info.get("from", 0))

    def start_bar(self, total: int, completed: int) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar = Progress(
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.task = self.bar.add_task("", total=total, completed=completed)
        self.bar.start()

    def on_event(self, event: dict) -> None:
        if event["kind"] == "plan":
            self.show_new_plan(event)
        elif event["kind"] == "rollback":
            self.print(f"  ! {rollback_line(event)}", "yellow")
        else:
            self.show_interval(event)
        if self.bar is not None:
            self.bar.update(self.task, completed=event.get("to", event["step"]))

    def show_new_plan(self, event: dict) -> None:
        if not self.quiet:
            self.print(f"  ! {replanned_line(event)}", "yellow")
        if self.bar is not None:
            self.bar.update(self.task, total=event["steps"])

    def show_interval(self, event: dict) -> None:
        """The line of an interval, and its warnings: each one once, until its problem is gone."""
        if not self.quiet:
            self.print(event_line(event))
        warnings = {sentence.split(":")[0]: sentence for sentence in event["health"]}
        for name, sentence in warnings.items():
            if name not in self.active_warnings:
                self.print(f"  ! {sentence}", "yellow")
        self.active_warnings = set(warnings)

    def print(self, line: str, style: str | None = None) -> None:
        self.console.print(escaped(line), markup=False, emoji=False, style=style)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def plan_line(info: dict) -> str:
    """The plan of a training: preset, parameters, steps, time, speed; with its note on a line."""
    parts = [escaped(info["run"])] if "run" in info else []
    if "preset" in info:
        parts.append(f"preset {info['preset']}")
    parts.append(f"{info['parameters']:,} parameters")
    if info.get("steps"):
        start = f", from step {info['from']:,}" if info.get("from") else ""
        parts.append(f"{info['steps']:,} steps{start}")
    if info.get("intervals", INTERVALS) < INTERVALS:
        parts.append(f"{info['intervals']} interval{'s' if info['intervals'] > 1 else ''}")
    if info.get("seconds"):
        parts.append(f"about {duration(info['seconds'])}")
    if info.get("items_per_second"):
        parts.append(speed(info))
    if info.get("memory_mb"):
        parts.append(f"{info['memory_mb']:,.0f} MB")
    line = " | ".join(parts)
    return f"{line}\n  ! {info['note']}" if info.get("note") else line


def event_line(event: dict) -> str:
    """Step, training losses, validation value, state of adversarial training, speed, time left."""
    parts = [
        f"{name} {value:.4g}"
        for name, value in event["train"].items()
        if "gradient_norm" not in name
    ]
    parts.append("|")
    for name, value in event["validation"].items():
        if name == "value":
            parts.append(f"held-out {value:.4g}{best_words(event)}")
        elif not event["train"]:
            parts.append(f"{name} {value:.4g}")
    line = " ".join(parts) + adversarial_words(event.get("duel"))
    if not event["steps"]:
        return f"fitted in closed form {line} | {event['seconds']:.1f} s"
    where = f"{event['step']:>{len(str(event['steps']))}}/{event['steps']}"
    return f"{where} {line} | {speed(event)}, {duration(event['eta'])} left"


def speed(info: dict) -> str:
    """``1,234 examples/s``; for steps of more than a second the time of one step."""
    seconds = info.get("step_seconds") or 0.0
    rate = info["items_per_second"]
    if seconds > 1 or rate < 1:
        return f"{format_seconds(seconds or 1 / max(rate, 1e-9))} a step"
    return f"{rate:,.0f} examples/s"


def replanned_line(event: dict) -> str:
    """The message of a plan that changed because the steps take longer, or less time, than measured."""
    steps = f"{event['planned']:,} steps were planned, {event['steps']:,} are made"
    if event["steps"] > event["planned"]:
        return f"the machine was busy when its first steps were timed: {steps}"
    return f"the machine is slower since then, by step {event['step']:,}: {steps}"


def adversarial_words(duel: dict | None) -> str:
    """`` | D right 93 %, 10/10 classes``: correct pairs of real and generated, modes; "" for None."""
    if not duel:
        return ""
    accuracy = f"{100 * duel['separation']:.0f} %"
    return f" | D right {accuracy}, {duel['modes_seen']}/{duel['modes']} {duel['kind']}"


def best_words(event: dict) -> str:
    """`` (best 1.1 at 3000)`` after a validation value; empty if this one is the best."""
    best = event["best"]
    return "" if best["step"] == event["step"] else f" (best {best['value']:.4g} at {best['step']})"


def rollback_line(event: dict) -> str:
    reason = event["reason"].split(";")[0]
    return (
        f"diverged at step {event['step']}: {reason}: back to step {event['to']}, "
        f"and on with {event['lr_factor']:g} of the learning rate"
    )


def duration(seconds: float) -> str:
    """A time for people: "45 s", "2 min 5 s", "12 min", "1.5 h"."""
    seconds = round(seconds)
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 600:
        return f"{seconds // 60} min {seconds % 60} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
