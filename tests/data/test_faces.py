"""Cartoon faces: known factors, one face per index, the same at every resolution."""

import numpy as np
import pytest

from fromnoise.core.errors import UsageError
from fromnoise.data import DataConfig, load
from fromnoise.data.sources import faces


@pytest.fixture(scope="module")
def dataset():
    return load("faces")


def test_splits_factors_and_labels(dataset):
    assert {part: len(split) for part, split in dataset.splits.items()} == {
        "train": 8000,
        "validation": 1000,
        "test": 1000,
    }
    train = dataset.split("train")
    assert (
        dataset.spec.shape == (3, 32, 32)
        and dataset.spec.levels == 256
        and train.x.dtype == np.uint8
    )
    assert dataset.factor_names == faces.FACTORS and train.factors.shape == (8000, 6)
    assert dataset.class_names == faces.HAIR
    assert (train.y == np.floor(train.factors[:, 1] * 4)).all() and set(train.y) == {0, 1, 2, 3}
    batch = dataset.batch("test", [0, 5])
    assert (
        batch.x.shape == (2, 3, 32, 32) and -1 <= batch.x.min() < -0.5 and 0.9 < batch.x.max() <= 1
    )


def test_factors_are_uniform_and_independent(dataset):
    factors = dataset.split("train").factors
    assert np.abs(factors.mean(0) - 0.5).max() < 5 * np.sqrt(1 / 12 / 8000)
    assert np.abs(np.corrcoef(factors.T) - np.eye(6)).max() < 5 / np.sqrt(8000)


def test_a_face_depends_on_its_index_only(dataset):
    alone = faces.draw_factors([9321])
    assert (alone[0] == dataset.split("test").factors[321]).all()
    assert (
        faces.draw(alone)[0] == dataset.split("test").x[321]
    ).all()  # nor on its neighbours in a batch
    assert (faces.draw_factors([3], seed=1) != faces.draw_factors([3], seed=0)).all()


@pytest.mark.parametrize("factor", range(6))
def test_every_factor_changes_the_face_and_by_more_the_further_it_goes(factor):
    factors = np.full((3, 6), 0.5, np.float32)
    factors[:, factor] = 0, 0.5, 1
    low, middle, high = faces.draw(factors, 32).astype(float)
    changed = [(np.abs(a - b).max(0) > 8).sum() for a, b in ((low, middle), (middle, high))]
    assert min(changed) >= 8, "pixels of 1,024"
    assert np.abs(low - high).sum() > max(np.abs(low - middle).sum(), np.abs(middle - high).sum())


def test_resolutions_show_the_same_face():
    factors = faces.draw_factors(range(8))
    small, large = faces.draw(factors, 32).astype(float), faces.draw(factors, 128).astype(float)
    shrunk = large.reshape(8, 3, 32, 4, 32, 4).mean((3, 5))
    assert np.abs(shrunk - small).mean() < 5  # of 255: antialiasing is what remains
    assert np.abs(shrunk - small[::-1]).mean() > 20  # against other faces


def test_options(monkeypatch):
    monkeypatch.setattr(faces, "COUNT", 200)
    grey = load("faces", DataConfig(grey=True, resolution=16, validation=0.2))
    assert grey.spec.shape == (1, 16, 16) and len(grey.split("validation")) == 40
    with pytest.raises(UsageError, match="--crop has no meaning for faces: leave it out"):
        load("faces", DataConfig(crop="pad"))
