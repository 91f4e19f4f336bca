"""Figures of several models side by side: latent planes, reconstructions beside PCA, samples."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...core.capabilities import Decodes, Encodes, Predicts, Reconstructs, has
from ...core.errors import UsageError
from ...evaluate.quality import QualityReference, nearest_training
from ...evaluate.reconstruction import principal_directions
from ...families import short_name
from ...inference import sample
from ...runs.load import LoadedRun
from ..context import MOST, FigureContext
from ..style import INK, SOFT, WIDTH, Drawing, Sheet, drawing, plain, save
from . import latent
from .images import (
    GAP,
    WIDE,
    block_cell,
    error_of_split,
    image_cell,
    reconstruct,
    row_height,
    squared_error,
    strip,
    tile,
)


def subjects_of(
    restoreds: Sequence[LoadedRun], seed: int, split: str, dims=(0, 1), command: str = ""
) -> list[FigureContext]:
    """One for each model. Raises UsageError unless all were trained on the same data."""
    if len({r.dataset.digest for r in restoreds}) != 1:
        raise UsageError(
            "side by side needs models of the same data: "
            + ", ".join(f"{r.run.name} has {r.dataset.name}" for r in restoreds)
        )
    restoreds[0].dataset.split(split)
    return [FigureContext(r, seed, split, tuple(dims), command) for r in restoreds]


def caption_of(subjects: list[FigureContext], what: str) -> list[str]:
    """Like Subject.caption, for several runs."""
    first = subjects[0]
    runs = ", ".join(f"{plain(s.loaded.run.name, 60)} ({s.trained})" for s in subjects)
    command = (
        first.command
        or f"fromnoise compare {' '.join(str(s.loaded.run.path) for s in subjects)} --seed {first.seed}"
    )
    return [
        f"{what} · runs {runs} · data {plain(first.dataset.name, 60)} ({first.split}) · seed {first.seed}",
        f"$ {plain(command, 400)}",
    ]


def title_of(loaded: LoadedRun) -> str:
    """A short name for a model: what it is, the size of its code, and what it is given besides x."""
    model, config = loaded.model, loaded.model.config
    corruption = getattr(config, "corruption", "none")
    parts = [
        getattr(config, "model", "")
        or (getattr(config, "network", "") if has(model, Predicts) else "")
        or short_name(loaded.run.info),
        f"{model.latent_dim}-D" if has(model, Encodes) else "",
        f"{corruption} denoiser" if corruption != "none" else "",
        "given the class" if model.conditional else "",
    ]
    return ", ".join(part for part in parts if part)


def titles_of(restoreds: Sequence[LoadedRun], titles: Sequence[str] | None = None) -> list[str]:
    """Titles as given or made up; the name of the run is added where two would be the same."""
    titles = [plain(title, 60) for title in titles or map(title_of, restoreds)]

    def same(title):
        return titles.count(title) > 1

    return [
        f"{title} ({plain(r.run.name, 30)})" if same(title) else title
        for r, title in zip(restoreds, titles)
    ]


# -- AE | VAE ------------------------------------------------------------------------------------------------


def compare_planes(
    restoreds: Sequence[LoadedRun],
    titles: Sequence[str] | None = None,
    *,
    out: Path,
    seed: int = 0,
    split: str = "test",
    dims: tuple[int, int] = (0, 1),
    command: str = "",
    name: str = "planes",
) -> list[Path]:
    """One column for each model: its codes by class above, the images decoded over the same plane below.

    Returns the files. Raises UsageError when a model has no encoder, no decoder or no two latent dimensions.
    """
    subjects = subjects_of(restoreds, seed, split, dims, command)
    for subject in subjects:
        if reason := why_no_plane(subject):
            raise UsageError(f"no latent plane of {subject.loaded.run.path}: {reason}")
    with drawing():
        return save(_planes(subjects, titles_of(restoreds, titles)), out, name)


def why_no_plane(subject: FigureContext) -> str:
    """ "" when codes and decoded images of the two dimensions asked for can be drawn, else the reason."""
    model = subject.model
    if not has(model, Encodes) or not has(model, Decodes) or subject.spec.kind != "image":
        return "it needs a model of images with an encoder and a decoder"
    return why_no_dims(subject)


def why_no_dims(subject: FigureContext) -> str:
    """ "" when the code has the two dimensions asked for, else the reason."""
    model, d = subject.model, subject.dims
    if model.latent_dim < 2:
        return "a plane needs two latent dimensions, and this model has one"
    if len(d) != 2 or d[0] == d[1] or not all(0 <= dim < model.latent_dim for dim in d):
        return f"--dims takes two different dimensions from 0 to {model.latent_dim - 1}, not {', '.join(map(str, d))}"
    return ""


def why_no_pair(subject: FigureContext) -> str:
    """The same for this model and the one beside it."""
    if subject.other is None:
        return "it needs a second model: name its run with --beside"
    beside = replace(subject, loaded=subject.other)
    if beside.dataset.digest != subject.dataset.digest:
        return f"{beside.loaded.run.path} was trained on other data"
    return why_no_plane(subject) or why_no_plane(beside)


def draw_planes(subject: FigureContext) -> Drawing:
    """This model's plane and the one of the model beside it."""
    both = [subject, replace(subject, loaded=subject.other)]
    return _planes(both, titles_of([s.loaded for s in both]))


