"""What is wrong with a model after an interval, in sentences with one thing to try.

Each sentence begins with a short name, for tables and reports.
"""

import math

from ...core.capabilities import EncodesDistribution, Judges, Quantises, has
from ...core.config import flag
from ...core.errors import DivergedError
from ...core.family import Family
from ...core.rng import Rng
from ...core.spec import Batch
from ...measures.latents import active_units
from ..settings import TrainConfig
from .advice import Finding, advise, lower, use
from .diagnosis import adversarial_findings

NORM = "gradient_norm/"  # before a phase's name, among the terms of training
COLLAPSED = 0.1  # share of active latent units, or of codes in use, that is too small
MIN_PATIENCE = 5  # intervals without progress


def diagnose(
    model: Family,
    batch: Batch,
    history: list[float],
    intervals: int,
    adversarial: dict | None = None,
    gradients: dict[str, float] | None = None,
    best: dict | None = None,
) -> list[str]:
    """Sentences about a model after an interval; an empty list when nothing is wrong.

    history: the validation metric of all intervals so far, lower is better. For an adversarial
    model also the numbers of its monitor, the gradient norm of each phase, and the best
    {"step", "value"}: see ``adversarial_findings``.
    """
    findings = []
    if has(model, EncodesDistribution) and len(batch) > 1:
        findings += posterior_findings(model, batch)
    if has(model, Quantises):
        findings += codebook_findings(model, batch)
    if not has(model, Judges):
        findings += progress_findings(history, intervals)
    elif adversarial:
        findings += adversarial_findings(adversarial, gradients or {}, best, model.spec.kind)
    return advise(findings, known_options(model))


def posterior_findings(model: Family, batch: Batch) -> list[Finding]:
    rng = Rng(0).at("health").to(batch.x.device)
    kl = model.kl_per_dimension(batch.x, batch.y, rng)
    active = active_units(model.posterior(batch.x, batch.y)[0], kl)
    count = int(active.sum())
    if count >= max(1, COLLAPSED * len(active)):
        return []
    detail = f"{count} of {len(active)} latent units active, z carries (almost) no information on x"
    remedies = (lower("beta"), use("kl_warmup", "0.3"), use("free_bits", "0.1"))
    return [Finding("posterior collapse", detail, remedies)]


def codebook_findings(model: Family, batch: Batch) -> list[Finding]:
    used = len(model.quantise(batch.x, batch.y).unique())
    if used >= max(2, COLLAPSED * model.codes):
        return []
    detail = f"{used} of {model.codes} codes in use, the code carries little information on x"
    remedies = (use("restart"), lower("commitment"), lower("codes"))
    return [Finding("codebook collapse", detail, remedies)]


def progress_findings(history: list[float], intervals: int) -> list[Finding]:
    """Not for adversarial models, whose distance is noisy: see ``distance_findings``."""
    patience = max(MIN_PATIENCE, intervals // 4)
    if len(history) <= patience or min(history[-patience:]) < min(history[:-patience]):
        return []
    detail = (
        f"the validation metric has not improved for {patience} intervals; "
        "the best checkpoint is kept, so you can stop here"
    )
    return [Finding("no progress", detail, (lower("lr"),))]


def known_options(model: Family) -> set[str]:
    """Options that would change this model's training: those of its family and of the training.

    Not among them: what the model refuses, and the loss if it is the one that is recommended.
    """
    known = {*getattr(type(model.trained_config), "model_fields", ()), *TrainConfig.model_fields}
    if model.conditional:
        known.discard("pack")
    if getattr(model.trained_config, "loss", "") == "relativistic":
        known.discard("loss")
    return known


# -- divergence -----------------------------------------------------------------------------------


class NotFinite(DivergedError):
    """Something that must be finite is not. reason: what, in words; times: how often so far."""

    def __init__(self, step: int, reason: str, model: Family, times: int = 1, more: str = ""):
        self.reason = reason
        again = {1: "", 2: " for the second time", 3: " for the third time"}[times]
        super().__init__(
            f"diverged at step {step}{again}: {reason}. "
            f"Lower {learning_rate_flags(model)}, or --clip the gradient more{more}"
        )


def learning_rate_flags(model: Family) -> str:
    """The options of a family's learning rates: "--lr", "--lr-d and --lr-g"."""
    fields = getattr(type(model.trained_config), "model_fields", ())
    return " and ".join(flag(name) for name in fields if name.split("_")[0] == "lr") or "--lr"


def describe_not_finite(terms: dict[str, float], loss: float, gradient_norm: float) -> str:
    """Which quantity of a step is not finite."""
    bad_terms = [name for name, value in terms.items() if not math.isfinite(value)]
    if bad_terms:
        quantity = f"the loss ({', '.join(bad_terms)})"
    elif not math.isfinite(loss):
        quantity = "the loss"
    else:
        quantity = f"the gradient (norm {gradient_norm})"
    return f"{quantity} is not finite; no weight was changed by it"
