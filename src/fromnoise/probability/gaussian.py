"""Diagonal Gaussians: the three formulas that a VAE is made of.

mu, logvar, z: any shape (B, ...); logvar is the natural logarithm of the variance.
"""

import math

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)


def reparameterise(mu: Tensor, logvar: Tensor, eps: Tensor) -> Tensor:
    """z = mu + Sigma^(1/2) eps, eps ~ N(0, I) (Kingma & Welling 2014, section 2.4)."""
    return mu + (0.5 * logvar).exp() * eps


def truncated_normal(u: Tensor, limit: float) -> Tensor:
    """Draws from N(0, 1) within +-limit, from u uniform in [0, 1), same shape (inverse transform)."""
    mass = math.erf(limit / math.sqrt(2))
    return math.sqrt(2) * torch.erfinv((2 * u - 1) * mass)


def log_normal(z: Tensor, mu: Tensor | float = 0.0, logvar: Tensor | float = 0.0) -> Tensor:
    """log N(z; mu, exp(logvar)) for each component, nats, same shape as z."""
    if isinstance(mu, float) and isinstance(logvar, float) and mu == logvar == 0:
        return -0.5 * (LOG_2PI + z.square())
    logvar = torch.as_tensor(logvar, dtype=z.dtype, device=z.device)
    return -0.5 * (LOG_2PI + logvar + (z - mu).square() * (-logvar).exp())


def kl_normal(
    mu_q: Tensor, logvar_q: Tensor, mu_p: Tensor | float = 0.0, logvar_p: Tensor | float = 0.0
) -> Tensor:
    """KL(N(mu_q, exp(logvar_q)) || N(mu_p, exp(logvar_p))) for each component, nats.

    With p = N(0, 1) it is the lecture's 1/2 (Sigma + mu^2 - 1 - log Sigma).
    """
    if isinstance(mu_p, float) and isinstance(logvar_p, float) and mu_p == logvar_p == 0:
        return 0.5 * (logvar_q.exp() + mu_q.square() - 1 - logvar_q)
    logvar_p = torch.as_tensor(logvar_p, dtype=mu_q.dtype, device=mu_q.device)
    difference = logvar_q - logvar_p
    return 0.5 * (difference.exp() + (mu_q - mu_p).square() * (-logvar_p).exp() - 1 - difference)


def importance_weighted_bound(log_weights: Tensor) -> Tensor:
    """log of the mean of the weights over the last dimension, (B, K) -> (B,) nats (Burda et al. 2016, eq. 8).

    log_weights holds log p(x, z_k) - log q(z_k | x). For K = 1 it is a one-sample ELBO.
    """
    return log_weights.logsumexp(-1) - math.log(log_weights.shape[-1])
