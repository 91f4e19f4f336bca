"""The figures of a page about several runs."""

from collections.abc import Sequence
from pathlib import Path

from ...evaluate.quality_reference import QualityReference
from ...runs.load import LoadedRun
from ..catalogue import ALL_FIGURES, show
from ..context import FigureContext
from ..figure import Figure, PageRequest
from ..side_by_side import titles_of
from ..style import drawing, save


def page_figures(
    runs: Sequence[LoadedRun],
    out: Path,
    titles: Sequence[str] | None = None,
    *,
    seed: int = 0,
    command: str = "",
    reports: Sequence[dict] = (),
    quality_reference: QualityReference | None = None,
) -> dict[str, Path]:
    """Draws the figures of a page into ``out``: PNGs by "figure" or "run/figure", for write_page.

    reports: of the same runs, for figures of measured values; quality_reference: of these reports.
    """
    contexts = [FigureContext(run, seed, command=command) for run in runs]
    page = PageRequest(contexts, titles_of(runs, titles), reports, quality_reference)
    files: dict[str, list[Path]] = {}
    for figure in ALL_FIGURES:
        files[figure.name] = compare_runs(figure, page, out)
        for i, context in enumerate(contexts):
            if is_on_page(figure, context):
                other = figure.choose_other(runs, runs[i]) if figure.choose_other else None
                options = {"seed": seed, "command": command, "plain": other, "skip": True}
                key = f"{runs[i].run.name}/{figure.name}"
                files[key] = show(runs[i], [figure.name], out=out / str(i), **options)
    return {key: _png_of(paths) for key, paths in files.items() if paths}


def compare_runs(figure: Figure, page: PageRequest, out: Path) -> list[Path]:
    """Draws one figure of several models. Returns its files, [] if these models cannot have it."""
    if figure.compare is None:
        return []
    with drawing():
        compared = figure.compare(page)
        return save(compared, out, figure.name) if compared else []


def is_on_page(figure: Figure, context: FigureContext) -> bool:
    """True if the page shows this figure of this model."""
    return bool(figure.on_page) and not figure.why_not(context) and not figure.on_page(context)


def _png_of(paths: list[Path]) -> Path:
    return next(path for path in paths if path.suffix == ".png")
