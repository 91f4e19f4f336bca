"""Codes whose distance from the prior and disentanglement are known in closed form."""

import math

import numpy as np
import pytest
import torch

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.measures.factors import classes, dci_of, disentanglement, factor_vae, mig
from fromnoise.measures.latents import prior_distance


def normal(seed, n, d):
    return Rng(seed).normal("z", (n, d)).double()


def mmd2(mean2: float, variance: float, d: int, h2: float) -> float:
    """RBF MMD^2 between N(m, variance I), |m|^2 = mean2, and N(0, I), in closed form."""

    def kernel(spread, mean2):
        return (h2 / (h2 + spread)) ** (d / 2) * math.exp(-mean2 / (2 * (h2 + spread)))

    return kernel(2 * variance, 0) + kernel(2, 0) - 2 * kernel(1 + variance, mean2)


# -- prior_distance ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mean,scale,d", [(0.0, 1.0, 2), (0.5, 1.0, 4), (0.0, 1.2, 4), (0.3, 0.5, 1), (0.2, 0.0, 3)]
)
def test_prior_distance_is_unbiased_and_knows_its_error(mean, scale, d):
    truth = mmd2(d * mean**2, scale**2, d, d)
    all = [prior_distance(mean + scale * normal(seed, 200, d)) for seed in range(200)]
    values, errors = np.array([e.value for e in all]), np.array([e.se for e in all])
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / 200**0.5 + 1e-12)
    if scale:
        assert 0.85 < errors.mean() / values.std() < 1.35  # at the null a little too large
        assert sum(e.interval[0] < truth < e.interval[1] for e in all) >= 170


def test_prior_distance_does_not_depend_on_its_blocks(monkeypatch):
    z = 1 + normal(0, 301, 3)
    whole = prior_distance(z)
    monkeypatch.setattr("fromnoise.measures.latents.BLOCK", 7 * 301)
    assert prior_distance(z).value == pytest.approx(whole.value, abs=1e-14) and prior_distance(
        z
    ).se == pytest.approx(whole.se, abs=1e-14)


def test_prior_distance_equals_the_sum_over_all_pairs():
    z = 0.7 * normal(1, 60, 2)
    k = (-torch.cdist(z, z).square() / 4).exp()
    off = (k.sum() - k.trace()) / (60 * 59)
    cross = (2 / 3) * (-z.square().sum(1) / 6).exp().mean()
    assert prior_distance(z).value == pytest.approx((off - 2 * cross + 0.5).item(), abs=1e-12)


@pytest.mark.parametrize("measure", [prior_distance])
def test_bad_codes_get_one_line(measure):
    with pytest.raises(DataError, match="NaN"):
        measure(torch.full((100, 2), math.nan))
    with pytest.raises(UsageError, match="too few"):
        measure(torch.zeros(1, 2))
    with pytest.raises(UsageError, match="shape"):
        measure(torch.zeros(100, 2, 2))


# -- disentanglement --------------------------------------------------------------------------------------------
FACTORS = Rng(0).integers("factors", 10, (4000, 5)).double()
NOISE = normal(5, 4000, 5)


def scores_of(z, factors=FACTORS):
    return {name: e.value for name, e in disentanglement(z, factors, Rng(0)).items()}


def test_identity_codes_score_one():
    scores = disentanglement(
        FACTORS[:, [3, 1, 0, 2, 4]] * -7 + 3, FACTORS, Rng(0)
    )  # whatever their order, sign and scale
    assert scores["mig"].value == pytest.approx(1, abs=2e-3) and scores[
        "mig"
    ].null == pytest.approx(1, abs=2e-3)
    assert scores["mig"].raw < 0.996  # what others print
    assert scores["sap"].value == pytest.approx(
        1, abs=0.015
    )  # the best of four guesses is a little above a guess
    for name in ("dci_disentanglement", "dci_completeness", "dci_informativeness", "factor_vae"):
        assert scores[name].value == pytest.approx(1, abs=1e-12), name


def test_duplicated_codes():
    scores = scores_of(torch.cat([FACTORS, FACTORS], 1))
    assert scores["mig"] == scores["sap"] == 0
    assert scores["dci_disentanglement"] == pytest.approx(1, abs=1e-12)
    assert scores["dci_completeness"] == pytest.approx(1 - math.log(2) / math.log(10), abs=5e-3)
    assert scores["factor_vae"] == 1


def test_constant_codes_score_zero():
    assert set(scores_of(torch.full((4000, 5), 2.5)).values()) == {0}


def test_noise_codes():
    scores = scores_of(NOISE)
    assert scores.pop("factor_vae") == pytest.approx(0.2, abs=0.03)  # one of five
    assert max(scores.values()) < 0.01


def test_a_rotation_is_not_disentangled():
    rotation = torch.linalg.qr(normal(9, 5, 5))[0]
    scores = scores_of(FACTORS @ rotation)
    assert (
        scores["mig"] < 0.3
        and scores["sap"] < 0.3
        and scores["dci_disentanglement"] < 0.6
        and scores["dci_completeness"] < 0.6
    )


