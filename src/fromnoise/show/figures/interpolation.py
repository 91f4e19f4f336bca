"""Images decoded on the straight line between the codes of two images."""

import torch

from ..conditions import decodes, encodes, is_image
from ..context import FigureContext
from ..figure import Figure
from ..image_rows import ImageRow, sheet_of_rows
from ..style import Drawing

MAX_SEARCH = 200  # rows that pairs are formed of


def pairs(context: FigureContext, count: int) -> list[tuple[int, int]]:
    """The first disjoint pairs of rows of different classes (one class if conditional)."""
    split = context.dataset.split(context.split)
    y = split.labels
    pairs: list[tuple[int, int]] = []
    free: list[int] = []
    for row in range(min(MAX_SEARCH, len(split))):
        partners = [
            other for other in free if y is None or (y[row] == y[other]) == context.conditional
        ]
        if not partners:
            free.append(row)
        elif len(pairs) < count:
            free.remove(partners[0])
            pairs.append((partners[0], row))
    return pairs


def has_pair(context: FigureContext) -> str:
    if pairs(context, 1):
        return ""
    return f"it needs two images of different classes in the {context.split} split"


@torch.no_grad()
def draw_interp(context: FigureContext, count: int = 8, steps: int = 10) -> Drawing:
    rows = pairs(context, count)
    a = context.rows([pair[0] for pair in rows])
    b = context.rows([pair[1] for pair in rows])
    z_a = context.model.encode(a.x, a.y)
    z_b = context.model.encode(b.x, b.y)
    t = torch.linspace(0, 1, steps, device=z_a.device)[None, :, None]
    z = (z_a[:, None] + t * (z_b - z_a)[:, None]).flatten(0, 1)
    y = a.y.repeat_interleave(steps, 0) if context.conditional else None
    decoded = context.decode(z, y).view(len(rows), steps, *context.spec.shape)
    classes = "of the split"
    if a.labels is not None:
        classes = "of one class" if context.conditional else "of different classes"
    note = (
        f"Left and right: two {context.split} images. Between them: images decoded on the straight "
        f"line between their codes. The first disjoint pairs of rows {classes}."
    )
    images = torch.cat([a.x[:, None], decoded, b.x[:, None]], 1)
    image_rows = []
    for pair, strip in zip(rows, images):
        image_rows.append(ImageRow(f"{pair[0]}, {pair[1]}", context.pixels(strip)))
    labels = ["image", *[""] * steps, "image"]
    caption = context.caption("interp")
    sheet = sheet_of_rows("Interpolation", note, caption, image_rows, labels, "rows")
    distance = (z_b - z_a).norm(dim=1).cpu().numpy()
    numbers = {"pairs": rows, "steps": steps, "distance_of_codes": distance}
    alt = (
        f"{len(rows)} rows, each from one {context.split} image to another through {steps} images "
        "decoded between their codes."
    )
    return sheet.finish(numbers, alt)


FIGURE = Figure(
    name="interp",
    about="between two images, through the codes",
    group="latents",
    needs=(is_image, encodes, decodes, has_pair),
    draw=draw_interp,
)
