"""The cache folder, and stores in it: decoded examples on disk, memory-mapped, written atomically.

A store is a folder with ``x.npy`` (images or tokens in the order train, validation, test, so that
each split is a slice of one memory map), ``y.npy`` if there are labels, and ``store.json``. It is
built in a temporary folder beside its place and renamed into it: of two processes that build the
same store the second finds the first one's and uses it.

Opening checks as git checks its index: files whose size and time are as recorded are taken to be
intact, others must match the recorded sha256, and a store that does not is built again.
"""

import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.errors import StorageError
from ..core.files import flush_folder
from ..core.json_files import canonical_json, read_json
from ..core.spec import DataSpec
from ..core.words import shown
from .dataset import Split, compute_digest
from .splits import SPLITS

FORMAT = 1
FORMS = [(np.uint8, 4), (np.uint8, 1), (np.uint16, 1), (np.int32, 1)]  # images; tokens
STALE = 24 * 3600  # seconds after which a killed builder's leftovers are removed


def cache_folder(*parts: str) -> Path:
    """A folder under $FROMNOISE_CACHE, or else under ~/.cache/fromnoise, which may not exist yet.

    Raises StorageError if the user has no home folder.
    """
    setting = os.environ.get("FROMNOISE_CACHE")
    try:
        root = Path(setting).expanduser() if setting else Path.home() / ".cache" / "fromnoise"
        return root.joinpath(*parts)
    except RuntimeError:
        raise StorageError(
            "this user has no home folder to keep data in: set FROMNOISE_CACHE to a folder"
        ) from None


@contextmanager
def cache_writes(folder: Path):
    """Turns a failed write into a StorageError that says how to move the cache."""
    try:
        yield
    except OSError as error:
        cause = error.__cause__ if isinstance(error, StorageError) else error
        if not isinstance(cause, OSError):
            raise
        is_full = cause.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "no room is left on the disk" if is_full else cause.strerror
        raise StorageError(
            f"cannot write to the cache folder {shown(folder, 200)} ({reason or error}): "
            "free some space or set FROMNOISE_CACHE to a folder on another disk"
        ) from error


@dataclass(frozen=True)
class Store:
    """Stored examples of all splits.

    x              read-only memory map: images uint8 (N, C, H, W) or tokens (N,)
    y              int64 (N,) or None
    counts         rows of each split
    source_record  what else its source recorded; of tokens at least their ``vocabulary``
    """

    x: np.ndarray
    y: np.ndarray | None
    counts: dict[str, int]
    digest: str
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    source_record: dict = field(default_factory=dict)

    def splits(self) -> dict[str, Split]:
        """The splits as slices of the memory map: nothing is read before it is used."""
        splits = {}
        start = 0
        for part in SPLITS:
            rows = slice(start, start + self.counts[part])
            splits[part] = Split(self.x[rows], None if self.y is None else self.y[rows], 256)
            start = rows.stop
        return splits

    def spec(self, window: int = 1) -> DataSpec:
        """The form of the images, or of windows of tokens."""
        if self.x.ndim == 1:
            return DataSpec("tokens", (window,), levels=self.source_record["vocabulary"])
        return DataSpec("image", self.x.shape[1:], levels=256, classes=len(self.class_names))


def open_or_build(folder: Path, build: Callable[[Path], dict]) -> Store:
    """The store in this folder, built first if it is missing or damaged.

    build: receives an empty folder, writes x.npy and perhaps y.npy there and returns ``counts``,
    ``class_names``, ``notes`` and perhaps ``about``. If it raises, nothing is left on the disk; a
    failed write is raised as StorageError.
    """
    if (store := _open(folder)) is not None:
        return store
    with cache_writes(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_builds(folder.parent)
        temporary = folder.parent / f".{folder.name[:16]}.{uuid.uuid4().hex}.tmp"
        temporary.mkdir()
        try:
            _seal(temporary, build(temporary))
            if (store := _place(temporary, folder)) is None:
                raise StorageError(
                    f"the store {shown(folder, 200)} cannot be read back: is the disk sound?"
                )
            return store
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _seal(folder: Path, record: dict) -> None:
    """Adds the digest and the record that completes a store, and flushes all of it to the disk."""
    store = _read(folder, record | {"digest": ""})
    record = record | {"format": FORMAT, "digest": compute_digest(store.spec(), store.splits())}
    record["files"] = _stamps(folder)
    (folder / "store.json").write_text(canonical_json(record), encoding="utf-8")
    for path in folder.iterdir():
        flush_folder(path)
    flush_folder(folder)


def _place(temporary: Path, folder: Path) -> Store | None:
    """Renames a finished store into its place, unless another process was first with a sound one."""
    try:
        temporary.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        if (store := _open(folder)) is not None:
            return store
        damaged = temporary.with_suffix(".old.tmp")
        folder.rename(damaged)
        temporary.rename(folder)
        shutil.rmtree(damaged, ignore_errors=True)
    flush_folder(folder.parent)
    return _open(folder)


def _open(folder: Path) -> Store | None:
    """The store, or None when there is none or it is damaged."""
    try:
        record = read_json(folder / "store.json")
        if record["format"] != FORMAT:
            return None
        store = _read(folder, record)
        is_intact = (
            _stamps(folder) == record["files"]
            or compute_digest(store.spec(), store.splits()) == store.digest
        )
        return store if is_intact else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _read(folder: Path, record: dict) -> Store:
    x = np.load(folder / "x.npy", mmap_mode="r", allow_pickle=False)
    has_labels = (folder / "y.npy").exists()
    y = np.load(folder / "y.npy", allow_pickle=False) if has_labels else None
    counts = {part: int(record["counts"][part]) for part in SPLITS}
    if (
        (x.dtype, x.ndim) not in FORMS
        or len(x) != sum(counts.values())
        or (has_labels and len(y) != len(x))
    ):
        raise ValueError("the arrays do not fit the record")
    return Store(
        x,
        y,
        counts,
        record["digest"],
        tuple(record["class_names"]),
        tuple(record["notes"]),
        record.get("about", {}),
    )


def _stamps(folder: Path) -> dict[str, list[int]]:
    """Size and time of each array in a store."""
    stamps = {}
    for path in sorted(folder.glob("*.npy")):
        status = path.stat()
        stamps[path.name] = [status.st_size, status.st_mtime_ns]
    return stamps


def _remove_stale_builds(folder: Path) -> None:
    """Removes the leftovers of builders that were killed long ago."""
    for path in folder.glob(".*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > STALE:
                shutil.rmtree(path)
        except OSError:
            continue  # another process removes it too, or it is not ours to remove
