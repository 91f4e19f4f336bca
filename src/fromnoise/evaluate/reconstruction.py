"""Reconstruction errors, compared with the best linear code of the same size."""

import math

import torch

from ..core.capabilities import Corrupts
from ..core.rng import Rng
from ..data.dataset import Dataset
from ..data.stream import in_order
from ..probability.pca import Components, principal_components
from ..runs.load import LoadedRun


def unit_scale(loaded: LoadedRun) -> float:
    """The factor from model form to the scale of errors: pixels in [0, 1]; vectors unchanged."""
    return 0.5 if loaded.dataset.spec.kind == "image" else 1.0


@torch.no_grad()
def errors(loaded: LoadedRun, split="test") -> torch.Tensor:
    """Mean squared reconstruction error of each example, (N,), float64."""
    model = loaded.model
    unit = unit_scale(loaded)
    parts = []
    for batch in in_order(loaded.dataset, split, device=loaded.device):
        difference = unit * (model.reconstruct(batch.x, batch.y) - batch.x)
        parts.append(difference.square().flatten(1).mean(1).double())
    return torch.cat(parts).cpu()


def principal_directions(dataset: Dataset, size: int, limit: int = 20_000) -> Components:
    """The ``size`` leading principal components of the first training examples, float64."""

    def batches():
        return (batch.x for batch in in_order(dataset, "train", limit=limit))

    return principal_components(batches, dataset.spec.dims, size)


@torch.no_grad()
def pca_errors(loaded: LoadedRun, components: Components, split="test") -> torch.Tensor:
    """Mean squared reconstruction error of PCA with these components, (N,)."""
    mean = components.mean
    basis = components.basis
    unit = unit_scale(loaded)
    parts = []
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
    pixels are clipped to [0, 1] for their own PSNR only, as in an image file.
    """
    totals = torch.zeros(2, dtype=torch.float64)
    n = 0
    for batch in in_order(loaded.dataset, split, device=loaded.device):
        rng = Rng(seed, ("denoise", split), device=loaded.device).per_row(range(n, n + len(batch)))
        noisy = corrupter.corrupt(batch.x, rng, level)
        clean = loaded.model.reconstruct(noisy)
        for i, image in enumerate((noisy.clamp(-1, 1), clean)):
            totals[i] += (0.5 * (image - batch.x)).square().flatten(1).mean(1).double().sum().cpu()
        n += len(batch)
    return {"noisy": psnr(float(totals[0] / n)), "denoised": psnr(float(totals[1] / n)), "n": n}


def standard_error(values: torch.Tensor) -> float | None:
    return float(values.std() / len(values) ** 0.5) if len(values) > 1 else None
