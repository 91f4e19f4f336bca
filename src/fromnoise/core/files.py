"""Writing that either happens whole or not at all, and digests. No pickle is read or written in this package."""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import stat
from pathlib import Path

from .errors import StorageError

JSON_BYTES = 64 * 2**20  # a larger file is not read
JSON_PARTS = 2_000_000  # values in a file, about: each takes up to 100 bytes of memory
JSON_DEPTH = 64


def canonical_json(value) -> str:
    """The same value always gives the same text; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)


def sha256(path: Path) -> str:
    h = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def flush_folder(path: Path) -> None:
    """Makes a rename inside the folder durable, where the system lets a folder be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """The folder and those above it. Raises StorageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes a file so that a reader sees the old content or the new one, never a part. Raises StorageError."""
    data = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):  # on a read-only disk this fails too
            temporary.unlink(missing_ok=True)
        raise storage_error(error, path, len(data)) from error


AGAIN = "free some space, then give the command again"  # what to do after a full disk


def storage_error(error: OSError, path: Path, size: int | None = None) -> StorageError:
    """One line for a failed write, with the mend."""
    needed = f" ({size / 1e6:.1f} MB to write)" if size else ""
    if error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None)):
        return StorageError(f"no room on the disk for {path}{needed}: {AGAIN}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(
            f"cannot write to {path}: choose another place with --out, or change its permissions"
        )
    return StorageError(
        f"cannot write {path} ({error.strerror or error}): choose another place with --out"
    )


def read_json(path: Path):
    """Strict JSON of a file, see ``parse_json``. Raises StorageError naming the file."""
    return parse_json(read_limited(path, JSON_BYTES), path)


def read_limited(path: Path, limit: int) -> bytes:
    """The content of an ordinary file of at most ``limit`` bytes. Raises StorageError naming the file."""
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise StorageError(f"{path} is damaged: it is no ordinary file")
        if about.st_size > limit:
            raise StorageError(
                f"{path} is damaged: {about.st_size} bytes, and at most {limit} are read"
            )
        with open(path, "rb") as file:
            return file.read(about.st_size)  # read(limit) would reserve that many bytes
    except FileNotFoundError:
        raise StorageError(f"{path} is missing") from None
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None


def parse_json(data: bytes, where):
    """Strict JSON: UTF-8, no key twice, finite numbers of 64 bits, text that can be written again, no deep nesting.

    where: the name of the source in an error. Raises StorageError.
    """

    def unique(pairs):
        keys = [key for key, _ in pairs]
        if len(keys) != len(set(keys)):
            raise ValueError("a key stands there twice")
        return dict(pairs)

    def refuse(text):
        raise ValueError(f"{text} is not a number")

    def whole(text):
        if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
            raise ValueError("a number has more than 64 bits")
        return int(text)

    def finite(text):
        value = float(text)
        if math.isinf(value):
            raise ValueError("a number is too large")
        return value

    try:
        if data.count(b",") + data.count(b"[") + data.count(b"{") > JSON_PARTS:
            raise ValueError(f"it has more than {JSON_PARTS} parts")
        text = data.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=unique,
            parse_constant=refuse,
            parse_int=whole,
            parse_float=finite,
        )
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        if depth(value) > JSON_DEPTH:
            raise ValueError(f"it is nested more than {JSON_DEPTH} deep")
        return value
    except RecursionError:
        raise StorageError(
            f"{where} is damaged: it is nested more than {JSON_DEPTH} deep"
        ) from None
    except ValueError as error:
        raise StorageError(f"{where} is damaged: {str(error)[:200]}") from None


def depth(value) -> int:
    """How deep lists and dictionaries are nested; 0 for a plain value."""
    level, parts = 0, [value]
    while parts := [part for part in parts if isinstance(part, dict | list)]:
        level += 1
        parts = [
            inner for part in parts for inner in (part.values() if isinstance(part, dict) else part)
        ]
    return level


