"""The last steps of every image source: binarisation and digest."""

from collections.abc import Sequence

import numpy as np

from ..core.rng import Rng
from ..core.spec import DataSpec
from .config import ImageOptions
from .dataset import Dataset, Split, compute_digest

CHUNK = 1024  # images that are binarised at once


def image_dataset(
    name: str, images: dict[str, Split], class_names: Sequence[str], config: ImageOptions, **fields
) -> Dataset:
    """Data set of images stored as levels (N, C, H, W). fields: further ones of ``Dataset``."""
    first = next(iter(images.values()))
    spec = DataSpec("image", first.x.shape[1:], levels=first.levels, classes=len(class_names))
    digest = fields.pop("digest", None)
    spec, splits = binarise_images(spec, images, config)
    return Dataset(
        name,
        spec,
        splits,
        digest or compute_digest(spec, splits),
        class_names=tuple(class_names),
        binarise=config.binarise,
        **fields,
    )


def binarise_images(
    spec: DataSpec, splits: dict[str, Split], config: ImageOptions
) -> tuple[DataSpec, dict[str, Split]]:
    """Applies ``config.binarise``: pixel value v of L levels is white with probability v / (L - 1).

    Fixed draws are made here; draws that are new at each step are left to ``Dataset.batch``.
    """
    if config.binarise == "none":
        return spec, splits
    spec = DataSpec("image", spec.shape, levels=2, classes=spec.classes)
    binary = {}
    for name, split in splits.items():
        if config.binarise == "dynamic" and name == "train":
            binary[name] = split
        else:
            x = _draw_binary(split, Rng(config.split_seed).at("binarise", name))
            binary[name] = Split(x, split.y, 2, split.factors)
    return spec, binary


def _draw_binary(split: Split, rng: Rng) -> np.ndarray:
    """One draw of 0 or 1 for each pixel of a split, uint8 (N, C, H, W)."""
    x = np.empty(split.x.shape, np.uint8)
    for start in range(0, len(x), CHUNK):
        rows = range(start, min(start + CHUNK, len(x)))
        uniform = rng.per_row(rows).uniform("binarise", (len(rows), *x.shape[1:])).numpy()
        x[start : start + CHUNK] = uniform * (split.levels - 1) < split.x[start : start + CHUNK]
    return x
