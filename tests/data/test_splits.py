"""Splits are fixed, seeded and disjoint; binarisation is a fixed function of the row, or drawn anew."""

import numpy as np
import pytest
import torch

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data import DataConfig, catalogue, load
from fromnoise.data.dataset import Split
from fromnoise.data.image_dataset import binarise_images
from fromnoise.data.splits import split_rows


@pytest.mark.parametrize("n", [10, 11, 100, 1797])
def test_splits_are_fixed_seeded_and_disjoint(n):
    rows, again = split_rows(n, DataConfig()), split_rows(n, DataConfig())
    assert list(rows) == ["train", "validation", "test"]
    assert sorted(np.concatenate(list(rows.values()))) == list(range(n))
    assert all((rows[part] == again[part]).all() for part in rows)
    assert len(rows["test"]) == len(rows["validation"]) == max(1, round(n / 10))
    if n > 20:
        other = split_rows(n, DataConfig(split_seed=1))
        assert len(set(rows["test"]) & set(other["test"])) < len(rows["test"])


def test_too_few_examples():
    with pytest.raises(DataError, match="^9 examples cannot be split.*give at least 10$"):
        split_rows(9, DataConfig())


def test_digits():
    one, again, other = load("digits"), load("digits"), load("digits", DataConfig(split_seed=5))
    assert one.digest == again.digest != other.digest
    assert one.spec.levels == 17 and sum(map(len, one.splits.values())) == 1797
    batch = one.batch("train", [3, 4])
    assert batch.x.min() == -1 and batch.x.max() == 1
    assert (one.to_store(batch.x) == one.split("train").x[[3, 4]]).all()


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_held_out_binarisation_is_fixed_and_does_not_depend_on_chunks(mode):
    dataset = load("digits", DataConfig(binarise=mode))
    whole = dataset.batch("test", slice(0, 100)).x
    assert set(whole.unique().tolist()) == {-1.0, 1.0} and dataset.spec.levels == 2
    parts = [
        dataset.batch("test", rows, Rng(9).at(str(rows))).x
        for rows in ([0, 1, 2], slice(3, 60), range(60, 100))
    ]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(
        whole, load("digits", DataConfig(binarise=mode)).batch("test", slice(0, 100)).x
    )


def test_dynamic_draws_training_images_anew_and_static_does_not():
    dynamic, static = (load("digits", DataConfig(binarise=mode)) for mode in ("dynamic", "static"))

    def draw(dataset, step):
        return dataset.batch("train", range(200), Rng(0).at("train", step)).x

    assert not torch.equal(draw(dynamic, 0), draw(dynamic, 1)) and torch.equal(
        draw(dynamic, 0), draw(dynamic, 0)
    )
    assert torch.equal(draw(static, 0), draw(static, 1))
    assert torch.equal(
        draw(static, 0), dynamic.batch("train", range(200)).x
    )  # without rng: the same fixed draw


def test_binarisation_is_white_with_the_pixels_probability():
    x = np.repeat(np.arange(17, dtype=np.uint8), 4000).reshape(17, 1, 40, 100)
    _, splits = binarise_images(
        DataSpec("image", (1, 40, 100), 17),
        {"train": Split(x, levels=17)},
        DataConfig(binarise="static"),
    )
    share = splits["train"].x.reshape(17, -1).mean(1)
    assert share[0] == 0 and share[16] == 1
    assert np.abs(share - np.arange(17) / 16).max() < 5 * 0.5 / np.sqrt(4000)


def test_names_and_mistakes(tmp_path):
    assert {"digits", "faces", "ring8", "grid25", "mnist", "fashion-mnist", "kmnist"} <= set(
        catalogue()
    )
    assert all("\n" not in line for line in catalogue().values())
    for name, words in [("mnits", "Did you mean 'mnist'?"), ("no/such", "no such file or folder")]:
        with pytest.raises(DataError) as error:
            load(name)
        assert words in str(error.value) and "\n" not in str(error.value)
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4" + bytes(range(256)) * 9)
    with pytest.raises(DataError, match="a.pdf"):
        load(str(tmp_path / "a.pdf"))
    with pytest.raises(UsageError, match="no split 'tset'.*Did you mean 'test'"):
        load("digits").split("tset")
