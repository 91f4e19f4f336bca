"""What a training shows while it goes on: a line for each interval, and a bar where there is a terminal."""

import sys

from ..core.output import Unfailing
from ..core.words import escaped, unescaped
from ..training.budget import seconds_words
from ..training.settings import INTERVALS


class Live:
    """Callbacks for ``launch.start``. Lines go to ``stream``, as long as it takes them; quiet shows nothing but health sentences."""

    def __init__(self, quiet: bool = False, stream=None):
        from rich.console import Console

        self.stream = Unfailing(stream or sys.stdout)
        self.console = Console(
            file=Unfailing(unescaped(stream or sys.stdout)), highlight=False, soft_wrap=True
        )
        self.quiet, self.bar, self.task, self.told = (
            quiet,
            None,
            None,
            set(),
        )  # told: names of what is wrong now

    def on_plan(self, info: dict) -> None:
        if self.quiet:
            return
        for line in plan_line(info).split("\n"):
            self.print(line)
        if self.console.is_terminal and info.get("steps"):
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task("", total=info["steps"], completed=info.get("from", 0))
            self.bar.start()

    def on_event(self, event: dict) -> None:
        if event["kind"] == "plan":
            if not self.quiet:
                self.print(f"  ! {replanned_line(event)}", "yellow")
            if self.bar is not None:
                self.bar.update(self.task, total=event["steps"])
        elif event["kind"] == "rollback":
            self.print(f"  ! {rollback_line(event)}", "yellow")
        else:
            if not self.quiet:
                self.print(event_line(event))
            names = {sentence.split(":")[0]: sentence for sentence in event["health"]}
            for name, sentence in names.items():
                if name not in self.told:  # once, until it has been well in between
                    self.print(f"  ! {sentence}", "yellow")
            self.told = set(names)
        if self.bar is not None:
            self.bar.update(self.task, completed=event.get("to", event["step"]))

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
    parts = [escaped(info["run"])] if "run" in info else []
    if "preset" in info:
        parts.append(f"preset {info['preset']}")
    parts.append(f"{info['parameters']:,} parameters")
    if info.get("steps"):
        parts.append(
            f"{info['steps']:,} steps"
            + (f", from step {info['from']:,}" if info.get("from") else "")
        )
    if info.get("intervals", INTERVALS) < INTERVALS:
        parts.append(f"{info['intervals']} interval" + "s" * (info["intervals"] > 1))
    if info.get("seconds"):
        parts.append(f"about {duration(info['seconds'])}")
    if info.get("items_per_second"):
        parts.append(speed(info))
    if info.get("memory_mb"):
        parts.append(f"{info['memory_mb']:,.0f} MB")
    return " | ".join(parts) + f"\n  ! {info.get('note')}" * bool(info.get("note"))


def event_line(event: dict) -> str:
    """step, loss parts in training, held-out metric, how a duel stands, speed, time left."""
    train = [
        f"{name} {value:.4g}"
        for name, value in event["train"].items()
        if "gradient_norm" not in name
    ]
    held_out = [
        f"{name} {value:.4g}"
        for name, value in event["validation"].items()
        if name == "value" or not event["train"]
    ]
    held_out = [
        text.replace("value", "held-out") + best_words(event) * text.startswith("value")
        for text in held_out
    ]
    line = " ".join([*train, "|", *held_out]) + duel_words(event.get("duel"))
    if not event["steps"]:
        return f"fitted in closed form {line} | {event['seconds']:.1f} s"
    where = f"{event['step']:>{len(str(event['steps']))}}/{event['steps']}"
    return f"{where} {line} | {speed(event)}, {duration(event['eta'])} left"


def speed(info: dict) -> str:
    """``1,234 examples/s``; of steps that take longer than a second what each takes."""
    seconds = info.get("step_seconds") or 0.0
    if seconds > 1 or info["items_per_second"] < 1:
        return f"{seconds_words(seconds or 1 / max(info['items_per_second'], 1e-9))} a step"
    return f"{info['items_per_second']:,.0f} examples/s"


def replanned_line(event: dict) -> str:
    steps = f"{event['planned']:,} steps were planned, {event['steps']:,} are made"
    if event["steps"] > event["planned"]:
        return f"the machine was busy when its first steps were timed: {steps}"
    return f"the machine is slower since then, by step {event['step']:,}: {steps}"


def duel_words(duel: dict | None) -> str:
    """`` | D right 93 %, 10/10 classes``: of pairs of real and fake, and modes seen; empty where nobody duels."""
    return (
        f" | D right {100 * duel['separation']:.0f} %, {duel['modes_seen']}/{duel['modes']} {duel['kind']}"
        if duel
        else ""
    )


def best_words(event: dict) -> str:
    """`` (best 1.1 at 3000)`` after the held-out value of an interval; empty when this one is the best."""
    best = event["best"]
    return "" if best["step"] == event["step"] else f" (best {best['value']:.4g} at {best['step']})"


def rollback_line(event: dict) -> str:
    return (
        f"diverged at step {event['step']}: {event['reason'].split(';')[0]}: back to step {event['to']}, "
        f"and on with {event['lr_factor']:g} of the learning rate"
    )


def duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 100:
        return f"{seconds} s"
    if seconds < 5400:
        return (
            f"{seconds // 60} min {seconds % 60} s"
            if seconds < 600
            else f"{round(seconds / 60)} min"
        )
    return f"{seconds / 3600:.1f} h"
