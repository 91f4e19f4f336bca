"""Signals that end a verb: SIGINT, SIGTERM, SIGHUP. See ``core.signals`` for several in a row."""

import contextlib
import os
import signal
import threading

from ..core.signals import FIRST, SIGNALS

# What is intact when a signal ends a verb.
KEPT = {
    "sample": "the run is unchanged, and each finished file of samples is kept",
    "reconstruct": "the run is unchanged",
    "eval": "the run and an earlier report are unchanged, and each finished figure is kept",
    "show": "the run is unchanged, and each finished figure is kept",
    "compare": "the runs are unchanged, and each finished report is kept",
    "tour": "each finished run and report is kept; a run in training kept its last checkpoint",
}


class Stopped(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP, outside of a training that saves its state first."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


def explain_stop(argv: list[str], error: BaseException) -> tuple[str, int]:
    """The message for a command that a signal ended, and its exit code."""
    number = error.number if isinstance(error, Stopped) else signal.SIGINT
    kept = KEPT.get(argv[0] if argv else "", "each finished file is kept")
    return f"stopped by {signal.Signals(number).name}: {kept}", 128 + number


class SignalHandler:
    """A context in which signals end a verb like Ctrl-C, unless they are ignored (``nohup``).

    exits_at_once: a signal ends the process without an exception: before and after the work of a verb.
    The same holds while modules are imported, since Python prints an exception that is raised in a
    callback of the import system and continues.

    ends_process: the process ends after this context. Signals that follow a first one are then ignored
    to its very end, so that they do not replace the exit code while Python shuts down.
    """

    def __init__(self, argv: list[str], ends_process: bool = False):
        self.argv = argv
        self.ends_process = ends_process
        self.exits_at_once = True
        self.previous_handlers = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            FIRST.forget()
            for number in SIGNALS:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self.previous_handlers[number] = signal.signal(number, self.handle)
        return self

    def handle(self, number, frame):
        if not FIRST.is_first(number):
            return
        if self.exits_at_once or is_importing(frame):
            message, code = explain_stop(self.argv, Stopped(number))
            with contextlib.suppress(OSError):
                os.write(2, f"fromnoise: {message}\n".encode())
            os._exit(code)
        raise Stopped(number)

    def __exit__(self, *_):
        stopped = FIRST.time is not None
        for number, handler in self.previous_handlers.items():
            signal.signal(number, signal.SIG_IGN if stopped and self.ends_process else handler)


def is_importing(frame) -> bool:
    """True if a module is being imported in a frame or in one of its callers."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
