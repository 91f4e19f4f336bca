"""Stacked MNIST: three random digits are the channels of one colour image, which makes 1,000 modes.

The protocol of Lin et al. 2018 ("PacGAN", after Metz et al. 2017, "Unrolled GANs"): 128,000
synthesised training images; each channel of 26,000 samples is classified by an MNIST classifier,
and a mode counts as covered if one sample has it. Theirs draws from all 70,000 digits. Here each
split draws from its own part of MNIST, so that no held-out image holds a training digit.
"""

import numpy as np

from ...core.config import build
from ...core.rng import Rng
from ..config import ImageOptions, SplitSeed
from ..dataset import Dataset, Split
from ..image_dataset import image_dataset
from ..source import Source
from . import idx

NAMES = {
    "stacked-mnist": "159,000 colour images of three MNIST digits each, 28x28, 1000 classes (from "
    "mnist)"
}
# The test has as many images as the protocol has samples, so that real images can replace these.
# Each of MNIST's 10,000 test digits occurs there 7.8 times, each of its 5,000 validation digits 3
# times in validation, a training digit 7 times in training.
COUNTS = {"train": 128_000, "validation": 5_000, "test": 26_000}


class Stack:
    """Images whose channels are rows of others, combined when indexed: 128,000 would take 301 MB.

    images (M, H, W); rows (N, C): example i is images[rows[i]], (C, H, W). Indexed as an array of
    shape (N, C, H, W).
    """

    def __init__(self, images: np.ndarray, rows: np.ndarray):
        self.images = images
        self.rows = rows
        self.shape = (*rows.shape, *images.shape[1:])
        self.dtype = images.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index) -> np.ndarray:
        return self.images[self.rows[index]]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)


def load(name: str, options: SplitSeed) -> Dataset:
    """Classes 100 a + 10 b + c of the digits a, b, c in red, green and blue.

    Raises as MNIST itself does, and UsageError.
    """
    seed = {"split_seed": options.split_seed}
    mnist = idx.load("mnist", build(idx.Options, seed))
    rng = Rng(options.split_seed)
    splits = {}
    for part, count in COUNTS.items():
        digits = mnist.split(part)
        rows = rng.at("stacked", part).integers("rows", len(digits), (count, 3)).numpy()
        y = digits.y[rows] @ np.array([100, 10, 1])
        splits[part] = Split(Stack(digits.x[:, 0], rows), y, 256)
    class_names = tuple(f"{i:03}" for i in range(1000))
    settings = build(ImageOptions, seed)
    return image_dataset(
        name, splits, class_names, settings, channels_of="mnist", notes=mnist.notes
    )


SOURCE = Source(load, SplitSeed, NAMES, title="{name}, which is made of MNIST as it is", place=60)
