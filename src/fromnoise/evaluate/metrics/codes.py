"""The latent codes of a model: their use, their distance from the prior, and disentanglement."""

import math

import torch
from torch import Tensor

from ...core.capabilities import Encodes, EncodesDistribution, Quantises, has
from ...core.rng import Rng
from ...data.stream import in_order
from ...measures import factors, latents
from ...measures.latents import active_units
from ...runs.load import LoadedRun
from ..context import MetricContext
from ..metric import Metric

FEWEST = 50  # codes whose distance from the prior is measured
SCORES = {
    "mig": "mutual information gap",
    "dci_disentanglement": "DCI disentanglement",
    "dci_completeness": "DCI completeness",
    "dci_informativeness": "DCI informativeness",
    "sap": "SAP",
    "factor_vae": "FactorVAE score",
}


@torch.no_grad()
def code_rows(context: MetricContext) -> list[dict]:
    """Active units, KL, distance of the aggregate posterior from the prior, and disentanglement.

    Disentanglement is measured where the factors of the data are known.
    """
    loaded = context.loaded
    model = loaded.model
    test = loaded.dataset.split("test")
    if has(model, Quantises):
        return codebook_rows(loaded, model)
    if not has(model, Encodes) or len(test) < 2:
        return []
    rows = []
    if has(model, EncodesDistribution):
        means, codes, kl = encode_distributions(loaded, context.seed)
        rows += posterior_rows(means, kl)
        rows += prior_rows(codes[:, : model.standard_dims])
    else:
        batches = in_order(loaded.dataset, "test", device=loaded.device)
        means = torch.cat([model.encode(batch.x, batch.y) for batch in batches]).cpu().double()
    enough = len(means) >= factors.FEWEST and means.shape[1] >= 2
    if enough and test.factors is not None and test.factors.shape[1] >= 2:
        rows += factor_rows(means, torch.from_numpy(test.factors), context.seed)
    return rows


def encode_distributions(loaded: LoadedRun, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior means (n, D), one draw of each posterior (n, D; exact in the first
    ``standard_dims`` dimensions), mean KL by dimension (D,), nats."""
    model = loaded.model
    rng = Rng(seed, ("codes",), device=loaded.device)
    means = []
    codes = []
    kl = torch.zeros((), device=loaded.device)
    n = 0
    for batch in in_order(loaded.dataset, "test", device=loaded.device):
        mean, std = model.posterior(batch.x, batch.y)
        noise = rng.per_row(range(n, n + len(batch))).normal("eps", mean.shape)
        means.append(mean)
        codes.append(mean + std * noise)
        kl = kl + len(batch) * model.kl_per_dimension(batch.x, batch.y, rng.at(n))
        n += len(batch)
    return (
        torch.cat(means).cpu().double(),
        torch.cat(codes).cpu().double(),
        (kl / n).cpu().double(),
    )


def posterior_rows(means: Tensor, kl: Tensor) -> list[dict]:
    n = len(means)
    active = int(active_units(means, kl).sum())
    return [ACTIVE.row(active, of=means.shape[1], n=n), KL.row(float(kl.sum()), n=n)]


def prior_rows(z: Tensor) -> list[dict]:
    """z (n, D): one draw from the posterior of each example."""
    return [PRIOR.row(latents.prior_distance(z))] if len(z) >= FEWEST else []


def factor_rows(means: Tensor, known: Tensor, seed: int) -> list[dict]:
    """Scores of posterior means (n, D) against the known factors (n, F)."""
    scores = factors.disentanglement(means, known, Rng(seed, ("factors",)))
    return [FACTORS[name].row(estimate, n=len(means)) for name, estimate in scores.items()]


def codebook_rows(loaded: LoadedRun, model: Quantises) -> list[dict]:
    """Size of a code of symbols, and how much of the codebook is used, on the test split."""
    counts = 0
    n = 0
    for batch in in_order(loaded.dataset, "test", device=loaded.device):
        codes = model.quantise(batch.x, batch.y).flatten()
        counts = counts + torch.bincount(codes, minlength=model.codes).cpu().double()
        n += len(batch)
    places = math.prod(model.grid)
    used = int((counts > 0).sum())
    perplexity = float(torch.special.entr(counts / counts.sum()).sum().exp())
    label = f"{BITS.label}: {places} places, {model.codes} symbols each"
    return [
        BITS.row(places * math.log2(model.codes), label=label, n=n),
        USED.row(used, of=model.codes, n=n),
        PERPLEXITY.row(perplexity, of=model.codes, n=n),
    ]


ACTIVE = Metric(
    name="active_units",
    label="active units",
    unit="latent dimensions",
    group="latents",
    measure=code_rows,
    order=110,
)
KL = Metric(
    name="kl",
    label="KL of the posterior from the prior",
    unit="nats per example",
    group="latents",
)
PRIOR = Metric(
    name="prior_distance",
    label="distance of the aggregate posterior from the prior",
    unit="squared maximum mean discrepancy",
    better="lower",
    group="latents",
)
FACTORS = {
    score: Metric(
        name=f"factors_{score}",
        label=f"{label} on the known factors",
        unit="score from 0 to 1",
        better="higher",
        group="latents",
    )
    for score, label in SCORES.items()
}
BITS = Metric(name="code_bits", label="size of the code", unit="bits per example", group="latents")
USED = Metric(name="codes_used", label="codes in use", unit="codes", group="latents")
PERPLEXITY = Metric(
    name="code_perplexity",
    label="effective number of codes (perplexity)",
    unit="codes",
    group="latents",
)
METRICS = (ACTIVE, KL, PRIOR, *FACTORS.values(), BITS, USED, PERPLEXITY)