def _planes(subjects: list[FigureContext], titles: list[str]):
    n, count = len(subjects), latent.cells_for(subjects[0].spec)
    side = (WIDTH - 44 * n) / n
    note = (
        f"Above: codes of {min(latent.POINTS, len(subjects[0].codes.z)):,} {subjects[0].split} images, a point is its class's glyph. "
        f"Below: images decoded over {latent.WIDEN} times the range of {len(subjects[0].codes.z):,} codes (dashed frame: that range)."
    )
    if any(latent.has_prior(s) for s in subjects):
        note += " Circles: the prior N(0, I) at 1σ and 2σ."
    sheet = Sheet(
        "Latent planes: " + " | ".join(titles), note, caption_of(subjects, "planes"), 2 * side + 108
    )
    numbers = []
    for i, (subject, title) in enumerate(zip(subjects, titles)):
        left = 36 + i * (side + 44)
        codes = sheet.axes(left, 38, side, side)
        latent.scatter(codes, subject, size=14 if len(subject.codes.z) > 600 else 36)
        sheet.text(left, 0, title, size=10.5, weight="bold")
        sheet.text(
            left,
            18,
            f"drawn: {subject.codes.kind.split(',')[0].split(' (')[0]}",
            size=8,
            color=SOFT,
        )
        images, ranges = latent.decoded_plane(subject, count)
        latent.plane_axes(sheet.axes(left, side + 74, side, side), subject, images, count, ranges)
        numbers.append(
            {
                "title": title,
                "run": subject.loaded.run.name,
                "drawn": subject.codes.kind,
                "range": ranges,
            }
        )
    alt = f"Side by side {', '.join(titles)}: above, latent codes coloured by class; below, the images decoded over the same plane."
    return sheet.done(
        {"models": numbers, "dims": list(subjects[0].dims), "widened": latent.WIDEN}, alt
    )


# -- reconstructions beside PCA ------------------------------------------------------------------------------


def compare_recon(
    restoreds: Sequence[LoadedRun],
    titles: Sequence[str] | None = None,
    *,
    out: Path,
    seed: int = 0,
    split: str = "test",
    command: str = "",
    name: str = "recon",
    n: int = 10,
) -> list[Path]:
    """The same images through every model that reconstructs, and through PCA of equal code size. Returns the files."""
    kept = [
        (r, t)
        for r, t in zip(restoreds, titles_of(restoreds, titles))
        if has(r.model, Reconstructs)
    ]
    if not kept or kept[0][0].dataset.spec.kind != "image":
        raise UsageError("no reconstructions to compare: none of these models reconstructs images")
    subjects = subjects_of([r for r, _ in kept], seed, split, command=command)
    with drawing():
        return save(_recon(subjects, [t for _, t in kept], n), out, name)


@torch.no_grad()
def _recon(subjects: list[FigureContext], titles: list[str], n: int):
    first = subjects[0]
    batch, wide = first.first(n), WIDE
    rows = [("input", "", first.pixels(batch.x))]
    numbers = []
    total = min(MOST, len(first.dataset.split(first.split)))
    lines = []
    for subject, title in zip(subjects, titles):
        error, _ = error_of_split(subject)
        size = subject.model.latent_dim if has(subject.model, Encodes) else None
        lines.append(
            (
                size,
                title,
                float(error.mean()),
                subject.pixels(reconstruct(subject, batch.x, batch.y)),
            )
        )
    for size in {size for size, *_ in lines if size is not None and size < first.spec.dims}:
        shown, mse = pca_reconstruction(first, size, batch.x)
        if not any(
            line[0] == size and abs(line[2] / mse - 1) < 1e-3 for line in lines
        ):  # else PCA is there already
            lines.append((size, f"PCA, {size}-D", mse, shown))
    for size, title, mse, shown in sorted(lines, key=lambda line: (line[0] or 10**9, line[2])):
        rows.append((title, f"error {mse:.4f}", shown))
        numbers.append({"title": title, "code_size": size, "mse": mse})
    cell = image_cell(first.spec, n, label=wide, most=56)
    line = row_height(first.spec, cell)
    note = (
        f"The first {len(batch)} {first.split} images and what each model makes of them, by size of code, then by error. Error: mean "
        f"square per pixel over {total:,} {first.split} images, pixels in [0, 1]. PCA is fitted to the training split."
    )
    sizes = [0] + [row["code_size"] for row in numbers]
    lift = np.cumsum(
        [0] + [10 * (a != b) for a, b in zip(sizes, sizes[1:])]
    )  # a gap where the size of the code changes
    sheet = Sheet(
        "Reconstructions beside PCA of equal code size",
        note,
        caption_of(subjects, "reconstructions"),
        len(rows) * line + lift[-1],
    )
    for i, (title, number, shown) in enumerate(rows):
        top = i * line + lift[i]
        sheet.picture(*strip(shown, cell, wide, top))
        middle = top + (line - GAP) / 2
        sheet.text(
            wide - 10, middle - (7 if number else 0), title, ha="right", va="center", color=INK
        )
        if number:
            sheet.text(wide - 10, middle + 7, number, size=7.5, ha="right", va="center", color=SOFT)
    best = min(numbers, key=lambda row: row["mse"])
    return sheet.done(
        {"rows": numbers, "n": total},
        f"{len(batch)} images and their reconstructions by {len(numbers)} models; least error: {best['title']} with {best['mse']:.4f}.",
    )


