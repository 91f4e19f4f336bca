"""Paths from data to noise: x_t = alpha_t x + sigma_t eps, eps ~ N(0, I), t from 0 (data) to 1 (noise).

A diffusion or flow model is a choice of alpha and sigma, of what its network predicts, and of the
noise levels that it is trained at. Every target is a x + b eps, and x_t is too: two equations that
give x and eps.

    linear   the variance-preserving limit of DDPM's steps: alpha^2 = exp(-int beta), beta from .1
             to 20 (Ho et al. 2020, arXiv:2006.11239; Song et al. 2021, arXiv:2011.13456, app. C)
    cosine   alpha = cos(pi t / 2), sigma = sin(pi t / 2) (Nichol & Dhariwal 2021, arXiv:2102.09672,
             without its offset)
    edm      alpha = 1, sigma from .002 to 80, rho = 7 (Karras et al. 2022, arXiv:2206.00364, eq. 5)
    flow     alpha = 1 - t, sigma = t: straight lines (Lipman et al. 2023, arXiv:2210.02747; Liu et
             al. 2023, arXiv:2209.03003)

Data have variance 1 (the family divides by their scale), so that sigma / alpha is the ratio of noise
to signal, which is comparable between paths. Networks are trained, and samples and likelihoods are
computed, where it lies between .002 and 80: ``Path.range`` of each path. There alpha and sigma are
above 0, and every target can be solved for x and eps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BETA = (0.1, 20.0)  # of the linear path, at t = 0 and t = 1
RATIOS = (0.002, 80.0)  # sigma / alpha: from invisible noise to no data left; the ends of edm
RHO = 7.0

Target = Literal["eps", "x", "v", "edm"]
Coefficients = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Path:
    """coefficients  t (...) -> alpha_t, sigma_t
    slope         t -> their derivatives
    at            sigma / alpha -> t, the inverse of ``ratio``
    """

    coefficients: Coefficients
    slope: Coefficients
    at: Callable[[Tensor], Tensor]

    def ratio(self, t: Tensor) -> Tensor:
        """Noise to signal, sigma / alpha: 0 for data, infinite for pure noise."""
        alpha, sigma = self.coefficients(t)
        return sigma / alpha

    def angle(self, t: Tensor) -> Tensor:
        """The share of noise in x_t, from 0 to 1: atan(sigma / alpha) in right angles."""
        alpha, sigma = self.coefficients(t)
        return torch.atan2(sigma, alpha) * (2 / math.pi)

    @property
    def range(self) -> tuple[float, float]:
        """First and last t at which networks are trained and evaluated."""
        first, last = self.at(torch.tensor(RATIOS, dtype=torch.float64)).clamp(0, 1).tolist()
        return first, last

    def mix(self, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t (B, *shape) of x and eps at t (B,) or ()."""
        alpha, sigma = (append_dims(part, x) for part in self.coefficients(t))
        return alpha * x + sigma * eps

    def target(self, kind: Target, t: Tensor) -> tuple[Tensor, Tensor]:
        """a and b of the network's target a x + b eps at t.

        eps   the noise (DDPM); x: the data; v: the velocity dx_t / dt
        edm   the mixture of variance 1 that remains with the preconditioning of Karras et al. 2022, eq. 7
        """
        alpha, sigma = self.coefficients(t)
        if kind == "v":
            return self.slope(t)
        if kind == "edm":
            r = (alpha**2 + sigma**2).sqrt()
            return sigma / r, -alpha / r
        one = torch.ones_like(sigma)
        zero = torch.zeros_like(sigma)
        return (zero, one) if kind == "eps" else (one, zero)

    def solve(
        self, x_t: Tensor, prediction: Tensor, kind: Target, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """x and eps (B, *shape) from x_t and prediction = a x + b eps, at t (B,) or () in
        ``range``.
        """
        alpha, sigma = self.coefficients(t)
        a, b = self.target(kind, t)
        determinant = alpha * b - sigma * a

        def part(value: Tensor) -> Tensor:
            return append_dims(value / determinant, x_t)

        return part(b) * x_t - part(sigma) * prediction, part(alpha) * prediction - part(a) * x_t


def append_dims(values: Tensor, x: Tensor) -> Tensor:
    """(B,) or () -> (B, 1, .., 1) or (), which broadcasts against x (B, *shape), in x's dtype."""
    return values.to(x.dtype).view(-1, *[1] * (x.ndim - 1)) if values.ndim else values.to(x.dtype)


def linear() -> Path:
    first = BETA[0]
    rise = BETA[1] - BETA[0]

    def log_alpha(t):
        return -0.5 * (first * t + 0.5 * rise * t**2)

    def beta(t):
        return first + rise * t

    def coefficients(t):
        return log_alpha(t).exp(), (-torch.expm1(2 * log_alpha(t))).sqrt()

    def slope(t):  # sigma^2 = 1 - alpha^2
        alpha, sigma = coefficients(t)
        d_alpha = -0.5 * beta(t) * alpha
        return d_alpha, -alpha * d_alpha / sigma

    def at(ratio):  # the root of rise/2 t^2 + first t = log(1 + ratio^2)
        return (torch.sqrt(first**2 + 2 * rise * torch.log1p(ratio**2)) - first) / rise

    return Path(coefficients, slope, at)


def cosine() -> Path:
    quarter = math.pi / 2
    return Path(
        lambda t: (torch.cos(quarter * t), torch.sin(quarter * t)),
        lambda t: (-quarter * torch.sin(quarter * t), quarter * torch.cos(quarter * t)),
        lambda ratio: torch.atan(ratio) / quarter,
    )


def edm() -> Path:
    low, high = (end ** (1 / RHO) for end in RATIOS)

    def base(t):
        return low + (high - low) * t

    return Path(
        lambda t: (torch.ones_like(t), base(t) ** RHO),
        lambda t: (torch.zeros_like(t), RHO * (high - low) * base(t) ** (RHO - 1)),
        lambda ratio: (ratio ** (1 / RHO) - low) / (high - low),
    )


def flow() -> Path:
    return Path(
        lambda t: (1 - t, t),
        lambda t: (-torch.ones_like(t), torch.ones_like(t)),
        lambda ratio: ratio / (1 + ratio),
    )


PATHS = {"linear": linear, "cosine": cosine, "edm": edm, "flow": flow}
