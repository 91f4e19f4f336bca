"""Validation of a model at the end of an interval: numbers of which ``value`` ranks checkpoints,
lower is better. For most families it is their own objective; for adversarial ones see
``AdversarialMonitor``.
"""

import torch

from ...core.capabilities import HasLikelihood, Predicts, Reconstructs, has
from ...core.family import Family
from ...core.rng import Rng
from ...core.spec import Batch
from ...data.dataset import Dataset
from ...data.stream import default_batch_size, in_order

BATCH_SIZE = 500


def validation_terms(model: Family, batch: Batch, rng: Rng) -> dict[str, float]:
    """The objective of the first phase and its terms.

    For a model without phases its likelihood in nats (of symbols: of each) and reconstruction error.
    """
    if model.phases():
        loss = model.loss(batch, model.phases()[0].name, rng)
        terms = {name: float(value) for name, value in loss.terms.items()}
        return {"value": float(loss.value), **terms}
    terms = {}
    if has(model, Reconstructs):
        terms["mse"] = float((model.reconstruct(batch.x, batch.y) - batch.x).square().mean())
    if has(model, HasLikelihood) and model.bound != "none":
        terms["nll"] = -float(model.log_likelihood(batch.x, batch.y, rng).mean())
    if has(model, Predicts) and "nll" in terms:
        terms = {"nats_per_symbol": terms["nll"] / model.length, **terms}
    for name in ("nats_per_symbol", "nll", "mse"):
        if name in terms:
            return {"value": terms[name], **terms}
    return {"value": 0.0}


@torch.no_grad()
def objective(model: Family, dataset: Dataset, examples: int, rng: Rng, device) -> dict[str, float]:
    """Means of ``validation_terms`` over the first validation examples, as at the end of training
    (progress 1)."""
    sums = {}
    count = 0
    progress = model.progress
    model.progress = 1.0
    batch_size = default_batch_size(dataset.spec, BATCH_SIZE)
    for batch in in_order(dataset, "validation", batch_size, examples, device):
        rows = range(count, count + len(batch))
        for name, value in validation_terms(model, batch, rng.per_row(rows)).items():
            sums[name] = sums.get(name, 0.0) + value * len(batch)
        count += len(batch)
    model.progress = progress
    return {name: value / count for name, value in sums.items()}
