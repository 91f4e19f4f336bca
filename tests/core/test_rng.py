"""Randomness is a pure function of (seed, purpose, step, row)."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import fromnoise
from fromnoise.core.rng import Rng

SOURCE = Path(fromnoise.__file__).parent


def test_same_key_same_numbers_other_key_other_numbers():
    a = Rng(3).at("train", 7).normal("eps", (4, 5))
    assert torch.equal(a, Rng(3).at("train").at(7).normal("eps", (4, 5)))
    for other in (Rng(4).at("train", 7), Rng(3).at("train", 8), Rng(3).at("test", 7)):
        assert not torch.equal(a, other.normal("eps", (4, 5)))
    assert not torch.equal(a, Rng(3).at("train", 7).normal("other", (4, 5)))


def test_a_row_depends_on_its_index_only():
    many = Rng(0).per_row(range(100)).normal("z", (100, 3))
    some = Rng(0).per_row([5, 99]).normal("z", (2, 3))
    assert torch.equal(many[[5, 99]], some)
    which = Rng(0).per_row(range(100)).categories("c", [0.2, 0.8], 100)
    assert torch.equal(which[[5, 99]], Rng(0).per_row([5, 99]).categories("c", [0.2, 0.8], 2))


def test_draws_have_their_distributions():
    n = 200_000
    normal, uniform = Rng(1).normal("a", (n,)).double(), Rng(1).uniform("b", (n,)).double()
    assert abs(normal.mean()) < 5 / n**0.5 and abs(normal.var() - 1) < 5 * (2 / n) ** 0.5
    assert (
        0 <= uniform.min()
        and uniform.max() < 1
        and abs(uniform.mean() - 0.5) < 5 * (1 / 12 / n) ** 0.5
    )
    counts = np.bincount(Rng(1).categories("c", [0.1, 0.2, 0.7], n).numpy(), minlength=3) / n
    assert np.abs(counts - [0.1, 0.2, 0.7]).max() < 0.01
    assert set(Rng(1).integers("d", 4, (1000,)).tolist()) == {0, 1, 2, 3}


def test_keys_do_not_meet_by_concatenation():
    assert Rng(0).key("a", "bc") != Rng(0).key("ab", "c") and Rng(0).key("1") != Rng(0).key(1)


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_no_code_of_ours_reads_a_global_generator(path):
    text = path.read_text()
    torch_draws = re.findall(
        r"torch\.(?:randn|rand|randint|randperm|normal|bernoulli|multinomial)(?:_like)?\(([^\n]*)",
        text,
    )
    assert all("generator=" in rest for rest in torch_draws), path
    assert not re.search(
        r"\bnp\.random\.(?!Generator|Philox)|numpy\.random\.(?!Generator|Philox)|^import random|\brandom\.seed|default_rng\(\)",
        text,
        re.M,
    ), path
    if path.name != "rng.py":
        assert "manual_seed" not in text or "Generator().manual_seed" in text, path


def test_fine_uniform_numbers_tell_rare_things_apart():
    """A float32 in [0, 1) is a multiple of 2^-24: what has less probability would never or too often be drawn."""
    u = Rng(0).fine_uniform("u", (1000,))
    assert (
        u.dtype == torch.float64
        and 0 <= u.min()
        and u.max() < 1
        and abs(float(u.mean()) - 0.5) < 0.05
    )
    assert (u * 2**24 % 1 != 0).sum() > 900
    rows = Rng(0).per_row([3, 4]).fine_uniform("u", (2, 5))
    assert torch.equal(rows[1], Rng(0).per_row([4]).fine_uniform("u", (1, 5))[0])
