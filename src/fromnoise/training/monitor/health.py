"""What is wrong with a run, in words, with the mend. Each sentence starts with a short name for tests and reports."""

import math

from ...core.capabilities import EncodesDistribution, Judges, Quantises, has
from ...core.config import flag
from ...core.errors import DivergedError
from ...core.family import Family
from ...core.rng import Rng
from ...core.spec import Batch
from ...measures.latents import active_units
from ..settings import TrainConfig
from . import adversarial as duel

NORM = "gradient_norm/"  # before a phase's name, among the terms of training


def diagnose(
    model: Family,
    batch: Batch,
    history: list[float],
    intervals: int,
    duel_numbers: dict | None = None,
    gradients: dict[str, float] | None = None,
    best: dict | None = None,
) -> list[str]:
    """Sentences about a model after an interval; an empty list when nothing is wrong.

    history: the held-out metric of all intervals so far, lower is better. For a model that ``Judges`` also its duel in
    numbers, the gradient norm of each phase, and the best {"step", "value"}: see ``duel.verdicts``.
    """
    found = []
    if has(model, EncodesDistribution) and len(batch) > 1:
        kl = model.kl_per_dimension(batch.x, batch.y, Rng(0).at("health").to(batch.x.device))
        active = active_units(model.posterior(batch.x, batch.y)[0], kl)
        n, total = int(active.sum()), len(active)
        if n < max(1, 0.1 * total):
            cure = duel.mends(
                known_options(model), "lower --beta", "give --kl-warmup 0.3", "give --free-bits 0.1"
            )
            found.append(
                f"posterior collapse: {n} of {total} latent units active, z says (almost) nothing about x: {cure}"
            )
    if has(model, Quantises):
        used = len(model.quantise(batch.x, batch.y).unique())
        if used < max(2, 0.1 * model.codes):
            cure = duel.mends(
                known_options(model), "give --restart", "lower --commitment", "take fewer --codes"
            )
            found.append(
                f"codebook collapse: {used} of {model.codes} codes in use, the code says little about x: {cure}"
            )
    if has(
        model, Judges
    ):  # "past its best" takes the place of "no progress": a duel's distance is never calm
        return found + (
            duel.verdicts(
                duel_numbers, gradients or {}, best, model.spec.kind, known_options(model)
            )
            if duel_numbers
            else []
        )
    patience = max(5, intervals // 4)
    if len(history) > patience and min(history[-patience:]) >= min(history[:-patience]):
        found.append(
            f"no progress: the held-out metric has not improved for {patience} intervals: "
            "stop here (the best checkpoint is kept), lower --lr, or use a smaller network"
        )
    return found


def known_options(model: Family) -> set[str]:
    """Options that would change this model's training: those of its family and the training's, less what it refuses and
    the loss where it is the one that a mend names."""
    known = {*getattr(type(model.trained_config), "model_fields", ()), *TrainConfig.model_fields}
    refused = {"pack"} if model.conditional else set()
    return (
        known
        - refused
        - ({"loss"} if getattr(model.trained_config, "loss", "") == "relativistic" else set())
    )


class NotFinite(DivergedError):
    """Something that must be finite is not. reason: what, in words; times: how often it has come to this."""

    def __init__(self, step: int, reason: str, model: Family, times: int = 1, more: str = ""):
        self.reason = reason
        again = "" if times == 1 else f" for the {'second third'.split()[times - 2]} time"
        super().__init__(
            f"diverged at step {step}{again}: {reason}. Lower {rates(model)}, or --clip the gradient more{more}"
        )


def rates(model: Family) -> str:
    """The options of a family's learning rates: "--lr", "--lr-d and --lr-g"."""
    fields = getattr(type(model.trained_config), "model_fields", ())
    return " and ".join(flag(name) for name in fields if name.split("_")[0] == "lr") or "--lr"


def not_finite(terms: dict[str, float], loss: float, gradient_norm: float) -> str:
    """What of a step is not finite, in words."""
    bad = ", ".join(name for name, value in terms.items() if not math.isfinite(value))
    what = (
        f"the loss ({bad})"
        if bad
        else "the loss"
        if not math.isfinite(loss)
        else f"the gradient (norm {gradient_norm})"
    )
    return f"{what} is not finite; no weight was changed by it"
