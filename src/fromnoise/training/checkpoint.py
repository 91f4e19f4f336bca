"""Checkpoints: safetensors and a manifest with their digests, whole or not there.

    checkpoints/step-00001200/{model,ema,optim}.safetensors   manifest.json

A checkpoint is written into a hidden folder, flushed to the disk, given its manifest last, and renamed. What
has no valid manifest is not a checkpoint. A flipped bit, a short file or a wrong name is refused by digest.
"""

import contextlib
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
from ..core.files import canonical_json, flush_folder, read_json, sha256, storage_error, write_atomic
from ..core.run import Run

FORMAT = 1
PARTS = ("model", "ema", "optim")


@dataclass(frozen=True)
class Checkpoint:
    """step; folder; manifest: the digests and the state of the loop (all numbers exact)."""

    step: int
    path: Path
    manifest: dict

    def tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of one part, checked against their digest. Raises StorageError."""
        path = self.path / f"{part}.safetensors"
        check_file(path, self.manifest["files"][path.name])
        try:
            return parse_tensors(path.read_bytes())
        except SafetensorError as error:
            raise StorageError(f"{path} is damaged: {error}") from None

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
        """Gives a model tensors of this checkpoint. Raises StorageError where this version of the family has other weights."""
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise StorageError(f"{self.path} does not fit this version of its family: {str(error).splitlines()[-1].strip()}") from None


def check_file(path: Path, expected: dict) -> None:
    """Raises StorageError naming the file unless it has the expected size and sha256."""
    if not path.is_file() or path.is_symlink():
        raise StorageError(f"{path} is missing")
    if path.stat().st_size != expected["bytes"]:
        raise StorageError(f"{path} is damaged: {path.stat().st_size} bytes instead of {expected['bytes']}")
    if (found := sha256(path)) != expected["sha256"]:
        raise StorageError(f"{path} is damaged: sha256 {found[:12]}... instead of {expected['sha256'][:12]}...")


def save(run: Run, step: int, parts: dict[str, dict[str, Tensor]], state: dict, keep: set[int] = frozenset()) -> Path:
    """Writes the checkpoint of a step, then removes older ones except the newest two and ``keep``.

    Raises StorageError (disk full, not writable); what was there before is then still there.
    """
    root = run.path / "checkpoints"
    final, temporary = root / f"step-{step:08d}", root / f".step-{step:08d}.{os.getpid()}.tmp"
    size = 0
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        files = {}
        for name in PARTS:
            tensors = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in sorted(parts[name].items())}
            data = tensor_bytes(tensors)
            size += len(data)
            path = temporary / f"{name}.safetensors"
            with open(path, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            files[path.name] = {"bytes": len(data), "sha256": sha256(path)}
        manifest = {"format": FORMAT, "step": step, "files": files, **state}
        write_atomic(temporary / "manifest.json", canonical_json(manifest))
        if final.exists():  # the same step again, after a resume: the same content
            shutil.rmtree(final)
        os.rename(temporary, final)
        flush_folder(root)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, StorageError):
            raise
        raise storage_error(error, final, size) from error
    steps = sorted(_steps(root))
    for old in steps[:-2]:
        if old not in keep:
            shutil.rmtree(root / f"step-{old:08d}", ignore_errors=True)
    return final


def _steps(root: Path) -> dict[int, Path]:
    return {int(m[1]): p for p in root.glob("step-*") if (m := re.fullmatch(r"step-(\d{8,})", p.name))}


def read(path: Path) -> Checkpoint:
    """The checkpoint in a folder, every file checked. Raises StorageError naming what is wrong."""
    manifest = read_json(path / "manifest.json")
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict) or not isinstance(manifest.get("step"), int):
        raise StorageError(f"{path / 'manifest.json'} is damaged: not a manifest")
    if manifest.get("format", 0) > FORMAT:
        raise StorageError(f"{path} was written by a newer fromnoise: update this one")
    if set(manifest["files"]) != {f"{part}.safetensors" for part in PARTS}:
        raise StorageError(f"{path / 'manifest.json'} is damaged: it names other files than {', '.join(PARTS)}")
    for name, expected in manifest["files"].items():
        if not isinstance(expected, dict) or set(expected) != {"bytes", "sha256"}:
            raise StorageError(f"{path / 'manifest.json'} is damaged: no digest for {name}")
        check_file(path / name, expected)
    return Checkpoint(manifest["step"], path, manifest)


def examine(run: Run) -> tuple[list[Checkpoint], list[str]]:
    """All valid checkpoints, oldest first, and one line for each damaged one."""
    valid, damaged = [], []
    for _, path in sorted(_steps(run.path / "checkpoints").items()):
        try:
            valid.append(read(path))
        except StorageError as error:
            damaged.append(str(error))
    return valid, damaged


def find(run: Run, which: str = "last", warn=lambda line: None, until: int | None = None) -> Checkpoint:
    """The newest valid checkpoint ("last"), the one with the best held-out metric ("best"), or that of a step.

    until: look at those up to this step only. Damaged ones that had to be passed over are told to ``warn``. Raises
    StorageError when none is left.
    """
    folders = {step: path for step, path in _steps(run.path / "checkpoints").items() if until is None or step <= until}
    if which not in ("last", "best"):
        if not which.isdigit():
            raise UsageError(f"--checkpoint takes last, best or the number of a step, not '{which}'")
        if int(which) not in folders:
            known = ", ".join(map(str, sorted(folders))) or "none"
            raise UsageError(f"{run.path} has no checkpoint of step {which}: choose from {known}")
        return read(folders[int(which)])
    last, damaged = None, []
    for step in sorted(folders, reverse=True):
        try:
            last = read(folders[step])
            break
        except StorageError as error:
            damaged.append(str(error))
    if last is None:
        raise StorageError(f"{run.path} has no valid checkpoint" + (f": {damaged[0]}" if damaged else ""))
    for line in damaged:
        warn(f"{line}; using step {last.step} instead")
    best = (last.manifest.get("best") or {}).get("step", last.step)
    if which == "last" or best == last.step:
        return last
    try:
        return read(folders[best])
    except (KeyError, StorageError):
        warn(f"the best checkpoint (step {best}) is not there any more; using the last (step {last.step})")
        return last


def discard_after(run: Run, step: int) -> None:
    """Deletes the checkpoints of later steps: those of a course that training does not take any more."""
    for later, path in _steps(run.path / "checkpoints").items():
        if later > step:
            shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(run: Run) -> None:
    """Deletes what a killed save left behind. Call with the run locked."""
    for path in (run.path / "checkpoints").glob(".step-*.tmp"):
        with contextlib.suppress(OSError):
            shutil.rmtree(path)
