"""Latent planes of several models: codes by class above, the images decoded over them below."""

from collections.abc import Sequence
from dataclasses import replace

from ...core.capabilities import Decodes, Encodes, has
from ..conditions import has_decoded_plane
from ..context import FigureContext
from ..figure import Figure, PageRequest, Section
from ..latent_plane import (
    POINTS,
    WIDEN,
    cells_for,
    decoded_plane,
    draw_codes,
    draw_plane,
    has_prior,
)
from ..side_by_side import caption_of, titles_of
from ..style import SOFT, WIDTH, Drawing, Sheet, plain

MAX_ON_PAGE = 3


def why_no_pair(context: FigureContext) -> str:
    """Why this model and the other one do not both have a plane, or ""."""
    if context.other is None:
        return "it needs a second model: name its run with --beside"
    other = replace(context, loaded=context.other)
    if other.dataset.digest != context.dataset.digest:
        return f"{other.loaded.run.path} was trained on other data"
    return has_decoded_plane(context) or has_decoded_plane(other)


def draw_planes(context: FigureContext) -> Drawing:
    """The planes of this model and of the other one."""
    contexts = [context, replace(context, loaded=context.other)]
    return _draw(contexts, titles_of([c.loaded for c in contexts]))


def _draw(contexts: Sequence[FigureContext], titles: Sequence[str]) -> Drawing:
    first = contexts[0]
    count = cells_for(first.spec)
    n = len(first.codes.z)
    side = (WIDTH - 44 * len(contexts)) / len(contexts)
    note = (
        f"Above: codes of {min(POINTS, n):,} {first.split} images, each point the glyph of its "
        f"class. Below: images decoded over {WIDEN} times the range of {n:,} codes (dashed frame: "
        "that range)."
    )
    if any(has_prior(context) for context in contexts):
        note += " Circles: the prior N(0, I) at 1σ and 2σ."
    title = "Latent planes: " + " | ".join(titles)
    sheet = Sheet(title, note, caption_of(contexts, "planes"), 2 * side + 108)
    numbers = []
    for i, (context, title) in enumerate(zip(contexts, titles)):
        left = 36 + i * (side + 44)
        kind = context.codes.kind
        sheet.add_head(left, 0, plain(title, int(side / 8)))
        drawn = f"drawn: {kind.split(',')[0].split(' (')[0]}"
        sheet.add_text(left, 18, drawn, size=8, color=SOFT)
        size = 14 if len(context.codes.z) > 600 else 36
        draw_codes(sheet.add_axes(left, 38, side, side), context, size)
        images, ranges = decoded_plane(context, count)
        axes = sheet.add_axes(left, side + 74, side, side)
        draw_plane(axes, context, images, count, ranges)
        run = context.loaded.run.name
        numbers.append({"title": title, "run": run, "drawn": kind, "range": ranges})
    alt = (
        f"Side by side {', '.join(titles)}: above, latent codes coloured by class; "
        "below, the images decoded over the same plane."
    )
    return sheet.finish({"models": numbers, "dims": list(first.dims), "widened": WIDEN}, alt)


def has_latent_plane(context: FigureContext) -> bool:
    """True if the latent space is a plane with an encoder and a decoder, and x is not noisy."""
    model = context.model
    if not has(model, Encodes) or not has(model, Decodes) or model.latent_dim != 2:
        return False
    return getattr(model.config, "corruption", "none") == "none"


def compare_planes(page: PageRequest) -> Drawing | None:
    """One column for each model whose code has two dimensions."""
    pairs = [pair for pair in zip(page.contexts, page.titles) if has_latent_plane(pair[0])]
    if not pairs or not page.has_images:
        return None
    contexts, titles = zip(*pairs[:MAX_ON_PAGE])
    return _draw(contexts, titles)


FIGURE = Figure(
    name="planes",
    about="scatter and grid of this model and of another one",
    group="latents",
    needs=(why_no_pair,),
    draw=draw_planes,
    compare=compare_planes,
    section=Section(
        "Latent planes",
        "The codes of test images in two dimensions, and the images decoded over the same plane.",
        place=40,
    ),
)
