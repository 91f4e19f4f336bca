"""The lock of a run: one process trains it at a time."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import StorageError
from ..core.files import storage_error

try:
    import fcntl
except ImportError:  # Windows: runs are not locked there
    fcntl = None


@contextlib.contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Holds the lock of a folder; it is free when the process ends, however it ends.

    Raises StorageError if another process holds it.
    """
    try:
        file = open(path / ".lock", "a+")
    except OSError as error:
        raise storage_error(error, path) from error
    with file:
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = re.sub(r"[^0-9]", "", file.read(20)) or "?"
            raise StorageError(
                f"{path} is being trained by process {holder}: wait, or stop it"
            ) from None
        except OSError as error:
            raise storage_error(error, path) from error
        with contextlib.suppress(OSError):  # on a full disk only the number is missing
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)  # no holder: an empty file
