"""Text from outside, made fit for a terminal and for messages of one line.

Names of files and classes, columns, captions, configurations and the texts that a model writes may hold anything. A
terminal obeys control characters (ESC ] changes its title, answers itself, hides a line), and bidirectional marks show
another order than the one that is there ("Trojan Source", Boucher & Anderson 2021, arXiv:2111.00169).
"""

import os
import sys
import unicodedata
from contextlib import contextmanager

# Cc: control characters; Cf: bidirectional marks, zero width, tags; Zl, Zp: line ends; Cs: what no encoding can write.
UNSAFE = frozenset(("Cc", "Cf", "Zl", "Zp", "Cs"))


def escaped(text, keep: str = "") -> str:
    """The text with every character of the categories ``UNSAFE`` as Python writes it (``\\x1b``), but those in ``keep``."""
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_code(c) if _unsafe(c) and c not in keep else c for c in text)


def safe(text) -> str:
    """``escaped``, line ends and tabs aside: for text of several lines."""
    return escaped(text, keep="\n\t")


def shown(text, width: int = 70) -> str:
    """A name from outside, quoted and fit for a message of one line: escaped, and shortened to ``width`` characters."""
    text = (
        os.fsencode(text).decode(errors="replace") if isinstance(text, os.PathLike) else str(text)
    )
    if len(text) > width:
        text = f"{text[: width // 2]}…{text[-width // 2 :]}"
    return f"'{escaped(text)}'"


class EscapingStream:
    """A text stream that writes through ``safe``: the last net, below whatever printed. unescaped: the stream itself."""

    def __init__(self, unescaped):
        self.unescaped = unescaped

    def write(self, text: str) -> int:
        if not isinstance(text, str):  # click asks so whether a stream is one of bytes
            raise TypeError(f"text is written here, not {type(text).__name__}")
        self.unescaped.write(safe(text))
        return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str):
        return getattr(self.unescaped, name)


@contextmanager
def escaping_output():
    """Within it whatever is printed to stdout and stderr is escaped."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        stream and EscapingStream(stream) for stream in before
    )  # None: closed by the caller
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def unescaped(stream):
    """The stream for what styles its own output, such as a progress bar; the text in it is escaped by who prints it."""
    return getattr(stream, "unescaped", stream)


def _unsafe(c: str) -> bool:
    """Also U+2065 and the last of the tags, which are without a category so far and as invisible as the others."""
    return unicodedata.category(c) in UNSAFE or c == "\u2065" or "\U000e0000" <= c <= "\U000e0fff"


def _code(c: str) -> str:
    return (
        c.encode("unicode_escape").decode() if not "\ud800" <= c <= "\udfff" else f"\\u{ord(c):04x}"
    )
