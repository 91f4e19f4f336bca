"""The z of a given x, for a decoder without an encoder: found by optimisation.

    z* = argmin  |G(z) - x|^2 / D  +  a |phi(G(z)) - phi(x)|^2 / |phi(x)|^2  +  b ((|z|^2 - d) /
    d)^2

(after Zhu et al. 2016, arXiv:1609.03552, and the projector of Karras et al. 2020, arXiv:1912.04958,
section 5.) phi is what the model itself sees in x, such as the last hidden layer of its
discriminator: no foreign network is downloaded for it. A standard normal z of d dimensions has
|z|^2 near d, hence the last term: a z elsewhere decodes to nothing that the model ever learned. The
landscape has many valleys, so the search starts from the best few of many random z.
"""

from dataclasses import dataclass

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
    """z (N, latent_dim); x_hat (N, *shape), what it decodes to; error (N,), mean square per
    component in the model's units.

    how: in words what was done.
    """

    z: Tensor
    x_hat: Tensor
    error: Tensor
    how: str


def why_not(model: Family) -> str:
    """ "" when the model can be inverted, else the reason."""
    if not has(model, Decodes) or not has(model, DrawsLatents):
        return "this model has no latent vectors that it draws and decodes"
    if getattr(model, "standard_dims", model.latent_dim) < model.latent_dim and model.conditional:
        return "the latents of this hierarchy depend on the label"
    return ""


def invert(
    model: Family,
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
    """x (N, *shape), y (N,) or None -> the z that the model decodes to something like it.

    options     with which the model draws latents: the candidates, the best ``starts`` of which are
                optimised for each x
    lr          of Adam, relative to the standard deviation of z, at first; it falls to 0 by a
                cosine
    features    a, for models that have features; prior: b
    Deterministic: the same x, seed and options give the same z. Raises UsageError when ``why_not``.
    """
    if reason := why_not(model):
        raise UsageError(f"nothing to invert: {reason}")
    if starts < 1 or candidates < starts or steps < 0:
        raise UsageError(
            f"an inversion takes 1 or more starts, not more than its {candidates} candidates, and "
            "0 or more steps"
        )
    see = model.features if has(model, HasFeatures) and features else None
    with torch.no_grad():
        drawn = model.draw_latents(candidates, options, rng.at("candidates"))
    centre, spread = (
        drawn.mean(0),
        drawn.std(0).clamp(min=1e-6) if candidates > 1 else torch.ones_like(drawn[0]),
    )
    parts = []
    for start in range(0, len(x), max(1, BLOCK // starts)):
        part = slice(start, start + max(1, BLOCK // starts))
        objective = _Objective(
            model, x[part], None if y is None else y[part], see, features, prior, centre, spread
        )
        parts.append(_search(objective, drawn, steps, starts, lr))
    z, x_hat = (torch.cat(found) for found in zip(*parts))
    how = f"found by latent optimisation: {steps} steps, {starts} start{'s' * (starts > 1)}"
    return Inversion(z, x_hat, (x_hat - x).square().flatten(1).mean(1), how)


class _Objective:
    """The formula above for each of a block of x."""

    def __init__(self, model, x, y, see, features, prior, centre, spread):
        self.model, self.x, self.y, self.see = model, x, y, see
        self.features, self.prior, self.centre, self.spread = features, prior, centre, spread
        with torch.no_grad():
            self.phi = see(x) if see else None

    def likeness(self, x_hat: Tensor, rows: Tensor) -> Tensor:
        """The first two terms, (R,), of x_hat (R, *shape) for the rows of x."""
        value = (x_hat - self.x[rows]).square().flatten(1).mean(1)
        if self.see is None:
            return value
        phi = self.phi[rows]
        return value + self.features * (self.see(x_hat) - phi).square().sum(1) / size(phi)

    def likenesses(self, x_hat: Tensor) -> Tensor:
        """The same of every x_hat (R, *shape) for every x, (N, R)."""
        value = torch.cdist(self.x.flatten(1), x_hat.flatten(1)).square() / self.x[0].numel()
        if self.see is None:
            return value
        return (
            value
            + self.features
            * torch.cdist(self.phi, self.see(x_hat)).square()
            / size(self.phi)[:, None]
        )

    def shell(self, z: Tensor) -> Tensor:
        """((|z|^2 - d) / d)^2, (R,), z in units of its prior."""
        return (((z - self.centre) / self.spread).square().mean(1) - 1).square()

    def __call__(self, z: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Values (R,) and what z decodes to."""
        x_hat = self.model.decode(z, None if self.y is None else self.y[rows])
        return self.likeness(x_hat, rows) + self.prior * self.shell(z), x_hat


def size(phi: Tensor) -> Tensor:
    """|phi|^2 of each row, (R,)."""
    return phi.square().sum(1).clamp(min=1e-12)


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
    """Adam from each start; of each x the end with the lowest value: z (N, latent_dim) and x_hat
    (N, *shape).
    """
    n = len(objective.x)
    z = _candidates(objective, drawn, starts).flatten(0, 1)
    rows = torch.arange(n, device=z.device).repeat_interleave(starts)
    mean, square = torch.zeros_like(z), torch.zeros_like(z)
    for step in range(1, steps + 1):
        with torch.enable_grad():
            z.requires_grad_(True)
            (slope,) = torch.autograd.grad(objective(z, rows)[0].sum(), z)
        with torch.no_grad():
            mean, square = mean.lerp(slope, 0.1), square.lerp(slope.square(), 0.01)
            move = mean / (1 - 0.9**step) / ((square / (1 - 0.99**step)).sqrt() + 1e-12)
            factor = 0.5 * (1 + torch.cos(torch.tensor(torch.pi * (step - 1) / steps)))
            z = z.detach() - lr * factor.to(z) * objective.spread * move
    with torch.no_grad():
        values, x_hat = objective(z, rows)
        best = values.view(n, starts).argmin(1) + torch.arange(n, device=z.device) * starts
    return z[best], x_hat[best]
