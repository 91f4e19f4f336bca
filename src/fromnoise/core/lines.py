"""Files of one JSON record a line, each line with a digest of itself."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import BinaryIO

from .errors import StorageError
from .files import read_limited, storage_error
from .json_files import (
    MAX_BYTES,
    MAX_PARTS,
    count_parts,
    parse_json,
    text_digest,
    without_digest,
)

SEALED = re.compile(rb'^(.*?)(?:, )?"digest": "([0-9a-f]{64})"\}$', re.DOTALL)
BLOCK = 4096  # bytes that are read at once in search of the last line end


def sealed_line(value: dict) -> str:
    """A record as one line, which ends in the digest of the text before it."""
    body = json.dumps(value, allow_nan=False)[:-1]
    return f'{body}{", " * bool(value)}"digest": "{text_digest(body)}"}}\n'


def read_lines(
    path: Path, required: bool = True, until_damage: bool = False
) -> tuple[list[dict], list[str]]:
    """The records of a file of ``sealed_line``, and a sentence for each damaged or unfinished line.

    required: False accepts lines without a digest, which earlier versions wrote. A missing file has
        no lines.
    until_damage: stop at the first damaged line.
    Raises StorageError if the file cannot be read, or is too large.
    """
    if not path.exists():
        return [], []
    data = read_limited(path, MAX_BYTES)
    if count_parts(data) > MAX_PARTS:
        raise StorageError(f"{path} is damaged: it has more than {MAX_PARTS} parts")
    records, problems = [], []
    *lines, rest = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            records.append(_read_line(line, f"line {number} of {path}", required))
        except StorageError as error:
            problems.append(str(error))
            if until_damage:
                return records, problems
    if rest:
        problems.append(f"line {len(lines) + 1} of {path} was not written to its end")
    return records, problems


def _read_line(line: bytes, source: str, required: bool) -> dict:
    value = parse_json(line, source)
    if not isinstance(value, dict):
        raise StorageError(f"{source} is damaged: it is not a record")
    if "digest" not in value and not required:
        return value
    match = SEALED.match(line)
    if not match or hashlib.sha256(match[1]).hexdigest() != match[2].decode():
        raise StorageError(f"{source} is damaged or was edited: its content and its digest differ")
    return without_digest(value)


def append_line(path: Path, value: dict) -> None:
    """Appends a record to a file of lines and flushes it to the disk. Raises StorageError.

    An unfinished last line is cut off first.
    """
    try:
        with open(path, "ab+") as file:
            cut_unfinished_line(file)
            file.write(sealed_line(value).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, path) from error


def cut_unfinished_line(file: BinaryIO) -> None:
    """Cuts an unfinished last line off a file that is open for reading and writing."""
    size = end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - BLOCK)
        file.seek(start)
        position = file.read(end - start).rfind(b"\n")
        if position >= 0:
            end = start + position + 1
            break
        end = start
    if end < size:
        file.truncate(end)
    file.seek(0, os.SEEK_END)
