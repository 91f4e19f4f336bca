"""One self-contained HTML file about several runs: no request, no script, at most two megabytes.

A content security policy in the page forbids every request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...core.files import write_atomic
from ...evaluate.known_defects import Defects
from ...evaluate.report import data_id
from ...runs.load import LoadedRun
from ..style import make_folder
from .embed import Picture, embed
from .html import Html, bullet_list, concat, document, element, paragraphs
from .numbers import numbers_table
from .sections import (
    commands_of,
    defects_of,
    differences_of,
    environment_of,
    figure_sections,
    health_of,
    texts_of,
    verdict_section,
)
from .verdict import verdict

LIMIT = 2_000_000  # bytes of the page
CSS = Path(__file__).with_name("page.css")


@dataclass(frozen=True)
class DataSection:
    """Models of other data than the page's, in a section of their own.

    name     of the section; figures as of the page
    reports  with titles
    """

    name: str
    head: str
    intro: str
    runs: list[LoadedRun]
    reports: list[dict]
    figures: dict[str, Path] = field(default_factory=dict)


def write_page(
    target: Path,
    title: str,
    intro: str,
    runs: list[LoadedRun],
    reports: list[dict],
    figures: dict[str, Path],
    commands: list[str],
    defects: Defects | None = None,
    beside: Sequence[DataSection] = (),
) -> Path:
    """Writes the page and returns its path.

    reports  one for each model, as evaluate/report.py makes them
    defects  which metric detects which defect, from evaluate/known_defects.py
    figures  PNG or SVG by "figure" or "run name/figure", from gallery.page_figures; the JSON beside
             a file holds its alt text
    Raises StorageError, UsageError for a figure that is neither PNG nor SVG.
    """
    titles = _titles(reports)
    same_data = len({data_id(run.dataset) for run in runs}) <= 1
    images: list[Picture] = []
    sections = _results(reports, figures, beside, same_data, images)
    sections += _details(reports, runs, beside, defects, commands)
    sections = [section for section in sections if section[2]]
    body = [
        element("h1", title),
        paragraphs(intro),
        verdict_section(reports, titles, runs, same_data),
        _navigation(sections),
    ]
    for name, head, content in sections:
        body.append(element("section", element("h2", head), Html("\n"), content, id=name))
    html = document(title, CSS.read_text("utf-8"), concat(body, "\n"))
    make_folder(target.parent)
    write_atomic(target, embed(html, images, LIMIT))
    return target


def _results(
    reports: list[dict],
    figures: dict[str, Path],
    beside: Sequence[DataSection],
    same_data: bool,
    images: list[Picture],
) -> list[tuple[str, str, Html]]:
    """Name, head and content of the sections of numbers, texts, figures and other data."""
    titles = _titles(reports)
    sections = [("numbers", "Models and numbers", numbers_table(reports, titles, same_data))]
    sections.append(("texts", "Texts", texts_of(reports, titles)))
    sections += figure_sections(figures, _titles_by_run(reports), images)
    for other in beside:
        sections.append((other.name, other.head, _data_section(other, images)))
    return sections


def _details(
    reports: list[dict],
    runs: list[LoadedRun],
    beside: Sequence[DataSection],
    defects: Defects | None,
    commands: list[str],
) -> list[tuple[str, str, Html]]:
    """The sections about defects of metrics, and about the trainings."""
    all_reports = list(reports)
    all_runs = list(runs)
    for other in beside:
        all_reports += other.reports
        all_runs += other.runs
    return [
        ("defects", "Which metric detects which defect", defects_of(defects)),
        ("health", "Health", health_of(all_reports, _titles(all_reports))),
        (
            "differences",
            "Differences of the configurations",
            differences_of(runs, _titles(reports)),
        ),
        ("commands", "Commands to reproduce", commands_of(commands)),
        ("environment", "Environment", environment_of(all_runs)),
    ]


def _titles(reports: list[dict]) -> list[str]:
    return [report.get("title") or report["run"] for report in reports]


def _titles_by_run(reports: list[dict]) -> dict[str, str]:
    return {report["run"]: title for report, title in zip(reports, _titles(reports))}


def _navigation(sections: list[tuple[str, str, Html]]) -> Html:
    links = [element("a", head, href=f"#{name}") for name, head, _ in sections]
    return element("nav", *links, aria_label="On this page")


def _data_section(other: DataSection, images: list[Picture]) -> Html:
    """Verdict, table, texts and figures of models of other data."""
    titles = _titles(other.reports)
    parts = [
        paragraphs(other.intro),
        bullet_list(verdict(other.reports, titles)),
        numbers_table(other.reports, titles, True),
    ]
    if texts := texts_of(other.reports, titles):
        parts += [element("h3", "Texts"), texts]
    for _, head, content in figure_sections(other.figures, _titles_by_run(other.reports), images):
        parts += [element("h3", head), content]
    return concat(parts, "\n")
