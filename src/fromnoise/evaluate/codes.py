"""Rows of a report about the latent codes of a model."""

import math

import torch
from torch import Tensor

from ..core.capabilities import Encodes, EncodesDistribution, Quantises, has
from ..core.rng import Rng
from ..data.stream import in_order
from ..measures import factors, latents
from ..measures.latents import active_units
from ..runs.load import LoadedRun
from .protocol import row

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
def rows(loaded: LoadedRun, seed: int) -> list[dict]:
    """Active units, KL, distance of the aggregate posterior from the prior, and disentanglement.

    Disentanglement is measured where the factors of the data are known.
    """
    model = loaded.model
    test = loaded.dataset.split("test")
    if has(model, Quantises):
        return codebook_rows(loaded)
    if not has(model, Encodes) or len(test) < 2:
        return []
    rows = []
    if has(model, EncodesDistribution):
        means, codes, kl = encode_distributions(loaded, seed)
        rows += posterior_rows(means, kl)
        rows += prior_rows(codes[:, : model.standard_dims])
    else:
        batches = in_order(loaded.dataset, "test", device=loaded.device)
        means = torch.cat([model.encode(batch.x, batch.y) for batch in batches]).double().cpu()
    if test.factors is not None and len(means) >= factors.FEWEST and means.shape[1] >= 2:
        rows += factor_rows(means, torch.from_numpy(test.factors), seed)
    return rows


def encode_distributions(loaded: LoadedRun, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior means (n, D), one draw of each posterior (n, D), mean KL by dimension (D,), nats."""
    model = loaded.model
    rng = Rng(seed, ("codes",), device=loaded.device)
    means = []
    codes = []
    kl = 0.0
    n = 0
    for batch in in_order(loaded.dataset, "test", device=loaded.device):
        mean, std = model.posterior(batch.x, batch.y)
        noise = rng.per_row(range(n, n + len(batch))).normal("eps", mean.shape)
        means.append(mean)
        codes.append(mean + std * noise)
        kl = kl + len(batch) * model.kl_per_dimension(batch.x, batch.y, rng.at(n))
        n += len(batch)
    return (
        torch.cat(means).double().cpu(),
        torch.cat(codes).double().cpu(),
        (kl / n).double().cpu(),
    )


def posterior_rows(means: Tensor, kl: Tensor) -> list[dict]:
    card = {"group": "latents", "n": len(means)}
    active = int(active_units(means, kl).sum())
    return [
        row("active_units", "active units", active, "latent dimensions", of=means.shape[1], **card),
        row(
            "kl", "KL of the posterior from the prior", float(kl.sum()), "nats per example", **card
        ),
    ]


def prior_rows(z: Tensor) -> list[dict]:
    """z (n, D): one draw from the posterior of each example."""
    if len(z) < FEWEST:
        return []
    return [
        row(
            "prior_distance",
            "distance of the aggregate posterior from the prior",
            latents.prior_distance(z),
            "squared mean discrepancy",
            better="lower",
            group="latents",
        )
    ]


def factor_rows(means: Tensor, known: Tensor, seed: int) -> list[dict]:
    """Scores of posterior means (n, D) against the known factors (n, F)."""
    scores = factors.disentanglement(means, known, Rng(seed, ("factors",)))
    rows = []
    for name, estimate in scores.items():
        label = f"{SCORES[name]} on the known factors"
        rows.append(
            row(
                f"factors_{name}",
                label,
                estimate,
                "score from 0 to 1",
                better="higher",
                group="latents",
                n=len(means),
            )
        )
    return rows


def codebook_rows(loaded: LoadedRun) -> list[dict]:
    """Size of a code of symbols, and how much of the codebook is used, on the test split."""
    model = loaded.model
    counts = 0
    n = 0
    for batch in in_order(loaded.dataset, "test", device=loaded.device):
        codes = model.quantise(batch.x, batch.y).flatten()
        counts = counts + torch.bincount(codes, minlength=model.codes).double().cpu()
        n += len(batch)
    places = math.prod(model.grid)
    used = int((counts > 0).sum())
    perplexity = float(torch.special.entr(counts / counts.sum()).sum().exp())
    card = {"group": "latents", "n": n}
    return [
        row(
            "code_bits",
            f"size of the code: {places} of {model.codes} symbols",
            places * math.log2(model.codes),
            "bits per example",
            **card,
        ),
        row("codes_used", "codes in use", used, "codes", of=model.codes, **card),
        row(
            "code_perplexity",
            "as many codes, used equally, would say as much",
            perplexity,
            "codes",
            of=model.codes,
            **card,
        ),
    ]
