"""What a file of show/figures declares: a figure, the models that have it, its section on a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..evaluate.quality_reference import QualityReference
from ..runs.load import LoadedRun
from .context import FigureContext
from .style import Drawing


@dataclass(frozen=True)
class Section:
    """A section of the comparison page.

    place     sections follow each other by this number
    is_small  two figures stand beside each other already; others do so from three on
    """

    title: str
    text: str
    place: int
    is_small: bool = False


@dataclass(frozen=True)
class PageRequest:
    """Several models of the same data that a page compares.

    titles             of the models, all different
    reports            of the same models, for figures of measured values; may be empty
    quality_reference  the data that samples are measured against
    """

    contexts: list[FigureContext]
    titles: list[str]
    reports: Sequence[dict] = ()
    quality_reference: QualityReference | None = None

    @property
    def samples_reference(self) -> QualityReference:
        """``quality_reference``, or that of the data."""
        return self.quality_reference or self.contexts[0].quality_reference

    @property
    def has_images(self) -> bool:
        return self.contexts[0].spec.kind == "image"


def always(context: FigureContext) -> str:
    """A condition that every model meets."""
    return ""


@dataclass(frozen=True)
class Figure:
    """One figure. Its file in show/figures holds it as FIGURE, or as one of FIGURES.

    name          as in `fromnoise show RUN NAME`; also the name of its files
    about, group  one line of help, and its heading (one of names.GROUPS, or a new one)
    needs         conditions: functions of a FigureContext that return "" if the model can have the
                  figure, else the reason in words; several are in show/conditions.py
    draw          draws it for one model; None if it only compares models
    section       its heading and place on the comparison page, if ``on_page`` or ``compare`` puts
                  it there; without one it stands under "More figures"
    on_page       a further condition for the page; ``always``: each model that can have the
                  figure; None: no model
    compare       draws one figure of several models for the page, or None
    choose_other  the model that the page draws beside a model (FigureContext.other), or None
    """

    name: str
    about: str
    group: str = ""
    needs: Sequence[Callable[[FigureContext], str]] = ()
    draw: Callable[[FigureContext], Drawing] | None = None
    section: Section | None = None
    on_page: Callable[[FigureContext], str] | None = None
    compare: Callable[[PageRequest], Drawing | None] | None = None
    choose_other: Callable[[Sequence[LoadedRun], LoadedRun], LoadedRun | None] | None = None

    def why_not(self, context: FigureContext) -> str:
        """The first reason why the model cannot have the figure, or ""."""
        for condition in self.needs:
            if reason := condition(context):
                return reason
        return ""
