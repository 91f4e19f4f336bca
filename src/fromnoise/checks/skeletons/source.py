"""Waves: sine curves of random frequency and phase, as vectors of 16 numbers.

fromnoise finds this file through FROMNOISE_EXTENSIONS, a list of folders.
"""

import numpy as np
from pydantic import Field

from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data.config import SplitShares
from fromnoise.data.dataset import Dataset, Split, compute_digest
from fromnoise.data.source import Source
from fromnoise.data.splits import split_rows

COUNT = 5000  # examples of all splits
LENGTH = 16  # numbers of an example


class Options(SplitShares):
    """SplitShares brings --split-seed, --validation and --test. Other options are fields here."""

    wave_noise: float = Field(0.1, ge=0, description="waves: std of the noise on each number")


def load(name: str, options: Options) -> Dataset:
    """name: one of the names below, or the path of a file or folder that this source reads."""
    rng = Rng(options.split_seed).at("waves")
    frequency = 1 + rng.uniform("frequency", (COUNT, 1)).numpy()
    phase = 2 * np.pi * rng.uniform("phase", (COUNT, 1)).numpy()
    time = np.linspace(0, 2 * np.pi, LENGTH)
    x = np.sin(frequency * time + phase)
    x += options.wave_noise * rng.normal("noise", x.shape).numpy()
    rows = split_rows(COUNT, options)  # train, validation and test -> row numbers
    # vectors are float32 (N, D); images are uint8 (N, C, H, W), with levels in Split and DataSpec
    splits = {part: Split(x[part_rows].astype("float32")) for part, part_rows in rows.items()}
    spec = DataSpec("vector", (LENGTH,))
    return Dataset(name, spec, splits, compute_digest(spec, splits))


SOURCE = Source(load, Options, names={"waves": "sine curves of 16 numbers (made here)"})
