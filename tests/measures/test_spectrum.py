"""The spectrum of pictures: known powers, a mesh that is seen, a null that holds."""

import math

import pytest
import torch

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.measures.spectrum import BANDS, band_index, band_power, spectrum_error


def noise(n, shape=(1, 16, 16), seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 9, 14), (2, 32, 7)])
def test_white_noise_has_power_one_in_every_band(shape):
    power = band_power(noise(3000, shape)).mean(0)
    power = power[~power.isnan()]
    assert power == pytest.approx(torch.ones(len(power)).tolist(), abs=0.06)


def test_bands_sum_to_the_variance_of_the_pixels():
    """Parseval: the mean over all frequencies but the first of the power is the sum of squares."""
    x = noise(5, (2, 12, 10))
    full = torch.fft.fft2(x.double()).abs() ** 2 / 120
    fy, fx = torch.meshgrid(torch.fft.fftfreq(12), torch.fft.fftfreq(10), indexing="ij")
    radius = torch.sqrt(fy.double() ** 2 + fx.double() ** 2)
    bands = (radius / math.sqrt(0.5) * BANDS - 1e-9).ceil().long().clamp(1, BANDS) - 1
    bands[0, 0] = -1
    for band in range(BANDS):
        if (bands == band).any():
            expected = full[:, :, bands == band].mean((1, 2))
            assert torch.allclose(band_power(x)[:, band], expected)
    assert torch.equal(bands[:, :6], band_index(12, 10))


def test_a_mesh_is_in_the_last_band_and_a_blur_lacks_it():
    real = noise(200)
    mesh = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).tile(8, 8)
    seen = spectrum_error(noise(200, seed=1) + 3 * mesh, real, Rng(0))
    assert seen.value > 4 and "0.62 to 0.71" in seen.note and seen.interval[0] > 3
    blurred = torch.nn.functional.avg_pool2d(noise(200, seed=1), 3, 1, 1)
    assert spectrum_error(blurred, real, Rng(0)).value > 3


def test_brightness_is_no_frequency():
    x = noise(50)
    assert spectrum_error(x + 5, x, Rng(0)).value < 1e-6


def test_equal_laws_score_the_null_and_the_interval_of_a_ratio_holds():
    values = []
    covered = 0
    for i in range(40):
        estimate = spectrum_error(noise(60, seed=2 * i), noise(80, seed=2 * i + 1), Rng(i))
        values.append(estimate.value)
        louder = math.sqrt(8) * noise(60, seed=2 * i)
        low, high = spectrum_error(louder, noise(80, seed=2 * i + 1), Rng(i)).interval
        covered += low <= 3 <= high
    assert sum(values) / 40 == pytest.approx(estimate.null, rel=0.2)
    assert covered >= 36


def test_what_has_no_spectrum():
    with pytest.raises(UsageError, match="4 x 4"):
        spectrum_error(noise(40, (1, 3, 9)), noise(40, (1, 3, 9)), Rng(0))
    with pytest.raises(UsageError, match="32 pictures"):
        spectrum_error(noise(4), noise(20), Rng(0))
    real = noise(40, (1, 28, 28))
    colours = torch.rand(40, 1, 1, 1).expand(40, 1, 28, 28)
    for flat in (torch.zeros(40, 1, 28, 28), torch.full((40, 1, 28, 28), 0.1), colours):
        with pytest.raises(DataError, match="the samples lack .* one colour"):
            spectrum_error(flat, real, Rng(0))
        with pytest.raises(DataError, match="the real pictures lack"):
            spectrum_error(real, flat, Rng(0))
    with pytest.raises(UsageError, match="not finite"):
        spectrum_error(real * torch.nan, real, Rng(0))


def test_the_null_is_of_real_pictures_and_does_not_depend_on_the_model():
    real = noise(100)
    samples = noise(60, seed=1)
    wild = samples.clone()
    wild[0] *= 300
    same = samples[:1].expand(60, -1, -1, -1)
    nulls = [spectrum_error(x, real, Rng(0)).null for x in (samples, wild, same)]
    assert nulls[0] == nulls[1] == nulls[2]
    assert "rows of rare or extreme" in spectrum_error(wild, real, Rng(0)).note
