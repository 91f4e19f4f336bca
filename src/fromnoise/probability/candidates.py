"""Samples of a GAN selected by its discriminator: which GANs can, and from how many candidates."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.rng import Rng

# Losses whose optimal D is log p(x) / q(x), up to a constant for each label.
LOG_RATIOS = ("minimax", "non-saturating", "relativistic")
CANDIDATES = 8
MAX_SCORE_SCALE = 64.0


def why_no_candidates(loss: str, is_joint: bool, is_augmented: bool) -> str:
    """Why the scores of a discriminator cannot be calibrated, or an empty string.

    is_joint: its score of an example depends on others; is_augmented: it sees augmented images.
    """
    if loss not in LOG_RATIOS:
        return f"the score of a discriminator of --loss {loss} is no ratio of densities"
    if is_joint:
        return "this discriminator scores several examples at once"
    if is_augmented:
        return "this discriminator was trained on augmented examples only"
    return ""


class CandidateSampler(nn.Module):
    """Keeps one of several draws of G, by D's scores: moves samples from q towards p.

    This is sampling-importance-resampling (Rubin 1987) with the density ratio p / q that D
    estimates. The same ratio serves rejection sampling (Azadi et al. 2019, arXiv:1810.06758) and a
    Markov chain (Turner et al. 2019, arXiv:1811.11357); here no largest ratio has to be estimated,
    and there is no burn-in.

    sureness: the factor that turns D's scores into log ratios: with penalties D underestimates them.
    reason: why the scores cannot be calibrated, or an empty string.
    is_measured: False if they are not, as those of codes of another run.
    """

    sureness: Tensor

    def __init__(self, reason: str = ""):
        super().__init__()
        self.register_buffer("sureness", torch.ones(()))
        self.reason = reason
        self.is_measured = True

    def calibrate(self, real: Tensor, fake: Tensor) -> None:
        """Sets sureness from scores (n,) of pairs that share their label."""
        self.sureness.fill_(fit_score_scale(real, fake))

    def why_never(self) -> str:
        """Why the scores are never calibrated, or an empty string."""
        if not self.reason and not self.is_measured:
            return "the scores that this discriminator gives to codes are not measured"
        return self.reason

    def why_one(self) -> str:
        """Why there is one candidate only, or an empty string."""
        reason = self.why_never()
        if not reason and self.sureness == 0:
            return "this discriminator does not separate examples that it was not trained on"
        return reason

    def count(self, asked: int | None = None) -> int:
        """The number of candidates; asked: by the user. Raises UsageError."""
        why = self.why_one()
        if why and (asked or 1) > 1:
            raise UsageError(f"--candidates 1, or leave it out: {why}")
        return asked or (1 if why else CANDIDATES)

    def sample(
        self,
        draw: Callable[[Rng], Tensor],
        score: Callable[[Tensor], Tensor],
        options,
        rng: Rng,
    ) -> Tensor:
        """draw(rng) -> x (B, *shape); score(x) -> (B,). Raises UsageError.

        options: with the number of candidates and the temperature, or None for the defaults.
        """
        candidates = self.count(options.candidates)
        temperature = options.temperature
        if candidates == 1 and temperature is not None:
            why = self.why_one() or "--candidates is 1"
            raise UsageError(
                "--temperature is of D's choice among candidates, "
                f"and there is only one ({why}): leave it out"
            )
        temperature = 1.0 if temperature is None else temperature
        return self.select(draw, score, candidates, rng, temperature)

    def select(
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
    difference = (fake - real).cpu().double()
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
