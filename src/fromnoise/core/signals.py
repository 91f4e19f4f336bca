"""The signals that stop the command.

A terminal, a shell or a scheduler may send several at almost the same time (SIGINT then SIGTERM, SIGHUP
with SIGTERM): the first one counts. A later one ends the process at once only if it comes
``FORCE_SECONDS`` after the first: then a person does not want to wait.
"""

import signal
import time

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
# Windows has no SIGHUP.
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
FORCE_SECONDS = 1.0


class FirstSignal:
    """The time of the first signal, shared by all handlers of this process."""

    def __init__(self):
        self.time: float | None = None

    def forget(self) -> None:
        """Makes the next signal the first one: before a new command begins."""
        self.time = None

    def is_first(self, number: int) -> bool:
        """Whether this signal is the first. One that comes ``FORCE_SECONDS`` later ends the process."""
        now = time.monotonic()
        if self.time is None:
            self.time = now
            return True
        if now - self.time >= FORCE_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        return False


FIRST = FirstSignal()
