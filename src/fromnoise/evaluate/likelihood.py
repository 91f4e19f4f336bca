"""How well a model predicts data that it never saw: exact likelihoods, lower bounds, and estimates
by a flow, in nats per example.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from ..core.capabilities import Classifies, HasFlow, HasLikelihood, HasPosterior, WeighsDraws, has
from ..core.errors import FromNoiseError
from ..core.rng import Rng
from ..core.spec import Batch
from ..core.words import shown
from ..data.codecs.columns import Column
from ..data.dataset import Dataset
from ..data.stream import in_order
from ..measures.estimate import share
from ..probability import ais
from ..probability.cells import Cells
from ..probability.diffusion.ode import EXACT_TRACE_DIMS, TRACE_PROBES
from ..probability.likelihood import dequantisation_nats
from ..runs.load import LoadedRun
from .protocol import absent, row

# test examples whose class is asked for: each costs as many likelihoods as there are classes
CLASSIFIED = 2000
ROWS_FOR_REPEATS = (
    20_000  # training rows in which a value that occurs again and again is looked for
)
FEWEST_REPEATS = 5  # rows with the same value
SHARE_OF_REPEATS = 0.01  # of the rows
# examples times z samples times dimensions at once: what stays in a core's cache, twice as fast as
# 2**24
NUMBERS_AT_ONCE = 2**20


@dataclass(frozen=True)
class Score:
    """mean of log p(x) or of its bound over n examples, nats; se: standard error over examples,
    None for one.
    """

    mean: float
    se: float | None
    n: int

    @staticmethod
    def of(parts: list[torch.Tensor]) -> "Score":
        """parts: nats of the examples of each batch."""
        values = torch.cat(parts).cpu().double()
        se = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
        return Score(float(values.mean()), se, len(values))


@torch.no_grad()
def score(
    loaded: LoadedRun,
    k: int = 1,
    n: int | None = None,
    split="test",
    seed: int = 0,
    chunk: int = 256,
) -> Score:
    """Mean log-likelihood (exact), ELBO (k = 1) or k-sample importance-weighted bound over n
    held-out examples.

    Example i has the same noise whatever n and the batch size are. With k above ``chunk`` the sum
    over z goes in chunks through a streaming log-sum-exp, each with noise of its own. Data with
    levels get uniform dequantisation noise when the model's likelihood is a density: the result is
    then a lower bound (Theis et al. 2016).
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
    """The ELBO of the draws of z that ``score`` makes, and what ``score`` gives.

    Both are of the same draws, so that the mean over k draws is never above the k-sample bound, in
    any example. Of a model that does not weigh its draws, and for k = 1, the first is ``score``
    with k = 1.
    """
    model, dataset, device = loaded.model, loaded.dataset, loaded.device
    assert has(model, HasLikelihood) and model.bound != "none"
    # a block of examples shares a key, in blocks of fixed size: one call for many random numbers
    chunk = max(1, min(chunk, NUMBERS_AT_ONCE // dataset.spec.dims))
    block = max(1, min(256, NUMBERS_AT_ONCE // dataset.spec.dims // min(k, chunk)))
    means, values, done = [], [], 0
    for batch in in_order(dataset, split, block, n, device):
        rng = Rng(seed, ("likelihood", split), device=device).at(done)
        done += len(batch)
        mean, value = both_bounds(model, dataset.spec, batch, rng, k, chunk)
        means.append(mean)
        values.append(value)
    return Score.of(means), Score.of(values)


@torch.no_grad()
def log_likelihoods(model, spec, batch: Batch, rng: Rng, k: int, chunk: int = 256) -> torch.Tensor:
    """log p(x) or its bound for each example of one batch, (B,) nats; the sum over k draws in
    chunks.
    """
    return both_bounds(model, spec, batch, rng, k, chunk)[1]


@torch.no_grad()
def both_bounds(
    model, spec, batch: Batch, rng: Rng, k: int, chunk: int = 256
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ELBO, and log p(x) or its bound, for each example of one batch, each (B,) nats; the sum
    over k draws in chunks.
    """
    x, extra = dequantised(batch.x, spec, rng) if model.continuous else (batch.x, 0.0)
    if k == 1 or model.bound == "exact" or has(model, HasFlow):
        value = model.log_likelihood(x, batch.y, rng, 1) + extra
        return value, value
    total, added, weighs = None, 0.0, has(model, WeighsDraws)
    chunks = -(-k // max(3, chunk))
    for i in range(
        chunks
    ):  # chunks of nearly equal size: none of one draw, which would mean the ELBO
        size = k // chunks + (i < k % chunks)
        if weighs:
            log_weights = model.log_weights(x, batch.y, rng.at("chunk", i), size)
            added, part = added + log_weights.double().sum(1), log_weights.logsumexp(1)
        else:
            part = model.log_likelihood(x, batch.y, rng.at("chunk", i), size) + math.log(size)
        total = part if total is None else torch.logaddexp(total, part)
    mean = added / k if weighs else model.log_likelihood(x, batch.y, rng, 1)
    return mean + extra, total - math.log(k) + extra


def dequantised(x: torch.Tensor, spec, rng: Rng) -> tuple[torch.Tensor, float]:
    """x with uniform noise within its levels or cells, and the nats that make a density there a
    bound of their probability.
    """
    if spec.has_cells:
        return Cells(spec).noise(x, rng), dequantisation_nats(spec)
    if not spec.levels:
        return x, 0.0
    return x + (rng.uniform("dequantise", x.shape) - 0.5) * (
        2 / (spec.levels - 1)
    ), dequantisation_nats(spec)


@torch.no_grad()
def by_flow(loaded: LoadedRun, n: int, split="test", seed: int = 0) -> tuple[Score, float, str]:
    """Log-likelihood by the probability flow, the mean error of its solver in nats, and how it was
    found, in words.

    Example i has the same noise whatever n is. The standard error is over examples and, where there
    are any, probes. Raises UsageError where the solver's error is too large.
    """
    model, spec = loaded.model, loaded.dataset.spec
    exact = spec.dims <= EXACT_TRACE_DIMS
    values, errors, ses, steps, done = [], [], [], 0, 0
    for batch in in_order(loaded.dataset, split, 100 if exact else 16, n, loaded.device):
        rng = Rng(seed, ("flow", split), device=loaded.device).at(done)
        x, extra = dequantised(batch.x, spec, rng)
        found = model.flow_log_likelihood(x, batch.y, rng, 0 if exact else TRACE_PROBES)
        (
            values.append(found.log_likelihood + extra),
            errors.append(found.error),
            ses.append(found.se),
        )
        done, steps = done + len(batch), max(steps, found.steps)
    values, se = torch.cat(values).cpu(), float(torch.cat(ses).square().sum().sqrt()) / done
    trace = (
        "exact trace"
        if exact
        else (
            f"trace from {TRACE_PROBES} random probes, whose part of the standard error is "
            f"{se:.2g} nats"
        )
    )
    over = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
    return (
        Score(float(values.mean()), over, len(values)),
        float(torch.cat(errors).mean()),
        f"probability flow, {steps} Runge-Kutta steps; {trace}",
    )


# of the chains four tune the step and are thrown away
AIS = dict(chains=16, steps=500, leapfrogs=5)


def annealed(
    loaded: LoadedRun,
    n: int,
    split="test",
    seed: int = 0,
    chains: int = 16,
    steps: int = 500,
    leapfrogs: int = 5,
) -> tuple[Score, float]:
    """log p(x) by annealed importance sampling from q(z | x), of the first n examples; and the
    share of accepted moves.

    The nearest to the truth that a decoder allows, and slow: ``steps * leapfrogs`` gradients for
    every chain. Still a lower bound on average (Wu et al. 2017). The standard error is over
    examples.
    """
    model, values, accepted = loaded.model, [], []
    for i, batch in enumerate(in_order(loaded.dataset, split, 20, n, loaded.device)):
        rng = Rng(seed, ("ais", split), device=loaded.device).at(i)
        z = model.draw_posterior(batch.x, batch.y, rng, chains).transpose(0, 1)  # (C, B, D)
        x = batch.x.repeat(chains, *[1] * (batch.x.ndim - 1))
        y = None if batch.y is None else batch.y.repeat(chains)
        # asked for twice at each z
        both = lru_cache(1)(lambda z, x=x, y=y: model.log_densities(z.flatten(0, 1), x, y))
        log_p, log_q = (
            lambda z, part=part, both=both: both(z)[part].view(z.shape[:2]) for part in (0, 1)
        )
        log_w, moved = ais.ais(log_q, log_p, z, rng, ais.sigmoid_schedule(steps), leapfrogs)
        values.append(ais.log_mean_weight(log_w)[0])
        accepted.append(moved)
    values = torch.cat(values).cpu().double()
    se = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
    return Score(float(values.mean()), se, len(values)), float(torch.cat(accepted).mean())


# -- rows of a report ----------------------------------------------------------------------------------------

NATS = "nats per example"
EXACT = {"log_likelihood": ("log-likelihood", "exact", None)}
OLD = (
    "its run is from before tables had probabilities, and took whole numbers and fixed decimals "
    "for continuous: train it anew"
)


def unit_of(dataset: Dataset) -> str:
    """What a likelihood of one example is: part of the card, so that a probability is not ranked
    with a density.

    A row of a table is a probability where all columns are categories or have fixed decimals; every
    other column adds the density of its standardised number.
    """
    if dataset.columns is None:
        return NATS
    densities = dataset.spec.densities
    if not densities:
        return "nats per row"
    return (
        f"nats per row, {densities} of {len(dataset.columns.columns)} columns as standardised "
        "densities"
    )


def why_none(loaded: LoadedRun) -> str:
    """Why this model has no likelihood, or ""."""
    model = loaded.model
    if not has(model, HasLikelihood):
        return "this family defines no density"
    if model.bound == "none":
        return model.reason
    columns = loaded.dataset.columns
    if columns is not None and columns.cells and not model.spec.cells:
        return OLD
    return repeated_value(loaded.dataset)


def repeated_value(dataset: Dataset) -> str:
    """Why the log-likelihood of these rows would have no upper limit, or "".

    A continuous number that takes one value in many rows (money: often exactly 0) has a probability
    there, not a density: a model that puts a narrow peak on the value reaches any log-likelihood.
    """
    spec = dataset.spec
    if spec.kind != "vector" or not spec.densities or "train" not in dataset.splits:
        return ""
    x = torch.cat([batch.x for batch in in_order(dataset, "train", limit=ROWS_FOR_REPEATS)])
    fewest = max(FEWEST_REPEATS, SHARE_OF_REPEATS * len(x))
    for component, (name, column) in continuous_components(dataset).items():
        most = int(x[:, component].unique(return_counts=True)[1].max())
        if most >= fewest:
            mend = (
                ""
                if column is None
                else f"; {column.describe_rounding()}, then each row has a probability"
            )
            return (
                f"{name} has one value in {most:,} of {len(x):,} rows, but is continuous: a "
                f"density has no upper limit there{mend}"
            )
    return ""


def continuous_components(dataset: Dataset) -> dict[int, tuple[str, Column | None]]:
    """The components of a vector whose likelihood is a density: their names, and their columns in a
    table.
    """
    spec = dataset.spec
    sizes = spec.blocks or (1,) * spec.dims
    columns = [None] * len(sizes)
    if dataset.columns is not None:
        columns = [column for column in dataset.columns.columns if not column.constant]
    found, component = {}, 0
    for column, size in zip(columns, sizes):
        if size == 1 and not (spec.cells and spec.cells[component][0] > 0):
            name = f"component {component}" if column is None else f"column {shown(column.name)}"
            found[component] = (name, column)
        component += size
    return found


def bounds(k: int) -> dict:
    return {
        "elbo": ("ELBO", "lower", 1),
        "importance_weighted": ("importance-weighted bound", "lower", k),
    }


def rows(loaded: LoadedRun, k: int, n: int | None, seed: int, anneal: int = 0) -> list[dict]:
    """Exact, ELBO and k-sample bound, in nats and bits per dimension; what a model does not have is
    said in words.

    anneal: so many examples also by annealed importance sampling.
    """
    model, spec = loaded.model, loaded.dataset.spec
    unit = unit_of(loaded.dataset)
    if reason := why_none(loaded):
        return _absent(EXACT | bounds(k), reason, unit)
    noisy = model.continuous and (spec.levels > 0 or spec.has_cells)
    what = "levels" if spec.levels else "cells"
    note = (
        f"uniform dequantisation: a lower bound of the probability of the {what}" if noisy else ""
    )
    if model.continuous and not noisy:
        note = "a density, in the model's own units"
    elif not noisy and spec.has_cells:
        note = "columns with fixed decimals are cells with a probability"
    given = None
    if model.conditional:
        given = "captions" if spec.caption else "labels"  # log p(x | y): they are for free
    common = {
        "reason": note,
        "dequantisation": "uniform" if noisy else None,
        "given": given,
        "group": "likelihood",
    }

    def told(name, label, s, bound, k, bits=True, error=None, **more):
        about, scale = (
            common | {"n": s.n, "bound": bound, "k": k} | more,
            1 / (spec.dims * math.log(2)),
        )
        found = [
            row(name, label, s.mean, unit, se=s.se, solver_error=error, better="higher", **about)
        ]
        if spec.levels and bits:
            found.append(
                row(
                    "bits_per_dim",
                    "bits per dimension",
                    -s.mean * scale,
                    "bits per dimension",
                    se=s.se and s.se * scale,
                    solver_error=error and error * scale,
                    better="lower",
                    **about,
                )
            )
        return found

    if model.bound == "exact":
        bound = "lower" if noisy else "exact"
        found = told(
            "log_likelihood", "log-likelihood", score(loaded, 1, n, seed=seed), bound, None
        )
        return [
            *found,
            *classification(loaded, n),
            *_absent(bounds(k), "the likelihood is computed, not bounded", unit),
        ]
    if has(model, HasFlow):
        bound = score(loaded, 1, n, seed=seed)
        kind = (
            f"of the probability of the {what}, without dequantisation"
            if spec.levels or spec.has_cells
            else note
        )
        return [
            *told(
                "elbo",
                "ELBO",
                bound,
                "lower",
                1,
                reason=f"variational, over levels of noise: {kind}",
            ),
            *flow_rows(loaded, bound.n, seed, told),
            *_absent(EXACT, "only bounded, and estimated by the flow", unit),
            *_absent(
                {"importance_weighted": bounds(k)["importance_weighted"]},
                "a bound over levels of noise has no such form",
                unit,
            ),
        ]
    more = []
    if anneal and has(model, HasPosterior) and not noisy:
        found, accepted = annealed(loaded, anneal, seed=seed, **AIS)
        how = (
            f"annealed importance sampling from q(z|x): {AIS['chains'] - 4} chains and 4 pilots, "
            f"{AIS['steps']} temperatures, {100 * accepted:.0f} % of the moves accepted"
        )
        more = [
            row(
                "annealed",
                "annealed importance sampling",
                found.mean,
                unit,
                se=found.se,
                n=found.n,
                bound="lower",
                k=AIS["steps"],
                better="higher",
                **(common | {"reason": how}),
            )
        ]
    mean, bound = scores(loaded, k, n, seed=seed)
    how = {
        "reason": "; ".join(
            filter(
                None, (f"mean over the same {k} draws of z as the importance-weighted bound", note)
            )
        )
    }
    return [
        *more,
        *told(
            "elbo",
            "ELBO",
            mean,
            "lower",
            1,
            bits=False,
            **(how if has(model, WeighsDraws) and k > 1 else {}),
        ),
        *told("importance_weighted", "importance-weighted bound", bound, "lower", k),
        *_absent(EXACT, "only bounded, from below", unit),
    ]


def flow_rows(loaded: LoadedRun, n: int, seed: int, told) -> list[dict]:
    """Of fewer examples than the n of the bound: each costs hundreds of evaluations of the
    network.
    """
    spec, name, label = loaded.dataset.spec, "flow_likelihood", "log-likelihood by the flow"
    try:
        found, error, how = by_flow(
            loaded, min(n, max(16, n // (10 if spec.dims <= EXACT_TRACE_DIMS else 100))), seed=seed
        )
    except FromNoiseError as refusal:
        return _absent({name: (label, "ode", None)}, f"refused: {refusal}", unit_of(loaded.dataset))
    noisy = spec.levels > 0 or spec.has_cells
    how += f", solver off by {error:.2g} nats" + ("; uniform dequantisation" if noisy else "")
    return told(
        name,
        label,
        found,
        "ode",
        None,
        error=error,
        reason=how,
        dequantisation="uniform" if noisy else None,
    )


@torch.no_grad()
def classification(loaded: LoadedRun, n: int | None) -> list[dict]:
    """How often the most probable class, by Bayes' rule from p(x | class), is the right one; none
    for data without classes.
    """
    model, dataset = loaded.model, loaded.dataset
    if not has(model, Classifies) or not dataset.spec.classes:
        return []
    about, more = (
        ("bayes_accuracy", "accuracy of p(class | x) by Bayes' rule", "share"),
        {"group": "likelihood", "better": "higher"},
    )
    if not model.conditional:
        return [
            absent(*about, "it needs a model of p(x | class): train with --conditional", **more)
        ]
    right = total = 0
    for batch in in_order(dataset, "test", 100, min(n or CLASSIFIED, CLASSIFIED), loaded.device):
        right += int((model.class_log_probs(batch.x).argmax(1) == batch.y).sum())
        total += len(batch)
    return [row(*about[:2], share(right, total), about[2], **more)]


def _absent(kinds: dict, reason: str, unit: str = NATS) -> list[dict]:
    return [
        absent(name, label, unit, reason, bound=bound, k=k, group="likelihood")
        for name, (label, bound, k) in kinds.items()
    ]
