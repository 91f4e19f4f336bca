"""Points with exact densities: they integrate to one and belong to the samples."""

import numpy as np
import pytest

from fromnoise.core.errors import UsageError
from fromnoise.data import DataConfig, load
from fromnoise.data.sources import toys

# name: half side of the square that holds all mass, and a lattice spacing of at most half the smallest std
GRIDS = {
    "gaussian": (7, 0.05),
    "ring8": (1.1, 0.005),
    "grid25": (4.5, 0.025),
    "moons": (2.6, 0.05),
    "spiral": (2.6, 0.025),
    "checkerboard": (2.5, 0.05),
}


def lattice(name):
    half, spacing = GRIDS[name]
    line = np.arange(-half + spacing / 2, half, spacing)
    return np.stack(np.meshgrid(line, line), -1).reshape(-1, 2), spacing**2


@pytest.mark.parametrize("name", toys.NAMES)
def test_density_is_normalised_and_that_of_the_samples(name):
    dataset = load(name)
    points, area = lattice(name)
    log_p = dataset.log_density(points)
    p = np.exp(log_p)
    assert log_p.dtype == np.float64
    assert p.sum() * area == pytest.approx(1, abs=1e-6)
    inside = p > 0
    entropy = -(p[inside] * log_p[inside]).sum() * area
    of_samples = dataset.log_density(dataset.split("train").x)
    error = of_samples.std() / np.sqrt(len(of_samples))
    assert abs(-of_samples.mean() - entropy) < 5 * error + 1e-6
    mean = (p[:, None] * points).sum(0) * area
    assert np.abs(dataset.split("train").x.mean(0) - mean).max() < 5 * np.abs(
        points
    ).max() / np.sqrt(50_000)


def test_known_values():
    density = toys.density("gaussian")
    assert density.log_density(np.zeros((1, 2)))[0] == pytest.approx(-np.log(2 * np.pi * 0.4))
    ring = load("ring8").log_density(np.array([[1.0, 0.0], [50.0, 50.0]]))
    assert ring[0] == pytest.approx(-np.log(8 * 2 * np.pi * 1e-4)) and np.isfinite(ring[1])
    board = load("checkerboard").log_density(np.array([[0.5, 0.5], [0.5, 1.5], [-2, -2], [2, 2]]))
    assert board.tolist() == [-np.log(8), -np.inf, -np.log(8), -np.inf]


def test_moons_are_gaussian_noise_about_two_half_circles():
    at = np.array([[-0.5, 0.75], [0.5, -0.75], [-0.9, 0.9]])  # away from the ends
    t = (np.arange(4000) + 0.5) * np.pi / 4000  # the continuous curve by quadrature
    curve = np.concatenate([np.c_[np.cos(t), np.sin(t)], np.c_[1 - np.cos(t), 0.5 - np.sin(t)]]) - (
        0.5,
        0.25,
    )
    square = ((at[:, None] - curve) ** 2).sum(-1)
    exact = np.log(np.exp(-square / 0.02).mean(1) / (2 * np.pi * 0.01))
    length = np.log(64 / 63)  # the nodes stand for half a spacing more at each end
    assert load("moons").log_density(at) == pytest.approx(exact - length, abs=1e-6)


@pytest.mark.parametrize("name, count, std", [("ring8", 8, 0.01), ("grid25", 25, 0.05)])
def test_modes_and_labels(name, count, std):
    centres, width = toys.modes(name)
    assert centres.shape == (count, 2) and width == std
    split = load(name).split("train")
    assert set(split.y) == set(range(count))
    z = (split.x - centres[split.y]) / std
    assert np.abs(z.mean(0)).max() < 0.03 and np.abs(z.std(0) - 1).max() < 0.02


def test_ring_and_grid_are_those_of_pacgan():
    assert np.linalg.norm(toys.modes("ring8")[0], axis=1) == pytest.approx(1)
    assert set(toys.modes("grid25")[0].ravel()) == {-4, -2, 0, 2, 4}


def test_splits_are_fixed_disjoint_draws():
    one, again, other = load("moons"), load("moons"), load("moons", DataConfig(split_seed=1))
    assert [len(s) for s in one.splits.values()] == [50_000, 5_000, 5_000]
    assert one.digest == again.digest != other.digest
    assert not set(map(bytes, one.split("train").x)) & set(map(bytes, one.split("test").x))


def test_options_without_meaning():
    with pytest.raises(UsageError, match="--test has no meaning for ring8.*leave it out"):
        load("ring8", DataConfig(test=0.2))
    with pytest.raises(UsageError, match="--binarise has no meaning for ring8"):
        load("ring8", DataConfig(binarise="static"))
    with pytest.raises(UsageError, match="use ring8 or grid25"):
        toys.modes("moons")
