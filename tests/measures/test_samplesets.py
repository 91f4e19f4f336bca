"""What a set of samples covers, copies and is labelled as: closed forms, planted faults, and the prdc package."""

import inspect
import math

import numpy as np
import pytest
import torch
from scipy import stats

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.data import load
from fromnoise.measures import coverage, labels, memory
from fromnoise.measures.coverage import expected_coverage, manifold
from fromnoise.measures.estimate import Estimate
from fromnoise.measures.memory import duplicates, near_copy_rate, nearest
from fromnoise.probability.pca import principal_components


def normal(name: str, *shape: int) -> torch.Tensor:
    return Rng(0).normal(name, shape).double()


def bits(name: str, n: int, d: int, p: float = 0.5) -> torch.Tensor:
    return (Rng(0).uniform(name, (n, d)) < p).double()


# -- distances --------------------------------------------------------------------------------------------------
def direct(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a[:, None] - b).square().sum(2).sqrt()


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_neighbours_are_exact_far_from_the_origin_and_near_each_other(offset, monkeypatch):
    monkeypatch.setattr(memory, "BLOCK", 100)  # many blocks
    y = normal("y", 60, 7) + offset
    x = torch.cat([y[:10], y[:10] + 1e-6, normal("x", 30, 7) + offset])
    distance, index = nearest(x, y, 3)
    expected = direct(x, y).sort(1)
    assert torch.equal(distance[:10, 0], torch.zeros(10).double())
    assert torch.allclose(distance, expected.values[:, :3], rtol=1e-12, atol=0) and torch.equal(
        index, expected.indices[:, :3]
    )
    assert torch.equal(nearest(x, y)[1][:, 0], index[:, 0])


def test_two_collapsed_clusters_far_apart():
    spread = 1e-7 * normal("spread", 40, 5)
    x = spread + 1e3 * (torch.arange(40) % 2)[:, None]
    expected = direct(x, x).sort(1).values[:, :3]
    assert torch.allclose(nearest(x, x, 3)[0], expected, rtol=1e-6, atol=0)


# -- precision, recall, density, coverage -----------------------------------------------------------------------
@pytest.mark.parametrize("n,m,d,k", [(300, 300, 5, 5), (200, 350, 20, 3), (350, 150, 2, 1)])
def test_manifold_is_prdcs(n, m, d, k, monkeypatch):
    prdc = pytest.importorskip("prdc")
    monkeypatch.setattr(memory, "BLOCK", 5000)
    x, y = 1.1 * normal("x", n, d) + 0.2, normal("y", m, d)
    theirs = prdc.compute_prdc(y.numpy(), x.numpy(), k)
    assert {key: found.value for key, found in manifold(x, y, k, k).items()} == pytest.approx(
        theirs, abs=1e-12
    )


def test_each_metric_has_the_k_of_its_paper_by_default():
    x, y = normal("x", 200, 8), normal("y", 200, 8)
    default, three, five = manifold(x, y), manifold(x, y, 3, 3), manifold(x, y, 5, 5)
    assert all(
        default[key].value == three[key].value < five[key].value for key in ("precision", "recall")
    )
    assert all(default[key].value == five[key].value for key in ("density", "coverage"))


def test_expected_coverage_golden_value():
    assert expected_coverage(10_000, 10_000, 5) == pytest.approx(0.968773435, abs=1e-9)
    assert expected_coverage(1, 100, 1) == pytest.approx(
        0.01, abs=1e-12
    )  # one sample is nearest by chance


@pytest.mark.parametrize("n,m,d", [(400, 400, 2), (400, 400, 32), (200, 600, 8)])
def test_nulls_of_coverage_and_density(n, m, d):
    found = [manifold(normal(f"x{i}", n, d), normal(f"y{i}", m, d)) for i in range(40)]
    for key in ("coverage", "density"):
        values = np.array([f[key].value for f in found])
        assert abs(values.mean() - found[0][key].null) < 4 * values.std() / math.sqrt(
            len(values)
        ), key
    assert found[0]["density"].null == 1


def test_a_collapsed_model_has_precision_and_no_recall():
    found = manifold(0.01 * normal("x", 500, 8), normal("y", 500, 8))
    assert (
        found["precision"].value > 0.95
        and found["recall"].value < 0.05
        and found["coverage"].value < 0.1
    )


def test_a_model_that_is_too_wide_has_recall_and_no_precision():
    found = manifold(6 * normal("x", 500, 8), normal("y", 500, 8))
    assert (
        found["precision"].value < 0.05
        and found["recall"].value > 0.5
        and found["density"].value < 0.05
    )


