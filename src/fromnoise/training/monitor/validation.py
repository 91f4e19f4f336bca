"""What held-out examples say at an interval: numbers of which ``value`` (lower is better) ranks checkpoints.

For most families that is their own objective. The losses of an adversarial one only say who is winning, so that its
samples are measured instead: by a distance to held-out examples, the one that suits the data.
"""

import numpy as np
import torch
from torch import Tensor

from ...core.capabilities import HasLikelihood, Predicts, Reconstructs, has
from ...core.config import BaseConfig
from ...core.family import Family
from ...core.rng import Rng
from ...core.spec import Batch
from ...data.dataset import Dataset
from ...data.stream import default_batch_size, in_order
from ...measures.distances import sliced_wasserstein
from ...measures.estimate import Estimate
from ...measures.evaluator import shipped_for
from ...measures.features import of_split, untrained_features
from ...measures.frechet import FEW, frechet

FEWEST = 10  # rows that a distance needs on either side
SAMPLES = 500  # drawn at least, also where fewer examples are held out: the rarer modes must have a chance to come


def validation_terms(model: Family, batch: Batch, rng: Rng) -> dict[str, float]:
    """The objective of the first phase; for a model without phases its likelihood (of symbols: of each) and reconstruction error."""
    if model.phases():
        loss = model.loss(batch, model.phases()[0].name, rng)
        return {
            "value": float(loss.value),
            **{name: float(value) for name, value in loss.terms.items()},
        }
    terms = {}
    if has(model, Reconstructs):
        terms["mse"] = float((model.reconstruct(batch.x, batch.y) - batch.x).square().mean())
    if has(model, HasLikelihood) and model.bound != "none":
        terms["nll"] = -float(model.log_likelihood(batch.x, batch.y, rng).mean())
    if has(model, Predicts) and "nll" in terms:
        terms = {"nats_per_symbol": terms["nll"] / model.length, **terms}
    return {"value": terms.get("nats_per_symbol", terms.get("nll", terms.get("mse", 0.0))), **terms}


@torch.no_grad()
def objective(model: Family, dataset: Dataset, examples: int, rng: Rng, device) -> dict[str, float]:
    """Means of ``held_out_terms`` over the first validation examples, as at the end of training (progress 1)."""
    totals, n, progress = {}, 0, model.progress
    model.progress = 1.0
    for batch in in_order(
        dataset, "validation", default_batch_size(dataset.spec, 500), examples, device
    ):
        for name, value in validation_terms(
            model, batch, rng.per_row(range(n, n + len(batch)))
        ).items():
            totals[name] = totals.get(name, 0.0) + value * len(batch)
        n += len(batch)
    model.progress = progress
    return {name: value / n for name, value in totals.items()}


class Reference:
    """Real examples as samples are measured against them: their features, computed once for all intervals.

    map       the evaluator shipped with the package for this data; else principal components, or the columns
    held_out  (m, d) float64 features of validation examples; train: (., d) of as many training examples
    name      of the distance: "frechet" for images where rows suffice, else "sliced_wasserstein", which sees modes too
    spread    what it would be if all samples were the mean of the data: the distance that says nothing was learned
    """

    def __init__(self, dataset: Dataset, examples: int, rng: Rng, device="cpu"):
        self.dataset, self.device, self.rng = dataset, device, rng
        self.map = shipped_for(dataset) or untrained_features(dataset)[0]
        self.held_out, self.train = (
            of_split(self.map, dataset, split, examples) for split in ("validation", "train")
        )
        (self.m, d), y = self.held_out.shape, dataset.split("validation").y
        self.n = max(FEWEST, min(examples, max(SAMPLES, len(dataset.split("validation")))))
        self.y = (
            None if y is None else torch.from_numpy(y[np.arange(self.n) % self.m])
        )  # classes as often as there
        variance = float(self.held_out.var(0, correction=0).sum())
        enough = min(self.n, self.m) >= max(FEW * d, FEWEST) and variance > 0
        self.name = "frechet" if dataset.spec.kind == "image" and enough else "sliced_wasserstein"
        self.spread = variance if self.name == "frechet" else variance / d

    @torch.no_grad()
    def draw(self, model: Family, options: BaseConfig | None) -> tuple[Tensor, Tensor] | None:
        """n samples, the same noise at each interval: features (n, d) and the model's own scores (n,); None unless finite."""
        spec, block = self.dataset.spec, default_batch_size(self.dataset.spec, 500)
        conditional, features, scores = model.conditional, [], []
        was_training = model.training
        model.eval()
        for start in range(0, self.n, block):
            rows = range(start, min(start + block, self.n))
            rng = self.rng.at("samples").per_row(rows)
            y = self.y[rows.start : rows.stop].to(self.device) if conditional else None
            x = model.sample(len(rows), y, options, rng)
            scores.append(model.judge(x, y, made=True).double().cpu())
            if spec.kind == "image":
                x = x.clamp(-1, 1)
            if spec.levels == 2:  # black or white by chance of its grey, as reports measure it
                x = (rng.at("pixels").uniform("grey", x.shape) < (x + 1) / 2).float() * 2 - 1
            if not bool(torch.isfinite(x).all()):
                break
            features.append(self.map(self.dataset.as_delivered(x)))
        model.train(was_training)
        return (
            (torch.cat(features), torch.cat(scores)) if sum(map(len, features)) == self.n else None
        )

    @torch.no_grad()
    def judged(self, model: Family, split: str) -> Tensor:
        """The model's scores of the first n examples of a split."""
        was_training = model.training
        model.eval()
        batches = in_order(
            self.dataset, split, default_batch_size(self.dataset.spec, 500), self.n, self.device
        )
        scores = torch.cat([model.judge(batch.x, batch.y).double().cpu() for batch in batches])
        model.train(was_training)
        return scores

    def distance(self, features: Tensor) -> Estimate:
        """Of samples (n, d) from the held-out examples, squared feature units, its bias taken off."""
        if self.name == "frechet":
            return frechet(features, self.held_out)
        directions = min(512, 64 * features.shape[1])  # a plane is covered by fewer
        return sliced_wasserstein(
            features, at_least(self.held_out, FEWEST), self.rng.at("directions"), directions
        )


def at_least(x: Tensor, rows: int) -> Tensor:
    """x (n, d), repeated as a whole until it has so many rows: the same empirical law."""
    return x.repeat(max(1, -(-rows // len(x))), 1)
