"""The monitor of adversarial training: discriminator against generator, and the samples, in numbers.

The losses of an adversarial family do not rank checkpoints, so its samples are measured: by a
distance to validation examples that suits the data.
"""

import math

import torch
from torch import Tensor

from ...core.config import BaseConfig
from ...core.family import Family
from ...core.rng import Rng
from ...data.dataset import Dataset
from ...measures.separation import mean_distance, separation
from .sample_modes import find_modes, mode_coverage
from .sample_reference import SampleReference, at_least

NOT_FINITE = ({"value": math.inf}, {})


class AdversarialMonitor:
    """Measures a model at each interval against one fixed set of real examples."""

    def __init__(
        self, dataset: Dataset, options: BaseConfig | None, examples: int, rng: Rng, device="cpu"
    ):
        self.options = options
        self.reference = SampleReference(dataset, examples, rng.at("duel"), device)
        self.modes = find_modes(self.reference, dataset, rng.at("duel"))
        self.real_shares, _ = self.modes.shares(self.reference.train)
        self.real_diversity = mean_distance(at_least(self.reference.held_out, 2))

    def measure(self, model: Family, averaged: Family) -> tuple[dict[str, float], dict]:
        """Validation terms (``value``: the distance of the averaged weights' samples), and numbers
        of the adversarial training, empty unless all are finite.

        separation           P(D(real) > D(fake)) on training examples, with the raw weights
        separation_held_out  the same on validation examples
        memorising           P(D(training example) > D(validation example))
        relative             the distance as a share of that of the data's mean; raw_relative: of
                             the raw weights
        diversity            mean distance between samples over that between validation examples
        modes, modes_seen, entropy, kind, good
                             see ``mode_coverage`` and ``SampleModes``; of the averaged weights
        """
        reference = self.reference
        averaged_samples = reference.draw(averaged, self.options)
        raw_samples = reference.draw(model, self.options)
        if averaged_samples is None or raw_samples is None:
            return NOT_FINITE
        features, self.scores = averaged_samples
        raw_features, fake_scores = raw_samples
        scores = [reference.judged(model, split) for split in ("train", "validation")]
        if not all(bool(torch.isfinite(s).all()) for s in (fake_scores, *scores)):
            return NOT_FINITE
        distance = reference.distance(features)
        raw_distance = reference.distance(raw_features)
        numbers = {
            **score_numbers(*scores, fake_scores, getattr(model.config, "pack", 1)),
            "distance": distance.value,
            "distance_error": distance.se,
            "raw_distance": raw_distance.value,
            "relative": self.relative(distance.value),
            "raw_relative": self.relative(raw_distance.value),
            **self.diversity_numbers(features),
            "features": reference.map.name,
        }
        terms = {"value": distance.value, reference.name: distance.value}
        return terms | {"raw_distance": raw_distance.value}, numbers

    def relative(self, distance: float) -> float:
        return distance / self.reference.spread if self.reference.spread else 0.0

    def diversity_numbers(self, features: Tensor) -> dict:
        """How varied samples with features (n, d) are, and which modes they cover."""
        shares, good = self.modes.shares(features)
        diversity = 1.0
        if self.real_diversity:
            diversity = mean_distance(features) / self.real_diversity
        numbers = {
            "diversity": diversity,
            **mode_coverage(shares, self.real_shares, self.reference.n),
            "kind": self.modes.kind,
        }
        if self.modes.radius is not None:
            numbers["good"] = good
        return numbers

    def calibration_scores(self, averaged: Family) -> tuple[Tensor, Tensor]:
        """Scores by the averaged weights of validation examples and of the samples measured last,
        (n,) each, pair by pair of one label."""
        real = self.reference.judged(averaged, "validation")
        return real[torch.arange(len(self.scores)) % self.reference.m], self.scores


def score_numbers(train: Tensor, validation: Tensor, fake: Tensor, pack: int) -> dict[str, float]:
    """Areas under the ROC curve of the discriminator's scores, (n,) each.

    pack: examples that share one score, which reduces the number of independent scores.
    """
    independent = [len(scores) / pack for scores in (train, validation)]
    return {
        "separation": separation(train, fake),
        "separation_held_out": separation(validation, fake),
        "memorising": separation(train, validation),
        "memorising_error": math.sqrt((sum(independent) + 1) / (12 * math.prod(independent))),
    }
