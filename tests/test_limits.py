"""Sizes that a file declares, a run records or a user asks for are judged before anything is made of them."""

import json
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fromnoise.cli import main
from fromnoise.core import limits
from fromnoise.core.errors import StorageError, UsageError
from fromnoise.data import load
from fromnoise.training import launch

STEPS = {"steps": 2, "threads": 1, "intervals": 1, "validation_examples": 20, "batch_size": 16}
MODELS = {
    "vae": ("vae", dict(hidden=(8,), latent_dim=2)),
    "conv": ("vae", dict(network="conv", width=4)),
    "diffusion": ("diffusion", dict(width=16)),
    "gan": ("gan", dict(network="mlp", hidden=(8,))),
    "pca": ("classical", dict(latent_dim=2)),
    "pixels": ("autoregressive", dict(size=1)),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROMNOISE_CACHE", str(root / "cache"))
        for name, (family, options) in MODELS.items():
            steps = {} if family == "classical" else STEPS
            launch.start(launch.plan(family, **options, **steps), root / name)
    return root


def forged(trained, name: str, edit) -> Path:
    shutil.copytree(trained / name, "run")
    info = json.loads(Path("run/run.json").read_text())
    edit(info)
    Path("run/run.json").write_text(json.dumps(info))
    return Path("run")


def refused(capsys, *args, codes=(2, 3, 4), says=()) -> str:
    """The command ends with one line, soon."""
    before, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = main([str(a) for a in args])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1e6  # GB
    out, err = capsys.readouterr()
    assert code in codes and err.count("\n") == 1 and "a bug of" not in err and "out of memory" not in err, (code, out, err)
    assert time.monotonic() - before < 5 and grown < 1, (time.monotonic() - before, grown, err)
    for word in says:
        assert word in err, err
    return err


SHAPES = [[1_000_000, 8, 8], [1, 100_000, 100_000], [1, 3000, 3000], [10**12, 1, 1], [1, 8, 2**40]]
CONFIGS = {
    "vae": [("hidden", [65536] * 4), ("hidden", [65536] * 100_000), ("hidden", [1] * 200_000), ("latent_dim", 4096)],
    "conv": [("width", 1024)],
    "diffusion": [("width", 65536), ("depth", 64)],
    "gan": [("hidden", [65536] * 4), ("latent_dim", 4096)],
    "pca": [("latent_dim", 64), ("components", 500)],
    "pixels": [("width", 65536), ("depth", 64), ("size", 16)],
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_forged_shape_is_refused(name, shape, trained, capsys):
    run = forged(trained, name, lambda info: info["data"]["spec"].update(shape=shape))
    refused(capsys, "sample", run, "-n", 2)


@pytest.mark.parametrize("name,key,value", [(name, *pair) for name, pairs in CONFIGS.items() for pair in pairs], ids=lambda v: str(v)[:20])
def test_a_forged_configuration_is_refused(name, key, value, trained, capsys):
    run = forged(trained, name, lambda info: info["config"].update({key: value}))
    refused(capsys, "sample", run, "-n", 2)
    refused(capsys, "resume", run, "--steps", 1)


def test_what_is_forged_in_other_places(trained, capsys):
    for edit in (
        lambda info: info["data"]["settings"].update(resolution=1024) or info["data"].update(name="faces"),
        lambda info: info["data"]["spec"].update(levels=10**15),
        lambda info: info["data"]["spec"].update(classes=10**12),
    ):
        run = forged(trained, "vae", edit)
        main(["sample", str(run), "-n", "2"])
        main(["eval", str(run), "--quick", "--samples", "50"])
        _, err = capsys.readouterr()
        assert "a bug of" not in err and "out of memory" not in err, err
        shutil.rmtree(run)


def test_building_is_bounded_in_size_and_in_number():
    for build in (
        lambda: torch.nn.Linear(65536, 65536),
        lambda: [torch.nn.Linear(1, 1) for _ in range(10**7)],
        lambda: torch.eye(10**5),
        lambda: torch.zeros(size=(10**5, 10**5)),
        lambda: torch.zeros(10).repeat(10**9),
        lambda: torch.ones(10, 1).repeat((1, 10**9)),
        lambda: torch.outer(torch.ones(10_000), torch.ones(10_000)),
    ):
        with pytest.raises(StorageError, match="far larger model"), limits.Bounded("it", 100, 2):
            build()
    with limits.Bounded("it", 100, 2):
        assert sum(p.numel() for p in torch.nn.Linear(3, 5).parameters()) == 20


# -- what a user asks for ---------------------------------------------------------------------------------------


def test_more_samples_than_fit_are_refused_in_one_line(trained, capsys):
    run, n = trained / "vae", "99999999999"
    refused(capsys, "sample", run, "-n", n, "-o", "x.npy", says=[f"-n {n}", "this machine has"])
    refused(capsys, "sample", run, "-n", n, says=[f"-n {n}", "or fewer"])
    refused(capsys, "sample", run, "-n", n, "-o", "folder", says=["too many for one folder", "or fewer"])
    refused(capsys, "eval", run, "--quiet", "--samples", n, says=[f"--samples {n}"])
    refused(capsys, "eval", run, "-k", n, says=["-k", "at most"])
    refused(capsys, "compare", run, "--samples", n, "--no-zoo", "--quiet", says=[f"--samples {n}"])
    refused(capsys, "edit", trained / "diffusion", "--strength", "0.5", "--draws", n, says=["draws"])
    refused(capsys, "edit", trained / "diffusion", "--between", n, says=["pictures between"])
    refused(capsys, "data", "info", "faces", "--resolution", "1024", says=["--resolution 1024"]) if limits.memory() < 6e10 else None
    assert not Path("folder").exists()


def test_a_folder_of_samples_is_written_as_they_come(trained, monkeypatch):
    from PIL import Image

    from fromnoise import sample
    from fromnoise.core.run import Run
    from fromnoise.training.restore import restore

    restored = restore(Run(trained / "vae"), with_data=False)
    expected = sample.in_own_units(restored.dataset, sample.sample(restored, 150))
    monkeypatch.setattr(sample, "sample", None)  # it would hold them all
    files = sample.sample_to(restored, 150, Path("many"))
    assert len(files) == 150 and all(np.array_equal(np.asarray(Image.open(f)), x) for f, x in zip(files, expected))
    with pytest.raises(UsageError):
        sample.sample_to(restored, 3, Path("none"), label=4)
    assert not Path("none").exists()


def test_sizes_are_told_in_words():
    assert [limits.in_words(n) for n in (12, 2_000, 3e6, 4e9, 5e12)] == ["12 bytes", "2 kB", "3 MB", "4 GB", "5 TB"]
    assert 2**28 < limits.memory() < 2**50
