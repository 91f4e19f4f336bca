"""From a run to samples. Sample i depends on (seed, i) only."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from .core.config import build
from .core.errors import UsageError
from .core.files import make_folder, write_atomic
from .core.picture import image_grid, png_bytes
from .core.rng import Rng
from .core.spec import check_labels
from .data.dataset import Dataset
from .training.launch import Restored

# Samples are always made in blocks of this size, the last one filled up: kernels round differently for
# different batch sizes, and so a sample would depend on how many others were asked for.
BLOCK = 64


@torch.no_grad()
def blocks(
    restored: Restored, n: int, seed: int = 0, label: int | None = None, options: dict | None = None, labels: torch.Tensor | None = None
) -> Iterator[torch.Tensor]:
    """The samples 0 .. n-1 in model form, at most BLOCK at a time, (b, *shape).

    label: one class for all, or labels: (n,), one for each; with neither a conditional model goes through its classes
    in turn. Raises UsageError.
    """
    if n < 1:
        raise UsageError(f"-n takes a number from 1 on, not {n}")
    model, spec = restored.model, restored.dataset.spec
    conditional = getattr(model.config, "conditional", False)
    if label is not None:
        if not conditional:
            raise UsageError("this model was not trained with labels (--conditional): leave --label out")
        check_labels([label], 1, spec.classes)
    options = build(restored.family.Options, options or {})
    rng = Rng(seed, ("sample",), device=restored.device)
    for start in range(0, n, BLOCK):
        rows = range(start, start + BLOCK)
        y = None
        if conditional and labels is not None:
            y = labels[torch.tensor(rows) % n].to(restored.device)
        elif conditional:
            y = torch.tensor([row % spec.classes if label is None else label for row in rows], device=restored.device)
        x = model.sample(BLOCK, y, options, rng.per_row(rows))
        yield x[: min(BLOCK, n - start)]


def sample(restored: Restored, n: int, seed: int = 0, label: int | None = None, options: dict | None = None) -> torch.Tensor:
    """n samples in model form (n, *shape)."""
    return torch.cat(list(blocks(restored, n, seed, label, options)))


def in_own_units(dataset: Dataset, x: torch.Tensor) -> np.ndarray | dict:
    """Model form -> what the user gave: uint8 images (N, H, W[, C]), points (N, D), a table as {column: values}."""
    if dataset.spec.kind == "image":
        return dataset.to_pixels(x)
    values = x.detach().cpu().numpy()
    return dataset.columns.undo(values) if dataset.columns is not None else values


def write(dataset: Dataset, x: torch.Tensor, target: Path) -> list[Path]:
    """Writes samples in the form that the ending names: folder of PNGs, .png grid, .npy, .csv. Returns the files.

    Raises UsageError for an ending that does not suit the data, StorageError.
    """
    own = in_own_units(dataset, x)
    suffix = target.suffix.lower()
    is_image = dataset.spec.kind == "image"
    if suffix not in (".npy", ".csv", ".png", "") or (is_image and suffix == ".csv") or (not is_image and suffix in (".png", "")):
        allowed = "a folder, .png or .npy" if is_image else ".npy or .csv"
        raise UsageError(f"-o {target}: this data is written as {allowed}")
    make_folder(target.parent)
    if suffix == ".npy":
        array = own if isinstance(own, np.ndarray) else np.column_stack([np.asarray(v) for v in own.values()])
        if array.dtype.kind not in "uif":
            raise UsageError(f"-o {target}: a table with categories is written as .csv")
        buffer = io.BytesIO()
        np.save(buffer, array)
        write_atomic(target, buffer.getvalue())
    elif suffix == ".csv":
        columns = own if isinstance(own, dict) else {f"x{i}": column for i, column in enumerate(own.T)}
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values()))
        write_atomic(target, buffer.getvalue())
    elif suffix == ".png":
        write_atomic(target, png_bytes(image_grid(own)))
    else:
        make_folder(target)
        if any(target.iterdir()):
            raise UsageError(f"-o {target}: the folder is not empty, and nothing is overwritten")
        files = [target / f"{i:06d}.png" for i in range(len(own))]
        for path, image in zip(files, own):
            write_atomic(path, png_bytes(image))
        return files
    return [target]

