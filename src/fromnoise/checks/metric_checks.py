"""Checks of a metric: it measures samples of small trained runs, twice with the same result."""

import json
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from ..evaluate.context import MetricContext
from ..evaluate.metric import Metric, measure_all
from ..evaluate.report import build_reference
from ..evaluate.samples import draw_samples
from ..runs.load import LoadedRun
from .small_runs import train_small_runs

SAMPLES = 200
TEXTS = 2
DIRECTIONS = ("lower", "higher", "near", None)


class MetricSuite:
    """A metric under test, and small runs of several kinds of data and families."""

    def __init__(self, metric: Metric, folder: Path):
        self.metric = metric
        self.folder = folder

    @cached_property
    def runs(self) -> list[LoadedRun]:
        runs = train_small_runs(self.folder)
        return [loaded for loaded in runs if loaded.dataset.spec.kind in self.metric.data]

    @cached_property
    def rows(self) -> dict[str, list[dict]]:
        """Run -> its rows."""
        return {loaded.run.name: self.measure(loaded) for loaded in self.runs}

    def measure(self, loaded: LoadedRun) -> list[dict]:
        reference = build_reference(loaded.dataset, quick=True)
        is_text = loaded.dataset.spec.kind == "tokens"
        samples = None if is_text else draw_samples(loaded, SAMPLES, 0)
        context = MetricContext(
            reference, run=loaded, samples=samples, texts=TEXTS, k=2, test_limit=100, quick=True
        )
        return measure_all(context, [self.metric])


@contextmanager
def metric_suite(metric: Metric) -> Iterator[MetricSuite]:
    """A suite whose runs are removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        yield MetricSuite(metric, Path(folder))


def check_declaration(suite: MetricSuite) -> None:
    """the name is one word, it has a label and a direction, and data that it is measured on"""
    metric = suite.metric
    assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name), (
        f"the name {metric.name!r} must be lower case letters, digits and _"
    )
    assert metric.label and "\n" not in metric.label, "label must be one line"
    assert metric.better in DIRECTIONS, f"better must be one of {DIRECTIONS}"
    assert metric.data and suite.runs, f"data must name kinds of data, not {metric.data!r}"


def check_rows(suite: MetricSuite) -> None:
    """each run has a row, with a finite value or a reason"""
    if suite.metric.measure is None:
        return
    for run, rows in suite.rows.items():
        assert rows, f"no row for {run}: raise UsageError with the reason instead"
        for row in rows:
            assert isinstance(row["unit"], str), f"the unit of {row['name']} must be a text"
            assert row["better"] in DIRECTIONS, f"better of {row['name']}: {row['better']!r}"
            value = row["value"]
            assert value is not None or row["reason"], f"{row['name']} of {run}: no reason"
            assert value is None or math.isfinite(value), f"{row['name']} of {run} is {value}"


def check_value(suite: MetricSuite) -> None:
    """one of the small runs has a value"""
    if suite.metric.measure is None:
        return
    rows = [row for of_run in suite.rows.values() for row in of_run]
    reasons = sorted({row["reason"] for row in rows})
    assert any(row["value"] is not None for row in rows), f"no run has a value: {reasons}"


def check_repetition(suite: MetricSuite) -> None:
    """measured twice with the same seed, the rows are equal, and they can be written as JSON"""
    loaded = suite.runs[0]
    first = json.dumps(suite.rows[loaded.run.name], allow_nan=False)
    second = json.dumps(suite.measure(loaded), allow_nan=False)
    assert first == second, "another value: draw random numbers from context.rng(...)"


METRIC_CHECKS = (check_declaration, check_rows, check_value, check_repetition)
