"""Writing that either happens whole or not at all, and digests. No pickle is read or written in this package."""

import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path

from .errors import StorageError


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


def storage_error(error: OSError, path: Path, size: int | None = None) -> StorageError:
    """One line for a failed write, with the mend."""
    needed = f" ({size / 1e6:.1f} MB to write)" if size else ""
    if error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None)):
        return StorageError(f"no room on the disk for {path}{needed}: free some space, then `fromnoise resume` the run")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(f"cannot write to {path}: choose another place with --out, or change its permissions")
    return StorageError(f"cannot write {path} ({error.strerror or error}): choose another place with --out")


def read_json(path: Path):
    """Strict JSON: no NaN, no duplicate keys. Raises StorageError naming the file."""

    def unique(pairs):
        keys = [key for key, _ in pairs]
        if len(keys) != len(set(keys)):
            raise ValueError("a key stands there twice")
        return dict(pairs)

    def refuse(text):
        raise ValueError(f"{text} is not a number")

    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        return json.loads(path.read_text("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except FileNotFoundError:
        raise StorageError(f"{path} is missing") from None
    except (ValueError, OSError) as error:
        raise StorageError(f"{path} is damaged: {error}") from None
