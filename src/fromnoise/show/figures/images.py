"""Figures of images: samples, reconstructions, the worst of them, denoising."""

import numpy as np
import torch
from torch import Tensor

from ...core.capabilities import Reconstructs, has
from ...core.errors import UsageError
from ...evaluate.quality import nearest_training
from ...inference import sample
from ..context import FigureContext
from ..style import INK, SOFT, WIDTH, Drawing, Sheet, cell_size, plain

LABEL = 128  # pixels left of image rows, for their names
WIDE = LABEL + 84  # the same where the names are those of models
GAP = 3


def tile(
    images: np.ndarray, columns: int, cell: float, gap: float = GAP, ground: int = 255
) -> tuple[np.ndarray, float, float]:
    """(N, H, W[, 3]) uint8 -> one picture with gaps, and the width and height in pixels to show it at."""
    n, h, w = images.shape[:3]
    rows = -(-n // columns)
    factor = max(1, round(cell * 2 / w))
    images = images.repeat(factor, 1).repeat(factor, 2)
    space = round(gap * w * factor / cell)
    h, w = h * factor, w * factor
    picture = np.full(
        (rows * (h + space) - space, columns * (w + space) - space, *images.shape[3:]),
        ground,
        np.uint8,
    )
    for i, image in enumerate(images):
        top, left = i // columns * (h + space), i % columns * (w + space)
        picture[top : top + h, left : left + w] = image
    return picture, picture.shape[1] * cell / w, picture.shape[0] * cell / w


def image_cell(spec, columns: int, label: float = LABEL, most: float = 72) -> float:
    """Width of one image so that ``columns`` of them stand beside their row names."""
    target = min(most, (WIDTH - label) / columns - GAP)
    cell = cell_size(spec.shape[2], target)
    return cell if columns * (cell + GAP) <= WIDTH - label + GAP else target


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Per example (B,), per component, images on the scale [0, 1]."""
    return ((a - b) / 2).square().flatten(1).mean(1)


def rows_of_images(
    sheet: Sheet,
    rows: list[tuple[str, str, np.ndarray]],
    cell: float,
    top: float = 0,
    label: float = LABEL,
) -> float:
    """Rows (name, number, images) under each other, ``label`` pixels for the names. Returns the next free pixel."""
    for name, number, images in rows:
        picture, _, _, width, height = strip(images, cell, label, top)
        sheet.picture(picture, label, top, width, height)
        middle = top + height / 2 - (7 if number else 0)
        sheet.text(label - 10, middle, name, size=8.5, color=INK, ha="right", va="center")
        if number:
            sheet.text(
                label - 10, middle + 14, number, size=7.5, color=SOFT, ha="right", va="center"
            )
        top += height + GAP
    return top


def strip(
    images: np.ndarray, cell: float, left: float, top: float
) -> tuple[np.ndarray, float, float, float, float]:
    """A row of images, as ``Sheet.picture`` takes it."""
    picture, width, height = tile(images, len(images), cell)
    return picture, left, top, width, height


def row_height(spec, cell: float) -> float:
    return cell * spec.shape[1] / spec.shape[2] + GAP


# -- samples -------------------------------------------------------------------------------------------------


def block_cell(spec, columns: int, width: float) -> float:
    """Width of an image so that ``columns`` of them fill a block of so many pixels; whole device pixels where they fit."""
    target = width / columns - GAP
    cell = cell_size(spec.shape[2], target)
    return cell if columns * (cell + GAP) <= width + GAP else target


def draw_samples(subject: FigureContext) -> Drawing:
    """A grid of samples and, in the same places of a second one, the training example that is nearest to each."""
    spec = subject.spec
    classes = subject.dataset.learned_classes if subject.conditional else ()
    by_class = 0 < len(classes) <= 10
    columns = len(classes) if by_class else 8
    n, block = columns * 8, (WIDTH - 40) / 2
    x = sample.sample(subject.loaded, n, subject.seed).cpu()
    distance, index = nearest_training(subject.quality_reference, x)
    copies = subject.pixels(subject.dataset.batch("train", index.tolist()).x)
    cell = block_cell(spec, columns, block)
    head = 34 if by_class else 20
    note = (
        f"Left: {n} samples, none picked: sample i depends on the seed and i only. Right: at the same place the training example nearest to each, by "
        f"{subject.quality_reference.pixels.name.partition('/')[0]}. Pairs that look the same are copies; pairs that look nothing alike are samples like nothing in the data."
    )
    if by_class:
        note += " One column for each class that was asked for."
    height = tile(copies, columns, cell)[2]
    sheet = Sheet(
        f"Samples of {plain(subject.loaded.run.name)}",
        note,
        subject.caption("samples"),
        height + head,
    )
    for left, words, images in (
        (0, "samples", subject.pixels(x)),
        (block + 40, "nearest training examples", copies),
    ):
        sheet.text(left, 0, words, size=9, weight="bold", color=INK if not left else SOFT)
        for i in range(
            columns if by_class and not left else 0
        ):  # what is near need not be of the class
            sheet.text(
                left + (i + 0.5) * (cell + GAP) - GAP / 2,
                17,
                subject.class_name(classes[i]),
                size=7.5,
                color=SOFT,
                ha="center",
            )
        picture, width, tall = tile(images, columns, cell)
        sheet.picture(picture, left, head, width, tall)
    numbers = {
        "n": n,
        "columns": columns,
        "labels": subject.dataset.default_conditions(range(n)) if subject.conditional else None,
        "nearest": index.tolist(),
        "distance": distance.numpy(),
        "median_distance": float(distance.median()),
    }
    alt = f"A grid of {n} images sampled from the model {plain(subject.loaded.run.name)}, beside a grid of the training images nearest to them."
    return sheet.done(numbers, alt)


# -- reconstructions -----------------------------------------------------------------------------------------


@torch.no_grad()
def reconstruct(subject: FigureContext, x: Tensor, y: Tensor | None) -> Tensor:
    return subject.model.reconstruct(x, y)


@torch.no_grad()
def draw_recon(subject: FigureContext, n: int = 10) -> Drawing:
    """Input on top, reconstruction below, the first rows of the split: two blocks of n."""
    batch = subject.first(2 * n)
    x_hat = reconstruct(subject, batch.x, batch.y)
    error, total = error_of_split(subject)
    cell = image_cell(subject.spec, n)
    height = 4 * row_height(subject.spec, cell) + 12
    note = f"The first {len(batch)} rows of the {subject.split} split. {_error_note(subject, error.mean(), total)}"
    sheet = Sheet(
        "Reconstructions: input above, reconstruction below", note, subject.caption("recon"), height
    )
    top, shown = 0.0, squared_error(batch.x, x_hat).tolist()
    for start in range(0, len(batch), n):
        part = slice(start, start + n)
        rows = [
            ("input", "", subject.pixels(batch.x[part])),
            ("reconstruction", "", subject.pixels(x_hat[part])),
        ]
        top = rows_of_images(sheet, rows, cell, top) + 12
    numbers = {
        "rows": list(range(len(batch))),
        "mse": shown,
        "mse_of_split": float(error.mean()),
        "n": total,
    }
    alt = f"{len(batch)} {subject.split} images and, below each, its reconstruction; mean squared error {error.mean():.4f}."
    return sheet.done(numbers, alt)


@torch.no_grad()
def draw_worst(subject: FigureContext, n: int = 8) -> Drawing:
    error, total = error_of_split(subject)
    order = np.argsort(-error, kind="stable")[:n]
    batch = subject.rows(order)
    x_hat = reconstruct(subject, batch.x, batch.y)
    cell = image_cell(subject.spec, n)
    height = 2 * row_height(subject.spec, cell) + 18
    note = (
        f"The {len(batch)} of {total:,} {subject.split} examples with the largest error, worst first. "
        f"{_error_note(subject, error.mean(), total)}"
    )
    sheet = Sheet("Worst reconstructions", note, subject.caption("worst"), height)
    rows = [("input", "", subject.pixels(batch.x)), ("reconstruction", "", subject.pixels(x_hat))]
    top = rows_of_images(sheet, rows, cell)
    for i, row in enumerate(order):
        sheet.text(
            LABEL + (i + 0.5) * (cell + GAP),
            top,
            f"{error[row]:.3f}",
            size=7.5,
            color=SOFT,
            ha="center",
        )
    sheet.text(LABEL - 10, top, "its error", size=7.5, color=SOFT, ha="right")
    numbers = {"rows": order, "mse": error[order], "mse_of_split": float(error.mean()), "n": total}
    return sheet.done(
        numbers,
        f"The {len(batch)} worst reconstructions; their errors go from {error[order[0]]:.3f} down to {error[order[-1]]:.3f}.",
    )


def error_of_split(subject: FigureContext) -> tuple[np.ndarray, int]:
    """Squared error of each of the first examples of the split."""
    parts = [
        squared_error(batch.x, reconstruct(subject, batch.x, batch.y))
        for batch, _ in subject.batches()
    ]
    error = torch.cat(parts).cpu().double().numpy()
    return error, len(error)


def _error_note(subject: FigureContext, mse: float, n: int) -> str:
    return f"Mean squared error per pixel over {n:,} {subject.split} images, pixels in [0, 1]: {mse:.4f}."


# -- denoising -----------------------------------------------------------------------------------------------


def other_level(kind: str, level: float) -> float:
    """A level that training never saw: half as much again, or half of what a share leaves."""
    return round(1.5 * level, 3) if kind == "gaussian" else round(level + (1 - level) / 2, 3)


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB, peak 1."""
    return float(-10 * np.log10(max(mse, 1e-10)))


@torch.no_grad()
def draw_denoise(subject: FigureContext, n: int = 10) -> Drawing:
    """Noisy, what a plain autoencoder makes of it, what the denoiser makes of it, and the truth, at two levels."""
    config, beside = subject.model.config, subject.other
    if beside is not None and (
        not has(beside.model, Reconstructs) or beside.dataset.spec != subject.spec
    ):
        raise UsageError(
            f"{beside.run.path} cannot stand beside the denoiser: it must reconstruct images of the same form"
        )
    trained = config.corruption_level
    levels = [
        (trained, "trained at this level"),
        (other_level(config.corruption, trained), "never trained at this level"),
    ]
    models = {"plain autoencoder": beside.model} if beside is not None else {}
    models["denoiser"] = subject.model
    cell = image_cell(subject.spec, n)
    rows = 2 + len(models)
    height = 2 * (rows * row_height(subject.spec, cell) + 36) - 22
    name = {
        "gaussian": "Gaussian noise, σ",
        "mask": "masked, share",
        "salt-pepper": "salt and pepper, share",
    }.get(config.corruption, config.corruption)
    total = min(1000, len(subject.dataset.split(subject.split)))
    note = (
        f"The first {n} rows of the {subject.split} split. PSNR of {total:,} {subject.split} images, everything cut to [0, 1] "
        "first; more is better. The network sees only the noisy row."
    )
    if beside is not None:
        note += (
            f" Plain autoencoder: run {plain(beside.run.name, 60)}, trained on clean images only."
        )
    sheet = Sheet("Denoising", note, subject.caption("denoise"), height)
    top, numbers = 0.0, []
    for level, said in levels:
        images, errors = _denoised(subject, models, level, total, n)
        db = {key: psnr(value) for key, value in errors.items()}
        sheet.text(0, top, f"{name} = {level:g}: {said}", size=9, weight="bold")
        lines = [(key, f"{db[key]:.1f} dB" if key in db else "", images[key]) for key in images]
        top = rows_of_images(sheet, lines, cell, top + 20) + 16
        numbers.append({"level": level, "trained": level == trained, "psnr": db, "mse": errors})
    gains = ", ".join(
        f"{row['psnr']['denoiser'] - row['psnr']['noisy']:+.1f} dB at {row['level']:g}"
        for row in numbers
    )
    return sheet.done(
        {"levels": numbers, "n": total, "corruption": config.corruption},
        f"Noisy images, their reconstructions and the clean images; the denoiser changes PSNR by {gains}.",
    )


def _denoised(
    subject: FigureContext, models: dict, level: float, total: int, n: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The first n images of each row, and the mean squared error of each over ``total`` examples."""
    shown, sums = {}, {}
    for batch, rows in subject.batches(total):
        rng = subject.rng("denoise", str(level)).per_row(rows)
        noisy = subject.model.corrupt(batch.x, rng, level)
        made = {"noisy": noisy} | {
            key: model.reconstruct(noisy, batch.y) for key, model in models.items()
        }
        for key, x in (made | {"clean": batch.x}).items():
            if rows.start == 0:
                shown[key] = subject.pixels(x[:n])
            if key != "clean":
                sums[key] = sums.get(key, 0.0) + float(squared_error(x.clamp(-1, 1), batch.x).sum())
    return shown, {key: value / total for key, value in sums.items()}
