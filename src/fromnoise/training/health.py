"""What is wrong with a run, in words, with the mend. Each sentence starts with a short name for tests and reports."""

import torch

from ..core.family import EncodesDistribution, Family
from ..core.rng import Rng
from ..core.spec import Batch

ACTIVE = 0.01  # variance of a posterior mean over the data, above which its unit is active (Burda et al. 2016)


@torch.no_grad()
def active_units(means: torch.Tensor, kl: torch.Tensor) -> torch.Tensor:
    """(N, D) posterior means, (D,) KL by dimension in nats -> (D,) bool: does the unit say anything about x?

    In a hierarchy the mean moves with the levels above even where posterior and prior agree: so the KL, too,
    must be above the threshold.
    """
    return (means.var(0) > ACTIVE) & (kl > ACTIVE)


def examine(model: Family, batch: Batch, history: list[float], intervals: int) -> list[str]:
    """Sentences about a model after an interval; an empty list when nothing is wrong.

    history: the held-out metric of all intervals so far, lower is better.
    """
    found = []
    if isinstance(model, EncodesDistribution) and len(batch) > 1:
        kl = model.kl_per_dimension(batch.x, batch.y, Rng(0).at("health").to(batch.x.device))
        active = active_units(model.posterior(batch.x, batch.y)[0], kl)
        n, total = int(active.sum()), len(active)
        if n < max(1, 0.1 * total):
            found.append(
                f"posterior collapse: {n} of {total} latent units active, z says (almost) nothing about x: "
                "lower --beta, or give --kl-warmup 0.3 or --free-bits 0.1"
            )
    patience = max(5, intervals // 4)
    if len(history) > patience and min(history[-patience:]) >= min(history[:-patience]):
        found.append(
            f"no progress: the held-out metric has not improved for {patience} intervals: "
            "stop here (the best checkpoint is kept), lower --lr, or use a smaller network"
        )
    return found


def not_finite(step: int, terms: dict[str, float], gradient_norm: float) -> str:
    """The one line of a run that diverged."""
    bad = [name for name, value in terms.items() if value != value or value in (float("inf"), float("-inf"))]
    what = f"the loss ({', '.join(bad)})" if bad else f"the gradient (norm {gradient_norm})"
    return f"diverged at step {step}: {what} is not finite; no weight was changed by it. Lower --lr, or --clip the gradient more"
