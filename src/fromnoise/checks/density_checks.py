"""Checks of an exact likelihood in the plane: it is a density, and that of the samples.

Expectations under p are estimated by importance sampling (draws x ~ q, weights p / q).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..core.capabilities import HasLikelihood, has
from ..core.rng import Rng
from ..inference.sample import sample
from .suite import POINTS, Suite

DRAWS = 40_000  # points at which the density is evaluated
CENTRES = 500  # samples about which most points are drawn
WIDTHS = (
    0.001,
    0.003,
    0.01,
    0.03,
    0.1,
    0.3,
    1.0,
)  # of kernels about them, in deviations of the samples
WIDE = 0.2  # share of points of a distribution with heavy tails about all samples
FARTHEST = 30.0  # deviations of the samples within which points lie
BATCH = 2000
SAMPLES = 4000
MOST_OVERFLOWS = 0.01  # share of points at which float32 may overflow
TOLERANCE = 0.03  # of the integral
LARGEST_ERROR = 0.03  # standard error of the integral that is excused
FREQUENCIES = (0.3, 1.0, 3.0)  # in 1 / deviations of the samples


class Proposal:
    """q: Gaussian kernels of several widths about the samples, and a Cauchy distribution.

    x: samples (n, 2) in any unit.
    """

    def __init__(self, x: Tensor):
        self.centre = x.mean(0)
        self.scale = float(x.std(0).max().clamp(min=1e-3))
        self.kernels = ((x - self.centre) / self.scale)[:CENTRES]

    def draw(self, n: int, rng: Rng) -> Tensor:
        """n points or fewer: those beyond FARTHEST are left out."""
        unit = rng.normal("direction", (n, 2)).double()
        choice = rng.uniform("choice", (n, 3)).double()
        kernel = (choice[:, 0] * len(self.kernels)).long()
        width = torch.tensor(WIDTHS).double()[(choice[:, 1] * len(WIDTHS)).long()]
        near = self.kernels[kernel] + width[:, None] * unit
        wide = unit / rng.normal("radius", (n, 1)).double().abs().clamp(min=1e-12)
        z = torch.where(choice[:, 2:] < WIDE, wide, near)
        return self.centre + self.scale * z[z.norm(dim=1) < FARTHEST]

    def log_density(self, x: Tensor) -> Tensor:
        """log q(x), (n,) nats."""
        z = (x - self.centre) / self.scale
        wide = math.log(WIDE) - 1.5 * torch.log1p(z.square().sum(1)) - math.log(2 * math.pi)
        share = (1 - WIDE) / len(WIDTHS) / len(self.kernels)
        parts = [wide[:, None]]
        squares = torch.cdist(z, self.kernels).square()
        for width in WIDTHS:
            constant = math.log(share / (2 * math.pi * width**2))
            log_kernels = constant - squares / (2 * width**2)
            parts.append(log_kernels.logsumexp(1, keepdim=True))
        return torch.cat(parts, 1).logsumexp(1) - 2 * math.log(self.scale)


def check_density(suite: Suite) -> None:
    """an exact likelihood of points integrates to 1, and is that of the samples"""
    if POINTS not in suite.data:
        return
    with suite.trained(POINTS) as loaded:
        model = loaded.model
        if not has(model, HasLikelihood) or model.bound != "exact" or not model.continuous:
            return
        rng = Rng(0).at("density")
        x = sample(loaded, SAMPLES, seed=1).double().cpu()
        compare(lambda points: log_likelihoods(model, points, rng), x, rng)


def log_likelihoods(model: HasLikelihood, x: Tensor, rng: Rng) -> Tensor:
    """log p of points (n, 2), (n,) nats."""
    values = []
    with torch.no_grad():
        for i, block in enumerate(x.split(BATCH)):
            values.append(model.log_likelihood(block.float(), None, rng.at(i)).double().cpu())
    return torch.cat(values)


def compare(log_p_of: Callable[[Tensor], Tensor], x: Tensor, rng: Rng) -> None:
    """Raises AssertionError if log p is not that of samples x (n, 2)."""
    proposal = Proposal(x)
    points = proposal.draw(DRAWS, rng)
    log_p = log_p_of(points)
    overflows = float(log_p.isnan().double().mean())
    assert overflows < MOST_OVERFLOWS, (
        f"log_likelihood is no number at {overflows:.1%} of the points about the samples"
    )
    log_p = log_p.nan_to_num(nan=-math.inf, posinf=math.inf)  # far away, where p is almost 0
    weights = torch.zeros(DRAWS, dtype=torch.float64)  # points that were left out have none
    weights[: len(log_p)] = (log_p - proposal.log_density(points)).exp()
    check_integral(weights)
    weights = weights[: len(points)]
    lowest = float(log_p[weights > 0].min())
    log_p_of_samples = log_p_of(x).nan_to_num(nan=lowest).clamp(min=lowest)
    check_mean("log_likelihood", weights, log_p.clamp(min=lowest), log_p_of_samples)
    check_waves(weights, points, x, rng)


def standard_error(values: Tensor) -> float:
    return float(values.std()) / len(values) ** 0.5


def check_integral(weights: Tensor) -> None:
    """weights: p over the density of the proposal, at its draws."""
    integral = float(weights.mean())
    error = standard_error(weights)
    assert abs(integral - 1) < TOLERANCE + 5 * min(error, LARGEST_ERROR), (
        f"exp(log_likelihood) integrates to {integral:.3g} +- {error:.1g} about the samples, not to 1: "
        "it is no density (look at the sign of log-determinants, and at constants), or it is large "
        "where there are no samples"
    )


def check_mean(name: str, weights: Tensor, of_density: Tensor, of_samples: Tensor) -> None:
    """The mean of a function over samples is that under p, which points with weights stand for."""
    expected = float((weights * of_density).sum() / weights.sum())
    residuals = weights * (of_density - expected) / weights.mean()
    error = math.hypot(standard_error(of_samples), standard_error(residuals))
    mean = float(of_samples.mean())
    assert abs(mean - expected) < 0.02 + 5 * error, (
        f"the mean of {name} is {mean:.3f} over samples, and {expected:.3f} under "
        "exp(log_likelihood): sample and log_likelihood belong to different distributions"
    )


def check_waves(weights: Tensor, points: Tensor, x: Tensor, rng: Rng) -> None:
    """Means of cos(f u . x + b) for random directions u, offsets b, and three frequencies f."""
    scale = x.std(0).max()
    for frequency in FREQUENCIES:
        for i in range(4):
            draws = rng.at("wave", i).uniform("angles", (2,)).double() * 2 * math.pi
            direction = torch.stack([draws[0].cos(), draws[0].sin()]) * frequency / scale
            of_density = torch.cos(points @ direction + draws[1])
            of_samples = torch.cos(x @ direction + draws[1])
            check_mean(f"a wave of {frequency:g} / deviation", weights, of_density, of_samples)
