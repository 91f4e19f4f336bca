"""On a machine that others use too: threads that wait do not spin, and a budget in minutes is timed again."""

import importlib.util
import json
import math
import os
import random
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

import fromnoise
from fromnoise.checks.exactness import first_difference, interrupted
from fromnoise.cli.live import event_line, plan_line, replanned_line
from fromnoise.core.errors import StorageError, UsageError
from fromnoise.runs import checkpoint
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.training import budget, launch
from fromnoise.training.budget import Timer, ends_interval, find_section, format_plan, read_plan
from fromnoise.training.launch import start_run
from fromnoise.training.optim import lr_factor
from fromnoise.training.plan import make_plan
from fromnoise.training.resume import resume_run
from fromnoise.training.settings import TrainConfig
from fromnoise.training.trainer import Trainer

NAMES = ("OMP_WAIT_POLICY", "KMP_LIBRARY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize(
    "name,value", [("OMP_WAIT_POLICY", "ACTIVE"), ("GOMP_SPINCOUNT", "7"), ("KMP_BLOCKTIME", "200")]
)
def test_what_the_user_says_of_waiting_threads_stays(name, value):
    environment = {"HOME": "/root", name: value}
    fromnoise._spin_less(environment)
    assert environment == {"HOME": "/root", name: value}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems load other libraries of OpenMP")
