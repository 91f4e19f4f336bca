"""Measurements against known answers, and reports that say what they are."""

import json
import math
import warnings

import numpy as np
import pytest
import torch
from helpers.linear_vae import linear_vae
from helpers.probabilistic_pca import LOG_P, X
from scipy import stats

from fromnoise import data
from fromnoise.core.config import build
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data import DataConfig, Dataset, Split
from fromnoise.evaluate import reconstruction
from fromnoise.evaluate.likelihood import score, scores
from fromnoise.evaluate.protocol import align_columns
from fromnoise.evaluate.report import evaluate
from fromnoise.evaluate.table import plain_table
from fromnoise.families import load
from fromnoise.measures.latents import active_units
from fromnoise.runs.load import LoadedRun, load_run
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

SMALL = dict(steps=12, batch_size=32, intervals=2, validation_examples=50, threads=1)


def trained(path, family="vae", **options) -> LoadedRun:
    return load_run(start_run(make_plan(family, **SMALL | options), path))


def measured(loaded: LoadedRun, samples: int = 60, **options) -> dict:
    return evaluate(loaded, samples=samples, **options)


def test_the_golden_ppca_through_the_whole_evaluation():
    x = X.float().repeat(4000, 1).numpy()
    dataset = Dataset("golden", DataSpec("vector", (5,)), {"test": Split(x)}, "")
    loaded = LoadedRun(None, load("vae"), linear_vae().float(), dataset, 0)
    elbo, weighted, many = score(loaded, 1), score(loaded, 50), score(loaded, 600, n=400)
    assert elbo.mean == pytest.approx(-5.884353, abs=4 * elbo.se) and elbo.n == 4000
    assert weighted.mean == pytest.approx(LOG_P, abs=4 * weighted.se + 5e-4)
    assert many.mean == pytest.approx(
        LOG_P, abs=4 * many.se + 1e-4
    )  # 600 = chunks of 256, 256 and 88


def test_a_score_does_not_depend_on_how_many_others_are_scored(tmp_path):
    loaded = trained(tmp_path / "run", hidden=(8,), latent_dim=2)
    by_hand = []
    for n in (1, 2):
        s = score(loaded, 5, n=n)
        by_hand.append(s.mean * n)
    alone = by_hand[0]
    assert by_hand[1] - alone == pytest.approx(score(loaded, 5, n=2).mean * 2 - alone)
    assert score(loaded, 5, n=1).mean == alone
    assert score(loaded, 5, seed=1, n=1).mean != alone


def test_dequantised_density_bounds_the_probability_of_the_levels():
    """A Gaussian density on 17 levels: the dequantised bound lies below the exact mass of each cell, and close."""
    spec = DataSpec("image", (1, 4, 4), levels=17)
    levels = Rng(0).integers("x", 17, (500, 1, 4, 4)).numpy().astype(np.uint8)
    dataset = Dataset("grey", spec, {"test": Split(levels, None, 17)}, "")
    family = load("classical")
    model = family.FAMILY(family.Config(model="ppca", latent_dim=1), spec)
    model.eigenvalues.fill_(0.25), model.noise.fill_(0.25)
    s = score(LoadedRun(None, family, model, dataset, 0), 1)
    x, half = levels.reshape(500, -1) / 8 - 1, 1 / 16
    exact = (
        np.log(stats.norm(0, 0.5).cdf(x + half) - stats.norm(0, 0.5).cdf(x - half)).sum(1).mean()
    )
    assert s.mean < exact + 3 * s.se / 50 and s.mean == pytest.approx(exact, abs=0.15)


def test_pca_beside_the_model_is_the_classical_family(tmp_path):
    loaded = trained(tmp_path / "pca", "classical", model="pca", latent_dim=7)
    mine, reference = (
        reconstruction.errors(loaded),
        reconstruction.pca_errors(loaded, reconstruction.principal_directions(loaded.dataset, 7)),
    )
    assert torch.allclose(mine, reference, atol=1e-6)
    ratio = next(row for row in measured(loaded)["metrics"] if row["name"] == "ratio_to_pca")
    assert ratio["value"] == pytest.approx(1, abs=1e-4) and ratio["se"] == pytest.approx(
        0, abs=1e-3
    )


