"""Text from outside, made fit for a terminal and for messages of one line.

Names of files and classes, columns, captions, configurations and the texts that a model writes may hold anything. A
terminal obeys control characters (ESC ] changes its title, answers itself, hides a line), and bidirectional marks show
another order than the one that is there ("Trojan Source", Boucher & Anderson 2021, arXiv:2111.00169).
"""

import os
import unicodedata

# Cc: control characters; Cf: bidirectional marks, zero width, tags; Zl, Zp: line ends; Cs: what no encoding can write.
UNSAFE = frozenset(("Cc", "Cf", "Zl", "Zp", "Cs"))


def escaped(text, keep: str = "") -> str:
    """The text with every character of the categories ``UNSAFE`` as Python writes it (``\\x1b``), but those in ``keep``."""
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_code(c) if unicodedata.category(c) in UNSAFE and c not in keep else c for c in text)


def safe(text) -> str:
    """``escaped``, line ends and tabs aside: for text of several lines."""
    return escaped(text, keep="\n\t")


def shown(text, width: int = 70) -> str:
    """A name from outside, quoted and fit for a message of one line: escaped, and shortened to ``width`` characters."""
    text = os.fsencode(text).decode(errors="replace") if isinstance(text, os.PathLike) else str(text)
    if len(text) > width:
        text = f"{text[: width // 2]}…{text[-width // 2 :]}"
    return f"'{escaped(text)}'"


def _code(c: str) -> str:
    return c.encode("unicode_escape").decode() if not "\ud800" <= c <= "\udfff" else f"\\u{ord(c):04x}"
