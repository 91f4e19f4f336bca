"""What a process prints, where its reader may be gone: progress and warnings never stop the work that they tell of."""

import contextlib
import sys

from .words import escaped


class Unfailing:
    """A text stream whose errors are swallowed: after the first one it says nothing more. Everything else is the stream's own."""

    def __init__(self, stream):
        self.stream, self.failed = stream, stream is None

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
    """``warning: ...`` on stderr, if that is still there."""
    print(escaped(f"warning: {line}"), file=Unfailing(sys.stderr), flush=True)
