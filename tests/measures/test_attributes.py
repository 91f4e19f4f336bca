"""The checker of captions: real pictures are what they are said to be, nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.data import DataConfig, load
from fromnoise.data.shapes.captions import RELATIONS, CaptionShape, Scene, parse_caption
from fromnoise.data.shapes.drawing import COLOURS, GROUND, SHAPES, pixel_coverage
from fromnoise.measures.attributes import check, check_caption, detect_shapes

N = 150  # pictures of each split


@pytest.fixture(scope="module")
def real():
    data = load("shapes")
    x = np.concatenate([data.split(split).x[:N] for split in ("test", "unseen")])
    return x, [caption for split in ("test", "unseen") for caption in data.captions(split)[:N]]


def dirty(x, noise=0.0, blur=0.0):
    x = (
        gaussian_filter(x.astype(np.float32), (0, 0, blur, blur), mode="nearest")
        if blur
        else x.astype(np.float32)
    )
    return np.clip(
        np.rint(x + 127.5 * noise * Rng(0).normal("noise", x.shape).numpy()), 0, 255
    ).astype(np.uint8)


def changed(scene: Scene) -> dict[str, Scene]:
    """The scene with one attribute changed, in all ways."""
    out = {}
    for i, thing in enumerate(scene.shapes):

        def put(other, i=i):
            return replace(scene, shapes=(*scene.shapes[:i], other, *scene.shapes[i + 1 :]))

        out |= {
            f"colour {i} {colour}": put(replace(thing, colour=colour))
            for colour in COLOURS
            if colour != thing.colour
        }
        out |= {
            f"shape {i} {shape}": put(replace(thing, shape=shape))
            for shape in SHAPES
            if shape != thing.shape
        }
        if thing.size:
            out[f"size {i}"] = put(
                replace(thing, size={"small": "large", "large": "small"}[thing.size])
            )
    if scene.relation:
        out |= {
            relation: replace(scene, relation=relation)
            for relation in RELATIONS
            if relation != scene.relation
        }
        out["exchanged"] = replace(scene, shapes=scene.shapes[::-1])
        out |= {f"only {i}": Scene((thing,)) for i, thing in enumerate(scene.shapes)}
    else:
        out |= {
            relation: Scene((scene.shapes[0], CaptionShape("", "red", "cross")), relation)
            for relation in RELATIONS
        }
    return out


@pytest.mark.parametrize(
    "noise, blur, refused, accepted",
    [
        (0, 0, 0, 0),
        (0.05, 0, 0, 0),
        (0.1, 0, 0, 0),
        (0, 0.5, 0, 0),
        (0, 0.7, 0, 0),
        (0.1, 0.5, 0, 0),
        (0.1, 0.7, 0.02, 0.002),
    ],
)
def test_real_pictures_and_other_captions(real, noise, blur, refused, accepted):
    x, captions = real
    parts, wrong, total = detect_shapes(dirty(x, noise, blur)), 0, 0
    verdicts = [
        check_caption(found, parse_caption(caption)) for found, caption in zip(parts, captions)
    ]
    assert sum(not verdict["correct"] for verdict in verdicts) <= refused * len(x)
    for found, caption in zip(parts, captions):
        others = [
            check_caption(found, scene)["correct"]
            for scene in changed(parse_caption(caption)).values()
        ]
        wrong, total = wrong + sum(others), total + len(others)
    assert total > 15 * len(x) and wrong <= accepted * total


def test_which_attribute_is_wrong_is_told(real):
    x, captions = real
    i = next(i for i, caption in enumerate(captions) if len(caption.split()) == 10)
    parts, scene = detect_shapes(x[i : i + 1])[0], parse_caption(captions[i])
    right = dict.fromkeys(("number", "colours", "shapes", "sizes", "relation"), True)
    assert check_caption(parts, scene) == right | {"correct": True}
    names = {"colour": "colours", "shape": "shapes", "size": "sizes"}
    for what, other in changed(scene).items():
        verdict = check_caption(parts, other)
        if what.startswith("only"):
            assert (
                not verdict["number"] and not any(verdict.values()) and verdict["relation"] is None
            )
        elif what.split()[0] in names:
            wrong = names[what.split()[0]]
            assert not verdict["correct"] and (
                len({t.colour + t.shape for t in other.shapes}) == 1
                or verdict == right | {wrong: False, "correct": False}
            )


def test_the_same_relation_said_the_other_way(real):
    x, captions = real
    turned = dict(zip(RELATIONS, ("right of", "left of", "below", "above")))
    two = [i for i, caption in enumerate(captions) if parse_caption(caption).relation]
    scenes = [parse_caption(captions[i]) for i in two]
    said = [str(Scene(scene.shapes[::-1], turned[scene.relation])) for scene in scenes]
    assert all(verdict["correct"] for verdict in check(x[two], said))


def test_what_is_not_said_is_not_judged(real):
    x, _ = real
    found = detect_shapes(x)
    for parts in found[:50]:
        if len(parts) == 1:
            verdict = check_caption(parts, Scene((replace(parts[0].thing, size=""),)))
            assert verdict == {
                "number": True,
                "colours": True,
                "shapes": True,
                "sizes": None,
                "relation": None,
                "correct": True,
            }


def test_what_is_found_is_what_was_drawn():
    data = load("shapes")
    x = data.split("train").x
    for i, parts in enumerate(detect_shapes(x[:200])):
        there = x.shapes[i] >= 0
        drawn = sorted(zip(x.x[i, there], x.y[i, there], x.r[i, there]))
        assert np.allclose(sorted((p.x, p.y, p.r) for p in parts), drawn, atol=0.15)


@pytest.mark.parametrize("side", [24, 48, 64])
def test_at_other_sides(side):
    data = load("shapes", DataConfig(resolution=side))
    for split in ("test", "unseen"):
        right = [
            verdict["correct"]
            for verdict in check(data.split(split).x[:N], data.captions(split)[:N])
        ]
        assert np.mean(right) >= (0.98 if side == 24 else 1)


# -- what is no picture of this data -------------------------------------------------------------------------


def paint(*things, alpha=None, colour="red"):
    """Shapes (kind, x, y, r) in one colour, or a map of how much is filled, on the ground."""
    alpha = (
        sum(
            pixel_coverage(np.array([kind]), *(np.array([v]) for v in place), 32)[0]
            for kind, *place in things
        )
        if alpha is None
        else alpha
    )
    off = np.array(COLOURS[colour] if isinstance(colour, str) else colour, np.float32) - np.array(
        GROUND, np.float32
    )
    return np.rint(np.array(GROUND)[:, None, None] + off[:, None, None] * alpha).astype(np.uint8)[
        None
    ]


CIRCLE = (0, 16, 16, 5)
ACROSS, DOWN = np.meshgrid(np.arange(32) + 0.5, np.arange(32) + 0.5)
FAR = np.hypot(ACROSS - 16, DOWN - 16)


def test_what_is_painted_here_is_right():
    assert check(paint(CIRCLE), ["a large red circle"])[0]["correct"]


@pytest.mark.parametrize(
    "picture, wrong",
    [
        (np.full((1, 3, 32, 32), 240, np.uint8), "number"),
        (paint(CIRCLE, (0, 26, 26, 1.6)), "number"),
        (paint((0, 12, 16, 5), (0, 20, 16, 5)), "shapes"),
        (paint(alpha=(FAR < 5.5) & (FAR > 3)), "shapes"),
        (paint(alpha=np.hypot((ACROSS - 16) / 1.6, (DOWN - 16) * 1.6) < 5), "shapes"),
        (paint(alpha=0.5 * (FAR < 5)), "shapes"),
        (paint((0, 16, 16, 7)), "shapes"),
        (paint(CIRCLE, colour=(227, 112, 40)), "colours"),
        (paint(CIRCLE, colour=(185, 45, 112)), "colours"),
        (Rng(0).integers("x", 256, (1, 3, 32, 32)).numpy().astype(np.uint8), "shapes"),
    ],
    ids=[
        "nothing",
        "a speck too large",
        "two in one",
        "ring",
        "ellipse",
        "pale",
        "too large",
        "orange",
        "between red and purple",
        "noise",
    ],
)
def test_what_is_like_it_is_refused(picture, wrong):
    verdict = check(picture, ["a red circle"])[0]
    assert not verdict["correct"] and verdict[wrong] is False
    assert verdict["number"] or wrong == "number"


def test_a_little_dirt_is_no_thing():
    picture = paint(CIRCLE)
    picture[0, :, 2, 2:6] = 0
    assert check(picture, ["a red circle"])[0]["correct"]
    picture[0, :, 3, 2] = 0
    assert not check(picture, ["a red circle"])[0]["number"]


def test_captions_of_another_build_are_refused():
    with pytest.raises(UsageError, match="is not built like"):
        check(paint(CIRCLE), ["red"])
