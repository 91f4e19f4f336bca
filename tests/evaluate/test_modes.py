"""Modes by PacGAN's protocol: closed forms, planted collapses, and the rows of a report. The last and the best checkpoint."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fromnoise import data
from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.data.dataset import Split
from fromnoise.data.sources import toys
from fromnoise.evaluate.quality import measure_quality
from fromnoise.evaluate.quality_reference import QualityReference
from fromnoise.evaluate.report import evaluate
from fromnoise.evaluate.samples import Samples
from fromnoise.evaluate.table import plain_table
from fromnoise.measures import labels
from fromnoise.measures.labels import divergence_from_uniform
from fromnoise.measures.pacgan import (
    ModeProtocol,
    classify_channels,
    estimate_modes,
    find_modes,
)
from fromnoise.runs.load import load_run
from fromnoise.show.page.page import write_page
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

STANDARD = 1 - math.exp(-4.5)  # of a round Gaussian in the plane within three standard deviations


# -- the divergence ---------------------------------------------------------------------------------------------
def test_divergence_of_known_shares():
    assert divergence_from_uniform(torch.arange(25).repeat(4), 25).value == pytest.approx(
        0, abs=1e-12
    )
    assert divergence_from_uniform(torch.zeros(100).long(), 25).value == pytest.approx(math.log(25))
    assert divergence_from_uniform(torch.arange(100) % 4, 8).value == pytest.approx(math.log(2))
    uneven = torch.tensor([0] * 3 + [1])
    assert divergence_from_uniform(uneven, 2).value == pytest.approx(
        0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    )


@pytest.mark.parametrize("modes, n", [(2, 3), (3, 4), (4, 1)])
def test_null_is_the_mean_over_all_draws(modes, n):
    draws = [
        divergence_from_uniform(torch.tensor(draw), modes)
        for draw in itertools.product(range(modes), repeat=n)
    ]
    assert draws[0].null == pytest.approx(np.mean([found.value for found in draws]), abs=1e-12)


def test_null_is_the_floor_of_the_literature():
    def floor(modes, n):
        return divergence_from_uniform(torch.arange(n) % modes, modes).null

    assert floor(1000, 26_000) == pytest.approx(999 / 52_000, rel=0.01) and floor(
        25, 2500
    ) == pytest.approx(24 / 5000, rel=0.01)
    assert floor(1, 10) == 0 and floor(1000, 100) < math.log(1000)


def test_error_and_null_hold_over_draws():
    p = np.array([0.4, 0.3, 0.2, 0.1])
    for shares, tolerance in ((np.full(4, 0.25), 0.3), (p, 0.15)):
        found = [
            divergence_from_uniform(Rng(i).categories("mode", shares, 400), 4) for i in range(300)
        ]
        spread = np.std([f.value for f in found])
        assert np.sqrt(np.mean([f.se**2 for f in found])) == pytest.approx(spread, rel=tolerance)
        exact = float((shares * np.log(4 * shares)).sum())
        assert np.mean([f.value for f in found]) - exact == pytest.approx(
            found[0].null, abs=4 * spread / math.sqrt(300)
        )


def test_bad_labels_are_refused():
    with pytest.raises(UsageError, match="whole numbers"):
        divergence_from_uniform(torch.zeros(0).long(), 3)
    with pytest.raises(DataError, match="3 classes"):
        divergence_from_uniform(torch.tensor([3]), 3)


# -- points -----------------------------------------------------------------------------------------------------
def perfect(name: str, n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(toys.density(name).sample(n, Rng(seed))[0])


def with_modes(name: str, n: int = 300):
    """A toy of few points: what is asked here needs no more."""
    parts = {
        part: Split(*toys.density(name).sample(n, Rng(7).at(part)))
        for part in ("train", "validation", "test")
    }
    return replace(data.load(name), splits=parts)


@pytest.mark.parametrize("name, count", [("ring8", 8), ("grid25", 25)])
def test_a_perfect_model_scores_its_nulls(name, count):
    dataset = data.load(name)
    found = [estimate_modes(dataset, perfect(name, 2500, seed)) for seed in range(20)]
    assert all(f["modes"].value == count for f in found) and found[0][
        "modes"
    ].null == pytest.approx(count, abs=1e-6)
    good, kl = ([f[key] for f in found] for key in ("good_samples", "mode_kl"))
    assert good[0].null == pytest.approx(STANDARD) and np.mean(
        [g.value for g in good]
    ) == pytest.approx(STANDARD, abs=0.002)
    assert np.mean([k.value for k in kl]) == pytest.approx(kl[0].null, rel=0.25) and kl[0].n == 2500
    assert kl[0].null == pytest.approx((count - 1) / (2 * STANDARD * 2500), rel=0.02)


def test_collapse_and_strays_are_counted():
    """Half of the modes, one of which has most; a fifth of the samples between the modes, which say nothing of shares."""
    centres = torch.from_numpy(data.load("ring8").modes[0])
    x = torch.cat([centres[[0]].expand(500, 2), centres[1:4].repeat(100, 1), torch.zeros(200, 2)])
    found = estimate_modes(data.load("ring8"), x.float())
    assert found["modes"].value == 4 and found["good_samples"].value == pytest.approx(0.8)
    p = np.array([500, 100, 100, 100]) / 800
    assert found["mode_kl"].value == pytest.approx((p * np.log(8 * p)).sum())
    near = centres[:1].float() + torch.tensor(
        [[0.0299, 0.0], [0.0301, 0.0]]
    )  # three standard deviations are 0.03
    assert labels.mode_of(near.double(), centres, 0.03).tolist() == [0, -1]


def test_only_the_protocols_samples_count():
    x = torch.cat([perfect("grid25", 2500), torch.full((2500, 2), 1.0)])
    assert estimate_modes(data.load("grid25"), x)["good_samples"].value > 0.98


def test_data_without_separate_modes_have_none():
    for name in ("moons", "digits"):
        assert find_modes(data.load(name)) is None


def test_rows_of_a_report():
    dataset = with_modes("ring8")
    x = perfect("ring8", 3000)
    quality_reference = QualityReference(dataset)
    rows = {
        row["name"]: row
        for row in measure_quality(quality_reference, Samples(3000, lambda: iter(x.split(700))))
        if row["group"] == "labels"
    }
    assert list(rows) == ["modes", "good_samples", "mode_kl"] and all(
        row["n"] == 2500 and row["m"] is None and row["real"] is None for row in rows.values()
    )
    assert (
        rows["modes"]["of"] == 8
        and rows["mode_kl"]["null"] == pytest.approx(0.0014, abs=1e-4)
        and rows["good_samples"]["unit"] == "share"
    )
    few = {
        row["name"]: row
        for row in measure_quality(quality_reference, Samples.of(x[:100]))
        if row["group"] == "labels"
    }
    assert (
        few["modes"]["real"] == 8
        and few["good_samples"]["real"] > 0.95
        and few["mode_kl"]["real"] > 0
        and few["modes"]["n"] == 100
    )
    lost = {
        row["name"]: row
        for row in measure_quality(quality_reference, Samples.of(x[:100] + 20))
        if row["group"] == "labels"
    }
    assert (
        lost["modes"]["value"] == 0
        and lost["mode_kl"]["value"] is None
        and "no sample" in lost["mode_kl"]["reason"]
    )


# -- stacks -----------------------------------------------------------------------------------------------------
class Brightness:
    """A classifier of three classes by the mean of a channel: dark, grey, bright."""

    name, classes = "brightness", 3

    def __call__(self, x):
        return x.flatten(1).mean(1, keepdim=True)

    def logits(self, features):
        return -(features - torch.tensor([-1.0, 0.0, 1.0])).square()


def test_channels_are_classified_one_by_one():
    level = torch.tensor([[-1.0, -1, -1], [1, 0, -1], [-0.9, 0.1, 0.8], [1, 1, 1]])
    index = classify_channels(level[:, :, None, None].expand(4, 3, 5, 6), Brightness())
    assert index.tolist() == [0, 2 * 9 + 1 * 3, 5, 26]


def test_all_stacks_belong_to_a_mode():
    found = ModeProtocol(1000, 26_000, lambda x: x, 1.0, "").estimates(torch.arange(990).repeat(20))
    assert (
        set(found) == {"modes", "mode_kl"}
        and found["modes"].value == 990
        and found["mode_kl"].value == pytest.approx(math.log(1000 / 990))
    )


@pytest.mark.mnist
def test_real_stacks_find_all_modes_that_there_are():
    dataset = data.load("stacked-mnist")
    batch = dataset.batch("test", slice(0, 3000))
    modes = find_modes(dataset)
    index = modes.index(batch.x)
    assert (
        modes.count == 1000
        and modes.most == 26_000
        and float((index == batch.y).float().mean()) > 0.96
    )
    found, truth = modes.estimates(index), modes.estimates(batch.y)
    assert found["modes"].value == pytest.approx(found["modes"].null, abs=15)
    assert truth["mode_kl"].value == pytest.approx(truth["mode_kl"].null, abs=0.03) and found[
        "mode_kl"
    ].value == pytest.approx(truth["mode_kl"].value, abs=0.02)
    red = batch.x.clone()
    red[:, 1:] = red[:1, 1:]  # one digit each in green and blue
    assert estimate_modes(dataset, red)["modes"].value == 10


# -- the last and the best checkpoint -----------------------------------------------------------------------------
def test_reports_tell_the_last_and_the_best_checkpoint(tmp_path):
    run = start_run(
        make_plan(
            "vae",
            "digits",
            threads=1,
            intervals=4,
            steps=40,
            hidden=(8,),
            latent_dim=2,
            batch_size=32,
        ),
        tmp_path / "run",
    )
    events = run.events("interval")
    assert evaluate(load_run(run), samples=60, k=2, n=20)["training"] == {
        "last": {"step": 40, "value": events[-1]["validation"]["value"]},
        "best": {"step": 40, "value": min(e["validation"]["value"] for e in events)},
        "rollbacks": 0,
    }
    run.append(
        {
            "kind": "rollback",
            "step": 45,
            "to": 40,
            "reason": "the loss is not finite",
            "lr_factor": 0.5,
        }
    )
    run.append(
        events[-1] | {"step": 50, "validation": {"value": events[-1]["validation"]["value"] + 1.0}}
    )
    report = evaluate(load_run(run), samples=60, k=2, n=20)
    assert (
        report["training"]["last"]["step"] == 50
        and report["training"]["best"]["step"] == 40
        and report["training"]["rollbacks"] == 1
    )
    text = plain_table([report])
    assert (
        "last checkpoint" in text
        and "at step 50" in text
        and "best checkpoint" in text
        and "at step 40" in text
    )
    old = {
        key: value for key, value in report.items() if key != "training"
    }  # reports of before say nothing
    assert "best checkpoint" not in plain_table([old])
    page = write_page(
        tmp_path / "p.html", "t", "", [load_run(run)] * 2, [report, old], {}, []
    ).read_text()
    assert page.count("at step 50, best") == 1 and "rolled back 1 time" in page
