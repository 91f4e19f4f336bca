"""A class without training examples: nothing draws it in silence."""

import json

import numpy as np
import pytest
import torch

import fromnoise as fn
from fromnoise.core.errors import UsageError
from fromnoise.core.json_files import sealed
from fromnoise.evaluate.report import evaluate
from fromnoise.inference import edit_files, sample
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.show.catalogue import show

FAST = dict(steps=3, batch_size=16, intervals=1, validation_examples=8, threads=1, conditional=True)


@pytest.fixture
def trained(tmp_path):
    """A model of pictures of the classes 0 and 5; classes 1 to 4 have none."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (200, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "two.npz", x=x, y=np.arange(200) % 2 * 5)
    return fn.train(
        "vae",
        data=str(tmp_path / "two.npz"),
        out=tmp_path / "run",
        hidden=(8,),
        network="mlp",
        latent_dim=2,
        **FAST,
    )


def test_samples_go_through_learned_classes_only(trained, monkeypatch):
    loaded, told = trained.loaded, []
    monkeypatch.setattr(
        loaded.model,
        "sample",
        lambda n, y, options, rng: told.append(y) or torch.zeros(n, 1, 8, 8),
    )
    sample.sample(loaded, 64)
    assert told[0].tolist() == [0, 5] * 32


@pytest.mark.parametrize("with_data", [True, False])
def test_an_unlearned_class_is_refused_with_the_learned_ones(trained, with_data):
    loaded = load_run(trained.run, with_data=with_data)
    with pytest.raises(UsageError, match="class 3 has no training example.*choose from 0, 5$"):
        sample.sample(loaded, 2, label=3)
    assert len(sample.sample(loaded, 2, label=5)) == 2


def test_a_run_that_recorded_no_counts_is_sampled_as_before(trained):
    path = trained.path / "run.json"
    info = json.loads(path.read_text())
    counts = info["data"].pop("class_counts")
    assert sum(counts) == 160 and min(counts[0], counts[5]) > 0 and not any(counts[1:5])
    path.write_text(sealed(info))
    loaded = load_run(Run(trained.path), with_data=False)
    assert len(sample.sample(loaded, 2, label=3)) == 2
    assert loaded.dataset.default_conditions(range(7)).tolist() == [0, 1, 2, 3, 4, 5, 0]


def test_the_python_interface_refuses_an_unlearned_class(trained):
    x = np.zeros((1, 8, 8), np.uint8)
    for call in (
        lambda: trained.sample(1, label=2),
        lambda: trained.decode(np.zeros((1, 2)), [2]),
        lambda: trained.encode(x, [2]),
        lambda: trained.reconstruct(x, [2]),
        lambda: trained.show("grid", label=2),
    ):
        with pytest.raises(UsageError, match="class 2 has no training example"):
            call()


def test_edit_refuses_an_unlearned_class_and_passes_over_test_images_of_one(trained):
    loaded = trained.loaded
    with pytest.raises(UsageError, match="class 1 has no training example"):
        edit_files.load_images(loaded, 2, label="1")
    loaded.dataset.splits["test"].y[0] = 3
    _, y = edit_files.load_images(loaded, 4)
    assert len(y) == 4 and set(y.tolist()) <= {0, 5}
    loaded.dataset.splits["test"].y[:] = 3
    with pytest.raises(UsageError, match="add --label"):
        edit_files.load_images(loaded, 4)


def test_figures_name_and_draw_learned_classes(trained, tmp_path):
    files = show(trained.loaded, ["samples"], out=tmp_path / "figures")
    document = json.loads(next(f for f in files if f.suffix == ".json").read_text())
    numbers = document["numbers"]
    assert numbers["columns"] == 2 and set(numbers["labels"]) == {0, 5}


def test_a_report_says_that_test_examples_are_of_an_unlearned_class(trained):
    loaded = trained.loaded
    assert not any(
        "training example" in line for line in evaluate(loaded, quick=True, samples=60)["health"]
    )
    loaded.dataset.splits["test"].y[:3] = 3
    report = evaluate(loaded, quick=True, samples=60)
    assert any(
        line.startswith("3 of 20 test examples") and "(3)" in line for line in report["health"]
    )