def test_duplicates_are_inside_however_the_ball_is():
    y = normal("y", 10, 6)[torch.arange(80) % 10] + 1e4  # eight of each: every radius is 0
    found = {key: found.value for key, found in manifold(y[:40], y, k_coverage=3).items()}
    missed = math.comb(7, 3) / math.comb(
        11, 3
    )  # none of 4 samples is among the first 3 of 7 + 4 equal rows
    assert found == pytest.approx(
        {"precision": 1, "recall": 1, "density": 1, "coverage": 1 - missed}
    )


TIED_LAWS = {
    "mostly zeros": lambda name, n: torch.where(
        Rng(0).uniform(name + "where", (n, 1)) < 0.91, 0.0, Rng(0).normal(name, (n, 1))
    ).double(),
    "one category": lambda name, n: torch.eye(3)[Rng(0).integers(name, 3, (n,))].double(),
    "a grid": lambda name, n: Rng(0).integers(name, 9, (n, 2)).double(),
    "one value": lambda name, n: torch.ones(n, 2).double(),
}


@pytest.mark.parametrize("law", TIED_LAWS.values(), ids=TIED_LAWS)
def test_density_and_coverage_of_a_perfect_model_are_their_nulls_where_rows_repeat(law):
    found = [manifold(law(f"x{i}", 120), law(f"y{i}", 150)) for i in range(30)]
    for key in ("density", "coverage"):
        values = np.array([f[key].value for f in found])
        assert values.mean() == pytest.approx(
            found[0][key].null, abs=4 * values.std() / math.sqrt(30) + 0.003
        ), key


def test_ties_of_tables_and_pixels_are_inside():
    grid = torch.cartesian_prod(
        torch.arange(9.0), torch.arange(9.0)
    ).double()  # the nearest neighbour is at distance 1
    squared = (grid[:40, None] + torch.tensor([1.0, 0.0]) - grid).square().sum(2)
    tied = (torch.cdist(grid, grid) == 1).sum(
        1
    )  # one of them is in the ball for k = 1, as often the sample at its edge
    expected = float(((squared == 0).double() + (squared == 1) / (tied + 1)).sum(1).mean())
    for step in (1.0, 0.1, 2 / 255):
        found = manifold(
            (grid[:40] + torch.tensor([1.0, 0.0])) * step + 7, grid * step + 7, k_coverage=1
        )
        assert found["density"].value == pytest.approx(expected)


# -- copies -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("planted", [0.0, 0.01, 0.05, 0.2])
def test_planted_copies(planted):
    train, held_out, x = normal("train", 2000, 8), normal("held out", 4000, 8), normal("x", 4000, 8)
    copies = int(planted * len(x))
    x[:copies] = train[:copies]
    found = near_copy_rate(x, train, held_out)
    assert found.null == 40 / 4001
    assert found.value == pytest.approx(0.01 + 0.99 * planted, abs=0.006)
    assert found.interval[0] - 1e-3 <= 0.01 + 0.99 * planted <= found.interval[1]


@pytest.mark.mnist
@pytest.mark.parametrize(
    "planted,golden", [(0.0, 0.014), (0.01, 0.024), (0.05, 0.064), (0.2, 0.212)]
)
def test_planted_copies_of_mnist(planted, golden, monkeypatch):
    x = torch.from_numpy(load("mnist").split("train").x[:16_000]).flatten(1).double() / 255
    x = (x - x.mean(0)) @ _mnist_basis(x)
    train, held_out, samples = x[:10_000], x[10_000:14_000], x[14_000:].clone()
    copies = int(planted * 2000)
    samples[:copies] = train[:copies]
    found = near_copy_rate(samples, train, held_out)
    assert found.value == pytest.approx(golden, abs=0.015) and found.value == pytest.approx(
        0.01 + 0.99 * planted, abs=0.01
    )


_basis = []


def _mnist_basis(x: torch.Tensor) -> torch.Tensor:
    if not _basis:
        _basis.append(principal_components(lambda: [x], 784, 50).basis)
    return _basis[0]


@pytest.mark.parametrize("n,m", [(500, 500), (200, 99)])
def test_the_interval_knows_that_the_threshold_is_uncertain(n, m):
    found = [
        near_copy_rate(normal(f"x{i}", n, 2), normal(f"t{i}", 200, 2), normal(f"h{i}", m, 2))
        for i in range(200)
    ]
    holds = np.mean([f.interval[0] <= f.null <= f.interval[1] for f in found])
    assert 0.92 <= holds <= 1.0
    assert np.mean([f.value for f in found]) == pytest.approx(found[0].null, abs=0.003)
    assert np.std([f.value for f in found]) == pytest.approx(
        np.mean([f.se for f in found]), rel=0.25
    )


