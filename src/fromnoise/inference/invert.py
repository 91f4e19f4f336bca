"""The latent vector z of an example x, for a decoder without an encoder, found by optimisation.

    z* = argmin  |G(z) - x|^2 / D  +  a |phi(G(z)) - phi(x)|^2 / |phi(x)|^2  +  b ((|z|^2 - d) / d)^2

(After Zhu et al. 2016, arXiv:1609.03552, and the projector of Karras et al. 2020, arXiv:1912.04958,
section 5.) phi are features of the model itself, such as the last hidden layer of its discriminator:
no other network is needed. A standard normal z of d dimensions has |z|^2 near d, hence the last term:
the model was not trained on a z elsewhere. The objective has many local minima, so the search starts
from the best few of many random z.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.capabilities import Decodes, DrawsLatents, HasFeatures, has
from ..core.config import BaseConfig
from ..core.errors import UsageError
from ..core.family import Family
from ..core.rng import Rng
from ..core.spec import Labels

STEPS, STARTS, CANDIDATES = 200, 4, 2000
BLOCK = 256  # z that are optimised at once


@dataclass(frozen=True)
class Inversion:
    """z (N, latent_dim); x_hat (N, *shape): what it decodes to; error (N,): the mean squared error
    per component, in the model's units; how: the method, in words.
    """

    z: Tensor
    x_hat: Tensor
    error: Tensor
    how: str


def why_not(model: Family) -> str:
    """The reason why the model cannot be inverted, or an empty string."""
    if not has(model, Decodes) or not has(model, DrawsLatents):
        return "this model has no latent vectors that it draws and decodes"
    if getattr(model, "standard_dims", model.latent_dim) < model.latent_dim and model.conditional:
        return "the latents of this hierarchy depend on the label"
    return ""


def check_inversion(model: Family, steps: int, starts: int, candidates: int) -> None:
    """Raises UsageError for a model that cannot be inverted, and for impossible numbers."""
    if reason := why_not(model):
        raise UsageError(f"nothing to invert: {reason}")
    if starts < 1 or candidates < starts or steps < 0:
        raise UsageError(
            f"an inversion takes 1 or more starts, not more than its {candidates} candidates, and "
            "0 or more steps"
        )


def invert(
    model: Any,
    x: Tensor,
    y: Labels,
    options: BaseConfig,
    rng: Rng,
    *,
    steps: int = STEPS,
    starts: int = STARTS,
    candidates: int = CANDIDATES,
    lr: float = 0.1,
    features: float = 0.1,
    prior: float = 0.01,
) -> Inversion:
    """x (N, *shape), y (N,) or None -> the z that the model decodes to an example like x.

    options: for drawing the candidates, the best ``starts`` of which are optimised for each x.
    lr: of Adam, relative to the standard deviation of z; it falls to 0 by a cosine.
    features: a, for models that have features; prior: b. Raises UsageError.
    """
    check_inversion(model, steps, starts, candidates)
    phi = model.features if has(model, HasFeatures) and features else None
    with torch.no_grad():
        drawn = model.draw_latents(candidates, options, rng.at("candidates"))
    spread = torch.ones_like(drawn[0])
    if candidates > 1:
        spread = drawn.std(0).clamp(min=1e-6)
    parts = []
    rows = max(1, BLOCK // starts)
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        y_part = None if y is None else y[part]
        objective = _Objective(model, x[part], y_part, phi, features, prior, drawn.mean(0), spread)
        parts.append(_search(objective, drawn, steps, starts, lr))
    z, x_hat = (torch.cat(tensors) for tensors in zip(*parts))
    how = f"found by latent optimisation: {steps} steps, {starts} start{'s' * (starts > 1)}"
    return Inversion(z, x_hat, (x_hat - x).square().flatten(1).mean(1), how)


@dataclass
class _Objective:
    """The formula above for each of a block of x. phi: features of the model, or None."""

    model: Any
    x: Tensor
    y: Labels
    phi: Callable[[Tensor], Tensor] | None
    feature_weight: float
    prior_weight: float
    centre: Tensor
    spread: Tensor

    @torch.no_grad()
    def __post_init__(self):
        if self.phi:
            self.target = self.phi(self.x)
            self.scale = self.feature_weight / self.target.square().sum(1).clamp(min=1e-12)

    def likenesses(self, x_hat: Tensor) -> Tensor:
        """The first two terms of every x_hat (R, *shape) for every x, (N, R)."""
        value = torch.cdist(self.x.flatten(1), x_hat.flatten(1)).square() / self.x[0].numel()
        if self.phi:
            distance = torch.cdist(self.target, self.phi(x_hat)).square()
            value = value + self.scale[:, None] * distance
        return value

    def __call__(self, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Values (R,) of z for the rows of x, and what z decodes to."""
        x_hat = self.model.decode(z, None if self.y is None else self.y[rows])
        value = (x_hat - self.x[rows]).square().flatten(1).mean(1)
        if self.phi:
            distance = (self.phi(x_hat) - self.target[rows]).square().sum(1)
            value = value + self.scale[rows] * distance
        length = ((z - self.centre) / self.spread).square().mean(1)  # |z|^2 / d
        return value + self.prior_weight * (length - 1).square(), x_hat


@torch.no_grad()
def _candidates(objective: _Objective, drawn: Tensor, starts: int) -> Tensor:
    """The best ``starts`` of the drawn z for each x, (N, starts, latent_dim)."""
    y = objective.y
    values = torch.full((len(objective.x), len(drawn)), torch.inf, device=drawn.device)
    for label in [None] if y is None else y.unique():
        mine = slice(None) if y is None else y == label
        for start in range(0, len(drawn), BLOCK):
            z = drawn[start : start + BLOCK]
            x_hat = objective.model.decode(z, None if y is None else label.expand(len(z)))
            values[mine, start : start + len(z)] = objective.likenesses(x_hat)[mine]
    return drawn[values.topk(starts, largest=False).indices]


def _search(
    objective: _Objective, drawn: Tensor, steps: int, starts: int, lr: float
) -> tuple[Tensor, Tensor]:
    """Adam from each start; for each x the end with the lowest value: z (N, latent_dim) and x_hat
    (N, *shape).
    """
    n = len(objective.x)
    spread = objective.spread
    # in units of the spread, so that one learning rate suits all dimensions
    u = (_candidates(objective, drawn, starts).flatten(0, 1) / spread).requires_grad_()
    rows = torch.arange(n, device=u.device).repeat_interleave(starts)
    adam = torch.optim.Adam([u], lr, betas=(0.9, 0.99), eps=1e-12)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, max(1, steps))
    with torch.enable_grad():
        for _ in range(steps):
            (u.grad,) = torch.autograd.grad(objective(u * spread, rows)[0].sum(), u)
            adam.step()
            schedule.step()
    with torch.no_grad():
        z = u * spread
        values, x_hat = objective(z, rows)
        best = values.view(n, starts).argmin(1) + torch.arange(n, device=z.device) * starts
    return z[best].detach(), x_hat[best]
