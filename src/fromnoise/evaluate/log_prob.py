"""log p(x) of examples that a user gives."""

import torch

from ..core.capabilities import HasLikelihood, has
from ..core.errors import UsageError
from ..core.rng import Rng
from ..core.spec import Batch, Labels
from ..runs.load import LoadedRun
from .likelihood import log_likelihoods
from .likelihood_checks import why_none

BATCH_SIZE = 16


@torch.no_grad()
def log_prob(loaded: LoadedRun, x: torch.Tensor, y: Labels, k: int, seed: int) -> torch.Tensor:
    """log p(x) in nats, (N,), of x (N, *shape): exact, or the k-sample bound. Raises UsageError."""
    if not has(loaded.model, HasLikelihood):
        raise UsageError(f"the family {loaded.run.record.family} does not have a likelihood")
    if reason := why_none(loaded):
        raise UsageError(f"this model has no likelihood: {reason}")
    rng = Rng(seed, ("log_prob",), device=loaded.device)
    parts = []
    for start in range(0, len(x), BATCH_SIZE):
        rows = slice(start, start + BATCH_SIZE)
        batch = Batch(x[rows], None if y is None else y[rows])
        parts.append(log_likelihoods(loaded.model, loaded.dataset.spec, batch, rng.at(start), k))
    return torch.cat(parts)
