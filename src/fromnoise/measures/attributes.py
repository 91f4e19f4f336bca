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
EDGES = (1.0, 2.0)
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
    """uint8 (N, 3, side, side) -> (number of the picture, part) of every part."""
    off_ground = pictures.transpose(0, 2, 3, 1).astype(np.float32) - np.asarray(GROUND, np.float32)
    row, own, near = _separate_parts(off_ground)
    if not len(row):
        return []
    fills, colour_error = _fit_colours(off_ground[row], own)
    colour = colour_error.argmin(1)
    alpha = np.take_along_axis(fills, colour[:, None, None, None], 3)[..., 0] * near
    x, y, r, misfit = _fit_shapes(alpha)
    unit = pictures.shape[-1] / SIDE
    parts = []
    for i in range(len(row)):
        error = float(misfit[i].min())
        thing = CaptionShape(
            _size_name(r[i] / unit),
            list(COLOURS)[colour[i]] if colour_error[i].min() <= OFF_COLOUR else "",
            SHAPES[misfit[i].argmin()] if error <= MISFIT else "",
        )
        parts.append((int(row[i]), Part(thing, x[i] / unit, y[i] / unit, r[i] / unit, error)))
    return parts


def _separate_parts(off_ground: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences from the ground (N, H, W, 3) -> the picture of each of M parts, its pixels
    (M, H, W), and these with the faint edge.
    """
    side = off_ground.shape[2]
    stands_out = np.sqrt((off_ground**2).sum(-1)) > STANDS_OUT
    label = np.zeros(stands_out.shape, np.int32)
    ndimage.label(stands_out, SIDES, output=label)
    # the parts are ordered by the last pixel of each
    names, last, area = np.unique(label.ravel()[::-1], return_index=True, return_counts=True)
    order = np.argsort(-last)
    is_part = (names[order] > 0) & (area[order] >= SPECK * (side / SIDE) ** 2)
    order = order[is_part]
    row = (label.size - 1 - last[order]) // side**2
    own = label[row] == names[order][:, None, None]
    near = ndimage.binary_dilation(own, CORNERS) & (own | ~stands_out[row])
    return row, own, near


def _fit_colours(off_ground: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each pixel lies along the line from the ground to each of K colours, (M, H, W, K), and
    the root mean square distance of a part's pixels from each line, (M, K).
    """
    lines = np.float32(list(COLOURS.values())) - np.asarray(GROUND, np.float32)  # (K, 3)
    fills = off_ground @ (lines / (lines**2).sum(1, keepdims=True)).T
    squares = (off_ground**2).sum(-1)[..., None] - fills**2 * (lines**2).sum(1)
    sums = (squares * own[..., None]).sum((1, 2)).clip(0)
    return fills, np.sqrt(sums / own.sum((1, 2))[:, None])


def _fit_shapes(alpha: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Filled share of each pixel (M, H, W) -> centre x and y and radius r in pixels, (M,) each, and
    the least difference from each of K shapes drawn there, as a share of the area, (M, K).
    """
    side = alpha.shape[-1]
    total = np.maximum(alpha.sum((1, 2)), 1e-6)
    middle = np.arange(side) + 0.5
    x = (alpha.sum(1) @ middle) / total
    y = (alpha.sum(2) @ middle) / total
    r = np.sqrt(total / np.pi)
    misfit = []
    for kind in range(len(SHAPES)):
        differences = []
        for soft in EDGES:
            drawn = pixel_coverage(np.full(len(alpha), kind), x, y, r, side, soft)
            differences.append(np.abs(alpha - drawn).sum((1, 2)))
        misfit.append(np.minimum.reduce(differences) / total)
    return x, y, r, np.stack(misfit, 1)


def _size_name(r: float) -> str:
    """Of a radius in pixels at side 32; "" outside of all sizes."""
    if not SIZES["small"][0] - SLACK <= r <= SIZES["large"][1] + SLACK:
        return ""
    return "small" if r < BETWEEN else "large"


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
