"""Annealed importance sampling: log p(x) of a decoder, as exactly as you have patience (Neal 2001; Wu et al. 2017).

z walks from a base density q(z) to the posterior through f_t(z) = q(z)^(1-t) [p(z) p(x | z)]^t, t from 0 to 1, each
step of Hamiltonian Monte Carlo leaving f_t invariant. The weight gathered on the way has mean p(x) *exactly*, for
any number of steps; so the log of the mean of the weights is, on average, a lower bound of log p(x).

Unusual: the step size must not learn from the chains it moves, or that mean is lost. A few pilot chains tune it and
their weights are thrown away.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.rng import Rng
from .gaussian import importance_weighted_bound

Density = Callable[[Tensor], Tensor]  # z (C, B, D) -> (C, B) nats
ACCEPTED, RATE = (
    0.65,
    0.2,
)  # share of accepted moves aimed at (Neal 2011); how fast log(step) follows


def sigmoid_schedule(steps: int, sharpness: float = 4.0) -> Tensor:
    """Temperatures 0 = t_0 < .. < t_steps = 1, (steps + 1,) float64, dense at both ends (Wu et al. 2017)."""
    s = torch.sigmoid(sharpness * torch.linspace(-1, 1, steps + 1, dtype=torch.float64))
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
    """Log weights (C - pilots, B) in nats of C chains for each of B examples, and the share of accepted moves (B,).

    log_base     log q(z): the prior, or q(z | x) of a VAE's encoder, which needs far fewer temperatures; normalised
    log_joint    log p(z) + log p(x | z)
    z            (C, B, D) drawn from q, independently; all chains of all examples move at once, in z's dtype
    temperatures from 0 to 1, see sigmoid_schedule. From 1 to 0, with z drawn from the exact posterior (simulate z,
                 then x), the weights estimate 1 / p(x): minus the log of their mean is an upper bound (BDMC,
                 Grosse et al. 2015). Lower and upper bound together enclose log p(x).
    step         first leapfrog step; the first ``pilots`` chains tune it for each example
    """
    if len(z) <= pilots or pilots < 1:
        raise UsageError(
            f"{len(z)} chains, of which {pilots} tune the step size: give at least 1 pilot and 1 more chain"
        )
    log_w, moved = z.new_zeros(z.shape[:2]), z.new_zeros(z.shape[1])
    log_step = z.new_full(z.shape[1:2], step).log()

    def at(z, t):
        """log f_t, its gradient, and d log f_t / dt."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            base = log_base(z)
            slope = log_joint(z) - base
            log_f = base + t * slope
            (grad,) = torch.autograd.grad(log_f.sum(), z)
        return log_f.detach(), grad, slope.detach()

    for k, (t_last, t) in enumerate(pairwise(temperatures.tolist())):
        log_f, grad, slope = at(z, t)
        log_w += (t - t_last) * slope  # log f_t(z) - log f_t_last(z), at z from the step before

        h = log_step.exp()[:, None]  # (B, 1)
        momentum = rng.at(k).normal("momentum", z.shape).to(z)
        z_new, p, grad_new = z, momentum, grad
        for _ in range(leapfrogs):
            p = p + 0.5 * h * grad_new
            z_new = z_new + h * p
            log_f_new, grad_new, _ = at(z_new, t)
            p = p + 0.5 * h * grad_new
        gain = (
            log_f_new - 0.5 * p.square().sum(-1) - log_f + 0.5 * momentum.square().sum(-1)
        )  # minus the change of energy
        chance = gain.clamp(max=0).exp().nan_to_num(0)  # a trajectory that diverged is refused
        accepted = rng.at(k).uniform("accept", chance.shape).to(z) < chance
        z = torch.where(accepted[..., None], z_new, z)

        moved += accepted[pilots:].to(z).mean(0)
        log_step += RATE * (chance[:pilots].mean(0) - ACCEPTED)
    if log_w.isnan().any():
        raise DataError(
            "annealed importance sampling met NaN: the model's log density is not finite where its base puts mass"
        )
    return log_w[pilots:], moved / (len(temperatures) - 1)


def log_mean_weight(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Log weights (C, B) -> log of their mean (B,), nats, and its standard error over the chains (B,; C of at least 2)."""
    value = importance_weighted_bound(log_w.T)
    return value, (log_w - value).exp().std(0) / len(log_w) ** 0.5  # d log(w) = d w / w
