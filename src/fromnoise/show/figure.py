"""What a file of show/figures declares: a figure, the models that have it, its section on a page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluate.quality_reference import QualityReference
from ..runs.load import LoadedRun
from .context import FigureContext
from .style import Drawing


@dataclass(frozen=True)
class Section:
    """A section of the comparison page.

    place     sections follow each other by this number
    is_small  two of its figures fit beside each other
    """

    title: str
    text: str
    place: int
    is_small: bool = False


@dataclass(frozen=True)
class PageRequest:
    """Several models of the same data whose figures a page shows; each has a title.

    out                the folder that figures are written to
    reports            of the same runs, for figures of measured values; may be empty
    quality_reference  the reference data that the reports were measured with
    """

    runs: Sequence[LoadedRun]
    titles: Sequence[str]
    out: Path
    seed: int = 0
    split: str = "test"
    command: str = ""
    reports: Sequence[dict] = ()
    quality_reference: QualityReference | None = None

    @property
    def options(self) -> dict:
        return {"seed": self.seed, "split": self.split, "command": self.command}

    @property
    def has_images(self) -> bool:
        return self.runs[0].dataset.spec.kind == "image"


def never(context: FigureContext) -> bool:
    return False


def always(context: FigureContext) -> bool:
    return True


def available(context: FigureContext) -> str:
    return ""


@dataclass(frozen=True)
class Figure:
    """One figure. Its file in show/figures holds it as FIGURE, or as one of FIGURES.

    name          as in `fromnoise show RUN NAME`; also the name of its files
    about, group  one line of help, and its heading (one of names.GROUPS, or a new one)
    why_not       "" if the model can have the figure, else the reason
    draw          draws it for one model; None if it only compares models
    section       of the comparison page; without one it stands under "More figures"
    on_page       True if the page shows the figure of each model that can have it
    compare       draws one figure of several models for the page; returns its files, [] for none
    choose_other  the model that the page draws beside a model (FigureContext.other), or None
    """

    name: str
    about: str
    group: str = ""
    why_not: Callable[[FigureContext], str] = available
    draw: Callable[[FigureContext], Drawing] | None = None
    section: Section | None = None
    on_page: Callable[[FigureContext], bool] = never
    compare: Callable[[PageRequest], list[Path]] | None = None
    choose_other: Callable[[Sequence[LoadedRun], LoadedRun], LoadedRun | None] | None = None
