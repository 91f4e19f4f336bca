"""How real, varied and new a set of samples is: the metrics that need only samples.

Each number comes with the value of held-out real examples in the samples' place, where that is
defined.
"""

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.rng import Rng
from ..measures import memory
from ..measures.features import extract
from .label_rows import class_rows, mode_rows
from .protocol import measured_row
from .quality_reference import QualityReference, reference_id
from .sample_rows import CONTROL, frechet_rows, pair_rows, patch_rows
from .samples import Samples

FEWEST = 50  # samples


def measure_quality(
    quality_reference: QualityReference, samples: Samples, seed: int = 0
) -> list[dict]:
    """Rows of a report about a set of samples.

    Raises UsageError (too few samples), DataError (not finite, wrong shape or range).
    """
    if samples.n < FEWEST:
        raise UsageError(
            f"{samples.n} samples are too few to measure anything: take {FEWEST} or more"
        )
    rng = Rng(seed, ("quality",))
    maps = quality_reference.maps
    modes = quality_reference.modes
    patch_reference = quality_reference.patches(samples.n, rng)
    features: dict[str, list[Tensor]] = {feature_map.name: [] for feature_map in maps}
    mode_index = []
    patches = []
    done = 0
    for x in samples.checked_blocks(quality_reference.dataset):
        for feature_map in maps:
            features[feature_map.name].append(extract(feature_map, [x]))
        if modes and done < modes.most:
            mode_index.append(modes.index(x[: modes.most - done]))
        if patch_reference and done < patch_reference.n:
            patches.append(patch_reference.cut(x, done))
        done += len(x)
    all_features = {name: torch.cat(parts) for name, parts in features.items()}
    main = all_features[maps[0].name]
    rows = []
    for feature_map in maps:
        rows += frechet_rows(quality_reference, feature_map, all_features[feature_map.name])
    rows += pair_rows(quality_reference, maps[0], main, rng)
    if patch_reference:
        rows += patch_rows(patch_reference, [torch.cat(level) for level in zip(*patches)])
    rows += class_rows(quality_reference, main, samples)
    if modes:
        rows += mode_rows(quality_reference, modes, torch.cat(mode_index))
    rows += memory_rows(quality_reference, all_features[quality_reference.pixels.name])
    return [row | {"drawn": samples.drawn, "seed": seed} for row in rows]


def memory_rows(quality_reference: QualityReference, x: Tensor) -> list[dict]:
    """Near-copies and duplicates among the features x (n, d) of samples, of the map ``pixels``."""
    feature_map = quality_reference.pixels
    train = quality_reference.features(feature_map, "train", everything=True)
    test = quality_reference.features(feature_map, "test")
    card = dict(
        split="train",
        reference=reference_id(quality_reference.dataset, "train", len(train)),
        evaluator=feature_map.name,
        group="memory",
        better="near",
    )
    has_control = len(test) + 1 >= CONTROL  # 1 % of fewer examples is none
    copies_card = card
    if not has_control:
        reason = (
            f"{len(test)} held-out examples are too few for a control: each training example "
            "against the others instead (leave-one-out)"
        )
        copies_card = card | {
            "reference": card["reference"] + ", leave-one-out",
            "reason": reason,
        }

    def near_copies():
        if has_control:
            return memory.near_copy_rate(x, train, test)
        return memory.near_copy_rate_within(x, train)

    def duplicates():
        return memory.duplicates(x, test)

    copies_label = "near-copies of training examples"
    return [
        measured_row("near_copies", copies_label, "share", near_copies, **copies_card),
        measured_row(
            "duplicates", "samples that repeat another sample", "share", duplicates, **card
        ),
    ]
