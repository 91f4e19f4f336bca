"""Atomic writing (a file is written completely or not at all), limited reading, and digests.

No pickle is read or written in this package.
"""

import contextlib
import errno
import hashlib
import os
import stat
from pathlib import Path

from .errors import StorageError

RETRY_HINT = "free some space, then give the command again"  # after a full disk
DISK_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None))


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
    """Makes the folder and its parents. Raises StorageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path) from error


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes a file so that a reader sees the old content or the new one. Raises StorageError."""
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
    """The error for a failed write, in one line with its remedy. size: bytes to write."""
    needed = f" ({size / 1e6:.1f} MB to write)" if size else ""
    if error.errno in DISK_FULL:
        return StorageError(f"no room on the disk for {path}{needed}: {RETRY_HINT}")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StorageError(
            f"cannot write to {path}: choose another place with --out, or change its permissions"
        )
    return StorageError(
        f"cannot write {path} ({error.strerror or error}): choose another place with --out"
    )


def read_limited(path: Path, limit: int) -> bytes:
    """The content of a regular file of at most ``limit`` bytes. Raises StorageError."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise StorageError(f"{path} is damaged: it is not a regular file")
        if status.st_size > limit:
            raise StorageError(
                f"{path} is damaged: it has {status.st_size} bytes, more than the limit of {limit}"
            )
        with open(path, "rb") as file:
            return file.read(status.st_size)  # read(limit) would reserve that many bytes
    except FileNotFoundError:
        raise StorageError(f"{path} is missing") from None
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}") from None
