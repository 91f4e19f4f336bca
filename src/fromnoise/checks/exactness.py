"""Is a run that was stopped and resumed, bit for bit, the run without the stop?"""

from pathlib import Path

import torch

from .. import families
from ..core.errors import StoppedError
from ..core.output import ignore_message
from ..runs import checkpoint
from ..runs.directory import CLOCK_FIELDS, Run
from ..runs.records.manifest import PARTS
from ..training.launch import start_run
from ..training.plan import Plan
from ..training.resume import resume_run
from ..training.stop import StopRequest

SIGTERM = 15


class StopAtStep(StopRequest):
    """Stops a training after a step of its choice, as a signal would."""

    def __init__(self, step: int | None):
        super().__init__()
        self.step = step

    def signal_after(self, step: int) -> int:
        return SIGTERM if step == self.step else 0


def interrupted(plan: Plan, path: Path, stops: list[int]) -> Run:
    """Trains the plan, stopped after each of these steps, and resumed with other workers."""
    for session, step in enumerate([*stops, None]):
        stop = StopAtStep(step)
        try:
            if session == 0:
                start_run(plan, path, stop=stop)
            else:
                resume_run(
                    Run(path),
                    {"workers": session % 3},
                    warn=ignore_message,
                    trust=families.Trust(recorded=True),
                    stop=stop,
                )
        except StoppedError:
            continue
        assert step is None, f"never stopped at {step}"
    return Run(path)


def first_difference(a: Run, b: Run) -> str:
    """The first thing in which two finished runs differ, clock fields aside; "" if none does."""
    saved = list(map(checkpoint.find, (a, b)))
    difference = tensor_difference(*saved) or event_difference(a, b)
    if difference:
        return difference
    left, right = (one.manifest.state() | {"files": None} for one in saved)
    return "" if left == right else "the manifests differ"


def tensor_difference(a: checkpoint.Checkpoint, b: checkpoint.Checkpoint) -> str:
    """The first tensor in which two checkpoints differ."""
    for part in PARTS:
        left = a.tensors(part)
        right = b.tensors(part)
        if left.keys() != right.keys():
            return f"{part} holds other tensors"
        for name in left:
            if not torch.equal(left[name], right[name]):
                largest = float((left[name] - right[name]).abs().max())
                return f"{part}/{name} differs by {largest:.3g}"
    return ""


def event_difference(a: Run, b: Run) -> str:
    """The first event in which two runs differ."""
    left, right = (list(map(without_clock, run.events())) for run in (a, b))
    if len(left) != len(right):
        return f"{len(left)} events against {len(right)}"
    for event, other in zip(left, right):
        if event != other:
            return f"the event of step {event['step']} differs"
    return ""


def without_clock(event: dict) -> dict:
    return {name: value for name, value in event.items() if name not in CLOCK_FIELDS}
