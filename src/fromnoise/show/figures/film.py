"""Samples along a closed path through the latent space, as a film."""

import numpy as np
import torch
from torch import Tensor

from ...core.capabilities import Decodes, DrawsLatents, has
from ...probability.diffusion.editing import slerp
from ..animation import FRAMES, MILLISECONDS, SHOWN, animate_tiles, tiles_of
from ..conditions import is_image
from ..context import FigureContext
from ..figure import Figure
from ..image_rows import ImageRow, sheet_of_rows
from ..style import Drawing

ANCHORS = 4  # z that a path goes through


def why_not(context: FigureContext) -> str:
    if has(context.model, Decodes) and has(context.model, DrawsLatents):
        return ""
    return "this model does not draw and decode latent vectors"


def closed_path(anchors: Tensor, frames: int, fine: int = 256) -> Tensor:
    """A path of constant speed by arcs through anchors (K, d) and back to the first, (frames, d).

    The first frame follows the last. fine: points of each arc, between which the path is linear.
    """
    t = torch.arange(fine, dtype=torch.float64) / fine
    z = anchors.cpu().double()
    arcs = [slerp(a, b, t) for a, b in zip(z, z.roll(-1, 0))]
    path = torch.cat([*arcs, z[:1]]).numpy()
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(lengths)])
    wanted = length[-1] * np.arange(frames) / frames
    columns = [np.interp(wanted, length, column) for column in path.T]
    return torch.from_numpy(np.stack(columns, 1)).to(anchors)


def draw_film(context: FigureContext, columns: int = 12) -> Drawing:
    """A film of one closed path for each tile; the sheet shows some of its frames."""
    tiles, per_line = tiles_of(context.spec)
    y = context.labels(tiles)
    z = _latent_paths(context, tiles, y)
    images = np.stack([context.pixels(context.decode(at_frame, y)) for at_frame in z])
    film, size = animate_tiles(list(images), per_line)
    n = min(SHOWN, tiles)
    note = (
        f"The film is film.webp: {tiles} tiles, each a closed path through {ANCHORS} z drawn from "
        f"the prior, along great circles at constant speed, {FRAMES} frames of {MILLISECONDS} ms. "
        f"Here: {columns} moments of the first {n} tiles, left to right; the path is closed."
    )
    title = f"A path through the latent space of {context.name}"
    moments = np.arange(columns) * FRAMES // columns
    seconds = [f"{moment * MILLISECONDS / 1000:.1f} s" for moment in moments]
    rows = []
    for i, name in enumerate(context.row_names(y, n, "tile")):
        rows.append(ImageRow(name, images[moments, i]))
    sheet = sheet_of_rows(title, note, context.caption("film"), rows, seconds)
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
    alt = f"{n} rows of {columns} images, each row a closed path through the latent space."
    return sheet.finish(numbers, alt, webp=film)


def _latent_paths(context: FigureContext, tiles: int, y: Tensor | None) -> Tensor:
    """z of each frame and tile, (FRAMES, tiles, d)."""
    rng = context.rng("film").per_row(range(tiles))
    drawn = [context.latents(tiles, rng.at(k), y) for k in range(ANCHORS)]
    anchors = torch.stack(drawn, 1)  # (tiles, ANCHORS, d)
    return torch.stack([closed_path(of_tile, FRAMES) for of_tile in anchors], 1)


FIGURE = Figure(
    name="film",
    about="a closed path through the latent space, as a film too",
    group="samples",
    needs=(is_image, why_not),
    draw=draw_film,
)
