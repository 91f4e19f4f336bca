"""Checkpoints: safetensors files and a manifest with their digests. Reading; see checkpoint_writer.

    checkpoints/step-00001200/{model,ema,optim}.safetensors   manifest.json

A folder without a valid manifest is not a checkpoint. A flipped bit, a short file or a wrong name is
refused by digest.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as parse_tensors
from torch import Tensor, nn

from ..core.errors import StorageError, UsageError
from ..core.files import sha256
from ..core.output import Say, ignore_message
from .directory import Run
from .records.manifest import FileRecord, Manifest, read_manifest

RENAMED = {".told.": ".conditioning."}  # parts of tensor names: in earlier versions, now
MAX_DIMENSIONS = 64  # of a tensor: torch computes with no more
PARSE_ERRORS = (
    SafetensorError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    OverflowError,
)


@dataclass(frozen=True)
class Checkpoint:
    """manifest: the digests and the state of the loop, exact numbers."""

    step: int
    path: Path
    manifest: Manifest

    def tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of one part, checked against their digest. Raises StorageError."""
        path = self.path / f"{part}.safetensors"
        check_file(path, self.manifest.files[path.name])
        try:
            tensors = parse_tensors(path.read_bytes())
            if any(tensor.ndim > MAX_DIMENSIONS for tensor in tensors.values()):
                raise ValueError(f"a tensor has more than {MAX_DIMENSIONS} dimensions")
            return {current_name(name): tensor for name, tensor in tensors.items()}
        except PARSE_ERRORS as error:
            raise StorageError(f"{path} is damaged: {str(error)[:200]}") from None

    def size(self, part: str = "model") -> tuple[int, int]:
        """The numbers of elements and of tensors of one part, from its header alone.

        Raises StorageError.
        """
        path = self.path / f"{part}.safetensors"
        try:
            with safe_open(path, "pt") as file:
                shapes = [file.get_slice(name).get_shape() for name in file.keys()]
        except (SafetensorError, OSError) as error:
            raise StorageError(f"{path} is damaged: {error}") from None
        return sum(map(math.prod, shapes)), len(shapes)

    def load_into(self, model: nn.Module, tensors: dict[str, Tensor]) -> None:
        """Loads tensors of this checkpoint into a model.

        Raises StorageError if they do not fit, if a parameter is not finite, or a buffer is NaN.
        """
        parameters = {name for name, _ in model.named_parameters()}
        for name, value in tensors.items():
            if not is_valid(value, name in parameters):
                raise StorageError(
                    f"{self.path} holds values that are not finite, in {name}: choose another "
                    "checkpoint with --checkpoint, or train again"
                )
        try:
            model.load_state_dict(tensors)
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
            reason = explain_misfit(model, tensors) or str(error).splitlines()[-1].strip()
            raise StorageError(
                f"{self.path} does not fit this version of its family: {reason}"
            ) from None


def is_valid(value: Tensor, is_parameter: bool) -> bool:
    """False for a parameter that is not finite, and for a buffer with NaN (infinity is allowed)."""
    if not value.is_floating_point():
        return True
    valid = torch.isfinite(value) if is_parameter else ~torch.isnan(value)
    return bool(valid.all())


def current_name(name: str) -> str:
    """The present name of a tensor of an earlier version."""
    for before, now in RENAMED.items():
        name = name.replace(before, now)
    return name


def explain_misfit(model: nn.Module, tensors: dict[str, Tensor]) -> str:
    """The first difference between a model's tensors and these, or "".

    For a wrong shape it names the fields of the configuration that have the wrong size.
    """
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name not in tensors:
            return f"it has no tensor {name}"
        if tensors[name].shape != tensor.shape:
            wrong_sizes = set(tensor.shape) - set(tensors[name].shape)
            fields = fields_with_values(dict(getattr(model, "config", ())), wrong_sizes)
            source = "the configuration in run.json"
            if fields:
                source = f"{', '.join(fields)} in the configuration of run.json"
            return (
                f"{name} is {list(tensors[name].shape)} in the checkpoint, "
                f"and by {source} it would be {list(tensor.shape)}"
            )
    extra = next((name for name in tensors if name not in expected), "")
    return f"it has a tensor {extra} that the model does not have" if extra else ""