@pytest.mark.parametrize("d,p", [(5, 0.5), (12, 0.3), (20, 0.3)])
def test_the_null_is_right_where_examples_are_equal(d, p):
    """Black and white pixels: many held-out rows stand in the training set too, or in each other."""
    found = [
        near_copy_rate(bits(f"x{i}", 300, d, p), bits(f"t{i}", 300, d, p), bits(f"h{i}", 300, d, p))
        for i in range(100)
    ]
    values, nulls = np.array([f.value for f in found]), np.array([f.null for f in found])
    assert abs((values - nulls).mean()) < 4 * (values - nulls).std() / 10 + 1 / 300
    assert np.mean([f.interval[0] <= f.null <= f.interval[1] for f in found]) > 0.88


def test_copies_among_data_with_equal_rows():
    train, held_out, x = bits("t", 500, 20), bits("h", 500, 20), bits("x", 1000, 20)
    held_out[:100] = train[:100]  # a table whose test set shares a fifth of its rows
    x[:560] = train[
        torch.arange(560) % 500
    ]  # 560 copies, 160 of them of rows that are held out too: they prove nothing
    found = near_copy_rate(x, train, held_out)
    assert found.null == pytest.approx(0.2, abs=0.005) and found.value == pytest.approx(
        0.4, abs=0.01
    )


@pytest.mark.parametrize("scale", [0.9, 0.5, 1.2])
def test_samples_that_all_lie_too_near_to_the_middle_are_no_copies(scale):
    """A plain distance would call 8 % and 100 % of these copies, and a model that is too wide innocent of all."""
    rates = [
        near_copy_rate(
            scale * normal(f"x{i}", 1000, 32), normal(f"t{i}", 2000, 32), normal(f"h{i}", 800, 32)
        ).value
        for i in range(4)
    ]
    assert sum(rates) / 4 < 0.05
    copied = scale * normal("x", 1000, 32)
    copied[:200] = normal("t", 2000, 32)[:200]
    assert near_copy_rate(
        copied, normal("t", 2000, 32), normal("h", 800, 32)
    ).value == pytest.approx(0.21, abs=0.02)


def test_too_few_held_out_examples():
    near_copy_rate(normal("x", 10, 2), normal("t", 10, 2), normal("h", 99, 2))
    with pytest.raises(UsageError, match="^98 held-out .* 99 or more"):
        near_copy_rate(normal("x", 10, 2), normal("t", 10, 2), normal("h", 98, 2))
    with pytest.raises(UsageError, match="999 or more"):
        near_copy_rate(
            normal("x", 10, 2), normal("t", 10, 2), normal("h", 98, 2), false_positives=0.001
        )


# -- repeated samples -------------------------------------------------------------------------------------------
def test_duplicates_are_counted():
    x, real = normal("x", 1000, 6), normal("real", 1000, 6)
    assert duplicates(x, real).value <= 0.01 and duplicates(x, real, tol=0.0).value == 0
    x[500:530] = x[:30]  # thirty pairs
    x[530:540] = x[540]  # eleven of one
    assert duplicates(x, real, tol=0.0).value == pytest.approx(0.071)
    x[500:530] += 1e-9
    assert duplicates(x, real, tol=0.0).value == pytest.approx(0.011) and duplicates(
        x, real, tol=1e-6
    ).value == pytest.approx(0.071)
    found = duplicates(x, real)
    assert found.value == pytest.approx(0.071, abs=0.01) and found.null <= 0.01


def test_one_picture_again_and_again():
    found = duplicates(normal("x", 1, 6).repeat(300, 1), normal("real", 300, 6))
    assert found.value == 1 and found.null < 0.02


def test_duplicates_among_as_many_real_examples():
    """Of 900 draws of 256 patterns 97 % repeat another, of 60 only 1 - (255/256)^59 = 21 %."""
    found = [
        duplicates(bits(f"x{i}", 900, 8), bits(f"real{i}", 60, 8), tol=0.0) for i in range(100)
    ]
    expected = 1 - (255 / 256) ** 59
    assert (
        np.mean([f.value for f in found]) == pytest.approx(expected, abs=0.03) and found[0].n == 60
    )
    assert np.mean([f.null for f in found]) == pytest.approx(expected, abs=0.03)
    assert np.mean([f.interval[0] <= expected <= f.interval[1] for f in found]) > 0.9


