"""``fromnoise check FILE``: the checks of what a file defines."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .. import families
from ..core.errors import UsageError
from ..core.extensions import added, defined_kinds, discover, execute_file, objects_of
from ..core.words import shown
from ..data.source import Source
from ..evaluate import metrics
from ..evaluate.metric import Metric
from ..show import figures
from ..show.figure import Figure
from .conformance import check_family, run_checks
from .figure_checks import FIGURE_CHECKS, figure_suite
from .metric_checks import METRIC_CHECKS, metric_suite
from .source_checks import SOURCE_CHECKS, source_suite

Item = TypeVar("Item")
KINDS = ("FAMILY", "SOURCE", "METRIC", "FIGURE")


def check_file(
    name: str, example: str | None, on_result: Callable[[dict], None]
) -> tuple[str, list[dict]]:
    """The kind of a file, "family", "source", "metric" or "figure", and the results of its checks.

    name: a file, or the name of a family; example: data for a source that reads files.
    Raises UsageError: the file cannot be used, or it defines nothing, or several kinds.
    """
    if not families.is_file_name(name):
        return "family", check_family(name, on_result)
    path = Path(name).expanduser()
    kinds = defined_kinds(path, KINDS)
    if len(kinds) > 1:
        raise UsageError(
            f"{shown(name, 200)} defines {' and '.join(kinds)}: check them in one file each"
        )
    if kinds in ([], ["FAMILY"]):
        return "family", check_family(name, on_result)
    with added(path):
        return kinds[0].lower(), _check_extension(path, kinds[0], example, on_result)


def _check_extension(
    path: Path, kind: str, example: str | None, on_result: Callable[[dict], None]
) -> list[dict]:
    results = []
    for item in objects_of(execute_file(path), kind):
        if kind == "SOURCE":
            with source_suite(_require(path, item, Source), example) as suite:
                results += run_checks(SOURCE_CHECKS, suite, on_result)
        if kind == "METRIC":
            discover(metrics, kind)  # raises UsageError for a name that exists
            with metric_suite(_require(path, item, Metric)) as suite:
                results += run_checks(METRIC_CHECKS, suite, on_result)
        if kind == "FIGURE":
            discover(figures, kind)  # raises UsageError for a name that exists
            with figure_suite(_require(path, item, Figure)) as suite:
                results += run_checks(FIGURE_CHECKS, suite, on_result)
    return results


def _require(path: Path, item: object, kind: type[Item]) -> Item:
    """The object. Raises UsageError if it is of another class."""
    if not isinstance(item, kind):
        raise UsageError(
            f"{shown(path, 200)} defines {shown(type(item).__name__)}: make it a "
            f"{kind.__module__}.{kind.__name__}"
        )
    return item
