"""Sequences and pixels where the best possible score is known (evaluation.md 4.7).

A two-state chain that leaves state 0 with probability .1 and state 1 with .4 costs .569386594 bits a symbol: no model
can do better on new symbols, and one that sees the symbol before can do as well. Without it the price is .721928095.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.probability.likelihood import LIKELIHOODS

LEAVE = (0.1, 0.4)
RATE, UNIGRAM = 0.569386594, 0.721928095  # bits for each symbol


def f64(value):
    return torch.tensor(value, dtype=torch.float64)


def chain(n: int) -> np.ndarray:
    """n symbols of the stationary chain."""
    rng = Rng(0).numpy("chain")
    leaves = (
        rng.random((2, n)) < np.array(LEAVE)[:, None]
    ).tolist()  # whether it would leave state s at time t
    state, symbols = int(rng.random() < 0.2), []
    for zero, one in zip(*leaves):
        symbols.append(state)
        state ^= one if state else zero
    return np.array(symbols)


def contexts(symbols: np.ndarray, k: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(context, symbol) from position ``most`` on, contexts of k symbols as numbers 0 .. 2^k - 1."""
    n = len(symbols)
    context = sum(
        (symbols[most - i : n - i] << (i - 1) for i in range(1, k + 1)), np.zeros(n - most, int)
    )
    return context, symbols[most:]


def count_table(symbols: np.ndarray, k: int) -> torch.Tensor:
    """log p(symbol | k symbols before), (2^k, 2), from counts with 1/2 added (Krichevsky & Trofimov 1981)."""
    context, symbol = contexts(symbols, k, k)
    counts = np.bincount(2 * context + symbol, minlength=2 ** (k + 1)).reshape(-1, 2) + 0.5
    return torch.from_numpy(np.log(counts / counts.sum(1, keepdims=True)))


def bits(table: torch.Tensor, symbols: np.ndarray, k: int, most: int = 8) -> torch.Tensor:
    """Cost of each symbol from position ``most`` on, bits, by the package's categorical likelihood."""
    context, symbol = contexts(symbols, k, most)
    x = F.one_hot(torch.from_numpy(symbol), 2).double()
    nats = LIKELIHOODS["table"](DataSpec("vector", (2,), blocks=(2,))).nll(
        table[context], x, torch.zeros(1, 2)
    )
    return nats.sum(1) / math.log(2)


def mean_and_error(values: torch.Tensor, block: int = 500) -> tuple[float, float]:
    """Mean and its standard error from the means of blocks, since neighbours depend on each other."""
    blocks = values[: len(values) // block * block].view(-1, block).mean(1)
    return blocks.mean().item(), blocks.std().item() / len(blocks) ** 0.5


SYMBOLS = chain(400_000)
TRAIN, TEST = SYMBOLS[:200_000], SYMBOLS[200_000:]
TRUTH = f64([[1 - LEAVE[0], LEAVE[0]], [LEAVE[1], 1 - LEAVE[1]]]).log()


def entropy(*p: float) -> float:
    return -sum(q * math.log2(q) for q in p)


def test_closed_forms():
    stationary = (0.8, 0.2)
    assert stationary[0] * LEAVE[0] == pytest.approx(
        stationary[1] * LEAVE[1]
    )  # as many leave each state
    rate = sum(share * entropy(q, 1 - q) for share, q in zip(stationary, LEAVE))
    assert rate == pytest.approx(RATE, abs=1e-9) and 2**rate == pytest.approx(1.483892514, abs=1e-9)
    assert entropy(*stationary) == pytest.approx(UNIGRAM, abs=1e-9)


@pytest.mark.parametrize("k,golden", [(0, UNIGRAM), (1, RATE), (2, RATE), (4, RATE), (8, RATE)])
def test_counts_reach_the_rate_and_do_not_beat_it(k, golden):
    cost = bits(count_table(TRAIN, k), TEST, k)
    mean, error = mean_and_error(cost)
    assert error < 0.004 and mean == pytest.approx(golden, abs=4 * error)
    assert mean > RATE - 4 * error
    # against the true chain on the same symbols: the excess is KL, never below zero but for its own error
    excess, error = mean_and_error(cost - bits(TRUTH, TEST, 1))
    assert excess > -4 * error
    # about 1 / (2 n ln 2) bits for each of the 2^k numbers learned
    assert excess == pytest.approx(
        golden - RATE + 2**k / (2 * len(TRAIN) * math.log(2)), abs=4 * error + 2e-4
    )


def test_what_was_seen_in_training_can_be_beaten():
    """Why the oracle speaks of new symbols: long contexts know the training symbols by heart."""
    few = TRAIN[:2000]
    k = 14
    assert bits(count_table(few, k), few, k, k).mean() < RATE - 0.05
    assert bits(count_table(few, k), TEST, k, k).mean() > RATE + 0.05


def test_fair_bits_cost_ln_2():
    """784 fair black or white pixels cost 543.427390 nats, as coin flips and as logistics with two levels."""
    spec = DataSpec("image", (1, 28, 28), levels=2)
    x = Rng(0).integers("x", 2, (3, 1, 28, 28)).double() * 2 - 1
    for name in ("bernoulli", "logistic"):
        nats = LIKELIHOODS[name](spec).nll(torch.zeros_like(x), x, f64(0.0)).flatten(1).sum(1)
        assert torch.allclose(nats, f64(543.427390), rtol=0, atol=1e-6)


def test_uniform_levels_cost_8_bits():
    """As a category of 256 with equal logits; a table learned from draws costs more on new ones, never less."""
    spec = DataSpec("vector", (512,), blocks=(256, 256))
    levels = Rng(0).integers("x", 256, (4000, 2))
    one_hot = F.one_hot(levels, 256).double().flatten(1)

    def price(logits, x):
        return LIKELIHOODS["table"](spec).nll(logits, x, torch.zeros(1, 512)).sum(1) / (
            2 * math.log(2)
        )

    assert torch.allclose(
        price(torch.zeros(4000, 512, dtype=torch.float64), one_hot), f64(8.0), rtol=0, atol=1e-12
    )
    learned = (one_hot[:2000].sum(0, keepdim=True) + 0.5).log()
    assert (
        price(learned.expand(2000, 512), one_hot[2000:]).mean()
        > 8
        > price(learned.expand(2000, 512), one_hot[:2000]).mean()
    )
