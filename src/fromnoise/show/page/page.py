"""One self-contained HTML file about several runs: no request, no script, at most two megabytes.

A content security policy in the page forbids every request.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ...core.capabilities import Encodes, has
from ...core.files import write_atomic
from ...evaluate.known_defects import Defects
from ...runs.load import LoadedRun
from ..style import make_folder
from .embed import Picture, fit
from .numbers import numbers_table
from .sections import (
    PageSection,
    defects_of,
    differences_of,
    environment_of,
    figure_sections,
    health_of,
    texts_of,
)
from .verdict import hedges, verdict

LIMIT = 2_000_000  # bytes of the page


def printable(value: object) -> object:
    """Text without control characters; HTML stays as it is."""
    if isinstance(value, Markup):
        return value
    characters = []
    for c in str(value):
        characters.append(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}")
    return "".join(characters)


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,  # every text from reports, runs and users
    finalize=printable,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


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
    pictures: list[Picture] = []
    sections = _results(reports, figures, pictures)
    sections += [_data_section(other, pictures) for other in beside]
    details = _details(reports, runs, beside, defects, commands)
    sections += [section for section in details if section.content]
    seeds = {run.run.record.seed for run in runs}
    code_sizes = {run.model.latent_dim for run in runs if has(run.model, Encodes)}
    template = TEMPLATES.get_template("page.html")
    parts = {
        "title": title,
        "intro": intro,
        "verdict": verdict(reports, titles),
        "hedges": " ".join(hedges(reports, seeds, code_sizes)),
        "sections": sections,
    }
    size = len(template.render(parts).encode()) - sum(len(picture.uri) for picture in pictures)
    fit(pictures, LIMIT - size)
    make_folder(target.parent)
    write_atomic(target, template.render(parts))
    return target


def _results(
    reports: list[dict], figures: dict[str, Path], pictures: list[Picture]
) -> list[PageSection]:
    """The sections of numbers, texts and figures."""
    titles = _titles(reports)
    names = {report["run"]: title for report, title in zip(reports, titles)}
    numbers = numbers_table(reports, titles)
    sections = [
        PageSection("numbers", "Models and numbers", "table.html", numbers),
        PageSection("texts", "Texts", "texts.html", texts_of(reports, titles)),
        *figure_sections(figures, names, pictures),
    ]
    return [section for section in sections if section.content]


def _data_section(other: DataSection, pictures: list[Picture]) -> PageSection:
    """Verdict, table, texts and figures of models of other data."""
    content = {
        "intro": other.intro,
        "verdict": verdict(other.reports, _titles(other.reports)),
        "sections": _results(other.reports, other.figures, pictures),
    }
    return PageSection(other.name, other.head, "data.html", content)


def _details(
    reports: list[dict],
    runs: list[LoadedRun],
    beside: Sequence[DataSection],
    defects: Defects | None,
    commands: list[str],
) -> list[PageSection]:
    """The sections about defects of metrics, and about the trainings."""
    all_reports = list(reports)
    all_runs = list(runs)
    for other in beside:
        all_reports += other.reports
        all_runs += other.runs
    health = health_of(all_reports, _titles(all_reports))
    differences = differences_of(runs, _titles(reports))
    found = defects_of(defects)
    return [
        PageSection("defects", "Which metric detects which defect", "table.html", found),
        PageSection("health", "Health", "health.html", health),
        PageSection("differences", "Differences of the configurations", "table.html", differences),
        PageSection("commands", "Commands to reproduce", "commands.html", commands),
        PageSection("environment", "Environment", "table.html", environment_of(all_runs)),
    ]


def _titles(reports: list[dict]) -> list[str]:
    return [report.get("title") or report["run"] for report in reports]
