"""Choosing the next symbol: each filter by hand, all of them against loops, and frequencies that are exact."""

import math

import numpy as np
import pytest
import torch

from fromnoise.core.config import build
from fromnoise.core.errors import DataError, UsageError
from fromnoise.probability import decoding
from fromnoise.probability.decoding import (
    RECENT,
    DecodingOptions,
    choose_symbol,
    filtered_log_p,
    inverse_cdf,
)

P = torch.tensor([[0.3, 0.5, 0.05, 0.15]], dtype=torch.float64)
EQUAL = torch.full((1, 4), 0.25, dtype=torch.float64)
NEARLY_ONE = 1 - 2.0**-53  # the largest uniform number there is


def kept(log_p):
    return [set(np.flatnonzero(row > -math.inf).tolist()) for row in log_p.numpy()]


def under(p, **options):
    """Probabilities after the filters, by way of the user's options."""
    return filtered_log_p(p.log(), None, build(DecodingOptions, options)).exp()


# -- each filter ------------------------------------------------------------------------------------------------


def test_without_options_the_distribution_is_the_models_own():
    assert torch.allclose(under(P), P, atol=1e-15) and torch.allclose(
        filtered_log_p(P.log() + 7, None, DecodingOptions()).exp(), P, atol=1e-15
    )


@pytest.mark.parametrize("value", [0.25, 0.7, 2.0, 100.0])
def test_temperature_is_a_power(value):
    power = P ** (1 / value)
    assert torch.allclose(under(P, temperature=value), power / power.sum(), atol=1e-12)


@pytest.mark.parametrize("value", [0, 1e-4, 1e-300, 5e-324])
def test_no_temperature_is_too_small(value):
    assert under(P, temperature=value).tolist() == [[0, 1, 0, 0]]


def test_greedy_takes_the_first_of_equal_ones():
    p = torch.tensor([[0.1, 0.4, 0.4, 0.1]])
    for u in (0.0, 0.5, NEARLY_ONE):
        assert choose_symbol(
            p.log(), None, DecodingOptions(temperature=0), torch.tensor([u])
        ).tolist() == [1]


@pytest.mark.parametrize(
    "k,expected",
    [
        (1, {1}),
        (2, {0, 1}),
        (3, {0, 1, 3}),
        (4, {0, 1, 2, 3}),
        (0, {0, 1, 2, 3}),
        (10**9, {0, 1, 2, 3}),
    ],
)
def test_top_k(k, expected):
    assert kept(filtered_log_p(P.log(), None, DecodingOptions(top_k=k))) == [expected]


def test_top_k_keeps_exactly_k_of_equal_ones():
    many = torch.full((2, 1000), -1.0)
    for k in (1, 17, 999):
        assert kept(decoding.top_k(many, k)) == [set(range(k))] * 2


@pytest.mark.parametrize(
    "mass,expected",
    [
        (1e-12, {1}),
        (0.5, {1}),
        (0.5001, {0, 1}),
        (0.8, {0, 1}),
        (0.95, {0, 1, 3}),
        (0.96, {0, 1, 2, 3}),
        (1, {0, 1, 2, 3}),
    ],
)
def test_top_p_is_the_smallest_nucleus(mass, expected):
    assert kept(filtered_log_p(P.log(), None, DecodingOptions(top_p=mass))) == [expected]
    assert float(P[0, list(expected)].sum()) >= mass * (1 - 1e-9)


def test_top_p_of_equal_ones_counts_them_in_order():
    assert kept(decoding.top_p(EQUAL.log(), 0.5)) == [{0, 1}] and kept(
        decoding.top_p(EQUAL.log(), 0.51)
    ) == [{0, 1, 2}]


@pytest.mark.parametrize(
    "share,expected",
    [(0, {0, 1, 2, 3}), (0.1, {0, 1, 2, 3}), (0.101, {0, 1, 3}), (0.31, {0, 1}), (1, {1})],
)
def test_min_p_is_a_share_of_the_largest(share, expected):
    assert kept(filtered_log_p(P.log(), None, DecodingOptions(min_p=share))) == [expected]


def test_what_is_kept_is_renormalised():
    assert torch.allclose(
        under(P, top_k=2), torch.tensor([[0.375, 0.625, 0, 0]], dtype=torch.float64)
    )


def test_repetition_penalty_divides_logits_of_mean_zero():
    logits = torch.tensor([[2.0, 1.0, -1.0, -2.0]], dtype=torch.float64)
    expected = torch.tensor(
        [[1.0, 1.0, -2.0, -2.0]], dtype=torch.float64
    )  # penalty 2 of symbols 0 and 2
    for shift in (0.0, -30.0):
        got = filtered_log_p(
            logits + shift, torch.tensor([[-1, 2, 0]]), DecodingOptions(repetition_penalty=2)
        )
        assert torch.allclose(got, expected.log_softmax(1), atol=1e-12)


def test_repetition_penalty_looks_back_so_far():
    options = DecodingOptions(repetition_penalty=3)
    history = torch.full((1, RECENT + 1), 3)
    history[0, 0] = 1
    assert torch.equal(
        filtered_log_p(P.log(), history, options), filtered_log_p(P.log(), history[:, 1:], options)
    )
    history[0, 1] = 1
    assert not torch.equal(
        filtered_log_p(P.log(), history, options), filtered_log_p(P.log(), history[:, 2:], options)
    )
    nothing = torch.full((1, 5), -1)
    assert torch.allclose(filtered_log_p(P.log(), nothing, options).exp(), P) and torch.allclose(
        filtered_log_p(P.log(), nothing[:, :0], options).exp(), P
    )


