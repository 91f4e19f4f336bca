"""Autoguidance: a diffusion model guided by a weaker one (Karras et al. 2024, arXiv:2406.02507)."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..core.capabilities import GuidedByModel, has
from ..core.config import build
from ..core.errors import UsageError
from ..runs.load import LoadedRun


@contextmanager
def guided_by(loaded: LoadedRun, weak: LoadedRun | None, options: dict) -> Iterator[None]:
    """Inside this context, the model samples with guidance away from the weak model's prediction.

    weak: a smaller or less trained model of the same data and path, with the same first stage if
    there is one; None changes nothing. The option ``guidance`` is the strength. Raises UsageError.
    """
    if weak is None:
        yield
        return
    if not (has(loaded.model, GuidedByModel) and has(weak.model, GuidedByModel)):
        raise UsageError(
            "only a diffusion model is guided by another model, and only by a diffusion model: "
            "leave --guide-with out"
        )
    if weak.dataset.digest != loaded.dataset.digest:
        raise UsageError(
            f"{weak.run.path} was trained on other data than {loaded.run.path}: guide with a model "
            "of the same data"
        )
    if first_stage(loaded) != first_stage(weak):
        raise UsageError(
            f"{weak.run.path} works on the codes of another first stage than {loaded.run.path}: "
            "guide with a run within the same one"
        )
    if build(loaded.family.Options, options).guidance == 1:
        raise UsageError(
            "--guide-with says by what to guide, --guidance how much: add --guidance 1.5, "
            "or leave it out"
        )
    loaded.model.guide_with(weak.model)
    try:
        yield
    finally:
        loaded.model.guide_with(None)


def first_stage(loaded: LoadedRun) -> str | None:
    """The digest of the first stage of a model of two stages, None for other models."""
    return loaded.run.info["config"].get("digest")
