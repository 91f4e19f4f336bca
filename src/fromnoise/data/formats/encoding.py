"""Recognises the encoding of text that is not UTF-8 by its bytes.

Sources: the WHATWG Encoding Standard (a label of Latin-1 means windows-1252) and the byte order
marks of Unicode.
"""

import codecs
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.words import shown

NAMES = {
    "cp1252": "Windows-1252 (cp1252)",
    "latin-1": "Latin-1",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16 (little-endian, without a byte order mark)",
    "utf-16-be": "UTF-16 (big-endian, without a byte order mark)",
    "utf-32": "UTF-32",
}
OFFICE_SUFFIXES = (".xlsx", ".xlsm", ".ods", ".docx", ".odt")
HEAD = 2**16  # bytes that NULs are counted in
UNDEFINED = (0x81, 0x8D, 0x8F, 0x90, 0x9D)  # bytes that cp1252 has no character for
MAX_FOREIGN = 0.3  # share of characters beyond ASCII in text of a Western encoding
MAX_CONTROLS = 0.02  # share of control characters in a text
# Shares of NULs at even and at odd places: European text in UTF-16 has about 1 and 0.
MIN_NULS = 0.4
MAX_NULS = 0.05


def wide_encoding(head: bytes) -> str:
    """UTF-16 or UTF-32, by a byte order mark or by NULs at every second place; else ""."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    pairs = head[: HEAD // 2 * 2]
    values = np.frombuffer(pairs, np.uint8)
    if len(values) < 8:
        return ""
    even = (values[0::2] == 0).mean()
    odd = (values[1::2] == 0).mean()
    if not (max(even, odd) > MIN_NULS and min(even, odd) < MAX_NULS):
        return ""
    encoding = "utf-16-le" if odd > even else "utf-16-be"
    # Numbers of 16 bits, too, have NULs at every second place.
    text = pairs.decode(encoding, "ignore")
    controls = sum(character < " " and character not in "\t\n\r\f" for character in text)
    return encoding if controls <= MAX_CONTROLS * len(text) else ""


def encoding_of(head: bytes, blocks: Iterable[bytes]) -> str:
    """The encoding of text that is not UTF-8; "" for UTF-8, also with some damaged bytes.

    head: the first bytes; blocks: all of them. A byte that is not UTF-8 stands for one character of
    another encoding. If more characters beyond ASCII are valid UTF-8 than not, the text is damaged
    UTF-8, and so is one that ends within a character. Text mostly beyond ASCII is in no Western
    encoding, and these are not distinguished: "" too.
    """
    if wide := wide_encoding(head):
        return wide
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    occurs = np.zeros(256, bool)
    size = 0
    valid = 0
    invalid = 0
    for block in blocks:
        text = decoder.decode(block)
        size += len(text)
        if text.isascii():
            continue
        damaged = text.count("\N{REPLACEMENT CHARACTER}")
        invalid += damaged
        valid += len(text) - len(text.encode("ascii", "ignore")) - damaged
        occurs[list(set(block))] = True
    if invalid <= valid or invalid > MAX_FOREIGN * size:
        return ""
    # The two are the same but for 0x80 to 0x9f.
    is_cp1252 = occurs[0x80:0xA0].any() and not occurs[list(UNDEFINED)].any()
    return "cp1252" if is_cp1252 else "latin-1"


def archive_kind(head: bytes) -> str:
    """The kind of archive or packed file that begins so, in words; or ""."""
    kinds = {
        b"PK\x03\x04": "a zip archive",
        b"PK\x05\x06": "a zip archive",
        b"\x1f\x8b": "a gzip file",
        b"7z\xbc\xaf\x27\x1c": "a 7z archive",
        b"Rar!": "a rar archive",
        b"\xfd7zXZ\0": "an xz file",
        b"BZh": "a bzip2 file",
        b"\x28\xb5\x2f\xfd": "a zstd file",
    }
    if head[257:262] == b"ustar":
        return "a tar archive"
    return next((kind for mark, kind in kinds.items() if head.startswith(mark)), "")


def refuse_archive(name: str, path: Path) -> None:
    """Raises DataError on an archive: its parts can be read once it is unpacked."""
    try:
        with open(path, "rb") as file:
            kind = archive_kind(file.read(512))
    except OSError:
        return  # the source says why it cannot be read
    if path.suffix.lower() in OFFICE_SUFFIXES:
        raise DataError(
            f"data {shown(name)} is a document of an office program: save it as CSV or as plain text"
        )
    if kind:
        raise DataError(
            f"data {shown(name)} is {kind}: unpack it first (unzip, tar xf), and name the folder or "
            "file that comes out"
        )


def decoded_text(raw: bytes) -> tuple[str, str]:
    """The text of a file, without a byte order mark, and a note about its encoding, or "".

    Bytes in no known encoding are read as cp1252 or Latin-1.
    """
    encoding = encoding_of(raw[:HEAD], [raw])
    try:
        text = raw.decode(encoding or "utf-8-sig")
    except UnicodeDecodeError:
        encoding = "latin-1" if any(byte in raw for byte in UNDEFINED) else "cp1252"
        text = raw.decode(encoding)
    return text, encoding_note("the file", encoding) if encoding else ""


def encoding_note(subject: str, encoding: str) -> str:
    """A note on how a file is read."""
    hint = "; if letters look wrong, save it as UTF-8" if encoding in ("cp1252", "latin-1") else ""
    return f"{subject} is not UTF-8: read as {NAMES[encoding]}, samples are written as UTF-8{hint}"
