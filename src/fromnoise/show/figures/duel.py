"""Scores of the discriminator: a heat map over the plane with its gradient, or extreme images."""

import numpy as np

from ..conditions import is_plane, judges
from ..context import FigureContext
from ..figure import Figure, Section, always
from ..image_rows import ImageRow, sheet_of_rows
from ..style import WIDTH, Drawing
from .duel_on_plane import draw_plane
from .duel_scores import Scored, draw_scores, figure_title, score_examples

# kind, key of the numbers, whether the lowest scores are shown
ROWS = (
    ("fake", "most real", False),
    ("fake", "least real", True),
    ("real", "it doubts most", True),
    ("real", "it trusts most", False),
)


def why_not(context: FigureContext) -> str:
    if reason := judges(context):
        return reason
    if context.spec.kind == "image" or not is_plane(context):
        return ""
    return "it is for images and points in the plane"


def draw_duel(context: FigureContext) -> Drawing:
    scored = score_examples(context)
    return (draw_images if context.spec.kind == "image" else draw_plane)(context, scored)


def draw_images(context: FigureContext, scored: Scored, columns: int = 8) -> Drawing:
    """The samples and the real images with the highest and the lowest scores."""
    note = (
        f"{scored.sentence} Below each image its score, high for real; of {len(scored.fake):,} "
        f"samples and {len(scored.real):,} real {context.split} images."
    )
    if context.conditional:
        note += " Each is scored as an example of its class."
    rows = []
    numbers = dict(scored.numbers)
    for kind, key, is_lowest in ROWS:
        scores = scored.scores[kind]
        order = np.argsort(-scores, kind="stable")
        chosen = (order[::-1] if is_lowest else order)[:columns]
        x = (scored.fake if kind == "fake" else scored.real)[chosen.tolist()]
        head = "samples with" if kind == "fake" else "real images with"
        name = "lowest scores" if is_lowest else "highest scores"
        labels = [f"{scores[row]:.2f}" for row in chosen]
        rows.append(ImageRow(head, context.pixels(x), name, labels))
        numbers[f"{kind} {key}"] = {"rows": chosen, "score": scores[chosen]}
    caption = context.caption("duel")
    sheet = sheet_of_rows(figure_title(context), note, caption, rows, most=60, top=190)
    draw_scores(sheet, scored.scores, 0, 18, WIDTH, 130)
    alt = (
        "Samples and real images with the discriminator's highest and lowest scores; "
        f"it orders {100 * numbers['separation']:.0f} % of pairs rightly."
    )
    return sheet.finish(numbers, alt)


FIGURE = Figure(
    name="duel",
    about="the discriminator's scores: over the plane with gradients, or of images",
    group="adversarial",
    needs=(why_not,),
    draw=draw_duel,
    on_page=always,
    section=Section(
        "Discriminator and samples",
        "The discriminator's scores of samples and of real examples, with raw weights.",
        place=140,
    ),
)
