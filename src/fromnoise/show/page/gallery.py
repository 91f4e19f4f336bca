"""The figures of a page about several runs."""

from collections.abc import Sequence
from pathlib import Path

from ...evaluate.quality_reference import QualityReference
from ...runs.load import LoadedRun
from ..catalogue import ALL_FIGURES, show
from ..context import FigureContext
from ..figure import Figure, PageRequest
from ..side_by_side import title_of


def page_figures(
    runs: Sequence[LoadedRun],
    out: Path,
    titles: Sequence[str] | None = None,
    *,
    seed: int = 0,
    split: str = "test",
    command: str = "",
    reports: Sequence[dict] = (),
    quality_reference: QualityReference | None = None,
) -> dict[str, Path]:
    """Draws the figures of a page into ``out``: PNGs by "figure" or "run/figure", for write_page.

    reports: of the same runs, for figures of measured values; quality_reference: of these reports.
    """
    titles = list(titles or map(title_of, runs))
    page = PageRequest(runs, titles, out, seed, split, command, reports, quality_reference)
    files: dict[str, list[Path]] = {}
    for figure in ALL_FIGURES:
        if figure.compare is not None:
            files[figure.name] = figure.compare(page)
        for i, run in enumerate(runs):
            if is_on_page(figure, run):
                files[f"{run.run.name}/{figure.name}"] = _draw_one(figure, page, i)
    return {key: _png_of(paths) for key, paths in files.items() if paths}


def is_on_page(figure: Figure, run: LoadedRun) -> bool:
    """True if the page shows this figure of this model."""
    context = FigureContext(run)
    return figure.draw is not None and not figure.why_not(context) and figure.on_page(context)


def _draw_one(figure: Figure, page: PageRequest, i: int) -> list[Path]:
    """The figure of one model. Returns its files, or [] if the data do not allow it."""
    run = page.runs[i]
    other = figure.choose_other(page.runs, run) if figure.choose_other is not None else None
    folder = page.out / str(i)
    return show(run, [figure.name], plain=other, out=folder, skip=True, **page.options)


def _png_of(paths: list[Path]) -> Path:
    return next(path for path in paths if path.suffix == ".png")
