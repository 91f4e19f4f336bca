"""Adversarial losses: what discriminator D and generator G minimise, as functions of D's scores.

A score is a logit, one for each example, high for "real". ``real`` and ``fake`` are the scores (B,)
of B real and B generated examples. With s(t) = softplus(t) = log(1 + e^t):

                    discriminator                        generator         source
    minimax         s(-real) + s(fake)                   -s(fake)          Goodfellow et al. 2014, eq. 1
    non-saturating  s(-real) + s(fake)                   s(-fake)          same paper, section 3
    least-squares   1/2 (real - 1)^2 + 1/2 fake^2        1/2 (fake - 1)^2  Mao et al. 2017, eq. 9
    hinge           max(0, 1 - real) + max(0, 1 + fake)  -fake             Miyato et al. 2018, eqs. 16-17
    wasserstein     fake - real                          -fake             Arjovsky et al. 2017, eqs. 2-3
    relativistic    s(fake - real)                       s(real - fake)    Jolicoeur-Martineau 2018, eqs. 3-4

Losses are means over the batch; the logistic ones are in nats. With an ideal D the minimax loss is
-V, where V is the value of the game: ln 4 where the two distributions are equal.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import one_hot, relu, softplus

from ..core.spec import Condition

LossName = Literal[
    "relativistic", "non-saturating", "minimax", "least-squares", "hinge", "wasserstein"
]
# name -> (real, fake) -> loss to minimise
DISCRIMINATOR = {
    "minimax": lambda real, fake: (softplus(-real) + softplus(fake)).mean(),
    "non-saturating": lambda real, fake: (softplus(-real) + softplus(fake)).mean(),
    "least-squares": lambda real, fake: 0.5 * ((real - 1).square() + fake.square()).mean(),
    "hinge": lambda real, fake: (relu(1 - real) + relu(1 + fake)).mean(),
    "wasserstein": lambda real, fake: (fake - real).mean(),
    "relativistic": lambda real, fake: softplus(fake - real).mean(),
}
GENERATOR = {
    "minimax": lambda real, fake: -softplus(fake).mean(),
    "non-saturating": lambda real, fake: softplus(-fake).mean(),
    "least-squares": lambda real, fake: 0.5 * (fake - 1).square().mean(),
    "hinge": lambda real, fake: -fake.mean(),
    "wasserstein": lambda real, fake: -fake.mean(),
    "relativistic": lambda real, fake: softplus(real - fake).mean(),
}


def scores_and_squared_gradients(
    score: Callable[[Tensor, slice], Tensor], x: Tensor, n: int
) -> tuple[Tensor, Tensor]:
    """D's scores (B,) of x (B, *shape), and ||dD/dx||^2 (n,) at the first n examples.

    The squared gradients can be differentiated again. score(part, rows) returns the scores of
    x[rows]; the score of an example may not depend on other examples.
    """
    if not n:
        return score(x, slice(None)), x.new_zeros(0)
    head = x[:n].detach().requires_grad_()
    scores = score(head, slice(n))
    (gradient,) = torch.autograd.grad(scores.sum(), head, create_graph=True)
    squared = gradient.float().flatten(1).square().sum(1)
    if n < len(x):
        scores = torch.cat([scores, score(x[n:], slice(n, None))])
    return scores, squared


def zero_centred_penalty(squared_gradients: Tensor, gamma: float) -> Tensor:
    """gamma / 2 E ||dD/dx||^2: R1 on real, R2 on generated examples (Mescheder et al. 2018, eq. 9)."""
    return gamma / 2 * squared_gradients.mean()


def one_centred_penalty(squared_gradients: Tensor, weight: float) -> Tensor:
    """weight E (||dD/dx|| - 1)^2 between real and generated examples (Gulrajani et al. 2017, eq.
    3).
    """
    return weight * ((squared_gradients + 1e-12).sqrt() - 1).square().mean()


def gradients_between(
    score: Callable[[Tensor, Tensor | None], Tensor],
    x_real: Tensor,
    x_fake: Tensor,
    label: Condition,
    u: Tensor,
) -> Tensor:
    """||dD/dx||^2 (B,) at u x_real + (1 - u) x_fake; u (B,) uniform in [0, 1)."""
    u = u.view(-1, *[1] * (x_real.ndim - 1))
    x = u * x_real + (1 - u) * x_fake
    _, squared = scores_and_squared_gradients(lambda part, rows: score(part, label), x, len(x))
    return squared


def generator_loss(
    score: Callable[[Tensor, Tensor | None], Tensor],
    x_real: Tensor,
    x_fake: Tensor,
    label: Tensor | None,
    loss: str,
) -> Tensor:
    """The loss of G on x_fake (B, *shape); the relativistic one compares with x_real."""
    fake = score(x_fake, label)
    real = fake  # only the relativistic loss reads it
    if loss == "relativistic":
        with torch.no_grad():
            real = score(x_real, label)
    return GENERATOR[loss](real, fake)


def balance_gradients(reference: Tensor, term: Tensor, weight: Tensor, largest: float) -> Tensor:
    """|d reference / dw| / (|d term / dw| + 1e-4), w: a weight; at most ``largest``, detached."""

    def gradient_norm(value: Tensor) -> Tensor:
        return torch.autograd.grad(value, weight, retain_graph=True)[0].norm()

    ratio = gradient_norm(reference) / (gradient_norm(term) + 1e-4)
    return ratio.clamp(max=largest).detach()


def feature_nll(features_hat: Tensor, features: Tensor, sigma: float) -> Tensor:
    """-log N(features | features_hat, sigma^2) (B, F) without its constant, mean over B, nats.

    Unusual: features are in units of their spread over the batch, as after the batch norm of the
    discriminator of Larsen et al. 2016. Otherwise it could lower the value by smaller features.
    """
    spread = features.std(0, correction=0) + 1e-3 * features.std(correction=0) + 1e-6
    error = (features_hat - features) / (sigma * spread)
    return 0.5 * error.square().sum(1).mean()


def penalised_discriminator_loss(
    score: Callable[[Tensor, Tensor | None], Tensor],
    x_real: Tensor,
    x_fake: Tensor,
    label: Condition,
    loss: str,
    r1: float = 0.0,
    r2: float = 0.0,
    lazy: int = 1,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of D with the penalties R1 and R2 (r1 and r2 are their gammas), and its terms.

    score(x, label) -> (B,). x_real and x_fake (B, *shape) are pairs; both examples of a pair have
    the same row of label (B, K), one-hot, or None. lazy: only the first 1 / lazy of the pairs are
    penalised. Real and generated examples go through D in one batch.
    """
    x = torch.stack([x_real, x_fake.detach()], 1).flatten(0, 1)  # real and fake in turn
    labels = None if label is None else label.repeat_interleave(2, 0)
    n = 2 * math.ceil(len(x_real) / lazy) if r1 or r2 else 0

    def score_rows(part: Tensor, rows: slice) -> Tensor:
        return score(part, None if labels is None else labels[rows])

    scores, squared = scores_and_squared_gradients(score_rows, x, n)
    real, fake = scores.view(-1, 2).unbind(1)
    value = DISCRIMINATOR[loss](real, fake)
    terms = {"d_loss": value, "score_real": real.mean(), "score_fake": fake.mean()}
    if n:
        squared_real, squared_fake = squared.view(-1, 2).unbind(1)
        r1_penalty = zero_centred_penalty(squared_real, r1)
        r2_penalty = zero_centred_penalty(squared_fake, r2)
        value = value + r1_penalty + r2_penalty
        terms |= {"slope_real": squared_real.mean(), "slope_fake": squared_fake.mean()}
    return value, terms


def hard_categories(x: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """Probabilities of each one-hot block of x (B, D) -> the most probable category, one-hot.

    The gradient is that of the probabilities (straight-through estimator).
    """
    if all(size == 1 for size in blocks):
        return x
    parts = []
    for part in x.split(blocks, 1):
        if part.shape[1] > 1:
            part = one_hot(part.argmax(1), part.shape[1]) + (part - part.detach())
        parts.append(part)
    return torch.cat(parts, 1)