def test_errors_are_told_for_pixels_in_0_1(tmp_path):
    loaded = trained(tmp_path / "ae", "autoencoder", hidden=(8,), latent_dim=2)
    batch = loaded.dataset.batch("test", slice(0, 10))

    def unit(v):
        return (v + 1) / 2

    expected = (unit(loaded.model.reconstruct(batch.x)) - unit(batch.x)).square().flatten(1).mean(1)
    assert torch.allclose(reconstruction.errors(loaded)[:10].float(), expected, atol=1e-6)
    assert reconstruction.psnr(0.01) == pytest.approx(20)


def test_noise_of_sigma_half_has_the_psnr_it_must(tmp_path):
    loaded = trained(tmp_path / "d", "autoencoder", preset="denoising", hidden=(8,))
    middle = Dataset(
        "grey",
        DataSpec("image", (1, 8, 8), levels=17),
        {"test": Split(np.full((300, 1, 8, 8), 8, np.uint8), None, 17)},
        "",
    )
    found = reconstruction.denoising_psnr(
        LoadedRun(None, loaded.family, loaded.model, middle, 0), loaded.model, 0.1
    )
    assert found["noisy"] == pytest.approx(20, abs=0.1)  # clipping at 5 sigma changes nothing


def restored_digest(report: dict) -> str:
    return report["data"]["digest"][:12]


def test_reports_say_what_they_are(tmp_path):
    vae = measured(trained(tmp_path / "vae", hidden=(8,), latent_dim=2), k=20)
    auto = measured(trained(tmp_path / "ae", "autoencoder", hidden=(8,), latent_dim=2))
    grey = measured(trained(tmp_path / "grey", hidden=(8,), latent_dim=2, likelihood="bernoulli"))
    ppca = measured(trained(tmp_path / "ppca", "classical", model="ppca", latent_dim=2))
    rows = {row["name"]: row for row in vae["metrics"]}
    assert (
        rows["elbo"]["bound"] == rows["importance_weighted"]["bound"] == "lower"
        and rows["importance_weighted"]["k"] == 20
    )
    assert rows["elbo"]["value"] < rows["importance_weighted"]["value"] and rows["elbo"]["n"] == 180
    assert rows["bits_per_dim"]["value"] == pytest.approx(
        -rows["importance_weighted"]["value"] / (64 * math.log(2))
    )
    for report, word in ((auto, "no density"), (grey, "grey values")):
        row = next(row for row in report["metrics"] if row["name"] == "log_likelihood")
        assert row["value"] is None and row["reason"].startswith("none:") and word in row["reason"]
    assert (
        "dequantisation"
        in next(row for row in ppca["metrics"] if row["name"] == "log_likelihood")["reason"]
    )
    names = [
        (c.name, c.card["bound"], c.card["k"])
        for c in align_columns([vae, auto, ppca])
        if c.valued_rows()
    ]
    assert ("elbo", "lower", 1) in names and ("importance_weighted", "lower", 20) in names
    text = plain_table([vae, auto])
    assert "ELBO" in text and "k = 20" in text and "no density" in text
    for row in vae["metrics"]:  # every number carries its protocol
        assert row["reference"].startswith(restored_digest(vae)) and row["seed"] == 0
        assert row["value"] is None or row["n"]
    assert json.loads((tmp_path / "vae" / "report.json").read_text()).items() >= vae.items()


@pytest.mark.slow
@pytest.mark.mnist
def test_a_denoiser_beats_the_noise_and_the_plain_autoencoder(tmp_path):
    """The full figures are benchmarks/denoising.py's; this is its order in 1,200 steps, when the margin is still small."""
    options = dict(data_name="mnist", preset="denoising", steps=1200, ema=0.98, intervals=2)
    denoiser = trained(tmp_path / "d", "autoencoder", **options)
    plain = trained(tmp_path / "p", "autoencoder", **options, corruption="none")
    a, b = (reconstruction.denoising_psnr(r, denoiser.model) for r in (denoiser, plain))
    assert (
        a["denoised"] > a["noisy"] + 5
        and a["denoised"] > b["denoised"] + 0.2
        and a["noisy"] == b["noisy"]
    )


@pytest.mark.mnist
def test_binarised_mnist_has_one_fixed_test_draw():
    a, b = (data.load("mnist", build(DataConfig, {"binarise": "dynamic"})) for _ in range(2))
    assert a.digest == b.digest and np.array_equal(a.splits["test"].x, b.splits["test"].x)
    assert a.splits["test"].x.mean() == pytest.approx(0.1325, abs=0.001) and set(
        np.unique(a.splits["test"].x)
    ) == {0, 1}
    first, again = (a.batch("train", slice(0, 50), Rng(0).at(i)).x for i in (0, 1))
    assert not torch.equal(first, again)


