"""Do samples show what their captions say? For data whose rules of drawing are known; seen and
unseen combinations apart.
"""

import numpy as np
import torch

from ..data.sources import shapes
from ..inference import sample as sampling
from ..measures.attributes import ATTRIBUTES, check
from ..measures.estimate import Estimate, share
from ..runs.load import LoadedRun
from .protocol import row

PICTURES, QUICK_PICTURES = 1000, 200  # of each split
SPLITS = {"test": "seen", "unseen": "unseen"}
WORDS = {
    "number": "of the right number of shapes",
    "colours": "with all colours right",
    "shapes": "with all shapes right",
    "sizes": "with all sizes right",
    "relation": "with the relation right",
}


def has_attributes(loaded: LoadedRun) -> bool:
    """Is it a model that was told captions, of pictures whose rules of drawing are known?"""
    return loaded.dataset.name in shapes.NAMES and loaded.model.conditional


def rows(loaded: LoadedRun, quick: bool, seed: int) -> list[dict]:
    """Of samples for the first captions of test and unseen: which are correct in everything, and in
    each attribute.

    Beside each number stands that of the real pictures with the same captions, by the same checker.
    """
    found = []
    for split, words in SPLITS.items() if has_attributes(loaded) else ():
        made, real = verdicts(loaded, split, QUICK_PICTURES if quick else PICTURES, seed)
        for name in ("correct", *ATTRIBUTES):
            label = (
                f"{'fully correct pictures' if name == 'correct' else f'pictures {WORDS[name]}'}, "
                f"{words} combinations"
            )
            told = share_of(made, name)
            card = dict(
                split=split,
                given="captions",
                evaluator="rules of drawing",
                group="captions",
                better="higher",
                drawn="as sampled",
            )
            found.append(
                row(
                    f"caption_{name}_{words}",
                    label,
                    told,
                    "share",
                    real=share_of(real, name),
                    **card,
                )
            )
    return found


def share_of(verdicts: list[dict], name: str) -> Estimate:
    """Of the pictures whose captions say something of it."""
    said = [verdict[name] for verdict in verdicts if verdict[name] is not None]
    return share(sum(said), len(said))


def verdicts(loaded: LoadedRun, split: str, n: int, seed: int) -> tuple[list[dict], list[dict]]:
    """Of n samples for the first captions of a split, and of the real pictures that have these."""
    dataset = loaded.dataset
    part = dataset.split(split)
    n = min(n, len(part))
    y = torch.from_numpy(part.y[:n])
    blocks = sampling.sample_blocks(loaded, n, seed, labels=y)
    captions = dataset.caption_codec.decode(y)
    made = np.concatenate([dataset.to_store(x) for x in blocks])
    return check(made, captions), check(part.x[:n], captions)
