"""Printing that never stops the work: the reader of progress and warnings may be gone."""

import contextlib
import sys
from collections.abc import Callable

from .words import escaped

Say = Callable[[str], None]  # receives a line for the user
OnEvent = Callable[[dict], None]  # receives an event of a training


def ignore_message(line: str) -> None:
    """Discards a line: the default of arguments that are a ``Say``."""


def ignore_event(event: dict) -> None:
    """The default of arguments that are an ``OnEvent``."""


class Unfailing:
    """A text stream that ignores its errors: after the first one it writes nothing more.

    All other attributes are those of the stream. None is a stream that has failed.
    """

    def __init__(self, stream):
        self.stream = stream
        self.failed = stream is None

    def write(self, text: str) -> int:
        if not self.failed:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                with contextlib.suppress(OSError, ValueError):
                    self.stream.write(text.encode("ascii", "backslashreplace").decode())
            except (OSError, ValueError):  # ValueError: it is closed
                self.failed = True
        return len(text)

    def flush(self) -> None:
        if not self.failed:
            try:
                self.stream.flush()
            except (OSError, ValueError):
                self.failed = True

    def isatty(self) -> bool:
        try:
            return not self.failed and self.stream.isatty()
        except (OSError, ValueError):
            return False

    def __getattr__(self, name):
        return getattr(self.stream, name)


def warn(line: str) -> None:
    """Prints ``warning: ...`` to stderr, if that is open."""
    print(escaped(f"warning: {line}"), file=Unfailing(sys.stderr), flush=True)
