"""Kernel and sliced Wasserstein distances and the classifier test: known answers first."""

import math

import numpy as np
import pytest
import torch

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data.dataset import Dataset, Split
from fromnoise.measures.distances import (
    kernel_distance,
    scaled_kernel_distance,
    sliced_wasserstein,
)
from fromnoise.measures.estimate import NoSpreadError
from fromnoise.measures.features import coordinates
from fromnoise.measures.twosample import two_sample_accuracy


def normal(seed, name, n, d):
    return Rng(seed).normal(name, (n, d)).double()


def cubic_mmd2(shift, scale, d=4):
    """N((shift, ..), scale^2 I) and N(0, I): E (t + 1)^3 = E t^3 + 3 E t^2 + 3 E t + 1, t the inner product of two draws / d."""

    def mean(g, v, w):  # g = mu . nu / d with |mu|^2 = d a, |nu|^2 = d b
        a, b = g if isinstance(g, tuple) else (g, g)
        first = (a * b) ** 0.5
        second = first**2 + (v * b + w * a + v * w) / d
        third = first**3 + 3 * first * (v * b + w * a + v * w) / d + 6 * first * v * w / d**2
        return third + 3 * second + 3 * first + 1

    v, a = scale**2, shift**2
    return mean((a, a), v, v) + mean((0, 0), 1, 1) - 2 * mean((a, 0), v, 1)


def anchors_pair(seed, n):
    x, y = normal(seed, "x", n, 4), 1.2 * normal(seed, "y", n, 4)
    x[:, 0] += 0.5
    return x, y


def test_kernel_distance_has_the_closed_form_as_its_mean():
    found = [kernel_distance(*anchors_pair(i, 400)) for i in range(40)]
    values = torch.tensor([e.value for e in found])
    assert float(values.mean()) == pytest.approx(
        0.379584766, abs=3 * float(values.std()) / math.sqrt(40)
    )
    scores = torch.tensor([(e.value - 0.379584766) / e.se for e in found])
    assert 0.6 < float(scores.std()) < 1.4


def test_kernel_distance_by_hand_and_at_the_null():
    x, y = normal(0, "x", 12, 3), normal(0, "y", 15, 3)

    def k(a, b):
        return (float(a @ b) / 3 + 1) ** 3

    def within(z):
        return sum(k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j) / (
            len(z) * (len(z) - 1)
        )

    between = sum(k(a, b) for a in x for b in y) / (12 * 15)
    assert kernel_distance(x, y).value == pytest.approx(within(x) + within(y) - 2 * between)
    scores = torch.tensor(
        [
            (e := kernel_distance(normal(i, "a", 300, 4), normal(i, "b", 300, 4))).value / e.se
            for i in range(40)
        ]
    )
    assert abs(float(scores.mean())) < 0.6 and 0.5 < float(scores.std()) < 1.4


def test_sliced_wasserstein_of_a_shift_and_of_unequal_sets():
    x = normal(0, "x", 1500, 30)
    shift = torch.zeros(30, dtype=torch.float64)
    shift[:3] = 2
    assert sliced_wasserstein(x, x + shift, Rng(0), 4000).value == pytest.approx(12 / 30, rel=0.05)


@pytest.mark.parametrize("scale, truth", [(1.3, 0.09), (1.0, 0.0)])
def test_sliced_wasserstein_without_its_bias_and_with_its_error(scale, truth):
    found = [
        sliced_wasserstein(scale * normal(i, "x", 500, 5), normal(i, "y", 700, 5), Rng(i), 64)
        for i in range(100)
    ]
    values = torch.tensor([e.value for e in found])
    bias = sum(e.raw - e.value for e in found) / 100
    assert (
        abs(float(values.mean()) - truth) < 3 * float(values.std()) / 10 + 0.1 * bias
        and bias > 0.005
    )
    assert sum(e.interval[0] <= truth <= e.interval[1] for e in found) >= 89
    assert 0.8 < sum(e.se for e in found) / 100 / float(values.std()) < 1.7


def test_sliced_wasserstein_knows_the_error_of_few_directions():
    x, y = normal(0, "x", 3000, 3), normal(0, "y", 3000, 3)
    x[:, 0] += 3  # 9 cos^2 along a direction: their choice is nearly all of the error
    found = [sliced_wasserstein(x, y, Rng(i), 10) for i in range(60)]
    values = torch.tensor([e.value for e in found])
    assert (
        float(values.mean()) == pytest.approx(3, abs=0.4)
        and 0.8 < sum(e.se for e in found) / 60 / float(values.std()) < 1.25
    )
    assert sum(e.interval[0] <= 3 <= e.interval[1] for e in found) >= 50


def test_sliced_wasserstein_does_not_mind_the_order_of_rows():
    x, y = normal(0, "x", 600, 3), normal(0, "y", 600, 3)
    found, turned = (
        sliced_wasserstein(x, y, Rng(0)),
        sliced_wasserstein(x.flip(0), y[y[:, 0].argsort()], Rng(0)),
    )
    assert found.value == pytest.approx(turned.value, abs=1e-12) and found.se == pytest.approx(
        turned.se, rel=1e-9
    )


def test_sliced_wasserstein_in_one_dimension_against_scipy():
    from scipy.stats import wasserstein_distance

    x, y = (
        normal(0, "x", 40, 1),
        normal(0, "y", 30, 1) + 9,
    )  # apart: the coupling is then the same for |.| and |.|^2
    raw = sliced_wasserstein(x, y, Rng(0), 3).raw
    i, j = torch.arange(120) // 3, torch.arange(120) // 4
    assert raw == pytest.approx(
        float((x[:, 0].sort().values[i] - y[:, 0].sort().values[j]).square().mean())
    )
    assert raw >= wasserstein_distance(x[:, 0], y[:, 0]) ** 2


