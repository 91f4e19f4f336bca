"""Several runs on one page: measured where they are not yet, ranked where they may be."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.errors import StorageError, UsageError
from ..data.dataset import Dataset
from ..evaluate.context import FEWEST
from ..evaluate.known_defects import measure_defects
from ..evaluate.protocol import has_value
from ..evaluate.quality_reference import QualityReference
from ..evaluate.report import (
    K,
    build_reference,
    data_id,
    default_samples,
    evaluate,
    report_settings,
)
from ..evaluate.summary import headline_metrics
from ..evaluate.text_reference import TextReference
from ..runs.load import LoadedRun
from ..runs.records.report import read_report
from ..training.launch import command_line


def compare(
    runs: Sequence[LoadedRun],
    out: Path,
    samples: int | None = None,
    evaluator: Path | None = None,
    seed: int = 0,
    zoo: bool = True,
    say: Callable[[str], None] = lambda text: None,
    titles: Sequence[str] | None = None,
    head: tuple[str, str] | None = None,
    commands: Sequence[str] = (),
    figures: Path | None = None,
    evaluator_digest: str | None = None,
    beside: Sequence = (),
) -> tuple[Path, list[dict]]:
    """Writes the page ``out`` and returns it with the reports.

    A run whose report.json is of the same protocol is not measured again.

    titles    of the models; head: title and introduction of the page
    commands  that make the runs again
    figures   the folder that figures are drawn into [beside the page]
    beside    models of other data, in sections of their own (``show.page.DataSection``)

    Raises UsageError (runs of different data), DataError, StorageError.
    """
    from ..show.page.gallery import page_figures
    from ..show.page.page import write_page

    check_comparable(runs, out)
    dataset = runs[0].dataset
    reports, quality_reference = measured(
        runs, samples, evaluator, seed, say, titles, evaluator_digest
    )
    known_defects = measure_zoo(dataset, quality_reference, say) if zoo else None
    say("figures")
    named = [report["title"] for report in reports]
    drawn = page_figures(
        runs,
        figures or out.parent / f"{out.stem}-figures",
        named,
        seed=seed,
        command=command_line(),
        reports=reports,
        quality_reference=quality_reference,
    )
    title, intro = head or (
        f"{len(runs)} model{'s' if len(runs) > 1 else ''} of {Path(dataset.name).name}",
        sizes(dataset),
    )
    page = write_page(
        out,
        title,
        intro,
        list(runs),
        reports,
        drawn,
        list(commands) or [r.run.record.command for r in runs],
        known_defects,
        beside,
    )
    return page, reports


def check_comparable(runs: Sequence[LoadedRun], out: Path) -> None:
    """Raises UsageError for runs of different data or with the same name, and for a wrong ``out``."""
    if len({data_id(r.dataset) for r in runs}) != 1:
        raise UsageError(
            "only runs of the same data can be compared: "
            + ", ".join(f"{r.run.name} has {r.dataset.name}" for r in runs)
        )
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"-o {out}: the page is an .html file")
    names = [r.run.name for r in runs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        paths = ", ".join(str(r.run.path) for r in runs if r.run.name == twice)
        raise UsageError(
            f"each run once, and no two with the same folder name: rename one of {paths}"
        )


def measure_zoo(
    dataset: Dataset,
    quality_reference: QualityReference | TextReference,
    say: Callable[[str], None],
) -> list | None:
    """Metrics of the "zoo": models with a known defect each. None for text and for few data."""
    if isinstance(quality_reference, TextReference):
        return None
    if len(dataset.split("train")) < 2 * FEWEST:
        say(f"no zoo of bad models: it needs {2 * FEWEST} training examples")
        return None
    say("the zoo of bad models, up to a minute (--no-zoo leaves it out)")
    try:
        return measure_defects(dataset, quality_reference.evaluator)
    except UsageError:  # halves of the data, and some of the zoo leave out a part of these
        say("no zoo of bad models: these data have too few examples for it")
        return None


def measured(
    runs: Sequence[LoadedRun],
    samples: int | None = None,
    evaluator: Path | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
    titles: Sequence[str] | None = None,
    evaluator_digest: str | None = None,
) -> tuple[list[dict], QualityReference | TextReference]:
    """The report of each run, with its title, and the reference that the first was measured against.

    A run is measured if it has no report with these settings.
    """
    from ..show.side_by_side import titles_of

    yardsticks: dict[str, QualityReference | TextReference] = {}
    reports = []
    for i, loaded in enumerate(runs):
        dataset = loaded.dataset
        if dataset.digest not in yardsticks:
            yardsticks[dataset.digest] = build_reference(dataset, evaluator, evaluator_digest)
        quality_reference = yardsticks[dataset.digest]
        report = known(
            loaded,
            report_settings(samples or default_samples(dataset), K, None, seed, quality_reference),
        )
        before = " (measured before)" if report else ""
        reports.append(
            report
            or evaluate(
                loaded, samples=samples, seed=seed, quality_reference=quality_reference, warn=say
            )
        )
        say(f"{titles[i] if titles else loaded.run.name:<36} {headline(reports[-1])}{before}")
    titles = titles_of(runs, titles or [report["title"] for report in reports])
    return [report | {"title": title} for report, title in zip(reports, titles)], yardsticks[
        runs[0].dataset.digest
    ]


def sizes(dataset: Dataset) -> str:
    """How much there is to learn from and to be measured on, in words."""
    train, test = dataset.split("train"), dataset.split("test")
    if dataset.spec.kind == "tokens":
        return (
            f"{train.characters:,} characters of training text, {test.characters:,} for the test."
        )
    return f"{len(train):,} training examples, {len(test):,} held out."


def headline(report: dict) -> str:
    """The few numbers that matter most, in one line."""
    values = {row["name"]: row for row in reversed(report["metrics"])}
    parts = [f"{report['cost']['train_seconds']:5.1f} s"]
    for metric in headline_metrics():
        row = values.get(metric.name)
        if metric.progress and row is not None and has_value(row):
            given = f" given the {row['given']}" if row.get("given") else ""
            parts.append(metric.progress.format(row["value"]) + given)
    return "  ".join(parts)


def known(loaded: LoadedRun, wanted: dict) -> dict | None:
    """The report that the run has, if it is of the same step, the same data and these settings.

    It may have further metrics of the user.
    """
    path = loaded.run.path / "report.json"
    if not path.is_file():
        return None
    try:
        report = read_report(path)
        settings = report["settings"] | {"ais": 0}
        extensions = settings.pop("extensions", {})
        wanted = dict(wanted)
        same = (
            report["step"] == loaded.step
            and report["data"]["digest"] == loaded.dataset.digest
            and wanted.pop("extensions", {}).items() <= extensions.items()
            and settings == wanted
        )
    except StorageError:  # damaged, or of an older form: measured anew
        return None
    return report if same else None
