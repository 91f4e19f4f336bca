"""Measures a run and writes report.json."""

from collections.abc import Callable
from pathlib import Path

from ..core.errors import StorageError, UsageError
from ..core.files import storage_error, write_atomic
from ..core.json_files import sealed
from ..data.dataset import Dataset
from ..measures.evaluator import evaluator_for
from ..runs.load import LoadedRun
from ..runs.records.report import read_report
from .context import MetricContext
from .cost import cost
from .metric import Metric, all_metrics, extension_metrics, measure_all
from .metrics.text_copying import copies
from .quality_reference import QualityReference, reference_id
from .report_head import describe_run
from .samples import draw_samples
from .text_reference import TextReference, text_id

FORMAT = 6  # of reports; another one when a number means something else than before
K = 100  # z samples of the importance-weighted bound
SAMPLES = 10_000
MOST_K = 10**6  # draws of z for each example
QUICK_N = 500
QUICK_K = 20
QUICK_SAMPLES = 1000
TEXTS = 20  # that a model generates
QUICK_TEXTS = 4
QUICK_COST = dict(seconds=0.3, limit=3.0)  # of drawing, to measure the speed
Reference = QualityReference | TextReference


def evaluate(
    loaded: LoadedRun,
    k: int = K,
    n: int | None = None,
    quick: bool = False,
    seed: int = 0,
    samples: int | None = None,
    evaluator: Path | None = None,
    evaluator_digest: str | None = None,
    quality_reference: Reference | None = None,
    anneal: int = 0,
    say: Callable[[str], None] = lambda text: None,
    warn: Callable[[str], None] = lambda text: None,
) -> dict:
    """All metrics that the model has; writes them as report.json into the run.

    k          draws of z for the importance-weighted bound
    n          examples of the test split for likelihoods (None: all)
    quick      fewer of everything, written as report-quick.json
    samples    how many are drawn and measured, see ``default_samples``
    evaluator  a file from ``fromnoise evaluator fit``, or published weights with their expected
               sha256 as ``evaluator_digest`` (None: the shipped one, where there is one)
    quality_reference  made before, so that features of real examples are computed once for many
               models
    anneal     test examples whose likelihood is also estimated by annealed importance sampling,
               which is slow
    say, warn  receive messages
    Raises UsageError, DataError, StorageError.
    """
    all_metrics()  # a mistake in a file of the user is known before anything is computed
    if k > MOST_K:
        raise UsageError(
            f"-k takes at most {MOST_K:,} draws, not {k}: the bound hardly moves beyond"
        )
    if quick:
        k = min(k, QUICK_K)
        n = min(n or QUICK_N, QUICK_N)
    samples = samples or default_samples(loaded.dataset, quick)
    if quality_reference is None:
        quality_reference = build_reference(loaded.dataset, evaluator, evaluator_digest, quick)
    is_text = loaded.dataset.spec.kind == "tokens"
    context = MetricContext(
        quality_reference,
        seed,
        run=loaded,
        samples=None if is_text else draw_samples(loaded, samples, seed),
        texts=samples,
        k=k,
        test_limit=n,
        quick=quick,
        anneal=anneal,
    )
    report = measured_report(context, say)
    report["settings"] = report_settings(samples, k, n, seed, quality_reference, anneal)
    # a quick report never replaces a full one
    target = loaded.run.path / ("report-quick.json" if quick else "report.json")
    keep_other_report(target, report, warn)
    write_atomic(target, sealed(report))
    return report


def measured_report(context: MetricContext, say: Callable[[str], None]) -> dict:
    """A report without its settings: the run, the rows of its metrics, what it costs."""
    loaded = context.loaded
    report = describe_run(loaded, context.reference)
    report["metrics"] = measured_rows(context, say)
    report["cost"] = cost(loaded, **(QUICK_COST if context.quick else {}))
    report["seeds"] = {"training": loaded.run.record.seed, "evaluation": context.seed}
    if context.kind == "tokens" and context.predicts:
        report["texts"] = context.once(copies)[1]
    return report


def measured_rows(context: MetricContext, say: Callable[[str], None]) -> list[dict]:
    """The rows of all metrics of a run, with messages about what is measured."""
    dataset = context.dataset
    if context.kind == "tokens":
        say(f"prediction of held-out text, and {context.texts} texts")
    else:
        if context.kind == "image" and context.quality_reference.evaluator is None:
            say(
                f"no evaluator of this data is known: `fromnoise evaluator fit {dataset.name}` "
                "makes one, whose features describe more than pixels"
            )
        say(f"{context.n:,} samples")

    def announce(metric: Metric) -> None:
        if metric.group == "likelihood":
            say("likelihood and reconstruction")

    rows = measure_all(context, all_metrics(), announce)
    for row in rows:
        if not row["reference"]:
            row["reference"] = reference_id(dataset, row["split"], row["n"] or 0)
    return rows


def default_samples(dataset: Dataset, quick: bool = False) -> int:
    """How many samples, or texts, are measured by default."""
    if dataset.spec.kind == "tokens":
        return QUICK_TEXTS if quick else TEXTS
    return QUICK_SAMPLES if quick else SAMPLES


def build_reference(
    dataset: Dataset, evaluator: Path | None = None, digest: str | None = None, quick: bool = False
) -> Reference:
    """What models of this data are compared with.

    Raises UsageError, DataError (an evaluator of other data).
    """
    if dataset.spec.kind != "tokens":
        return QualityReference(dataset, evaluator_for(dataset, evaluator, digest), quick)
    if evaluator is not None:
        raise UsageError(
            "text is measured in bits for each character, without a feature network: leave "
            "--evaluator out"
        )
    return TextReference(dataset, quick)


def data_id(dataset: Dataset) -> tuple[str, str]:
    """Equal for data whose numbers are comparable: the same examples, or the same text."""
    is_text = dataset.spec.kind == "tokens"
    return text_id(dataset) if is_text else dataset.digest, dataset.binarise


def keep_other_report(target: Path, report: dict, warn: Callable[[str], None]) -> None:
    """Renames an existing report with other settings, step or data, so that it is not lost."""
    if not target.is_file():
        return
    try:
        before = read_report(target)
        if all(before[key] == report[key] for key in ("settings", "step", "data")):
            return
    except StorageError:
        pass
    for i in range(1, 10_000):
        other = target.with_name(f"{target.stem}-{i:04d}.json")
        if other.exists():
            continue
        try:
            target.rename(other)
        except OSError as error:
            raise storage_error(error, target) from error
        warn(f"the report that was there, measured in another way, is kept in {other}")
        return


def report_settings(
    samples: int, k: int, n: int | None, seed: int, quality_reference: Reference, anneal: int = 0
) -> dict:
    """The settings of a report: with equal settings, two reports of one run are equal.

    The entry "extensions", metrics of the user, is there only if there are any.
    """
    evaluator = quality_reference.evaluator
    settings = {
        "format": FORMAT,
        "samples": samples,
        "k": k,
        "n": n,
        "seed": seed,
        "evaluator": evaluator and evaluator.name,
        "ais": anneal,
    }
    if extensions := extension_metrics():
        settings["extensions"] = extensions
    return settings
