"""The sections of the page below the table: texts, figures, health, differences, environment."""

from collections.abc import Iterator
from pathlib import Path

from ...core.capabilities import Encodes, has
from ...evaluate.known_defects import Defects
from ...families import options_of, short_name
from ...runs.load import LoadedRun
from ..catalogue import ALL_FIGURES
from ..figure import Section
from ..style import plain
from .embed import Picture, mark
from .html import Html, bullet_list, concat, element, table, table_row, to_html
from .verdict import hedges, verdict
from .wording import TRAINING_NOTE, describe_defects, describe_texts, describe_training

MORE = "more"  # the section of figures without one of their own
SECTIONS = {figure.name: figure.section for figure in ALL_FIGURES if figure.section is not None}
SECTIONS = dict(sorted(SECTIONS.items(), key=lambda item: item[1].place))
SECTIONS[MORE] = Section("More figures", "", place=10**6)
TEXTS = 2  # of each model
CHARACTERS = 600  # of each text


def verdict_section(
    reports: list[dict], titles: list[str], runs: list[LoadedRun], same_data: bool
) -> Html:
    seeds = {run.run.record.seed for run in runs}
    code_sizes = {run.model.latent_dim for run in runs if has(run.model, Encodes)}
    small = " ".join(hedges(reports, seeds, code_sizes)) if seeds else ""
    return element(
        "section",
        element("h2", "In short"),
        bullet_list(verdict(reports, titles, same_data)),
        element("p", small, class_="hedge"),
        class_="verdict",
        id="verdict",
    )


# -- texts ---------------------------------------------------------------------------------------


def texts_of(reports: list[dict], titles: list[str]) -> Html:
    """Sampled and real texts with their copied runs marked; empty without models of text."""
    pairs = [(title, r["texts"]) for r, title in zip(reports, titles) if r.get("texts")]
    if not pairs:
        return Html("")
    real = next((texts["real"] for _, texts in pairs if texts.get("real")), [])
    blocks = [_text_figure("real text, held out", text) for text in real[:1]]
    for title, texts in pairs:
        blocks += [_text_figure(title, text) for text in texts["sampled"][:TEXTS]]
    intro = element("p", describe_texts(bool(real)))
    return concat([intro, element("div", *blocks, class_="pair")])


def _text_figure(title: str, text: dict) -> Html:
    caption = element("figcaption", element("strong", title))
    return element("figure", element("pre", mark_copies(text)), caption, class_="text")


def mark_copies(text: dict) -> Html:
    """The beginning of a text as HTML, its copied runs marked."""
    content = text["text"][:CHARACTERS]
    parts = []
    end = 0
    for start, stop in text["copied"]:
        start = min(start, len(content))
        stop = min(stop, len(content))
        parts.append(_clean(content[end:start]))
        if start < stop:
            parts.append(element("mark", _clean(content[start:stop])))
        end = stop
    parts.append(_clean(content[end:]))
    if len(text["text"]) > CHARACTERS:
        parts.append("…")
    return concat(parts)


def _clean(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\t", "    ")


# -- figures -------------------------------------------------------------------------------------


def figure_sections(
    figures: dict[str, Path], names: dict[str, str], images: list[Picture]
) -> Iterator[tuple[str, str, Html]]:
    """(name, title, HTML) of each section, in the order of SECTIONS.

    figures: paths by "figure" or "run/figure"; names: title of each run. The images are appended to
    ``images``; embed.py puts them in.
    """
    by_section: dict[str, list[tuple[str, Path]]] = {}
    for key, path in figures.items():
        run, _, name = key.rpartition("/")
        section = name if name in SECTIONS else MORE
        by_section.setdefault(section, []).append((names.get(run, run), Path(path)))
    for name, section in SECTIONS.items():
        parts = []
        for title, path in by_section.get(name, []):
            images.append(Picture(path))
            parts.append(_figure(images[-1], len(images) - 1, title))
        if parts:
            are_paired = len(parts) > (1 if section.is_small else 2)
            content = element("div", *parts, class_="pair") if are_paired else concat(parts)
            intro = element("p", section.text) if section.text else Html("")
            yield name, section.title, concat([intro, content])


def _figure(picture: Picture, index: int, title: str) -> Html:
    """An image that scrolls sideways on a narrow page, and its caption."""
    width, height = (None, None) if picture.is_svg else picture.size()
    source = Html(mark(index))
    image = element("img", alt=picture.alt, width=width, height=height, src=source)
    label = plain(picture.about.get("title", "figure"), 80)
    frame = element("div", image, class_="wide", tabindex=0, role="group", aria_label=label)
    head = [element("strong", f"{title}."), " "] if title else []
    lines = [line for line in picture.about.get("caption", "").split("\n") if line]
    caption = concat((element("code", line) for line in lines), "<br>")
    return element("figure", frame, element("figcaption", *head, caption))


# -- health, defects, configurations -------------------------------------------------------------


def health_of(reports: list[dict], titles: list[str]) -> Html:
    """Warnings of the trainings, and their validation objectives."""
    parts = []
    healthy = []
    trainings = []
    for report, title in zip(reports, titles):
        if warnings := report.get("health"):
            parts += [element("h3", title), bullet_list(warnings, class_="warn")]
        else:
            healthy.append(title)
        if report.get("training"):
            trainings.append(describe_training(title, report["training"]))
    if healthy:
        parts.append(element("p", f"No warnings at the end of training: {'; '.join(healthy)}."))
    if trainings:
        parts += [element("p", TRAINING_NOTE), bullet_list(trainings)]
    return concat(parts)


def defects_of(defects: Defects | None) -> Html:
    """One metric a line, one model with a known defect a column."""
    if defects is None:
        return Html("")
    marks = {
        True: element("td", "detected", class_="number"),
        False: element("td", "not detected", class_="none"),
        None: element("td", "not defined", class_="none"),
    }
    rows = []
    for metric, seen in defects.detected.items():
        rows.append(table_row(metric, [marks[seen[name]] for name in defects.models]))
    label = "Which metric detects which defect"
    intro = element("p", describe_defects(defects))
    return concat([intro, table(label, ["metric", *defects.models], rows)])


def differences_of(runs: list[LoadedRun], titles: list[str]) -> Html:
    """The options in which the runs differ: one option a line."""
    options = [_options_in_words(run) for run in runs]
    keys = sorted({key for of_run in options for key in of_run})
    rows = []
    for key in keys:
        values = [of_run.get(key, "") for of_run in options]
        if len(set(values)) > 1:
            rows.append(table_row(key, values))
    if not rows:
        return Html("")
    return table("Differences of the configurations", ["option", *titles], rows)


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


def environment_of(runs: list[LoadedRun]) -> Html:
    """One row for each run: its data, seed, steps, threads, versions and machine."""
    if not runs:
        return Html("")
    rows = []
    for run in runs:
        record = run.run.record
        splits = ", ".join(f"{n:,} {split}" for split, n in record.data.splits.items())
        versions = [f"{name} {v}" for name, v in record.versions.model_dump().items()]
        cells = (
            f"{record.data.name} ({splits})",
            record.data.digest[:12],
            record.seed,
            f"{record.steps:,}",
            record.threads,
            ", ".join(versions),
            record.machine,
        )
        rows.append(table_row(run.run.name, cells))
    head = ("run", "data", "digest", "seed", "steps", "threads", "versions", "machine")
    return table("Environment", head, rows)


def commands_of(commands: list[str]) -> Html:
    if not commands:
        return Html("")
    return element("pre", to_html("\n".join(commands)), tabindex=0)
