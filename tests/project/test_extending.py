"""Each file of docs/extending.md, as it stands there, passes `fromnoise check` and appears where the page says."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.command_line import call

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
EXAMPLES = dict(re.findall(r"```python file=(\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL))
LONGEST = 40  # lines of an example


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with all examples, named by FROMNOISE_EXTENSIONS; the working directory is beside it."""
    mine = tmp_path / "mine"
    mine.mkdir()
    for name, text in EXAMPLES.items():
        (mine / name).write_text(text)
    monkeypatch.setenv("FROMNOISE_EXTENSIONS", str(mine))
    monkeypatch.chdir(tmp_path)
    return mine


def run(*args) -> str:
    """The output of a command in a new process, which imports the files of the user afresh."""
    command = [sys.executable, "-m", "fromnoise", *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_a_short_example_of_each_kind():
    kinds = ("FAMILY", "SOURCE", "METRIC", "FIGURE")
    defined = [kind for kind in kinds for text in EXAMPLES.values() if f"\n{kind} = " in text]
    assert defined == list(kinds)
    for name, text in EXAMPLES.items():
        code = [line for line in text.splitlines() if line.strip()]
        assert len(code) < LONGEST, f"{name} has {len(code)} lines"


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_passes_its_checks(name, folder, capsys):
    code, out, err = call(capsys, "check", str(folder / name))
    assert code == 0 and "FAIL" not in out, out + err


@pytest.mark.slow
def test_the_examples_appear_in_help_in_a_report_and_on_a_page(folder):
    assert ".fwf" in run("data", "list")
    assert re.search(r"samples .*\bpixels\b", run("show", "--help"))
    assert "--lr" in run("train", folder / "diagonal.py", "--help")
    run("train", folder / "diagonal.py", "--steps", "40", "--out", "runs/a", "--quiet")
    run("train", "vae", "--steps", "40", "--out", "runs/b", "--quiet")
    assert "skewness" in run("eval", "runs/b", "--quick", "--json")
    report = json.loads(Path("runs/b/report-quick.json").read_text())
    row = next(row for row in report["metrics"] if row["name"] == "skewness")
    assert row["value"] is not None and row["real"] is not None and row["better"] == "near"
    assert "pixels.png" in run("show", "runs/b", "pixels")
    few = ("--samples", "200", "--no-zoo", "-o", "page.html")
    run("compare", "runs/a", "runs/b", "--trust-code", *few)
    page = Path("page.html").read_text()
    assert "Pixel values" in page and "skewness of an example" in page


def test_the_source_reads_its_files(folder):
    rows = "\n".join(f"{i / 7:<8.3f}{'red' if i % 3 else 'blue':<8}" for i in range(100))
    Path("t.fwf").write_text("height  colour  \n" + rows)
    info = json.loads(run("data", "info", "t.fwf", "--label", "colour", "--json"))
    assert info["classes"] == ["blue", "red"] and info["splits"]["train"] == 80


def test_a_broken_file_ends_a_command_with_one_line(folder, capsys):
    (folder / "broken.py").write_text("SOURCE = 1 / 0\n")
    code, out, err = call(capsys, "data", "list")
    assert code == 2 and "broken.py' cannot be imported: line 1: ZeroDivisionError" in err
    assert err.count("\n") == 1
