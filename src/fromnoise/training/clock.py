"""Wall-clock times of a training: the only fields of an event that are not exact."""

import time

from ..runs.directory import Run


class Clock:
    """Seconds of the whole training, earlier sessions included, and the speed of this session."""

    def __init__(self, run: Run):
        self.session_start = time.monotonic()
        self.training_start = self.session_start - run.seconds()
        self.steps = 0  # of this session

    def seconds(self) -> float:
        """Seconds of training so far."""
        return time.monotonic() - self.training_start

    def fields(self, steps_left: int, batch_size: int) -> dict:
        """The clock fields of an event."""
        now = time.monotonic()
        rate = self.steps / max(now - self.session_start, 1e-9)
        return {
            "seconds": now - self.training_start,
            "items_per_second": rate * batch_size,
            "step_seconds": 1 / rate if self.steps else 0.0,
            "eta": steps_left / rate if self.steps else 0.0,
        }
