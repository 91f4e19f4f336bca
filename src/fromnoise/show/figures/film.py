"""A walk through the latent space as a film, and the effect of staying near its middle.

The film is an animated WebP: every browser and GitHub play it, and of 96 frames it keeps what changes.
"""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.capabilities import Predicts, has
from ...inference import sample
from ...measures.separation import mean_distance
from ...probability.diffusion.editing import slerp
from ..context import FigureContext
from ..style import SOFT, Drawing, Sheet, plain
from .images import GAP, image_cell, row_height, rows_of_images, tile

ANCHORS, FRAMES, MILLISECONDS = 4, 96, 60  # of a film: 5.8 seconds a round
LIMIT = 1_500_000  # bytes of a film
FORMS = (
    (1.0, 85),
    (1.0, 70),
    (1.0, 50),
    (0.5, 70),
    (0.5, 40),
    (0.25, 50),
)  # share of the width, quality


# -- the walk ------------------------------------------------------------------------------------------------


def closed_walk(anchors: Tensor, frames: int, fine: int = 256) -> Tensor:
    """Through anchors (K, d) by arcs and back to the first, at constant speed: (frames, d), the first frame follows the last."""
    t = torch.arange(fine, dtype=torch.float64) / fine
    z = anchors.double().cpu()
    path = torch.cat([slerp(a, b, t) for a, b in zip(z, z.roll(-1, 0))] + [z[:1]])
    length = torch.cat(
        [torch.zeros(1, dtype=torch.float64), (path[1:] - path[:-1]).norm(dim=1).cumsum(0)]
    )
    wanted = length[-1] * torch.arange(frames, dtype=torch.float64) / frames
    place = torch.searchsorted(length, wanted, right=True).clamp(1, len(path) - 1)
    before = length[place - 1]
    share = ((wanted - before) / (length[place] - before).clamp(min=1e-12))[:, None]
    return path[place - 1].lerp(path[place], share).to(anchors)


def draw_film(subject: FigureContext, columns: int = 12) -> Drawing:
    """A closed walk for each tile, decoded; the sheet shows twelve moments of it."""
    spec = subject.spec
    tiles, per_line = (10, 5) if max(spec.shape) <= 64 else (3, 3)
    y = subject.labels(tiles)
    rng = subject.rng("film").per_row(range(tiles))
    anchors = torch.stack(
        [subject.latents(tiles, rng.at(k), y) for k in range(ANCHORS)], 1
    )  # tiles K d
    z = torch.stack([closed_walk(of_tile, FRAMES) for of_tile in anchors], 1)  # frames tiles d
    images = np.stack(
        [subject.pixels(subject.decode(at_once, y)) for at_once in z]
    )  # frames tiles H W
    film, size = animate(
        [tile(frame, per_line, max(56.0, spec.shape[2] / 2))[0] for frame in images]
    )
    shown = min(6, tiles)
    cell = image_cell(spec, columns, label=64, most=60)
    note = (
        f"film.webp beside this picture is the film: {tiles} tiles, each a closed walk through {ANCHORS} z that the model draws, along great circles at "
        f"constant speed, {FRAMES} frames of {MILLISECONDS} ms. Here: {columns} moments of the first {shown} tiles, left to right; after the last comes the first."
    )
    moments = np.arange(columns) * FRAMES // columns
    sheet = Sheet(
        f"A walk through the latent space of {plain(subject.loaded.run.name)}",
        note,
        subject.caption("film"),
        18 + shown * row_height(spec, cell),
    )
    for j, moment in enumerate(moments):
        sheet.text(
            64 + (j + 0.5) * (cell + GAP) - GAP / 2,
            0,
            f"{moment * MILLISECONDS / 1000:.1f} s",
            size=7.5,
            color=SOFT,
            ha="center",
        )

    def name(i):
        return f"tile {i + 1}" if y is None else subject.class_name(int(y[i]))

    rows_of_images(
        sheet, [(name(i), "", images[moments, i]) for i in range(shown)], cell, 16, label=64
    )
    step = (z - z.roll(1, 0)).norm(dim=2)
    numbers = {
        "tiles": tiles,
        "anchors": ANCHORS,
        "frames": FRAMES,
        "milliseconds": MILLISECONDS,
        "bytes": len(film),
        "size": size,
        "step": step.mean(0).cpu().numpy(),
    }
    drawing = sheet.done(
        numbers,
        f"{shown} rows of {columns} images, each row a closed walk through the latent space of the model.",
    )
    drawing.more["webp"] = film
    return drawing