# -- records that carry a digest of themselves ------------------------------------------------------------------


def sealed(value: dict) -> str:
    """Canonical JSON of a record, to which ``digest`` is added: the sha256 of the canonical JSON of the rest."""
    rest = {key: part for key, part in value.items() if key != "digest"}
    return canonical_json(rest | {"digest": text_digest(canonical_json(rest))})


def check_seal(value: dict, path: Path, needed: bool) -> dict:
    """The record without its digest. Raises StorageError where that is another one, or is missing although ``needed``."""
    rest = {key: part for key, part in value.items() if key != "digest"}
    if "digest" not in value:
        if needed:
            raise StorageError(f"{path} is damaged: it has no digest")
    elif value["digest"] != text_digest(canonical_json(rest)):
        raise StorageError(
            f"{path} is damaged or was edited: its content does not match its digest"
        )
    return rest


def check_bytes(path: Path) -> None:
    """Raises StorageError unless a sealed file holds exactly the bytes that were written."""
    data = read_limited(path, JSON_BYTES)
    value = parse_json(data, path)
    if not isinstance(value, dict) or "digest" not in value or data != sealed(value).encode():
        raise StorageError(f"{path} is damaged: its bytes are not those that were written")


def text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def sealed_line(value: dict) -> str:
    """A record on a line of its own, which ends in the digest of what stands before it."""
    body = json.dumps(value, allow_nan=False)[:-1]
    return f'{body}{", " * bool(value)}"digest": "{text_digest(body)}"}}\n'


LINE = re.compile(rb'^(.*?)(?:, )?"digest": "([0-9a-f]{64})"\}$', re.DOTALL)


def read_lines(
    path: Path, needed: bool = True, up_to_damage: bool = False
) -> tuple[list[dict], list[str]]:
    """The records of a file of ``sealed_line``, and one sentence for each line that is damaged or was not finished.

    needed: False accepts lines without a digest, which earlier versions wrote. A file that is not there has no lines.
    up_to_damage: only the lines before the first damaged one, and the sentence of that one.
    Raises StorageError when the file cannot be read, or is too large.
    """
    if not path.exists():
        return [], []
    data = read_limited(path, JSON_BYTES)
    if data.count(b",") + data.count(b"[") + data.count(b"{") > JSON_PARTS:
        raise StorageError(f"{path} is damaged: it has more than {JSON_PARTS} parts")
    records, problems = [], []
    *lines, rest = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            records.append(_read_line(line, f"line {number} of {path}", needed))
        except StorageError as error:
            problems.append(str(error))
            if up_to_damage:
                return records, problems
    if rest:
        problems.append(f"line {len(lines) + 1} of {path} was not written to its end")
    return records, problems


def _read_line(line: bytes, where: str, needed: bool) -> dict:
    value = parse_json(line, where)
    if not isinstance(value, dict):
        raise StorageError(f"{where} is damaged: it is no record")
    if "digest" not in value and not needed:
        return value
    match = LINE.match(line)
    if not match or hashlib.sha256(match[1]).hexdigest() != match[2].decode():
        raise StorageError(
            f"{where} is damaged or was edited: its content does not match its digest"
        )
    return {key: part for key, part in value.items() if key != "digest"}


def append_line(path: Path, value: dict) -> None:
    """Adds a record to a file of lines, to the disk; a last line that was not written to its end is cut off before.

    Raises StorageError.
    """
    try:
        with open(path, "ab+") as file:
            cut_last_line(file)
            file.write(sealed_line(value).encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, path) from error


def cut_last_line(file) -> None:
    """Cuts a last line that was not written to its end off a file that is open for reading and writing."""
    size = end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        at = file.read(end - start).rfind(b"\n")
        if at >= 0:
            end = start + at + 1
            break
        end = start
    if end < size:
        file.truncate(end)
    file.seek(0, os.SEEK_END)
