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
from torch import Tensor, nn
from torch.nn.functional import one_hot, relu, softplus

from ..core.rng import Rng
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
# Losses whose optimal D is log p(x) / q(x), up to a constant for each label.
LOG_RATIOS = ("minimax", "non-saturating", "relativistic")
CANDIDATES = 8
MAX_SCORE_SCALE = 64.0


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


def interpolate(x_real: Tensor, x_fake: Tensor, u: Tensor) -> Tensor:
    """u x_real + (1 - u) x_fake for u (B,) uniform in [0, 1): points of the one-centred penalty."""
    u = u.view(-1, *[1] * (x_real.ndim - 1))
    return u * x_real + (1 - u) * x_fake


def gradients_between(
    score: Callable[[Tensor, Tensor | None], Tensor],
    x_real: Tensor,
    x_fake: Tensor,
    label: Condition,
    u: Tensor,
) -> Tensor:
    """||dD/dx||^2 (B,) at points between real and generated examples; u uniform, (B,)."""
    x = interpolate(x_real, x_fake, u)
    _, squared = scores_and_squared_gradients(lambda part, rows: score(part, label), x, len(x))
    return squared


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


# -- sampling with D -----------------------------------------------------------------------------


class ImportanceResampler(nn.Module):
    """Keeps one of several draws of G, by D's scores: moves samples from q towards p.

    This is sampling-importance-resampling (Rubin 1987) with the density ratio p / q that D
    estimates. The same ratio serves rejection sampling (Azadi et al. 2019, arXiv:1810.06758) and a
    Markov chain (Turner et al. 2019, arXiv:1811.11357); here no largest ratio has to be estimated,
    and there is no burn-in.

    sureness   the factor that turns D's scores into log ratios: with penalties D underestimates them
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("sureness", torch.ones(()))

    def calibrate(self, real: Tensor, fake: Tensor) -> None:
        """Sets sureness from scores (n,) of pairs that share their label."""
        self.sureness.fill_(fit_score_scale(real, fake))

    def forward(
        self,
        draw: Callable[[Rng], Tensor],
        score: Callable[[Tensor], Tensor],
        candidates: int,
        rng: Rng,
        temperature: float = 1.0,
    ) -> Tensor:
        """For each row one of ``candidates`` draws, with odds exp(sureness score / temperature).

        draw(rng) -> x (B, *shape); score(x) -> (B,). The first candidate is the sample that one
        candidate alone would give. With exact scores and many candidates the result has density
        q (p / q)^(1 / temperature); with K candidates the density is never above K q.
        temperature: 1 aims at p; lower values prefer high scores, at the cost of variety, 0
        takes the highest score; higher values stay nearer to q.
        """
        x = draw(rng)
        if candidates == 1:
            return x
        best = self.perturbed(score(x), temperature, rng.at("candidate", 0))
        for k in range(1, candidates):
            new = draw(rng.at("candidate", k))
            value = self.perturbed(score(new), temperature, rng.at("candidate", k))
            better = (value > best).view(-1, *[1] * (new.ndim - 1))
            x = torch.where(better, new, x)
            best = torch.maximum(value, best)
        return x

    def perturbed(self, score: Tensor, temperature: float, rng: Rng) -> Tensor:
        """sureness score + temperature x Gumbel noise (B,); -inf where that is not finite.

        The largest of such values is a draw in proportion to exp(sureness score / temperature).
        """
        u = rng.uniform("u", score.shape).clamp(1e-7, 1 - 1e-7)
        value = self.sureness * score.float() - temperature * (-u.log()).log()
        return torch.where(value.isfinite(), value, -math.inf)

    def _load_from_state_dict(self, state_dict, prefix, *others) -> None:
        # Checkpoints from before the calibration have no sureness.
        state_dict.setdefault(f"{prefix}sureness", torch.ones(()))
        super()._load_from_state_dict(state_dict, prefix, *others)


def fit_score_scale(real: Tensor, fake: Tensor) -> float:
    """The factor in [0, 64] for which factor x score best separates the pairs of scores (n,).

    It minimises the mean of softplus(factor (fake - real)), nats, which is convex, by bisection of
    its slope. 1: an ideal D without penalties; 0: the scores do not separate examples that D was
    not trained on, or are not finite. If D separates all pairs, the mean alone has no minimum:
    one pair in n + 2 counts as swapped (Platt 1999).
    """
    difference = (fake - real).double().cpu()
    swapped = 1 / (len(difference) + 2)

    def slope(factor: float) -> float:
        return float((difference * (torch.sigmoid(factor * difference) - swapped)).mean())

    low = 0.0
    high = MAX_SCORE_SCALE
    if not slope(low) < 0:  # also if it is NaN
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        if slope(middle) < 0:
            low = middle
        else:
            high = middle
    return low


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
