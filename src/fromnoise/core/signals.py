"""Signals that stop the command: which there are, and which of them count.

A terminal, a shell or a scheduler may send several at almost the same time (SIGINT then SIGTERM, SIGHUP with SIGTERM).
The first one counts. A later one ends the process at once only if it comes ``INSISTS`` seconds after the first: that
is a person who does not want to wait.
"""

import signal
import time

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = tuple(
    getattr(signal, name) for name in NAMES if hasattr(signal, name)
)  # no SIGHUP on Windows
INSISTS = 1.0


class FirstSignal:
    """The time of the first signal, shared by all handlers of this process: one may take over from another."""

    def __init__(self):
        self.time: float | None = None

    def forget(self) -> None:
        """Before something new begins: the next signal is a first one."""
        self.time = None

    def is_first(self, number: int) -> bool:
        """Whether this signal is the first. One that comes ``INSISTS`` seconds after it ends the process."""
        now = time.monotonic()
        if self.time is None:
            self.time = now
            return True
        if now - self.time >= INSISTS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        return False


FIRST = FirstSignal()
