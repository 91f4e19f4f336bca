"""An error in a file of the user names that file and its line, and costs nothing else."""

import json
from pathlib import Path

import pytest
from helpers.command_line import call, fails
from helpers.family_file import GOOD

from fromnoise.core.extensions import VARIABLE

METRIC = """
from fromnoise.evaluate.metric import Metric


def measure(context):
    raise ValueError("boom in the metric")


METRIC = Metric(name="boom", label="boom", unit="", group="samples", measure=measure)
"""
FIGURE = """
from fromnoise.show.figure import Figure, always


def draw(context):
    raise ValueError("boom in the figure")


FIGURE = Figure(name="boom", about="it fails", group="samples", draw=draw, on_page=always)
"""
SOURCE = """
import numpy as np

from fromnoise.core.config import BaseConfig
from fromnoise.core.spec import DataSpec
from fromnoise.data.dataset import Dataset, Split, compute_digest
from fromnoise.data.source import Source


def load(name, options):
    spec = DataSpec("vector", (2,))
    rows = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
    splits = {"train": Split(rows[:200]), "validation": Split(rows[200:250]), "test": Split(rows[250:])}
    return Dataset(name, spec, splits, compute_digest(spec, splits))


SOURCE = Source(load, BaseConfig, names={"blob": "a round cloud"})
"""
TRAIN = ["train", "classical", "--preset", "mixture", "--quiet", "--out", "run"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "mine"
    path.mkdir()
    monkeypatch.setenv(VARIABLE, str(path))
    return path


def test_a_metric_that_raises_is_a_reason_in_the_report(folder, capsys):
    (folder / "boom.py").write_text(METRIC)
    assert call(capsys, *TRAIN, "--data", "ring8")[0] == 0
    assert call(capsys, "eval", "run", "--quick", "--samples", "60")[0] == 0
    rows = {
        row["name"]: row for row in json.loads(Path("run/report-quick.json").read_text())["metrics"]
    }
    assert "boom.py', line 6, in measure: ValueError: boom in the metric" in rows["boom"]["reason"]
    assert rows["kernel_distance"]["value"] is not None


def test_a_figure_that_raises_is_named_with_its_line(folder, capsys, monkeypatch):
    import subprocess
    import sys

    (folder / "boom.py").write_text(FIGURE)
    assert call(capsys, *TRAIN, "--data", "ring8")[0] == 0
    command = [sys.executable, "-m", "fromnoise", "show", "run"]
    one = subprocess.run([*command, "boom"], capture_output=True, text=True)
    assert one.returncode == 2
    assert "boom.py', line 6, in draw: ValueError: boom in the figure" in one.stderr
    every = subprocess.run(command, capture_output=True, text=True)
    assert every.returncode == 0 and "figure 'boom' is skipped" in every.stdout + every.stderr


def test_a_loss_that_raises_is_named_with_its_line(capsys):
    Path("mine.py").write_text(
        GOOD.replace("    z = self.down", "    raise KeyError('x')\n        z = self.down")
    )
    fails(
        capsys,
        2,
        "train",
        "mine.py",
        "--steps",
        "2",
        "--quiet",
        says=["mine.py', line ", "in loss: KeyError"],
    )


def test_data_of_a_source_that_is_absent_name_its_file(folder, capsys, monkeypatch):
    path = folder / "blob.py"
    path.write_text(SOURCE)
    assert call(capsys, *TRAIN, "--data", "blob")[0] == 0
    monkeypatch.delenv(VARIABLE)
    fails(capsys, 3, "eval", "run", "--quick", says=["blob.py", VARIABLE, str(folder)])
    assert call(capsys, "sample", "run", "-n", "4", "-o", "x.csv")[0] == 0


def test_examples_of_another_shape_than_the_specification_are_refused(folder, capsys):
    (folder / "blob.py").write_text(SOURCE.replace('"vector", (2,)', '"vector", (3,)'))
    fails(capsys, 3, "data", "info", "blob", says=["(2,)", "(3,)", "mend the source"])
