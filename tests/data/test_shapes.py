"""Pictures with captions: what they say is what is drawn, and the unseen combinations are unseen."""

import numpy as np
import pytest
import torch

from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec, require_labels
from fromnoise.data import DataConfig, load
from fromnoise.data.codecs.captions import Captions
from fromnoise.data.shapes.captions import RELATIONS, UNSEEN, parse_caption
from fromnoise.data.shapes.drawing import (
    COLOURS,
    EXTENTS,
    GROUND,
    SHAPES,
    SIDE,
    SIZES,
    pixel_coverage,
)
from fromnoise.data.shapes.scenes import EDGE, GAP
from fromnoise.data.stream import Stream, in_order
from fromnoise.training.plan import make_plan


@pytest.fixture(scope="module")
def data():
    return load("shapes")


def test_form(data):
    assert data.spec == DataSpec("image", (3, 32, 32), levels=256, caption=(10, 20))
    assert {name: len(part) for name, part in data.splits.items()} == {
        "train": 40_000,
        "validation": 2_000,
        "test": 4_000,
        "unseen": 2_000,
    }
    batch = data.batch("train", range(5))
    assert (
        batch.x.shape == (5, 3, 32, 32)
        and batch.y.shape == (5, 10)
        and batch.y.dtype == torch.int64
        and batch.labels is None
    )
    assert (
        max(int((part.y > 0).sum(1).max()) for part in data.splits.values()) == 10
    )  # the longest caption there is
    assert set(np.unique(data.split("train").y)) == set(range(20)) - {
        1
    }  # every word comes, none is unknown
    assert DataSpec(**data.spec.to_json()) == data.spec


def test_the_same_again_and_other_with_another_seed(data):
    again, other = load("shapes"), load("shapes", DataConfig(split_seed=1))
    assert again.digest == data.digest != other.digest
    assert np.array_equal(again.split("test").x[:50], data.split("test").x[:50])
    assert not np.array_equal(other.split("test").x[:50], data.split("test").x[:50])
    assert not np.array_equal(data.split("test").y[:50], data.split("validation").y[:50])


def test_digests_of_other_data_stay_what_they_were():
    assert (
        repr(DataSpec("vector", (2,)))
        == "DataSpec(kind='vector', shape=(2,), levels=0, classes=0, blocks=())"
    )


def test_drawn_when_asked_for(data):
    x = data.split("test").x
    every = np.asarray(x[:40])
    assert every.dtype == np.uint8 and x.shape == (4000, 3, 32, 32) and len(x) == 4000
    assert (
        np.array_equal(x[7], every[7])
        and np.array_equal(x[[9, 3]], every[[9, 3]])
        and np.array_equal(x[-1], x[3999])
    )
    assert x[:0].shape == (0, 3, 32, 32)
    assert np.array_equal(data.batch("test", [7]).x.numpy(), every[[7]] * np.float32(2 / 255) - 1)


@pytest.mark.parametrize("split", ["train", "test", "unseen"])
def test_captions_tell_what_is_drawn(data, split):
    part, names = data.split(split), list(COLOURS)
    singles = 0
    for i, caption in enumerate(data.captions(split)[:1500]):
        scene, x = parse_caption(caption), part.x
        assert str(scene) == caption and len(scene.shapes) == 1 + (x.shapes[i, 1] >= 0)
        singles += len(scene.shapes) == 1
        for j, thing in enumerate(scene.shapes):
            assert (thing.colour, thing.shape) == (names[x.colour[i, j]], SHAPES[x.shapes[i, j]])
            low, high = SIZES[thing.size] if thing.size else (SIZES["small"][0], SIZES["large"][1])
            assert low <= x.r[i, j] <= high
        if scene.relation:
            dx, dy = float(x.x[i, 0] - x.x[i, 1]), float(x.y[i, 0] - x.y[i, 1])
            along, across = {
                "left of": (-dx, dy),
                "right of": (dx, dy),
                "above": (-dy, dx),
                "below": (dy, dx),
            }[scene.relation]
            assert along > 0 and abs(across) <= along / 2 + 1e-4
            assert len({(thing.colour, thing.shape) for thing in scene.shapes}) == 2
    assert 520 < singles < 680  # two in five


