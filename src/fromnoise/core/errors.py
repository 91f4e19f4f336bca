"""The failures that a user can cause or repair, each with an exit code.

The command line prints the message as one line and exits with ``exit_code``; the Python API raises it.
A message states what is wrong and what to do about it.
"""

import difflib
from collections.abc import Iterable

from .words import escaped, safe


class FromNoiseError(Exception):
    """Base class; any other exception is a bug. Names in the text are escaped for a terminal."""

    exit_code = 1

    def __str__(self) -> str:
        return safe(super().__str__())


class UsageError(FromNoiseError, ValueError):
    """A wrong option, name or configuration (exit code 2)."""

    exit_code = 2


class DataError(FromNoiseError, ValueError):
    """Data that are missing, damaged or of the wrong form (exit code 3)."""

    exit_code = 3


class StorageError(FromNoiseError, OSError):
    """Disk full, folder not writable, checkpoint damaged (exit code 4)."""

    exit_code = 4


class DivergedError(FromNoiseError, ArithmeticError):
    """The loss or a gradient is not finite; the last good state is kept (exit code 5)."""

    exit_code = 5


class StoppedError(FromNoiseError):
    """A signal stopped the run; its state was saved (exit code 130 for SIGINT, 143 for SIGTERM)."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """`` Did you mean 'vae'?`` or an empty string."""
    known = list(known)
    close = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    if not close and wrong:
        close = [name for name in known if name.startswith(wrong) or wrong.startswith(name)]
    return f" Did you mean '{escaped(close[0])}'?" if close else ""
