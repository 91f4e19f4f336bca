"""What `pip install fromnoise` would bring: no torchvision, no gigabytes of CUDA where a CPU wheel is offered."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
FORBIDDEN = {"torchvision", "torch-fidelity", "clean-fid", "mosaicml", "mosaicml-streaming"}


def pip(*args: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pip", *args, "--disable-pip-version-check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def cpu_wheel_offered() -> bool:
    """Does a folder that pip is told to look into hold a CPU wheel of torch in our range, for this Python?"""
    places = [
        word
        for line in pip("config", "list").stdout.splitlines()
        if "find-links" in line
        for word in line.split("'")[1].split()
    ]
    python = f"cp{sys.version_info.major}{sys.version_info.minor}-"
    wheels = [
        wheel.name for place in places for wheel in Path(place).glob("torch-2.1[0-3]*+cpu*.whl")
    ]
    return any(python in name for name in wheels)


@pytest.mark.slow
@pytest.mark.network
def test_a_dry_run_resolves_no_torchvision_and_no_cuda_where_a_cpu_wheel_is_offered(tmp_path):
    report = tmp_path / "report.json"
    done = pip(
        "install",
        "--dry-run",
        "--ignore-installed",
        "--quiet",
        "--report",
        str(report),
        str(PROJECT),
    )
    if done.returncode and any(
        word in done.stderr
        for word in (
            "Connection",
            "resolution",
            "Max retries",
            "timed out",
            "No matching distribution",
        )
    ):
        pytest.skip("the package index does not answer")
    assert done.returncode == 0, done.stderr
    found = {
        item["metadata"]["name"].lower(): item["metadata"]["version"]
        for item in json.loads(report.read_text())["install"]
    }
    assert "torch" in found and not FORBIDDEN & set(found)
    if cpu_wheel_offered():
        assert "+cpu" in found["torch"], found["torch"]
    if "+cpu" in found["torch"]:
        assert not [name for name in found if name.startswith("nvidia") or name == "triton"]


def test_the_torch_range_is_the_one_line_that_serves_everybody():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert "torch>=2.10,<2.14" in project["dependencies"]
    named = [
        d
        for group in (project["dependencies"], *project["optional-dependencies"].values())
        for d in group
    ]
    assert not [d for d in named if d.split(">")[0].split("=")[0].strip() in FORBIDDEN]


def test_the_package_never_imports_torchvision():
    script = "import sys, fromnoise.api, fromnoise.cli.verbs, fromnoise.studies.tour, fromnoise.show.catalogue; sys.exit(any(m.split('.')[0] in ('torchvision', 'pandas') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