def test_repetition_penalty_ends_a_loop_and_allows_nothing_new():
    p = torch.tensor([[0.9, 0.09, 0.005, 0.005, 0.0]])
    got = filtered_log_p(p.log(), torch.tensor([[0, 0]]), DecodingOptions(repetition_penalty=5))
    assert int(got.argmax()) == 1 and got[0, 4] == -math.inf and got.exp().sum() == pytest.approx(1)


# -- all together -----------------------------------------------------------------------------------------------


def by_loops(log_p, history, o):
    """The same for one row, as the papers say it."""
    logit = [x - sum(log_p) / len(log_p) for x in log_p]
    for s in {h for h in history[-RECENT:] if h >= 0}:
        logit[s] = (
            logit[s] / o.repetition_penalty if logit[s] > 0 else logit[s] * o.repetition_penalty
        )
    weights = [math.exp(x / o.temperature) for x in logit]
    order = sorted(range(len(weights)), key=lambda s: (-weights[s], s))[: o.top_k]
    nucleus, total = [], sum(weights[s] for s in order)
    for s in order:
        if sum(weights[t] for t in nucleus) < o.top_p * total:
            nucleus.append(s)
    nucleus = [s for s in nucleus if weights[s] >= o.min_p * weights[order[0]]]
    total = sum(weights[s] for s in nucleus)
    return [weights[s] / total if s in nucleus else 0.0 for s in range(len(weights))]


def test_all_filters_against_loops():
    chance = np.random.default_rng(0)
    log_p = torch.from_numpy(2 * chance.standard_normal((50, 30))).log_softmax(1)
    history = torch.from_numpy(chance.integers(-1, 30, (50, 70)))
    options = DecodingOptions(
        temperature=1.7, top_k=15, top_p=0.9, min_p=0.05, repetition_penalty=1.3
    )
    expected = [by_loops(row.tolist(), seen.tolist(), options) for row, seen in zip(log_p, history)]
    got = filtered_log_p(log_p, history, options).exp()
    assert (
        torch.allclose(got, torch.tensor(expected, dtype=torch.float64), atol=1e-12)
        and len({len(k) for k in map(frozenset, kept(got.log()))}) > 1
    )


def test_frequencies_are_exact():
    """Evenly spread u: the inverse of the cumulative distribution gives each symbol its share to one in so many."""
    N = 100_001
    p = torch.tensor([0.2, 0.0, 0.45, 1e-4, 0.3499, 0.0])
    u = (torch.arange(N, dtype=torch.float64) + 0.5) / N
    counts = torch.bincount(
        choose_symbol(p.log().expand(N, -1), None, DecodingOptions(), u), minlength=6
    )
    assert (counts / N - p).abs().max() < 1.1 / N and counts[1] == counts[5] == 0


@pytest.mark.parametrize(
    "p",
    [
        [0, 0.5, 0, 0.5, 0],
        [0, 1, 0, 0, 0],
        [0, 1e-30, 0, 1, 0],
        [1, 1, 1, 1, 0],
        [0, 0.1, 0.2, 0.3, 0.4],
    ],
)
def test_probability_zero_is_never_chosen(p):
    p = torch.tensor([p])
    for u in (0.0, 5e-324, 0.5, NEARLY_ONE):
        for options in (DecodingOptions(), DecodingOptions(temperature=3, top_p=0.99)):
            chosen = choose_symbol(p.log(), None, options, torch.tensor([u], dtype=torch.float64))
            assert p[0, int(chosen)] > 0, (p, u)


def test_a_row_depends_on_itself_only():
    chance = np.random.default_rng(1)
    log_p, u = (
        torch.from_numpy(chance.standard_normal((40, 65)).astype(np.float32)).log_softmax(1),
        torch.from_numpy(chance.random(40)),
    )
    history, options = (
        torch.from_numpy(chance.integers(0, 65, (40, 10))),
        DecodingOptions(top_p=0.8, top_k=30, repetition_penalty=1.1),
    )
    together = choose_symbol(log_p, history, options, u)
    assert together.dtype == torch.int64
    assert together.tolist() == [
        int(choose_symbol(log_p[i : i + 1], history[i : i + 1], options, u[i : i + 1]))
        for i in range(40)
    ]


def test_draw_inverts_the_cumulative_distribution():
    assert inverse_cdf(
        P.log().expand(5, -1), torch.tensor([0.0, 0.29, 0.31, 0.81, 0.86])
    ).tolist() == [
        0,
        0,
        1,
        2,
        3,
    ]


# -- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name,values",
    [
        ("temperature", [-1, "-0.5", "nan", float("nan"), "inf", -math.inf, 101, "hot", True]),
        ("top_k", [-1, "2.5", "nan", 1.5]),
        ("top_p", [0, -0.1, 1.01, "nan", "inf"]),
        ("min_p", [-0.1, 1.01, "nan"]),
        ("repetition_penalty", [0, 0.9, -1, "nan", "inf"]),
    ],
)
def test_mistakes_name_the_option(name, values):
    for value in values:
        with pytest.raises(UsageError, match="--" + name.replace("_", "-")):
            build(DecodingOptions, {name: value})


@pytest.mark.parametrize("row", [[math.nan, 0.0], [-math.inf, -math.inf], [math.inf, 0.0]])
def test_a_diverged_model_is_told(row):
    with pytest.raises(DataError, match="diverged"):
        choose_symbol(
            torch.tensor([[-0.7, -0.7], row]), None, DecodingOptions(), torch.tensor([0.5, 0.5])
        )
