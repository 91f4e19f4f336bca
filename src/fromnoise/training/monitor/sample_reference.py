"""Real examples that samples are measured against at each interval of an adversarial training."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.config import BaseConfig
from ...core.family import Family
from ...core.rng import Rng
from ...data.dataset import Dataset
from ...data.stream import default_batch_size, in_order
from ...measures.distances import sliced_wasserstein
from ...measures.estimate import Estimate
from ...measures.evaluator import shipped_for
from ...measures.features import of_split, untrained_features
from ...measures.frechet import FEW, frechet

BATCH_SIZE = 500
MIN_ROWS = 10  # that a distance needs on either side
MIN_SAMPLES = 500  # also where fewer examples are held out, so that rarer modes can be seen
MAX_DIRECTIONS = 512  # of the sliced distance; 64 for each dimension are enough


class SampleReference:
    """Features of real examples, computed once for all intervals.

    map       the evaluator shipped for this data; else principal components, or the columns
    held_out  (m, d) float64 features of validation examples
    train     (., d) of as many training examples
    name      of the distance: "frechet" for images where the rows suffice, else
              "sliced_wasserstein", which also measures modes
    spread    the distance of samples that all are the mean of the data
    n         how many samples are drawn
    """

    def __init__(self, dataset: Dataset, examples: int, rng: Rng, device="cpu"):
        self.dataset = dataset
        self.device = device
        self.rng = rng
        self.map = shipped_for(dataset) or untrained_features(dataset)[0]
        self.held_out = of_split(self.map, dataset, "validation", examples)
        self.train = of_split(self.map, dataset, "train", examples)
        self.m, d = self.held_out.shape
        validation = dataset.split("validation")
        self.n = max(MIN_ROWS, min(examples, max(MIN_SAMPLES, len(validation))))
        self.y = None
        if validation.y is not None:  # classes as often as in the validation examples
            self.y = torch.from_numpy(validation.y[np.arange(self.n) % self.m])
        variance = float(self.held_out.var(0, correction=0).sum())
        has_enough = min(self.n, self.m) >= max(FEW * d, MIN_ROWS) and variance > 0
        is_frechet = dataset.spec.kind == "image" and has_enough
        self.name = "frechet" if is_frechet else "sliced_wasserstein"
        self.spread = variance if is_frechet else variance / d
        self.batch_size = default_batch_size(dataset.spec, BATCH_SIZE)

    @torch.no_grad()
    def draw(self, model: Any, options: BaseConfig | None) -> tuple[Tensor, Tensor] | None:
        """n samples, from the same noise at each interval: features (n, d) and the model's own
        scores (n,); None unless all are finite."""
        features = []
        scores = []
        was_training = model.training
        model.eval()
        for start in range(0, self.n, self.batch_size):
            rows = range(start, min(start + self.batch_size, self.n))
            rng = self.rng.at("samples").per_row(rows)
            y = self.y[rows.start : rows.stop].to(self.device) if model.conditional else None
            x = model.sample(len(rows), y, options, rng)
            scores.append(model.judge(x, y, True).cpu().double())
            x = self.as_data(x, rng)
            if not bool(torch.isfinite(x).all()):
                break
            features.append(self.map(self.dataset.as_delivered(x)))
        model.train(was_training)
        if sum(len(block) for block in features) < self.n:
            return None
        return torch.cat(features), torch.cat(scores)

    def as_data(self, x: Tensor, rng: Rng) -> Tensor:
        """Samples in the range of the data; those of binary data are binarised at random by their
        grey, as in reports."""
        spec = self.dataset.spec
        if spec.kind == "image":
            x = x.clamp(-1, 1)
        if spec.levels == 2:
            x = (rng.at("pixels").uniform("grey", x.shape) < (x + 1) / 2).float() * 2 - 1
        return x

    @torch.no_grad()
    def judged(self, model: Family, split: str) -> Tensor:
        """The model's scores of the first n examples of a split."""
        was_training = model.training
        model.eval()
        batches = in_order(self.dataset, split, self.batch_size, self.n, self.device)
        scores = torch.cat([model.judge(batch.x, batch.y).cpu().double() for batch in batches])
        model.train(was_training)
        return scores

    def distance(self, features: Tensor) -> Estimate:
        """From samples (n, d) to the validation examples, squared feature units, without bias."""
        if self.name == "frechet":
            return frechet(features, self.held_out)
        directions = min(MAX_DIRECTIONS, 64 * features.shape[1])
        real = at_least(self.held_out, MIN_ROWS)
        return sliced_wasserstein(features, real, self.rng.at("directions"), directions)


def at_least(x: Tensor, rows: int) -> Tensor:
    """x (n, d), repeated as a whole until it has so many rows: the same empirical distribution."""
    return x.repeat(max(1, -(-rows // len(x))), 1)
