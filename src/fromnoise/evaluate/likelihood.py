"""Log-likelihoods of held-out data in nats: exact, lower bounds, and estimates by a flow."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..core.capabilities import HasFlow, HasLikelihood, HasPosterior, WeighsDraws, has
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec
from ..data.stream import in_order
from ..probability import ais
from ..probability.cells import Cells
from ..probability.diffusion.ode import EXACT_TRACE_DIMS, TRACE_PROBES
from ..probability.likelihood import dequantisation_nats
from ..runs.load import LoadedRun

# examples times z samples times dimensions of one call: what fits into a core's cache, twice as
# fast as 2**24
NUMBERS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Score:
    """Mean of log p(x) or of its bound over n examples, nats.

    se: standard error over examples, None for one example.
    """

    mean: float
    se: float | None
    n: int

    @staticmethod
    def of(values: Tensor) -> "Score":
        """values (n,): nats of each example."""
        n = len(values)
        se = float(values.std() / math.sqrt(n)) if n > 1 else None
        return Score(float(values.mean()), se, n)


@torch.no_grad()
def score(
    loaded: LoadedRun,
    k: int = 1,
    n: int | None = None,
    split="test",
    seed: int = 0,
    chunk: int = 256,
) -> Score:
    """Mean over n held-out examples of the exact log-likelihood or of its k-sample bound.

    The bound is the ELBO (k = 1) or the importance-weighted bound. Example i has the same noise
    whatever n is. With k above ``chunk`` the sum over z goes in chunks, each with its own noise,
    through a streaming log-sum-exp. Data with levels get uniform dequantisation noise when the
    model's likelihood is a density: the result is then a lower bound (Theis et al. 2016).
    """
    return scores(loaded, k, n, split, seed, chunk)[-1]


@torch.no_grad()
def scores(
    loaded: LoadedRun,
    k: int = 1,
    n: int | None = None,
    split="test",
    seed: int = 0,
    chunk: int = 256,
) -> tuple[Score, Score]:
    """The ELBO over the same draws of z as ``score``, and ``score``.

    Since the draws are the same, the mean over k draws is never above the k-sample bound, in any
    example. For a model that does not weigh its draws, the first is ``score`` with k = 1.
    """
    model = loaded.model
    dims = loaded.dataset.spec.dims
    assert has(model, HasLikelihood) and model.bound != "none"
    chunk = max(1, min(chunk, NUMBERS_AT_ONCE // dims))
    # the examples of a block share a key of the random numbers: blocks have a fixed size
    block = max(1, min(256, NUMBERS_AT_ONCE // dims // min(k, chunk)))
    means = []
    values = []
    done = 0
    for batch in in_order(loaded.dataset, split, block, n, loaded.device):
        rng = Rng(seed, ("likelihood", split), device=loaded.device).at(done)
        done += len(batch)
        mean, value = both_bounds(model, loaded.dataset.spec, batch, rng, k, chunk)
        means.append(mean)
        values.append(value)
    mean_score = Score.of(torch.cat(means).cpu().double())
    return mean_score, Score.of(torch.cat(values).cpu().double())


@torch.no_grad()
def log_likelihoods(
    model, spec: DataSpec, batch: Batch, rng: Rng, k: int, chunk: int = 256
) -> Tensor:
    """log p(x) or its k-sample bound for each example of one batch, (B,) nats."""
    return both_bounds(model, spec, batch, rng, k, chunk)[1]


@torch.no_grad()
def both_bounds(
    model, spec: DataSpec, batch: Batch, rng: Rng, k: int, chunk: int = 256
) -> tuple[Tensor, Tensor]:
    """The ELBO, and log p(x) or its k-sample bound, for each example of one batch: (B,) nats each.

    The k draws are computed in chunks.
    """
    x, extra = dequantised(batch.x, spec, rng) if model.continuous else (batch.x, 0.0)
    if k == 1 or model.bound == "exact" or has(model, HasFlow):
        value = model.log_likelihood(x, batch.y, rng, 1) + extra
        return value, value
    weighs = has(model, WeighsDraws)
    log_sum = None
    elbo_sum = 0.0
    # chunks of nearly equal size, none of one draw: its bound would be the ELBO
    chunks = -(-k // max(3, chunk))
    for i in range(chunks):
        size = k // chunks + (i < k % chunks)
        if weighs:
            log_weights = model.log_weights(x, batch.y, rng.at("chunk", i), size)
            elbo_sum = elbo_sum + log_weights.double().sum(1)
            part = log_weights.logsumexp(1)
        else:
            part = model.log_likelihood(x, batch.y, rng.at("chunk", i), size) + math.log(size)
        log_sum = part if log_sum is None else torch.logaddexp(log_sum, part)
    elbo = elbo_sum / k if weighs else model.log_likelihood(x, batch.y, rng, 1)
    return elbo + extra, log_sum - math.log(k) + extra


def dequantised(x: Tensor, spec: DataSpec, rng: Rng) -> tuple[Tensor, float]:
    """x with uniform noise within its levels or cells, and nats to add to its log-density.

    The sum is a lower bound of the log-probability of the levels or cells.
    """
    if spec.has_cells:
        return Cells(spec).noise(x, rng), dequantisation_nats(spec)
    if not spec.levels:
        return x, 0.0
    noise = (rng.uniform("dequantise", x.shape) - 0.5) * (2 / (spec.levels - 1))
    return x + noise, dequantisation_nats(spec)


@torch.no_grad()
def flow_score(loaded: LoadedRun, n: int, split="test", seed: int = 0) -> tuple[Score, float, str]:
    """Log-likelihood by the probability flow, the mean error of its solver in nats, and a method.

    The method describes the solver in words. Example i has the same noise whatever n is. The
    standard error is over examples and, where there are any, probes. Raises UsageError where the
    solver's error is too large.
    """
    spec = loaded.dataset.spec
    exact = spec.dims <= EXACT_TRACE_DIMS
    values = []
    errors = []
    probe_ses = []
    steps = 0
    done = 0
    for batch in in_order(loaded.dataset, split, 100 if exact else 16, n, loaded.device):
        rng = Rng(seed, ("flow", split), device=loaded.device).at(done)
        x, extra = dequantised(batch.x, spec, rng)
        flow = loaded.model.flow_log_likelihood(x, batch.y, rng, 0 if exact else TRACE_PROBES)
        values.append(flow.log_likelihood + extra)
        errors.append(flow.error)
        probe_ses.append(flow.se)
        steps = max(steps, flow.steps)
        done += len(batch)
    trace = "exact trace"
    if not exact:
        se = float(torch.cat(probe_ses).square().sum().sqrt()) / done
        trace = (
            f"trace from {TRACE_PROBES} random probes, whose part of the standard error is "
            f"{se:.2g} nats"
        )
    method = f"probability flow, {steps} Runge-Kutta steps; {trace}"
    return Score.of(torch.cat(values).cpu()), float(torch.cat(errors).mean()), method


def annealed_score(
    loaded: LoadedRun,
    n: int,
    split="test",
    seed: int = 0,
    chains: int = 16,
    steps: int = 500,
    leapfrogs: int = 5,
) -> tuple[Score, float]:
    """log p(x) of n examples by annealed importance sampling from q(z | x), and the accepted share.

    The closest estimate for a decoder, and slow: ``steps * leapfrogs`` gradients a chain. Still a
    lower bound on average (Wu et al. 2017). The standard error is over examples.
    """
    model = loaded.model
    assert has(model, HasPosterior)
    values = []
    accepted = []
    for i, batch in enumerate(in_order(loaded.dataset, split, 20, n, loaded.device)):
        rng = Rng(seed, ("ais", split), device=loaded.device).at(i)
        z = model.draw_posterior(batch.x, batch.y, rng, chains).transpose(0, 1)  # (C, B, D)
        log_p, log_q = _log_densities(model, batch, chains)
        schedule = ais.sigmoid_schedule(steps)
        log_w, accepted_share = ais.ais(log_q, log_p, z, rng, schedule, leapfrogs)
        values.append(ais.log_mean_weight(log_w)[0])
        accepted.append(accepted_share)
    return Score.of(torch.cat(values).cpu().double()), float(torch.cat(accepted).mean())


def _log_densities(model: HasPosterior, batch: Batch, chains: int):
    """log p(x, z) and log q(z | x) as functions of z (C, B, D) -> (C, B), for one batch."""
    x = batch.x.repeat(chains, *[1] * (batch.x.ndim - 1))
    y = None if batch.y is None else batch.y.repeat(chains)

    @lru_cache(1)  # both functions are called at the same z
    def log_densities(z):
        return model.log_densities(z.flatten(0, 1), x, y)

    def log_p(z):
        return log_densities(z)[0].view(z.shape[:2])

    def log_q(z):
        return log_densities(z)[1].view(z.shape[:2])

    return log_p, log_q
