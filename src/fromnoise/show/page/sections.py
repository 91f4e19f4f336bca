"""The sections of the page: texts, figures, health, differences, environment."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...evaluate.known_defects import Defects
from ...families import options_of, short_name
from ...runs.load import LoadedRun
from ..catalogue import ALL_FIGURES
from ..figure import Section
from .embed import Picture
from .table import Cell, PageTable, Row, cells_of
from .wording import describe_defects, describe_texts, describe_training

MORE = "more"  # the section of figures without one of their own
SECTIONS = {figure.name: figure.section for figure in ALL_FIGURES if figure.section is not None}
SECTIONS = dict(sorted(SECTIONS.items(), key=lambda item: item[1].place))
SECTIONS[MORE] = Section("More figures", "", place=10**6)
TEXTS = 2  # of each model
CHARACTERS = 600  # of each text
DETECTED = {
    True: Cell("detected", "number"),
    False: Cell("not detected", "none"),
    None: Cell("not defined", "none"),
}


@dataclass
class PageSection:
    """name: its anchor; template: the file of templates/ that shows the content; None: left out."""

    name: str
    title: str
    template: str
    content: object


def texts_of(reports: list[dict], titles: list[str]) -> dict | None:
    """Sampled and real texts as parts that are copied or not; None without models of text."""
    pairs = [(title, r["texts"]) for r, title in zip(reports, titles) if r.get("texts")]
    if not pairs:
        return None
    real = next((texts["real"] for _, texts in pairs if texts.get("real")), [])
    shown = [("real text, held out", split_at_copies(text)) for text in real[:1]]
    for title, texts in pairs:
        shown += [(title, split_at_copies(text)) for text in texts["sampled"][:TEXTS]]
    return {"intro": describe_texts(bool(real)), "texts": shown}


def split_at_copies(text: dict) -> list[tuple[str, bool]]:
    """The beginning of a text in parts, and whether each is a copied run."""
    content = text["text"][:CHARACTERS]
    parts = []
    end = 0
    for start, stop in text["copied"]:
        parts.append((content[end:start], False))
        parts.append((content[start:stop], True))
        end = stop
    parts.append((content[end:], False))
    if len(text["text"]) > CHARACTERS:
        parts.append(("…", False))
    return [(_clean(part), is_copied) for part, is_copied in parts if part]


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\t", "    ")


def figure_sections(
    figures: dict[str, Path], names: dict[str, str], pictures: list[Picture]
) -> Iterator[PageSection]:
    """The sections of figures, in the order of SECTIONS.

    figures: paths by "figure" or "run/figure"; names: title of each run. All pictures are appended
    to ``pictures``.
    """
    by_section: dict[str, list[tuple[str, Picture]]] = {}
    for key, path in figures.items():
        run, _, name = key.rpartition("/")
        section = name if name in SECTIONS else MORE
        pictures.append(Picture(Path(path)))
        by_section.setdefault(section, []).append((names.get(run, run), pictures[-1]))
    for name, section in SECTIONS.items():
        if name in by_section:
            shown = by_section[name]
            are_paired = len(shown) > (1 if section.is_small else 2)
            content = {"intro": section.text, "pictures": shown, "are_paired": are_paired}
            yield PageSection(name, section.title, "figures.html", content)


def health_of(reports: list[dict], titles: list[str]) -> dict:
    """Warnings of the trainings, and their validation objectives."""
    named = list(zip(titles, reports))
    return {
        "warnings": [(title, r["health"]) for title, r in named if r.get("health")],
        "healthy": [title for title, r in named if not r.get("health")],
        "trainings": [
            describe_training(title, r["training"]) for title, r in named if r.get("training")
        ],
    }


def defects_of(defects: Defects | None) -> PageTable | None:
    """One metric a line, one model with a known defect a column."""
    if defects is None:
        return None
    rows = []
    for metric, seen in defects.detected.items():
        rows.append(Row(Cell(metric), [DETECTED[seen[name]] for name in defects.models]))
    head = cells_of(["metric", *defects.models])
    return PageTable("Which metric detects which defect", head, rows, describe_defects(defects))


def differences_of(runs: list[LoadedRun], titles: list[str]) -> PageTable | None:
    """The options in which the runs differ: one option a line."""
    options = list(map(_options_in_words, runs))
    rows = []
    for key in sorted(set().union(*options)):
        values = [of_run.get(key, "") for of_run in options]
        if len(set(values)) > 1:
            rows.append(Row(Cell(key), cells_of(values)))
    if not rows:
        return None
    head = cells_of(["option", *titles])
    return PageTable("Differences of the configurations", head, rows)


def _options_in_words(run: LoadedRun) -> dict[str, str]:
    options = {
        **options_of(run.run.info),
        **run.run.info["train"],
        "preset": run.run.record.preset,
        "family": short_name(run.run.info),
    }
    words = {}
    for key, value in options.items():
        words[key] = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return words


def environment_of(runs: list[LoadedRun]) -> PageTable:
    """One row for each run: its data, seed, steps, threads, versions and machine."""
    rows = []
    for run in runs:
        record = run.run.record
        splits = ", ".join(f"{n:,} {split}" for split, n in record.data.splits.items())
        versions = [f"{name} {v}" for name, v in record.versions.model_dump().items()]
        values = (
            f"{record.data.name} ({splits})",
            record.data.digest[:12],
            record.seed,
            f"{record.steps:,}",
            record.threads,
            ", ".join(versions),
            record.machine,
        )
        rows.append(Row(Cell(run.run.name), cells_of(values)))
    names = ("run", "data", "digest", "seed", "steps", "threads", "versions", "machine")
    return PageTable("Environment", cells_of(names), rows)
