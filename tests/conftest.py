"""Small tests on few cores run fastest with one thread each; nothing is written outside tmp_path."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def quiet_places(tmp_path, monkeypatch):
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def pytest_collection_modifyitems(items):
    data = os.environ.get("FROMNOISE_DATA")
    if data and (Path(data) / "mnist").is_dir():
        return
    for item in items:
        if "mnist" in item.keywords:
            item.add_marker(
                pytest.mark.skip(reason="FROMNOISE_DATA names no folder with mnist in it")
            )