def fields_with_values(config: dict, sizes: set[int]) -> list[str]:
    """The fields of a configuration that hold one of these sizes."""
    fields = []
    for field, value in config.items():
        values = set(value) if isinstance(value, list | tuple) else {value}
        if value is not True and sizes & values:  # True == 1
            fields.append(field)
    return fields


def check_file(path: Path, expected: FileRecord) -> None:
    """Raises StorageError unless the file has the expected size and sha256."""
    if not path.is_file() or path.is_symlink():
        raise StorageError(f"{path} is missing")
    size = path.stat().st_size
    if size != expected.bytes:
        raise StorageError(f"{path} is damaged: {size} bytes instead of {expected.bytes}")
    digest = sha256(path)
    if digest != expected.sha256:
        raise StorageError(
            f"{path} is damaged: sha256 {digest[:12]}... instead of {expected.sha256[:12]}..."
        )


def read(path: Path) -> Checkpoint:
    """The checkpoint in a folder, all files checked. Raises StorageError."""
    if path.is_symlink():
        raise StorageError(f"{path} is damaged: it is a link, not a folder")
    manifest = read_manifest(path / "manifest.json")
    if path.name != f"step-{manifest.step:08d}":
        raise StorageError(f"{path / 'manifest.json'} is damaged: it is of step {manifest.step}")
    for name, expected in manifest.files.items():
        check_file(path / name, expected)
    return Checkpoint(manifest.step, path, manifest)


def list_checkpoints(run: Run) -> tuple[list[Checkpoint], list[str]]:
    """All valid checkpoints, oldest first, and a sentence for each damaged one."""
    valid, damaged = [], []
    for _, path in sorted(run.checkpoint_folders().items()):
        try:
            valid.append(read(path))
        except StorageError as error:
            damaged.append(str(error))
    return valid, damaged


def find(
    run: Run,
    which: str = "last",
    warn: Say = ignore_message,
    until: int | None = None,
) -> Checkpoint:
    """One checkpoint of a run.

    which: "last" (the newest valid one), "best" (by validation value), or a step.
    warn: receives a message for each damaged or missing checkpoint that was skipped.
    until: only the checkpoints up to this step.
    Raises StorageError if no valid checkpoint is left, UsageError for a step without a checkpoint.
    """
    folders = run.checkpoint_folders()
    if until is not None:
        folders = {step: path for step, path in folders.items() if step <= until}
    if which not in ("last", "best"):
        return _find_step(run, which, folders)
    last = _find_last(run, folders, warn, until is None)
    best = last.manifest.best.step if last.manifest.best else last.step
    if which == "last" or best == last.step:
        return last
    try:
        return read(folders[best])
    except (KeyError, StorageError):
        warn(
            f"the best checkpoint (step {best}) is not there any more; "
            f"using the last (step {last.step})"
        )
        return last


def _find_step(run: Run, step: str, folders: dict[int, Path]) -> Checkpoint:
    if not re.fullmatch(r"[0-9]{1,18}", step):
        raise UsageError(f"--checkpoint takes last, best or the number of a step, not '{step}'")
    if int(step) not in folders:
        known = ", ".join(map(str, sorted(folders))) or "none"
        raise UsageError(f"{run.path} has no checkpoint of step {step}: choose from {known}")
    return read(folders[int(step)])


def _find_last(
    run: Run,
    folders: dict[int, Path],
    warn: Say,
    warn_of_missing: bool,
) -> Checkpoint:
    problems = []
    if warn_of_missing and (missing := run.missing_checkpoint()):
        problems.append(missing)
    for step in sorted(folders, reverse=True):
        try:
            last = read(folders[step])
        except StorageError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            warn(f"{problem}; using step {last.step} instead")
        return last
    reason = f": {problems[0]}" if problems else ""
    raise StorageError(f"{run.path} has no valid checkpoint{reason}")
