"""Images at rising noise levels, and what the model predicts from each."""

import numpy as np
import torch

from ..conditions import denoises, is_image
from ..context import FigureContext
from ..figure import Figure
from ..image_rows import ImageRow, sheet_of_rows
from ..style import Drawing

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
MEASURED = 256  # images that the explained variance is computed from
MIN_VARIANCE = 1e-9  # of pixels in [-1, 1]: below it images do not differ


@torch.no_grad()
def draw_forward(context: FigureContext, shown: int = 3) -> Drawing:
    """Images at rising noise levels, and the denoised image that the model predicts from each."""
    batch = context.first(MEASURED)
    noisy, denoised, explained = _denoise(context, batch, shown)
    shown = min(shown, len(batch))
    title = f"Images with noise, and what {context.name} predicts from them"
    note = _note(context, len(batch), bool(explained))
    rows = []
    for i in range(shown):
        rows += [ImageRow("noised", noisy[:, i]), ImageRow("prediction", denoised[:, i], gap=8)]
    alt = f"{shown} images at {len(LEVELS)} noise levels, and the prediction from each"
    if explained:
        rows[-1].labels = [f"{100 * max(share, 0):.0f}%" for share in explained]
        rows[-1].labels_name = "explained"
        alt += f"; it explains {100 * explained[5]:.0f} % of the variance at half noise"
    labels = [f"{level:.0%}" for level in LEVELS]
    sheet = sheet_of_rows(title, note, context.caption("forward"), rows, labels, "noise")
    return sheet.finish({"levels": LEVELS, "explained": explained, "n": len(batch)}, alt + ".")


def _denoise(
    context: FigureContext, batch, shown: int
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """By level: noisy and denoised pixels of the first images (levels, shown, H, W[, 3]).

    And the share of the variance that the prediction explains; empty if images do not differ.
    """
    model = context.model
    y = batch.y if context.conditional else None
    z = context.rng("forward").per_row(range(len(batch))).normal("z", batch.x.shape)
    train = context.dataset.batch("train", slice(0, MEASURED), device=batch.x.device)
    variance = float((batch.x - train.x.mean(0)).square().mean())
    noisy, denoised, explained = [], [], []
    for level in LEVELS:
        x_s = model.noised(batch.x, level, z)
        x_hat = model.clean(x_s, level, y, context.options)
        if variance > MIN_VARIANCE:
            explained.append(1 - float((x_hat - batch.x).square().mean()) / variance)
        noisy.append(context.pixels(x_s[:shown]))
        denoised.append(context.pixels(x_hat[:shown].clamp(-1, 1)))
    return np.stack(noisy), np.stack(denoised), explained


def _note(context: FigureContext, n: int, has_variance: bool) -> str:
    images = f"{n} {context.split} image{'s' * (n != 1)}"
    note = (
        "Each column mixes an image with the same noise ε, (1 - s) x + s ε with s on top: the input "
        "in training. Below it the model's prediction of x: the mean of all images that x may be, "
        "which is more blurred where the noise is stronger. "
    )
    if has_variance:
        return note + (
            f"Last line: the share of the variance of {images} about the mean of the training "
            "images that the prediction explains."
        )
    return note + (
        f"No share of explained variance: the {images} and the training images do not differ."
    )


FIGURE = Figure(
    name="forward",
    about="images at rising noise levels, and the model's predictions from them",
    group="noise",
    needs=(is_image, denoises),
    draw=draw_forward,
)
