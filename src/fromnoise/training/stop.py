"""Stopping a training by a signal: a flag that the loop reads between two steps."""

import signal
import threading

from ..core.signals import FIRST, SIGNALS


class StopRequest:
    """Within it SIGINT, SIGTERM and SIGHUP set ``signal``. ``core.signals`` says which of several counts.

    A signal that the process was started to ignore (``nohup``) stays ignored.
    """

    def __init__(self):
        self.signal = 0
        self._previous_handlers = {}

    def signal_after(self, step: int) -> int:
        """The number of the signal that stops the training once ``step`` steps are done, or 0."""
        return self.signal

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            FIRST.forget()
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number, frame) -> None:
        if FIRST.is_first(number):
            self.signal = number

    def __exit__(self, *_) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
