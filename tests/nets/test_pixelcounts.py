"""Counts of pixels: exact over all images of a tiny size, causal, and right where the answer is known."""

import math

import numpy as np
import pytest
import torch

from fromnoise import data
from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.nets.counts.pixelcounts import PixelCounts, template


def stripes(n: int, name: str, side: int = 7) -> np.ndarray:
    """Rows of one colour, white more and more often further down, one pixel in ten wrong."""
    rng = Rng(0).numpy(name)
    x = rng.random((n, side, 1)) < np.linspace(0.1, 0.9, side)[:, None]
    return (x ^ (rng.random((n, side, side)) < 0.1)).astype(np.uint8)


@pytest.fixture(scope="module")
def model() -> PixelCounts:
    return PixelCounts((7, 7), pixels=6, cell=2).fit(
        stripes(2000, "train"), stripes(300, "held out")
    )


def log_probs(model, x):
    """log p of each pixel of x (N, H, W) given earlier ones, (N, H W)."""
    symbols = x.flatten(1).long()
    return model(symbols, None).gather(2, symbols[..., None])[..., 0]


def test_template():
    assert set(template(4)) == {(-1, 0), (0, -1), (-1, -1), (-1, 1)}
    assert template(2)[0] == (-1, 0) and all(offset < (0, 0) for offset in template(60))
    far = [r * r + c * c for r, c in template(60)]
    assert far == sorted(far) and len(set(template(60))) == 60


@pytest.mark.parametrize("pixels,cell", [(1, 4), (4, 1), (9, 2), (14, 1)])
def test_all_images_of_a_tiny_size_have_probability_one(pixels, cell):
    every = torch.from_numpy((np.arange(2**12)[:, None] >> np.arange(12) & 1).reshape(-1, 3, 4))
    train = stripes(50, "tiny")[:, :3, :4]
    model = PixelCounts((3, 4), pixels, cell).fit(train, stripes(20, "tiny held out")[:, :3, :4])
    log_p = log_probs(model, every)
    assert log_p.shape == (2**12, 12) and log_p.dtype == torch.float32
    assert log_p.double().sum(1).exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert (
        log_probs(PixelCounts((3, 4), pixels, cell), every)
        .sum(1)
        .allclose(torch.tensor(12 * math.log(0.5)))
    )


def test_one_pixel_after_another(model):
    x = torch.from_numpy(stripes(40, "new"))
    log_p = log_probs(model, x)
    state = model.begin(40)
    symbol = None
    for i in range(49):
        of_next = model.step(state, symbol)
        symbol = x.view(40, -1)[:, i].long()
        assert (of_next.exp().sum(1) - 1).abs().max() < 1e-6
        assert torch.equal(of_next.gather(1, symbol[:, None])[:, 0], log_p[:, i])
        other = x.clone()
        other.view(40, -1)[:, i] ^= 1
        assert torch.equal(log_probs(model, other)[:, :i], log_p[:, :i])


def by_hand(train, held_out, x, levels, cell, strengths) -> np.ndarray:
    """log p of each pixel, level by level, each from counts of its own."""

    def context(image, r, c, pixels, side):
        near = tuple(
            int(0 <= r + a and 0 <= c + b < 7 and image[r + a, c + b]) for a, b in template(pixels)
        )
        return near, r // cell // side, c // cell // side

    places = [(r, c) for r in range(7) for c in range(7)]
    tables = []
    for pixels, side in levels:
        table = {}
        for image in train:
            for r, c in places:
                table.setdefault(context(image, r, c, pixels, side), [0, 0])[image[r, c]] += 1
        tables.append(table)

    def nats(image, r, c, chosen) -> float:
        p = 0.5
        for a, (pixels, side), table in zip(chosen, levels, tables):
            black, white = table.get(context(image, r, c, pixels, side), (0, 0))
            p = (white + a * p) / (black + white + a)
        return -math.log(p if image[r, c] else 1 - p)

    chosen = []
    for _ in levels:
        chosen.append(
            min(
                strengths,
                key=lambda a: sum(
                    nats(image, r, c, [*chosen, a]) for image in held_out for r, c in places
                ),
            )
        )
    return np.array([[-nats(image, r, c, chosen) for r, c in places] for image in x])


def test_levels_as_counted_one_by_one(monkeypatch):
    strengths = np.array([0.5, 4.0, 64.0])
    monkeypatch.setattr("fromnoise.nets.counts.pixelcounts.STRENGTHS", strengths)
    train, held_out, x = stripes(40, "train"), stripes(5, "held out"), stripes(2, "new")
    model = PixelCounts((7, 7), pixels=5, cell=2).fit(train, held_out)
    assert model.levels() == [(2, 4), (4, 4), (5, 4), (5, 2), (5, 1)]
    expected = by_hand(train, held_out, x, model.levels(), 2, strengths)
    np.testing.assert_allclose(log_probs(model, torch.from_numpy(x)), expected, atol=1e-5)


def test_independent_pixels_cost_their_entropy():
    rng = Rng(0).numpy("coins")

    def draw(n):
        return (rng.random((n, 8, 8)) < 0.2).astype(np.uint8)

    model = PixelCounts((8, 8), pixels=6, cell=2).fit(draw(4000), draw(500))
    nats = -log_probs(model, torch.from_numpy(draw(4000))).double().sum(1)
    entropy = 64 * -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    error = nats.std() / len(nats) ** 0.5
    assert entropy - 4 * error < nats.mean() < entropy + 0.1 + 4 * error


def test_travels_as_a_tensor(model):
    copy = PixelCounts((7, 7), 6, 2)
    copy.load_state_dict(model.state_dict())
    x = torch.from_numpy(stripes(5, "new"))
    assert torch.equal(log_probs(copy, x), log_probs(model, x))


def test_mistakes(model):
    with pytest.raises(DataError, match="binarise"):
        log_probs(model, torch.full((1, 7, 7), 2))
    for wrong in (dict(pixels=0), dict(pixels=30), dict(pixels=80, cell=28)):
        with pytest.raises(UsageError):
            PixelCounts((28, 28), **wrong)


@pytest.mark.mnist
def test_mnist_with_few_images():
    """10,000 training images and a smaller template; benchmarks/ngram.py has the figure of all of them, below 94."""
    mnist, rng = data.load("mnist"), Rng(0)

    def draw(split, n):
        return rng.uniform(split, (n, 28, 28)).numpy() * 255 < mnist.splits[split].x[:n, 0]

    model = PixelCounts((28, 28), pixels=10).fit(draw("train", 10_000), draw("validation", 1000))
    assert 90 < -log_probs(model, torch.from_numpy(draw("test", 2000))).sum(1).mean() < 99.5


@torch.no_grad()
def test_it_keeps_the_contract_of_a_network():
    g = torch.Generator().manual_seed(3)
    x = torch.randint(2, (40, 4, 6), generator=g)
    model = PixelCounts((4, 6), pixels=4).fit(x[:30], x[30:])
    s, start = x[:5].flatten(1), torch.zeros(5, dtype=torch.int64)
    whole, state, read = model(s, start), model.begin(5), start + 2
    assert torch.allclose(whole.exp().sum(2), torch.ones(5, 24), atol=1e-5)
    assert torch.allclose(whole.gather(2, s[..., None])[..., 0], log_probs(model, x[:5]), atol=1e-6)
    for i in range(24):
        assert torch.allclose(model.step(state, read), whole[:, i], atol=1e-5)
        read = s[:, i]
