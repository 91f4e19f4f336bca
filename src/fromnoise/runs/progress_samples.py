"""Samples from the same noise over the course of training.

They are saved as plain arrays in the data's range of values, so that any figure can be made of them
later. They are the first samples of ``fromnoise sample --seed 0`` with the averaged weights of that
step; for a GAN the first candidates (``--candidates 1``).
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

IMAGES = 8  # images or texts that are saved for each interval
POINTS = 500  # vectors
MAX_BYTES = 2**30  # of a file of samples
HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    SyntaxError,
    RecursionError,
    MemoryError,
    OverflowError,
)


@torch.no_grad()
def save_progress_samples(
    run: Run, model: Family, dataset: Dataset, step: int, options: BaseConfig
) -> Path:
    """Writes samples/progress-STEP.npy and returns the path; the event of the step has its digest.

    Images are uint8 (8, H, W[, 3]), tokens int64 (8, T), vectors float32 (500, *shape).
    model: with the averaged weights, in eval mode; options: of sampling during training.
    A function of the weights alone: a resumed run that repeats the step writes the same bytes.
    Raises StorageError.
    """
    spec = dataset.spec
    device = next(iter(model.parameters()), torch.zeros(())).device
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
    """Step -> file, by step: of step 0 and of the steps in the run's events, up to ``until``.

    Files of steps that training abandoned (a rollback) are left out.
    """
    steps = {0} | {event["step"] for event in run.events("interval")}
    files = {}
    for path in (run.path / "samples").glob("progress-*.npy"):
        if match := re.fullmatch(r"progress-([0-9]{1,18})\.npy", path.name):
            files[int(match[1])] = path
    return {
        step: files[step]
        for step in sorted(files)
        if step in steps and (until is None or step <= until)
    }


def read_progress_samples(path: Path) -> np.ndarray:
    """The array in a file. Raises StorageError if it is damaged, or not of the size it states."""
    data = read_limited(path, MAX_BYTES)
    try:
        buffer = io.BytesIO(data)
        version = np.lib.format.read_magic(buffer)
        shape, _, dtype = HEADER_READERS[version](buffer)
        size = math.prod(shape) * dtype.itemsize
        if dtype.hasobject or size != len(data) - buffer.tell() or not math.prod(shape):
            raise ValueError("its size is not the one that it states")
        return np.load(io.BytesIO(data), allow_pickle=False)
    except READ_ERRORS as error:
        raise StorageError(
            f"{path} is damaged: delete it, and the figure is drawn without it"
        ) from error
