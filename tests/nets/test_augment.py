"""Augmentation that gradients pass: whole pixels move, half-sized holes open, colours change, and the same keys do the same."""

import numpy as np
import pytest
import torch

from fromnoise.core.rng import Rng
from fromnoise.nets.augment import POLICIES, augment

SHAPES = [(1, 28, 28), (3, 16, 12), (2, 7, 5), (4, 1, 9), (1, 8, 8)]
EVERYTHING = ("colour", "translation", "cutout")


def images(*shape):
    return Rng(1).uniform("x", shape) * 2 - 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("policy", [*((name,) for name in POLICIES), EVERYTHING])
def test_shape_and_type_stay(shape, policy):
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        x = images(6, *shape).to(dtype)
        y = augment(x, policy, Rng(0))
        assert y.shape == x.shape and y.dtype == dtype
    x = images(6, *shape).to(memory_format=torch.channels_last)
    assert torch.allclose(
        augment(x, policy, Rng(0)), augment(x.contiguous(), policy, Rng(0)), atol=1e-6
    )


def test_nothing_asked_nothing_done():
    x = images(2, 3, 8, 8)
    assert augment(x, (), Rng(0)) is x


@pytest.mark.parametrize("name", POLICIES)
def test_same_keys_same_images_and_every_image_its_own(name):
    x = images(1, 3, 16, 16).expand(32, -1, -1, -1)
    y = augment(x, (name,), Rng(0))
    assert torch.equal(y, augment(x, (name,), Rng(0)))
    assert not torch.equal(y, augment(x, (name,), Rng(1))) and not torch.equal(
        y, augment(x, (name,), Rng(0).at("fake"))
    )
    assert len({row.numpy().tobytes() for row in y}) > 12
    rows = augment(x[:3], (name,), Rng(0).per_row([5, 6, 7]))
    assert torch.equal(rows[1:], augment(x[1:3], (name,), Rng(0).per_row([6, 7])))


def test_translation_moves_by_whole_pixels_within_an_eighth_and_fills_with_grey():
    H, W = 16, 24
    x = images(400, 2, H, W)
    y = augment(x, ("translation",), Rng(0)).numpy()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (3, 3)))
    seen = set()
    for before, after in zip(padded, y):
        moves = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-3, 4)
            if np.array_equal(after, before[:, 2 - down : 2 - down + H, 3 - right : 3 - right + W])
        ]
        assert len(moves) == 1
        seen.update(moves)
    assert len(seen) == 5 * 7  # every move occurs


def test_cutout_is_a_rectangle_of_half_the_sides_or_what_of_it_is_within():
    x = torch.ones(600, 2, 16, 11)
    y = augment(x, ("cutout",), Rng(0))
    assert torch.equal(y[:, 0], y[:, 1])
    holes, heights, widths = y[:, 0] == 0, [], []
    assert (y[:, 0][~holes] == 1).all()
    for hole in holes:
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns)
        heights.append(int(rows.sum()))
        widths.append(int(columns.sum()))
        assert rows.nonzero().max() - rows.nonzero().min() + 1 == heights[-1]  # in one piece
    assert (min(heights), max(heights)) == (4, 8) and (min(widths), max(widths)) == (3, 6)
    often = holes.float().mean(0)
    assert (
        torch.allclose(often, often.flip(0, 1), atol=0.1) and often.min() > 0.05
    )  # no corner is spared


def test_colour_changes_what_it_says():
    x = images(500, 3, 6, 6) * 0.2
    y = augment(x, ("colour",), Rng(0))
    brighter = (y - x).mean((1, 2, 3))
    assert brighter.abs().max() <= 0.5 and brighter.std().item() == pytest.approx(
        1 / 12**0.5, rel=0.1
    )

    def grey(x):
        return (x.mean(1) - x.mean((1, 2, 3))[:, None, None]).flatten(1)

    contrast = (grey(x) * grey(y)).sum(1) / grey(x).square().sum(1)
    assert torch.allclose(
        grey(y), contrast[:, None] * grey(x), atol=1e-5
    )  # one factor for the whole image
    assert 0.5 <= contrast.min() < 0.55 and 1.45 < contrast.max() <= 1.5

    def tint(x):
        return (x - x.mean(1, keepdim=True)).flatten(1)

    saturation = (tint(x) * tint(y)).sum(1) / tint(x).square().sum(1) / contrast
    assert torch.allclose(tint(y), (saturation * contrast)[:, None] * tint(x), atol=1e-5)
    assert 0 <= saturation.min() < 0.1 and 1.9 < saturation.max() < 2.0001


def test_ranges():
    x = images(300, 3, 8, 8).sign()
    for policy in (("translation",), ("cutout",), ("translation", "cutout")):
        assert augment(x, policy, Rng(0)).abs().max() <= 1
    grey = augment(x[:, :1], ("colour",), Rng(0))
    assert (
        1 < grey.abs().max() <= 2.5
    )  # never cut off, or its gradient would be: 1 + 1/2, and 3/2 of 2 at most from -1
    assert augment(x, EVERYTHING, Rng(0)).abs().max() <= 4.5


@pytest.mark.parametrize("name", POLICIES)
def test_gradients_pass_once_and_twice(name):
    x = images(3, 3, 4, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, (name,), Rng(0)), (x,))
    (slope,) = torch.autograd.grad(augment(x, (name,), Rng(0)).pow(3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), x)
    assert slope.abs().sum() > 0 and second.abs().sum() > 0
    assert torch.autograd.gradgradcheck(lambda x: augment(x, (name,), Rng(0)).pow(3), (x,))
