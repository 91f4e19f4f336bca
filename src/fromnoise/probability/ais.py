"""Annealed importance sampling: an estimate of log p(x) of a decoder (Neal 2001; Wu et al. 2017).

Chains of z move from a base density q(z) to the posterior, along the densities

    f_t(z) = q(z)^(1-t) [p(z) p(x | z)]^t,   t from 0 to 1,

by steps of Hamiltonian Monte Carlo that leave f_t invariant. The importance weight of a chain has
mean p(x) exactly, for any number of steps. So the log of the mean of the weights is, on average, a
lower bound of log p(x), and tighter with more steps.

The step size may not depend on the chains that it moves, or the mean is no longer p(x). A few
pilot chains tune it; their weights are discarded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.rng import Rng
from .gaussian import importance_weighted_bound

Density = Callable[[Tensor], Tensor]  # z (C, B, D) -> (C, B) nats
TARGET_ACCEPTANCE = 0.65  # share of accepted moves (Neal 2011)
ADAPTATION_RATE = 0.2  # of log(step size)


def sigmoid_schedule(steps: int) -> Tensor:
    """Temperatures 0 = t_0 < .. < t_steps = 1, (steps + 1,) float64, dense at both ends.

    Wu et al. 2017.
    """
    s = torch.sigmoid(4 * torch.linspace(-1, 1, steps + 1, dtype=torch.float64))
    return (s - s[0]) / (s[-1] - s[0])


def ais(
    log_base: Density,
    log_joint: Density,
    z: Tensor,
    rng: Rng,
    temperatures: Tensor,
    leapfrogs: int = 10,
    step: float = 0.2,
    pilots: int = 4,
) -> tuple[Tensor, Tensor]:
    """Log weights (C - pilots, B), nats, of C chains for B examples, and acceptance rates (B,).
    log_base      log q(z), normalised: the prior, or q(z | x) of a VAE's encoder, which needs far
                  fewer temperatures
    log_joint     log p(z) + log p(x | z)
    z             (C, B, D) independent draws from q; all chains move at once, in z's dtype
    temperatures  from 0 to 1, see sigmoid_schedule. From 1 to 0, with z drawn from the exact
                  posterior (simulate z, then x), the weights estimate 1 / p(x): minus the log of
                  their mean is an upper bound of log p(x) (BDMC, Grosse et al. 2015)
    step          first leapfrog step; the first ``pilots`` chains tune it for each example

    Raises UsageError without a pilot and a further chain, DataError where a density is NaN.
    """
    if len(z) <= pilots or pilots < 1:
        text = f"{len(z)} chains, of which {pilots} tune the step size"
        raise UsageError(f"{text}: give at least 1 pilot and 1 more chain")
    log_w = z.new_zeros(z.shape[:2])  # C B
    accepted_share = z.new_zeros(z.shape[1])
    log_step = z.new_full(z.shape[1:2], step).log()  # B
    for k, (t_last, t) in enumerate(pairwise(temperatures.tolist())):
        density = AnnealedDensity(log_base, log_joint, t)
        log_f, grad, slope = density(z)
        log_w += (t - t_last) * slope  # log f_t(z) - log f_t_last(z)
        h = log_step.exp()[:, None]  # B 1
        z, probability, accepted = hmc_step(density, z, log_f, grad, h, leapfrogs, rng.at(k))
        accepted_share += accepted[pilots:].to(z).mean(0)
        log_step += ADAPTATION_RATE * (probability[:pilots].mean(0) - TARGET_ACCEPTANCE)
    if log_w.isnan().any():
        text = "the model's log density is not finite where its base puts mass"
        raise DataError(f"annealed importance sampling met NaN: {text}")
    return log_w[pilots:], accepted_share / (len(temperatures) - 1)


@dataclass(frozen=True)
class AnnealedDensity:
    """z (C, B, D) -> log f_t, its gradient and d log f_t / dt: (C, B), (C, B, D), (C, B)."""

    log_base: Density
    log_joint: Density
    t: float

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            base = self.log_base(z)
            slope = self.log_joint(z) - base
            log_f = base + self.t * slope
            (grad,) = torch.autograd.grad(log_f.sum(), z)
        return log_f.detach(), grad, slope.detach()


def hmc_step(
    density: AnnealedDensity,
    z: Tensor,
    log_f: Tensor,
    grad: Tensor,
    h: Tensor,
    leapfrogs: int,
    rng: Rng,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of Hamiltonian Monte Carlo from z (C, B, D), with step size h (B, 1).

    log_f and grad are those at z. Returns the new z, acceptance probabilities and decisions (C, B).
    """
    momentum = rng.normal("momentum", z.shape).to(z)
    z_new = z
    p = momentum
    for _ in range(leapfrogs):
        p = p + 0.5 * h * grad
        z_new = z_new + h * p
        log_f_new, grad, _ = density(z_new)
        p = p + 0.5 * h * grad
    minus_energy_change = (
        log_f_new - 0.5 * p.square().sum(-1) - log_f + 0.5 * momentum.square().sum(-1)
    )
    # A trajectory that diverged is rejected.
    probability = minus_energy_change.clamp(max=0).exp().nan_to_num(0)
    accepted = rng.uniform("accept", probability.shape).to(z) < probability
    return torch.where(accepted[..., None], z_new, z), probability, accepted


def log_mean_weight(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Log weights (C, B) -> log of their mean (B,), nats, and its standard error (B,); C >= 2."""
    value = importance_weighted_bound(log_w.T)
    return value, (log_w - value).exp().std(0) / len(log_w) ** 0.5  # d log(w) = d w / w
