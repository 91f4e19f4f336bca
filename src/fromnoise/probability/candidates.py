"""Samples of a GAN selected by its discriminator: which GANs can, and from how many candidates."""

from collections.abc import Callable

from torch import Tensor

from ..core.errors import UsageError
from ..core.rng import Rng
from .adversarial import CANDIDATES, LOG_RATIOS, ImportanceResampler


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


class CandidateSampler(ImportanceResampler):
    """For each sample, one of several draws of the generator, selected by the discriminator.

    reason: why the scores cannot be calibrated, or an empty string.
    is_measured: False if they are not, as those of codes of another run.
    """

    def __init__(self, reason: str = ""):
        super().__init__()
        self.reason = reason
        self.is_measured = True

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
        return self(draw, score, candidates, rng, 1.0 if temperature is None else temperature)


class SelectsCandidates:
    """The capability ``ChoosesSamples`` of a family with a CandidateSampler ``choice``."""

    choice: CandidateSampler

    @property
    def measured(self) -> bool:
        return self.choice.is_measured

    @measured.setter
    def measured(self, value: bool) -> None:
        self.choice.is_measured = value

    def why_never(self) -> str:
        return self.choice.why_never()

    def candidates(self, asked: int | None = None) -> int:
        return self.choice.count(asked)

    def calibrate(self, real: Tensor, fake: Tensor) -> None:
        self.choice.calibrate(real, fake)