def test_dead_dimensions_have_no_vote():
    # a dimension that hardly moves has the least variance in every group unless it is left out or put to scale
    z = torch.cat([FACTORS, torch.zeros(4000, 1), 1e-3 * NOISE[:, :1]], 1).numpy()
    y = classes(FACTORS.numpy())
    assert factor_vae(z, y, Rng(0)).value == 1
    z[:, :4] = 0  # one dimension alive: it says the same factor always, right one time in five
    assert factor_vae(z, y, Rng(0)).value == pytest.approx(0.2, abs=0.02)


def test_scale_and_noise_of_the_codes():
    z = (FACTORS / FACTORS.std(0) + 0.4 * NOISE) * torch.tensor(
        [1, 0.3, 4, 1, 0.5], dtype=torch.float64
    )
    scores = scores_of(z)
    assert scores["factor_vae"] == 1
    assert (
        scores["dci_disentanglement"] > 0.95 and scores["dci_completeness"] > 0.95
    )  # trees that fit the noise: about .6
    assert 0.2 < scores["dci_informativeness"] < 0.5


def test_the_order_of_the_rows_does_not_matter():
    order = np.lexsort(FACTORS.T.numpy())
    scores = disentanglement(FACTORS[order], FACTORS[order], Rng(0))
    assert (
        scores["dci_informativeness"].value == 1
        and scores["sap"].value > 0.98
        and scores["mig"].se < 1e-3
    )


def test_continuous_factors():
    angles = Rng(1).uniform("angle", (4000, 3)).double()
    scores = disentanglement(angles, angles, Rng(0))
    for name, least in (
        ("mig", 0.93),
        ("sap", 0.97),
        ("dci_disentanglement", 0.999),
        ("dci_informativeness", 0.99),
        ("factor_vae", 1),
    ):
        assert scores[name].value >= least, name
    assert scores["mig"].null == pytest.approx(scores["mig"].value, abs=1e-12)


def test_classes():
    values = torch.stack(
        [FACTORS[:, 0] * 3 - 4, NOISE[:, 0], (NOISE[:, 1] > 1) * NOISE[:, 1]], 1
    ).numpy()
    y = classes(values)
    assert (y[:, 0] == FACTORS[:, 0].numpy()).all()
    assert (np.bincount(y[:, 1]) == 400).all()  # ten quantiles
    assert np.corrcoef(y[:, 1], values[:, 1])[0, 1] > 0.9
    assert (
        np.bincount(y[:, 2]).max() == (values[:, 2] == 0).sum()
    )  # many zeros: fewer, unequal cuts
    with pytest.raises(DataError, match="factor 1"):
        classes(np.stack([values[:, 0], np.arange(4000) < 5], 1))


def test_dci_in_closed_form():
    assert dci_of(np.eye(5)) == (pytest.approx(1), pytest.approx(1))
    twice = np.concatenate([np.eye(5), np.eye(5)]) / 2
    assert dci_of(twice) == (pytest.approx(1), pytest.approx(1 - math.log(2) / math.log(10)))
    assert dci_of(twice.T) == (pytest.approx(1 - math.log(2) / math.log(10)), pytest.approx(1))
    assert dci_of(np.ones((4, 3))) == (pytest.approx(0), pytest.approx(0))
    assert dci_of(np.zeros((4, 3))) == (0, 0)
    # rows (1, 0), (1/2, 1/2): 1 and 0, weighted by .6 and .4
    assert dci_of(np.array([[0.6, 0], [0.2, 0.2]]))[0] == pytest.approx(0.6)


def test_mig_in_closed_form():
    # y0 = 2 a + b in four classes: code a knows half of its entropy, so does b; y1 = a: I = H, next 0
    a, b = (np.repeat([0, 0, 1, 1], 1000), np.repeat([0, 1, 0, 1], 1000))
    order = Rng(0).numpy("order").permutation(4000)
    a, b = a[order], b[order]
    z = np.stack([a, b], 1).astype(float)
    assert mig(z, np.stack([2 * a + b, a], 1)).raw == pytest.approx(0.5, abs=1e-12)
    assert mig(z, np.stack([2 * a + b, a], 1)).value == pytest.approx(0.5, abs=5e-3)


def test_mig_knows_its_error():
    def draw(seed, n):
        y = Rng(seed).integers("y", 4, (n, 2)).numpy()
        return y + 0.8 * normal(seed, n, 2).numpy().clip(-2.5, 2.5), y

    truth = mig(*draw(999, 200_000)).value
    all = [mig(*draw(seed, 1000)) for seed in range(100)]
    values = np.array([e.value for e in all])
    assert values.mean() == pytest.approx(truth, abs=0.01)
    assert 0.8 < np.mean([e.se for e in all]) / values.std() < 1.3


def test_same_rng_same_scores():
    z = FACTORS + NOISE
    assert disentanglement(z, FACTORS, Rng(4)) == disentanglement(z, FACTORS, Rng(4))


def test_bad_input_to_disentanglement_gets_one_line():
    for z, factors in (
        (NOISE[:, :1], FACTORS),
        (NOISE, FACTORS[:, :1]),
        (NOISE[:300], FACTORS[:300]),
        (NOISE, FACTORS[:3000]),
        (NOISE[:, 0], FACTORS),
    ):
        with pytest.raises(UsageError, match="give"):
            disentanglement(z, factors, Rng(0))
    with pytest.raises(DataError, match="NaN"):
        disentanglement(NOISE / 0, FACTORS, Rng(0))
    with pytest.raises(DataError, match="factor 0"):
        disentanglement(NOISE, FACTORS * 0, Rng(0))
