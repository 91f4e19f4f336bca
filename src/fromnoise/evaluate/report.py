"""From a run to report.json: what was measured, on what, how, and how sure it is."""

import torch

from ..core.family import Corrupts, Encodes, EncodesDistribution, HasLikelihood, Reconstructs, count_parameters
from ..core.files import canonical_json, write_atomic
from ..core.rng import Rng
from ..data.stream import in_order
from ..training.health import active_units
from ..training.launch import Restored
from . import likelihood, reconstruction

K = 100  # z samples of the importance-weighted bound
QUICK_N, QUICK_K = 500, 20


def metric(name: str, label: str, value: float | None, unit: str, **more) -> dict:
    """One row of a report. bound: "exact", "lower" or None; k: samples of z; se: standard error of the mean."""
    base = {"se": None, "bound": None, "k": None, "n": None, "split": "test", "better": None, "reason": ""}
    return {"name": name, "label": label, "value": value, "unit": unit} | base | more


def evaluate(restored: Restored, k: int = K, n: int | None = None, quick: bool = False, seed: int = 0) -> dict:
    """All metrics that this model can have, asked for by capability. Writes report.json (quick: report-quick.json) into the run.

    n: examples of the test split (None: all). Raises StorageError.
    """
    if quick:
        k, n = min(k, QUICK_K), min(n or QUICK_N, QUICK_N)
    model, run = restored.model, restored.run
    rows = []
    if isinstance(model, Reconstructs) and isinstance(model, Encodes):
        rows += _reconstruction(restored)
    if isinstance(model, Corrupts) and getattr(model.config, "corruption", "none") != "none":
        rows += _denoising(restored, seed)
    rows += _likelihood(restored, k, n, seed)
    if isinstance(model, EncodesDistribution):
        rows += _latent(restored)
    events = run.events("interval")
    report = {
        "run": run.name,
        "family": run.info["family"],
        "preset": run.info["preset"],
        "title": title(restored),
        "step": restored.step,
        "weights": "ema",
        "data": {"name": run.info["data"]["name"], "digest": restored.dataset.digest, "binarise": restored.dataset.binarise},
        "metrics": rows,
        "cost": {
            "parameters": count_parameters(model),
            "train_seconds": events[-1]["seconds"] if events else 0.0,
            "memory_mb": events[-1]["memory_mb"] if events else 0.0,
            "threads": run.info["threads"],
        },
        "health": events[-1]["health"] if events else [],
        "seed": seed,
    }
    # a quick look never replaces a measurement
    write_atomic(run.path / ("report-quick.json" if quick else "report.json"), canonical_json(report))
    return report


def title(restored: Restored) -> str:
    """A few words that tell this model from its neighbours: "VAE ladder, 32 latent dimensions"."""
    config, info = restored.run.info["config"], restored.run.info
    words = [info["family"] if info["preset"] == "default" else f"{info['family']} {info['preset']}"]
    if config.get("model") and config["model"] != info["preset"]:
        words[0] = f"{info['family']} {config['model']}"
    if config.get("corruption", "none") != "none" and "denois" not in words[0]:
        words[0] = f"denoising {words[0]}"
    if "latent_dim" in config:
        words.append(f"z of {config['latent_dim']}")
    if config.get("conditional"):
        words.append("conditional")
    return ", ".join(words)


def _reconstruction(restored: Restored) -> list[dict]:
    size = restored.model.latent_dim
    mine, pca = reconstruction.errors(restored), reconstruction.pca_errors(restored, size)
    image = restored.dataset.spec.kind == "image"
    unit = "squared error per pixel, pixels in [0, 1]" if image else "squared error per column, standardised"
    se = lambda values: float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
    ratio = float(mine.mean() / pca.mean()) if float(pca.mean()) > 1e-12 else None
    why = "" if ratio is not None else f"PCA with {size} numbers loses nothing"
    return [
        metric("reconstruction_mse", "reconstruction error", float(mine.mean()), unit, se=se(mine), n=len(mine), better="lower"),
        metric("pca_reconstruction_mse", "PCA of equal code size", None if why else float(pca.mean()), unit, se=None if why else se(pca), n=len(pca), reason=why),
        metric("ratio_to_pca", "error relative to PCA of equal code size", ratio, "ratio", n=len(mine), better="lower", reason=why),
    ]


