"""How well a model predicts data that it never saw: exact likelihoods and lower bounds, in nats per example."""

import math
from dataclasses import dataclass

import torch

from ..core.family import HasLikelihood
from ..core.rng import Rng
from ..core.spec import Batch
from ..data.stream import in_order
from ..probability.likelihood import dequantisation_nats
from ..training.launch import Restored

SAMPLES_AT_ONCE = 25_600  # examples times z samples that go through the decoder together


@dataclass(frozen=True)
class Score:
    """mean of log p(x) or of its bound over n examples, nats; se: standard error over examples."""

    mean: float
    se: float
    n: int


@torch.no_grad()
def score(restored: Restored, k: int = 1, n: int | None = None, split="test", seed: int = 0, chunk: int = 256) -> Score:
    """Mean log-likelihood (exact), ELBO (k = 1) or k-sample importance-weighted bound over n held-out examples.

    Example i has the same noise whatever n and the batch size are. With k above ``chunk`` the sum over z goes
    in chunks through a streaming log-sum-exp, each with noise of its own. Data with levels get uniform
    dequantisation noise when the model's likelihood is a density: the result is then a lower bound (Theis
    et al. 2016).
    """
    model, dataset, device = restored.model, restored.dataset, restored.device
    assert isinstance(model, HasLikelihood) and model.bound != "none"
    # a block of examples shares a key, in blocks of fixed size: one call for many random numbers
    block = max(1, min(256, SAMPLES_AT_ONCE // min(k, chunk)))
    values, done = [], 0
    for batch in in_order(dataset, split, block, n, device):
        rng = Rng(seed, ("likelihood", split), device=device).at(done)
        done += len(batch)
        values.append(_block(model, dataset.spec, batch, rng, k, chunk))
    values = torch.cat(values).double()
    return Score(float(values.mean()), float(values.std() / math.sqrt(len(values))), len(values))


def _block(model, spec, batch: Batch, rng: Rng, k: int, chunk: int) -> torch.Tensor:
    x, extra = batch.x, 0.0
    if model.continuous and spec.levels:
        x = x + (rng.uniform("dequantise", x.shape) - 0.5) * (2 / (spec.levels - 1))
        extra = dequantisation_nats(spec)
    if k == 1 or model.bound == "exact":
        return model.log_likelihood(x, batch.y, rng, 1) + extra
    total = None
    sizes = [chunk] * (k // chunk) + ([k % chunk] if k % chunk else [])
    for i, size in enumerate(sizes):
        part = model.log_likelihood(x, batch.y, rng.at("chunk", i), size) if size > 1 else model.log_weights(x, batch.y, rng.at("chunk", i), 1)[:, 0]
        part = part + math.log(size)
        total = part if total is None else torch.logaddexp(total, part)
    return total - math.log(k) + extra
