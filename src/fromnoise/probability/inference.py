"""Amortised inference: the latent variables of one pass through an encoder and a decoder."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .gaussian import kl_normal, log_normal


@dataclass
class Level:
    """One latent variable of one pass: z, and mu and logvar of its posterior and its prior."""

    z: Tensor
    mu_q: Tensor
    logvar_q: Tensor
    mu_p: Tensor | float = 0.0
    logvar_p: Tensor | float = 0.0

    def kl(self) -> Tensor:
        """KL(q || p) of each component in closed form, nats."""
        return kl_normal(self.mu_q, self.logvar_q, self.mu_p, self.logvar_p)

    def log_q(self) -> Tensor:
        return log_normal(self.z, self.mu_q, self.logvar_q)

    def log_p(self) -> Tensor:
        return log_normal(self.z, self.mu_p, self.logvar_p)


@dataclass
class Inference:
    """Result of one pass: the latent variables (one; more in a hierarchy), and params of p(x | z).

    B is the number of examples times the samples of z.
    """

    levels: list[Level]
    params: Tensor

    @property
    def z(self) -> Tensor:
        return concatenate([level.z for level in self.levels])

    def kl(self) -> Tensor:
        """KL(q(z | x) || p(z)), (B,) nats."""
        return sum_levels([level.kl() for level in self.levels])

    def log_ratio(self) -> Tensor:
        """log p(z) - log q(z | x) at z, (B,) nats."""
        return sum_levels([level.log_p() - level.log_q() for level in self.levels])


def sum_levels(levels: list[Tensor]) -> Tensor:
    """Values by level, each (B, *level shape) -> their sum (B,)."""
    return torch.stack([values.flatten(1).sum(1) for values in levels]).sum(0)


def concatenate(levels: list[Tensor]) -> Tensor:
    """Values by level, each (B, *level shape) -> (B, latent_dim)."""
    return torch.cat([part.flatten(1) for part in levels], 1)
