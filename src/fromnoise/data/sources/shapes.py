"""``shapes``: one or two coloured shapes on a plain ground, with captions such as "a small red circle
left of a blue square".

Images are drawn when they are indexed, from a few numbers each, so that loading takes no time and
``measures/attributes.py``, which knows the rules of drawing, can check whether an image shows what a
caption says. A fourth split, ``unseen``, holds the combinations of UNSEEN, at least one in each
image; they occur in no other split. Test images are new images of the training distribution.
"""

import hashlib
from dataclasses import replace

import numpy as np

from ...core.errors import UsageError
from ...core.rng import Rng
from ...core.spec import DataSpec
from ..codecs.captions import Captions
from ..config import Resolution, SplitSeed
from ..dataset import Dataset, Split
from ..shapes.captions import LONGEST, WORDS
from ..shapes.drawing import SIDE, DrawnImages
from ..shapes.scenes import draw_scenes
from ..source import Source

NAMES = {
    "shapes": "48,000 images of one or two coloured shapes with captions, 32x32 colour, unseen "
    "combinations apart (made here)"
}
COUNTS = {"train": 40_000, "validation": 2_000, "test": 4_000, "unseen": 2_000}
MIN_SIDE = 24  # pixels; below, a small square and a small circle look the same
EXAMPLES = 64  # of the first test captions: samples without a prompt use these in turn
HASHED_IMAGES = 64  # of each split; the other images follow from the numbers


class Options(SplitSeed, Resolution):
    """Of the shapes."""


def load(name: str, options: Options) -> Dataset:
    """40,000 / 2,000 / 4,000 images of seen combinations and 2,000 of unseen ones.

    The splits are drawn separately. Raises UsageError.
    """
    side = options.resolution or SIDE
    if side < MIN_SIDE:
        raise UsageError(
            f"--resolution takes {MIN_SIDE} or more for {name}: below, a small circle and a small "
            "square look the same"
        )
    rng = Rng(options.split_seed).at("shapes")
    digest = hashlib.sha256(b"shapes")
    splits = {}
    for part, count in COUNTS.items():
        numbers, captions = draw_scenes(count, part == "unseen", rng.at(part))
        images = DrawnImages(side=side, **numbers)
        splits[part] = Split(images, captions, 256)
        for array in (*numbers.values(), captions, images[:HASHED_IMAGES]):
            digest.update(np.ascontiguousarray(array))
    codec = Captions(WORDS, LONGEST)
    examples = codec.decode(splits["test"].y[:EXAMPLES])
    codec = replace(codec, examples=tuple(dict.fromkeys(examples)))
    spec = DataSpec("image", (3, side, side), levels=256, caption=codec.spec)
    return Dataset(
        name,
        spec,
        splits,
        digest.hexdigest(),
        caption_codec=codec,
    )


SOURCE = Source(
    load,
    Options,
    NAMES,
    title="{name}, which is drawn in colour and in splits of its own",
    place=30,
)
