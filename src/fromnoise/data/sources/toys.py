"""Points in the plane whose exact density is known: the ground truth for samplers and likelihoods.

Every toy but the checkerboard *is* a finite mixture of equal Gaussians, also moons and the spiral:
their curves have nodes at most half a standard deviation apart. Samples and density come from that
same mixture, so the density is exact. Gaussian noise about the continuous curve, half a spacing
longer at each end, has the same density up to a relative ripple of
exp(-2 pi^2 (std / spacing)^2) < 1e-30, and near the ends up to the square of the spacing.
"""

from dataclasses import dataclass

import numpy as np

from ...core.errors import UsageError
from ...core.rng import Rng
from ...core.spec import DataSpec
from ..config import SplitSeed
from ..dataset import Dataset, Split, compute_digest
from ..source import Source

NAMES = {
    "gaussian": "2-D points: one correlated Gaussian, exact density",
    "ring8": "2-D points: 8 Gaussians of std 0.01 on a circle of radius 1, exact density (8 classes)",
    "grid25": "2-D points: 5x5 Gaussians of std 0.05, spacing 2, exact density (25 classes)",
    "moons": "2-D points: two interleaved half circles, std 0.1, exact density (2 classes)",
    "spiral": "2-D points: one and a half turns of a spiral, std 0.05, exact density",
    "checkerboard": "2-D points: uniform on 8 of 16 unit squares, exact density",
}
SEPARATE = ("ring8", "grid25")  # whose Gaussians are modes that can be counted
COUNTS = {"train": 50_000, "validation": 5_000, "test": 5_000}


@dataclass(frozen=True)
class ToyMixture:
    """Equally likely Gaussians: centres (K, 2), one shared Cholesky factor (2, 2), labels (K,) or None."""

    centres: np.ndarray
    cholesky: np.ndarray
    labels: np.ndarray | None = None

    def sample(self, n: int, rng: Rng) -> tuple[np.ndarray, np.ndarray | None]:
        """float32 (n, 2) and labels int64 (n,) or None."""
        node = rng.integers("node", len(self.centres), (n,)).numpy()
        noise = rng.normal("noise", (n, 2)).numpy().astype(np.float64)
        x = self.centres[node] + noise @ self.cholesky.T
        return x.astype(np.float32), None if self.labels is None else self.labels[node]

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """log p at x (N, 2) -> float64 (N,) nats."""
        whiten = np.linalg.inv(self.cholesky).T
        points = np.asarray(x, np.float64) @ whiten
        nodes = self.centres @ whiten
        constant = np.log(2 * np.pi * np.linalg.det(self.cholesky) * len(nodes))
        out = np.empty(len(points))
        for start in range(0, len(points), 4096):
            part = points[start : start + 4096, None] - nodes
            energy = (part**2).sum(-1) / 2  # (n, K)
            least = energy.min(1)
            out[start : start + 4096] = (
                np.log(np.exp(least[:, None] - energy).sum(1)) - least - constant
            )
        return out


class Checkerboard:
    """Uniform on the squares [i, i+1) x [j, j+1), i + j even, of [-2, 2)^2: density 1/8, elsewhere 0."""

    def sample(self, n: int, rng: Rng) -> tuple[np.ndarray, None]:
        """float32 (n, 2) and no labels."""
        row = rng.integers("row", 4, (n,)).numpy()
        half = rng.integers("half", 2, (n,)).numpy()
        corner = np.stack([2 * half + row % 2, row], 1) - 2
        # The middles of a 2^20 lattice are exact in float32 and never rounded onto a neighbour's edge.
        inside = (rng.integers("inside", 2**20, (n, 2)).numpy() + 0.5) / 2**20
        return (corner + inside).astype(np.float32), None

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """log p at x (N, 2) -> float64 (N,) nats: -log 8, or -inf outside."""
        cell = np.floor(np.asarray(x, np.float64))
        inside = (np.abs(cell + 0.5) < 2).all(1) & (cell.sum(1) % 2 == 0)
        return np.where(inside, -np.log(8), -np.inf)


def density(name: str) -> ToyMixture | Checkerboard:
    """The distribution with this name. Raises UsageError if it is unknown."""
    if name == "gaussian":
        return ToyMixture(np.zeros((1, 2)), np.array([[1.0, 0.0], [0.6, 0.4]]))
    if name == "ring8":
        angle = np.arange(8) * (np.pi / 4)
        return ToyMixture(
            np.stack([np.cos(angle), np.sin(angle)], 1), 0.01 * np.eye(2), np.arange(8)
        )
    if name == "grid25":
        across, up = np.meshgrid(np.arange(-4.0, 5, 2), np.arange(-4.0, 5, 2))
        return ToyMixture(
            np.stack([across.ravel(), up.ravel()], 1), 0.05 * np.eye(2), np.arange(25)
        )
    if name == "moons":
        t = np.linspace(0, np.pi, 64)
        upper = np.stack([np.cos(t), np.sin(t)], 1)
        lower = np.stack([1 - np.cos(t), 0.5 - np.sin(t)], 1)
        centres = np.concatenate([upper, lower]) - (0.5, 0.25)
        return ToyMixture(centres, 0.1 * np.eye(2), np.repeat((0, 1), 64))
    if name == "spiral":
        t = np.linspace(0.25, 1, 20_001)
        curve = 2 * t[:, None] * np.stack([np.cos(4 * np.pi * t), np.sin(4 * np.pi * t)], 1)
        length = np.append(0, np.linalg.norm(np.diff(curve, axis=0), axis=1).cumsum())
        even = np.searchsorted(length, np.linspace(0, length[-1], 512)).clip(0, len(t) - 1)
        return ToyMixture(curve[even], 0.05 * np.eye(2))
    if name == "checkerboard":
        return Checkerboard()
    raise UsageError(f"'{name}' is no toy: choose from {', '.join(NAMES)}")


def modes(name: str) -> tuple[np.ndarray, float]:
    """Centres (K, 2) and std of the separate modes of ring8 or grid25, for counting covered modes.

    A sample within 3 std of a centre counts (Lin et al. 2018, "PacGAN"). Raises UsageError.
    """
    if name not in SEPARATE:
        raise UsageError(f"'{name}' has no separate modes to count: use ring8 or grid25")
    mixture = density(name)
    return mixture.centres, float(mixture.cholesky[0, 0])


def load(name: str, options: SplitSeed) -> Dataset:
    """50,000 / 5,000 / 5,000 points. The splits are drawn separately: shares are refused."""
    distribution = density(name)
    rng = Rng(options.split_seed).at("toy", name)
    splits = {
        part: Split(*distribution.sample(count, rng.at(part))) for part, count in COUNTS.items()
    }
    labels = splits["train"].y
    classes = 0 if labels is None else int(labels.max()) + 1
    spec = DataSpec("vector", (2,), classes=classes)
    return Dataset(
        name,
        spec,
        splits,
        compute_digest(spec, splits),
        class_names=tuple(map(str, range(classes))),
        log_density=distribution.log_density,
        modes=modes(name) if name in SEPARATE else None,
    )


SOURCE = Source(load, SplitSeed, NAMES, title="{name}, whose splits are drawn apart", place=40)
