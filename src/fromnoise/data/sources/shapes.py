"""``shapes``: one or two coloured shapes on a plain ground, with captions such as "a small red circle left of a blue square".

Unusual: pictures are drawn when they are asked for, from a few numbers each, so that loading takes no time and a checker that
knows the rules below (measures/attributes.py) can say whether a picture shows what a caption says.

The rules, in pixels at side 32 (all grow with the side). A shape's size is the radius r of the circle with the same area, small
2.8 to 3.2, large 4.7 to 5.3: how much is filled says nothing about the shape. Its place is its centre of mass. It stays 1 within
the picture. Of two shapes, never of the same colour and shape, the extents are 3 apart along the axis of their relation, and
across it their places differ by at most half as much as along it. Half of the shapes that are named are named with their size.

A fourth split, ``unseen``, holds the combinations of UNSEEN, at least one in each picture; they occur in no other split. Test
pictures are new pictures of the training law.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ...core.errors import UsageError
from ...core.rng import Rng
from ...core.spec import DataSpec
from ..codecs.captions import Captions
from ..config import DataConfig, refuse_options
from ..dataset import Dataset, Split

NAMES = {
    "shapes": "48,000 pictures of one or two coloured shapes with captions, 32x32 colour, unseen combinations apart (made here)"
}
COUNTS = {"train": 40_000, "validation": 2_000, "test": 4_000, "unseen": 2_000}
SIDE, LEAST_SIDE = (
    32,
    24,
)  # pixels; below the least one a small square and a small circle are one blot
GROUND = (240, 240, 240)
COLOURS = {
    "red": (215, 40, 40),
    "green": (35, 155, 65),
    "blue": (45, 85, 225),
    "yellow": (240, 185, 20),
    "purple": (155, 50, 185),
    "black": (25, 25, 25),
}
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {"small": (2.8, 3.2), "large": (4.7, 5.3)}  # r, at side 32
RELATIONS = (
    "left of",
    "right of",
    "above",
    "below",
)  # of the first shape that is named to the second
EDGE, GAP, TILT = (
    1.0,
    3.0,
    0.5,
)  # pixels to the border, between extents; places across / along the axis
UNSEEN = (
    ("red", "triangle"),
    ("green", "cross"),
    ("blue", "circle"),
    ("yellow", "square"),
)  # each colour and shape is seen with others
WORDS = ("a", *SIZES, *COLOURS, *SHAPES, "left", "right", "of", "above", "below")
EXAMPLES = 64  # of the first test captions: what samples are drawn for in turn
LONGEST = 10  # words: "a small red circle left of a large blue square"

# Extents of a shape with r = 1 from its centre of mass: left = right, up, down. (pi r^2 is the area of each.)
SQUARE = np.sqrt(np.pi) / 2  # half the side
TRIANGLE = np.sqrt(2 * np.pi)  # base and height
ARM = np.sqrt(np.pi / 5) / 2  # half the width of a cross's arm, which is three times as long
EXTENTS = np.array(
    [[1, 1, 1], [SQUARE] * 3, [TRIANGLE / 2, TRIANGLE * 2 / 3, TRIANGLE / 3], [3 * ARM] * 3]
)


@dataclass(frozen=True)
class CaptionShape:
    """One shape of a caption; size "" where it is not said."""

    size: str
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"a {self.size} {self.colour} {self.shape}".replace("  ", " ")


@dataclass(frozen=True)
class Scene:
    """What a caption says: one thing, or two and the relation of the first to the second."""

    shapes: tuple[CaptionShape, ...]
    relation: str = ""

    def __str__(self) -> str:
        return f" {self.relation} ".join(map(str, self.shapes))

    @property
    def unseen(self) -> bool:
        return any((thing.colour, thing.shape) in UNSEEN for thing in self.shapes)


@cache
def parse_caption(caption: str) -> Scene:
    """Raises UsageError for what is not built like the captions of this data."""
    for relation in ("", *RELATIONS):
        parts = caption.split(f" {relation} ") if relation else [caption]
        things = [_thing(part.split()) for part in parts]
        if len(parts) == 1 + bool(relation) and all(things):
            return Scene(tuple(things), relation)
    raise UsageError(
        f"'{caption[:80]}' is not built like 'a small red circle' or 'a red circle left of a large blue square'"
    )


def _thing(words: list[str]) -> CaptionShape | None:
    size = words[1] if len(words) == 4 else ""
    fits = (
        len(words) in (3, 4)
        and words[0] == "a"
        and size in ("", *SIZES)
        and words[-2] in COLOURS
        and words[-1] in SHAPES
    )
    return CaptionShape(size, *words[-2:]) if fits else None


# -- drawing -------------------------------------------------------------------------------------------------


def distance(shape: int, u: np.ndarray, v: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Signed distance, negative inside, to the edge of a shape of size r with its centre of mass at u = v = 0; v points down."""
    if shape == 0:
        return np.sqrt(u * u + v * v) - r
    u, v_abs = np.abs(u), np.abs(v)
    if shape == 1:
        return np.maximum(u, v_abs) - SQUARE * r
    if shape == 2:  # the side falls 2 for each 1 that it goes out
        return np.maximum(
            v - TRIANGLE / 3 * r, (2 * u - v - TRIANGLE * 2 / 3 * r) / np.float32(np.sqrt(5))
        )
    return (
        np.minimum(np.maximum(u, v_abs - 2 * ARM * r), np.maximum(u - 2 * ARM * r, v_abs)) - ARM * r
    )


