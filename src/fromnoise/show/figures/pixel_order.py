"""Figures of images that come one symbol after another: how they fill, what surprises, what an upper half goes on with."""

import math

import numpy as np
import torch
from torch import Tensor

from ...core.capabilities import Predicts
from ...inference import sample
from ...probability.symbols import TALL, WIDE, Blocks
from ..colormap import bits_scale, tint
from ..context import FigureContext
from ..style import SOFT, WIDTH, Drawing, Sheet, plain
from .film import FRAMES, MILLISECONDS, animate
from .images import GAP, LABEL, image_cell, row_height, rows_of_images, tile

OPEN = (186, 202, 230)  # what is not there yet: no grey, which would be a pixel
HELD = 20  # frames that the finished images stay
AT_ONCE = 2**24  # log-probabilities in memory


def why_no_pixels(subject: FigureContext) -> str:
    """Why the symbols are no pixels, or ""."""
    blocks = isinstance(getattr(subject.model, "symbols", None), Blocks)
    return (
        ""
        if blocks or subject.model.length == subject.spec.dims
        else "the symbols of this model are not pixels one after another"
    )


def places(model: Predicts, shape: tuple[int, int, int]) -> np.ndarray:
    """Which symbol completes each pixel, (H, W)."""
    C, H, W = shape
    if isinstance(getattr(model, "symbols", None), Blocks):
        return np.arange(model.length).reshape(H // TALL, W // WIDE).repeat(TALL, 0).repeat(WIDE, 1)
    return np.arange(H * W).reshape(H, W) * C + C - 1


@torch.no_grad()
def pixel_surprise(
    model: Predicts, x: Tensor, y: Tensor | None, shape: tuple[int, int, int]
) -> np.ndarray:
    """-log2 p of each pixel given those before it, (B, H, W) bits; they sum up to that of the image."""
    C, H, W = shape
    found, rows = [], max(1, AT_ONCE // (model.length * model.vocabulary))
    for i in range(0, len(x), rows):
        s = model.to_symbols(x[i : i + rows])
        log_p = model.log_probs(s, None if y is None else y[i : i + rows])  # (b, T, V)
        symbols = getattr(model, "symbols", None)
        if isinstance(symbols, Blocks):
            within = symbols.by_pixel(log_p, s).view(-1, H // TALL, W // WIDE, TALL, WIDE)
            found.append(within.transpose(2, 3).reshape(-1, H, W))
        else:
            found.append(log_p.gather(2, s[:, :, None]).view(-1, H, W, C).sum(3))
    return -torch.cat(found).cpu().double().numpy() / math.log(2)


def blanked(images: np.ndarray, open: np.ndarray) -> np.ndarray:
    """uint8 images (N, H, W[, 3]) in colour, (N, H, W, 3), what is open (H, W) or (N, H, W) painted over."""
    colour = np.repeat(images[..., None], 3, 3) if images.ndim == 3 else images.copy()
    colour[np.broadcast_to(open, colour.shape[:3])] = OPEN
    return colour


# -- surprise ------------------------------------------------------------------------------------------------


def draw_surprise(subject: FigureContext, n: int = 10) -> Drawing:
    """Held-out images and the model's own, each above the map of its surprise."""
    model, spec, batch = subject.model, subject.spec, subject.first(n)
    y = subject.labels(n)
    own = sample.sample(subject.loaded, n, subject.seed, subject.label)
    blocks = {
        f"held out ({subject.split})": (batch.x, batch.y if subject.conditional else None),
        "its own": (own, y),
    }
    bits = {
        name: pixel_surprise(model, x, labels, spec.shape) for name, (x, labels) in blocks.items()
    }
    most = float(max(1, math.ceil(np.percentile(np.concatenate(list(bits.values())), 99.5))))
    cell = image_cell(spec, n)
    note = (
        "Below each image how much each of its pixels surprised the model, -log2 p given those before it: strong where the image turned out "
        "otherwise than expected. A perfect model is as surprised by real images as by its own, on average."
    )
    height = 26 + 2 * (2 * row_height(spec, cell) + 22) + 4
    sheet = Sheet(
        f"What surprises {plain(subject.loaded.run.name)}",
        note,
        subject.caption("surprise"),
        height,
    )
    bits_scale(sheet, WIDTH - 12, 0, "bits per pixel", most)
    top, numbers = 30.0, {}
    for name, (x, _) in blocks.items():
        each = bits[name].sum((1, 2))
        rows = [
            (name, "", subject.pixels(x)),
            ("surprise", f"mean {each.mean():.1f} bits", tint(bits[name], most)),
        ]
        top = rows_of_images(sheet, rows, cell, top)
        for i, value in enumerate(each):
            sheet.text(
                LABEL + i * (cell + GAP) + cell / 2,
                top,
                f"{value:.0f}",
                size=7.5,
                color=SOFT,
                ha="center",
            )
        sheet.text(LABEL - 10, top, "bits of the image", size=7.5, color=SOFT, ha="right")
        top += 22
        numbers[name] = {"bits": each, "bits_per_dim": float(each.mean() / spec.dims)}
    told = ", ".join(f"{name} {bits[name].sum((1, 2)).mean():.1f} bits" for name in blocks)
    return sheet.done(
        numbers | {"most": most},
        f"Images above maps of how much each pixel surprised the model; on average {told} an image.",
    )


# -- completions ---------------------------------------------------------------------------------------------


@torch.no_grad()
def draw_completions(subject: FigureContext, n: int = 10, draws: int = 6) -> Drawing:
    """Images of which the upper half is given, as they are, and several ways to go on."""
    spec, batch = subject.spec, subject.first(n)
    n, given = (
        len(batch),
        max(1, spec.shape[1] // 4 * 2),
    )  # even: a block of two rows is given as a whole
    mask = torch.zeros_like(batch.x, dtype=torch.bool)
    mask[:, :, :given] = True
    y = batch.y[torch.arange(n).repeat(draws)] if subject.conditional else None
    rng = subject.rng("completions").per_row(range(n * draws))

    def every(x):
        return x.repeat(draws, 1, 1, 1)

    made = subject.model.complete(
        every(batch.x), every(mask), y, subject.loaded.family.Options(), rng
    ).view(draws, n, *spec.shape)

    def apart(a, b):
        return float(((a - b) / 2)[..., given:, :].abs().mean())

    to_truth = float(np.mean([apart(one, batch.x) for one in made]))
    to_each_other = float(
        np.mean([apart(made[i], made[j]) for i in range(draws) for j in range(i)])
    )
    measure = "pixels that differ" if spec.levels == 2 else "mean difference of pixels in [0, 1]"
    note = (
        f"The upper {given} of {spec.shape[1]} rows of the first {n} {subject.split} images are given, and the model goes on {draws} times. "
        f"In the lower part, {measure}: {to_truth:.3f} between a draw and the truth, {to_each_other:.3f} between two draws. "
        "A perfect model makes the two equal; what it is sure of makes both small."
    )
    if subject.conditional:
        note += " The class is given too."
    cell = image_cell(spec, n)
    line = row_height(spec, cell)
    sheet = Sheet(
        f"Completions by {plain(subject.loaded.run.name)}",
        note,
        subject.caption("completions"),
        (2 + draws) * line + 12,
    )
    open = np.arange(spec.shape[1])[:, None] >= given + np.zeros((1, spec.shape[2]))
    true = subject.pixels(batch.x)
    top = rows_of_images(sheet, [("given", "", blanked(true, open)), ("true", "", true)], cell)
    rows_of_images(
        sheet,
        [(f"draw {i}", "", subject.pixels(one)) for i, one in enumerate(made, 1)],
        cell,
        top + 12,
    )
    numbers = {
        "rows": list(range(n)),
        "given": given,
        "draws": draws,
        "draw_to_truth": to_truth,
        "draw_to_draw": to_each_other,
    }
    return sheet.done(
        numbers,
        f"The upper halves of {n} images, the true images, and {draws} completions of each.",
    )


# -- order ---------------------------------------------------------------------------------------------------


def draw_order(subject: FigureContext, columns: int = 12) -> Drawing:
    """Samples as they fill, symbol by symbol: a film, and moments of it."""
    model, spec, T = subject.model, subject.spec, subject.model.length
    tiles, per_line = (10, 5) if max(spec.shape) <= 64 else (3, 3)
    images = subject.pixels(sample.sample(subject.loaded, tiles, subject.seed, subject.label))
    when = places(model, spec.shape)

    def at(done):
        return blanked(images, when >= done)

    counts = np.unique(np.linspace(0, T, min(T, FRAMES) + 1).round().astype(int))
    frames = [tile(at(done), per_line, max(56.0, spec.shape[2] / 2))[0] for done in counts]
    film, size = animate(frames + frames[-1:] * HELD)
    shown = min(6, tiles)
    cell = image_cell(spec, columns, label=64, most=60)
    unit = (
        f"blocks of {TALL} x {WIDE} pixels"
        if isinstance(getattr(model, "symbols", None), Blocks)
        else "pixels"
        if spec.shape[0] == 1
        else "colour components"
    )
    note = (
        f"order.webp beside this picture is the film: {tiles} samples, {T:,} symbols each ({unit}), row by row from the top; "
        f"{len(counts)} frames of {MILLISECONDS} ms. Each symbol is drawn from its distribution given all before it. Blue is what is not drawn yet."
    )
    moments = np.linspace(0, T, columns).round().astype(int)
    sheet = Sheet(
        f"How {plain(subject.loaded.run.name)} fills an image",
        note,
        subject.caption("order"),
        18 + shown * row_height(spec, cell),
    )
    for j, moment in enumerate(moments):
        sheet.text(
            64 + (j + 0.5) * (cell + GAP) - GAP / 2,
            0,
            f"{moment:,}",
            size=7.5,
            color=SOFT,
            ha="center",
        )
    sheet.text(54, 0, "symbols", size=7.5, color=SOFT, ha="right")
    y = subject.labels(tiles)
    strips = np.stack([at(moment)[:shown] for moment in moments], 1)  # (shown, columns, H, W, 3)
    rows_of_images(
        sheet,
        [
            (f"sample {i + 1}" if y is None else subject.class_name(int(y[i])), "", strips[i])
            for i in range(shown)
        ],
        cell,
        16,
        label=64,
    )
    numbers = {
        "symbols": T,
        "tiles": tiles,
        "frames": len(counts),
        "moments": moments,
        "bytes": len(film),
        "size": size,
    }
    drawing = sheet.done(
        numbers,
        f"{shown} rows of {columns} images: samples that fill row by row from the top, from nothing to {T:,} symbols.",
    )
    drawing.more["webp"] = film
    return drawing
