"""Signals at any moment and close together; checkpoints and events that are gone or damaged after a run."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fromnoise.cli import main
from fromnoise.core import signals
from fromnoise.core.errors import UsageError
from fromnoise.runs.checkpoint import find
from fromnoise.runs.directory import Run
from fromnoise.runs.verify import verify
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan
from fromnoise.training.resume import recorded_plan, resume_run
from fromnoise.training.stop import StopRequest

TINY = dict(
    hidden=(8,),
    latent_dim=2,
    steps=20,
    batch_size=32,
    intervals=4,
    validation_examples=50,
    threads=1,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("trained")
        patch.setenv("FROMNOISE_CACHE", str(root / "cache"))
        return start_run(make_plan("vae", **TINY), root / "run").path


@pytest.fixture
def run(trained):
    shutil.copytree(trained, "run")
    return Run("run")


def remove(run: Run, step: int) -> None:
    shutil.rmtree(run.path / "checkpoints" / f"step-{step:08d}")


def rewrite_sessions(run: Run, *records: dict) -> None:
    (run.path / "sessions.jsonl").unlink()
    for record in records:
        run.append(record, "sessions.jsonl")


# -- the newest checkpoint is gone --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["sample", "run", "-n", "2", "-o", "x.npy"],
        ["show", "run", "curves"],
        ["eval", "run", "--quick", "--samples", "50"],
    ],
)
def test_a_verb_says_in_one_line_that_the_newest_checkpoint_is_gone(args, run, capsys):
    remove(run, 20)
    assert main(args) == 0
    lines = [
        line
        for line in capsys.readouterr().err.splitlines()
        if "warning" in line and "step-00000020 is missing" in line
    ]
    assert len(lines) == 1 and "using step 15 instead" in lines[0]


def test_verify_fails_and_runs_shows_it_where_the_newest_checkpoint_is_gone(run, capsys):
    assert main(["verify", "run"]) == 0 and main(["runs", "."]) == 0
    assert "missing" not in capsys.readouterr().out
    remove(run, 20)
    assert main(["verify", "run"]) == 4 and "step-00000020 is missing" in capsys.readouterr().err
    assert main(["runs", "."]) == 0 and "newest checkpoint is missing" in capsys.readouterr().out
    assert (
        main(["runs", ".", "--json"]) == 0
        and "step-00000020" in json.loads(capsys.readouterr().out)["runs"][0]["missing"]
    )


def test_a_missing_best_checkpoint_fails_verify(run):
    best = find(run).manifest.best.step
    trainer = recorded_plan(run).trainer()
    trainer.load(find(run))
    trainer.advance(21)
    trainer.save(run)
    remove(run, best)
    assert any("best" in problem or f"{best:08d}" in problem for problem in verify(run).problems)


def test_resume_mends_a_run_whose_newest_checkpoint_is_gone(run):
    remove(run, 20)
    resume_run(run, warn=lambda line: None)
    assert verify(Run("run")).problems == [] and Run("run").missing_checkpoint() == ""


@pytest.mark.parametrize(
    "sessions,expected",
    [
        ([{"started": 1.0, "step": 0}], 15),  # killed: the last interval may be unsaved
        (
            [{"started": 1.0, "step": 0}, {"ended": 2.0, "step": 20, "outcome": "no room"}],
            15,
        ),  # an earlier version, an error
        ([{"started": 1.0, "step": 0}, {"ended": 2.0, "step": 20, "outcome": "finished"}], 20),
        (
            [
                {"started": 1.0, "step": 0},
                {"ended": 2.0, "step": 20, "outcome": "no room", "saved": 10},
            ],
            10,
        ),
        (
            [
                {"started": 1.0, "step": 0},
                {"ended": 2.0, "step": 18, "outcome": "stopped", "saved": 18},
            ],
            18,
        ),
        (
            [
                {"started": 1.0, "step": 0},
                {"ended": 2.0, "step": 18, "outcome": "stopped", "saved": 18},
                {"started": 3.0, "step": 18},
            ],
            18,
        ),
    ],
)
def test_the_newest_saved_step_is_only_as_new_as_is_proven(sessions, expected, run):
    rewrite_sessions(run, *sessions)
    assert run.last_saved_step() == expected


def test_a_rollback_takes_back_the_checkpoints_after_its_target(run):
    rewrite_sessions(run, {"started": 1.0, "step": 18})
    run.append({"kind": "rollback", "step": 22, "to": 10, "reason": "x", "lr_factor": 0.5})
    assert run.last_saved_step() == 10


def test_an_interrupted_run_is_no_false_alarm():
    stop, said = StopRequest(), []

    def at_second(event):
        if event["step"] == 10:
            stop.signal = signal.SIGINT

    plan = make_plan("vae", **TINY)
    with pytest.raises(Exception, match="stopped at step 1"):
        start_run(plan, "cut", on_event=at_second, stop=stop)
    run = Run("cut")
    find(run, warn=said.append)
    assert run.missing_checkpoint() == "" and said == [] and verify(run).problems == []
    assert run.last_saved_step() == find(run).step


# -- damaged events --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["end", "middle", "first", "binary"])
@pytest.mark.parametrize(
    "args", [["show", "run", "samples"], ["eval", "run", "--quick", "--samples", "50"]]
)
def test_reading_verbs_warn_of_damaged_events_and_use_those_before(damage, args, run, capsys):
    path = run.path / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    at = {"end": 4, "middle": 2, "first": 0, "binary": 4}[damage]
    path.write_bytes(
        b"".join([*lines[:at], b"\xff\x00\n" if damage == "binary" else b"garbage\n", *lines[at:]])
    )
    assert [event["step"] for event in run.events()] == [5, 10, 15, 20][:at]
    assert main(args) == 0
    said = capsys.readouterr().err
    assert (
        said.count("warning: ") == 1
        and f"line {at + 1} of" in said
        and f"using the {at} events" in said
        and "resume" not in said
    )
    assert main(["verify", "run"]) == 4 and f"line {at + 1} of" in capsys.readouterr().err


def test_deleted_events_are_warned_of(run, capsys):
    (run.path / "events.jsonl").unlink()
    assert main(["eval", "run", "--quick", "--samples", "50"]) == 0
    assert "has 0 of the 4 events" in capsys.readouterr().err


def test_the_refusal_to_resume_a_finished_run_says_that_the_number_is_added(run):
    with pytest.raises(UsageError, match=r"amount to add .*20 more steps"):
        resume_run(run)


# -- signals -----------------------------------------------------------------------------------------------------------


def default_handlers():
    for number in signals.SIGNALS:
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("module", ["click", "fromnoise.cli.verbs", "contextlib", "torch"])
def test_a_signal_in_the_first_imports_ends_without_a_traceback(module, number):
    """The signal comes while a module is imported, whatever module that is."""
    code = f"""
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {int(number)})
sys.modules.pop({module!r}, None)
sys.meta_path.insert(0, Finder())
from fromnoise.cli import run
run()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor"],
        preexec_fn=default_handlers,
        capture_output=True,
        text=True,
    )
    assert (
        done.returncode in (128 + number, -number)
        and "Traceback" not in done.stderr
        and "Exception" not in done.stderr
    ), done.stderr


