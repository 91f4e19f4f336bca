"""Training: routing, budgets, exact resume, checkpoints that survive what disks and people do to them."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pydantic import Field
from torch import nn

from fromnoise import families
from fromnoise.checks.exactness import first_difference, interrupted
from fromnoise.cli.live import plan_line
from fromnoise.core.config import BaseConfig
from fromnoise.core.errors import DataError, DivergedError, StoppedError, StorageError, UsageError
from fromnoise.core.family import Family, Loss, Phase
from fromnoise.core.json_files import sealed
from fromnoise.core.rng import Rng
from fromnoise.data.stream import Stream
from fromnoise.families.autoregressive import AutoRegressive
from fromnoise.runs import checkpoint, checkpoint_writer
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.training import estimate
from fromnoise.training.budget import mean_cost
from fromnoise.training.estimate import estimate_cost, list_step_kinds, time_steps
from fromnoise.training.launch import describe_run, start_run, train_locked
from fromnoise.training.loop import fit
from fromnoise.training.optim import lr_factor
from fromnoise.training.plan import make_plan
from fromnoise.training.resume import recorded_plan, resume_run
from fromnoise.training.settings import TrainConfig
from fromnoise.training.step import due_phases
from fromnoise.training.stop import StopRequest
from fromnoise.training.trainer import Trainer

SMALL = dict(steps=20, batch_size=32, intervals=4, validation_examples=50, threads=1)
INFO = {
    "family": "x",
    "preset": "default",
    "config": {},
    "train": {},
    "seed": 0,
    "steps": 20,
    "data": {"name": "x", "settings": {}, "spec": {"kind": "vector", "shape": [2]}, "digest": ""},
}
INTERVAL = {
    "kind": "interval",
    "steps": 20,
    "train": {},
    "validation": {"value": 1.0},
    "best": {"step": 5, "value": 1.0},
}
TINY_VAE = dict(hidden=(8,), latent_dim=2, **SMALL)


def train(path="run", family="vae", **options):
    options = {name: value for name, value in (TINY_VAE | options).items() if value is not None}
    return start_run(make_plan(family, **options), path)


# -- the step ---------------------------------------------------------------------------------------------------


class Duel(Family):
    """Two modules in alternation, each with a loss that depends on both: what a GAN will be."""

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.dropout = nn.Dropout(0.5)

    def phases(self):
        return (Phase("a", ("a",), lr=0.1, repeats=2), Phase("b", ("b",), lr=0.1, every=2))

    def loss(self, batch, phase, rng):
        noise = rng.normal("noise", (len(batch), 3))
        value = (self.b(self.dropout(self.a(noise))) - 1).square().mean()
        return Loss(value, {"value": value})


class DuelConfig(BaseConfig):
    lr: float = Field(0.1)


def duel(**train_options) -> Trainer:
    plan = make_plan("classical", **SMALL)
    config = TrainConfig(**SMALL | train_options)
    return Trainer(lambda: Duel(DuelConfig(), plan.dataset.spec), plan.dataset, config)


def test_a_phase_updates_what_it_trains_and_nothing_else():
    trainer = duel()

    def state():
        return {k: v.clone() for k, v in trainer.model.state_dict().items()}

    before = state()
    trainer.advance(20)  # step 0: both phases
    middle = state()
    assert all(not torch.equal(before[k], middle[k]) for k in before)
    trainer.advance(20)  # step 1: phase b rests (every = 2)
    after = state()
    assert torch.equal(middle["b.weight"], after["b.weight"]) and not torch.equal(
        middle["a.weight"], after["a.weight"]
    )


def test_an_alternating_family_with_dropout_resumes_exactly(tmp_path):
    a, b = duel(), duel()
    for _ in range(7):
        a.advance(20)
    for _ in range(3):
        b.advance(20)
    run = Run.create(tmp_path / "run", INFO)
    b.save(run)
    torch.manual_seed(123)
    c = duel()
    c.load(checkpoint.find(run))
    for _ in range(4):
        c.advance(20)
    for part in ("model", "ema"):
        left, right = (t.model if part == "model" else t.ema.model for t in (a, c))
        assert all(
            torch.equal(x, y)
            for x, y in zip(left.state_dict().values(), right.state_dict().values())
        )


def test_repeats_take_batches_of_their_own():
    trainer, seen = duel(), []
    original = trainer.stream.batch
    trainer.stream.batch = lambda index: seen.append(index) or original(index)
    trainer.advance(20), trainer.advance(20), trainer.advance(20)
    assert seen == [0, 1, 2, 3, 4, 6, 7, 8]


def test_means_are_over_the_steps_that_had_a_term():
    trainer = duel()
    for _ in range(5):
        terms, norms = trainer.advance(20)
        trainer.state.add(norms)
    assert trainer.state.counts == {"a": 5, "b": 3}  # b runs at every second step
    sums = dict(trainer.state.sums)
    assert (
        trainer.state.take_means() == {"a": sums["a"] / 5, "b": sums["b"] / 3}
        and not trainer.state.sums
    )


# -- which phases run when ----------------------------------------------------------------------------------------

D, G = Phase("d", ("a",), 0.1), Phase("g", ("b",), 0.1)


def at(step: int, *phases: Phase, batches_per_epoch=10) -> list[tuple[str, int]]:
    return [(phase.name, place) for phase, place in due_phases(phases, step, batches_per_epoch)]


def test_usually_every_phase_runs_at_each_step():
    assert at(0, D, G) == [("d", 0), ("g", 1)] and at(7, D, G) == [("d", 14), ("g", 15)]
    twice, lazy = replace(D, repeats=2), replace(G, every=3)
    assert [at(step, twice, lazy) for step in range(4)] == [
        [("d", 0), ("g", 2)],
        [("d", 3)],
        [("d", 6)],
        [("d", 9), ("g", 11)],
    ]
    assert due_phases((), 3, 10) == []


@pytest.mark.parametrize(
    "k,m,repeats", [(1.0, 1.0, 1), (2.0, 1.0, 1), (0.5, 1.5, 1), (1.0, 1.0, 5)]
)
def test_phases_take_turns(k, m, repeats):
    """Freeze G and train D for k epochs, then freeze D and train G for m epochs; batches come one after another."""
    phases = replace(D, epochs=k, repeats=repeats), replace(G, epochs=m)
    turn_d, turn_g = round(10 * k / repeats), round(10 * m)
    names, seen = "", []
    for step in range(3 * (turn_d + turn_g)):
        ((name, place),) = at(step, *phases)
        names += name
        seen += range(place, place + (repeats if name == "d" else 1))
    assert names == 3 * (turn_d * "d" + turn_g * "g")
    assert seen == list(range(len(seen)))  # so that a turn of one epoch sees each example once
    assert len(seen) == 3 * 10 * (k + m)


def test_a_turn_is_a_step_at_least():
    short = replace(D, epochs=0.001), replace(G, epochs=0.001)
    assert [at(step, *short) for step in range(3)] == [[("d", 0)], [("g", 1)], [("d", 2)]]


@pytest.mark.parametrize(
    "phases",
    [
        (replace(D, epochs=1.0), G),
        (D, replace(G, epochs=0.5)),
        (replace(D, epochs=1.0, every=2), replace(G, epochs=1.0)),
    ],
)
def test_half_of_both_is_refused(phases, monkeypatch):
    monkeypatch.setattr(Duel, "phases", lambda self: phases)
    with pytest.raises(UsageError, match="all phases take turns"):
        duel()


def test_turns_freeze_resume_exactly_in_the_middle_and_are_timed(monkeypatch, tmp_path):
    turns = Phase("a", ("a",), lr=0.1, epochs=0.1), Phase("b", ("b",), lr=0.1, epochs=0.05)
    monkeypatch.setattr(Duel, "phases", lambda self: turns)
    whole = duel()
    lengths = [
        round(0.1 * whole.stream.batches_per_epoch),
        round(0.05 * whole.stream.batches_per_epoch),
    ]
    assert lengths == [4, 2]
    for step in range(9):
        before = {k: v.clone() for k, v in whole.model.state_dict().items()}
        terms, norms = whole.advance(20)
        changed = {
            k[0] for k, v in whole.model.state_dict().items() if not torch.equal(v, before[k])
        }
        assert changed == set(norms) == {"aaaabb"[step % 6]}
        if step == 4:  # in the middle of the turn of b
            run = Run.create(tmp_path / "run", INFO)
            whole.save(run)
    again = duel()
    again.load(checkpoint.find(run))
    for _ in range(4):
        again.advance(20)
    assert all(
        torch.equal(x, y)
        for x, y in zip(whole.model.state_dict().values(), again.model.state_dict().values())
    )
    kinds = list_step_kinds(again)
    assert kinds == [(0, pytest.approx(4 / 6)), (4, pytest.approx(2 / 6))]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "muon"])
def test_optimisers_resume_exactly(optimizer, tmp_path):
    whole = train(tmp_path / "a", optimizer=optimizer)
    cut = interrupted(make_plan("vae", **TINY_VAE | {"optimizer": optimizer}), tmp_path / "b", [7])
    assert not first_difference(whole, cut)


def test_gradients_are_clipped_to_the_norm():
    trainer = duel(clip=1e-3)
    _, norms = trainer.advance(20)
    grads = torch.cat([p.grad.flatten() for p in trainer.model.a.parameters()])
    assert norms["a"] > 1e-3 and grads.norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    "schedule,middle,end", [("constant", 1, 1), ("linear", 0.5, 0), ("cosine", 0.5, 0)]
)
def test_learning_rate_over_the_budget(schedule, middle, end):
    config = TrainConfig(schedule=schedule, warmup=0.1)
    factor = [lr_factor(step, 1000, config) for step in range(1000)]
    assert factor[0] == pytest.approx(0.01) and factor[99] == pytest.approx(1, abs=0.01)
    assert factor[550] == pytest.approx(middle, abs=0.01) and factor[999] == pytest.approx(
        end, abs=0.01
    )


def test_the_average_follows_the_weights():
    trainer = duel(ema=0.9)
    expected = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    for step in range(5):
        trainer.advance(20)
        d = min(0.9, (1 + step) / (10 + step))
        expected = {k: d * expected[k] + (1 - d) * v for k, v in trainer.model.state_dict().items()}
    for k, v in trainer.ema.model.state_dict().items():
        assert torch.allclose(v, expected[k], atol=1e-6)


def test_a_stream_visits_each_example_once_an_epoch_and_workers_change_nothing():
    dataset = make_plan("classical", **SMALL).dataset

    def make(workers):
        return Stream(dataset, 100, Rng(0), workers=workers)

    stream = make(0)
    epoch = torch.cat([stream.batch(i).x for i in range(stream.batches_per_epoch)]).flatten(1)
    everything = dataset.batch("train", slice(None)).x.flatten(1)

    def count(rows):
        return sorted(map(tuple, rows.tolist()))

    assert len(set(count(epoch)) - set(count(everything))) == 0 and len(epoch) == 100 * (
        len(everything) // 100
    )
    assert not torch.equal(stream.batch(0).x, stream.batch(stream.batches_per_epoch).x)
    for workers in (1, 3):
        other = make(workers)
        assert all(torch.equal(other.batch(i).x, stream.batch(i).x) for i in (0, 1, 2, 40, 41))
        other.close()


# -- budgets ----------------------------------------------------------------------------------------------------


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
    from fromnoise.cli.live import plan_line

    plan = make_plan("vae", **TINY_VAE)
    numbers = estimate_cost(plan.trainer(), plan.train)
    assert numbers["seconds"] > numbers["steps"] * 32 / numbers["items_per_second"] > 0
    assert "| 1,234 examples/s |" in plan_line(
        numbers | {"items_per_second": 1234.4}
    ) and plan_line(numbers).endswith(" MB")


# -- progress and precision ---------------------------------------------------------------------------------------


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


# -- reproducibility --------------------------------------------------------------------------------------------

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


# -- damage -----------------------------------------------------------------------------------------------------


def last_folder(run: Run) -> Path:
    return sorted((run.path / "checkpoints").glob("step-*"))[-1]


def damage_flip(folder):
    path = folder / "ema.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    return "ema.safetensors"


def damage_truncate(folder):
    path = folder / "optim.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    return "optim.safetensors"


def damage_empty(folder):
    (folder / "model.safetensors").write_bytes(b"")
    return "model.safetensors"


def damage_missing(folder):
    (folder / "model.safetensors").unlink()
    return "model.safetensors"


def damage_manifest_gone(folder):
    (folder / "manifest.json").unlink()
    return "manifest.json"


def damage_manifest_nan(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"good": 20', '"good": NaN'))
    return "manifest.json"


def damage_manifest_twice(folder):
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"good": 20', '"good": 20, "good": 1'))
    return "manifest.json"


def damage_link(folder):
    (folder / "model.safetensors").rename(folder.parent / "elsewhere")
    (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")
    return "model.safetensors"


DAMAGES = [v for k, v in sorted(globals().items()) if k.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda d: d.__name__)
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_it_used(damage, tmp_path):
    run, said = train(tmp_path / "run"), []
    name = damage(last_folder(run))
    with pytest.raises(StorageError, match=name):
        checkpoint.find(run, "20")
    found = checkpoint.find(run, warn=said.append)
    assert found.step == 15 and name in said[0] and "15" in said[0]
    whole = train(tmp_path / "whole")
    resume_run(run, warn=said.append)  # from step 15 to the end again: the same bits
    assert not first_difference(whole, run)


def test_pickles_are_never_opened(tmp_path):
    import pickle

    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "marker"), "w"))

    run = train(tmp_path / "run")
    for folder in (run.path / "checkpoints").glob("step-*"):
        (folder / "model.safetensors").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(StorageError, match="model.safetensors"):
        load_run(run)
    assert not (tmp_path / "marker").exists()


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    run = train(tmp_path / "run")
    folder = last_folder(run)
    lie = (2**62).to_bytes(8, "little") + b"{}"
    (folder / "model.safetensors").write_bytes(lie)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.safetensors"] = {
        "bytes": len(lie),
        "sha256": __import__("hashlib").sha256(lie).hexdigest(),
    }
    (folder / "manifest.json").write_text(sealed(manifest))
    with pytest.raises(StorageError, match="model.safetensors"):
        load_run(run, weights="model")


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path):
    run = train(tmp_path / "run")
    trainer = recorded_plan(run).trainer()
    trainer.load(checkpoint.find(run))
    trainer.state.step = 21
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        with pytest.raises(StorageError, match="no room") as error:
            trainer.save(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    assert "\n" not in str(error.value) and error.value.exit_code == 4
    assert checkpoint.find(run).step == 20 and not list((run.path / "checkpoints").glob(".*"))


def test_retention_keeps_the_newest_two_and_the_best(tmp_path):
    run = train(tmp_path / "run", intervals=10)
    steps = [c.step for c in checkpoint.list_checkpoints(run)[0]]
    best = checkpoint.find(run, "best").step
    assert len(steps) <= 3 and steps[-2:] == [18, 20] and best in steps


def test_a_killed_save_is_not_a_checkpoint(tmp_path):
    """SIGKILL at many moments of a training that saves all the time: what is left always verifies."""
    out = tmp_path / "run"
    script = f"import fromnoise as fn; fn.train('vae', hidden=(64,), latent_dim=2, steps=100000, intervals=10000, batch_size=8, validation_examples=8, threads=1, out={str(out)!r})"
    process = subprocess.Popen([sys.executable, "-c", script])
    while not list(out.glob("checkpoints/step-*[1-9]*/manifest.json")):  # one after the start
        time.sleep(0.02)
        assert process.poll() is None
    for moment in (0.113, 0.217, 0.331):
        time.sleep(moment)
        process.kill()
        process.wait()
        found = checkpoint.find(Run(out), warn=pytest.fail)
        assert found.step > 0
        process = subprocess.Popen(
            [sys.executable, "-m", "fromnoise", "resume", str(out), "--quiet"]
        )
        while checkpoint.find(Run(out)).step <= found.step:
            time.sleep(0.02)
            assert process.poll() is None
    process.kill()
    process.wait()
    with Run(out).lock():  # the lock of a dead process is free
        checkpoint_writer.remove_leftovers(Run(out))
    assert not list(out.glob("checkpoints/.*.tmp"))


def test_one_writer_at_a_time(tmp_path):
    run = train(tmp_path / "run")
    before = [(run.path / name).read_bytes() for name in ("run.json", "events.jsonl")]
    with run.lock(), pytest.raises(StorageError, match="being trained"):
        resume_run(Run(run.path), {"steps": 5})
    assert before == [(run.path / name).read_bytes() for name in ("run.json", "events.jsonl")]


def test_a_closed_form_run_is_finished(tmp_path):
    run = train(tmp_path / "run", "classical", latent_dim=2, hidden=None)
    with pytest.raises(UsageError, match="closed form"):
        resume_run(run)
    assert len(run.events()) == 1


# -- resume -----------------------------------------------------------------------------------------------------


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


# -- divergence and health --------------------------------------------------------------------------------------


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

    assert names("vae", hidden=(8,)) == ["MLP", "Reshaped", "OutputScale"]
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
