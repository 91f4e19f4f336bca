"""The likelihood rows of a report."""

import math
from dataclasses import dataclass

import torch

from ..core.capabilities import Classifies, HasFlow, HasPosterior, WeighsDraws, has
from ..core.errors import FromNoiseError
from ..core.spec import DataSpec
from ..data.stream import in_order
from ..measures.estimate import share
from ..probability.diffusion.ode import EXACT_TRACE_DIMS
from ..runs.load import LoadedRun
from .likelihood import Score, annealed_score, flow_score, score, scores
from .likelihood_checks import unit_of, why_none
from .protocol import absent, row

# test examples that are classified: each costs as many likelihoods as there are classes
CLASSIFIED = 2000
AIS = dict(chains=16, steps=500, leapfrogs=5)
PILOTS = 4  # chains that tune the step size and are dropped
EXACT = {"log_likelihood": ("log-likelihood", "exact", None)}  # name -> label, bound, k


def bounds(k: int) -> dict:
    return {
        "elbo": ("ELBO", "lower", 1),
        "importance_weighted": ("importance-weighted bound", "lower", k),
    }


@dataclass(frozen=True)
class LikelihoodCard:
    """What the likelihood rows of one run have in common.

    quantised  "levels", "cells", or an empty string where neither is known
    noisy      whether uniform noise is added to them, so that a density bounds a probability
    """

    spec: DataSpec
    unit: str
    quantised: str
    noisy: bool
    note: str
    common: dict

    @staticmethod
    def of(loaded: LoadedRun) -> "LikelihoodCard":
        model = loaded.model
        spec = loaded.dataset.spec
        quantised = ""
        if spec.levels:
            quantised = "levels"
        elif spec.has_cells:
            quantised = "cells"
        noisy = model.continuous and bool(quantised)
        note = ""
        if noisy:
            note = f"uniform dequantisation: a lower bound of the probability of the {quantised}"
        elif model.continuous:
            note = "a density, in the model's own units"
        elif spec.has_cells:
            note = "columns with fixed decimals are cells with a probability"
        given = None
        if model.conditional:
            given = "captions" if spec.caption else "labels"  # log p(x | y): y is not paid for
        common = {
            "reason": note,
            "dequantisation": "uniform" if noisy else None,
            "given": given,
            "group": "likelihood",
        }
        return LikelihoodCard(spec, unit_of(loaded.dataset), quantised, noisy, note, common)

    def rows(
        self, name: str, label: str, score: Score, bound: str, k, bits=True, error=None, **more
    ) -> list[dict]:
        """The score in nats and, where data have levels and ``bits``, in bits per dimension."""
        card = self.common | {"n": score.n, "bound": bound, "k": k} | more
        rows = [
            row(
                name,
                label,
                score.mean,
                self.unit,
                se=score.se,
                solver_error=error,
                better="higher",
                **card,
            )
        ]
        if self.spec.levels and bits:
            scale = 1 / (self.spec.dims * math.log(2))
            rows.append(
                row(
                    "bits_per_dim",
                    "bits per dimension",
                    -score.mean * scale,
                    "bits per dimension",
                    se=score.se and score.se * scale,
                    solver_error=error and error * scale,
                    better="lower",
                    **card,
                )
            )
        return rows

    def absent(self, kinds: dict, reason: str) -> list[dict]:
        return _absent(kinds, reason, self.unit)


def rows(loaded: LoadedRun, k: int, n: int | None, seed: int, anneal: int = 0) -> list[dict]:
    """Log-likelihood, ELBO and k-sample bound of n test examples, in nats and bits per dimension.

    What a model does not have is a row with the reason. anneal: number of examples that are also
    measured by annealed importance sampling.
    """
    if reason := why_none(loaded):
        return _absent(EXACT | bounds(k), reason, unit_of(loaded.dataset))
    card = LikelihoodCard.of(loaded)
    if loaded.model.bound == "exact":
        return exact_rows(loaded, card, k, n, seed)
    if has(loaded.model, HasFlow):
        return flow_rows(loaded, card, k, n, seed)
    rows = []
    if anneal and has(loaded.model, HasPosterior) and not card.noisy:
        rows.append(annealed_row(loaded, card, anneal, seed))
    return rows + bound_rows(loaded, card, k, n, seed)


def exact_rows(
    loaded: LoadedRun, card: LikelihoodCard, k: int, n: int | None, seed: int
) -> list[dict]:
    bound = "lower" if card.noisy else "exact"
    exact = score(loaded, 1, n, seed=seed)
    return [
        *card.rows("log_likelihood", "log-likelihood", exact, bound, None),
        *classification_rows(loaded, n),
        *card.absent(bounds(k), "the likelihood is computed, not bounded"),
    ]


