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

NUMBERS_AT_ONCE = 2**20  # examples times z samples times dimensions at once: what stays in a core's cache, twice as fast as 2**24


@dataclass(frozen=True)
class Score:
    """mean of log p(x) or of its bound over n examples, nats; se: standard error over examples, None for one."""

    mean: float
    se: float | None
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
    chunk = max(1, min(chunk, NUMBERS_AT_ONCE // dataset.spec.dims))
    block = max(1, min(256, NUMBERS_AT_ONCE // dataset.spec.dims // min(k, chunk)))
    values, done = [], 0
    for batch in in_order(dataset, split, block, n, device):
        rng = Rng(seed, ("likelihood", split), device=device).at(done)
        done += len(batch)
        values.append(log_likelihoods(model, dataset.spec, batch, rng, k, chunk))
    values = torch.cat(values).cpu().double()
    se = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
    return Score(float(values.mean()), se, len(values))


@torch.no_grad()
def log_likelihoods(model, spec, batch: Batch, rng: Rng, k: int, chunk: int = 256) -> torch.Tensor:
    """log p(x) or its bound for each example of one batch, (B,) nats; the sum over k draws in chunks."""
    x, extra = batch.x, 0.0
    if model.continuous and spec.levels:
        x = x + (rng.uniform("dequantise", x.shape) - 0.5) * (2 / (spec.levels - 1))
        extra = dequantisation_nats(spec)
    if k == 1 or model.bound == "exact":
        return model.log_likelihood(x, batch.y, rng, 1) + extra
    total = None
    chunks = -(-k // max(3, chunk))
    for i in range(chunks):  # chunks of nearly equal size: none of one draw, which would mean the ELBO
        size = k // chunks + (i < k % chunks)
        part = model.log_likelihood(x, batch.y, rng.at("chunk", i), size) + math.log(size)
        total = part if total is None else torch.logaddexp(total, part)
    return total - math.log(k) + extra
