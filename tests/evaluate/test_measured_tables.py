"""Tables: measured as they are written, and rows whose probabilities sum to one."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from fromnoise.core.errors import DataError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.data import load
from fromnoise.data.codecs.columns import Columns
from fromnoise.data.stream import in_order
from fromnoise.evaluate import likelihood, likelihood_checks
from fromnoise.evaluate.metrics import likelihood as likelihood_rows
from fromnoise.evaluate.quality import measure_quality
from fromnoise.evaluate.quality_reference import QualityReference
from fromnoise.evaluate.samples import Samples
from fromnoise.inference import sample
from fromnoise.inference.write import write
from fromnoise.probability.cells import Cells, log_mass, truncated_normal_quantile
from fromnoise.runs.directory import Run
from fromnoise.runs.load import LoadedRun, load_run
from fromnoise.training.launch import start_run
from fromnoise.training.monitor.sample_reference import SampleReference
from fromnoise.training.plan import make_plan

TABLE_FAMILIES = ("autoencoder", "classical", "diffusion", "gan", "vae", "vaegan", "vqvae")


def table_of(path, **columns):
    names = list(columns)
    rows = zip(*columns.values())
    path.write_text(
        ",".join(names) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    )
    return load(str(path))


def integers(n, seed=0):
    """Three columns of whole numbers and the log of the probability that each row had, in nats."""
    g = np.random.default_rng(seed)
    flag = g.random(n) < 0.4
    educ = np.where(
        flag,
        g.choice([12, 16, 18], n, p=[0.2, 0.5, 0.3]),
        g.choice([8, 10, 12], n, p=[0.3, 0.3, 0.4]),
    )
    kids = g.poisson(np.where(educ > 12, 0.8, 1.7))
    chance = {(1, 12): 0.2, (1, 16): 0.5, (1, 18): 0.3, (0, 8): 0.3, (0, 10): 0.3, (0, 12): 0.4}
    log_p = np.log(np.where(flag, 0.4, 0.6)) + stats.poisson.logpmf(
        kids, np.where(educ > 12, 0.8, 1.7)
    )
    log_p += np.log([chance[int(f), int(e)] for f, e in zip(flag, educ)])
    return dict(flag=flag.astype(int), educ=educ, kids=kids), log_p


def mixed(n=60, seed=0):
    g = np.random.default_rng(seed)
    return dict(
        big=g.integers(0, 3_000_000_000, n),
        code=10**15 + g.integers(0, 5, n),
        price=np.round(g.lognormal(3, 2, n), 2),
        fine=np.round(g.normal(0, 1e-3, n), 6),
        free=g.normal(5, 2, n),
        flag=g.integers(0, 2, n),
        always=[7] * n,
        colour=g.choice(["red", "blue", "green"], n),
        only=["x"] * n,
        yes=g.choice(["True", "False"], n),
    )


def untrained(family, dataset, **options):
    plan = make_plan(family, dataset.name, steps=1, **options)
    model = plan.build().eval().requires_grad_(False)
    if hasattr(model, "fit_before"):
        model.fit_before(lambda: in_order(dataset, "train"), Rng(0))
    if hasattr(model, "fit"):
        model.fit(lambda: in_order(dataset, "train"), Rng(0))
    return LoadedRun(None, plan.family, model, dataset, 0)


def all_rows(dataset):
    """Every row that can be written, (R, D), of columns of whole numbers."""
    ranges = [range(int(c.low), int(c.high) + 1) for c in dataset.columns.columns]
    grid = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, len(ranges)).T
    names = [c.name for c in dataset.columns.columns]
    return torch.from_numpy(dataset.columns.encode(dict(zip(names, grid))))


# -- measured as written ---------------------------------------------------------------------------------------------


def test_rows_as_written_are_what_reading_the_written_file_gives(tmp_path):
    dataset = table_of(tmp_path / "t.csv", **mixed())
    codec, rng = dataset.columns, np.random.default_rng(1)
    for split in dataset.splits.values():
        written = codec.round_trip(split.x)
        assert np.allclose(
            written, split.x, rtol=1e-6, atol=1e-6
        )  # rows of the data stay as they are
        assert np.array_equal(written, codec.round_trip(written))
    x = dataset.split("train").x + rng.normal(0, 2, dataset.split("train").x.shape).astype(
        np.float32
    )
    written = codec.round_trip(x)
    assert np.array_equal(written, codec.encode(codec.decode(x))) and not np.allclose(written, x)
    assert np.array_equal(written, codec.round_trip(written))


def test_values_that_are_not_finite_are_not_hidden_by_writing(tmp_path):
    dataset = table_of(tmp_path / "t.csv", **mixed())
    x = torch.from_numpy(dataset.split("train").x[:2].copy())
    x[0, -1] = math.nan
    assert (
        torch.isnan(dataset.as_delivered(x)[0]).any()
        and torch.isfinite(dataset.as_delivered(x)[1]).all()
    )
    with pytest.raises(DataError, match="not finite"):
        list(Samples.of(x).checked_blocks(dataset))


@pytest.mark.parametrize("family", TABLE_FAMILIES)
def test_every_family_hands_out_rows_as_they_are_written(tmp_path, family):
    dataset = table_of(tmp_path / "t.csv", **mixed())
    loaded = untrained(family, dataset)
    x = sample.sample(loaded, 70)
    write(dataset, x, tmp_path / "out.csv")
    read = load(str(tmp_path / "out.csv")).columns
    header, *lines = (tmp_path / "out.csv").read_text().splitlines()
    cells = list(zip(*(line.split(",") for line in lines)))
    assert header == ",".join(c.name for c in dataset.columns.columns) and len(read.columns) == len(
        cells
    )
    rows = {
        c.name: list(v) if c.values else list(map(float, v))
        for c, v in zip(dataset.columns.columns, cells)
    }
    assert np.allclose(x.numpy(), dataset.columns.encode(rows), rtol=1e-6, atol=1e-6)
    assert set(rows["always"]) == {7} and set(rows["only"]) == {"x"}


def test_copies_with_a_little_noise_are_found_since_what_is_written_are_copies(tmp_path):
    g = np.random.default_rng(0)
    columns = dict(
        age=g.integers(17, 91, 2000), hours=g.integers(1, 100, 2000), educ=g.integers(1, 17, 2000)
    )
    dataset = table_of(tmp_path / "t.csv", **columns)
    x = torch.from_numpy(dataset.split("train").x[:500]) + 1e-3 * Rng(1).normal("x", (500, 3))
    rows = {
        found["name"]: found
        for found in measure_quality(QualityReference(dataset, quick=True), Samples.of(x))
    }
    assert rows["near_copies"]["value"] >= 0.95


def test_precision_and_coverage_are_those_of_the_written_rows(tmp_path):
    dataset = table_of(tmp_path / "t.csv", **integers(2000)[0])
    loaded = untrained("classical", dataset, components=20)
    raw = loaded.model.sample(600, None, loaded.family.Options(), Rng(3))
    written = torch.from_numpy(dataset.columns.encode(dataset.columns.decode(raw.numpy())))
    quality_reference = QualityReference(dataset, quick=True)
    one, other = (
        {r["name"]: r for r in measure_quality(quality_reference, Samples.of(x))}
        for x in (raw, written)
    )
    assert all(one[name]["value"] == other[name]["value"] for name in one)
    assert (
        one["precision"]["value"] > 0.85 and one["coverage"]["value"] > 0.95
    )  # of soft rows about .4


def test_the_duel_of_a_gan_is_judged_by_rows_as_they_are_written(tmp_path):
    dataset = table_of(tmp_path / "t.csv", **integers(300)[0])
    loaded = untrained("gan", dataset)
    features, _ = SampleReference(dataset, 100, Rng(0)).draw(loaded.model, loaded.family.Options())
    assert np.allclose(features.numpy(), dataset.columns.round_trip(features.float().numpy()))


# -- probabilities ---------------------------------------------------------------------------------------------------


def test_mass_of_a_cell_is_scipys_and_has_derivatives_for_every_width():
    lower = torch.tensor([-math.inf, -1.0, 3.0, 30.0, -30.0, 0.5, 0.5], dtype=torch.float64)
    upper = torch.tensor(
        [0.3, 2.0, math.inf, 31.0, -29.0, 0.5 + 1e-9, 0.5 + 5e-2], dtype=torch.float64
    )
    width = upper - lower
    norm = stats.norm
    right = [
        norm.logcdf(0.3),
        math.log(norm.cdf(2) - norm.cdf(-1)),
        norm.logsf(3),
        norm.logsf(30) + math.log1p(-math.exp(norm.logsf(31) - norm.logsf(30))),
        norm.logsf(29) + math.log1p(-math.exp(norm.logsf(30) - norm.logsf(29))),
        norm.logpdf(0.5) + math.log(1e-9),
        math.log(norm.cdf(0.55) - norm.cdf(0.5)),
    ]
    assert np.allclose(log_mass(lower, upper, width), right, rtol=1e-6, atol=0)
    assert (
        float(log_mass(torch.tensor(-math.inf), torch.tensor(math.inf), torch.tensor(math.inf)))
        == 0
    )
    z = truncated_normal_quantile(lower, upper, torch.tensor(0.37))
    assert bool(((z >= lower) & (z <= upper)).all())
    for s in (-16.0, -2.0, 10.0):
        cells = Cells(DataSpec("vector", (3,), cells=((1e-7, 0, 1), (0.5, 0, 1), (1, 0, 0))))
        mean, logvar = (
            torch.full((2, 3), 0.3, requires_grad=True),
            torch.full((1, 3), s, requires_grad=True),
        )
        value = cells.log_mass(torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]), mean, logvar).sum()
        value.backward()
        assert (
            math.isfinite(float(value.detach()))
            and torch.isfinite(mean.grad).all()
            and torch.isfinite(logvar.grad).all()
        )


@pytest.mark.parametrize(
    "model,components", [("ppca", 1), ("mixture", 1), ("mixture", 10), ("mixture", 100)]
)
def test_probabilities_of_all_rows_sum_to_one(tmp_path, model, components):
    columns, _ = integers(600)
    one = table_of(tmp_path / "one.csv", educ=columns["educ"])
    exact = untrained("classical", one, model=model, components=components).model
    assert exact.bound == "exact"
    assert float(
        exact.log_likelihood(all_rows(one), None, Rng(0)).double().exp().sum()
    ) == pytest.approx(1, abs=1e-3)
    two = table_of(tmp_path / "two.csv", educ=columns["educ"], kids=columns["kids"])
    bounded = untrained("classical", two, model=model, components=components).model
    assert bounded.bound == "lower"
    total = float(bounded.log_likelihood(all_rows(two), None, Rng(0), 200).double().exp().sum())
    assert total == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("family", ["vae", "diffusion"])
def test_a_trained_vae_and_diffusion_give_all_rows_at_most_one(tmp_path, family):
    columns, _ = integers(400)
    dataset = table_of(tmp_path / "two.csv", flag=columns["flag"], kids=columns["kids"])
    rows = all_rows(dataset)
    model = make_plan(family, dataset.name, steps=1).build()
    if family == "diffusion":
        model.fit_before(lambda: in_order(dataset, "train"), Rng(0))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(60):
        optimiser.zero_grad()
        model.loss(
            dataset.batch("train", slice(0, 200)), model.phases()[0].name, Rng(0).at(step)
        ).value.backward()
        assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
        optimiser.step()
    model.eval().requires_grad_(False)
    draws = torch.stack(
        [model.log_likelihood(rows, None, Rng(seed), 100) for seed in range(8)]
    ).double()
    one = (
        draws.exp().mean(0) if family == "vae" else draws.mean(0).exp()
    )  # an estimate of P, and a bound of it
    assert model.bound == "lower" and 0.05 < float(one.sum()) < 1.05 and float(one.max()) < 1
    if family == "vae":
        assert float(one.sum()) > 0.95


@pytest.mark.parametrize("components", [1, 10, 100])
def test_no_mixture_is_better_than_the_truth(tmp_path, components):
    columns, log_p = integers(1500)
    dataset = table_of(tmp_path / "t.csv", **columns)
    model = untrained("classical", dataset, components=components).model
    x = torch.from_numpy(dataset.columns.encode(columns))
    found = model.log_likelihood(x, None, Rng(0), 20)
    held_out = torch.from_numpy(dataset.split("test").x)
    nearest = torch.cdist(held_out, x).argmin(1).numpy()
    difference = found.numpy()[nearest] - log_p[nearest]
    assert difference.mean() < 3 * difference.std() / math.sqrt(len(difference))
    assert found.max() <= 0 and found.mean() > -6


def test_a_constant_column_changes_no_number(tmp_path):
    columns, _ = integers(200)
    plain = table_of(tmp_path / "plain.csv", **columns)
    more = table_of(
        tmp_path / "more.csv", one=[1] * 200, **columns, half=[0.5] * 200, word=["w"] * 200
    )
    assert (
        more.spec == plain.spec
        and more.spec.cells == plain.spec.cells
        and more.digest == plain.digest
    )
    assert all(np.array_equal(more.split(name).x, plain.split(name).x) for name in plain.splits)
    back = more.columns.decode(more.split("test").x)
    assert set(back["one"]) == {1} and set(back["half"]) == {0.5} and set(back["word"]) == {"w"}
    with pytest.raises(
        DataError, match="column 'one': '2' is not possible, it is '1' in every row of the data"
    ):
        more.columns.encode(back | {"one": [2] * len(back["one"])})


def test_a_table_of_constants_still_trains_and_has_probability_one_at_most(tmp_path):
    dataset = table_of(tmp_path / "t.csv", one=[1] * 40, half=[0.5] * 40)
    assert dataset.spec.dims == 2
    model = untrained("vae", dataset).model
    assert (
        float(
            model.log_likelihood(
                torch.from_numpy(dataset.split("test").x), None, Rng(0), 100
            ).mean()
        )
        <= 0.1
    )
    x = untrained("classical", dataset).model.log_likelihood(
        torch.from_numpy(dataset.split("test").x), None, Rng(0)
    )
    assert float(x.max()) <= 1e-6


def test_dequantised_rows_of_a_density_are_bounded_by_the_probability(tmp_path):
    """--likelihood gaussian on whole numbers is a density: noise in the cells and their volume make it a bound."""
    columns, _ = integers(200)
    dataset = table_of(tmp_path / "t.csv", **columns)
    model = untrained("vae", dataset, likelihood="gaussian").model
    batch = Batch(torch.from_numpy(dataset.split("train").x))
    found = likelihood.log_likelihoods(model, dataset.spec, batch, Rng(0), 1)
    x, volume = likelihood.dequantised(batch.x, dataset.spec, Rng(0))
    assert model.continuous and volume == pytest.approx(
        sum(math.log(c[0]) for c in dataset.spec.cells)
    )
    assert torch.allclose(found, model.log_likelihood(x, None, Rng(0), 1) + volume)
    assert 0 < float((x - batch.x).abs().max()) <= max(c[0] for c in dataset.spec.cells) / 2 + 1e-6


def test_the_card_says_what_a_likelihood_of_a_row_is(tmp_path):
    columns, _ = integers(200)
    free = table_of(tmp_path / "free.csv", **columns, x=np.random.default_rng(0).normal(size=200))
    whole = table_of(tmp_path / "whole.csv", **columns)
    units = [likelihood_checks.unit_of(dataset) for dataset in (whole, free)]
    assert units == ["nats per row", "nats per row, 1 of 4 columns as standardised densities"]
    categories = table_of(tmp_path / "words.csv", **columns, word=["a", "b"] * 100)
    for family in TABLE_FAMILIES:
        for dataset in (whole, categories):
            rows = likelihood_rows.rows(untrained(family, dataset), k=3, n=10, seed=0)
            assert {found["unit"] for found in rows} <= {
                likelihood_checks.unit_of(dataset),
                "nats per example",
            }
            for found in rows:
                assert (found["value"] is None) == bool(found["reason"].startswith("none: "))
                assert found["value"] is None or (
                    found["unit"],
                    found["bound"] in ("exact", "lower", "ode"),
                ) == ("nats per row", True)
        has = any(found["value"] is not None for found in rows)
        assert has == (family in ("vae", "vaegan")), family  # of categories


def test_a_run_keeps_its_cells_and_an_old_run_without_them_has_no_likelihood(tmp_path):
    columns, _ = integers(200)
    dataset = table_of(tmp_path / "t.csv", **columns)
    run = start_run(make_plan("classical", dataset.name), tmp_path / "run")
    assert load_run(run, with_data=False).model.spec.cells == dataset.spec.cells
    spec = {key: value for key, value in run.info["data"]["spec"].items() if key != "cells"}
    run.update(data=run.info["data"] | {"spec": spec})
    old = load_run(Run(run.path))
    assert old.model.spec.cells == ()
    rows = likelihood_rows.rows(old, k=3, n=10, seed=0)
    assert all(found["value"] is None and "train it anew" in found["reason"] for found in rows)
    old_columns = [
        {k: v for k, v in c.items() if k != "constant"}
        for c in run.info["data"]["columns"]["columns"]
    ]
    assert Columns.from_json({"columns": old_columns}) == dataset.columns


def test_spec_without_cells_equals_one_with_them_so_that_old_runs_meet_their_data():
    spec = DataSpec("vector", (2,), cells=((1, 0, 3), (0, 0, 1)))
    assert spec == replace(spec, cells=()) and repr(spec) == repr(replace(spec, cells=()))
    assert DataSpec(**spec.to_json()).cells == spec.cells and spec.has_cells and spec.densities == 1


def test_cells_that_float32_cannot_tell_apart_are_no_cells(tmp_path):
    """Their rows would all be the end cell, and each would have its whole mass."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 10**9, 200).tolist()
    fine = rng.integers(0, 1000, 200).tolist()
    dataset = table_of(tmp_path / "t.csv", wide=wide, fine=fine)
    widths = [width for width, _, _ in dataset.spec.cells]
    assert widths[0] == 0 and widths[1] > 0
    assert dataset.spec.densities == 1


