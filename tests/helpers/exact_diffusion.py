"""Diffusion where everything is known: mixtures of round Gaussians, whose best denoiser is a formula, and rngs that hold still."""

import math

import numpy as np
import torch
from torch import nn

from fromnoise.core.spec import DataSpec
from fromnoise.families.diffusion import Config, Diffusion
from fromnoise.probability.diffusion.path import Path, append_dims
from fromnoise.probability.gaussian import log_normal
from helpers.exact_ddpm import ddpm_schedule


def f64(value):
    return torch.tensor(value, dtype=torch.float64)


DATA = 0.25  # variance of the Gaussian
NLL = 0.725791353  # its entropy, nats
ABAR = ddpm_schedule(1000)


def on_table(abar=ABAR) -> Path:
    """DDPM's T steps as a path: known at t = 1/T .. 1."""
    ratios = ((1 - abar) / abar).sqrt()
    between = (ratios[1:] * ratios[:-1]).sqrt()
    return Path(
        lambda t: (abar[index_of(t, abar)].sqrt(), (1 - abar[index_of(t, abar)]).sqrt()),
        None,
        lambda ratio: (torch.searchsorted(between, ratio) + 1).double() / len(abar),
    )


def index_of(t, abar=ABAR):
    return (t * len(abar)).round().long() - 1


def times_of(indices, T=1000):
    return (torch.tensor(indices, dtype=torch.float64) + 1) / T


class Exact:
    """Equal Gaussians of one standard deviation about the centres (K, D)."""

    def __init__(self, centres, std: float):
        self.centres, self.std = f64(centres), std

    def log_density(self, x, ratio=0.0):
        """Of x + ratio eps, x (B, D) -> (B,)."""
        logvar = math.log(self.std**2 + ratio**2)
        return log_normal(x.double()[:, None], self.centres, logvar).sum(2).logsumexp(1) - math.log(
            len(self.centres)
        )

    def see(self, x_t, alpha, sigma):
        """E [x | x_t], E [eps | x_t]; alpha, sigma () or (B,)."""
        alpha, sigma = append_dims(alpha, x_t), append_dims(sigma, x_t)
        v = alpha**2 * self.std**2 + sigma**2
        m = self.centres.to(x_t.dtype)
        off = x_t[:, None] - alpha[..., None] * m  # B K D
        w = (-0.5 * off.square().sum(2, keepdim=True) / v[..., None]).softmax(1)
        x_hat = (w * (m + alpha[..., None] * self.std**2 / v[..., None] * off)).sum(1)
        return x_hat, (x_t - alpha * x_hat) / sigma

    def denoise(self, path):
        return lambda x_t, t: self.see(x_t, *path.coefficients(t))


GAUSSIAN = Exact([[0.0]], DATA**0.5)
# means 0 and variances 1, as the family makes its data: three corners of a triangle, two points
MIXTURE = Exact(
    [
        [1.82**0.5 * math.cos(a), 1.82**0.5 * math.sin(a)]
        for a in (0.4, 0.4 + 2 * math.pi / 3, 0.4 + 4 * math.pi / 3)
    ],
    0.3,
)
PAIR = Exact([[0.91**0.5], [-(0.91**0.5)]], 0.3)


class ExactNet(nn.Module):
    """What a trained network would say: takes x_t / sqrt(alpha^2 + sigma^2) and the angle between data and noise."""

    def __init__(self, exact, path, target):
        super().__init__()
        self.exact, self.path, self.target = exact, path, target

    def forward(self, y, level, condition=None, until=None):
        angle = level * (math.pi / 2)
        x_hat, eps_hat = self.exact.see(y, angle.cos(), angle.sin())
        a, b = (
            append_dims(part, y)
            for part in self.path.target(self.target, self.path.at(angle.tan()))
        )
        return a * x_hat + b * eps_hat


def family(exact, path=None, target="auto", scale=1.0, shift=0.0, **options) -> Diffusion:
    """A diffusion model of scale * u + shift, u ~ exact, trained to perfection; path: a name, or one to put in."""
    name = path if isinstance(path, str) else "flow"
    model = (
        Diffusion(
            Config(path=name, target=target, width=8, depth=1, components=0, **options),
            DataSpec("vector", (exact.centres.shape[1],)),
        )
        .double()
        .eval()
    )
    model.path = model.path if path is None or isinstance(path, str) else path
    model.net = ExactNet(exact, model.path, model.target)
    model.scale.fill_(scale), model.shift.fill_(shift)
    return model.requires_grad_(False)


class Fixed:
    """An rng whose normal draws are all the same given numbers, and whose uniform ones are all 1/2."""

    device, rows = torch.device("cpu"), None

    def __init__(self, numbers):
        self.numbers = numbers

    def at(self, *path):
        return self

    def normal(self, name, shape):
        assert tuple(shape) == tuple(self.numbers.shape)
        return self.numbers

    def uniform(self, name, shape):
        return torch.full(shape, 0.5, dtype=torch.float64)


class Impulse(Fixed):
    """An rng for n rows: the first draw is 1 in row 0 (a sampler's start), that of step k 1 in row k + 1, all else 0."""

    def __init__(self, n: int, step: int = -1):
        self.n, self.step = n, step

    def at(self, name, step):
        return Impulse(self.n, step)

    def normal(self, name, shape):
        return (torch.arange(self.n) == self.step + 1).double()[:, None]


def nodes():
    """x ~ N(0, 1/4), eps ~ N(0, 1) as 9 weighted points each (9, 1): exact for polynomials up to degree 5."""
    points, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = torch.from_numpy(weights / weights.sum())
    grid = torch.cartesian_prod(torch.from_numpy(points), torch.from_numpy(points))
    return DATA**0.5 * grid[:, :1], grid[:, 1:], (weights[:, None] * weights).flatten()
