"""Whether samples agree with their captions, for data whose rules of drawing are known."""

import numpy as np
import torch

from ..data.sources import shapes
from ..inference.sample import sample_blocks
from ..measures.attributes import ATTRIBUTES, check
from ..measures.estimate import Estimate, share
from ..runs.load import LoadedRun
from .protocol import row

IMAGES = 1000  # of each split
QUICK_IMAGES = 200
SPLITS = {"test": "seen", "unseen": "unseen"}
WORDS = {
    "number": "of the right number of shapes",
    "colours": "with all colours right",
    "shapes": "with all shapes right",
    "sizes": "with all sizes right",
    "relation": "with the relation right",
}


def has_attributes(loaded: LoadedRun) -> bool:
    """Whether it is a model with captions, of images whose rules of drawing are known."""
    return loaded.dataset.name in shapes.NAMES and loaded.model.conditional


def rows(loaded: LoadedRun, quick: bool, seed: int) -> list[dict]:
    """Shares of samples that agree with their captions, fully and in each attribute.

    Samples are of the first captions of the splits test and unseen; the control are the real images
    with the same captions.
    """
    if not has_attributes(loaded):
        return []
    n = QUICK_IMAGES if quick else IMAGES
    rows = []
    for split, words in SPLITS.items():
        of_samples, of_real = check_split(loaded, split, n, seed)
        for name in ("correct", *ATTRIBUTES):
            start = "fully correct images" if name == "correct" else f"images {WORDS[name]}"
            rows.append(
                row(
                    f"caption_{name}_{words}",
                    f"{start}, {words} combinations",
                    share_of(of_samples, name),
                    "share",
                    real=share_of(of_real, name),
                    split=split,
                    given="captions",
                    evaluator="rules of drawing",
                    group="captions",
                    better="higher",
                    drawn="as sampled",
                )
            )
    return rows


def share_of(checks: list[dict], name: str) -> Estimate:
    """Share of images with the right attribute, of those whose captions name it."""
    values = [check[name] for check in checks if check[name] is not None]
    return share(sum(values), len(values))


def check_split(loaded: LoadedRun, split: str, n: int, seed: int) -> tuple[list[dict], list[dict]]:
    """The checks of samples for the first n captions of a split, and of the real images."""
    dataset = loaded.dataset
    part = dataset.split(split)
    n = min(n, len(part))
    y = torch.from_numpy(part.y[:n])
    captions = dataset.caption_codec.decode(y)
    samples = np.concatenate(
        [dataset.to_store(x) for x in sample_blocks(loaded, n, seed, labels=y)]
    )
    return check(samples, captions), check(part.x[:n], captions)
