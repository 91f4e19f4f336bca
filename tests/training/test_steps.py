"""The training step: which phase trains which networks, and when."""

from dataclasses import replace

import pytest
import torch
from helpers.small_trainings import INFO, SMALL, TINY_VAE, train
from helpers.two_networks import Duel, duel

from fromnoise.checks.exactness import first_difference, interrupted
from fromnoise.core.errors import UsageError
from fromnoise.core.family import Phase
from fromnoise.core.rng import Rng
from fromnoise.data.stream import Stream
from fromnoise.runs import checkpoint
from fromnoise.runs.directory import Run
from fromnoise.training.estimate import list_step_kinds
from fromnoise.training.optim import lr_factor
from fromnoise.training.plan import make_plan
from fromnoise.training.settings import TrainConfig
from fromnoise.training.step import due_phases


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