@pytest.mark.parametrize("shift, scale", [(0.0, 1.0), (0.15, 1.0), (0.3, 1.2)])
def test_kernel_intervals_cover_at_the_null_near_it_and_far(shift, scale):
    found = [
        kernel_distance(scale * normal(i, "x", 200, 4) + shift, normal(i, "y", 300, 4))
        for i in range(150)
    ]
    truth = cubic_mmd2(shift, scale)
    inside = sum(e.interval[0] <= truth <= e.interval[1] for e in found)
    assert inside >= 134
    assert (
        0.8
        < sum(e.se for e in found) / 150 / float(torch.tensor([e.value for e in found]).std())
        < 1.5
    )


def test_the_classifier_reaches_the_bayes_accuracy_and_no_more():
    found = [
        two_sample_accuracy(normal(i, "x", 800, 1), normal(i, "y", 800, 1) + 1, Rng(i)).value
        for i in range(10)
    ]
    assert sum(found) / 10 == pytest.approx(0.691462461, abs=0.02)
    null = [
        two_sample_accuracy(normal(i, "x", 300, 10), normal(i, "y", 300, 10), Rng(i))
        for i in range(100)
    ]
    values = torch.tensor([e.value for e in null])
    assert (
        abs(float(values.mean()) - 0.5) < 0.01
        and 0.8 < float(values.std()) * math.sqrt(4 * 300) < 1.2
    )
    assert sum(e.interval[0] <= 0.5 <= e.interval[1] for e in null) >= 90
    x = normal(0, "x", 1000, 2)
    ring = (
        1.4 * x / x.norm(dim=1, keepdim=True)
    )  # same mean and covariance: a linear classifier is blind
    assert two_sample_accuracy(normal(1, "x", 1000, 2), ring, Rng(0)).value > 0.7
    two = normal(2, "s", 1500, 8).sign() * 0.75**0.5 + 0.5 * normal(
        2, "n", 1500, 8
    )  # two humps, covariance I: marginals alone
    assert two_sample_accuracy(two, normal(3, "n", 1500, 8), Rng(0)).value > 0.7
    assert two_sample_accuracy(x, ring, Rng(3)) == two_sample_accuracy(x, ring, Rng(3))


def test_the_classifier_takes_rows_in_any_order():
    x, y = normal(0, "x", 500, 4), normal(0, "y", 3000, 4)
    assert two_sample_accuracy(x, y[y[:, 0].argsort()], Rng(0)).value < 0.57


@pytest.mark.parametrize(
    "measure",
    [
        kernel_distance,
        lambda x, y: sliced_wasserstein(x, y, Rng(0)),
        lambda x, y: two_sample_accuracy(x, y, Rng(0)),
    ],
)
def test_what_cannot_be_measured_is_refused(measure):
    good = normal(0, "x", 100, 3)
    for x, y, error in (
        (good[:2], good, UsageError),
        (good, good[:, :2], UsageError),
        (good / 0, good, DataError),
    ):
        with pytest.raises(error):
            measure(x, y)


def test_a_model_that_copies_its_reference_has_an_interval_that_holds_0():
    for rows, dims in (
        (60, 64),
        (1000, 8),
    ):  # few rows for the features; many, where the copies are seen
        y = normal(3, "y", rows, dims)
        copies = y[Rng(3).integers("rows", rows, (400,))]
        plain, known = kernel_distance(copies, y), kernel_distance(copies, y, trained_on_y=True)
        assert plain.value == known.value < 0
        if plain.interval[1] < 0 or rows < 4 * dims:
            assert (
                known.interval[1] > 0
                and known.interval[0] == plain.interval[0]
                and "trained on these" in known.note
            )
    other = kernel_distance(normal(4, "x", 400, 8) + 1, y, trained_on_y=True)
    assert other.interval[0] > 0 and not other.note


@pytest.mark.parametrize("shift, holds", [(0.0, 0.9), (0.5, 0.0)])
def test_kernel_distance_on_features_of_few_pictures_of_noise(shift, holds):
    """Fresh pictures of the same law, and of another one. Components that were fitted on the 80 rows put all of them below 0."""
    spec = DataSpec("image", (1, 16, 16), levels=256)
    hits = []
    for i in range(20):
        y, x = normal(i, "y", 80, 256), normal(i, "x", 80, 256) + shift
        dataset = Dataset(
            "noise", spec, {"train": Split(y.view(80, 1, 16, 16).numpy())}, digest="0" * 16
        )
        features = coordinates(dataset)
        low, high = scaled_kernel_distance(features(x), features(y), 5000).interval
        hits.append(low <= 0 <= high)
    assert features.name.startswith("projection") and abs(np.mean(hits) - holds) <= 0.1


@pytest.mark.parametrize(
    "measure",
    [lambda x, y: scaled_kernel_distance(x, y, 500), lambda x, y: sliced_wasserstein(x, y, Rng(0))],
)
def test_a_reference_without_spread_is_refused(measure):
    rounding = 1e-15 * normal(0, "y", 60, 4)
    with pytest.raises(NoSpreadError, match="all reference examples have the same features"):
        measure(normal(0, "x", 60, 4), rounding)
