"""Samples of the same noise over the course of training: what a picture says that a curve does not.

Unusual: they are saved as plain arrays in the model's own range of values, not as pictures, so that any figure can be
made of them later. They are the first samples of ``fromnoise sample --seed 0`` with the weights of that day, of a GAN the first
candidates (``--candidates 1``).
"""

import io
import math
import re
from pathlib import Path

import numpy as np
import torch

from ..core.config import BaseConfig
from ..core.errors import StorageError
from ..core.family import Family
from ..core.files import make_folder, read_limited, write_atomic
from ..core.rng import Rng
from ..data.dataset import Dataset
from .directory import Run

IMAGES, POINTS = 8, 500  # samples that are kept of each interval: images or texts, points
LARGEST = 2**30  # bytes of a file of samples


@torch.no_grad()
def save_progress_samples(
    run: Run, model: Family, dataset: Dataset, step: int, options: BaseConfig
) -> Path:
    """Writes samples/progress-STEP.npy, whose event keeps its digest: images uint8 (8, H, W[, 3]), tokens int64 (8, T), values float32 (500, *shape). Returns the file.

    model: with the averaged weights, in eval mode; options: how it samples while it trains. A function of the weights alone: a
    resumed run that comes by the same step again writes the same bytes. Raises StorageError.
    """
    spec, device = dataset.spec, next(iter(model.parameters()), torch.zeros(())).device
    n = POINTS if spec.kind == "vector" else IMAGES
    y = dataset.default_conditions(range(n)).to(device) if model.conditional else None
    x = model.sample(n, y, options, Rng(0, ("sample",), device=device).per_row(range(n)))
    values = dataset.to_pixels(x) if spec.kind == "image" else x.detach().cpu().numpy()
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    path = run.path / "samples" / f"progress-{step:08d}.npy"
    make_folder(path.parent)
    write_atomic(path, buffer.getvalue())
    return path


def list_progress_samples(run: Run, until: int | None = None) -> dict[int, Path]:
    """Step -> file, in order of the steps: the start, and what the run's events know, so nothing that was given up."""
    known = {0} | {event["step"] for event in run.events("interval")}
    found = {
        int(m[1]): path
        for path in (run.path / "samples").glob("progress-*.npy")
        if (m := re.fullmatch(r"progress-([0-9]{1,18})\.npy", path.name))
    }
    return {
        step: found[step]
        for step in sorted(found)
        if step in known and (until is None or step <= until)
    }


def read_progress_samples(path: Path) -> np.ndarray:
    """Raises StorageError when the file is damaged, or claims to hold more than it does."""
    data = read_limited(path, LARGEST)
    try:
        buffer = io.BytesIO(data)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, _, dtype = read_header[np.lib.format.read_magic(buffer)](buffer)
        if (
            dtype.hasobject
            or math.prod(shape) * dtype.itemsize != len(data) - buffer.tell()
            or not math.prod(shape)
        ):
            raise ValueError("its size is not the one that it claims")
        return np.load(io.BytesIO(data), allow_pickle=False)
    except (
        OSError,
        ValueError,
        EOFError,
        KeyError,
        TypeError,
        SyntaxError,
        RecursionError,
        MemoryError,
        OverflowError,
    ) as error:
        raise StorageError(
            f"{path} is damaged: delete it, and the figure does without it"
        ) from error
