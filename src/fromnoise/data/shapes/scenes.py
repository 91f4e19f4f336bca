"""Random scenes of ``shapes``, and their captions as tokens.

The rules, in pixels at side 32 (all grow with the side). A shape's size is the radius r of the
circle with the same area: the filled area tells nothing about the shape. Its place is its centre of
mass. It stays EDGE within the image. Of two shapes, never of the same colour and shape, the extents
are GAP apart along the axis of their relation, and across it their places differ by at most TILT
times the distance along it. Half of the shapes in captions are named with their size.
"""

import numpy as np

from ...core.rng import Rng
from .captions import RELATIONS, UNSEEN, WORDS
from .drawing import COLOURS, EXTENTS, SHAPES, SIDE, SIZES

EDGE = 1.0  # pixels to the border
GAP = 3.0  # pixels between extents
TILT = 0.5  # distance of places across the axis / along it
SINGLE = 0.4  # share of images with one shape


def draw_scenes(n: int, unseen: bool, rng: Rng) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """n scenes: arguments of ``DrawnImages``, and captions (n, LONGEST) as ``Captions`` has them.

    unseen: with at least one of the combinations UNSEEN, otherwise with none.
    """
    is_single = _uniform(rng, "single", (n,)) < SINGLE
    colour, shape = _draw_kinds(n, unseen, is_single, rng)
    relation = _integers(rng, "relation", len(RELATIONS), (n,))
    size = _integers(rng, "size", 2, (n, 2))
    low, high = np.array(list(SIZES.values())).T[:, size]
    r = low + (high - low) * _uniform(rng, "radius", (n, 2))
    extents = np.moveaxis(EXTENTS[shape] * r[..., None], 2, 0)  # wide, up, down, each (n, 2)
    x, y = _place_pairs(extents, relation, rng)
    single_x, single_y = _place_singles(extents, rng)
    x[is_single, 0] = single_x[is_single]
    y[is_single, 0] = single_y[is_single]
    captions = _caption_tokens(colour, shape, size, relation, is_single, rng)
    shape[is_single, 1] = -1
    numbers = {
        "colour": colour,
        "shape": shape,
        "x": x.astype(np.float32),
        "y": y.astype(np.float32),
        "r": r.astype(np.float32),
    }
    return numbers, captions


def _integers(rng: Rng, name: str, high: int, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(name, high, shape).numpy()


def _uniform(rng: Rng, name: str, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(name, shape).numpy().astype(np.float64)


def _draw_kinds(
    n: int, unseen: bool, is_single: np.ndarray, rng: Rng
) -> tuple[np.ndarray, np.ndarray]:
    """Colours and shapes (n, 2) of two different kinds; of a single one the first counts."""
    kinds = [(c, s) for c in range(len(COLOURS)) for s in range(len(SHAPES))]
    is_unseen = np.array([(list(COLOURS)[c], SHAPES[s]) in UNSEEN for c, s in kinds])
    first_kinds = np.flatnonzero(is_unseen if unseen else ~is_unseen)
    other_kinds = np.arange(len(kinds)) if unseen else first_kinds
    first = first_kinds[_integers(rng, "first", len(first_kinds), (n,))]
    # The first one's place among the others is skipped: they differ.
    skipped = np.searchsorted(other_kinds, first)
    other = _integers(rng, "other", len(other_kinds) - 1, (n,))
    other = other_kinds[other + (other >= skipped)]
    is_turned = _integers(rng, "turned", 2, (n,))[:, None] == 1
    kind = np.where(is_turned, np.stack([other, first], 1), np.stack([first, other], 1))
    kind[is_single, 0] = first[is_single]
    colour, shape = np.array(kinds).T[:, kind]
    return colour, shape


def _place_pairs(
    extents: np.ndarray, relation: np.ndarray, rng: Rng
) -> tuple[np.ndarray, np.ndarray]:
    """x and y (n, 2) of two shapes with a relation.

    Along the axis of the relation the free space is divided before, between and after the shapes;
    across it within the tilt.
    """
    n = len(relation)
    wide, up, down = extents
    is_level = (relation < 2)[:, None]  # left of, right of
    before = np.where(is_level, wide, up)
    after = np.where(is_level, wide, down)
    front = relation % 2  # which of the two comes first along the axis

    def pick(values: np.ndarray, which: np.ndarray) -> np.ndarray:
        return np.take_along_axis(values, which[:, None], 1)[:, 0]

    room = SIDE - 2 * EDGE - GAP - (before + after).sum(1)
    cuts = np.sort(_uniform(rng, "cuts", (n, 2)), 1) * room[:, None]
    near = EDGE + cuts[:, 0] + pick(before, front)
    far = EDGE + cuts[:, 1] + pick(before + after, front) + GAP + pick(before, 1 - front)
    along = np.where(front[:, None] == np.arange(2), near[:, None], far[:, None])

    least = EDGE + np.where(is_level, up, wide)  # (n, 2), across
    most = SIDE - EDGE - np.where(is_level, down, wide)
    reach = TILT * (far - near)
    low = np.maximum(least[:, 0], least[:, 1] - reach)
    high = np.minimum(most[:, 0], most[:, 1] + reach)
    first = low + (high - low) * _uniform(rng, "across", (n,))
    low = np.maximum(least[:, 1], first - reach)
    high = np.minimum(most[:, 1], first + reach)
    across = np.stack([first, low + (high - low) * _uniform(rng, "aside", (n,))], 1)
    return np.where(is_level, along, across), np.where(is_level, across, along)


def _place_singles(extents: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """x and y (n,) of one shape, anywhere."""
    wide, up, down = extents[:, :, 0]
    free = _uniform(rng, "place", (len(wide), 2))
    x = EDGE + wide + free[:, 0] * (SIDE - 2 * EDGE - 2 * wide)
    y = EDGE + up + free[:, 1] * (SIDE - 2 * EDGE - up - down)
    return x, y


def _tokens(words) -> np.ndarray:
    """Tokens of words; 0 for ""."""
    return np.array([WORDS.index(word) + 2 if word else 0 for word in words])


def _caption_tokens(
    colour: np.ndarray,
    shape: np.ndarray,
    size: np.ndarray,
    relation: np.ndarray,
    is_single: np.ndarray,
    rng: Rng,
) -> np.ndarray:
    """Captions (n, LONGEST), padded with 0."""
    n = len(relation)
    has_size = _integers(rng, "said", 2, (n, 2))
    columns = np.stack(
        [
            np.full((n, 2), _tokens("a")[0]),
            _tokens(SIZES)[size] * has_size,
            _tokens(COLOURS)[colour],
            _tokens(SHAPES)[shape],
        ],
        2,
    )  # (n, 2, 4)
    relation_words = [word for name in RELATIONS for word in f"{name} ".split(" ")[:2]]
    between = _tokens(relation_words).reshape(-1, 2)[relation]
    rest = np.concatenate([between, columns[:, 1]], 1)
    captions = np.concatenate([columns[:, 0], np.where(is_single[:, None], 0, rest)], 1)
    # Words that are left out are 0: these go to the end.
    return np.take_along_axis(captions, np.argsort(captions == 0, 1, kind="stable"), 1)
