"""Whether an image of ``shapes`` agrees with its caption, by the rules of drawing (data/shapes).

Analysis by synthesis: what stands out from the ground is cut into connected parts; the colour of a
part is that on whose line from the ground its pixels lie; how much of each pixel it fills gives its
centre of mass and its size; the shape is that which, drawn there in that size, differs least. What
differs too much from all of them is none.

Measured on 2,000 test and 2,000 unseen pictures at side 32 (tests/measures/test_attributes.py holds a
smaller run to it). Wrong captions have one attribute changed: colour, shape, size, relation,
number, or the two things exchanged. Noise and blur are Gaussian, their deviations on the scale [-1,
1] and in pixels:

    noise                0     0.05  0.1   0.2   0.3   0     0     0     0     0.1   0.1
    blur                 0     0     0     0     0     0.5   0.7   0.85  1     0.5   0.7
    right ones refused   0     0     0     0.2   98    0     0     1.1   28    0     0.4    %
    wrong ones accepted  0     0     0     0     0     0     0     0.1   0.5   0     0.2    %

The wrong captions that are accepted are those with another shape.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy import ndimage

from ..data.shapes.captions import CaptionShape, Scene, parse_caption
from ..data.shapes.drawing import COLOURS, GROUND, SHAPES, SIDE, SIZES, pixel_coverage

STANDS_OUT = 80  # levels from the ground: about a third of a colour's distance
SPECK = 5  # pixels at side 32: less than this is dirt and no thing (the smallest thing fills 25)
# levels, root mean square: farther from the line to every colour, it has none (the lines' middles:
# 61 and more)
OFF_COLOUR = 45
# pixels from empty to full: as drawn, and as a picture that is a little out of focus
EDGES = (
    1.0,
    2.0,
)
MISFIT = 0.27  # of its area: a part that differs more from every shape has none
SLACK = 0.5  # pixels at side 32 by which r may lie outside all sizes
BETWEEN = (SIZES["small"][1] + SIZES["large"][0]) / 2  # r: below small, above large
# neighbours of a pixel in its own picture: along its sides, and at its corners too
SIDES = np.zeros((3, 3, 3), bool)
SIDES[1] = ndimage.generate_binary_structure(2, 1)
CORNERS = np.ones((1, 3, 3), bool)
ATTRIBUTES = ("number", "colours", "shapes", "sizes", "relation")


@dataclass(frozen=True)
class Part:
    """One thing in a picture, each attribute "" where none fits; x, y and r at side 32."""

    thing: CaptionShape
    x: float
    y: float
    r: float
    misfit: float


def detect_shapes(pictures: np.ndarray) -> list[list[Part]]:
    """uint8 (N, 3, side, side) -> the parts of each."""
    parts: list[list[Part]] = [[] for _ in pictures]
    for start in range(0, len(pictures), 256):
        for row, part in _detect_shapes(pictures[start : start + 256]):
            parts[start + row].append(part)
    return parts


def _detect_shapes(pictures: np.ndarray) -> list[tuple[int, Part]]:
    side = pictures.shape[-1]
    unit = side / SIDE
    off = pictures.transpose(0, 2, 3, 1).astype(np.float32) - np.float32(GROUND)  # (N, H, W, 3)
    stands_out = np.sqrt((off**2).sum(-1)) > STANDS_OUT
    label = np.zeros(stands_out.shape, np.int32)
    ndimage.label(stands_out, SIDES, output=label)
    # by the last pixel of each
    names, last, area = np.unique(label.ravel()[::-1], return_index=True, return_counts=True)
    order = np.argsort(-last)
    order = order[(names[order] > 0) & (area[order] >= SPECK * unit**2)]
    if not len(order):
        return []
    row = (label.size - 1 - last[order]) // side**2  # which picture it is in
    own = label[row] == names[order][:, None, None]  # (M, H, W)
    # with its edge, which is faint
    near = ndimage.binary_dilation(own, CORNERS) & (own | ~stands_out[row])
    off = off[row]
    lines = np.float32(list(COLOURS.values())) - np.float32(GROUND)  # (K, 3)
    fills = off @ (lines / (lines**2).sum(1, keepdims=True)).T  # (M, H, W, K)
    # squared distances to the lines
    missed = (off**2).sum(-1)[..., None] - fills**2 * (lines**2).sum(1)
    # (M, K)
    missed = np.sqrt((missed * own[..., None]).sum((1, 2)).clip(0) / own.sum((1, 2))[:, None])
    colour = missed.argmin(1)
    alpha = np.take_along_axis(fills, colour[:, None, None, None], 3)[..., 0] * near
    total = np.maximum(alpha.sum((1, 2)), 1e-6)
    middle = np.arange(side) + 0.5
    x, y = (alpha.sum(1) @ middle) / total, (alpha.sum(2) @ middle) / total
    r = np.sqrt(total / np.pi)

    def drawn(kind, soft):
        return pixel_coverage(np.full(len(row), kind), x, y, r, side, soft)

    # (M, shapes)
    misfit = np.stack(
        [
            np.minimum.reduce([np.abs(alpha - drawn(kind, soft)).sum((1, 2)) for soft in EDGES])
            / total
            for kind in range(len(SHAPES))
        ],
        1,
    )
    shape, parts = misfit.argmin(1), []
    for i in range(len(row)):
        size_fits = SIZES["small"][0] - SLACK <= r[i] / unit <= SIZES["large"][1] + SLACK
        thing = CaptionShape(
            ("small" if r[i] / unit < BETWEEN else "large") if size_fits else "",
            list(COLOURS)[colour[i]] if missed[i].min() <= OFF_COLOUR else "",
            SHAPES[shape[i]] if misfit[i].min() <= MISFIT else "",
        )
        parts.append(
            (
                int(row[i]),
                Part(thing, x[i] / unit, y[i] / unit, r[i] / unit, float(misfit[i].min())),
            )
        )
    return parts


def check_caption(parts: Sequence[Part], scene: Scene) -> dict[str, bool | None]:
    """Which attributes of a scene are right: True, False, or None where it names none; and "correct",
    all of them.

    Which part stands for which thing is chosen in the scene's favour. With a wrong number of parts
    nothing is right.
    """
    says_size = any(thing.size for thing in scene.shapes)
    if len(parts) != len(scene.shapes):
        wrong = dict.fromkeys(("number", "colours", "shapes"), False)
        return wrong | {
            "sizes": False if says_size else None,
            "relation": False if scene.relation else None,
            "correct": False,
        }
    return max(
        (_check_caption(chosen, scene, says_size) for chosen in permutations(parts)),
        key=lambda v: (v["correct"], sum(x is True for x in v.values())),
    )


def _check_caption(parts: Sequence[Part], scene: Scene, says_size: bool) -> dict[str, bool | None]:
    pairs = [(part.thing, thing) for part, thing in zip(parts, scene.shapes)]
    verdict: dict[str, bool | None] = {
        "number": True,
        "colours": all(part.colour == thing.colour for part, thing in pairs),
        "shapes": all(part.shape == thing.shape and part.size != "" for part, thing in pairs),
        "sizes": all(thing.size in ("", part.size) for part, thing in pairs) if says_size else None,
        "relation": relation_of(*parts) == scene.relation if scene.relation else None,
    }
    return verdict | {"correct": False not in verdict.values()}


def relation_of(first: Part, second: Part) -> str:
    """Along the axis on which their places differ more."""
    dx, dy = first.x - second.x, first.y - second.y
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def check(pictures: np.ndarray, captions: Sequence[str]) -> list[dict[str, bool | None]]:
    """``check_caption`` of each picture, uint8 (N, 3, side, side), by its caption. Raises UsageError for a
    caption of another build.
    """
    return [
        check_caption(parts, parse_caption(caption))
        for parts, caption in zip(detect_shapes(pictures), captions, strict=True)
    ]
