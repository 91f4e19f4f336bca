"""Sets of samples to be measured."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.limits import check_memory
from ..core.rng import Rng
from ..data.dataset import Dataset
from ..inference.sample import sample_blocks
from ..runs.load import LoadedRun

FEATURES = 2048  # numbers that the largest feature map computes of an example
OVERSHOOT = 10  # pixels beyond this are an error; linear models go a little beyond [-1, 1]


@dataclass(frozen=True)
class Samples:
    """n samples in model form, drawn block by block, so that large ones are never all in memory.

    y      the labels that were asked for (n,), or None
    drawn  how they were drawn, in a few words: part of the protocol
    """

    n: int
    blocks: Callable[[], Iterator[Tensor]]
    y: Tensor | None = None
    drawn: str = ""

    @staticmethod
    def of(x: Tensor, y: Tensor | None = None, drawn: str = "") -> "Samples":
        return Samples(len(x), lambda: iter(x.split(1000)), y, drawn)

    def checked_blocks(self, dataset: Dataset) -> Iterator[Tensor]:
        """The blocks as a user receives them.

        Raises DataError unless they are finite and have the shape and range of the data.
        """
        shape = dataset.spec.shape
        is_image = dataset.spec.kind == "image"
        for x in self.blocks():
            if tuple(x.shape[1:]) != shape:
                raise DataError(
                    f"the samples have shape {tuple(x.shape[1:])}, {dataset.name} has {shape}: "
                    "nothing can be measured"
                )
            if not bool(torch.isfinite(x).all()):
                raise DataError(
                    "some samples are not finite numbers (NaN or infinite): nothing can be "
                    "measured; did the training diverge?"
                )
            largest = float(x.abs().max())
            if is_image and largest > OVERSHOOT:
                raise DataError(
                    f"images lie in [-1, 1], and these samples reach {largest:.3g}: nothing can be "
                    "measured"
                )
            yield x.clamp(-1, 1) if is_image else dataset.as_delivered(x)


def draw_samples(loaded: LoadedRun, n: int, seed: int) -> Samples:
    """Samples 0 .. n-1 of a run as they are measured: with default options.

    A conditional model draws classes in the proportions of the training set, or the captions of the
    test examples. Where the data are black and white, each pixel of a sample is drawn with the
    probability of its grey level: a mean is not an example.
    """
    dataset = loaded.dataset
    spec = dataset.spec
    check_memory(
        n * 8 * (spec.dims + FEATURES),
        f"--samples {n}: so many samples and their features",
        "ask for fewer",
    )
    rng = Rng(seed, ("drawn",))
    y = None
    if loaded.model.conditional and spec.caption:
        captions = torch.from_numpy(dataset.split("test").y)
        y = captions[torch.arange(n) % len(captions)]
    elif loaded.model.conditional:
        counts = np.bincount(dataset.split("train").y, minlength=spec.classes)
        y = rng.categories("classes", counts / counts.sum(), n)
    binary = spec.levels == 2

    def blocks():
        done = 0
        for x in sample_blocks(loaded, n, seed, labels=y):
            if binary:
                x = (rng.at(done).uniform("pixels", x.shape) < (x.cpu() + 1) / 2).float() * 2 - 1
            done += len(x)
            yield x

    drawn = "as sampled"
    if binary:
        drawn = "black or white"
    elif dataset.columns is not None:
        drawn = "as written"
    return Samples(n, blocks, y, drawn)
