"""``digits``: 1,797 handwritten digits, 8 x 8 pixels of 17 grey levels. The default.

Bundled with scikit-learn. Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten
Digits", UCI, 1998 (its test part).
"""

import numpy as np

from ..config import ImageOptions, SplitShares
from ..dataset import Dataset, Split
from ..image_dataset import image_dataset
from ..source import Source
from ..splits import split_rows

NAMES = {"digits": "1,797 real handwritten digits, 8x8 grey, 10 classes (bundled)"}


class Options(SplitShares, ImageOptions):
    """Of the digits."""


def load(name: str, options: Options) -> Dataset:
    from sklearn.datasets import load_digits

    raw = load_digits()
    x = raw.images.astype(np.uint8)[:, None]  # (N, 1, 8, 8), levels 0 .. 16
    y = raw.target.astype(np.int64)
    rows = split_rows(len(x), options)
    splits = {part: Split(x[part_rows], y[part_rows], 17) for part, part_rows in rows.items()}
    return image_dataset(name, splits, "0123456789", options)


SOURCE = Source(load, Options, NAMES, place=10)
