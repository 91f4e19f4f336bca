"""Whether samples agree with their captions, for data whose rules of drawing are known."""

from dataclasses import replace

import numpy as np
import torch

from ...data.sources import shapes
from ...inference.sample import sample_blocks
from ...measures.attributes import ATTRIBUTES, check
from ...measures.estimate import Estimate, share
from ...runs.load import LoadedRun
from ..context import MetricContext
from ..metric import Metric

IMAGES = 1000  # of each split
QUICK_IMAGES = 200
SPLITS = {"test": "seen", "unseen": "unseen"}
WORDS = {
    "correct": "fully correct images",
    "number": "images of the right number of shapes",
    "colours": "images with all colours right",
    "shapes": "images with all shapes right",
    "sizes": "images with all sizes right",
    "relation": "images with the relation right",
}


def has_attributes(loaded: LoadedRun) -> bool:
    """Whether it is a model with captions, of images whose rules of drawing are known."""
    return loaded.dataset.name in shapes.NAMES and loaded.model.conditional


def caption_rows(context: MetricContext) -> list[dict]:
    """Shares of samples that agree with their captions, fully and in each attribute.

    Samples are of the first captions of the splits test and unseen; the control are the real images
    with the same captions.
    """
    if not has_attributes(context.loaded):
        return []
    n = QUICK_IMAGES if context.quick else IMAGES
    rows = []
    for split in SPLITS:
        of_samples, of_real = check_split(context.loaded, split, n, context.seed)
        for name in ("correct", *ATTRIBUTES):
            rows.append(
                BY_SPLIT_AND_NAME[split, name].row(
                    share_of(of_samples, name),
                    real=share_of(of_real, name),
                    split=split,
                    given="captions",
                    evaluator="rules of drawing",
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


def _declare(split: str, name: str) -> Metric:
    return Metric(
        name=f"caption_{name}_{SPLITS[split]}",
        label=f"{WORDS[name]}, {SPLITS[split]} combinations",
        unit="share",
        better="higher",
        group="captions",
        data=("image",),
        order=80,
    )


BY_SPLIT_AND_NAME = {(split, name): _declare(split, name) for split in SPLITS for name in WORDS}
_first, *_others = BY_SPLIT_AND_NAME.values()
METRICS = (replace(_first, measure=caption_rows), *_others)
