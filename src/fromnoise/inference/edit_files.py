"""Editing images from the command line: which images are edited, and how results are written."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.files import make_folder, write_atomic
from ..core.images import image_grid, png_bytes, stack_rows
from ..runs.load import LoadedRun
from .masks import build_mask
from .reconstruct import own_images
from .write import to_data_units, write

GREY = np.uint8(128)  # shows what is filled in


def load_images(
    loaded: LoadedRun, n: int, images: Path | None = None, label: str | None = None
) -> tuple[Tensor, Tensor | None]:
    """The first n images of a folder or of the test split, and the labels of a conditional model.

    label: one class, name or number, for all images. Without it test images keep their own labels
    or captions, and those of a class that has no training example are left out. Raises UsageError,
    DataError.
    """
    dataset = loaded.dataset
    check_images(loaded, images, label)
    if images is None:
        batch = dataset.batch("test", editable_rows(loaded, n, label), device=loaded.device)
        x = batch.x
        y = batch.y if loaded.model.conditional else None
    else:
        x = own_images(loaded, images, n).to(loaded.device)
        y = None
    if label is not None:
        number = dataset.class_number(label)
        dataset.require_learned_classes([number])
        y = torch.full((len(x),), number, device=loaded.device)
    return x, y


def check_images(loaded: LoadedRun, images: Path | None, label: str | None) -> None:
    """Raises UsageError unless a model of images can edit these images with this label."""
    spec = loaded.dataset.spec
    conditional = loaded.model.conditional
    if spec.kind != "image":
        raise UsageError(
            "edit changes images: for other data use run.complete, run.redraw, run.vary and "
            "run.between in Python"
        )
    if label is not None and not (conditional and spec.classes):
        raise UsageError("this model was not trained with labels: leave --label out")
    if images is None or label is not None or not conditional:
        return
    if spec.classes:
        raise UsageError("this model needs labels, and your own images have none: add --label")
    raise UsageError("this model needs captions, and your own images have none: leave --images out")


def editable_rows(loaded: LoadedRun, n: int, label: str | None) -> slice | list[int]:
    """Rows of the first n test images that the model can edit."""
    dataset = loaded.dataset
    if label is not None or not (loaded.model.conditional and dataset.spec.classes):
        return slice(0, n)
    learned = np.isin(dataset.split("test").labels, dataset.learned_classes)
    rows = np.flatnonzero(learned)[:n].tolist()
    if not rows:
        raise UsageError("no test image is of a class that has training examples: add --label")
    return rows


def save_edits(
    loaded: LoadedRun, x: Tensor, edited: Tensor, target: Path, fill=None, columns: int = 16
) -> list[Path]:
    """Writes edited images: .png as a sheet, other endings as ``write`` does. Returns the files.

    x (N, *shape), edited (N, draws, *shape): each image above its draws, in a column of the sheet;
    what ``fill`` names is grey in it. x (N, 2, *shape), edited (N, n, *shape): pairs with the
    images between them, in a row.
    """
    dataset = loaded.dataset
    if target.suffix.lower() != ".png":
        return write(dataset, edited.flatten(0, 1), target)
    if x.ndim == edited.ndim:
        paths = torch.cat([x[:, :1], edited, x[:, 1:]], 1)
        sheet = image_grid(to_data_units(dataset, paths.flatten(0, 1)), paths.shape[1])
    else:
        originals = to_data_units(dataset, x)
        if fill is not None:
            mask = build_mask(fill, dataset.spec)[0].numpy()
            if originals.ndim == 4:
                mask = mask[..., None]
            originals = np.where(mask, GREY, originals)
        draws = [to_data_units(dataset, edited[:, k]) for k in range(edited.shape[1])]
        sheet = image_grid(stack_rows([originals, *draws], columns), min(columns, len(x)))
    make_folder(target.parent)
    write_atomic(target, png_bytes(sheet))
    return [target]