def _denoising(restored: Restored, seed: int) -> list[dict]:
    found = reconstruction.denoising_psnr(restored, restored.model, seed=seed)
    what = {"unit": "decibels, peak 1", "n": found["n"], "better": "higher"}
    return [
        metric("psnr_noisy", "PSNR of the corrupted input", found["noisy"], what["unit"], n=found["n"]),
        metric("psnr_denoised", "PSNR after denoising", found["denoised"], **what),
    ]


def _likelihood(restored: Restored, k: int, n: int | None, seed: int) -> list[dict]:
    model, spec = restored.model, restored.dataset.spec
    if not isinstance(model, HasLikelihood):
        return _absent(EXACT | bounds(k), "this family defines no density")
    if model.bound == "none":
        return _absent(EXACT | bounds(k), model.reason)
    common = {"better": "higher", "unit": NATS}
    dequantised = model.continuous and spec.levels > 0
    note = "uniform dequantisation: a lower bound of the probability of the levels" if dequantised else ""
    if model.continuous and not spec.levels:
        note = "a density, in the model's own units (tables: standardised columns)"
    if model.bound == "exact":
        s = likelihood.score(restored, 1, n, seed=seed)
        bound = "lower" if dequantised else "exact"
        return [metric("log_likelihood", "log-likelihood", s.mean, se=s.se, n=s.n, bound=bound, reason=note, **common), *_bits(s, spec, bound, None, note), *_absent(bounds(k), "the likelihood is computed, not bounded")]  # fmt: skip
    elbo = likelihood.score(restored, 1, n, seed=seed)
    weighted = likelihood.score(restored, k, n, seed=seed)
    return [
        metric("elbo", "ELBO", elbo.mean, se=elbo.se, n=elbo.n, bound="lower", k=1, reason=note, **common),
        metric("importance_weighted", "importance-weighted bound", weighted.mean, se=weighted.se, n=weighted.n, bound="lower", k=k, reason=note, **common),
        *_bits(weighted, spec, "lower", k, note),
        *_absent(EXACT, "only bounded, from below"),
    ]  # fmt: skip


NATS = "nats per example"
EXACT = {"log_likelihood": ("log-likelihood", "exact", None)}


def bounds(k: int) -> dict:
    return {"elbo": ("ELBO", "lower", 1), "importance_weighted": ("importance-weighted bound", "lower", k)}


def _absent(rows: dict, reason: str) -> list[dict]:
    """Numbers that this model does not have, said in words."""
    return [metric(name, label, None, NATS, bound=bound, k=k, reason=f"none: {reason}") for name, (label, bound, k) in rows.items()]


def _bits(s: likelihood.Score, spec, bound, k, note) -> list[dict]:
    if not spec.levels:
        return []
    scale = 1 / (spec.dims * 0.6931471805599453)
    return [metric("bits_per_dim", "bits per dimension", -s.mean * scale, "bits per dimension", se=s.se and s.se * scale, n=s.n, bound=bound, k=k, better="lower", reason=note)]  # fmt: skip


@torch.no_grad()
def _latent(restored: Restored) -> list[dict]:
    model, rng, means, kl, n = restored.model, Rng(0, ("active",), device=restored.device), [], 0.0, 0
    for batch in in_order(restored.dataset, "test", device=restored.device):
        means.append(model.posterior(batch.x, batch.y)[0])
        kl = kl + len(batch) * model.kl_per_dimension(batch.x, batch.y, rng.at(n))
        n += len(batch)
    if n < 2:
        return []
    means = torch.cat(means)
    active = int(active_units(means, kl / n).sum())
    return [metric("active_units", "active units", active, f"of {means.shape[1]} latent dimensions", n=len(means))]
