"""The same seed gives the same bits, in one piece or resumed."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from helpers.small_trainings import INFO, TINY_VAE, train
from helpers.two_networks import duel

from fromnoise.checks.exactness import first_difference
from fromnoise.cli.live import plan_line
from fromnoise.core.errors import DataError, StorageError, UsageError
from fromnoise.core.family import Family
from fromnoise.families.autoregressive import AutoRegressive
from fromnoise.runs import checkpoint
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.training.estimate import estimate_cost
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan
from fromnoise.training.resume import resume_run
from fromnoise.training.trainer import Trainer

SCRIPT = """
import sys, fromnoise as fn
run = fn.train("vae", hidden=(8,), latent_dim=2, steps=20, batch_size=32, intervals=4, threads=1, seed=int(sys.argv[2]), out=sys.argv[1])
"""


def test_two_fresh_processes_give_the_same_digests(tmp_path):
    digests = []
    for i, seed in enumerate((3, 3, 4)):
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / str(i)), str(seed)],
            check=True,
            env=os.environ | {"PYTHONHASHSEED": str(i)},
        )
        digests.append(checkpoint.find(Run(tmp_path / str(i))).manifest.files)
    assert digests[0] == digests[1] and digests[0] != digests[2]


def test_watching_changes_nothing(tmp_path):
    """Figures, samples and evaluation in mid-run draw from keys of their own."""
    from fromnoise.inference.sample import sample

    plain = train(tmp_path / "a")
    progress_options = start_run(
        make_plan("vae", **TINY_VAE),
        tmp_path / "b",
        on_event=lambda e: (
            torch.manual_seed(9),
            torch.rand(5, generator=None),
            sample(load_run(plain), 3),
        ),
    )
    assert not first_difference(plain, progress_options)


def test_the_same_state_is_the_same_bytes(tmp_path):
    run, trainer = train(tmp_path / "run"), duel()
    for name in ("a", "b"):
        trainer.save(Run.create(tmp_path / name, INFO))
    a, b = (sorted((tmp_path / name / "checkpoints").rglob("*.*")) for name in ("a", "b"))

    def files(paths):
        return [p.read_bytes() for p in paths if p.is_file()]

    assert files(a) == files(b) and len(files(a)) == 4
    assert run.info["steps"] == 20


def test_resume_with_another_option_is_refused_by_name(tmp_path):
    run = train(tmp_path / "run")
    for changes, word in (
        ({"lr": 0.5}, "--lr"),
        ({"latent_dim": "3"}, "--latent-dim"),
        ({"batch_size": 64}, "--batch-size"),
        ({"seeed": 1}, "seed"),
    ):
        with pytest.raises(UsageError, match=word):
            resume_run(run, changes)


def test_resume_with_other_data_is_refused(tmp_path):
    import numpy as np

    path = tmp_path / "x.npy"
    np.save(path, np.random.Generator(np.random.Philox(1)).integers(0, 255, (60, 8, 8), np.uint8))
    run = train(tmp_path / "run", data_name=str(path))
    np.save(path, np.random.Generator(np.random.Philox(2)).integers(0, 255, (60, 8, 8), np.uint8))
    with pytest.raises(DataError, match="changed since"):
        resume_run(run, {"steps": 5})
    path.unlink()
    with pytest.raises(DataError, match="any more: restore them"):
        resume_run(run, {"steps": 5})


def test_a_run_remembers_where_its_data_went_once_they_are_proven(tmp_path):
    import numpy as np

    def draw(seed):
        return np.random.Generator(np.random.Philox(seed)).integers(0, 255, (60, 8, 8), np.uint8)

    old, new, other = (tmp_path / name for name in ("old.npy", "new.npy", "other.npy"))
    np.save(old, draw(1))
    np.save(other, draw(2))
    run = train(tmp_path / "run", data_name=str(old))
    old.rename(new)
    with pytest.raises(DataError, match="--data PATH"):
        load_run(run)
    with pytest.raises(DataError, match="changed since"):
        load_run(run, data_name=str(other))
    assert Run(run.path).info["data"]["name"] == str(old)
    load_run(run, data_name=str(new))
    assert load_run(Run(run.path)).dataset.name == str(new)
    new.rename(old)
    resume_run(Run(run.path), {"data": str(old), "steps": 5})
    assert load_run(Run(run.path)).dataset.name == str(old)


def test_a_budget_too_short_for_its_intervals_says_so():
    def about(**budget):
        plan = make_plan("vae", "digits", **TINY_VAE | {"steps": None, "intervals": 20} | budget)
        return estimate_cost(plan.trainer(), plan.train)

    short = about(minutes=1e-4)
    assert (
        short["steps"] == 20 and "20 intervals" in short["note"] and "--intervals" in short["note"]
    )
    assert plan_line(short).splitlines()[1].strip() == f"! {short['note']}"
    assert (
        not about(minutes=0.2)["note"]
        and not about(steps=3)["note"]
        and "\n" not in plan_line(about(steps=3))
    )


def test_where_looking_takes_long_there_are_fewer_intervals(monkeypatch, tmp_path):
    """Each look 0.3 s: of 6 seconds a fifth, 1.2 s, is enough for three of them, with their margin."""
    validate = Trainer.validate_and_select_average
    monkeypatch.setattr(
        Trainer,
        "validate_and_select_average",
        lambda trainer: (time.sleep(0.3), validate(trainer))[1],
    )

    def about(**budget):
        plan = make_plan("vae", "digits", **TINY_VAE | {"steps": None, "intervals": None} | budget)
        return estimate_cost(plan.trainer(), plan.train)["intervals"]

    assert (
        about(minutes=0.1) == 3
        and about(minutes=0.01) == 2
        and about(minutes=100) == about(steps=30) == 20
    )
    assert about(minutes=0.1, intervals=7) == 7
    run = start_run(
        make_plan("vae", "digits", **TINY_VAE | {"steps": None, "intervals": None, "minutes": 0.1}),
        tmp_path / "run",
    )
    assert (
        len(run.events("interval")) == run.info["intervals"] == 3
        and run.info["train"]["intervals"] is None
    )
    before, step = run.info["steps"], run.events("interval")[-1]["step"]
    resume_run(run, {"steps": 40})  # 20 of them, as in a new run of so many steps, each of 2
    looked = [event["step"] for event in run.events("interval") if event["step"] > before]
    assert step == before and len(looked) in (20, 21) and run.info["intervals"] > 20


def test_a_run_of_another_version_says_so_when_it_is_resumed(tmp_path):
    run = train(tmp_path / "run")
    run.update(config=run.info["config"] | {"hidden": [9]})
    with pytest.raises(StorageError, match="does not fit this version of its family"):
        resume_run(Run(run.path), {"steps": 2})


@pytest.mark.parametrize("family,data", [("vae", "digits"), ("gan", "ring8")])
def test_the_model_is_built_once_before_the_first_step(family, data, monkeypatch, tmp_path):
    """Options are checked, steps are timed and the run is trained with one and the same model."""
    from fromnoise.cli import main

    built, original = [], Family.__init__

    def counted(self, config, spec):
        built.append(type(self).__name__)
        original(self, config, spec)

    monkeypatch.setattr(Family, "__init__", counted)
    small = ["--batch-size", "16", "--validation-examples", "20", "--quiet", "--out", "run"]
    monkeypatch.chdir(tmp_path)
    assert main(["train", family, "--data", data, "--steps", "2", "--hidden", "8", *small]) == 0
    assert len(built) == 1, built
    built.clear()
    assert main(["resume", "run", "--steps", "2", "--quiet"]) == 0
    assert len(built) == 1, built


def test_a_changed_plan_has_a_model_of_its_own():
    plan = make_plan("vae", **TINY_VAE)
    other = replace(plan, train=plan.train.model_copy(update={"seed": 1}))
    again = [plan.trainer().model, plan.trainer().model]  # checked before, and built anew
    assert all(torch.equal(p, q) for p, q in zip(*(m.parameters() for m in again)))
    pairs = list(zip(again[0].parameters(), other.trainer().model.parameters()))
    assert not all(torch.equal(p, q) for p, q in pairs) and again[0] is not again[1]


def test_what_is_computed_before_the_first_step_is_computed_once(monkeypatch, tmp_path):
    (tmp_path / "t.txt").write_text("to be or not to be, that is the question. " * 200)
    fitted, fit_before = [], AutoRegressive.fit_before
    monkeypatch.setattr(
        AutoRegressive,
        "fit_before",
        lambda self, *args: (fitted.append(1), fit_before(self, *args))[1],
    )
    options = dict(
        data_name=str(tmp_path / "t.txt"),
        context=16,
        prior=True,
        width=16,
        depth=1,
        steps=4,
        batch_size=4,
        intervals=1,
        threads=1,
    )
    run = start_run(make_plan("autoregressive", **options), tmp_path / "run")
    assert len(fitted) == 1
    longer = resume_run(run, {"minutes": 1e-4})
    assert len(fitted) == 2 and longer.info["steps"] == 5
    trainer = make_plan("autoregressive", **options).trainer()
    first = {name: t.clone() for name, t in trainer.model.state_dict().items()}
    with trainer.rehearsal():
        trainer.advance(4)
    assert len(fitted) == 3 and trainer.state.step == 0
    assert all(torch.equal(t, first[name]) for name, t in trainer.model.state_dict().items())


def test_a_finished_run_says_so_and_can_be_extended(tmp_path):
    run = train(tmp_path / "run")
    with pytest.raises(UsageError, match="finished"):
        resume_run(run)
    longer = resume_run(run, {"steps": 12})
    assert longer.info["steps"] == 32 and [e["step"] for e in longer.events()][-1] == 32
    assert longer.info["extended"] == [{"from": 20, "steps": 32}]


def test_a_moved_run_still_opens(tmp_path):
    run = train(tmp_path / "run")
    moved = Run(run.path.rename(tmp_path / "ünïcode name"))
    assert load_run(moved).step == 20
