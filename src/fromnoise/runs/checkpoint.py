"""Checkpoints: safetensors and a manifest with their digests, whole or not there.

    checkpoints/step-00001200/{model,ema,optim}.safetensors   manifest.json

A checkpoint is written into a hidden folder, flushed to the disk, given its manifest last, and renamed. What
has no valid manifest is not a checkpoint. A flipped bit, a short file or a wrong name is refused by digest.
Nothing is taken away in pieces: a folder is renamed before it is deleted, so that a killed process leaves no half of one.
"""

import contextlib
import hashlib
import math
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as parse_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from ..core.errors import StorageError, UsageError
from ..core.files import flush_folder, sha256, storage_error, write_atomic
from ..core.json_files import sealed
from .directory import Run
from .records.manifest import MANIFEST_FORMAT, PARTS, FileRecord, Manifest, read_manifest

REPLACED, DISCARDED = (
    "replaced",
    "discarded",
)  # endings of folders that were renamed: the first may be the only good one

RENAMED = {".told.": ".conditioning."}  # parts of the names of tensors, before and now
MOST_DIMENSIONS = 64  # of a tensor: torch computes with no more


@dataclass(frozen=True)
class Checkpoint:
    """step; folder; manifest: the digests and the state of the loop (all numbers exact)."""

    step: int
    path: Path
    manifest: Manifest

    def tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of one part, checked against their digest. Raises StorageError."""
        path = self.path / f"{part}.safetensors"
        check_file(path, self.manifest.files[path.name])
        try:
            tensors = parse_tensors(path.read_bytes())
            if any(tensor.ndim > MOST_DIMENSIONS for tensor in tensors.values()):
                raise ValueError(f"a tensor has more than {MOST_DIMENSIONS} dimensions")
            return {current_name(name): tensor for name, tensor in tensors.items()}
        except (
            SafetensorError,
            ValueError,
            KeyError,
            TypeError,
            RuntimeError,
            OverflowError,
        ) as error:
            raise StorageError(f"{path} is damaged: {str(error)[:200]}") from None

    def size(self, part: str = "model") -> tuple[int, int]:
        """Elements and number of the tensors of one part, from its header alone. Raises StorageError."""
        path = self.path / f"{part}.safetensors"
        try:
            with safe_open(path, "pt") as file:
                shapes = [file.get_slice(name).get_shape() for name in file.keys()]
        except (SafetensorError, OSError) as error:
            raise StorageError(f"{path} is damaged: {error}") from None
        return sum(map(math.prod, shapes)), len(shapes)

    def load_into(self, model: nn.Module, tensors: dict[str, Tensor]) -> None:
        """Gives a model tensors of this checkpoint. Raises StorageError where they do not fit, or are not finite numbers."""
        learned = {name for name, _ in model.named_parameters()}
        for name, value in tensors.items():
            if (
                value.is_floating_point()
                and not (torch.isfinite(value) if name in learned else ~torch.isnan(value)).all()
            ):
                raise StorageError(
                    f"{self.path} holds values that are not finite, in {name}: choose another one with --checkpoint, or train anew"
                )
        try:
            model.load_state_dict(tensors)
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
            reason = misfit(model, tensors) or str(error).splitlines()[-1].strip()
            raise StorageError(
                f"{self.path} does not fit this version of its family: {reason}"
            ) from None


def current_name(name: str) -> str:
    """The name that a tensor of an earlier version has now."""
    for before, now in RENAMED.items():
        name = name.replace(before, now)
    return name


def misfit(model: nn.Module, tensors: dict[str, Tensor]) -> str:
    """The first tensor of a model that is missing or has another shape, with the fields of the configuration that say so; or ""."""
    expected = model.state_dict()
    for name, own in expected.items():
        if name not in tensors:
            return f"it has no tensor {name}"
        if (theirs := tensors[name].shape) != own.shape:
            values = dict(getattr(model, "config", ()))
            wrong = set(own.shape) - set(theirs)
            fields = [
                field
                for field, value in values.items()
                if wrong & set(value if isinstance(value, list | tuple) else [value])
                and value is not True
            ]
            by = (
                f"{', '.join(fields)} in the configuration of run.json"
                if fields
                else "the configuration in run.json"
            )
            return f"{name} is {list(theirs)} in the checkpoint, and by {by} it would be {list(own.shape)}"
    extra = next((name for name in tensors if name not in expected), "")
    return f"it has a tensor {extra} that the model does not know" if extra else ""


def check_file(path: Path, expected: FileRecord) -> None:
    """Raises StorageError naming the file unless it has the expected size and sha256."""
    if not path.is_file() or path.is_symlink():
        raise StorageError(f"{path} is missing")
    if path.stat().st_size != expected.bytes:
        raise StorageError(
            f"{path} is damaged: {path.stat().st_size} bytes instead of {expected.bytes}"
        )
    if (found := sha256(path)) != expected.sha256:
        raise StorageError(
            f"{path} is damaged: sha256 {found[:12]}... instead of {expected.sha256[:12]}..."
        )


def save(
    run: Run,
    step: int,
    parts: dict[str, dict[str, Tensor]],
    state: dict,
    keep: set[int] = frozenset(),
) -> Path:
    """Writes the checkpoint of a step, then removes older ones except the newest two valid ones and ``keep``.

    A valid checkpoint of that step with the same content stays as it is. Raises StorageError (disk full, not writable);
    what was there before is then still there.
    """
    root = run.path / "checkpoints"
    final, temporary = root / f"step-{step:08d}", root / f".step-{step:08d}.{os.getpid()}.tmp"
    size = 0
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        files = {}
        for name in PARTS:
            tensors = {
                key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
                for key, value in sorted(parts[name].items())
            }
            data = tensor_bytes(tensors)
            size += len(data)
            path = temporary / f"{name}.safetensors"
            with open(path, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            files[path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        manifest = sealed({"format": MANIFEST_FORMAT, "step": step, "files": files, **state})
        write_atomic(temporary / "manifest.json", manifest)
        _put(temporary, final, manifest)
        flush_folder(root)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, StorageError):
            raise
        raise storage_error(error, final, size) from error
    _retain(run, step, keep)
    return final


def _put(temporary: Path, final: Path, manifest: str) -> None:
    """Gives a new checkpoint its name. One that is there and holds the same stays; another one is renamed, then deleted."""
    if not (final.exists() or final.is_symlink()):
        os.rename(temporary, final)
        return
    with contextlib.suppress(StorageError):
        if sealed(read(final).manifest.model_dump(exclude_unset=True)) == manifest:
            _discard(temporary)
            return
    aside = final.with_name(f".{final.name}.{os.getpid()}.{REPLACED}")
    shutil.rmtree(aside, ignore_errors=True)
    os.rename(final, aside)
    os.rename(temporary, final)
    flush_folder(final.parent)
    _remove(aside)


def _retain(run: Run, step: int, keep: set[int]) -> None:
    """Removes the checkpoints before the newest two valid ones up to ``step``, except ``keep``."""
    valid = 1  # the one that was just written
    for older, path in sorted(run.checkpoint_folders().items(), reverse=True):
        if older >= step:
            continue
        if valid >= 2:
            if older not in keep:
                _discard(path)
            continue
        with contextlib.suppress(StorageError):
            read(path)
            valid += 1


def _discard(path: Path) -> None:
    """Deletes a folder, renamed before, so that none is ever half there."""
    with contextlib.suppress(OSError):
        hidden = path.with_name(f".{path.name.strip('.')}.{os.getpid()}.{DISCARDED}")
        os.rename(path, hidden)
        _remove(hidden)


def _remove(path: Path) -> None:
    path.unlink() if path.is_symlink() else shutil.rmtree(path, ignore_errors=True)


def read(path: Path) -> Checkpoint:
    """The checkpoint in a folder, every file checked. Raises StorageError naming what is wrong."""
    if path.is_symlink():
        raise StorageError(f"{path} is damaged: it is a link, not a folder")
    manifest = read_manifest(path / "manifest.json")
    if path.name != f"step-{manifest.step:08d}":
        raise StorageError(f"{path / 'manifest.json'} is damaged: it is of step {manifest.step}")
    for name, expected in manifest.files.items():
        check_file(path / name, expected)
    return Checkpoint(manifest.step, path, manifest)


def list_checkpoints(run: Run) -> tuple[list[Checkpoint], list[str]]:
    """All valid checkpoints, oldest first, and one line for each damaged one."""
    valid, damaged = [], []
    for _, path in sorted(run.checkpoint_folders().items()):
        try:
            valid.append(read(path))
        except StorageError as error:
            damaged.append(str(error))
    return valid, damaged


def find(
    run: Run, which: str = "last", warn=lambda line: None, until: int | None = None
) -> Checkpoint:
    """The newest valid checkpoint ("last"), the one with the best held-out metric ("best"), or that of a step.

    until: look at those up to this step only. Damaged ones that had to be passed over, and a newest one that is gone,
    are told to ``warn``. Raises
    StorageError when none is left.
    """
    folders = {
        step: path
        for step, path in run.checkpoint_folders().items()
        if until is None or step <= until
    }
    if which not in ("last", "best"):
        if not re.fullmatch(r"[0-9]{1,18}", which):
            raise UsageError(
                f"--checkpoint takes last, best or the number of a step, not '{which}'"
            )
        if int(which) not in folders:
            known = ", ".join(map(str, sorted(folders))) or "none"
            raise UsageError(f"{run.path} has no checkpoint of step {which}: choose from {known}")
        return read(folders[int(which)])
    last, damaged = None, [gone] if until is None and (gone := run.missing_checkpoint()) else []
    for step in sorted(folders, reverse=True):
        try:
            last = read(folders[step])
            break
        except StorageError as error:
            damaged.append(str(error))
    if last is None:
        raise StorageError(
            f"{run.path} has no valid checkpoint" + (f": {damaged[0]}" if damaged else "")
        )
    for line in damaged:
        warn(f"{line}; using step {last.step} instead")
    best = last.manifest.best.step if last.manifest.best else last.step
    if which == "last" or best == last.step:
        return last
    try:
        return read(folders[best])
    except (KeyError, StorageError):
        warn(
            f"the best checkpoint (step {best}) is not there any more; using the last (step {last.step})"
        )
        return last


def discard_after(run: Run, step: int) -> None:
    """Deletes the checkpoints of later steps: those of a course that training does not take any more."""
    for later, path in run.checkpoint_folders().items():
        if later > step:
            _discard(path)


def remove_leftovers(run: Run) -> None:
    """Deletes what a killed save left behind, and gives a checkpoint back its name that it had just lost. Call with the run locked."""
    root = run.path / "checkpoints"
    for path in root.glob(f".step-*.{REPLACED}"):
        final = root / path.name[1:].split(".")[0]
        with contextlib.suppress(OSError):
            if not final.exists():
                os.rename(path, final)
    for ending in ("tmp", REPLACED, DISCARDED):
        for path in root.glob(f".step-*.{ending}"):
            with contextlib.suppress(OSError):
                _remove(path)
    for pattern in (
        ".run.json.*.tmp",
        ".events.jsonl.*.tmp",
        ".sessions.jsonl.*.tmp",
        "samples/.progress-*.npy.*.tmp",
    ):
        for path in run.path.glob(pattern):
            with contextlib.suppress(OSError):
                path.unlink()