def pca_reconstruction(
    subject: FigureContext, size: int, x: torch.Tensor
) -> tuple[np.ndarray, float]:
    """x through PCA with ``size`` components of the training split; the mean squared error over the figure's split."""
    found = principal_directions(subject.dataset, size)
    mean, basis = found.mean, found.basis

    def through(x):
        return (mean + (x.cpu().flatten(1).double() - mean) @ basis @ basis.T).view(x.shape).float()

    error = torch.cat(
        [squared_error(batch.x.cpu(), through(batch.x)) for batch, _ in subject.batches()]
    )
    return subject.pixels(through(x)), float(error.double().mean())


# -- samples -------------------------------------------------------------------------------------------------


def compare_samples(
    restoreds: Sequence[LoadedRun],
    titles: Sequence[str] | None = None,
    *,
    out: Path,
    seed: int = 0,
    split: str = "test",
    command: str = "",
    name: str = "samples",
    quality_reference: QualityReference | None = None,
) -> list[Path]:
    """A block of samples of each model, beside it the training examples nearest to them. Returns the files. For images."""
    subjects = subjects_of(restoreds, seed, split, command=command)
    if subjects[0].spec.kind != "image":
        raise UsageError(
            f"samples side by side are drawn of images, and {subjects[0].dataset.name} holds none"
        )
    with drawing():
        return save(
            _samples(
                subjects,
                titles_of(restoreds, titles),
                quality_reference or subjects[0].quality_reference,
            ),
            out,
            name,
        )


def _samples(subjects: list[FigureContext], titles: list[str], quality_reference: QualityReference):
    first, gap = subjects[0], 36
    columns, rows = (10, 3) if first.spec.shape[2] <= 64 else (6, 2)
    n, block = columns * rows, (WIDTH - gap) / 2
    cell = block_cell(first.spec, columns, block)
    blocks = [(f"real ({first.split} images)", first.first(n).x.cpu())]
    blocks += [
        (title, sample.sample(s.loaded, n, s.seed).cpu()) for s, title in zip(subjects, titles)
    ]
    height = rows * row_height(first.spec, cell) + 34
    note = (
        f"Left: {n} samples of each model, none picked: the same seed, sample i depends on it and on i only. Right: at the same place the training example "
        f"nearest to each, by {quality_reference.pixels.name.partition('/')[0]}: what a sample may have been copied from. Real images show how near is usual."
    )
    sheet = Sheet(
        "Samples, and what they are nearest to",
        note,
        caption_of(subjects, "samples"),
        len(blocks) * height - 14,
    )
    numbers = []
    for i, (title, x) in enumerate(blocks):
        top = i * height
        distance, index = nearest_training(quality_reference, x)
        sheet.text(0, top, plain(title, 60), size=9, weight="bold", color=INK if i else SOFT)
        sheet.text(
            block + gap,
            top,
            f"nearest training examples, median distance {float(distance.median()):.2f}",
            size=8,
            color=SOFT,
        )
        for left, images in (
            (0, first.pixels(x)),
            (block + gap, first.pixels(first.dataset.batch("train", index.tolist()).x)),
        ):
            picture, width, tall = tile(images, columns, cell)
            sheet.picture(picture, left, top + 17, width, tall)
        numbers.append(
            {"title": title, "nearest": index.tolist(), "median_distance": float(distance.median())}
        )
    alt = f"Blocks of {n} images: real ones, and samples of {', '.join(titles)}; beside each block the training images nearest to them."
    return sheet.done({"n": n, "titles": titles, "blocks": numbers}, alt)
