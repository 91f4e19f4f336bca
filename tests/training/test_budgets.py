"""Budgets in steps, epochs and minutes; progress and precision."""

import signal
import time

import pytest
import torch
from helpers.small_trainings import INFO, INTERVAL, SMALL, TINY_VAE, train
from helpers.two_networks import Duel, DuelConfig, duel

from fromnoise.checks.exactness import first_difference
from fromnoise.cli.live import plan_line
from fromnoise.core.errors import StoppedError
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.training.budget import mean_cost
from fromnoise.training.estimate import estimate_cost, list_step_kinds, time_steps
from fromnoise.training.launch import describe_run, train_locked
from fromnoise.training.loop import fit
from fromnoise.training.plan import make_plan
from fromnoise.training.resume import recorded_plan
from fromnoise.training.settings import TrainConfig
from fromnoise.training.stop import StopRequest
from fromnoise.training.trainer import Trainer


def test_minutes_become_steps(tmp_path):
    run = train(tmp_path / "run", steps=None, minutes=0.03)
    assert run.info["steps"] >= 4 and run.events()[-1]["step"] == run.info["steps"]


def test_epochs_become_steps(tmp_path):
    run = train(tmp_path / "run", steps=None, epochs=0.5, batch_size=100)
    assert run.info["steps"] == round(0.5 * (1437 // 100))


def test_measuring_leaves_no_trace(tmp_path):
    """Timing the first steps to estimate a budget may not change one bit of the run."""
    timed = train(tmp_path / "a")
    plan = make_plan("vae", **TINY_VAE)
    trainer = plan.trainer()
    run = Run.create(tmp_path / "b", describe_run(plan, "", 20, trainer))
    fit(trainer, run, 20, lambda event: None, StopRequest())
    assert not first_difference(timed, run)


def test_dry_run_numbers():
    plan = make_plan("vae", **TINY_VAE)
    numbers = estimate_cost(plan.trainer(), plan.train)
    assert numbers["parameters"] == 64 * 8 + 8 + 8 * 4 + 4 + 2 * 8 + 8 + 8 * 64 + 64 + 1
    assert numbers["steps"] == 20 and numbers["seconds"] > 0 and numbers["memory_mb"] > 50


def test_a_training_whose_cost_changes_is_timed_in_all_of_its_parts(monkeypatch):
    """A network that grows: the mean over its parts, not the first steps, is what a training takes."""
    trainer, seen, clock = duel(), [], [0.0]
    assert list_step_kinds(trainer) == [(0, 1.0)]
    monkeypatch.setattr(Duel, "cost_stages", 4)

    def advance(self, steps):
        seen.append(self.state.step / steps)
        self.state.step += 1
        clock[0] += 3.0 if seen[-1] > 0.75 else 1.0

    monkeypatch.setattr(Trainer, "advance", advance)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    costs = time_steps(trainer, 0.01, 3)
    assert (
        costs == [[0.25, 1.0], [0.5, 1.0], [0.75, 1.0], [1.0, 3.0]]
        and mean_cost(costs) == (1 + 1 + 1 + 3) / 4
    )
    assert sorted({round(share, 3) for share in seen}) == [0.125, 0.375, 0.625, 0.875]
    assert trainer.state.step == 0


def test_speed_is_told_before_training():

    plan = make_plan("vae", **TINY_VAE)
    numbers = estimate_cost(plan.trainer(), plan.train)
    assert numbers["seconds"] > numbers["steps"] * 32 / numbers["items_per_second"] > 0
    assert "| 1,234 examples/s |" in plan_line(
        numbers | {"items_per_second": 1234.4}
    ) and plan_line(numbers).endswith(" MB")


def test_progress_is_the_share_of_the_budget_but_held_out_objectives_do_not_know(tmp_path):
    seen = []

    class Watched(Duel):
        def loss(self, batch, phase, rng):
            seen.append((phase, "step" in rng.path, self.progress))
            return super().loss(batch, phase, rng)

    plan = make_plan("classical", **SMALL)
    trainer = Trainer(
        lambda: Watched(DuelConfig(), plan.dataset.spec), plan.dataset, TrainConfig(**SMALL)
    )
    for _ in range(10):
        trainer.advance(20)
    assert [p for name, _, p in seen if name == "a"][::2] == [step / 20 for step in range(10)]
    assert trainer.ema.model.progress == trainer.model.progress == 0.5
    seen.clear()
    trainer.validate()
    assert {(steps, p) for _, steps, p in seen} == {
        (False, 1.0)
    } and trainer.ema.model.progress == 0.5


def test_an_opened_checkpoint_has_its_progress(tmp_path):
    run = train(tmp_path / "run")
    assert [load_run(run, which).model.progress for which in ("15", "last")] == [0.75, 1.0]
    assert (
        load_run(train(tmp_path / "b", "classical", latent_dim=2, hidden=None)).model.progress
        == 1.0
    )


@pytest.mark.parametrize("able,chosen", [(True, "bfloat16"), (False, "float32")])
def test_precision_auto_is_decided_once(able, chosen, monkeypatch, tmp_path):
    def ask(answer):
        return [
            monkeypatch.setattr(torch.cpu, name, lambda: answer, raising=False)
            for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        ]

    ask(able)
    run = train(tmp_path / "run", precision="auto", steps=4, device="cpu")
    assert run.info["train"]["precision"] == chosen
    ask(not able)  # another machine
    assert recorded_plan(run).train.precision == chosen
    assert (
        train(tmp_path / "b", steps=4).info["train"]["precision"] == "float32"
    )  # the default asks nothing


def test_seconds_of_sessions_add_up(tmp_path):
    """Stopped by a signal after 8 s (the last interval was at 6), killed after one at 11.5, stopped at 13.5."""
    run = Run.create(tmp_path / "run", INFO)

    def session(**fields):
        return run.append(fields, "sessions.jsonl")

    assert run.seconds() == 0
    session(started=100.0, step=0)
    run.append(INTERVAL | {"step": 5, "seconds": 6.0})
    assert run.seconds() == 6
    session(ended=108.0, step=7, seconds=8.0, outcome="stopped")
    session(started=200.0, step=7)
    assert run.seconds() == 8
    run.append(INTERVAL | {"step": 10, "seconds": 11.5})
    session(started=300.0, step=10)
    assert run.seconds() == 11.5
    with open(run.path / "sessions.jsonl", "ab") as file:
        file.write(
            b'{"ended": 10{"started": 3}\n\xff\n[1]\n{"ended": 3'
        )  # what full disks and others leave
    session(ended=302.0, step=12, seconds=13.5, outcome="stopped")
    session(ended=None, step=12, seconds=None)
    assert run.seconds() == 13.5
    (run.path / "sessions.jsonl").unlink()
    assert run.seconds() == 11.5


def test_a_stopped_run_knows_all_of_its_seconds(tmp_path):
    """It was stopped before its first interval, which says nothing yet."""
    run, trainer, stop = (
        Run.create(tmp_path / "run", INFO),
        make_plan("vae", **TINY_VAE).trainer(),
        StopRequest(),
    )
    stop.signal = signal.SIGINT
    begin = time.monotonic()
    with pytest.raises(StoppedError):
        train_locked(trainer, run, 20, lambda event: None, stop)
    assert not run.events("interval") and 0 < run.seconds() < time.monotonic() - begin


def test_best_and_last_are_both_said(tmp_path):
    from fromnoise.cli.live import event_line
    from fromnoise.cli.train import describe_scores

    run = train(tmp_path / "run", lr=0.3, steps=40, intervals=8, schedule="constant", hidden=(64,))
    events = run.events("interval")
    for i, event in enumerate(events):
        values = [e["validation"]["value"] for e in events[: i + 1]]
        assert event["best"] == {
            "step": events[values.index(min(values))]["step"],
            "value": min(values),
        }
    worse = events[0] | {
        "best": {"step": 3, "value": 1.25},
        "step": 7,
        "validation": {"value": 2.5},
    }
    duel = {"separation": 0.931, "modes_seen": 9, "modes": 10, "kind": "classes"}
    assert "at 3) | D right 93 %, 9/10 classes | " in event_line(worse | {"duel": duel})
    assert "| held-out 2.5 (best 1.25 at 3) |" in event_line(worse) and "best" not in event_line(
        worse | {"step": 3}
    )
    assert (
        describe_scores(worse) == "held-out 2.5 at step 7 (best 1.25 at 3)"
        and describe_scores(worse | {"step": 3}) == "held-out 2.5 at step 3, the best"
    )