def flow_rows(
    loaded: LoadedRun, card: LikelihoodCard, k: int, n: int | None, seed: int
) -> list[dict]:
    """The variational bound of a diffusion model, and its likelihood by the flow."""
    elbo = score(loaded, 1, n, seed=seed)
    kind = card.note
    if card.quantised:
        kind = f"of the probability of the {card.quantised}, without dequantisation"
    reason = f"variational, over levels of noise: {kind}"
    weighted = {"importance_weighted": bounds(k)["importance_weighted"]}
    return [
        *card.rows("elbo", "ELBO", elbo, "lower", 1, reason=reason),
        *flow_likelihood_rows(loaded, card, elbo.n, seed),
        *card.absent(EXACT, "only bounded, and estimated by the flow"),
        *card.absent(weighted, "a bound over levels of noise has no such form"),
    ]


def flow_likelihood_rows(loaded: LoadedRun, card: LikelihoodCard, n: int, seed: int) -> list[dict]:
    """Of fewer examples than the bound's n: each costs hundreds of evaluations of the network."""
    name = "flow_likelihood"
    label = "log-likelihood by the flow"
    fraction = 10 if card.spec.dims <= EXACT_TRACE_DIMS else 100
    try:
        flow, error, method = flow_score(loaded, min(n, max(16, n // fraction)), seed=seed)
    except FromNoiseError as refusal:
        return card.absent({name: (label, "ode", None)}, f"refused: {refusal}")
    quantised = bool(card.quantised)
    method += f", solver off by {error:.2g} nats"
    if quantised:
        method += "; uniform dequantisation"
    dequantisation = "uniform" if quantised else None
    return card.rows(
        name, label, flow, "ode", None, error=error, reason=method, dequantisation=dequantisation
    )


def annealed_row(loaded: LoadedRun, card: LikelihoodCard, n: int, seed: int) -> dict:
    annealed, accepted = annealed_score(loaded, n, seed=seed, **AIS)
    method = (
        f"annealed importance sampling from q(z|x): {AIS['chains'] - PILOTS} chains and {PILOTS} "
        f"pilots, {AIS['steps']} temperatures, {100 * accepted:.0f} % of the moves accepted"
    )
    return row(
        "annealed",
        "annealed importance sampling",
        annealed.mean,
        card.unit,
        se=annealed.se,
        n=annealed.n,
        bound="lower",
        k=AIS["steps"],
        better="higher",
        **(card.common | {"reason": method}),
    )


def bound_rows(
    loaded: LoadedRun, card: LikelihoodCard, k: int, n: int | None, seed: int
) -> list[dict]:
    """The ELBO and the importance-weighted bound of a model with latent variables."""
    elbo, weighted = scores(loaded, k, n, seed=seed)
    more = {}
    if has(loaded.model, WeighsDraws) and k > 1:
        reason = f"mean over the same {k} draws of z as the importance-weighted bound"
        more["reason"] = f"{reason}; {card.note}" if card.note else reason
    return [
        *card.rows("elbo", "ELBO", elbo, "lower", 1, bits=False, **more),
        *card.rows("importance_weighted", "importance-weighted bound", weighted, "lower", k),
        *card.absent(EXACT, "only bounded, from below"),
    ]


@torch.no_grad()
def classification_rows(loaded: LoadedRun, n: int | None) -> list[dict]:
    """Accuracy of the most probable class by Bayes' rule from p(x | class), for data with classes."""
    model = loaded.model
    dataset = loaded.dataset
    if not has(model, Classifies) or not dataset.spec.classes:
        return []
    name = "bayes_accuracy"
    label = "accuracy of p(class | x) by Bayes' rule"
    card = {"group": "likelihood", "better": "higher"}
    if not model.conditional:
        reason = "it needs a model of p(x | class): train with --conditional"
        return [absent(name, label, "share", reason, **card)]
    right = 0
    total = 0
    for batch in in_order(dataset, "test", 100, min(n or CLASSIFIED, CLASSIFIED), loaded.device):
        right += int((model.class_log_probs(batch.x).argmax(1) == batch.y).sum())
        total += len(batch)
    return [row(name, label, share(right, total), "share", **card)]


def _absent(kinds: dict, reason: str, unit: str) -> list[dict]:
    rows = []
    for name, (label, bound, k) in kinds.items():
        rows.append(absent(name, label, unit, reason, bound=bound, k=k, group="likelihood"))
    return rows
