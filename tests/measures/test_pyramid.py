"""Patches of Laplacian pyramids: filters beside scipy's, noise and shifts in closed form, a null that holds."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import gammaln

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data import Dataset, Split
from fromnoise.evaluate.quality import measure_quality
from fromnoise.evaluate.quality_reference import QualityReference
from fromnoise.evaluate.samples import Samples
from fromnoise.measures import pyramid
from fromnoise.measures.laplacian import (
    doubled,
    halved,
    laplacian_pyramid,
    level_shapes,
)
from fromnoise.measures.pyramid import (
    DIRECTIONS,
    compare,
    cut_all,
    images_of,
    names_of,
    patches_of,
    places,
)

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])[None, None] / 256


def pyramid_swd(
    x: torch.Tensor,
    y: torch.Tensor,
    rng: Rng,
    patches: int | None = None,
    directions: int = DIRECTIONS,
):
    """Distance of images x (n, C, H, W) from a reference y (m, C, H, W), by name of the level."""
    shape = tuple(x.shape[1:])
    n = images_of(shape, len(x), len(y))
    where = places(shape, n, patches or patches_of(max(n, 1)), rng.at("places"))
    block = max(1, 2**24 // math.prod(shape))
    x, y = (cut_all(z[:n].split(block), where) for z in (x, y))
    return dict(zip(names_of(shape), compare(x, y, rng.at("slices"), directions)))


def reconstructed(levels: list[torch.Tensor]) -> torch.Tensor:
    """The images (B, C, H, W) of a pyramid."""
    x = levels[-1]
    for details in levels[-2::-1]:
        x = details + doubled(x, details.shape[2:])
    return x


def noise(name: str, *shape: int) -> torch.Tensor:
    return Rng(0).normal(name, shape)


# -- the pyramid ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [(32, 32), (33, 40), (47, 66), (64, 37), (35, 129)])
def test_filters_are_those_of_scipy(size):
    x = noise("x", 2, 3, *size).double()
    small = ndimage.convolve(x.numpy(), BINOMIAL, mode="mirror")[:, :, ::2, ::2]
    assert np.allclose(halved(x), small, atol=1e-12)
    between = np.zeros(x.shape)
    between[:, :, ::2, ::2] = small
    assert np.allclose(
        doubled(halved(x), size), ndimage.convolve(between, 4 * BINOMIAL, mode="mirror"), atol=1e-12
    )


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 33, 70), (4, 135, 101), (2, 28, 28), (1, 5, 9)])
def test_images_come_back_from_their_pyramid(shape):
    x = noise("x", 3, *shape)
    levels = laplacian_pyramid(x)
    assert [tuple(level.shape[2:]) for level in levels] == level_shapes(shape)
    assert torch.allclose(reconstructed(levels), x, atol=1e-5) and all(
        level.shape[:2] == x.shape[:2] for level in levels
    )


def test_levels_end_at_sixteen_pixels():
    def sides(*size):
        return [min(pair) for pair in level_shapes((3, *size))]

    assert (
        sides(256, 256) == [256, 128, 64, 32, 16]
        and sides(28, 28) == [28]
        and sides(31, 200) == [31]
    )
    assert sides(32, 32) == [32, 16] and sides(63, 63) == [63, 32, 16] and sides(8, 8) == [8]


def test_levels_of_white_noise_in_closed_form():
    """Smoothing and coming back is (1, 4, 12, 28, 38, 28, 12, 4, 1) / 128 at even pixels and (1, 4, 7, 8, 7, 4, 1) / 32 at odd ones."""
    centre, power = np.array([38 / 128, 8 / 32]), np.array([3334 / 128**2, 196 / 32**2])
    details = (1 - 2 * np.outer(centre, centre) + np.outer(power, power)).mean()
    finest, last = laplacian_pyramid(noise("x", 400, 1, 32, 32).double())
    inside = finest[:, :, 4:-4, 4:-4]
    assert float(inside.square().mean()) == pytest.approx(details, rel=0.01)
    assert float(last[:, :, 2:-2, 2:-2].square().mean()) == pytest.approx((70 / 256) ** 2, rel=0.02)


# -- patches ----------------------------------------------------------------------------------------------------
def test_patches_are_windows_of_their_image_and_level():
    x = torch.arange(12.0).view(12, 1, 1, 1) * 10_000 + torch.arange(16.0 * 20).view(16, 20)
    x = torch.cat([x, -x], 1)
    where = places((2, 16, 20), 12, 5, Rng(0))
    found = cut_all(x.split(5), where)[0]
    assert found.shape == (12, 5, 2, 49)
    for i, p in ((0, 0), (11, 4)):
        row, column = where[0][i, p]
        assert torch.equal(
            found[i, p, 0].view(7, 7), x[i, 0, row : row + 7, column : column + 7]
        ) and torch.equal(found[i, p, 1], -found[i, p, 0])
    assert torch.equal(where[0][0], where[0][9]) and not torch.equal(where[0][0], where[0][10])


def test_patches_reach_every_place():
    row, column = places((1, 16, 20), 2000, 4, Rng(0))[0].flatten(0, 1).T
    assert set(row.tolist()) == set(range(10)) and set(column.tolist()) == set(range(14))


def test_blocks_change_nothing():
    x, where = noise("x", 30, 3, 33, 40), places((3, 33, 40), 25, 6, Rng(0))
    whole = cut_all([x], where)
    for size in (1, 7, 25):
        assert all(torch.equal(a, b) for a, b in zip(whole, cut_all(x.split(size), where)))
    assert len(whole) == 2 and len(whole[0]) == 25


# -- distances --------------------------------------------------------------------------------------------------
def test_equal_sets_are_at_no_distance():
    x = noise("x", 40, 3, 32, 32)
    for found in pyramid_swd(x, x, Rng(0), directions=32).values():
        assert found.value == found.raw == 0 and found.null > 0 and found.n == found.m == 40


def test_shift_and_contrast_of_noise_in_closed_form():
    """Along a unit vector u a shift is delta |sum u|, on average delta 7 G(d/2) / (sqrt(pi) G((d+1)/2)), d = 49; a factor s is |s - 1| sqrt(2/pi)."""
    x, y = noise("x", 400, 1, 16, 16), noise("y", 400, 1, 16, 16)

    def measured(z):
        return pyramid_swd(z, y, Rng(0), patches=16, directions=256)

    usual = 7 * math.exp(gammaln(24.5) - gammaln(25)) / math.sqrt(math.pi)
    shifted = measured(x + 0.5)["mean"]
    assert (
        shifted.value == pytest.approx(500 * usual, abs=4 * shifted.se)
        and shifted.se < 0.06 * shifted.value
    )
    scaled = measured(1.5 * x)["mean"]
    assert scaled.value == pytest.approx(500 * math.sqrt(2 / math.pi), rel=0.02)
    for found in (shifted, scaled):  # the paper's number cannot see either
        assert found.raw < 1.5 * found.null < 0.1 * found.value
    assert list(measured(x)) == ["mean", "16"]


def test_each_scale_sees_its_own():
    x, y = noise("x", 200, 2, 64, 64), noise("y", 200, 2, 64, 64)

    def away(z):
        return {
            name: found.value / found.null
            for name, found in pyramid_swd(z, y, Rng(0), patches=64, directions=64).items()
        }

    shift = away(x + 0.2)
    assert shift["16"] > 5 and max(shift["64"], shift["32"]) < 1.3
    tap = torch.tensor([0.1, 0.8, 0.1]).double()
    blurred = ndimage.convolve(x.numpy(), np.outer(tap, tap)[None, None], mode="mirror")
    blur = away(torch.from_numpy(blurred))
    assert blur["64"] > 10 and blur["64"] > 3 * blur["32"] > 3 * blur["16"] and blur["16"] < 2
    assert blur["mean"] > 3


def test_two_draws_of_one_law_are_at_the_null():
    """Images of nearly one grey each: patches of an image are alike, so that images and not patches count."""
    found = []
    for i in range(30):
        x, y = (
            Rng(i).normal(name, (100, 1, 1, 1)) + 0.3 * Rng(i).normal(name + "s", (100, 1, 16, 16))
            for name in "xy"
        )
        found.append(pyramid_swd(x, y, Rng(i), patches=4, directions=64)["mean"])
    null = np.mean([f.null for f in found])
    assert np.mean([f.value for f in found]) == pytest.approx(null, rel=0.2) and null > 60


def test_errors_are_those_over_draws_of_images():
    """Noise of another strength in each image is alike in all directions: what is left is the draw of images."""

    def draw(i, name, usual):
        return (usual + 0.8 * Rng(i).normal(name, (100, 1, 1, 1))) * Rng(i).normal(
            name + "s", (100, 1, 16, 16)
        )

    found = [
        pyramid_swd(draw(i, "x", 4.0), draw(i, "y", 2.0), Rng(i), patches=4, directions=64)["mean"]
        for i in range(40)
    ]
    spread = np.std([f.value for f in found], ddof=1)
    assert np.sqrt(np.mean([f.se**2 for f in found])) == pytest.approx(spread, rel=0.35)
    mean = np.mean([f.value for f in found])
    assert sum(f.interval[0] < mean < f.interval[1] for f in found) >= 34


def test_order_of_images_matters_no_more_than_chance():
    x, y = noise("x", 200, 1, 16, 16) + 0.2, noise("y", 200, 1, 16, 16)
    one, other, again = (
        pyramid_swd(z, y, Rng(0), patches=16, directions=64)["mean"] for z in (x, x.flip(0), x)
    )
    assert other.value == pytest.approx(one.value, abs=2 * one.se) and other != one == again


@pytest.mark.parametrize("shape", [(1, 5, 9), (5, 8, 8), (1, 16, 16)])
def test_small_images_and_constant_channels(shape):
    y = torch.cat([torch.zeros(30, 1, *shape[1:]), noise("y", 30, *shape)], 1)
    found = pyramid_swd(y + 0.5, y, Rng(0), directions=32)["mean"]
    assert math.isfinite(found.value) and found.value > found.null


@pytest.mark.parametrize(
    "call, error, says",
    [
        (lambda x: pyramid_swd(x[:19], x, Rng(0)), UsageError, "20 of each or more"),
        (lambda x: pyramid_swd(x / 0, x, Rng(0)), DataError, "not finite"),
        (
            lambda x: pyramid.compare([x[:, :, None, :49]], [x[:, :1, None, :49]], Rng(0)),
            UsageError,
            "do not go together",
        ),
    ],
)
def test_bad_input_is_refused(call, error, says):
    with pytest.raises(error, match=says):
        call(noise("x", 30, 3, 16, 16))


def test_few_large_images_are_taken_and_many_small_ones():
    assert (
        pyramid.images_of((1, 28, 28), 10_000, 20_000) == 8192
        and pyramid.images_of((3, 256, 256), 10_000) == 1365
    )
    assert (
        pyramid.images_of((3, 1024, 1024), 10_000) == 500
        and pyramid.images_of((3, 1024, 1024), 60) == 60
    )
    assert (
        pyramid.patches_of(50) == 128
        and pyramid.patches_of(1000) == 32
        and pyramid.patches_of(10_000) == 4
    )


# -- in a report ------------------------------------------------------------------------------------------------
def images(n: int, side: int, seed: int) -> np.ndarray:
    return Rng(seed).integers("x", 256, (n, 1, side, side)).numpy().astype(np.uint8)


def of(side: int) -> Dataset:
    splits = {
        name: Split(images(120, side, seed), None, 256)
        for seed, name in enumerate(("train", "validation", "test"))
    }
    return Dataset("noise", DataSpec("image", (1, side, side), 256), splits, "0123456789abcdef")


@pytest.mark.parametrize(
    "side, names",
    [(32, ["pyramid_swd", "pyramid_swd_32", "pyramid_swd_16"]), (16, ["pyramid_swd"]), (15, [])],
)
def test_rows_of_a_report(side, names, monkeypatch):
    monkeypatch.setattr(pyramid, "PATCHES", 2**10)  # fewer patches, as fast as a test should be
    dataset = of(side)
    quality_reference, x = QualityReference(dataset), dataset.batch("validation", slice(0, 100)).x
    rows = [
        row
        for row in measure_quality(quality_reference, Samples.of(x))
        if row["name"].startswith("pyramid")
    ]
    assert [row["name"] for row in rows] == names
    blocks = Samples(100, lambda: iter(x.split(33)))
    assert rows == [
        row
        for row in measure_quality(quality_reference, blocks)
        if row["name"].startswith("pyramid")
    ]
    dull = {
        row["name"]: row
        for row in measure_quality(quality_reference, Samples.of(x / 2))
        if row["name"].startswith("pyramid")
    }
    for row in rows:
        assert (
            row["n"] == row["m"] == 100
            and row["group"] == "referees"
            and row["better"] == "lower"
            and row["reference"].endswith("train[:100]")
        )
        assert row["interval"][0] < 1.5 * row["null"] and row["real"] == pytest.approx(
            row["null"], rel=0.5
        )
        assert dull[row["name"]]["value"] > 5 * row["null"] > 2 * dull[row["name"]]["raw"]


def test_fewer_test_images_cannot_stand_in_for_more_samples(monkeypatch):
    monkeypatch.setattr(pyramid, "PATCHES", 2**10)
    dataset = of(16)
    more = Samples.of(
        torch.cat(
            [dataset.batch(part, slice(0, 60)).x for part in ("validation", "test", "validation")]
        )
    )
    small = Dataset(
        "noise",
        dataset.spec,
        dataset.splits | {"test": Split(images(40, 16, 3), None, 256)},
        "0123456789abcdef",
    )
    row = next(
        row
        for row in measure_quality(QualityReference(small), more)
        if row["name"] == "pyramid_swd"
    )
    assert row["real"] is None and row["value"] and row["n"] == 120
