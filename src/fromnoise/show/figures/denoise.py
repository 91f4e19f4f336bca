"""Noisy images, their reconstructions by a denoiser and another model, and the clean images."""

from collections.abc import Sequence

import numpy as np
import torch

from ...core.capabilities import Corrupts, Reconstructs, has
from ...core.errors import UsageError
from ...runs.load import LoadedRun
from ..conditions import is_image, reconstructs
from ..context import FigureContext
from ..figure import Figure, Section, always
from ..image_rows import ImageRow, sheet_of_rows, squared_error
from ..style import Drawing, plain

NAMES = {
    "gaussian": "Gaussian noise, σ",
    "mask": "masked, share",
    "salt-pepper": "salt and pepper, share",
}
MEASURED = 1000  # examples that PSNR is computed from


def is_denoiser(run: LoadedRun) -> bool:
    return getattr(run.model.config, "corruption", "none") != "none"


def why_not(context: FigureContext) -> str:
    if has(context.model, Corrupts) and is_denoiser(context.loaded):
        return ""
    return "this model was not trained to denoise: train one with --corruption gaussian"


def other_level(kind: str, level: float) -> float:
    """A level that was not used in training: 1.5 times as much noise, or half of the clean share."""
    return round(1.5 * level, 3) if kind == "gaussian" else round(level + (1 - level) / 2, 3)


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB, peak 1."""
    return float(-10 * np.log10(max(mse, 1e-10)))


@torch.no_grad()
def draw_denoise(context: FigureContext, n: int = 10) -> Drawing:
    """Noisy images, the other model's and the denoiser's reconstructions, clean; at two levels."""
    config = context.model.config
    models = {"denoiser": context.model}
    if context.other is not None:
        _check_other(context)
        models = {"plain autoencoder": context.other.model} | models
    trained = config.corruption_level
    levels = {
        trained: "as in training",
        other_level(config.corruption, trained): "not used in training",
    }
    total = min(MEASURED, len(context.dataset.split(context.split)))
    name = NAMES.get(config.corruption, config.corruption)
    rows = []
    numbers = []
    for level, meaning in levels.items():
        images, errors = _denoise(context, models, level, total, n)
        decibels = {key: psnr(value) for key, value in errors.items()}
        head = f"{name} = {level:g}: {meaning}"
        for key, pixels in images.items():
            number = f"{decibels[key]:.1f} dB" if key in decibels else ""
            rows.append(ImageRow(key, pixels, number, head=head))
            head = ""
        rows[-1].gap = 16
        is_trained = level == trained
        row = {"level": level, "trained": is_trained, "psnr": decibels, "mse": errors}
        numbers.append(row)
    note = _note(context, n, total)
    sheet = sheet_of_rows("Denoising", note, context.caption("denoise"), rows)
    gains = []
    for row in numbers:
        gain = row["psnr"]["denoiser"] - row["psnr"]["noisy"]
        gains.append(f"{gain:+.1f} dB at {row['level']:g}")
    alt = (
        "Noisy images, their reconstructions and the clean images; "
        f"the denoiser changes PSNR by {', '.join(gains)}."
    )
    return sheet.finish({"levels": numbers, "n": total, "corruption": config.corruption}, alt)


def _check_other(context: FigureContext) -> None:
    other = context.other
    if not has(other.model, Reconstructs) or other.dataset.spec != context.spec:
        raise UsageError(
            f"{other.run.path} cannot be compared with the denoiser: "
            "it must reconstruct images of the same shape"
        )


def _note(context: FigureContext, n: int, total: int) -> str:
    note = (
        f"The first {n} rows of the {context.split} split. PSNR over {total:,} {context.split} "
        "images, pixels clipped to [0, 1]; more is better. The input of a model is the noisy row."
    )
    if context.other is not None:
        run = plain(context.other.run.name, 60)
        note += f" Plain autoencoder: run {run}, trained on clean images only."
    return note


def _denoise(
    context: FigureContext, models: dict, level: float, total: int, n: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The first n images of each row, and the mean squared error of each over ``total`` examples."""
    shown: dict[str, np.ndarray] = {}
    sums: dict[str, float] = {}
    for batch, rows in context.batches(total):
        rng = context.rng("denoise", str(level)).per_row(rows)
        noisy = context.model.corrupt(batch.x, rng, level)
        images = {"noisy": noisy}
        for key, model in models.items():
            images[key] = model.reconstruct(noisy, batch.y)
        for key, x in images.items():
            error = float(squared_error(x.clamp(-1, 1), batch.x).sum())
            sums[key] = sums.get(key, 0.0) + error
        if rows.start == 0:
            images["clean"] = batch.x
            shown = {key: context.pixels(x[:n]) for key, x in images.items()}
    return shown, {key: value / total for key, value in sums.items()}


def choose_plain_model(runs: Sequence[LoadedRun], denoiser: LoadedRun) -> LoadedRun | None:
    """The model of the same family and data, trained on clean images, of the nearest code size."""
    candidates = []
    for run in runs:
        is_same_family = run.family.name == denoiser.family.name
        is_same_data = run.dataset.digest == denoiser.dataset.digest
        if is_same_family and is_same_data and not is_denoiser(run):
            candidates.append(run)

    size = getattr(denoiser.model, "latent_dim", 0)
    return min(
        candidates, key=lambda run: abs(getattr(run.model, "latent_dim", 0) - size), default=None
    )


FIGURE = Figure(
    name="denoise",
    about="noisy, denoised, clean, at the level of training and another one",
    group="reconstruction",
    needs=(is_image, reconstructs, why_not),
    draw=draw_denoise,
    on_page=always,
    choose_other=choose_plain_model,
    section=Section("Denoising", "The input of each model is the noisy row.", place=120),
)
