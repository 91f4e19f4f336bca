"""All figures, discovered in show/figures and in the user's folders; draws those that a model can have."""

from collections.abc import Callable
from pathlib import Path

from ..core.errors import DataError, UsageError, did_you_mean
from ..core.extensions import discover_instances, explain_user_error
from ..runs.load import LoadedRun
from . import figures
from .context import FigureContext
from .figure import Figure
from .names import GROUPS
from .style import drawing, save


def discover_figures() -> list[Figure]:
    """FIGURE or FIGURES of every file of show/figures and of the user, by group and name.

    Raises UsageError: a file of the user is wrong.
    """
    discovered = [figure for _, figure in discover_instances(figures, "FIGURE", Figure)]
    return sorted(
        discovered, key=lambda figure: (figure.draw is None, _group_place(figure), figure.name)
    )


def _group_place(figure: Figure) -> int:
    return GROUPS.index(figure.group) if figure.group in GROUPS else len(GROUPS)


ALL_FIGURES = discover_figures()
FIGURES = {figure.name: figure for figure in ALL_FIGURES if figure.draw is not None}


def ignore(text: str) -> None:
    """Receives messages that nobody reads."""


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
    say: Callable[[str], None] = ignore,
    skip: bool | None = None,
) -> list[Path]:
    """Draws figures of a model into ``out`` (default: figures/ of the run) as PNG, SVG and JSON.

    names    of FIGURES; None draws every figure that this model can have
    dims     the latent dimensions of ``scatter`` and ``grid``
    sampled  ``scatter`` draws z ~ q(z | x) instead of the posterior's mean
    label    the class, by name or number, that a conditional model decodes [the first learned one]
    skip     skip a figure that these data do not allow, instead of an error [if names is None]
    say      receives one line for each figure that is skipped
    plain    the model beside this one: the plain autoencoder of ``denoise``, the other model of
             ``planes`` and ``window``

    Returns the files. Raises UsageError: an unknown figure, or one that this model cannot have,
    with the reason; UsageError, DataError: a figure that these data do not allow, unless skipped.
    """
    skip = names is None if skip is None else skip
    loaded.dataset.split(split)
    label = None if label is None else loaded.dataset.class_number(label)
    context = FigureContext(loaded, seed, split, tuple(dims), command, sampled, label, plain)
    if names is None:
        names = [name for name, figure in FIGURES.items() if not figure.why_not(context)]
    _check_names(names, context)
    files = _draw_each(context, names, out or loaded.run.path / "figures", say, skip)
    loaded.run.record_outputs(files)
    return files


def _draw_each(
    context: FigureContext, names: list[str], out: Path, say: Callable[[str], None], skip: bool
) -> list[Path]:
    files = []
    with drawing():
        for name in names:
            try:
                files += save(FIGURES[name].draw(context), out, name)
            except (UsageError, DataError) as error:
                if not skip:
                    raise
                say(f"figure '{name}' is skipped: {error}")
            except Exception as error:
                explanation = explain_user_error(error)
                if not skip or not explanation:
                    raise
                say(f"figure '{name}' is skipped: {explanation}")
    return files


def _check_names(names: list[str], context: FigureContext) -> None:
    """Raises UsageError for the first name that is unknown or not available for this model."""
    for name in names:
        if name not in FIGURES:
            hint = did_you_mean(name, FIGURES)
            known = ", ".join(FIGURES)
            raise UsageError(f"there is no figure '{name}'.{hint} Known: {known}")
        if reason := FIGURES[name].why_not(context):
            path = context.loaded.run.path
            raise UsageError(f"no figure '{name}' of {path}: {reason}.{_hint(names, context)}")


def _hint(names: list[str], context: FigureContext) -> str:
    available = []
    for name in names:
        if name in FIGURES and not FIGURES[name].why_not(context):
            available.append(name)
    if available:
        return f" Available of those: {', '.join(available)}."
    return " Without names all available figures are drawn."
