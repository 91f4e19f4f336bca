"""Documents: files, or bytes in memory, that are read as UTF-8 in blocks.

A text is read as bytes: line ends stay as they are, and so do bytes that are not UTF-8.
"""

import codecs
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.words import shown
from ..formats.encoding import wide_encoding

OTHER_SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".parquet")  # that another source reads
BLOCK = 2**21  # bytes that are read at once
HEAD = 2**16  # bytes by which a file is recognised as text
BOM = codecs.BOM_UTF8
# All control characters but tab, line and page feeds, and escape.
CONTROLS = [*range(9), *range(14, 27), *range(28, 32), 127]
MAX_CONTROLS = 0.02  # share in a text that is not UTF-8; random bytes have 0.11


@dataclass(frozen=True)
class Document:
    """One file, or bytes in memory.

    name      what messages call it, already fit for a line
    encoding  "" for UTF-8
    """

    name: str
    content: Path | bytes
    encoding: str = ""

    @contextmanager
    def opened(self):
        """The document as a file of bytes. Raises DataError, also if reading fails later."""
        try:
            if isinstance(self.content, bytes):
                yield io.BytesIO(self.content)
            else:
                with open(self.content, "rb") as file:
                    yield file
        except OSError as error:
            raise DataError(
                f"{self.name} cannot be read ({error.strerror or error}): mend its permissions"
            ) from error

    def head(self) -> bytes:
        with self.opened() as file:
            return file.read(HEAD)

    def has_byte_order_mark(self) -> bool:
        return self.head().startswith(BOM)

    def blocks(self) -> Iterator[bytes]:
        """Its bytes without a byte order mark, converted to UTF-8 if its encoding is another."""
        decoder = codecs.getincrementaldecoder(self.encoding)("replace") if self.encoding else None
        with self.opened() as file:
            if file.read(len(BOM)) != BOM:
                file.seek(0)
            while block := file.read(BLOCK):
                yield decoder.decode(block).encode() if decoder else block
        if decoder and (rest := decoder.decode(b"", final=True)):
            yield rest.encode()

    def stamp(self) -> str:
        """Differs when the content does."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        with self.opened() as file:
            status = os.fstat(file.fileno())
        return f"{os.fsencode(self.content.resolve())} {status.st_size} {status.st_mtime_ns}"


def list_files(folder: Path) -> list[Path]:
    """Every file at any depth, by path; hidden ones are left out, links to folders not followed.

    Raises DataError if a folder cannot be read.
    """

    def refuse(error: OSError):
        raise DataError(
            f"cannot read the folder {shown(error.filename, 200)} ({error.strerror}): "
            "mend its permissions"
        )

    paths = []
    for at, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(at, name) for name in names if not name.startswith(".")]
    return sorted((path for path in paths if path.is_file()), key=os.fsencode)


def find_documents(folder: Path, files: list[Path]) -> tuple[list[Document], list[str]]:
    """The documents among the files, and the names of the other files; empty files are neither."""
    documents = []
    others = []
    for path in files:
        document = Document(shown(path.relative_to(folder)), path)
        if path.suffix.lower() in OTHER_SUFFIXES:
            others.append(document.name)
            continue
        head = document.head()
        if why_not_text(head):
            others.append(document.name)
        elif head:
            documents.append(document)
    return documents, others


def why_not_text(head: bytes) -> str:
    """Why a file that begins so is not text, in words; or "". Valid UTF-8 or UTF-16 is text."""
    if wide_encoding(head):
        return ""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        return ""
    except UnicodeDecodeError:
        share = np.isin(np.frombuffer(head, np.uint8), CONTROLS).mean()
        return "it is binary" if share > MAX_CONTROLS else ""
