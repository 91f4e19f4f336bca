"""Evaluators: one file with its own name, the same on every thread count, refused when damaged or made for other data."""

import hashlib
import json

import numpy as np
import pytest
import torch

from fromnoise import data
from fromnoise.core.errors import DataError, UsageError
from fromnoise.evaluate.quality import measure_quality
from fromnoise.evaluate.quality_reference import QualityReference
from fromnoise.evaluate.samples import Samples
from fromnoise.measures import evaluator
from fromnoise.measures.features import (
    FixedRandomConv,
    PrincipalComponents,
    extract,
    of_split,
    untrained_features,
)
from fromnoise.measures.frechet import frechet
from fromnoise.measures.moments import noise_floor


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    digits = data.load("digits")
    file = evaluator.fit(digits, steps=60, dims=8, width=4)
    return (
        digits,
        file,
        evaluator.write(file, tmp_path_factory.mktemp("evaluator") / "mine.safetensors"),
    )


def test_fitting_again_gives_the_same_file(fitted):
    digits, file, path = fitted
    threads = torch.get_num_threads()
    assert (
        evaluator.fit(digits, steps=60, dims=8, width=4) == file
        and torch.get_num_threads() == threads
    )
    found = evaluator.load(path)
    assert (
        found.name == f"digits-{hashlib.sha256(file).hexdigest()[:8]}"
        and found.dims == 8
        and found.classes == 10
    )
    assert evaluator.fit(digits, steps=60, dims=8, width=4, seed=1) != file


def test_an_evaluator_learns(fitted):
    digits, _, path = fitted
    found = evaluator.load(path)
    x, y = digits.batch("test", slice(0, 180)).x, digits.batch("test", slice(0, 180)).y
    accuracy = float((found.logits(found(x)).argmax(1) == y).double().mean())
    assert accuracy > 0.5 and found.about["validation_accuracy"] > 0.5
    assert torch.allclose(found.logits(found(x)), found.net(x).double(), atol=1e-5)


@pytest.mark.parametrize(
    "name, accuracy", [("digits", 0.97), pytest.param("mnist", 0.985, marks=pytest.mark.mnist)]
)
def test_the_shipped_ones_are_small_and_good(name, accuracy):
    dataset = data.load(name)
    found = evaluator.shipped_for(dataset)
    part = dataset.batch("test", slice(0, 1000))
    assert float((found.logits(found(part.x)).argmax(1) == part.y).double().mean()) > accuracy
    path = next(evaluator.SHIPPED.glob(f"{name}-*.safetensors"))
    assert path.stat().st_size < 130_000 and hashlib.sha256(
        path.read_bytes()
    ).hexdigest().startswith(path.stem.rpartition("-")[2])


def test_unlabelled_data_teach_by_reconstruction(tmp_path):
    x = (np.random.default_rng(0).random((200, 1, 12, 10, 3)) * 255).astype(np.uint8)[:, 0]
    np.save(tmp_path / "x.npy", x)
    dataset = data.load(str(tmp_path / "x.npy"))
    found = evaluator.load(
        evaluator.write(evaluator.fit(dataset, steps=20, dims=6), tmp_path / "e.safetensors")
    )
    assert (
        found.classes == 0
        and found.about["validation_mse"] > 0
        and found(dataset.batch("test", slice(0, 5)).x).shape == (5, 6)
    )


def test_features_do_not_depend_on_threads_or_company(fitted):
    digits, _, path = fitted
    x = digits.batch("train", slice(0, 700)).x
    for feature_map in (
        evaluator.load(path),
        evaluator.shipped_for(digits),
        *untrained_features(digits),
    ):
        torch.set_num_threads(1)
        one = feature_map(x)
        torch.set_num_threads(2)
        two = feature_map(x)
        torch.set_num_threads(1)
        assert one.dtype == torch.float64 and one.shape == (700, feature_map.dims)
        assert torch.allclose(one, two, rtol=1e-5, atol=1e-6) and torch.allclose(
            feature_map(x[:3]), one[:3], rtol=1e-4, atol=1e-5
        )


def test_referees_are_the_same_for_everybody():
    digits = data.load("digits")
    assert FixedRandomConv(1).name == FixedRandomConv(1).name != FixedRandomConv(3).name
    assert PrincipalComponents(digits).name.startswith("pca-64/")
    features = of_split(PrincipalComponents(digits), digits, "train")
    covariance = torch.cov(features.T)
    assert (
        features.mean(0).abs().max() < 1e-6
        and (covariance - covariance.diag().diag()).abs().max() < 1e-6
    )


def test_bad_files_and_other_data_are_refused_in_one_line(fitted, tmp_path):
    digits, file, path = fitted
    for name, content in (
        ("short", file[:-50]),
        ("empty", b""),
        ("text", b"hello" * 100),
        ("flipped", file[:20] + b"\x00" + file[21:]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="no evaluator, or is damaged"):
            evaluator.load(tmp_path / name)
    with pytest.raises(DataError, match="cannot read"):
        evaluator.load(tmp_path / "none")
    with pytest.raises(DataError, match="takes examples of shape"):
        evaluator.evaluator_for(data.load("moons"), path)
    np.savez(
        tmp_path / "other.npz",
        x=np.random.default_rng(1).integers(0, 17, (300, 8, 8)).astype(np.uint8),
        y=np.arange(300) % 10,
    )
    with pytest.raises(DataError, match="was fitted on digits"):
        evaluator.evaluator_for(data.load(str(tmp_path / "other.npz")), path)
    with pytest.raises(UsageError, match="never overwritten"):
        evaluator.write(file, path)
    assert evaluator.evaluator_for(digits, path).name.startswith("digits-")
    assert json.loads(json.dumps(evaluator.load(path).about))["kind"] == evaluator.KIND


def test_features_that_are_not_finite_are_refused():
    digits = data.load("digits")
    with pytest.raises(DataError, match="not finite"):
        extract(FixedRandomConv(1), [torch.full((3, 1, 8, 8), float("nan"))])
    assert (
        evaluator.shipped_for(digits) is not None
        and evaluator.shipped_for(data.load("moons")) is None
    )


@pytest.mark.mnist
def test_the_official_test_digits_are_not_quite_the_training_digits():
    """The anchor's finding: a distance that is clearly not 0, half of the plain one being noise of the moments."""
    mnist = data.load("mnist")
    train, test = (
        of_split(evaluator.shipped_for(mnist), mnist, split) for split in ("train", "test")
    )
    found, same = frechet(test, train), frechet(train[:10_000], train[10_000:])
    assert found.interval[0] > 0 and 0.4 < found.value / found.raw < 0.8
    assert same.interval[0] < 0 < same.interval[1] and noise_floor(
        train, len(test), len(train)
    ) == pytest.approx(found.raw - found.value, rel=0.1)


def test_threads_move_no_score(fitted):
    digits = fitted[0]
    x = digits.batch("validation", slice(0, 150)).x.flip(3)
    scores = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        scores.append(
            measure_quality(QualityReference(digits, evaluator.shipped_for(digits)), Samples.of(x))
        )
    torch.set_num_threads(1)
    for one, two in zip(*scores):
        assert one["value"] is None or two["value"] == pytest.approx(
            one["value"], rel=1e-4, abs=1e-9
        ), one["name"]
