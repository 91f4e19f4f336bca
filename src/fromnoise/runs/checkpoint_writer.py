"""Saving and deleting checkpoints so that none is ever there in part.

A checkpoint is written into a hidden folder, flushed to the disk, given its manifest last, and renamed.
A folder is renamed before it is deleted, so that a killed process leaves no half of one.
"""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from ..core.errors import StorageError
from ..core.files import flush_folder, storage_error, write_atomic
from ..core.json_files import sealed
from .checkpoint import read
from .directory import Run
from .records.manifest import MANIFEST_FORMAT, PARTS

# Endings of renamed folders. A replaced one may be the only good checkpoint of its step.
REPLACED = "replaced"
DISCARDED = "discarded"
TEMPORARY_FILES = (
    ".run.json.*.tmp",
    ".events.jsonl.*.tmp",
    ".sessions.jsonl.*.tmp",
    "samples/.progress-*.npy.*.tmp",
)


def save(
    run: Run,
    step: int,
    parts: dict[str, dict[str, Tensor]],
    state: dict,
    keep: set[int] = frozenset(),
) -> Path:
    """Writes the checkpoint of a step, then removes all older ones but the newest valid and ``keep``.

    A valid checkpoint of that step with the same content stays as it is. Raises StorageError (disk
    full, not writable); the earlier checkpoints are then still there.
    """
    root = run.path / "checkpoints"
    final = root / f"step-{step:08d}"
    temporary = root / f".step-{step:08d}.{os.getpid()}.tmp"
    size = 0
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        files = {}
        for name in PARTS:
            data = encode_tensors(parts[name])
            size += len(data)
            files[f"{name}.safetensors"] = write_file(temporary / f"{name}.safetensors", data)
        manifest = sealed({"format": MANIFEST_FORMAT, "step": step, "files": files, **state})
        write_atomic(temporary / "manifest.json", manifest)
        _rename_to_final(temporary, final, manifest)
        flush_folder(root)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, StorageError):
            raise
        raise storage_error(error, final, size) from error
    _remove_older(run, step, keep)
    return final


def encode_tensors(tensors: dict[str, Tensor]) -> bytes:
    """Tensors as safetensors, sorted by name."""
    return tensor_bytes(
        {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in sorted(tensors.items())
        }
    )


def write_file(path: Path, data: bytes) -> dict:
    """Writes a file to the disk; returns its entry of the manifest."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _rename_to_final(temporary: Path, final: Path, manifest: str) -> None:
    """Gives a new checkpoint its name. An equal one stays; another one is renamed, then deleted."""
    if not (final.exists() or final.is_symlink()):
        os.rename(temporary, final)
        return
    with contextlib.suppress(StorageError):
        if sealed(read(final).manifest.model_dump(exclude_unset=True)) == manifest:
            _discard(temporary)
            return
    replaced = final.with_name(f".{final.name}.{os.getpid()}.{REPLACED}")
    shutil.rmtree(replaced, ignore_errors=True)
    os.rename(final, replaced)
    os.rename(temporary, final)
    flush_folder(final.parent)
    remove(replaced)


def _remove_older(run: Run, step: int, keep: set[int]) -> None:
    """Removes all checkpoints before ``step`` but the newest valid one and ``keep``."""
    has_valid = False
    for older, path in sorted(run.checkpoint_folders().items(), reverse=True):
        if older >= step:
            continue
        if has_valid:
            if older not in keep:
                _discard(path)
            continue
        with contextlib.suppress(StorageError):
            read(path)
            has_valid = True


def _discard(path: Path) -> None:
    """Renames a folder, then deletes it."""
    with contextlib.suppress(OSError):
        hidden = path.with_name(f".{path.name.strip('.')}.{os.getpid()}.{DISCARDED}")
        os.rename(path, hidden)
        remove(hidden)


def remove(path: Path) -> None:
    """Deletes a folder or a link."""
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def discard_after(run: Run, step: int) -> None:
    """Deletes the checkpoints of later steps, which training has abandoned."""
    for later, path in run.checkpoint_folders().items():
        if later > step:
            _discard(path)


def remove_leftovers(run: Run) -> None:
    """Deletes what a killed process left, and gives a replaced checkpoint its name back if needed.

    The run must be locked.
    """
    root = run.path / "checkpoints"
    for path in root.glob(f".step-*.{REPLACED}"):
        final = root / path.name[1:].split(".")[0]
        with contextlib.suppress(OSError):
            if not final.exists():
                os.rename(path, final)
    for ending in ("tmp", REPLACED, DISCARDED):
        for path in root.glob(f".step-*.{ending}"):
            with contextlib.suppress(OSError):
                remove(path)
    for pattern in TEMPORARY_FILES:
        for path in run.path.glob(pattern):
            with contextlib.suppress(OSError):
                path.unlink()