def pixel_coverage(
    shape: np.ndarray, x: np.ndarray, y: np.ndarray, r: np.ndarray, side: int, soft: float = 1.0
) -> np.ndarray:
    """How much of each pixel a shape fills: shape, place and size (n,), in pixels -> float32 (n, side, side) in [0, 1].

    soft: pixels from empty to full across an edge.
    """
    middle = np.arange(side, dtype=np.float32) + 0.5
    out = np.zeros((len(shape), side, side), np.float32)
    for kind in range(len(SHAPES)):
        rows = np.flatnonzero(shape == kind)
        x_, y_, r_ = (value[rows, None, None].astype(np.float32) for value in (x, y, r))
        out[rows] = np.clip(
            0.5
            - distance(kind, middle[None, None, :] - x_, middle[None, :, None] - y_, r_)
            / np.float32(soft),
            0,
            1,
        )
    return out


class DrawnImages:
    """Pictures drawn when they are asked for; indexed as a uint8 array of shape (N, 3, side, side).

    colour, shape (N, 2): which, -1 in the second place where there is one thing; x, y, r (N, 2): place and size at side 32.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        colour: np.ndarray,
        shape: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        r: np.ndarray,
        side: int,
    ):
        self.colour, self.shapes, self.x, self.y, self.r, self.side = colour, shape, x, y, r, side
        self.shape = (len(colour), 3, side, side)

    def __len__(self) -> int:
        return len(self.colour)

    def __getitem__(self, index) -> np.ndarray:
        rows = np.arange(len(self))[index]
        flat = rows.reshape(-1)
        parts = [self._draw(flat[start : start + 1024]) for start in range(0, len(flat), 1024)]
        return np.concatenate(parts or [np.empty((0, *self.shape[1:]), np.uint8)]).reshape(
            *rows.shape, *self.shape[1:]
        )

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def _draw(self, rows: np.ndarray) -> np.ndarray:
        unit = self.side / SIDE
        ground, colours = np.float32(GROUND), np.float32(list(COLOURS.values()))
        out = np.broadcast_to(ground[:, None, None], (len(rows), *self.shape[1:])).copy()
        for place in range(2):
            alpha = pixel_coverage(
                self.shapes[rows, place],
                *(value[rows, place] * unit for value in (self.x, self.y, self.r)),
                self.side,
            )
            paint = (
                colours[self.colour[rows, place]] - ground
            )  # (n, 3); extents do not meet: no occlusion
            for channel in range(3):
                out[:, channel] += alpha * paint[:, channel, None, None]
        return np.rint(out).astype(np.uint8)


# -- drawing at random ---------------------------------------------------------------------------------------


def draw_scenes(n: int, unseen: bool, rng: Rng) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """n pictures' numbers, as ``Pictures`` takes them, and their captions (n, LONGEST), as ``Captions`` has them."""
    kinds = [(c, s) for c in range(len(COLOURS)) for s in range(len(SHAPES))]
    is_unseen = np.array([(list(COLOURS)[c], SHAPES[s]) in UNSEEN for c, s in kinds])
    seen_kinds, unseen_kinds = np.flatnonzero(~is_unseen), np.flatnonzero(is_unseen)
    first_kinds, other_kinds = (
        (unseen_kinds, np.arange(len(kinds))) if unseen else (seen_kinds, seen_kinds)
    )

    def whole(name, high, shape=(n,)):
        return rng.integers(name, high, shape).numpy()

    def uniform(name, shape=(n,)):
        return rng.uniform(name, shape).numpy().astype(np.float64)

    first = first_kinds[whole("first", len(first_kinds))]
    at = np.searchsorted(other_kinds, first)  # the first one's place among the others,
    other = whole("other", len(other_kinds) - 1)
    other = other_kinds[other + (other >= at)]  # which is skipped: they differ
    turned = whole("turned", 2) == 1
    kind = np.where(turned[:, None], np.stack([other, first], 1), np.stack([first, other], 1))
    single = uniform("single") < 0.4
    kind[single, 0], relation = first[single], whole("relation", len(RELATIONS))
    colour, shape = np.array(kinds).T[:, kind]
    size = whole("size", 2, (n, 2))
    low, high = np.array(list(SIZES.values())).T[:, size]
    r = low + (high - low) * uniform("radius", (n, 2))

    # Along the axis of the relation what is free is dealt out before, between and after; across it within the tilt.
    wide, up, down = np.moveaxis(EXTENTS[shape] * r[..., None], 2, 0)  # each (n, 2)
    level = (relation < 2)[:, None]  # left of, right of
    before, after = np.where(level, wide, up), np.where(level, wide, down)
    across = np.where(level, up, wide), np.where(level, down, wide)
    front = relation % 2  # which of the two comes first along the axis

    def pick(values, which):
        return np.take_along_axis(values, which[:, None], 1)[:, 0]

    room = SIDE - 2 * EDGE - GAP - (before + after).sum(1)
    cuts = np.sort(uniform("cuts", (n, 2)), 1) * room[:, None]
    near = EDGE + cuts[:, 0] + pick(before, front)
    far = EDGE + cuts[:, 1] + pick(before + after, front) + GAP + pick(before, 1 - front)
    along = np.where(front[:, None] == np.arange(2), near[:, None], far[:, None])
    least, most = EDGE + across[0], SIDE - EDGE - across[1]  # (n, 2)
    reach = TILT * (far - near)
    bottom, top = (
        np.maximum(least[:, 0], least[:, 1] - reach),
        np.minimum(most[:, 0], most[:, 1] + reach),
    )
    place = bottom + (top - bottom) * uniform("across")
    bottom, top = np.maximum(least[:, 1], place - reach), np.minimum(most[:, 1], place + reach)
    aside = np.stack([place, bottom + (top - bottom) * uniform("aside")], 1)
    x, y = np.where(level, along, aside), np.where(level, aside, along)

    # One thing alone stands anywhere.
    free = uniform("place", (n, 2))
    x[single, 0] = (EDGE + wide[:, 0] + free[:, 0] * (SIDE - 2 * EDGE - 2 * wide[:, 0]))[single]
    y[single, 0] = (EDGE + up[:, 0] + free[:, 1] * (SIDE - 2 * EDGE - up[:, 0] - down[:, 0]))[
        single
    ]

    # Captions with a gap where nothing is said; then the gaps go to the end.
    def tokens(names):
        return np.array([WORDS.index(name) + 2 if name else 0 for name in names])

    sized = tokens(SIZES)[size] * whole("said", 2, (n, 2))
    one, other = (
        np.stack(
            [
                np.full(n, tokens("a")[0]),
                sized[:, j],
                tokens(COLOURS)[colour[:, j]],
                tokens(SHAPES)[shape[:, j]],
            ],
            1,
        )
        for j in range(2)
    )
    between = tokens(word for name in RELATIONS for word in f"{name} ".split(" ")[:2]).reshape(
        -1, 2
    )[relation]
    said = np.concatenate(
        [one, np.where(single[:, None], 0, np.concatenate([between, other], 1))], 1
    )
    said = np.take_along_axis(said, np.argsort(said == 0, 1, kind="stable"), 1)
    shape[single, 1] = -1
    numbers = {"colour": colour, "shape": shape} | {
        name: value.astype(np.float32) for name, value in (("x", x), ("y", y), ("r", r))
    }
    return numbers, said


