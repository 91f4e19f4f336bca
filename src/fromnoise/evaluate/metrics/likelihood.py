"""Likelihoods of held-out data: exact, lower bounds, and estimates by a flow."""

import math
from dataclasses import dataclass

import torch

from ...core.capabilities import Classifies, HasFlow, HasPosterior, WeighsDraws, has
from ...core.errors import FromNoiseError
from ...core.spec import DataSpec
from ...data.stream import in_order
from ...measures.estimate import share
from ...probability.diffusion.ode import EXACT_TRACE_DIMS
from ...runs.load import LoadedRun
from ..context import MetricContext
from ..likelihood import Score, annealed_score, flow_score, score, scores
from ..likelihood_checks import NATS, unit_of, why_none
from ..metric import Metric

# test examples that are classified: each costs as many likelihoods as there are classes
CLASSIFIED = 2000
AIS = dict(chains=16, steps=500, leapfrogs=5)
PILOTS = 4  # chains that tune the step size and are dropped


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
        }
        return LikelihoodCard(spec, unit_of(loaded.dataset), quantised, noisy, note, common)

    def rows(
        self, metric: Metric, score: Score, bound: str, k, bits=True, error=None, **more
    ) -> list[dict]:
        """The score in nats and, where data have levels and ``bits``, in bits per dimension."""
        card = self.common | {"n": score.n, "bound": bound, "k": k} | more
        rows = [metric.row(score.mean, unit=self.unit, se=score.se, solver_error=error, **card)]
        if self.spec.levels and bits:
            scale = 1 / (self.spec.dims * math.log(2))
            rows.append(
                BITS_PER_DIM.row(
                    -score.mean * scale,
                    se=score.se and score.se * scale,
                    solver_error=error and error * scale,
                    **card,
                )
            )
        return rows

    def absent(self, metric: Metric, reason: str, bound: str, k: int | None = None) -> dict:
        return _absent(metric, reason, self.unit, bound, k)


def _absent(metric: Metric, reason: str, unit: str, bound: str, k: int | None) -> dict:
    return metric.absent(reason, unit=unit, bound=bound, k=k, better=None)


def likelihood_rows(context: MetricContext) -> list[dict]:
    return rows(context.loaded, context.k, context.test_limit, context.seed, context.anneal)


