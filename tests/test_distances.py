"""Kernel and sliced Wasserstein distances and the classifier test: known answers first."""

import math

import pytest
import torch

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.evaluate.distances import kernel_distance, rbf, sliced_wasserstein, wasserstein_1d
from fromnoise.evaluate.twosample import class_score, two_sample_accuracy

normal = lambda seed, name, n, d: Rng(seed).normal(name, (n, d)).double()


def anchors_pair(seed, n):
    x, y = normal(seed, "x", n, 4), 1.2 * normal(seed, "y", n, 4)
    x[:, 0] += 0.5
    return x, y


def test_kernel_distance_has_the_closed_form_as_its_mean():
    found = [kernel_distance(*anchors_pair(i, 400)) for i in range(40)]
    values = torch.tensor([e.value for e in found])
    assert float(values.mean()) == pytest.approx(0.379584766, abs=3 * float(values.std()) / math.sqrt(40))
    scores = torch.tensor([(e.value - 0.379584766) / e.se for e in found])
    assert 0.6 < float(scores.std()) < 1.4
    e = kernel_distance(*anchors_pair(99, 3000), kernel=rbf(2.0))
    assert e.value == pytest.approx(0.023419925, abs=3 * e.se) and e.se < 0.003


def test_kernel_distance_by_hand_and_at_the_null():
    x, y = normal(0, "x", 12, 3), normal(0, "y", 15, 3)
    k = lambda a, b: (float(a @ b) / 3 + 1) ** 3
    within = lambda z: sum(k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j) / (len(z) * (len(z) - 1))
    between = sum(k(a, b) for a in x for b in y) / (12 * 15)
    assert kernel_distance(x, y).value == pytest.approx(within(x) + within(y) - 2 * between)
    scores = torch.tensor([(e := kernel_distance(normal(i, "a", 300, 4), normal(i, "b", 300, 4))).value / e.se for i in range(40)])
    assert abs(float(scores.mean())) < 0.6 and 0.5 < float(scores.std()) < 1.4


def test_sliced_wasserstein_of_a_shift_and_of_unequal_sets():
    x = normal(0, "x", 1500, 30)
    shift = torch.zeros(30, dtype=torch.float64)
    shift[:3] = 2
    assert sliced_wasserstein(x, x + shift, Rng(0), 4000).value == pytest.approx(12 / 30, rel=0.05)
    assert wasserstein_1d(torch.tensor([[0.0, 1, 2]]).double(), torch.tensor([[0.0, 1]]).double()).item() == pytest.approx(0.5)
    assert wasserstein_1d(torch.tensor([[0.0, 3]]).double(), torch.tensor([[1.0, 1]]).double()).item() == pytest.approx(2.5)
    found = [sliced_wasserstein(1.3 * normal(i, "x", 500, 5), normal(i, "y", 700, 5), Rng(0)) for i in range(40)]
    ratio = sum(e.se for e in found) / 40 / float(torch.tensor([e.value for e in found]).std())
    assert 0.8 < ratio < 1.5
    null = [sliced_wasserstein(normal(i, "x", 500, 5), normal(i, "y", 700, 5), Rng(0)) for i in range(20)]
    assert sum(e.value for e in null) == pytest.approx(sum(e.null for e in null), rel=0.25)


def test_the_classifier_reaches_the_bayes_accuracy_and_no_more():
    found = [two_sample_accuracy(normal(i, "x", 800, 1), normal(i, "y", 800, 1) + 1, Rng(i)).value for i in range(10)]
    assert sum(found) / 10 == pytest.approx(0.691462461, abs=0.02)
    null = torch.tensor([two_sample_accuracy(normal(i, "x", 300, 10), normal(i, "y", 300, 10), Rng(i)).value for i in range(30)])
    assert abs(float(null.mean()) - 0.5) < 0.02 and 0.6 < float(null.std()) * math.sqrt(4 * 300) < 1.6
    x = normal(0, "x", 1000, 2)
    ring = 1.4 * x / x.norm(dim=1, keepdim=True)  # same mean and covariance: a linear classifier is blind
    assert two_sample_accuracy(normal(1, "x", 1000, 2), ring, Rng(0)).value > 0.7
    assert two_sample_accuracy(x, ring, Rng(3)) == two_sample_accuracy(x, ring, Rng(3))


def test_class_score_between_1_and_the_number_of_classes():
    assert class_score(torch.eye(10).double().repeat(3, 1)) == pytest.approx(10)
    assert class_score(torch.eye(10)[:1].double().repeat(30, 1)) == pytest.approx(1)


@pytest.mark.parametrize("measure", [kernel_distance, lambda x, y: sliced_wasserstein(x, y, Rng(0)), lambda x, y: two_sample_accuracy(x, y, Rng(0))])
def test_what_cannot_be_measured_is_refused(measure):
    good = normal(0, "x", 100, 3)
    for x, y, error in ((good[:2], good, UsageError), (good, good[:, :2], UsageError), (good / 0, good, DataError)):
        with pytest.raises(error):
            measure(x, y)
