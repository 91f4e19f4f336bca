"""Text from outside, escaped for a terminal and for messages of one line.

Names of files, classes and columns, captions, configurations and generated texts may hold any character.
A terminal obeys control characters (ESC ] changes its title, sends input, hides a line), and
bidirectional marks change the visible order ("Trojan Source", Boucher & Anderson 2021, arXiv:2111.00169).
"""

import os
import sys
import unicodedata
from contextlib import contextmanager

# Cc: control characters; Cf: bidirectional marks, zero width, tags; Zl, Zp: line ends; Cs: surrogates,
# which no encoding can write.
UNSAFE = frozenset(("Cc", "Cf", "Zl", "Zp", "Cs"))


def escaped(text, keep: str = "") -> str:
    """The text with all characters of the categories ``UNSAFE`` as in Python (``\\x1b``), except ``keep``."""
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_code(c) if _unsafe(c) and c not in keep else c for c in text)


def safe(text) -> str:
    """``escaped`` except for line ends and tabs: for text of several lines."""
    return escaped(text, keep="\n\t")


def shown(text, width: int = 70) -> str:
    """A name from outside for a message: quoted, escaped, and shortened to ``width`` characters."""
    if isinstance(text, os.PathLike):
        text = os.fsencode(text).decode(errors="replace")
    text = str(text)
    if len(text) > width:
        text = f"{text[: width // 2]}…{text[-width // 2 :]}"
    return f"'{escaped(text)}'"


class EscapingStream:
    """A text stream that escapes all it writes (``safe``). unescaped: the stream below."""

    def __init__(self, unescaped):
        self.unescaped = unescaped

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # click tests in this way whether a stream takes bytes
            raise TypeError(f"this stream takes text, not {type(text).__name__}")
        self.unescaped.write(safe(text))
        return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str):
        return getattr(self.unescaped, name)


@contextmanager
def escaping_output():
    """Within this context all output to stdout and stderr is escaped."""
    stdout = sys.stdout
    stderr = sys.stderr
    sys.stdout = stdout and EscapingStream(stdout)  # None: closed by the caller
    sys.stderr = stderr and EscapingStream(stderr)
    try:
        yield
    finally:
        sys.stdout = stdout
        sys.stderr = stderr


def unescaped(stream):
    """The stream below, for styled output such as a progress bar, whose text is escaped before."""
    return getattr(stream, "unescaped", stream)


def _unsafe(c: str) -> bool:
    """True also for U+2065 and the unassigned tags, which are as invisible as the other ones."""
    return unicodedata.category(c) in UNSAFE or c == "\u2065" or "\U000e0000" <= c <= "\U000e0fff"


def _code(c: str) -> str:
    if "\ud800" <= c <= "\udfff":
        return f"\\u{ord(c):04x}"
    return c.encode("unicode_escape").decode()