def rows(loaded: LoadedRun, k: int, n: int | None, seed: int, anneal: int = 0) -> list[dict]:
    """Log-likelihood, ELBO and k-sample bound of n test examples, in nats and bits per dimension.

    What a model does not have is a row with the reason. anneal: number of examples that are also
    measured by annealed importance sampling.
    """
    if reason := why_none(loaded):
        unit = unit_of(loaded.dataset)
        return [
            _absent(LOG_LIKELIHOOD, reason, unit, "exact", None),
            _absent(ELBO, reason, unit, "lower", 1),
            _absent(WEIGHTED, reason, unit, "lower", k),
        ]
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
    reason = "the likelihood is computed, not bounded"
    return [
        *card.rows(LOG_LIKELIHOOD, exact, bound, None),
        *classification_rows(loaded, n),
        card.absent(ELBO, reason, "lower", 1),
        card.absent(WEIGHTED, reason, "lower", k),
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
    return [
        *card.rows(ELBO, elbo, "lower", 1, reason=reason),
        *flow_likelihood_rows(loaded, card, elbo.n, seed),
        card.absent(LOG_LIKELIHOOD, "only bounded, and estimated by the flow", "exact"),
        card.absent(WEIGHTED, "a bound over levels of noise has no such form", "lower", k),
    ]


def flow_likelihood_rows(loaded: LoadedRun, card: LikelihoodCard, n: int, seed: int) -> list[dict]:
    """Of fewer examples than the bound's n: each costs hundreds of evaluations of the network."""
    fraction = 10 if card.spec.dims <= EXACT_TRACE_DIMS else 100
    try:
        flow, error, method = flow_score(loaded, min(n, max(16, n // fraction)), seed=seed)
    except FromNoiseError as refusal:
        return [card.absent(FLOW, f"refused: {refusal}", "ode")]
    quantised = bool(card.quantised)
    method += f", solver off by {error:.2g} nats"
    if quantised:
        method += "; uniform dequantisation"
    dequantisation = "uniform" if quantised else None
    return card.rows(
        FLOW, flow, "ode", None, error=error, reason=method, dequantisation=dequantisation
    )


def annealed_row(loaded: LoadedRun, card: LikelihoodCard, n: int, seed: int) -> dict:
    annealed, accepted = annealed_score(loaded, n, seed=seed, **AIS)
    method = (
        f"annealed importance sampling from q(z|x): {AIS['chains'] - PILOTS} chains and {PILOTS} "
        f"pilots, {AIS['steps']} temperatures, {100 * accepted:.0f} % of the moves accepted"
    )
    return card.rows(ANNEALED, annealed, "lower", AIS["steps"], bits=False, reason=method)[0]


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
        *card.rows(ELBO, elbo, "lower", 1, bits=False, **more),
        *card.rows(WEIGHTED, weighted, "lower", k),
        card.absent(LOG_LIKELIHOOD, "only bounded, from below", "exact"),
    ]


@torch.no_grad()
def classification_rows(loaded: LoadedRun, n: int | None) -> list[dict]:
    """Accuracy of the most probable class by Bayes' rule from p(x | class), for data with classes."""
    model = loaded.model
    dataset = loaded.dataset
    if not has(model, Classifies) or not dataset.spec.classes:
        return []
    if not model.conditional:
        return [BAYES.absent("it needs a model of p(x | class): train with --conditional")]
    right = 0
    total = 0
    for batch in in_order(dataset, "test", 100, min(n or CLASSIFIED, CLASSIFIED), loaded.device):
        right += int((model.class_log_probs(batch.x).argmax(1) == batch.y).sum())
        total += len(batch)
    return [BAYES.row(share(right, total))]


# -- declarations ------------------------------------------------------------------------------

LOG_LIKELIHOOD = Metric(
    name="log_likelihood",
    label="log-likelihood",
    unit=NATS,
    better="higher",
    group="likelihood",
    headline="log p",
    question="Best likelihood among those that are computed",
    measure=likelihood_rows,
    order=90,
    headline_order=5,
    question_order=5,
    progress="log p {:.1f} nats",
    every_protocol=True,
    is_likelihood=True,
)
ELBO = Metric(
    name="elbo",
    label="ELBO",
    unit=NATS,
    better="higher",
    group="likelihood",
    is_likelihood=True,
)
WEIGHTED = Metric(
    name="importance_weighted",
    label="importance-weighted bound",
    unit=NATS,
    better="higher",
    group="likelihood",
    headline="bound",
    question="Best likelihood among those that are only bounded",
    headline_order=4,
    question_order=6,
    progress="bound {:.1f} nats",
    every_protocol=True,
    is_likelihood=True,
)
FLOW = Metric(
    name="flow_likelihood",
    label="log-likelihood by the flow",
    unit=NATS,
    better="higher",
    group="likelihood",
)
ANNEALED = Metric(
    name="annealed",
    label="annealed importance sampling",
    unit=NATS,
    better="higher",
    group="likelihood",
)
BITS_PER_DIM = Metric(
    name="bits_per_dim",
    label="bits per dimension",
    unit="bits per dimension",
    better="lower",
    group="likelihood",
)
BAYES = Metric(
    name="bayes_accuracy",
    label="accuracy of p(class | x) by Bayes' rule",
    unit="share",
    better="higher",
    group="likelihood",
)
METRICS = (LOG_LIKELIHOOD, ELBO, WEIGHTED, FLOW, ANNEALED, BITS_PER_DIM, BAYES)
