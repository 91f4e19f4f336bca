"""Checks of a figure: it is drawn of small trained runs that can have it, twice in the same way."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from ..runs.load import LoadedRun
from ..show.context import FigureContext
from ..show.figure import Figure, PageRequest
from ..show.style import Drawing, drawing, finite, save
from .small_runs import train_small_runs


class FigureSuite:
    """A figure under test, and small runs of several kinds of data and families."""

    def __init__(self, figure: Figure, folder: Path):
        self.figure = figure
        self.folder = folder

    @cached_property
    def runs(self) -> list[LoadedRun]:
        return train_small_runs(self.folder)

    @cached_property
    def reasons(self) -> dict[str, str]:
        """Run -> why it cannot have the figure, or ""."""
        return {loaded.run.name: self.why_not(loaded) for loaded in self.runs}

    def why_not(self, loaded: LoadedRun) -> str:
        reason = self.figure.why_not(FigureContext(loaded))
        assert isinstance(reason, str), f"a condition of needs must return a text, not {reason!r}"
        return reason

    @property
    def available(self) -> list[LoadedRun]:
        return [loaded for loaded in self.runs if not self.reasons[loaded.run.name]]

    def draw(self, loaded: LoadedRun) -> Drawing:
        assert self.figure.draw is not None
        with drawing():
            drawn = self.figure.draw(FigureContext(loaded))
        assert isinstance(drawn, Drawing), "draw must return a Drawing: `return sheet.finish(...)`"
        return drawn


@contextmanager
def figure_suite(figure: Figure) -> Iterator[FigureSuite]:
    """A suite whose runs are removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        yield FigureSuite(figure, Path(folder))


def check_declaration(suite: FigureSuite) -> None:
    """the name is one word, and about is one line"""
    figure = suite.figure
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", figure.name), (
        f"the name {figure.name!r} must be lower case letters, digits, _ and -: it names files"
    )
    assert figure.about and "\n" not in figure.about, "about must be one line"
    assert figure.draw or figure.compare, "a figure needs draw or compare"


def check_availability(suite: FigureSuite) -> None:
    """each condition of needs returns a text, and one of the small runs can have the figure"""
    assert suite.available, f"no small run can have it: {suite.reasons}"


def check_drawing(suite: FigureSuite) -> None:
    """it is drawn and saved as PNG, SVG and JSON, with a text for those who cannot see it"""
    if suite.figure.draw is None:
        return
    for loaded in suite.available:
        drawn = suite.draw(loaded)
        assert drawn.alt, "Sheet.finish needs a text that describes the figure: alt"
        with drawing():
            files = save(drawn, suite.folder / "figures", suite.figure.name)
        missing = {".png", ".svg", ".json"} - {file.suffix for file in files if file.is_file()}
        assert not missing, f"these files are missing: {sorted(missing)}"


def check_repetition(suite: FigureSuite) -> None:
    """the same run and seed give the same numbers"""
    if suite.figure.draw is None:
        return
    loaded = suite.available[0]
    first = json.dumps(finite(suite.draw(loaded).numbers))
    second = json.dumps(finite(suite.draw(loaded).numbers))
    assert first == second, (
        "drawn twice, it has other numbers: draw random numbers from context.rng"
    )


def check_page(suite: FigureSuite) -> None:
    """the figure of several models, if there is one, is drawn for a page"""
    if suite.figure.compare is None:
        return
    loaded = suite.available[0]
    context = FigureContext(loaded)
    with drawing():
        drawn = suite.figure.compare(PageRequest([context, context], ["first", "second"]))
    assert drawn is None or isinstance(drawn, Drawing), "compare must return a Drawing, or None"


FIGURE_CHECKS = (
    check_declaration,
    check_availability,
    check_drawing,
    check_repetition,
    check_page,
)
