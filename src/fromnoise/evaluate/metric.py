"""The declaration of a metric, and all that are declared.

A file of ``evaluate/metrics``, or of a folder that FROMNOISE_EXTENSIONS names, adds a metric:

    from fromnoise.evaluate.metric import Metric
    from fromnoise.measures.estimate import Estimate

    def skewness(x):
        values = ((x - x.mean()) / x.std()).pow(3).flatten(1).mean(1)
        return Estimate(float(values.mean()), float(values.std()) / len(x) ** 0.5, n=len(x))

    def measure(context):
        return skewness(context.samples)

    def measure_real(context):
        return skewness(context.real_examples())

    METRIC = Metric(name="skewness", label="skewness of pixels", unit="", better="near",
                    group="samples", measure=measure, real=measure_real)
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..core.errors import UsageError
from ..core.extensions import discover_instances, explain_user_error
from ..measures.estimate import Estimate, NoSpreadError, NotFiniteError
from .context import MetricContext
from .protocol import DEFAULTS, absent, row

Direction = Literal["lower", "higher", "near"]
Measure = Callable[[MetricContext], Estimate | float | list[dict]]
UNMEASURABLE = (UsageError, NotFiniteError, NoSpreadError)
LAST = 1000
SAMPLE_GROUPS = ("samples", "referees", "labels", "memory")  # whose metrics need no model


@dataclass(frozen=True)
class Metric:
    """A number that a report can hold.

    name         in report.json
    label, unit  in tables
    better       "lower", "higher", "near" (to a perfect model, or to real examples) or None
    group        the part of a report, see ``cells.GROUPS``. One of SAMPLE_GROUPS: it needs samples
                 only, is measured by ``measure_quality`` too, and its rows say how they were drawn
    headline     the head of its column in the short table; "" if it has none there
    question     the beginning of its sentence in the verdict of a page; "" for none
    measure      one Estimate, or complete rows, of this and other metrics; None if another
                 metric's ``measure`` makes the rows. Called for ``data`` only
    real         the same with real examples in the samples' place
    data         the kinds of data that it is measured on
    order        the place of its rows in a report; headline_order, question_order: the place in
                 the short table and in the verdict
    note         explains the headline, below the short table
    progress     how the value is written in a line of progress; "" if it is not written there
    every_protocol  the short table shows its columns of all protocols, not the first only
    is_likelihood   a model without any of these gets a note that says why
    is_doubted      the note of an Estimate warns that the interval may be too short
    """

    name: str
    label: str
    unit: str
    better: Direction | None = None
    group: str = ""
    headline: str = ""
    question: str = ""
    measure: Measure | None = None
    real: Callable[[MetricContext], Estimate | float] | None = None
    data: tuple[str, ...] = ("image", "vector")
    order: int = LAST
    headline_order: int = LAST
    question_order: int = LAST
    note: str = ""
    progress: str = ""
    every_protocol: bool = False
    is_likelihood: bool = False
    is_doubted: bool = False

    def row(self, value: float | Estimate | None, **more) -> dict:
        """``protocol.row`` with the entries of this declaration, unless ``more`` has others."""
        return row(**self._entries(more), value=value)

    def absent(self, reason: str, **more) -> dict:
        """``protocol.absent`` in the same way."""
        return absent(**self._entries(more), reason=reason)

    def measured(
        self,
        measure: Callable[[], Estimate | float],
        measure_real: Callable[[], Estimate | float] | None = None,
        **more,
    ) -> dict:
        """A row; without a value, with the message of the error, if nothing can be measured.

        measure_real: the same metric with real examples in the samples' place.
        """
        try:
            estimate = measure()
        except UNMEASURABLE as error:
            return self.absent(**(more | {"reason": str(error)}))
        real = None
        if measure_real is not None:
            with suppress(*UNMEASURABLE):  # too few real examples
                real = measure_real()
        return self.row(estimate, real=real, **more)

    def _entries(self, more: dict) -> dict:
        entries = {"name": self.name, "label": self.label, "unit": self.unit, "group": self.group}
        return entries | {"better": self.better} | more

    def rows(self, context: MetricContext) -> list[dict]:
        """The rows that ``measure`` makes; if it cannot be measured, a row with the reason.

        The same holds for any error that the code of a user raises.
        """
        assert self.measure is not None
        try:
            result = self.measure(context)
            if isinstance(result, list):
                return list(map(self._complete, result))
            row = self.row(_as_number(result))
        except UNMEASURABLE as error:
            return [self.absent(str(error))]
        except (Exception, SystemExit) as error:
            if explanation := explain_user_error(error):
                return [self.absent(explanation)]
            raise
        return [row | self._real_entries(context)]

    def _complete(self, row: object) -> dict:
        """Raises UsageError for a row that was not made by ``row``, ``absent`` or ``measured``."""
        if not isinstance(row, dict) or not row.keys() >= {"name", "value", *DEFAULTS}:
            raise UsageError("its measure returned rows that METRIC.row(...) did not make")
        return row

    def _real_entries(self, context: MetricContext) -> dict:
        """The value of real examples; nothing if ``real`` raises, with the reason if it is a bug."""
        if self.real is None:
            return {}
        try:
            real = self.row(_as_number(self.real(context)))
        except UNMEASURABLE:  # too few real examples
            return {}
        except (Exception, SystemExit) as error:
            if explanation := explain_user_error(error):
                return {"reason": f"without real examples: {explanation}"}
            raise
        return {"real": real["value"], "real_interval": real["interval"]}


def _as_number(result: object) -> Estimate | float:
    """An Estimate, or a number of any kind. Raises UsageError."""
    if isinstance(result, Estimate):
        return result
    try:
        return float(result)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, RuntimeError):
        kind = type(result).__name__
        raise UsageError(f"its measure returned a {kind}, not a number or an Estimate") from None


def all_metrics() -> list[Metric]:
    """Those of the package and of the user, in the order of a report.

    Raises UsageError for a file that cannot be used, and for a name that is declared twice.
    """
    return sorted((metric for _, metric in _declared()), key=lambda metric: metric.order)


def metrics_by_name() -> dict[str, Metric]:
    return {metric.name: metric for metric in all_metrics()}


def extension_metrics() -> dict[str, str]:
    """Metrics of the user's files: name -> the beginning of the sha256 of the file."""
    from . import metrics

    package = Path(metrics.__path__[0])
    digests = {}
    for path, metric in _declared():
        if path.parent != package:
            digests[metric.name] = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return digests


def _declared() -> list[tuple[Path, Metric]]:
    from . import metrics

    return discover_instances(metrics, "METRIC", Metric)


def measure_all(
    context: MetricContext,
    metrics: Sequence[Metric],
    before: Callable[[Metric], None] = lambda metric: None,
) -> list[dict]:
    """The rows of the metrics that are measured on this kind of data.

    before: called with each metric before it is measured.

    Raises UsageError and DataError for samples that cannot be measured at all.
    """
    rows = []
    if context.kind != "tokens":
        context.once(MetricContext.measure_samples)
    for metric in metrics:
        if metric.measure is None or context.kind not in metric.data:
            continue
        before(metric)
        of_metric = metric.rows(context)
        if context.kind != "tokens" and metric.group in SAMPLE_GROUPS:
            of_metric = [row | {"drawn": context.drawn.drawn} for row in of_metric]
        rows += of_metric
    return [row | {"seed": context.seed} for row in rows]
