"""A metric is declared in one file: of the package, or of a folder of the user."""

import json

import pytest
from helpers.small_trainings import train

from fromnoise.cli import main
from fromnoise.core.errors import UsageError
from fromnoise.evaluate.metric import all_metrics, extension_metrics
from fromnoise.evaluate.summary import summary
from fromnoise.evaluate.table import plain_table
from fromnoise.runs.records.report import read_report
from fromnoise.show.page.numbers import numbers_table
from fromnoise.show.page.verdict import verdict

SKEWNESS = '''
"""Skewness of pixels."""

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
                group="samples", headline="skew", question="Skewed like the data",
                measure=measure, real=measure_real)
'''
FAULTY = """
from fromnoise.core.errors import UsageError
from fromnoise.evaluate.metric import Metric


def refuse(context):
    raise UsageError("it needs pictures of the sea")


def divide(context):
    return float("nan")


METRICS = [
    Metric(name="sea", label="share of sea", unit="share", group="samples", measure=refuse),
    Metric(name="ratio", label="ratio of nothing", unit="", group="ours", measure=divide),
    Metric(name="rank", label="rank of the model", unit="", group="ours", headline="rank",
           measure=lambda context: float(context.loaded.step)),
]
"""
QUICK = ("--quick", "--samples", "60", "-k", "2", "-n", "20", "--quiet")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for metric files of the user."""
    path = tmp_path / "extensions"
    path.mkdir()
    monkeypatch.setenv("FROMNOISE_EXTENSIONS", str(path))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("a", "b")):
        train(path / name, seed=seed)
    return path


def rows_of(path):
    return {row["name"]: row for row in read_report(path)["metrics"]}


def test_a_file_of_the_user_adds_a_metric_to_reports_tables_and_pages(runs, folder, capsys):
    (folder / "skewness.py").write_text(SKEWNESS)
    reports = []
    for name in ("a", "b"):
        assert main(["eval", str(runs / name), *QUICK]) == 0
        assert "skewness of pixels ≈" in capsys.readouterr().out
        reports.append(read_report(runs / name / "report-quick.json"))
    row = rows_of(runs / "a" / "report-quick.json")["skewness"]
    assert row["n"] == 60 and row["real"] is not None and row["drawn"] == "as sampled"
    assert row["interval"] and row["group"] == "samples"
    assert list(reports[0]["settings"]["extensions"]) == ["skewness"]
    assert " skew " in summary(reports).splitlines()[0]
    sentences = verdict(reports, ["A", "B"])
    assert any(line.startswith("Skewed like the data (skewness of pixels): ") for line in sentences)
    page = str(numbers_table(reports, ["A", "B"]))
    assert page.index("the samples") < page.index("skewness of pixels") < page.index("memory")


def test_rows_of_a_metric_that_is_absent_now_are_still_shown(runs, folder):
    (folder / "skewness.py").write_text(SKEWNESS)
    (folder / "faulty.py").write_text(FAULTY)
    assert main(["eval", str(runs / "a"), *QUICK]) == 0
    for path in folder.glob("*.py"):
        path.unlink()
    report = read_report(runs / "a" / "report-quick.json")
    assert "skewness of pixels ≈" in plain_table([report])
    assert "rank of the model" in plain_table([report]) and "\n  ours" in plain_table([report])
    assert "skewness of pixels" in str(numbers_table([report], ["A"]))
    assert " skew " not in summary([report])
    assert not extension_metrics()


def test_what_cannot_be_measured_is_a_row_with_the_reason(runs, folder):
    (folder / "faulty.py").write_text(FAULTY)
    assert main(["eval", str(runs / "a"), *QUICK]) == 0
    rows = rows_of(runs / "a" / "report-quick.json")
    assert rows["sea"]["value"] is None
    assert rows["sea"]["reason"] == "none: it needs pictures of the sea"
    assert rows["ratio"]["value"] is None
    assert "not a finite number" in rows["ratio"]["reason"]
    assert rows["rank"]["value"] > 0


def test_a_report_is_measured_anew_for_a_metric_that_it_lacks(runs, folder):
    page = folder.parent / "page.html"
    command = ["compare", str(runs / "a"), "-o", str(page), "--samples", "60", "--no-zoo"]
    assert main(command) == 0
    path = runs / "a" / "report.json"
    before = json.loads(path.read_text())
    (folder / "skewness.py").write_text(SKEWNESS)
    assert main(command) == 0
    after = json.loads(path.read_text())
    assert "skewness" in {row["name"] for row in after["metrics"]}
    same = [row for row in after["metrics"] if row["name"] != "skewness"]
    assert same == before["metrics"]
    assert "skewness of pixels" in page.read_text()
    (folder / "skewness.py").unlink()
    time = path.stat().st_mtime_ns
    assert main(command) == 0
    assert path.stat().st_mtime_ns == time  # further metrics of the user do no harm


def test_one_name_for_two_metrics_is_refused(runs, folder, capsys):
    (folder / "skewness.py").write_text(SKEWNESS)
    (folder / "twice.py").write_text(SKEWNESS)
    assert main(["eval", str(runs / "a"), *QUICK]) == 2
    assert "metric 'skewness', which" in capsys.readouterr().err
    (folder / "twice.py").write_text(SKEWNESS.replace('"skewness"', '"frechet"'))
    with pytest.raises(UsageError, match="metric 'frechet', which"):
        all_metrics()
    (folder / "twice.py").write_text("METRIC = 3\n")
    with pytest.raises(UsageError, match="defines METRIC as .int."):
        all_metrics()


def test_every_metric_of_the_package_is_measured_or_belongs_to_one_that_is():
    metrics = all_metrics()
    assert len({metric.name for metric in metrics}) == len(metrics) > 50
    assert {metric.group for metric in metrics if metric.measure} <= {
        metric.group for metric in metrics
    }
    for metric in metrics:
        assert metric.headline_order < 1000 or not metric.headline
        assert metric.question_order < 1000 or not metric.question