def load(name: str, config: DataConfig) -> Dataset:
    """40,000 / 2,000 / 4,000 pictures of seen combinations and 2,000 of unseen ones; splits are drawn apart. Raises UsageError."""
    refuse_options(config, f"{name}, which is drawn in colour and in splits of its own", "resolution")
    side = config.resolution or SIDE
    if side < LEAST_SIDE:
        raise UsageError(
            f"--resolution takes {LEAST_SIDE} or more for {name}: below, a small circle and a small square look the same"
        )
    rng, splits, h = Rng(config.split_seed).at("shapes"), {}, hashlib.sha256(b"shapes")
    for part, count in COUNTS.items():
        numbers, captions = draw_scenes(count, part == "unseen", rng.at(part))
        splits[part] = Split(DrawnImages(side=side, **numbers), captions, 256)
        for array in (
            *numbers.values(),
            captions,
            splits[part].x[:64],
        ):  # the rest of the pictures follows from them
            h.update(np.ascontiguousarray(array))
    words = Captions(WORDS, LONGEST)
    words = replace(words, examples=tuple(dict.fromkeys(words.decode(splits["test"].y[:EXAMPLES]))))
    spec = DataSpec("image", (3, side, side), levels=256, caption=words.spec)
    return Dataset(
        name,
        spec,
        splits,
        h.hexdigest(),
        caption_codec=words,
        settings=config.model_dump(exclude_defaults=True),
    )