def test_ppca_with_every_component_still_has_a_likelihood(tmp_path):
    """Constant pixels have no variance of their own, but grey levels stand for cells: no density explodes."""
    few, all_ = (
        score(trained(tmp_path / str(k), "classical", model="ppca", latent_dim=k)).mean
        for k in (32, 64)
    )
    mixture = score(
        trained(tmp_path / "m", "classical", model="mixture", latent_dim=64, components=2)
    ).mean
    assert few - 5 < all_ < few + 40 and mixture > few - 40


def test_ten_examples_are_enough_for_a_report(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(10 * 36, dtype=np.uint8).reshape(10, 6, 6))
    report = measured(
        trained(tmp_path / "run", data_name=str(tmp_path / "x.npy"), hidden=(4,), latent_dim=2)
    )
    reasons = {row["name"]: row["reason"] for row in report["metrics"] if row["value"] is None}
    assert (
        "too few" in reasons["frechet"]
        and "too few" in reasons["near_copies"]
        and json.dumps(report, allow_nan=False)
    )


def test_the_first_examples_of_a_split_stand_for_all_of_it(tmp_path):
    labels = np.repeat(np.arange(10), 200)
    np.savez(tmp_path / "sorted.npz", x=np.zeros((2000, 4, 4), np.uint8), y=labels)
    dataset = data.load(str(tmp_path / "sorted.npz"))
    for name in ("train", "test"):
        assert set(dataset.splits[name].y[:100]) == set(range(10))


def test_a_summary_fits_a_terminal(tmp_path):
    from fromnoise.evaluate.summary import summary

    reports = [
        measured(trained(tmp_path / "vae", hidden=(8,), latent_dim=2), k=20),
        measured(trained(tmp_path / "pca", "classical", latent_dim=2)),
    ]
    text = summary(reports)
    assert "bound k=20" in text and "log p" in text and max(map(len, text.splitlines())) <= 110


def test_a_likelihood_given_the_label_says_so_in_the_terminal(tmp_path):
    from fromnoise.evaluate.summary import summary
    from fromnoise.studies.comparison import headline

    told = [
        measured(
            trained(
                tmp_path / f"{conditional}", hidden=(8,), latent_dim=2, conditional=conditional
            ),
            k=20,
        )
        for conditional in (True, False)
    ]
    heads = summary(told).splitlines()[0]
    assert "bound k=20, given labels" in heads and heads.count("bound k=20") == 2
    assert "nats given the labels" in headline(told[0]) and "given" not in headline(told[1])


def test_the_terminal_tells_what_a_perfect_model_would_score(tmp_path):
    """Of a table of nine distinct rows every honest sample is a copy: only the null says so."""
    rows = np.random.default_rng(0).integers(0, 3, (400, 2))
    (tmp_path / "nine.csv").write_text("a,b\n" + "\n".join(f"{a},{b}" for a, b in rows))
    report = measured(
        trained(tmp_path / "run", "classical", data_name=str(tmp_path / "nine.csv")), quick=True
    )
    rows = {found["name"]: found for found in report["metrics"]}
    lines = {
        line.split(" ↓")[0].split(" ↑")[0].strip(): line
        for line in plain_table([report]).splitlines()
    }
    head = next(line for line in lines.values() if "a perfect model" in line)
    for name in ("coverage", "duplicates"):
        null = f"{100 * rows[name]['null']:.1f} %"
        line = next(line for label, line in lines.items() if label.startswith(rows[name]["label"]))
        assert null in line[head.index("a perfect model") - 8 :]


def test_the_summary_tells_the_copies_of_a_perfect_model():
    from fromnoise.evaluate.protocol import row
    from fromnoise.evaluate.summary import summary
    from fromnoise.measures.estimate import Estimate

    near = row("near_copies", "near-copies", Estimate(1.0, null=0.997, n=60), "share")
    report = {"title": "m", "metrics": [near], "cost": {"train_seconds": 1.0}}
    assert "a perfect model has 99.7 % copies" in summary([report])


def test_the_elbo_of_few_examples_is_never_above_the_bound(tmp_path):
    loaded = trained(tmp_path / "vae")
    for n in (1, 2, 6):
        for seed in range(4):
            mean, bound = scores(loaded, 20, n, seed=seed)
            assert mean.mean < bound.mean and bound == score(loaded, 20, n, seed=seed)


def test_one_example_has_no_active_units_and_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not active_units(torch.ones(1, 3), torch.ones(3)).any()
