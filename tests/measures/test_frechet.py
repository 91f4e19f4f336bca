"""The Fréchet distance: golden values, exact on deficient features, its bias taken off, intervals that hold."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.measures.frechet import frechet
from fromnoise.measures.intervals import STEEPEST, score_interval
from fromnoise.measures.moments import moments, noise_floor, plug_in


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


def normal(seed, name, n, d):
    return Rng(seed).normal(name, (n, d)).double()


def test_agrees_with_scipy_and_torchmetrics_on_full_rank_features():
    x, y = (
        normal(0, "x", 600, 24) @ normal(1, "mix", 24, 24),
        normal(0, "y", 500, 24) @ normal(2, "mix", 24, 24) + 0.3,
    )
    s1, s2 = np.cov(x.numpy().T), np.cov(y.numpy().T)
    root = linalg.sqrtm(s1 @ s2).real
    expected = float(
        (x.mean(0) - y.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * root.trace()
    )
    found = plug_in(moments(x), moments(y))
    assert found == pytest.approx(expected, rel=1e-9) and frechet(x, y).raw == found

    theirs = pytest.importorskip(
        "torchmetrics.image.fid"
    )._compute_fid  # its formula; its class keeps sums in float32
    assert found == pytest.approx(
        float(theirs(x.mean(0), torch.from_numpy(s1), y.mean(0), torch.from_numpy(s2))), rel=1e-9
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda z: z[:100],
        lambda z: z * (torch.arange(128) < 40),
        lambda z: z,
        lambda z: z[:, :1] @ torch.ones(1, 128, dtype=z.dtype),
    ],
)
def test_a_set_is_at_no_distance_from_itself_also_when_features_are_dead(spoil):
    z = spoil(normal(0, "z", 1000, 128))
    p = moments(z)
    assert abs(plug_in(p, p)) <= 1e-13 * max(1.0, float(z.var(0).sum()))


@pytest.mark.parametrize("n, simulated", [(2000, 0.06211), (10_000, 0.01244)])
def test_the_floor_of_the_anchor(n, simulated):
    """Gaussian of 84 dimensions with spectrum 1/k: E FD of two sets of n is known from simulation."""
    spectrum = 1 / torch.arange(1, 85, dtype=torch.float64)
    y = normal(3, "y", 40_000, 84) * spectrum.sqrt()
    assert noise_floor(y, n, n) == pytest.approx(simulated, rel=0.01)


def test_the_floor_of_an_isotropic_gaussian_is_known():
    d = 16
    expected = (d + d * (d + 1) / 4) * (1 / 500 + 1 / 800)
    assert noise_floor(normal(5, "y", 60_000, d), 500, 800) == pytest.approx(expected, rel=0.01)


def test_debiased_where_the_laws_differ_and_where_they_do_not():
    spectrum = (1 / torch.arange(1, 21, dtype=torch.float64)).sqrt()
    for scale in (1.0, 1.5):
        truth = float((spectrum.square() * (scale**0.5 - 1) ** 2).sum())
        found = [
            frechet(
                normal(i, "x", 400, 20) * spectrum * scale**0.5, normal(i, "y", 1500, 20) * spectrum
            )
            for i in range(30)
        ]
        values = torch.tensor([e.value for e in found])
        error = float(values.std()) / math.sqrt(30)
        assert (
            abs(float(values.mean()) - truth) < 4 * error + 0.003 and found[0].raw > found[0].value
        )
        assert sum(e.raw for e in found) / 30 > truth + 10 * error  # what others print
        inside = sum(e.interval[0] <= truth <= e.interval[1] for e in found)
        assert inside >= 26
        assert 0.75 < sum(e.se for e in found) / 30 / float(values.std()) < 1.6


@pytest.mark.parametrize("n, m, d", [(64, 400, 16), (100, 500, 24)])
def test_few_rows_for_each_feature_leave_no_bias(n, m, d):
    """Taking off the bias of order 1/n alone leaves more than a standard deviation here."""
    found = [frechet(normal(i, "x", n, d), normal(i, "y", m, d)) for i in range(24)]
    values = torch.tensor([e.value for e in found])
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(24) + 0.02
    assert sum(e.interval[0] <= 0 <= e.interval[1] for e in found) >= 19


def heavy(draw, n):
    """A multivariate t with 5 degrees of freedom, 16 features: one row has large values of all features."""
    return draw.standard_normal((n, 16)) / np.sqrt(draw.chisquare(5, (n, 1)) / 5)


def sparse(draw, n):
    """Rectified features, 2 % of which are not 0."""
    return np.maximum(draw.standard_normal((n, 16)) - 2, 0)


def lognormal(draw, n):
    return np.exp(0.8 * draw.standard_normal((n, 8)))


def covered(law, n, m, scale, truth, runs=50):
    """The estimates, and how many of their intervals hold the truth; samples: scale times the reference's law."""
    draws = [np.random.default_rng(i) for i in range(runs)]
    found = [
        frechet(
            *(torch.from_numpy(factor * law(draw, rows)) for factor, rows in ((scale, n), (1, m)))
        )
        for draw in draws
    ]
    return found, sum(e.interval[0] <= truth <= e.interval[1] for e in found)


