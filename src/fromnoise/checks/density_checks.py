"""Checks of an exact likelihood in the plane: it is a density, and that of the samples."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.capabilities import HasLikelihood, has
from ..core.rng import Rng
from ..inference.sample import sample
from .suite import POINTS, Suite

DRAWS = 100_000  # points at which the density is evaluated
BATCH = 2000
SAMPLES = 4000
TOLERANCE = 0.03  # of the integral
ENTROPY_TOLERANCE = 0.1  # nats


@dataclass
class Proposal:
    """A two-dimensional Cauchy distribution about the samples: heavy tails, to integrate all of p."""

    centre: Tensor
    scale: float

    @classmethod
    def about(cls, x: Tensor) -> "Proposal":
        return cls(x.mean(0), float(x.std(0).max().clamp(min=1e-3)))

    def draw(self, n: int, rng: Rng) -> Tensor:
        normal = rng.normal("direction", (n, 2)).double()
        chi = rng.normal("radius", (n, 1)).double().abs().clamp(min=1e-12)
        return self.centre + self.scale * normal / chi

    def log_density(self, x: Tensor) -> Tensor:
        squares = ((x - self.centre) / self.scale).square().sum(1)
        return -1.5 * torch.log1p(squares) - math.log(2 * math.pi) - 2 * math.log(self.scale)


def check_density(suite: Suite) -> None:
    """an exact likelihood of points integrates to 1, and is that of the samples"""
    if POINTS not in suite.data:
        return
    with suite.trained(POINTS) as loaded:
        model = loaded.model
        if not has(model, HasLikelihood) or model.bound != "exact" or not model.continuous:
            return
        rng = Rng(0).at("density")
        x = sample(loaded, SAMPLES, seed=1).cpu().double()
        proposal = Proposal.about(x)
        points = proposal.draw(DRAWS, rng)
        log_p = log_likelihoods(model, points, rng)
        of_samples = log_likelihoods(model, x, rng)
    weights = (log_p - proposal.log_density(points)).exp()
    check_integral(weights)
    check_entropy(weights, log_p, of_samples)


def log_likelihoods(model: HasLikelihood, x: Tensor, rng: Rng) -> Tensor:
    """log p of points (n, 2), (n,) nats."""
    values = []
    with torch.no_grad():
        for i, block in enumerate(x.split(BATCH)):
            values.append(model.log_likelihood(block.float(), None, rng.at(i)).double())
    return torch.cat(values)


def check_integral(weights: Tensor) -> None:
    """weights: p over the density of the proposal, at its draws."""
    integral = float(weights.mean())
    error = float(weights.std()) / len(weights) ** 0.5
    assert abs(integral - 1) < TOLERANCE + 5 * error, (
        f"exp(log_likelihood) integrates to {integral:.3g} +- {error:.1g} over the plane, not to 1: "
        "it is no density (look at the sign of log-determinants, and at constants)"
    )


def check_entropy(weights: Tensor, log_p: Tensor, of_samples: Tensor) -> None:
    """The mean of log p over the samples is its mean over p, the integral of p log p."""
    terms = torch.where(weights > 0, weights * log_p, 0.0)
    expected = float(terms.mean())
    error = float(terms.std()) / len(terms) ** 0.5
    mean = float(of_samples.mean())
    error += float(of_samples.std()) / len(of_samples) ** 0.5
    assert abs(mean - expected) < ENTROPY_TOLERANCE + 5 * error, (
        f"the mean log_likelihood of samples is {mean:.3g} nats, of the density itself "
        f"{expected:.3g}: sample and log_likelihood belong to different distributions"
    )