def test_all_of_the_law_comes(data):
    scenes = [parse_caption(caption) for caption in data.captions("train")]
    kinds = {(thing.colour, thing.shape) for scene in scenes for thing in scene.shapes}
    assert kinds == {(c, s) for c in COLOURS for s in SHAPES} - set(UNSEEN)
    relations = [scene.relation for scene in scenes if scene.relation]
    assert all(0.24 < relations.count(relation) / len(relations) < 0.26 for relation in RELATIONS)
    said = [thing.size for scene in scenes for thing in scene.shapes]
    assert 0.49 < said.count("") / len(said) < 0.51 and abs(
        said.count("small") - said.count("large")
    ) < 0.01 * len(said)


def test_unseen_combinations_are_in_unseen_only_and_each_part_is_seen(data):
    for split in ("train", "validation", "test"):
        assert not any(parse_caption(caption).unseen for caption in data.captions(split))
    unseen = [parse_caption(caption) for caption in data.captions("unseen")]
    assert all(scene.unseen for scene in unseen)

    def is_new(thing):
        return (thing.colour, thing.shape) in UNSEEN

    pairs = [tuple(map(is_new, scene.shapes)) for scene in unseen if scene.relation]
    assert min(pairs.count((True, False)), pairs.count((False, True))) > 300  # in either place
    assert {(t.colour, t.shape) for scene in unseen for t in scene.shapes if is_new(t)} == set(
        UNSEEN
    )
    for name in (*COLOURS, *SHAPES):
        assert sum(name in pair for pair in UNSEEN) <= 1


def test_nothing_touches_the_border_or_another(data):
    x = data.split("train").x
    extents = EXTENTS[x.shapes] * x.r[..., None]
    there = x.shapes >= 0
    assert (np.minimum(x.x, SIDE - x.x) - extents[..., 0])[there].min() >= EDGE - 1e-3
    assert (x.y - extents[..., 1])[there].min() >= EDGE - 1e-3 and (SIDE - x.y - extents[..., 2])[
        there
    ].min() >= EDGE - 1e-3
    apart_x = np.abs(x.x[:, 0] - x.x[:, 1]) - extents[..., 0].sum(1)
    upper = x.y.argmin(1)[:, None]

    def pick(values, which):
        return np.take_along_axis(values, which, 1)[:, 0]

    apart_y = (
        np.abs(x.y[:, 0] - x.y[:, 1])
        - pick(extents[..., 2], upper)
        - pick(extents[..., 1], 1 - upper)
    )
    assert np.maximum(apart_x, apart_y)[there[:, 1]].min() >= GAP - 1e-3
    edge = np.concatenate([np.asarray(x[:500])[:, :, 0], np.asarray(x[:500])[:, :, :, -1]], 2)
    assert (
        np.abs(edge.astype(int) - np.array(GROUND)[None, :, None]) <= 130
    ).all()  # at most half a pixel of the antialiased edge


@pytest.mark.parametrize("shape", range(4))
@pytest.mark.parametrize("r", [3.0, 5.0])
def test_sizes_are_areas_and_places_centres_of_mass(shape, r):
    x, y = np.array([15.3, 16.0, 13.8]), np.array([16.4, 15.5, 17.1])
    alpha = pixel_coverage(np.full(3, shape), x, y, np.full(3, r), 32).astype(np.float64)
    assert np.allclose(alpha.sum((1, 2)), np.pi * r**2, rtol=0.03)
    middle = np.arange(32) + 0.5
    assert np.allclose(alpha.sum(1) @ middle / alpha.sum((1, 2)), x, atol=0.05)
    assert np.allclose(alpha.sum(2) @ middle / alpha.sum((1, 2)), y, atol=0.12)
    rows = np.flatnonzero(alpha[0].sum(1) > 0.5)
    assert abs(rows[-1] + 1 - rows[0] - EXTENTS[shape][1:].sum() * r) < 2


def test_another_side_is_the_same_scene(data):
    large = load("shapes", DataConfig(resolution=64))
    assert large.spec.shape == (3, 64, 64) and large.digest != data.digest
    assert large.captions("test") == data.captions("test")
    halved = large.split("test").x[:20].reshape(20, 3, 32, 2, 32, 2).mean((3, 5))
    assert np.abs(halved - data.split("test").x[:20]).mean() < 1


