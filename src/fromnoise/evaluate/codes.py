"""Rows of a report about the latent codes of a model."""

import math

import torch

from ..core.capabilities import Encodes, EncodesDistribution, Quantises, has
from ..core.rng import Rng
from ..data.stream import in_order
from ..measures import factors, latents
from ..measures.latents import active_units
from ..runs.load import LoadedRun
from .protocol import row

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
    """Active units, KL, distance of the aggregate posterior from the prior; scores against known
    factors of the data.
    """
    model, dataset = loaded.model, loaded.dataset
    if has(model, Quantises):
        return codebook(loaded)
    if not has(model, Encodes) or len(dataset.split("test")) < 2:
        return []
    rng = Rng(seed, ("codes",), device=loaded.device)
    means, codes, kl, n = [], [], 0.0, 0
    for batch in in_order(dataset, "test", device=loaded.device):
        if has(model, EncodesDistribution):
            mean, std = model.posterior(batch.x, batch.y)
            codes.append(
                mean + std * rng.per_row(range(n, n + len(batch))).normal("eps", mean.shape)
            )
            kl = kl + len(batch) * model.kl_per_dimension(batch.x, batch.y, rng.at(n))
        else:
            mean = model.encode(batch.x, batch.y)
        means.append(mean)
        n += len(batch)
    means, found, group = torch.cat(means).double().cpu(), [], {"group": "latents", "n": n}
    if has(model, EncodesDistribution):
        kl = (kl / n).double().cpu()
        found += [
            row(
                "active_units",
                "active units",
                int(active_units(means, kl).sum()),
                "latent dimensions",
                of=means.shape[1],
                **group,
            ),
            row(
                "kl",
                "KL of the posterior from the prior",
                float(kl.sum()),
                "nats per example",
                **group,
            ),
        ]
        z = torch.cat(codes).double().cpu()[:, : model.standard_dims]
        if n >= 50:
            found.append(
                row(
                    "prior_distance",
                    "distance of the aggregate posterior from the prior",
                    latents.prior_distance(z),
                    "squared mean discrepancy",
                    better="lower",
                    group="latents",
                )
            )
    known = dataset.split("test").factors
    if known is not None and n >= factors.FEWEST and means.shape[1] >= 2:
        for name, value in factors.disentanglement(
            means, torch.from_numpy(known), Rng(seed, ("factors",))
        ).items():
            found.append(
                row(
                    f"factors_{name}",
                    f"{SCORES[name]} on the known factors",
                    value,
                    "score from 0 to 1",
                    better="higher",
                    **group,
                )
            )
    return found


def codebook(loaded: LoadedRun) -> list[dict]:
    """How much a grid of symbols can say of x, and how much of the codebook is in use, on the test
    split.
    """
    model, counts, n = loaded.model, 0, 0
    for batch in in_order(loaded.dataset, "test", device=loaded.device):
        counts = (
            counts
            + torch.bincount(model.quantise(batch.x, batch.y).flatten(), minlength=model.codes)
            .double()
            .cpu()
        )
        n += len(batch)
    places, group = math.prod(model.grid), {"group": "latents", "n": n}
    return [
        row(
            "code_bits",
            f"size of the code: {places} of {model.codes} symbols",
            places * math.log2(model.codes),
            "bits per example",
            **group,
        ),
        row(
            "codes_used", "codes in use", int((counts > 0).sum()), "codes", of=model.codes, **group
        ),
        row(
            "code_perplexity",
            "as many codes, used equally, would say as much",
            float(torch.special.entr(counts / counts.sum()).sum().exp()),
            "codes",
            of=model.codes,
            **group,
        ),
    ]