def animate(frames: list[np.ndarray], limit: int = LIMIT) -> tuple[bytes, tuple[int, int]]:
    """uint8 pictures (H, W[, 3]) -> an endless animated WebP below ``limit`` bytes, coarser until it fits; its width, height."""
    for share, quality in FORMS:
        pictures = [Image.fromarray(frame).convert("RGB") for frame in frames]
        size = tuple(max(1, round(side * share)) for side in pictures[0].size)
        if size != pictures[0].size:
            pictures = [picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures]
        buffer = io.BytesIO()
        pictures[0].save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=pictures[1:],
            duration=MILLISECONDS,
            loop=0,
            quality=quality,
            method=2,
        )
        if len(buffer.getvalue()) <= limit:
            break
    return buffer.getvalue(), size


# -- truncation ----------------------------------------------------------------------------------------------

LEVELS = {
    "truncation": (4.0, 2.0, 1.5, 1.0, 0.5),
    "temperature": (1.0, 0.8, 0.6, 0.4, 0.2),
}  # in this order: a GAN's temperature is not of z
MEASURED = 256  # samples of each row that its diversity is computed from


def option_of(subject: FigureContext) -> str:
    """The sampling option that draws z nearer to its middle, or ""."""
    return next((name for name in LEVELS if name in subject.loaded.family.Options.model_fields), "")


def draw_truncation(subject: FigureContext, columns: int = 10) -> Drawing:
    """The same z, or random numbers, drawn ever nearer to the middle: a row of samples for each level."""
    option, spec = option_of(subject), subject.spec
    real = subject.first(MEASURED).x.cpu()
    n = len(real)
    whole = mean_distance(real.flatten(1))
    rows, numbers = [], []
    for level in LEVELS[option]:
        x = sample.sample(
            subject.loaded,
            n,
            subject.seed,
            options=subject.loaded.family.watching | {option: level},
        ).cpu()
        x = x.clamp(-1, 1)
        share = mean_distance(x.flatten(1)) / whole if whole else float("nan")
        numbers.append({option: level, "diversity": share})
        rows.append((f"{option} {level:g}", f"diversity {share:.2f}", subject.pixels(x[:columns])))
    rows.append(("real", "diversity 1", subject.pixels(real[:columns])))
    cell = image_cell(spec, columns)
    line = row_height(spec, cell)
    kept, meaning, safe = (
        "z",
        "the spread of z is multiplied by it",
        "What is drawn nearer to the middle",
    )
    if has(subject.model, Predicts):
        kept, meaning, safe = (
            "random numbers",
            "the probabilities of each symbol are taken to the power 1 / temperature",
            "What keeps to the likely symbols",
        )
    elif option == "truncation":
        meaning = (
            "components of z are drawn within so many standard deviations (4: as good as none)"
        )
    note = (
        f"A column keeps its {kept} while {option} falls: {meaning}. Diversity: mean distance in pixels of two of {n} samples, relative to {n} real {subject.split} images. "
        f"{safe} is safer and less varied."
    )
    sheet = Sheet(
        f"{option.capitalize()}: samples of {plain(subject.loaded.run.name)}",
        note,
        subject.caption("truncation"),
        len(rows) * line + 14,
    )
    top = rows_of_images(sheet, rows[:-1], cell)
    rows_of_images(sheet, rows[-1:], cell, top + 14)
    fall = f"{numbers[0]['diversity']:.2f} to {numbers[-1]['diversity']:.2f}"
    return sheet.done(
        {"levels": numbers, "n": n, "real": whole},
        f"{len(numbers)} rows of samples of falling {option}; their diversity goes from {fall} of that of real images.",
    )