@pytest.mark.parametrize(
    "config", [{"grey": True}, {"binarise": "dynamic"}, {"test": 0.2}, {"resolution": 16}]
)
def test_what_has_no_meaning_is_refused(config):
    with pytest.raises(UsageError, match="shapes"):
        load("shapes", DataConfig(**config))


# -- words ---------------------------------------------------------------------------------------------------


def test_words_there_and_back(data):
    said = ["a small red circle left of a large blue square", "", "a green cross"]
    tokens = data.caption_codec.encode(said)
    assert (
        tokens.shape == (3, 10)
        and tokens[1].eq(0).all()
        and data.caption_codec.decode(tokens) == said
    )
    assert torch.equal(
        data.caption_codec.encode(["  A small, RED circle. "]),
        data.caption_codec.encode(["a small red circle"]),
    )
    assert Captions.from_json(data.caption_codec.to_json()) == data.caption_codec
    assert data.caption_codec.decode(np.array([[2, 1, 0]])) == ["a ?"]


@pytest.mark.parametrize(
    "said, told",
    [
        ("a rad circle", "Did you mean 'red'.*It knows: a small"),
        ("a " * 11, "at most 10 words"),
        ("a red circel", "circle"),
    ],
)
def test_what_is_typed_wrong_is_told_in_one_line(data, said, told):
    with pytest.raises(UsageError, match=told) as caught:
        data.caption_codec.encode([said])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "said",
    [
        "a red",
        "red circle",
        "a red circle left a blue square",
        "a red small circle",
        "a red circle above",
        "circle a red",
        "a big red circle",
        "",
    ],
)
def test_other_builds_are_no_scenes(said):
    with pytest.raises(UsageError, match="is not built like"):
        parse_caption(said)


# -- through the package -------------------------------------------------------------------------------------


def test_batches_carry_captions(data):
    stream = Stream(data, 8, Rng(0))
    batch = stream.batch(3)
    rows = stream._rows(3)
    assert torch.equal(
        batch.y, torch.from_numpy(data.split("train").y[rows])
    ) and batch.y.shape == (8, 10)
    parts = list(in_order(data, "test", 30, 100))
    assert torch.equal(
        torch.cat([part.y for part in parts]), torch.from_numpy(data.split("test").y[:100])
    )


def test_examples_come_in_turn(data):
    count = len(data.caption_codec.examples)
    assert count == len(set(data.caption_codec.examples)) > 50
    assert (
        data.caption_codec.decode(data.default_conditions([0, 1, count, count + 1]))
        == [*data.caption_codec.examples[:2]] * 2
    )
    assert not any(parse_caption(caption).unseen for caption in data.caption_codec.examples)
    assert load("digits").default_conditions(range(8, 12)).tolist() == [8, 9, 0, 1]


def test_labels_are_told_from_captions():
    assert Batch(torch.zeros(2, 1), torch.zeros(2)).labels is not None
    assert (
        Batch(torch.zeros(2, 1), torch.zeros(2, 5)).labels is None
        and Batch(torch.zeros(2, 1)).labels is None
    )
    require_labels(DataSpec("vector", (2,), classes=3))
    with pytest.raises(UsageError, match="--label-weight needs labels, and this data has none"):
        require_labels(DataSpec("vector", (2,)), "--label-weight")


@pytest.mark.parametrize("family", ["vae", "gan", "vaegan", "autoregressive"])
def test_families_that_know_only_labels_say_so(family):
    with pytest.raises(UsageError, match="captions, which this family does not read"):
        make_plan(family, "shapes", conditional=True)


@pytest.mark.parametrize("family", ["autoencoder", "vae", "gan", "vaegan", "autoregressive"])
def test_families_learn_p_of_x_from_it(family, data):
    model = make_plan(family, "shapes", resolution=24).build()
    batch = load("shapes", DataConfig(resolution=24)).batch("train", range(4))
    for phase in model.phases():
        assert torch.isfinite(model.loss(batch, phase.name, Rng(0)).value)