def test_the_interval_of_duplicates_knows_that_they_come_in_clusters():
    inside = []
    for i in range(80):
        x, pairs = normal(f"x{i}", 1000, 3), int(Rng(i).numpy("pairs").poisson(30))
        x[500 : 500 + pairs] = x[:pairs]
        low, high = duplicates(x, x, tol=0.0).interval
        inside.append(low <= 0.06 <= high)
    assert 0.9 <= np.mean(inside) <= 1


# -- classes ----------------------------------------------------------------------------------------------------
def drawn(name: str, p, n: int) -> torch.Tensor:
    return Rng(0).categories(name, p, n)


SKEWED = [0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02]


def test_chi_square_is_scipys():
    a, b = torch.tensor([30.0, 0, 25, 45, 0]).double(), torch.tensor([60.0, 10, 40, 30, 0]).double()
    theirs = stats.chi2_contingency(np.stack([a, b])[:, :4], correction=False)
    assert labels.chi_square(a, b) == pytest.approx((theirs.statistic, 3), rel=1e-12)
    assert labels.chi_square(a[:1], b[:1]) == (0.0, 0)


def test_class_chi_square_of_one_law_and_of_a_lost_class():
    found = [
        labels.class_chi_square(drawn(f"a{i}", SKEWED, 600), drawn(f"b{i}", SKEWED, 400), 8)
        for i in range(200)
    ]
    assert np.mean([f.value for f in found]) == pytest.approx(found[0].null, abs=0.12) and found[
        0
    ].null == pytest.approx(1000 / 999)
    assert np.mean([f.interval[0] <= f.null <= f.interval[1] for f in found]) > 0.92
    lost = labels.class_chi_square(
        drawn("lost", [0.0, *SKEWED[1:]], 600), drawn("b", SKEWED, 400), 8
    )
    assert lost.interval[0] > 5
    same = torch.arange(80) % 8
    assert labels.class_chi_square(same, same, 8).value == 0


def test_classes_seen():
    found = labels.classes_seen(torch.tensor([0, 0, 3]), torch.arange(40) % 4, 5)
    assert found.value == 2 and found.null == pytest.approx(4 * (1 - 0.75**3), abs=1e-12)


def test_label_agreement():
    found = labels.label_agreement(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 2, 1]))
    assert found.value == 0.75 and found.n == 4


@pytest.mark.parametrize("delta", [1.0, 3.0])
def test_classification_accuracy_score_of_two_gaussians(delta):
    """evaluation.md 4.10: samples at +-delta/2 teach the best classifier, whose accuracy is Phi(delta / 2)."""

    def gaussians(name, n):
        y = torch.arange(n) % 2
        x = normal(name, n, 3)
        x[:, 0] += delta * (y - 0.5)
        return x * torch.tensor([1e-3, 100.0, 1.0]) + 5, y

    x, y = gaussians("x", 4000)
    real, real_y = gaussians("real", 20_000)
    found = labels.classification_accuracy_score(x, y, real, real_y)
    best = stats.norm.cdf(delta / 2)
    assert found.value == pytest.approx(best, abs=0.008)
    assert found == labels.classification_accuracy_score(x, y, real, real_y)
    assert labels.classification_accuracy_score(x, 1 - y, real, real_y).value == pytest.approx(
        1 - best, abs=0.008
    )
    shuffled = y[torch.from_numpy(Rng(0).numpy("shuffle").permutation(len(y)))]
    assert labels.classification_accuracy_score(x, shuffled, real, real_y).value < 0.5 + 0.6 * (
        best - 0.5
    )


def test_classification_accuracy_score_with_dead_and_missing():
    x, y = (
        torch.cat([normal("x", 90, 2), torch.full((90, 1), 0.1).double()], 1),
        torch.arange(90) % 3,
    )
    x[:, 0] += 20 * y
    lost = y < 2  # the model never makes the third class: a third of the real ones cannot be right
    assert labels.classification_accuracy_score(x, y, x, y).value == 1
    assert labels.classification_accuracy_score(x[lost], y[lost], x, y).value == pytest.approx(
        2 / 3, abs=1e-9
    )


# -- modes ------------------------------------------------------------------------------------------------------
CENTRES = torch.cartesian_prod(*[2 * torch.arange(-2.0, 3.0)] * 2).double()


def test_modes_of_the_grid():
    """100 perfect samples see 24.578 of 25 modes."""
    hits, shares = [], []
    for i in range(300):
        x = CENTRES[Rng(i).integers("mode", 25, (100,))] + 0.05 * normal(f"modes{i}", 100, 2)
        hit = labels.modes_hit(labels.mode_of(x, CENTRES, radius=0.3), 25)
        hits.append(hit.value)
        shares.append(float((labels.mode_of(x, CENTRES, 0.1) >= 0).double().mean()))
    assert hit.null == pytest.approx(24.578, abs=5e-4)
    assert np.mean(hits) == pytest.approx(24.578, abs=0.1)
    assert labels.share_within(2, 2) == pytest.approx(1 - math.exp(-2), abs=1e-12)
    assert np.mean(shares) == pytest.approx(1 - math.exp(-2), abs=0.006)


