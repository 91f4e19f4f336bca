"""Stacked MNIST: three digits, one image, a thousand classes."""

import numpy as np
import pytest
from helpers.idx_files import N, idx_bytes

from fromnoise.core.errors import DataError, UsageError
from fromnoise.data import DataConfig, catalogue, load
from fromnoise.data.sources import stacked

KINDS = {"train": 40, "validation": 7, "test": 25}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A small MNIST, every image of which has a number of its own in its first pixel; and fewer stacks."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for kind, first in (("train", 0), ("t10k", 100)):
        x = np.zeros((N[kind], 28, 28), np.uint8)
        x[:, 0, 0] = first + np.arange(N[kind])
        (folder / f"{kind}-images-idx3-ubyte").write_bytes(idx_bytes(x))
        (folder / f"{kind}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(N[kind]) % 10))
    monkeypatch.setenv("FROMNOISE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(stacked, "COUNTS", KINDS)


def test_three_digits_make_one_image_and_their_classes_its_class(small):
    dataset = load("stacked-mnist")
    assert (
        dataset.spec.shape == (3, 28, 28)
        and dataset.spec.classes == 1000
        and dataset.spec.levels == 256
        and dataset.channels_of == "mnist"
    )
    assert (
        dataset.class_names[7] == "007"
        and len(dataset.class_names) == 1000
        and "could not be verified" in dataset.notes[0]
    )
    parts = {}
    for name, count in KINDS.items():
        split = dataset.split(name)
        number = np.asarray(split.x)[:, :, 0, 0].astype(int)  # of each channel's digit
        parts[name] = set(number.ravel())
        assert (
            split.x.shape == (count, 3, 28, 28) == np.asarray(split.x).shape
            and len(split) == count
            and split.y.dtype == np.int64
        )
        assert np.array_equal(split.y, (number % 100 % 10) @ [100, 10, 1])
        assert len({tuple(row) for row in number}) > 0.9 * count  # channels are drawn apart
    assert (
        not parts["train"] & parts["validation"]
        and parts["test"] <= set(range(100, 100 + N["t10k"]))
        and max(parts["train"] | parts["validation"]) < 100
    )


def test_stacks_are_indexed_like_arrays(small):
    dataset = load("stacked-mnist")
    x = dataset.split("train").x
    whole = np.asarray(x)
    for index in (slice(3, 9), [5, 1, 5], np.array([2, 39]), 4, slice(None)):
        assert np.array_equal(x[index], whole[index])
    assert x[0:0].shape == (0, 3, 28, 28) and whole.dtype == x.dtype == np.uint8
    batch = dataset.batch("train", [1, 8])
    assert np.array_equal(dataset.to_store(batch.x), whole[[1, 8]]) and np.array_equal(
        batch.y, dataset.split("train").y[[1, 8]]
    )


def test_the_split_seed_alone_decides(small):
    one, again, other = (
        load("stacked-mnist"),
        load("stacked-mnist", DataConfig(split_seed=0)),
        load("stacked-mnist", DataConfig(split_seed=1)),
    )
    assert one.digest == again.digest != other.digest and other.settings == {"split_seed": 1}
    assert not np.array_equal(one.split("test").y, other.split("test").y)


@pytest.mark.parametrize(
    "option",
    [
        {"validation": 0.2},
        {"test": 0.2},
        {"binarise": "static"},
        {"grey": True},
        {"resolution": 32},
    ],
)
def test_options_without_meaning(option):
    with pytest.raises(UsageError, match="no meaning for stacked-mnist"):
        load("stacked-mnist", DataConfig(**option))


def test_it_is_in_the_catalogue_and_needs_mnist(tmp_path, monkeypatch):
    assert "1000 classes" in catalogue()["stacked-mnist"]
    monkeypatch.delenv("FROMNOISE_DATA", raising=False)
    monkeypatch.setattr(stacked.idx, "fetch", refused)
    with pytest.raises(DataError, match="mnist cannot be downloaded"):
        load("stacked-mnist")


def refused(*_):
    raise stacked.idx.FetchError("no network")


@pytest.mark.mnist
def test_the_real_one_has_all_modes():
    dataset, mnist = load("stacked-mnist"), load("mnist")
    assert {name: len(part) for name, part in dataset.splits.items()} == {
        "train": 128_000,
        "validation": 5_000,
        "test": 26_000,
    }
    counts = np.bincount(dataset.split("train").y, minlength=1000)
    assert counts.min() > 60 and np.bincount(dataset.split("test").y, minlength=1000).min() > 0
    digits = {bytes(image) for image in mnist.split("test").x[:, 0]}
    assert all(
        bytes(channel) in digits for channel in dataset.split("test").x[:50].reshape(-1, 28, 28)
    )
    assert dataset.split("train").x.images.nbytes < 50e6  # and not 301 MB
