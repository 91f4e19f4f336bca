"""Arrays from the user to the tensors that a model takes."""

import numpy as np
import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.spec import check_labels
from ..data.dataset import Dataset


def to_model_input(dataset: Dataset, x: np.ndarray, exact: bool = False) -> Tensor:
    """Images uint8 (N, H, W[, C]), or vectors as the model takes them -> x (N, *shape).

    exact: accept only the grey values of the data, which a likelihood needs. Raises UsageError.
    """
    spec = dataset.spec
    x = np.asarray(x)
    if spec.kind == "image":
        inputs = scale_pixels(x, spec.levels, exact)
    else:
        inputs = torch.as_tensor(x, dtype=torch.float32)
    if tuple(inputs.shape[1:]) != spec.shape:
        raise UsageError(
            f"examples of shape {tuple(inputs.shape[1:])} were given, this model takes {spec.shape}"
        )
    return inputs


def scale_pixels(images: np.ndarray, levels: int, exact: bool) -> Tensor:
    """uint8 (N, H, W[, C]) -> (N, C, H, W) in [-1, 1]; exact: see ``to_model_input``."""
    if images.dtype != np.uint8:
        raise UsageError("images must be uint8, 0 .. 255, (N, H, W) or (N, H, W, C)")
    if images.ndim == 3:
        images = images[..., None]
    step = (levels - 1) / 255
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float() * step
    if exact:
        if (values - values.round()).abs().max() > 0.51 * step:
            raise UsageError(
                f"this model's pixels have {levels} levels: give images with those grey values only"
            )
        values = values.round()
    return values * (2 / (levels - 1)) - 1


def to_conditions(dataset: Dataset, y, n: int) -> Tensor | None:
    """n labels or captions -> the y of a conditional model; None -> None. Raises UsageError.

    Numbers are positions of classes from 0 on, as in ``dataset.split("test").labels``; strings are
    names of classes, or captions if the data have captions.
    """
    if y is None:
        return None
    if dataset.caption_codec is not None:
        if len(y) != n or not all(isinstance(caption, str) for caption in y):
            raise UsageError(f"this model's conditions are captions: give {n} strings")
        return dataset.caption_codec.encode(y)
    if any(isinstance(label, str) for label in y):
        y = [dataset.class_number(label) if isinstance(label, str) else label for label in y]
    check_labels(y, n, dataset.spec.classes)
    dataset.require_learned_classes(np.asarray(y, np.int64))
    return torch.as_tensor(np.asarray(y), dtype=torch.int64)
