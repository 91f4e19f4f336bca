"""Errors of reconstruction of the model and of PCA, and denoising."""

from dataclasses import replace

import torch

from ...core.capabilities import Corrupts, Encodes, Reconstructs, has
from ...probability.pca import Components
from ..context import MetricContext
from ..metric import Metric
from ..reconstruction import (
    denoising_psnr,
    errors,
    pca_errors,
    principal_directions,
    standard_error,
)


def error_rows(context: MetricContext) -> list[dict]:
    """The reconstruction error, and that of PCA with a code of equal size."""
    loaded = context.loaded
    model = loaded.model
    if not (has(model, Encodes) and has(loaded.model, Reconstructs)):
        return []
    spec = loaded.dataset.spec
    size = model.latent_dim
    mine = errors(loaded)
    card = {"n": len(mine), "unit": ERROR.unit}
    if spec.kind != "image":
        card["unit"] = "squared error per column, standardised"
    error = {"value": float(mine.mean()), "se": standard_error(mine)} | card
    if size >= spec.dims:
        reason = (
            f"a code of {size} numbers is not smaller than the data's {spec.dims}: a small error "
            "shows nothing"
        )
        return [ERROR.row(**error, reason=reason, better=None)]
    components = principal_directions(loaded.dataset, size)
    pca = pca_errors(loaded, components)
    return [ERROR.row(**error), *pca_rows(mine, pca, components, size, card)]


def pca_rows(
    mine: torch.Tensor, pca: torch.Tensor, components: Components, size: int, card: dict
) -> list[dict]:
    """Errors of the model and of PCA, (N,) each -> the error of PCA and their ratio."""
    if float(pca.mean()) <= 1e-12:
        reason = f"PCA with {size} numbers loses nothing"
        return [
            PCA_ERROR.row(None, reason=reason, **card),
            RATIO.row(None, reason=reason, n=card["n"], better=None),
        ]
    # influence of each example on the ratio of means
    influence = mine / pca.mean() - mine.mean() * pca / pca.mean() ** 2
    fitted = f"PCA fitted to {components.rows:,} training examples"
    ratio = float(mine.mean() / pca.mean())
    return [
        PCA_ERROR.row(float(pca.mean()), se=standard_error(pca), reason=fitted, **card),
        RATIO.row(ratio, se=standard_error(influence), n=card["n"]),
    ]


def denoising_rows(context: MetricContext) -> list[dict]:
    model = context.loaded.model
    is_denoiser = getattr(model.config, "corruption", "none") != "none"
    if not is_denoiser or not has(model, Corrupts):
        return []
    values = denoising_psnr(context.loaded, model, seed=context.seed)
    n = values["n"]
    return [NOISY.row(values["noisy"], n=n), DENOISED.row(values["denoised"], n=n)]


ERROR = Metric(
    name="reconstruction_mse",
    label="reconstruction error",
    unit="squared error per pixel, pixels in [0, 1]",
    better="lower",
    group="reconstruction",
    headline="error",
    question="Reconstructs best",
    measure=error_rows,
    order=100,
    headline_order=3,
    question_order=4,
    progress="reconstruction {:.4f}",
)
PCA_ERROR = Metric(
    name="pca_reconstruction_mse",
    label="the same of PCA with a code of equal size",
    unit=ERROR.unit,
    group="reconstruction",
)
RATIO = Metric(
    name="ratio_to_pca",
    label="error relative to PCA of equal code size",
    unit="ratio",
    better="lower",
    group="reconstruction",
)
NOISY = Metric(
    name="psnr_noisy",
    label="PSNR of the corrupted input",
    unit="decibels, peak 1",
    group="reconstruction",
    measure=denoising_rows,
    order=101,
)
DENOISED = replace(
    NOISY, name="psnr_denoised", label="PSNR after denoising", better="higher", measure=None
)
METRICS = (ERROR, PCA_ERROR, RATIO, NOISY, DENOISED)
