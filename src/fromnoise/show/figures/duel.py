"""Scores of the discriminator: a heat map over the plane with its gradient, or extreme images."""

from ...core.capabilities import Judges, has
from ..context import FigureContext
from ..figure import Figure, Section, always
from ..style import Drawing
from .duel_on_images import draw_images
from .duel_on_plane import draw_plane
from .duel_scores import score_examples


def why_not(context: FigureContext) -> str:
    if not has(context.model, Judges):
        return "this model has no discriminator"
    spec = context.spec
    if spec.kind == "image" or (spec.dims == 2 and context.dataset.columns is None):
        return ""
    return "it is for images and points in the plane"


def draw_duel(context: FigureContext) -> Drawing:
    scored = score_examples(context)
    return (draw_images if context.spec.kind == "image" else draw_plane)(context, scored)


FIGURE = Figure(
    name="duel",
    about="the discriminator's scores: over the plane with gradients, or of images",
    group="adversarial",
    why_not=why_not,
    draw=draw_duel,
    on_page=always,
    section=Section(
        "Discriminator and samples",
        "The discriminator's scores of samples and of real examples, with raw weights.",
        place=140,
    ),
)
