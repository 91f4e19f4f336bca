"""From a run to its figures. Which ones a model can have is asked of its capabilities, never of its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...core.capabilities import (
    Completes,
    Corrupts,
    Decodes,
    Denoises,
    DrawsLatents,
    Encodes,
    EncodesDistribution,
    Judges,
    Predicts,
    Reconstructs,
    Traces,
    has,
)
from ...core.errors import DataError, UsageError, did_you_mean
from ...evaluate.attributes import has_attributes
from ...inference.invert import why_not as why_no_inversion
from ...inference.text import is_text_model
from ...runs.load import LoadedRun
from ..context import FigureContext
from ..style import Drawing, drawing, save
from . import (
    captions,
    compare,
    counting,
    curves,
    film,
    images,
    latent,
    neighbours,
    noise,
    progress,
    solver,
    text,
    vectors,
)
from . import discriminator as duel
from . import latent_paths as walks
from . import pixel_order as order
from .compare import compare_planes

__all__ = ["FIGURES", "Kind", "compare_planes", "show"]


@dataclass(frozen=True)
class Kind:
    """about: one line of help; why_not: "" when the subject can have the figure, else the reason."""

    about: str
    why_not: Callable[[FigureContext], str]
    draw: Callable[[FigureContext], Drawing]


def _all(*conditions: Callable[[FigureContext], str]) -> Callable[[FigureContext], str]:
    """The first reason against, in order."""
    return lambda subject: next(
        (reason for condition in conditions if (reason := condition(subject))), ""
    )


def _is_image(s: FigureContext) -> str:
    return (
        ""
        if s.spec.kind == "image"
        else f"it is for images, and {s.dataset.name} holds {'points and tables' if s.spec.kind == 'vector' else 'text'}"
    )


def _is_text(s: FigureContext) -> str:
    return (
        ""
        if is_text_model(s.loaded)
        else "it is for models that predict text, one symbol after another"
    )


def _text_is_predicted(s: FigureContext) -> str:
    return _is_text(s) if s.spec.kind == "tokens" else ""


def _predicts(s: FigureContext) -> str:
    return "" if has(s.model, Predicts) else "this model does not predict one symbol after another"


def _completes(s: FigureContext) -> str:
    return "" if has(s.model, Completes) else "this model completes nothing"


def _has_pixels(s: FigureContext) -> str:
    return order.why_no_pixels(s) if s.spec.kind == "image" else ""


def _trained(s: FigureContext) -> str:
    return (
        ""
        if len(s.loaded.run.events("interval")) > 1
        else "it needs at least two intervals of training, and this run has none or one"
    )


def _reconstructs(s: FigureContext) -> str:
    return "" if has(s.model, Reconstructs) else "this model reconstructs nothing"


def _encodes(s: FigureContext) -> str:
    return "" if has(s.model, Encodes) else "this model has no encoder"


def _decodes(s: FigureContext) -> str:
    return "" if has(s.model, Decodes) else "this model has no decoder"


def _has_dims(s: FigureContext) -> str:
    return compare.why_no_dims(s)


def _denoises(s: FigureContext) -> str:
    corrupts = has(s.model, Corrupts) and getattr(s.model.config, "corruption", "none") != "none"
    return (
        ""
        if corrupts
        else "this model was not trained to denoise: train one with --corruption gaussian"
    )


def _has_kl(s: FigureContext) -> str:
    return (
        "" if has(s.model, EncodesDistribution) else "this model has no KL term by latent dimension"
    )


def _has_pair(s: FigureContext) -> str:
    return (
        ""
        if walks.pairs(s, 1)
        else f"it needs two images of different classes in the {s.split} split"
    )


def _inverts(s: FigureContext) -> str:
    return why_no_inversion(s.model)


def _has_latents(s: FigureContext) -> str:
    return (
        ""
        if has(s.model, Decodes) and has(s.model, DrawsLatents)
        else "this model has no latent vectors that it draws and decodes"
    )


def _has_levels(s: FigureContext) -> str:
    return (
        "" if film.option_of(s) else f"this model samples without any of {', '.join(film.LEVELS)}"
    )


def _sees_noise(s: FigureContext) -> str:
    return (
        ""
        if has(s.model, Denoises)
        else "this model does not see through noise of every level: diffusion models do"
    )


def _traces(s: FigureContext) -> str:
    return (
        ""
        if has(s.model, Traces)
        else "this model makes its samples at once, not step by step from noise"
    )


def _captions(s: FigureContext) -> str:
    return (
        ""
        if has_attributes(s.loaded)
        else "it is for models that were told the captions of shapes (--conditional)"
    )


def _judges(s: FigureContext) -> str:
    return "" if has(s.model, Judges) else "this model has no discriminator"


def _draw_samples(subject: FigureContext) -> Drawing:
    return {"image": images, "tokens": text, "vector": vectors}[subject.spec.kind].draw_samples(
        subject
    )


def _draw_surprise(subject: FigureContext) -> Drawing:
    return (order if subject.spec.kind == "image" else text).draw_surprise(subject)


FIGURES: dict[str, Kind] = {
    "curves": Kind(
        "loss parts and held-out metric over the steps, which phase trains when",
        _trained,
        curves.draw_curves,
    ),
    "progress": Kind(
        "what the same noise became over the course of training",
        progress.why_not,
        progress.draw_progress,
    ),
    "samples": Kind(
        "samples beside their nearest training examples; points and tables beside the real ones; texts with what they copy",
        _text_is_predicted,
        _draw_samples,
    ),
    "captions": Kind(
        "samples for seen and unseen captions, and whether they show what these say",
        _captions,
        captions.draw_captions,
    ),
    "nearest": Kind(
        "samples nearest to the training set, and farthest from it",
        _is_image,
        neighbours.draw_nearest,
    ),
    "film": Kind(
        "a closed walk through the latent space, as an animated picture too",
        _all(_is_image, _has_latents),
        film.draw_film,
    ),
    "truncation": Kind(
        "the same z drawn ever nearer to the middle, with its diversity",
        _all(_is_image, _has_levels),
        film.draw_truncation,
    ),
    "forward": Kind(
        "images at rising levels of noise, and what the model sees in them",
        _all(_is_image, _sees_noise),
        noise.draw_forward,
    ),
    "denoising": Kind(
        "samples on their way from noise, and what the model takes them for",
        _all(_is_image, _traces),
        noise.draw_denoising,
    ),
    "trajectories": Kind(
        "ways of points from noise to data, and the field that moves them",
        _all(noise.is_plane, _traces, _sees_noise),
        noise.draw_trajectories,
    ),
    "steps": Kind(
        "quality against the evaluations of the network for a sample",
        noise.why_no_steps,
        noise.draw_steps,
    ),
    "solver": Kind(
        "the solver's error beside the network's: distance and variances at few evaluations and converged",
        solver.why_no_solver,
        solver.draw_solver,
    ),
    "duel": Kind(
        "the discriminator's score over the plane with its push on fakes; for images what it is sure of",
        _all(_judges, duel.why_not),
        duel.draw_duel,
    ),
    "invert": Kind(
        "real images above, the nearest that the decoder can make below",
        _all(_is_image, _inverts),
        walks.draw_invert,
    ),
    "recon": Kind(
        "input above, reconstruction below", _all(_is_image, _reconstructs), images.draw_recon
    ),
    "worst": Kind(
        "the eight worst reconstructions", _all(_is_image, _reconstructs), images.draw_worst
    ),
    "denoise": Kind(
        "noisy, denoised, clean, at a trained and an untrained level",
        _all(_is_image, _reconstructs, _denoises),
        images.draw_denoise,
    ),
    "scatter": Kind("latent codes by class", _all(_encodes, _has_dims), latent.draw_scatter),
    "grid": Kind(
        "images decoded over the latent plane",
        _all(_is_image, _encodes, _decodes, _has_dims),
        latent.draw_grid,
    ),
    "planes": Kind(
        "scatter and grid of this model and of another one",
        compare.why_no_pair,
        compare.draw_planes,
    ),
    "traverse": Kind(
        "one latent dimension at a time", _all(_is_image, _encodes, _decodes), walks.draw_traverse
    ),
    "interp": Kind(
        "between two images, through the codes",
        _all(_is_image, _encodes, _decodes, _has_pair),
        walks.draw_interp,
    ),
    "window": Kind(
        "bits per character against the symbols looked back on, beside counts",
        _is_text,
        counting.draw_window,
    ),
    "surprise": Kind(
        "how much each character or pixel surprises the model",
        _all(_predicts, _text_is_predicted, _has_pixels),
        _draw_surprise,
    ),
    "next": Kind("the likeliest next symbols at some places of a text", _is_text, text.draw_next),
    "bigrams": Kind(
        "p(next symbol | symbol), learned and counted", _is_text, counting.draw_bigrams
    ),
    "completions": Kind(
        "upper halves, several ways to go on, the truth",
        _all(_is_image, _completes),
        order.draw_completions,
    ),
    "order": Kind(
        "samples as they fill symbol by symbol, as an animated picture too",
        _all(_is_image, _predicts, _has_pixels),
        order.draw_order,
    ),
    "kl": Kind(
        "KL by latent dimension, active units",
        _all(_encodes, _has_kl, curves.why_no_kl),
        curves.draw_kl,
    ),
}


def print_nothing(text: str) -> None:
    """Where nobody asked to be told."""


def show(
    loaded: LoadedRun,
    names: list[str] | None = None,
    *,
    seed: int = 0,
    split: str = "test",
    dims: tuple[int, int] = (0, 1),
    command: str = "",
    out: Path | None = None,
    sampled: bool = False,
    label: int | str | None = None,
    plain: LoadedRun | None = None,
    say: Callable[[str], None] = print_nothing,
    skip: bool | None = None,
) -> list[Path]:
    """Draws figures of a model into ``out`` (the run's own figures/) as PNG, SVG and JSON; returns the files.

    names    of FIGURES; None draws every one that this model can have
    dims     the latent dimensions of ``scatter`` and ``grid``
    sampled  ``scatter`` draws z ~ q(z | x) instead of the posterior's mean
    label    the class, by name or number, that a conditional model decodes in ``grid`` and ``traverse`` (the first that it learned when not given)
    skip     leave out a figure that these data do not allow, instead of an error (None: where names is None)
    say      receives one line for each figure that is left out
    plain    the model beside this one: in ``denoise`` an ordinary autoencoder, in ``planes`` the other plane
    Raises UsageError: an unknown figure, or one that this model cannot have, with the reason. UsageError, DataError: a figure
    that these data do not allow, unless it is left out.
    """
    skip = names is None if skip is None else skip
    loaded.dataset.split(split)
    label = None if label is None else loaded.dataset.class_number(label)
    subject = FigureContext(loaded, seed, split, tuple(dims), command, sampled, label, plain)
    if names is None:
        names = [name for name, kind in FIGURES.items() if not kind.why_not(subject)]
    for name in names:  # complain before drawing anything
        if name not in FIGURES:
            raise UsageError(
                f"there is no figure '{name}'.{did_you_mean(name, FIGURES)} Known: {', '.join(FIGURES)}"
            )
        if reason := FIGURES[name].why_not(subject):
            fitting = [
                name for name in names if name in FIGURES and not FIGURES[name].why_not(subject)
            ]
            others = (
                f" Of those asked for it can have {', '.join(fitting)}."
                if fitting
                else " Without names every figure that it can have is drawn."
            )
            raise UsageError(f"no figure '{name}' of {loaded.run.path}: {reason}.{others}")
    files = []
    with drawing():
        for name in names:
            try:
                made = FIGURES[name].draw(subject)
            except (UsageError, DataError) as error:
                if not skip:
                    raise
                say(f"figure '{name}' is skipped: {error}")
                continue
            files += save(made, out or loaded.run.path / "figures", name)
    loaded.run.record_outputs(files)
    return files