def test_the_library_that_torch_loads_is_told_in_time_to_spin_less():
    library = Path(importlib.util.find_spec("torch").origin).parent / "lib" / "libgomp.so.1"
    if not library.exists():
        pytest.skip("this torch brings no libgomp of its own")
    script = f"import sys, fromnoise, ctypes; assert 'torch' not in sys.modules; ctypes.CDLL({str(library)!r})"
    environment = {key: value for key, value in os.environ.items() if key not in NAMES} | {
        "OMP_DISPLAY_ENV": "VERBOSE"
    }

    def spins(**more) -> str:
        shown = subprocess.run(
            [sys.executable, "-c", script],
            env=environment | more,
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        (line,) = [line for line in shown.splitlines() if "GOMP_SPINCOUNT" in line]
        return line.split("=")[1].strip(" '")

    assert spins() == fromnoise.SPINS["GOMP_SPINCOUNT"] and int(spins()) <= 10_000
    assert int(spins(OMP_WAIT_POLICY="ACTIVE")) > 10**6


# -- a plan is a function of the step ------------------------------------------------------------------------------


def random_plan(draw: random.Random) -> list[list[int]]:
    plan = [[0, draw.randint(1, 300)]]
    while draw.random() < 0.7 and plan[-1][1] - plan[-1][0] > 2:
        step = draw.randint(plan[-1][0] + 1, plan[-1][1] - 1)
        plan.append(
            [step, plan[-1][1] if draw.random() < 0.3 else draw.randint(step + 1, 2 * step + 50)]
        )
    return plan


def test_progress_grows_from_0_to_1_whatever_was_decided():
    draw = random.Random(0)
    for plan in (random_plan(draw) for _ in range(300)):
        total = plan[-1][1]
        budget.check_plan(plan)
        shares = [
            here.at(step) / here.total
            for step in range(total)
            for here in [find_section(plan, step)]
        ] + [find_section(plan, total - 1).at(total) / total]
        assert (
            shares[0] == 0
            and shares[-1] == 1
            and all(earlier < later for earlier, later in pairwise(shares))
        )
        for step, _ in plan[1:]:  # nothing jumps where something is decided
            before = find_section(plan, step - 1)
            assert before.at(step) / before.total == pytest.approx(shares[step], abs=1e-12)


def test_without_a_change_the_numbers_are_those_of_the_steps_to_the_bit():
    config = TrainConfig(warmup=0.1)
    for total in (1, 7, 100, 9393, 10**9):
        for step in {0, 1, total // 3, total - 1}:
            for plan in ([[0, total]], [[0, total], [max(1, step // 2), total]]):
                here = find_section(plan, step)
                assert here.at(step) / here.total == step / total
                assert lr_factor(here.at(step), here.total, config) == lr_factor(
                    step, total, config
                )


def test_intervals_are_as_many_as_were_asked_for():
    for total, intervals in ((100, 3), (20, 4), (7, 20), (1, 1)):
        every = -(-total // intervals)
        assert [
            s for s in range(1, total + 1) if ends_interval([[0, total]], s, intervals)
        ] == sorted({*range(every, total + 1, every), total})
    draw = random.Random(1)
    for _ in range(200):
        first, intervals = draw.randint(200, 2000), draw.randint(2, 20)
        step = draw.randint(1, first // 2)
        plan = [[0, first], [step, step + draw.randint(100, 3000)]]
        looks = [s for s in range(1, plan[-1][1] + 1) if ends_interval(plan, s, intervals)]
        assert looks[-1] == plan[-1][1] and abs(len(looks) - intervals) <= 1
        shares = [here.at(s) / here.total for s in looks for here in [find_section(plan, s - 1)]]
        assert all(later - earlier > 0.5 / intervals for earlier, later in pairwise(shares[:-1]))


@pytest.mark.parametrize(
    "words", ["5:20", "0:20,0:10", "0:20,10:10", "0:20,25:30", "0:20,10:30,5:40", "0:0"]
)
def test_a_plan_that_makes_no_sense_is_refused(words):
    with pytest.raises(UsageError, match="--plan"):
        make_plan("vae", plan=words.split(","))
    with pytest.raises(UsageError, match="--plan"):
        make_plan("vae", plan=["0:20:30"])
    with pytest.raises(UsageError, match="one budget"):
        make_plan("vae", plan=["0:20"], steps=20)


# -- timing ------------------------------------------------------------------------------------------------------

SMALL = dict(
    batch_size=16, validation_examples=20, threads=1, hidden=(8,), latent_dim=2, intervals=4
)


class Clock:
    """Time that passes with steps (``cost`` of the trainer's state, seconds) and looks, and with nothing else."""

    def __init__(self, monkeypatch):
        self.now, self.cost, self.validate_and_select_average, self.timing = (
            1000.0,
            None,
            0.05,
            True,
        )
        advance, validate_and_select_average = Trainer.advance, Trainer.validate_and_select_average

        def timed_advance(trainer, plan):
            self.now += self.cost(trainer.state.step, self.timing)
            return advance(trainer, plan)

        def timed_look(trainer):
            self.now += self.validate_and_select_average
            return validate_and_select_average(trainer)

        fit = launch.fit

        def timed_fit(*args):
            self.timing = False
            try:
                return fit(*args)
            finally:
                self.timing = True

        monkeypatch.setattr(Trainer, "advance", timed_advance)
        monkeypatch.setattr(Trainer, "validate_and_select_average", timed_look)
        monkeypatch.setattr(launch, "fit", timed_fit)
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def train(path, on_event=lambda event: None, **options):
    return start_run(make_plan("vae", "digits", **SMALL | options), path, on_event=on_event)


def is_whole(run: Run) -> None:
    """It ended where its plan does, with an event, a checkpoint and all of its budget done."""
    assert (
        run.info["steps"]
        == run.info["plan"][-1][1]
        == run.events("interval")[-1]["step"]
        == checkpoint.find(run).step
    )
    assert (
        run.events("interval")[-1]["steps"] == run.info["steps"]
        and load_run(run).model.progress == 1.0
    )


@pytest.mark.parametrize("timed,later", [(0.1, 0.3), (0.1, 1.5), (0.5, 0.1)])
def test_minutes_are_kept_when_the_machine_was_or_becomes_busy(clock, tmp_path, timed, later):
    clock.cost = lambda step, timing: timed if timing else later
    told, begin = [], clock.now
    run = train(tmp_path / "run", told.append, minutes=0.5)
    plan, planned = run.info["plan"], run.info["plan"][0][1]
    is_whole(run)
    assert 26 < clock.now - begin < 34 and len(plan) > 1
    assert (run.info["steps"] < planned) == (later > timed)
    first = next(event for event in told if event["kind"] == "plan")
    assert first["planned"] == planned and [first["step"], first["steps"]] in plan
    line = replanned_line(first)
    assert (
        f"{planned:,} steps were planned, {first['steps']:,} are made" in line
        and ("was busy" in line) == (later < timed)
        and "\n" not in line
    )
    assert len(told) == len(run.events()) + sum(one[1] != other[1] for one, other in pairwise(plan))


def test_work_that_comes_and_goes_is_followed(clock, tmp_path):
    clock.cost = lambda step, timing: 0.4 if 30 <= step < 60 else 0.1
    begin = clock.now
    run = train(tmp_path / "run", minutes=0.5)
    is_whole(run)
    assert 26 < clock.now - begin < 34 and run.info["steps"] > 150


def test_a_machine_that_keeps_its_pace_keeps_its_plan(clock, tmp_path):
    clock.cost = lambda step, timing: 0.1 * (1 + 0.1 * (step % 2))
    run = train(tmp_path / "run", minutes=0.5)
    planned = run.info["plan"][0][1]
    assert [total for _, total in run.info["plan"]] == [planned] * (
        1 + len(budget.CHECKS)
    )  # looked at, and left
    is_whole(run)
    again = train(tmp_path / "again", steps=planned)
    assert not first_difference(run, again)  # what leaves the plan changes no bit


@pytest.mark.parametrize("given", [{"steps": 60}, {"epochs": 0.7}])
def test_steps_and_epochs_are_never_timed_again(clock, tmp_path, given):
    clock.cost = lambda step, timing: 0.01 if timing else 10.0
    run = train(tmp_path / "run", **given)
    assert run.info["budget"] is None and run.info["plan"] == [[0, run.info["steps"]]]


# -- exact all the same -------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


@pytest.mark.parametrize("timed,later", [(0.1, 0.3), (0.3, 0.1)])
def test_a_run_is_a_function_of_its_plan(clock, tmp_path, timed, later):
    """The plan that was decided on the way, given from the start, makes the same bits, however often it is stopped."""
    clock.cost = lambda step, timing: timed if timing else later
    run = train(tmp_path / "run", minutes=0.3)
    assert len({total for _, total in run.info["plan"]}) > 1
    words = format_plan(run.info["plan"]).split(",")
    again = train(tmp_path / "again", plan=words)
    assert again.info["plan"] == run.info["plan"] and not first_difference(run, again)
    decided = run.info["plan"][1][0]
    cut = interrupted(
        make_plan("vae", "digits", **SMALL, plan=words),
        tmp_path / "cut",
        [decided - 1, decided, decided + 2],
    )
    assert cut.info["plan"] == run.info["plan"] and not first_difference(run, cut)
    other = train(tmp_path / "other", steps=run.info["steps"])
    assert first_difference(run, other)  # the number of steps alone is not enough


@pytest.mark.parametrize("which", [0, 1])
def test_a_kill_after_a_decision_and_before_its_checkpoint_changes_no_bit(clock, tmp_path, which):
    clock.cost = lambda step, timing: 0.1 if timing else 0.25 if step < 30 else 0.12
    decisions = []

    def kill(event):
        decisions.extend([event] * (event["kind"] == "plan"))
        if len(decisions) == which + 1:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "run", kill, minutes=0.3)
    run, killed_at = Run(tmp_path / "run"), decisions[-1]["step"]
    assert (
        run.info["plan"][-1] == [killed_at, decisions[-1]["steps"]]
        and checkpoint.find(run).step < killed_at
    )
    kept = run.info["plan"]
    done = resume_run(run)
    assert done.info["plan"][: len(kept)] == kept
    is_whole(done)
    again = train(tmp_path / "again", plan=format_plan(done.info["plan"]).split(","))
    assert not first_difference(done, again)


def test_a_stopped_run_is_timed_further(clock, tmp_path):
    """Stopped before anything is decided; the rest goes slower, and the minutes are kept by the session that follows."""
    clock.cost = lambda step, timing: 0.1
    with pytest.raises(Killed):
        train(
            tmp_path / "run", lambda event: (_ for _ in ()).throw(Killed), minutes=0.5, intervals=50
        )
    run = Run(tmp_path / "run")
    planned, before = run.info["steps"], run.seconds()
    clock.cost = lambda step, timing: 0.3
    begin = clock.now
    done = resume_run(run)
    is_whole(done)
    assert done.info["steps"] < 0.6 * planned and 25 < clock.now - begin + before < 34


def test_minutes_on_resume_are_timed_again_too(clock, tmp_path):
    clock.cost = lambda step, timing: 0.1
    run = train(tmp_path / "run", steps=100)
    clock.cost = lambda step, timing: 0.1 if timing else 0.4
    begin = clock.now
    longer = resume_run(run, {"minutes": 0.5})
    is_whole(longer)
    assert (
        26 < clock.now - begin < 34
        and longer.info["plan"][0][1] > 300 > 200 > longer.info["steps"] > 120
    )
    assert longer.info["extended"] == [{"from": 100, "steps": longer.info["plan"][0][1]}]
    first, planned = longer.info["plan"][1][0], longer.info["plan"][0][1]
    assert first == 100 + math.ceil(
        budget.CHECKS[0] * (planned - 100)
    )  # shares are of the steps that were added
    plan, steps = longer.info["plan"], longer.info["steps"]
    again = resume_run(longer, {"steps": 10})
    is_whole(again)
    assert again.info["extended"][1] == {"from": steps, "steps": steps + 10, "plan": plan}
    assert again.info["plan"] == [[0, steps + 10]] and again.info["budget"] is None


def test_the_cost_of_later_steps_is_part_of_the_plan(tmp_path):
    """A network that grows: four times as slow in the second half. A slow first half is not taken for the machine's pace."""
    data = {"name": "x", "settings": {}, "spec": {"kind": "vector", "shape": [2]}, "digest": ""}
    info = {
        "family": "x",
        "preset": "default",
        "config": {},
        "train": {},
        "data": data,
        "seed": 0,
        "steps": 100,
    }
    costs = [[0.5, 0.1], [1.0, 0.4]]
    run = Run.create(
        tmp_path / "run",
        info | {"budget": {"seconds": 25.0, "look": 0.0, "costs": costs, "start": 0}},
    )
    plan = [[0, 100]]
    for factor, total in (
        (1.0, 100),
        (2.0, 10 + int((25 - 2.0) / (2 * (0.4 * 0.1 + 0.5 * 0.4) / 0.9))),
    ):
        timer = Timer(run, 2)
        for step in range(10):
            timer.add_step(step / 100, factor * 0.1)
        assert timer.is_due(plan, 10) and not timer.is_due([[0, 100], [10, 100]], 10)
        assert timer.decide_total(plan, 10, factor * 1.0) == total


def test_a_damaged_plan_is_told_by_the_name_of_its_file(tmp_path):
    run = train(tmp_path / "run", steps=4, intervals=1)
    for damaged in ("x", [[0]], [[3, 4]], [[0, 4], [9, 12]], 5):
        with pytest.raises(StorageError, match="run.json is damaged: plan"):
            run.update(plan=damaged)
            read_plan(Run(run.path))
    good = {"seconds": 5.0, "look": 0.1, "costs": [[1.0, 0.1]], "start": 0}
    assert run.record.budget is None
    for damaged in (
        "x",
        5,
        {},
        good | {"seconds": "x"},
        good | {"costs": []},
        good | {"costs": [[1.0, 0.0]]},
        good | {"costs": [3]},
        good | {"start": 4},
    ):
        with pytest.raises(StorageError, match="run.json is damaged: budget"):
            run.update(budget=damaged)
            Timer(Run(run.path), 4)
    run.update(budget=good)
    assert Timer(Run(run.path), 4).budget.model_dump() == good
    run.info.pop("plan")
    run.update()
    assert read_plan(Run(run.path)) == [[0, 4]]  # of an earlier version


# -- words --------------------------------------------------------------------------------------------------------


def test_slow_steps_are_told_by_their_seconds():
    info = {"parameters": 5, "steps": 10, "seconds": 500.0, "memory_mb": 3.0}
    assert "| 12 s a step |" in plan_line(info | {"items_per_second": 0.4, "step_seconds": 12.2})
    assert "| 1,234 examples/s |" in plan_line(
        info | {"items_per_second": 1234.4, "step_seconds": 0.1}
    )
    event = {
        "train": {},
        "validation": {"value": 1.0},
        "best": {"step": 5, "value": 1.0},
        "step": 5,
        "steps": 10,
        "seconds": 60.0,
        "eta": 60.0,
    }
    assert "| 2.5 s a step, 60 s left" in event_line(
        event | {"items_per_second": 0.4, "step_seconds": 2.5}
    )
    assert "0 examples/s" not in event_line(
        event | {"items_per_second": 0.3}
    )  # an event of an earlier version


def test_what_is_being_timed_is_told_while_it_takes_its_time(clock, tmp_path, capsys):
    from fromnoise.cli import main

    clock.cost = lambda step, timing: 15.0
    command = [
        "train",
        "vae",
        "--hidden=8",
        "--latent-dim=2",
        "--steps=3",
        "--validation-examples=20",
        "--threads=1",
    ]
    assert main([*command, "--dry-run"]) == 0
    first, second, plan, *_ = capsys.readouterr().out.splitlines()
    assert (
        first == "timing the first steps ..."
        and second.startswith("a step takes about 15 s")
        and " | 15 s a step" in plan
    )
    assert (
        clock.now == 1000 + 2 * 15 + clock.validate_and_select_average
    )  # two steps are enough to know that
    clock.cost = lambda step, timing: 0.01
    assert main([*command, "--json", "--out", "a"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("timing the first steps ...") and json.loads(out)["step"] == 3
    assert main([*command, "--quiet", "--out", "b"]) == 0
    assert "timing" not in "".join(capsys.readouterr())
    assert main(["resume", "b", "--minutes", "0.05"]) == 0
    assert capsys.readouterr().out.startswith("timing the first steps ...")


def test_the_commands_of_a_tour_make_its_runs_again(clock, tmp_path):
    from fromnoise.studies.tour import TourModel, plan_models, train_models

    clock.cost = lambda step, timing: 0.05 if timing else 0.15
    stops = [
        TourModel(
            "vae",
            "vae",
            "lecture",
            "VAE",
            {"batch_size": 16, "validation_examples": 20, "threads": 1},
        )
    ]
    _, (command,) = train_models(
        stops,
        plan_models(tuple(stops), "digits", 12, 0),
        "digits",
        tmp_path / "tour",
        lambda line: None,
    )
    run = Run(tmp_path / "tour" / "vae")
    assert f"--plan {format_plan(run.info['plan'])}" in command and len(run.info["plan"]) > 1
