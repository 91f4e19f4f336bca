"""How much of x survives the bottleneck, beside the best linear bottleneck of the same size."""

import math

import torch

from ..core.capabilities import Corrupts, Encodes, Reconstructs, has
from ..core.rng import Rng
from ..data.dataset import Dataset
from ..data.stream import in_order
from ..probability.pca import Components, principal_components
from ..runs.load import LoadedRun
from .protocol import row


def unit_scale(loaded: LoadedRun) -> float:
    """What brings differences to the scale that errors are told in: pixels in [0, 1]; vectors as
    the model sees them.
    """
    return 0.5 if loaded.dataset.spec.kind == "image" else 1.0


@torch.no_grad()
def errors(loaded: LoadedRun, split="test") -> torch.Tensor:
    """Mean squared reconstruction error of each example, (N,), float64."""
    model, unit = loaded.model, unit_scale(loaded)
    parts = [
        (unit * (model.reconstruct(b.x, b.y) - b.x)).square().flatten(1).mean(1).double()
        for b in in_order(loaded.dataset, split, device=loaded.device)
    ]
    return torch.cat(parts).cpu()


def principal_directions(dataset: Dataset, size: int, limit: int = 20_000) -> Components:
    """The ``size`` leading principal components of the first training examples, float64."""

    def batches():
        return (batch.x for batch in in_order(dataset, "train", limit=limit))

    return principal_components(batches, dataset.spec.dims, size)


@torch.no_grad()
def pca_errors(loaded: LoadedRun, found: Components, split="test") -> torch.Tensor:
    """The same for PCA with these components, (N,)."""
    mean, basis = found.mean, found.basis
    unit, parts = unit_scale(loaded), []
    for batch in in_order(loaded.dataset, split):
        x = batch.x.flatten(1).double() - mean
        parts.append((unit * (x - x @ basis @ basis.T)).square().mean(1))
    errors = torch.cat(parts)
    # as many components as dimensions: only rounding is left
    return torch.where(errors < 1e-12, 0.0, errors)


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in decibels, for values in [0, 1]."""
    return -10 * math.log10(max(mse, 1e-12))


@torch.no_grad()
def denoising_psnr(
    loaded: LoadedRun, corrupter: Corrupts, level: float | None = None, split="test", seed: int = 0
) -> dict:
    """PSNR in decibels of the corrupted input and of its reconstruction, against the clean image.

    corrupter: whose corruption is used; level: its strength (None: as in training). Corrupted
    pixels are clipped to [0, 1] for their own PSNR only, as a picture of them would be.
    """
    totals, n = torch.zeros(2, dtype=torch.float64), 0
    for batch in in_order(loaded.dataset, split, device=loaded.device):
        rng = Rng(seed, ("denoise", split), device=loaded.device).per_row(range(n, n + len(batch)))
        noisy = corrupter.corrupt(batch.x, rng, level)
        clean = loaded.model.reconstruct(noisy)
        for i, image in enumerate((noisy.clamp(-1, 1), clean)):
            totals[i] += (0.5 * (image - batch.x)).square().flatten(1).mean(1).double().sum().cpu()
        n += len(batch)
    return {"noisy": psnr(float(totals[0] / n)), "denoised": psnr(float(totals[1] / n)), "n": n}


# -- rows of a report ----------------------------------------------------------------------------------------


def rows(loaded: LoadedRun, seed: int) -> list[dict]:
    """Reconstruction beside PCA of equal code size, and denoising, for the models that do
    either.
    """
    model, found = loaded.model, []
    if has(model, Reconstructs) and has(model, Encodes):
        found += _beside_pca(loaded)
    if has(model, Corrupts) and getattr(model.config, "corruption", "none") != "none":
        psnr = denoising_psnr(loaded, model, seed=seed)
        what = {"unit": "decibels, peak 1", "n": psnr["n"], "group": "reconstruction"}
        found += [
            row("psnr_noisy", "PSNR of the corrupted input", psnr["noisy"], **what),
            row("psnr_denoised", "PSNR after denoising", psnr["denoised"], better="higher", **what),
        ]
    return found


def _beside_pca(loaded: LoadedRun) -> list[dict]:
    size = loaded.model.latent_dim
    found = principal_directions(loaded.dataset, size)
    mine, pca = errors(loaded), pca_errors(loaded, found)
    fitted = f"PCA fitted to {found.rows:,} training examples"
    image = loaded.dataset.spec.kind == "image"
    unit = (
        "squared error per pixel, pixels in [0, 1]"
        if image
        else "squared error per column, standardised"
    )

    def se(values):
        return float(values.std() / len(values) ** 0.5) if len(values) > 1 else None

    common = {"n": len(mine), "group": "reconstruction"}
    if size >= loaded.dataset.spec.dims:
        why = (
            f"a code of {size} numbers is not smaller than the data's {loaded.dataset.spec.dims}: "
            "a small error shows nothing"
        )
        return [
            row(
                "reconstruction_mse",
                "reconstruction error",
                float(mine.mean()),
                unit,
                se=se(mine),
                reason=why,
                **common,
            )
        ]
    found = [
        row(
            "reconstruction_mse",
            "reconstruction error",
            float(mine.mean()),
            unit,
            se=se(mine),
            better="lower",
            **common,
        )
    ]
    if float(pca.mean()) > 1e-12:
        # influence of each example on the ratio of means
        ratio = mine / pca.mean() - mine.mean() * pca / pca.mean() ** 2
        return [
            *found,
            row(
                "pca_reconstruction_mse",
                "the same of PCA with a code of equal size",
                float(pca.mean()),
                unit,
                se=se(pca),
                reason=fitted,
                **common,
            ),
            row(
                "ratio_to_pca",
                "error relative to PCA of equal code size",
                float(mine.mean() / pca.mean()),
                "ratio",
                se=se(ratio),
                better="lower",
                **common,
            ),
        ]
    why = f"PCA with {size} numbers loses nothing"
    return [
        *found,
        row(
            "pca_reconstruction_mse",
            "the same of PCA with a code of equal size",
            None,
            unit,
            reason=why,
            **common,
        ),
        row(
            "ratio_to_pca",
            "error relative to PCA of equal code size",
            None,
            "ratio",
            reason=why,
            **common,
        ),
    ]
