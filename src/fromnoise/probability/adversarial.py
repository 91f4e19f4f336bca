"""The duel's objectives: what the discriminator D and the generator G minimise, as functions of D's scores.

A score is a real number for each example (a logit), high for "real"; ``real`` and ``fake`` are (B,) scores of as many
real and generated examples. With s(t) = softplus(t) = log(1 + e^t):

                     discriminator                          generator            source
    minimax          s(-real) + s(fake)                     -s(fake)             Goodfellow et al. 2014, eq. 1
    non-saturating   s(-real) + s(fake)                     s(-fake)             the same, section 3
    least-squares    1/2 (real - 1)^2 + 1/2 fake^2          1/2 (fake - 1)^2     Mao et al. 2017, eq. 9 (a, b, c = 0, 1, 1)
    hinge            max(0, 1 - real) + max(0, 1 + fake)    -fake                Lim & Ye 2017; Miyato et al. 2018, eqs. 16-17
    wasserstein      fake - real                            -fake                Arjovsky et al. 2017, eqs. 2-3
    relativistic     s(fake - real)                         s(real - fake)       Jolicoeur-Martineau 2018, eqs. 3-4

Means over the batch, nats for the logistic ones. At an ideal discriminator minimax has the value V of the game:
loss = -V, which is ln 4 where the two laws agree.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, relu, softplus

from ..core.rng import Rng

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
    """D's scores of x (B, *shape), (B,), and ||dD/dx||^2 at the first n of them, (n,), which can be differentiated again.

    score(part, rows): the scores of x[rows]. No example's score may depend on another example.
    """
    if not n:
        return score(x, slice(None)), x.new_zeros(0)
    head = x[:n].detach().requires_grad_()
    scores = score(head, slice(n))
    (gradient,) = torch.autograd.grad(scores.sum(), head, create_graph=True)
    slopes = gradient.float().flatten(1).square().sum(1)
    return torch.cat([scores, score(x[n:], slice(n, None))]) if n < len(x) else scores, slopes


def zero_centred_penalty(squared_norms: Tensor, gamma: float) -> Tensor:
    """gamma / 2 E ||dD/dx||^2: R1 on real examples, R2 on generated ones (Mescheder et al. 2018, eqs. 9-10)."""
    return gamma / 2 * squared_norms.mean()


def one_centred_penalty(squared_norms: Tensor, weight: float) -> Tensor:
    """weight E (||dD/dx|| - 1)^2 at points between real and generated ones (Gulrajani et al. 2017, eq. 3)."""
    return weight * ((squared_norms + 1e-12).sqrt() - 1).square().mean()


def interpolate(x_real: Tensor, x_fake: Tensor, u: Tensor) -> Tensor:
    """u x_real + (1 - u) x_fake with u uniform in [0, 1), (B,): where the one-centred penalty is taken."""
    u = u.view(-1, *[1] * (x_real.ndim - 1))
    return u * x_real + (1 - u) * x_fake


def penalised_discriminator_loss(
    score: Callable[[Tensor, Tensor | None], Tensor],
    x_real: Tensor,
    x_fake: Tensor,
    label: Tensor | None,
    loss: str,
    r1: float = 0.0,
    r2: float = 0.0,
    lazy: int = 1,
) -> tuple[Tensor, dict[str, Tensor]]:
    """What D minimises, R1 and R2 (their gamma) included, and its parts for people to read.

    score(x, label) -> (B,); x_real, x_fake (B, *shape): pairs, which share a row of the label (B, K), one-hot, or None.
    lazy: one in so many pairs is penalised, the first ones. One joint pass through D: no score depends on other examples.
    """
    x = torch.stack([x_real, x_fake.detach()], 1).flatten(0, 1)  # real and fake in turn
    both = None if label is None else label.repeat_interleave(2, 0)
    penalised = 2 * math.ceil(len(x_real) / lazy) if r1 or r2 else 0
    scores, slopes = scores_and_squared_gradients(
        lambda part, rows: score(part, None if both is None else both[rows]), x, penalised
    )
    real, fake = scores.view(-1, 2).unbind(1)
    value = DISCRIMINATOR[loss](real, fake)
    terms = {"d_loss": value, "score_real": real.mean(), "score_fake": fake.mean()}
    if penalised:
        slope_real, slope_fake = slopes.view(-1, 2).unbind(1)
        value = value + zero_centred_penalty(slope_real, r1) + zero_centred_penalty(slope_fake, r2)
        terms |= {"slope_real": slope_real.mean(), "slope_fake": slope_fake.mean()}
    return value, terms


# -- sampling with D --------------------------------------------------------------------------------------------

LOG_RATIOS = (
    "minimax",
    "non-saturating",
    "relativistic",
)  # losses whose best D is log p(x) / q(x), up to a constant for each label
CANDIDATES = 8


class ImportanceResampler(nn.Module):
    """Of several draws of G one, by D: sampling-importance-resampling (Rubin 1987) from q towards p.

    The same ratio p / q serves Azadi et al. 2019 (arXiv:1810.06758) to reject samples, and Turner et al. 2019
    (arXiv:1811.11357) in a Markov chain; here no largest ratio has to be estimated and nothing waited for.
    sureness: the factor that makes D's scores log ratios. Penalties keep D from being as sure as it could be.
    """

    def __init__(self):
        super().__init__()
        self.register_buffer("sureness", torch.ones(()))

    def calibrate(self, real: Tensor, fake: Tensor) -> None:
        """Measures sureness; real, fake: (n,) scores of pairs of one label."""
        self.sureness.fill_(fit_score_scale(real, fake))

    def forward(
        self,
        draw: Callable[[Rng], Tensor],
        score: Callable[[Tensor], Tensor],
        candidates: int,
        rng: Rng,
        temperature: float = 1.0,
    ) -> Tensor:
        """One of so many draws with chances in proportion to exp(sureness score / temperature): the largest of sureness score +
        temperature x Gumbel noise.

        draw(rng) -> x (B, *shape); score: x -> (B,). The first candidate is what one draw alone would be.
        With many candidates and exact scores what is kept is distributed as q (p / q)^(1 / temperature); of K it is never above K q.
        temperature: 1 aims at p; below it D's favourites are preferred, at the price of variety, at 0 always; above it q is nearer.
        """
        x = draw(rng)
        if candidates == 1:
            return x
        most = self.noisy(score(x), temperature, rng.at("candidate", 0))
        for k in range(1, candidates):
            new = draw(rng.at("candidate", k))
            value = self.noisy(score(new), temperature, rng.at("candidate", k))
            better = (value > most).view(-1, *[1] * (new.ndim - 1))
            x, most = torch.where(better, new, x), torch.maximum(value, most)
        return x

    def noisy(self, score: Tensor, temperature: float, rng: Rng) -> Tensor:
        """sureness score + temperature x Gumbel noise (B,); what is not finite comes last."""
        u = rng.uniform("u", score.shape).clamp(1e-7, 1 - 1e-7)
        value = self.sureness * score.float() - temperature * (-u.log()).log()
        return torch.where(value.isfinite(), value, -math.inf)

    def _load_from_state_dict(self, state_dict, prefix, *others) -> None:
        state_dict.setdefault(
            f"{prefix}sureness", torch.ones(())
        )  # of runs that were trained before it was measured
        super()._load_from_state_dict(state_dict, prefix, *others)


def fit_score_scale(real: Tensor, fake: Tensor) -> float:
    """The factor >= 0 for which factor x score tells best which of a pair is real, scores (n,): of softplus(factor (fake - real)),
    nats, the smallest mean. 1: an ideal D without penalties; 0: scores that say nothing of examples which D has not learned from,
    or are not finite; at most 64. The mean is convex in the factor: its slope is bisected. Where all pairs are told apart it would
    have no minimum: one pair in n + 2 counts as turned round (Platt 1999)."""
    difference = (fake - real).double().cpu()
    doubt = 1 / (len(difference) + 2)

    def slope(factor):
        return float((difference * (torch.sigmoid(factor * difference) - doubt)).mean())

    low, high = 0.0, 64.0
    if not slope(low) < 0:  # NaN too
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return low


def hard_categories(x: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """Probabilities of each one-hot block of x (B, D) -> the most probable one, with their gradient (straight through)."""
    if all(size == 1 for size in blocks):
        return x
    parts = [
        part
        if part.shape[1] == 1
        else one_hot(part.argmax(1), part.shape[1]) + (part - part.detach())
        for part in x.split(blocks, 1)
    ]
    return torch.cat(parts, 1)
