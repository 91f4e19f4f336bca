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
from torch import Tensor
from torch.nn.functional import one_hot, relu, softplus

from ..core.errors import UsageError
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


def scores_and_slopes(score: Callable[[Tensor, slice], Tensor], x: Tensor, n: int) -> tuple[Tensor, Tensor]:
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


def between(x_real: Tensor, x_fake: Tensor, u: Tensor) -> Tensor:
    """u x_real + (1 - u) x_fake with u uniform in [0, 1), (B,): where the one-centred penalty is taken."""
    u = u.view(-1, *[1] * (x_real.ndim - 1))
    return u * x_real + (1 - u) * x_fake


def duel(
    score: Callable[[Tensor, Tensor | None], Tensor], x_real: Tensor, x_fake: Tensor, label: Tensor | None, loss: str,
    r1: float = 0.0, r2: float = 0.0, lazy: int = 1,
) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
    """What D minimises, R1 and R2 (their gamma) included, and its parts for people to read.

    score(x, label) -> (B,); x_real, x_fake (B, *shape): pairs, which share a row of the label (B, K), one-hot, or None.
    lazy: one in so many pairs is penalised, the first ones. One joint pass through D: no score depends on other examples.
    """
    x = torch.stack([x_real, x_fake.detach()], 1).flatten(0, 1)  # real and fake in turn
    both = None if label is None else label.repeat_interleave(2, 0)
    penalised = 2 * math.ceil(len(x_real) / lazy) if r1 or r2 else 0
    scores, slopes = scores_and_slopes(lambda part, rows: score(part, None if both is None else both[rows]), x, penalised)
    real, fake = scores.view(-1, 2).unbind(1)
    value = DISCRIMINATOR[loss](real, fake)
    terms = {"d_loss": value, "score_real": real.mean(), "score_fake": fake.mean()}
    if penalised:
        slope_real, slope_fake = slopes.view(-1, 2).unbind(1)
        value = value + zero_centred_penalty(slope_real, r1) + zero_centred_penalty(slope_fake, r2)
        terms |= {"slope_real": slope_real.mean(), "slope_fake": slope_fake.mean()}
    return value, terms


LOG_RATIOS = ("minimax", "non-saturating", "relativistic")  # losses whose best D is log p(x) / q(x), up to a constant
CANDIDATES = 8


def chosen(draw: Callable[[Rng], Tensor], score: Callable[[Tensor], Tensor], candidates: int, rng: Rng) -> Tensor:
    """Of so many draws from q one, in proportion to p / q as D sees it: x (B, *shape), nearer to p than q is.

    draw(rng) -> (B, *shape); score: x -> (B,), log p / q up to a constant for each row. Sampling-importance-resampling (Rubin
    1987): the largest of score + Gumbel noise. The same ratio serves Azadi et al. 2019 (arXiv:1810.06758) to reject samples,
    and Turner et al. 2019 (arXiv:1811.11357) in a Markov chain; here nothing has to be estimated and nothing waited for.
    """
    if candidates == 1:
        return draw(rng)
    for k in range(candidates):
        new = draw(rng.at("candidate", k))
        u = rng.at("candidate", k).uniform("u", (len(new),)).clamp(1e-7, 1 - 1e-7)
        value = score(new).float() - (-u.log()).log()
        if k == 0:
            x, most = new, value
        better = value > most
        x, most = torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, x), torch.maximum(value, most)
    return x


def calibration(real: Tensor, fake: Tensor) -> float:
    """The factor for which factor x score tells best which of each pair is real, scores (n,): the smallest mean of
    softplus(factor (fake - real)), nats, from 1/4 to 16. An unregularised ideal D has 1."""
    factors = 2.0 ** torch.linspace(-2, 4, 121, dtype=torch.float64)
    difference = (fake - real).double().cpu()
    return float(min(factors, key=lambda factor: softplus(factor * difference).mean()))


def candidates_for(loss: str, asked: int | None, why_not: str = "") -> int:
    """How many: as asked for, else ``CANDIDATES`` where D's score is a log ratio of single examples. Raises UsageError."""
    why_not = why_not or ("" if loss in LOG_RATIOS else f"the score of a discriminator of --loss {loss} is no ratio of densities")
    if why_not and (asked or 1) > 1:
        raise UsageError(f"--candidates 1, or leave it out: {why_not}")
    return asked or (1 if why_not else CANDIDATES)


def hard_categories(x: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """Probabilities of each one-hot block of x (B, D) -> the most probable one, with their gradient (straight through)."""
    if all(size == 1 for size in blocks):
        return x
    parts = [
        part if part.shape[1] == 1 else one_hot(part.argmax(1), part.shape[1]) + (part - part.detach())
        for part in x.split(blocks, 1)
    ]
    return torch.cat(parts, 1)