def test_a_value_that_many_rows_share_among_continuous_ones_has_no_density(tmp_path):
    """Money that is often exactly 0: a narrow peak there would give a model any log-likelihood."""
    g = np.random.default_rng(0)
    zeros = np.where(g.random(400) < 0.3, 0.0, g.lognormal(3, 1, 400))
    dataset = table_of(tmp_path / "money.csv", plain=g.normal(size=400), money=zeros)
    loaded = untrained("classical", dataset)
    reason = likelihood_checks.why_none(loaded)
    assert "column 'money' has one value" in reason and "round it to 3 decimals" in reason
    assert {row["bound"]: row["value"] for row in likelihood_rows.rows(loaded, 2, 20, 0)}[
        "exact"
    ] is None
    rounded = table_of(tmp_path / "rounded.csv", plain=g.normal(size=400), money=zeros.round(3))
    assert likelihood_checks.repeated_value(rounded) == ""
    free = table_of(tmp_path / "free.csv", plain=g.normal(size=400), money=g.lognormal(3, 1, 400))
    assert likelihood_checks.repeated_value(free) == ""
    assert likelihood_checks.repeated_value(load("grid25")) == ""


@pytest.mark.parametrize("unit", [1e-7, 1.0, 300.0, 1e9])
def test_a_column_that_is_rounded_as_advised_has_probabilities(tmp_path, unit):
    g = np.random.default_rng(1)
    amounts = unit * np.where(g.random(300) < 0.3, 0.0, g.lognormal(3, 1, 300))
    column = Columns.fit({"money": amounts, "free": g.normal(size=300)}, np.arange(300)).columns[0]
    words = column.describe_rounding().replace(",", "").split()
    if words[0] == "round":
        amounts = amounts.round(int(words[3]))
    else:
        factor = float(words[3])
        amounts = (amounts * factor if words[0] == "multiply" else amounts / factor).round()
    rounded = Columns.fit({"money": amounts}, np.arange(300)).columns[0]
    assert rounded.cells[0][0] > 0