@pytest.mark.parametrize(
    "law, n, m", [(heavy, 300, 300), (sparse, 200, 200), (lognormal, 300, 300), (heavy, 100, 400)]
)
def test_intervals_hold_zero_for_equal_laws_with_heavy_tails_or_rare_features(law, n, m):
    """Fourth moments of samples are too small there: intervals that rest on them held 0 in 25 to 37 of 50 pairs."""
    found, inside = covered(law, n, m, 1.0, 0.0)
    assert inside >= 45
    assert abs(np.mean([e.value for e in found])) < 0.35 * np.std([e.value for e in found])


def test_intervals_hold_the_distance_of_few_samples_from_many_examples_without_being_long():
    """A row's own share in the moments made the standard error 1.2 times too large."""

    def law(draw, n):
        return draw.standard_normal((n, 16))

    found, inside = covered(law, 100, 500, 1.3, 16 * 0.09)
    assert (
        inside >= 45
        and 0.8 < np.mean([e.se for e in found]) / np.std([e.value for e in found]) < 1.1
    )


def test_an_interval_that_rests_on_few_rows_says_so():
    def rare(draw, n):
        return np.maximum(
            draw.standard_normal((n, 8)) - 2.5, 0
        )  # two of 300 rows have each feature

    found, _ = covered(rare, 300, 300, 3.0, 0.0, runs=10)
    assert all(
        "too short" in e.note and "rows of rare or extreme features" in e.note for e in found
    )

    def gaussian(draw, n):
        return draw.standard_normal((n, 16))

    def half(draw, n):
        return np.maximum(draw.standard_normal((n, 16)), 0)

    for law, scale, n, m in (
        (gaussian, 1.3, 200, 200),
        (gaussian, 1.0, 200, 2000),
        (half, 1.0, 200, 200),
        (half, 1.3, 200, 200),
    ):
        assert not any(e.note for e in covered(law, n, m, scale, 0.0, runs=10)[0])


def test_labels_in_turn_change_nothing():
    """As a conditional model's samples come: its halves must not be the even and the odd labels."""
    centres = 4 * normal(3, "centres", 10, 8)
    x, y = (
        normal(seed, "x", n, 8) + centres[torch.arange(n) % 10] for seed, n in ((1, 300), (2, 400))
    )
    mixed = Rng(5).uniform("order", (400,)).argsort()
    found, other = frechet(x, y[mixed]), frechet(x[mixed[mixed < 300]], y)
    assert (
        found.value == pytest.approx(other.value, abs=3 * found.se)
        and abs(found.value) < 4 * found.se
    )
    assert found.se == pytest.approx(other.se, rel=0.5)


def test_the_interval_leans_to_the_right_and_meets_the_normal_one_without_slope():
    z = 1.959963985
    low, high = score_interval(1.0, 0.04, 0.0)
    assert 1 - low < high - 1 and low > 0
    linear = 1 + z * z * 0.02 + z * math.sqrt(z * z * 0.02**2 + 0.04)
    assert (
        linear < high < linear + 0.1
    )  # above the value the variance grows faster than the distance
    assert (high - 1) ** 2 == pytest.approx(z * z * 0.04 * high * min(high, STEEPEST))
    assert score_interval(0.5, 0.0, 0.01) == pytest.approx((0.5 - 0.1959964, 0.5 + 0.1959964))


@pytest.mark.parametrize(
    "x, y, error, says",
    [
        (torch.zeros(5, 8), torch.zeros(50, 8), UsageError, "32 or more"),
        (torch.rand(50, 8), torch.rand(31, 8), UsageError, "reference examples are too few"),
        (torch.rand(50, 8), torch.rand(50, 7), UsageError, "same d"),
        (torch.full((50, 8), float("nan")), torch.rand(50, 8), DataError, "not finite"),
        (torch.rand(50, 8), torch.ones(50, 8), DataError, "same features"),
    ],
)
def test_refusals(x, y, error, says):
    with pytest.raises(error, match=says):
        frechet(x.double(), y.double())


def test_a_collapsed_model_is_measured():
    y = normal(0, "y", 500, 6)
    found = frechet(y[:1].repeat(300, 1), y)
    expected = float((y[0] - y.mean(0)).square().sum() + y.var(0).sum())
    assert (
        found.raw == pytest.approx(expected)
        and found.value == pytest.approx(expected, rel=0.01)
        and found.se > 0
    )
