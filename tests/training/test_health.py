"""Divergence and the health of a training."""

import pytest
import torch
from helpers.small_trainings import SMALL, TINY_VAE, train
from helpers.two_networks import duel

from fromnoise import families
from fromnoise.checks.exactness import first_difference, interrupted
from fromnoise.core.errors import DataError, DivergedError
from fromnoise.core.family import Loss
from fromnoise.runs import checkpoint
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.training import estimate
from fromnoise.training.estimate import estimate_cost
from fromnoise.training.plan import make_plan


def test_a_learning_rate_of_1e30_is_stopped_with_the_last_good_state(tmp_path):
    with pytest.raises(DivergedError, match="not finite.*--lr") as error:
        train(tmp_path / "run", lr=1e30, schedule="constant")
    assert error.value.exit_code == 5 and "\n" not in str(error.value)
    saved = checkpoint.find(Run(tmp_path / "run"))
    assert all(torch.isfinite(t).all() for t in saved.tensors("model").values())


def test_what_is_not_finite_changes_no_weight():
    trainer = duel()
    trainer.advance(20)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    original = trainer.model.loss
    trainer.model.loss = lambda *a: Loss(
        original(*a).value * float("nan"), {"value": original(*a).value}
    )
    with pytest.raises(DivergedError, match="step 1"):
        trainer.advance(20)
    assert all(torch.equal(v, before[k]) for k, v in trainer.model.state_dict().items())


def test_a_collapsed_posterior_is_named(tmp_path):
    run = train(tmp_path / "run", beta=200.0, lr=1e-2, steps=200)
    assert any(
        "posterior collapse: 0 of 2" in s and "--beta" in s for s in run.events()[-1]["health"]
    )
    healthy = train(tmp_path / "b", steps=400, lr=1e-2, hidden=(64,))
    assert not any("collapse" in s for s in healthy.events()[-1]["health"])


def test_no_progress_is_named():
    from fromnoise.training.monitor.health import diagnose

    model = families.load("autoencoder").FAMILY(
        families.load("autoencoder").Config(hidden=(4,)), make_plan("classical").dataset.spec
    )
    batch = make_plan("classical").dataset.batch("validation", slice(0, 20))
    assert "no progress" in diagnose(model, batch, [3.0, 1.0] + [1.5] * 6, 20)[0]
    assert not diagnose(model, batch, [3.0 - 0.1 * i for i in range(8)], 20)


def test_bfloat16_learns_what_float32_learns(tmp_path):
    def value(name, **o):
        return train(tmp_path / name, steps=150, lr=1e-2, hidden=(64,), **o).events()[-1][
            "validation"
        ]["value"]

    full, mixed = value("a"), value("b", precision="bfloat16")
    assert mixed == pytest.approx(full, rel=0.03) and mixed != full


def test_sampling_needs_no_data(tmp_path):
    import numpy as np

    from fromnoise.inference.sample import sample

    path = tmp_path / "t.csv"
    rows = np.random.Generator(np.random.Philox(1)).normal(10, 3, (60, 2))
    path.write_text(
        "a,b,c\n" + "".join(f"{a},{b},{'xy'[i % 2]}\n" for i, (a, b) in enumerate(rows))
    )
    run = train(tmp_path / "run", data_name=str(path))
    with_data = load_run(run)
    expected = with_data.dataset.columns.decode(sample(with_data, 5).numpy())
    path.unlink()
    loaded = load_run(run, with_data=False)
    assert loaded.dataset.columns.decode(sample(loaded, 5).numpy()) == expected and set(
        expected
    ) == {
        "a",
        "b",
        "c",
    }
    with pytest.raises(DataError):
        load_run(run)


def test_what_compile_takes_hold_of():
    from fromnoise.core.device import compilable_modules

    def names(family, **o):
        return [
            type(m).__name__ for m in compilable_modules(make_plan(family, **SMALL | o).build())
        ]

    assert names("vae", hidden=(8,)) == ["MLP", "Reshaped", "OutputVariance"]
    assert names("autoencoder", hidden=(8,)) == ["MLP", "Reshaped"]
    assert "Sequential" in names("vae", preset="ladder", width=8, blocks=1)


def test_without_an_average_the_weights_are_the_models(tmp_path):
    run = train(tmp_path / "run", ema=0.0)
    saved = checkpoint.find(run)
    assert all(torch.equal(v, saved.tensors("ema")[k]) for k, v in saved.tensors("model").items())
    assert not first_difference(
        run, interrupted(make_plan("vae", **TINY_VAE | {"ema": 0.0}), tmp_path / "b", [7])
    )


def test_a_plan_says_when_looking_costs_more_than_learning(monkeypatch):
    plan = make_plan("vae", "digits", steps=2, threads=1)
    assert estimate_cost(plan.trainer(), plan.train)["note"] == ""  # short altogether
    monkeypatch.setattr(estimate, "MIN_NOTE_SECONDS", 0.0)
    assert "fewer --validation-examples" in estimate_cost(plan.trainer(), plan.train)["note"]
    plan = make_plan("vae", "digits", steps=100_000, threads=1)
    assert estimate_cost(plan.trainer(), plan.train)["note"] == ""