def test_a_signal_while_an_error_is_printed_ends_without_a_traceback(capsys, monkeypatch):
    import fromnoise.cli as cli

    say, calls = cli._print_error, []

    def interrupted(message, code):
        calls.append(message)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        return say(message, code)

    monkeypatch.setattr(cli, "_print_error", interrupted)
    assert main(["sample", "nothing"]) == 143


def test_signals_close_together_count_as_one_and_the_state_is_saved():
    options = [
        "--batch-size",
        "16",
        "--hidden",
        "8",
        "--latent-dim",
        "2",
        "--threads",
        "1",
        "--validation-examples",
        "20",
        "--quiet",
    ]
    command = [
        sys.executable,
        "-m",
        "fromnoise",
        "train",
        "vae",
        *options,
        "--steps",
        "100000",
        "--intervals",
        "10",
        "--out",
        "cut",
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=default_handlers
    )
    while not list(Path("cut/checkpoints").glob("step-*")):
        time.sleep(0.02)
        assert process.poll() is None
    time.sleep(0.2)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGINT):
        process.send_signal(number)
        time.sleep(0.003)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "state saved" in err and err.count("\n") == 1, err
    assert (
        Run("cut").last_saved_step() == find(Run("cut")).step > 0
        and verify(Run("cut")).problems == []
    )


def test_a_signal_while_python_shuts_down_does_not_replace_the_exit_code():
    script = """
import atexit, os, signal
from fromnoise import cli

def interrupted(argv, handler):
    handler.exits_at_once = False
    os.kill(os.getpid(), signal.SIGINT)

cli._run_with_streams = interrupted
atexit.register(os.kill, os.getpid(), signal.SIGHUP)
cli.run()
"""
    process = subprocess.run(
        [sys.executable, "-c", script],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_handlers,
    )
    assert process.returncode == 130 and "stopped by SIGINT" in process.stderr


def test_a_second_signal_after_a_second_ends_the_process(monkeypatch):
    raised, now = [], [10.0]
    monkeypatch.setattr(signals.signal, "raise_signal", raised.append)
    monkeypatch.setattr(signals.signal, "signal", lambda number, handler: None)
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    first = signals.FirstSignal()
    assert first.is_first(signal.SIGINT)
    now[0] += 0.9
    assert not first.is_first(signal.SIGTERM) and not raised
    now[0] += 0.2
    first.is_first(signal.SIGINT)
    assert raised == [signal.SIGINT]