def test_modes_that_are_lost_and_samples_between_them():
    x = torch.cat([CENTRES[:5].repeat(10, 1), CENTRES[:10] + 0.9])
    index = labels.mode_of(x, CENTRES, 0.3)
    assert labels.modes_hit(index, 25).value == 5 and int((index >= 0).sum()) == 50


# -- refusals ---------------------------------------------------------------------------------------------------
X, Y = torch.arange(24.0).double().reshape(12, 2) ** 1.5, torch.arange(12) % 3
NAN = X.clone()
NAN[3, 1] = math.nan


@pytest.mark.parametrize(
    "call,error,says",
    [
        (lambda: manifold(X, NAN), DataError, "finite"),
        (lambda: manifold(X, X[:5]), UsageError, "6 of each or more"),
        (lambda: manifold(X, X[:, :1]), UsageError, "same d"),
        (lambda: manifold(X, X, k=0), UsageError, "1 or more, not 0"),
        (lambda: manifold(X, X, k_coverage=0), UsageError, "1 or more, not 0"),
        (lambda: nearest(X, X, 13), UsageError, "ask for 1 to 12"),
        (lambda: nearest(X[0], X), UsageError, r"\(n, d\)"),
        (lambda: near_copy_rate(NAN, X, normal("h", 99, 2)), DataError, "finite"),
        (lambda: near_copy_rate(X[:0], X, normal("h", 99, 2)), UsageError, "too few"),
        (lambda: near_copy_rate(X, X, X, 1.5), UsageError, "between 0 and 1"),
        (lambda: duplicates(X, X[:2]), UsageError, "3 of each or more"),
        (
            lambda: labels.class_chi_square(Y, Y, 2),
            DataError,
            "reach from 0 to 2, but there are 2 classes",
        ),
        (lambda: labels.class_chi_square(Y - 1, Y, 3), DataError, "reach from -1"),
        (lambda: labels.class_chi_square(Y.double(), Y, 3), UsageError, "whole numbers"),
        (lambda: labels.class_chi_square(Y[:0], Y, 3), UsageError, "one for each example"),
        (lambda: labels.label_agreement(Y, Y[:5]), UsageError, "do not go together"),
        (lambda: labels.classification_accuracy_score(X, Y * 0, X, Y), UsageError, "one class"),
        (
            lambda: labels.classification_accuracy_score(X, Y[:5], X, Y),
            UsageError,
            "each needs one label",
        ),
        (lambda: labels.classification_accuracy_score(NAN, Y, X, Y), DataError, "finite"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, error, says):
    with pytest.raises(error, match=says) as found:
        call()
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("module", [coverage, memory, labels])
def test_no_global_random_numbers(module):
    text = inspect.getsource(module)
    assert "manual_seed" not in text and "torch.rand" not in text and "np.random" not in text


@pytest.mark.parametrize(
    "more",
    [
        {"value": math.nan},
        {"value": math.inf},
        {"value": 1.0, "se": math.nan},
        {"value": 1.0, "interval": (0, math.nan)},
    ],
)
def test_an_estimate_that_is_no_number_is_refused_in_words(more):
    with pytest.raises(DataError, match="no finite number"):
        Estimate(**more)


@pytest.mark.parametrize("m", [20, 80, 300])
def test_copies_without_held_out_examples_are_found_by_leave_one_out(m):
    """Fresh examples read the null, samples near the middle do not read as copies, copies do."""
    train = normal("train", m, 30)
    fresh = [
        memory.near_copy_rate_within(normal(f"x{i}", 200, 30), normal(f"y{i}", m, 30))
        for i in range(40)
    ]
    values = np.array([found.value for found in fresh])
    assert abs(values.mean() - fresh[0].null) < 4 * values.std() / math.sqrt(len(values))
    assert memory.near_copy_rate_within(0.3 * normal("middle", 200, 30), train).value < 0.1
    copies = train[torch.arange(200) % m] + 0.01 * normal("noise", 200, 30)
    half = torch.cat([copies[:100], normal("new", 100, 30)])
    assert memory.near_copy_rate_within(copies, train).value == 1
    assert memory.near_copy_rate_within(half, train).value == pytest.approx(0.5, abs=0.1)
    with pytest.raises(UsageError, match="20 or more"):
        memory.near_copy_rate_within(copies, train[:19])
