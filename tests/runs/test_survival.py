"""Runs survive what processes, disks and terminals do: kills, closed outputs, signals, names that no file can have."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from fromnoise.checks.exactness import first_difference
from fromnoise.cli import main
from fromnoise.core.errors import StoppedError, StorageError, UsageError
from fromnoise.core.json_files import sealed
from fromnoise.core.output import Unfailing
from fromnoise.inference import sample as sampling
from fromnoise.runs import checkpoint, checkpoint_writer
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
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
FLAGS = [
    "--hidden",
    "8",
    "--latent-dim",
    "2",
    "--batch-size",
    "16",
    "--validation-examples",
    "20",
    "--threads",
    "1",
]
COMMAND = [sys.executable, "-m", "fromnoise"]


def train(path="run", family="vae", **options):
    options = {name: value for name, value in (TINY | options).items() if value is not None}
    return start_run(make_plan(family, **options), path)


def one_line(error: str) -> str:
    lines = error.splitlines()
    assert len(lines) == 1 and "Traceback" not in error and "bug of fromnoise" not in error, error
    return lines[0]


def benchmark(name: str):
    path = Path(__file__).parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- kills --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the campaign forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_training_that_is_killed_at_any_file_operation_resumes_to_the_same_bits(tmp_path):
    """A small part of benchmarks/kills.py."""
    counts, failures = benchmark("kills").campaign(tmp_path, 12, seed=1)
    assert not failures
    assert sum(count for (_, what), count in counts.items() if what == "kills") >= 12


@pytest.mark.parametrize(
    "family,options", [("vae", {}), ("classical", {"hidden": None, "steps": None})]
)
def test_a_run_without_a_checkpoint_begins_again_at_step_0(family, options, tmp_path):
    whole, run, said = (
        train(tmp_path / "whole", family, **options),
        train(tmp_path / "run", family, **options),
        [],
    )
    for folder in (run.path / "checkpoints").glob("step-*"):
        checkpoint_writer.remove(folder)
    resume_run(Run(run.path), warn=said.append)
    assert not first_difference(whole, run) and "step 0" in said[0]
    assert verify(Run(run.path)).problems == []


def test_a_run_in_the_codes_of_another_begins_again_with_the_first_stage_that_it_had(tmp_path):
    first = train(tmp_path / "first")
    plan = make_plan(
        "classical",
        within=first.path,
        components=2,
        model="mixture",
        threads=1,
        validation_examples=20,
    )
    whole, run = start_run(plan, tmp_path / "whole"), start_run(plan, tmp_path / "run")
    for folder in (run.path / "checkpoints").glob("step-*"):
        checkpoint_writer.remove(folder)
    resume_run(Run(run.path), warn=lambda line: None)
    assert not first_difference(whole, run)
    for folder in (run.path / "checkpoints").glob("step-*"):
        checkpoint_writer.remove(folder)
    resume_run(first, {"steps": 4})
    with pytest.raises(StorageError, match="was trained since"):
        resume_run(Run(run.path), warn=lambda line: None)


def test_training_into_the_folder_of_a_killed_run_says_to_resume_it(tmp_path):
    run = train(tmp_path / "run")
    with pytest.raises(UsageError, match="fromnoise resume"):
        train(run.path)


def test_what_is_left_before_run_json_was_written_does_not_refuse_a_retry(tmp_path):
    for folder in ("checkpoints", "samples", "figures"):
        (tmp_path / "run" / folder).mkdir(parents=True)
    (tmp_path / "run" / ".run.json.77.tmp").write_text("{")
    run = train(tmp_path / "run")
    assert load_run(run).step == 20 and not list(run.path.glob(".run.json*"))


def test_a_run_that_cannot_be_made_leaves_nothing_behind(tmp_path):
    with pytest.raises(UsageError, match="no UTF-8"):
        Run.create(tmp_path / "run", {"command": "\udcff"})
    with pytest.raises(StorageError, match="preset"):
        Run.create(tmp_path / "run", {"family": "x"})
    assert not (tmp_path / "run").exists()


# -- the same step again, and which are kept ---------------------------------------------------------------------------


def test_saving_a_step_again_keeps_the_checkpoint_that_is_there(tmp_path):
    run = train(tmp_path / "run")
    trainer = recorded_plan(run).trainer()
    trainer.load(checkpoint.find(run))
    folder = run.path / "checkpoints" / "step-00000020"
    before = folder.stat().st_ino
    trainer.save(run)
    assert folder.stat().st_ino == before and not list(folder.parent.glob(".*"))
    (folder / "ema.safetensors").write_bytes(b"damaged")
    trainer.save(run)
    assert checkpoint.find(run, "20").step == 20 and not list(folder.parent.glob(".*"))


def test_a_checkpoint_that_lost_its_name_in_a_save_gets_it_back(tmp_path):
    run = train(tmp_path / "run")
    root = run.path / "checkpoints"
    for path in root.glob("step-*"):
        path.rename(root / f".{path.name}.99.{checkpoint_writer.REPLACED}")
    with pytest.raises(UsageError, match="finished"):
        resume_run(Run(run.path))
    assert checkpoint.find(run).step == 20 and not list(root.glob(".*"))


def test_only_valid_checkpoints_count_among_the_two_that_are_kept(tmp_path):
    run = train(tmp_path / "run")
    root = run.path / "checkpoints"
    for step in (15, 20):
        (root / f"step-{step:08d}" / "ema.safetensors").write_bytes(b"damaged")
    trainer = recorded_plan(run).trainer()
    for _ in range(7):
        trainer.advance(20)
    trainer.save(run)
    assert checkpoint.find(run).step == 7
    trainer.advance(20)
    trainer.save(run)
    assert checkpoint.find(run).step == 8 and checkpoint.find(run, "7").step == 7


def test_a_manifest_of_another_step_and_a_linked_folder_are_damaged(tmp_path):
    run, said = train(tmp_path / "run"), []
    root = run.path / "checkpoints"
    manifest = json.loads((root / "step-00000020" / "manifest.json").read_text())
    (root / "step-00000020" / "manifest.json").write_text(
        sealed(manifest | {"step": 19, "good": 19, "best": None})
    )
    assert checkpoint.find(run, warn=said.append).step == 15 and "step 19" in said[0]
    (root / "step-00000015").rename(tmp_path / "elsewhere")
    (root / "step-00000015").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="link"):
        checkpoint.find(run, "15")


# -- outputs that fail ---------------------------------------------------------------------------------------------------


class Full:
    """A stream on a full disk, or whose reader has left."""

    def __init__(self, error):
        self.error, self.tries = error, 0

    def write(self, text):
        self.tries += 1
        raise self.error

    def flush(self):
        return self.write("")


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(), OSError(28, "No space left"), ValueError("I/O operation on closed file")],
)
def test_a_stream_that_fails_says_nothing_more_and_raises_nothing(error):
    stream = Full(error)
    quiet = Unfailing(stream)
    print("a", file=quiet)
    print("b", file=quiet, flush=True)
    assert stream.tries == 1 and not quiet.isatty()


def test_an_interval_is_saved_before_it_is_told(tmp_path):
    saved = []
    plan = make_plan("vae", **TINY)
    start_run(
        plan,
        tmp_path / "run",
        on_event=lambda event: saved.append(
            (event["step"], checkpoint.find(Run(tmp_path / "run")).step)
        ),
    )
    assert saved == [(5, 5), (10, 10), (15, 15), (20, 20)]


def test_training_whose_reader_leaves_finishes_and_saves():
    command = " ".join(
        [*COMMAND, "train", "vae", *FLAGS, "--steps", "30", "--intervals", "10", "--out", "run"]
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -1"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and not done.stderr, done.stderr
    assert (
        load_run(Run("run")).step == 30
        and json.loads(Path("run/sessions.jsonl").read_text().splitlines()[-1])["outcome"]
        == "finished"
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_training_whose_outputs_are_full_finishes_and_saves():
    command = [
        *COMMAND,
        "train",
        "vae",
        *FLAGS,
        "--steps",
        "30",
        "--intervals",
        "10",
        "--out",
        "run",
    ]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=full)
    assert done.returncode == 4 and load_run(Run("run")).step == 30


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_list_that_cannot_be_printed_is_one_line_and_names_that_are_no_ascii_are_printed():
    train("runs/ünïcode")
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "runs"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 4 and "cannot be written" in one_line(done.stderr)
    done = subprocess.run(
        [*COMMAND, "runs"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0 and "n\\xefcode" in done.stdout and not done.stderr


# -- signals -----------------------------------------------------------------------------------------------------------------


def test_a_hangup_saves_and_an_ignored_one_is_ignored():
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(0.01)
        assert stop.signal == signal.SIGHUP and StoppedError("", stop.signal).exit_code == 129
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
            assert not stop.signal and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    "verb,number", [("eval", signal.SIGTERM), ("sample", signal.SIGHUP), ("show", signal.SIGTERM)]
)
def test_a_verb_that_is_stopped_says_what_is_kept(verb, number, tmp_path, capsys, monkeypatch):
    train("run")
    monkeypatch.setattr(
        "fromnoise.runs.load.load_run",
        lambda *args, **options: os.kill(os.getpid(), number) or time.sleep(5),
    )
    assert main([verb, "run"]) == 128 + number
    said = one_line(capsys.readouterr().err)
    assert number.name in said and "unchanged" in said
    assert signal.getsignal(number) is signal.SIG_DFL


# -- mistakes -----------------------------------------------------------------------------------------------------------------


def told(capsys, code: int, *args) -> str:
    found = main([str(arg) for arg in args])
    said = one_line(capsys.readouterr().err)
    assert found == code and said.startswith("fromnoise: "), said
    return said


def test_names_that_no_file_can_have_are_one_line_and_leave_nothing(capsys, monkeypatch):
    short = [*FLAGS, "--steps", "2", "--intervals", "1", "--quiet"]
    assert "--out" in told(capsys, 2, "train", "vae", *short, "--out", "x" * 300)
    assert "UTF-8" in told(capsys, 2, "train", "vae", *short, "--out", "x\udcff")
    assert "UTF-8" in told(capsys, 2, "train", "vae", *short, "--data", "x\udcff.npy")
    told(capsys, 2, "sample", "x" * 300)
    told(capsys, 4, "sample", train("run").path, "-o", "x" * 300 + ".png")
    assert sorted(path.name for path in Path().iterdir()) == ["run"]
    monkeypatch.delenv("FROMNOISE_CACHE")
    monkeypatch.setattr(
        Path,
        "home",
        lambda: (_ for _ in ()).throw(RuntimeError("Could not determine home directory.")),
    )
    Path("t.txt").write_text("to be or not to be " * 200)
    assert "FROMNOISE_CACHE" in told(capsys, 4, "data", "info", "t.txt")


def test_an_empty_part_of_a_list_is_refused(capsys):
    assert "--hidden" in told(capsys, 2, "train", "vae", "--hidden", "1,,2")


@pytest.mark.parametrize("which", ["²", "-1", "1.5", "9" * 30, ""])
def test_a_checkpoint_is_named_by_a_plain_number(which, tmp_path):
    with pytest.raises(UsageError, match="--checkpoint takes"):
        checkpoint.find(train(tmp_path / "run"), which)


def test_weights_that_are_no_numbers_are_refused(tmp_path, capsys):
    run = train(tmp_path / "run")
    trainer = recorded_plan(run).trainer()
    trainer.load(checkpoint.find(run))
    with torch.no_grad():
        for p in [*trainer.model.parameters(), *trainer.ema.model.parameters()]:
            p.fill_(torch.nan)
    trainer.state.step = 21
    trainer.save(run)
    assert "not finite" in told(capsys, 4, "sample", run.path, "-n", "2")
    with pytest.raises(StorageError, match="not finite"):
        resume_run(run, {"steps": 2})


def test_a_configuration_that_does_not_fit_the_weights_is_named_with_the_first_tensor(tmp_path):
    run = train(tmp_path / "run")
    run.update(config=run.info["config"] | {"hidden": [9]})
    with pytest.raises(StorageError, match=r"hidden in the configuration") as error:
        load_run(Run(run.path))
    first = next(name for name, t in checkpoint.find(run).tensors("ema").items() if 8 in t.shape)
    assert (
        "[9" in str(error.value)
        and "step-00000020" in str(error.value)
        and first.split(".")[0] in str(error.value)
    )


def test_the_advice_after_a_full_disk_fits_what_was_done(tmp_path, monkeypatch):
    fsync, calls = os.fsync, []

    def full(*args):
        calls.append(args)
        if len(calls) > 2:  # run.json and its folder
            raise OSError(28, "No space left on device")
        return fsync(*args)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no room.*free some space, then `fromnoise resume"):
        train(tmp_path / "run")
    with pytest.raises(StorageError, match="no room.*give the command again"):
        Run(tmp_path / "run").update(steps=21)


# -- runs of earlier versions -------------------------------------------------------------------------------------


def as_format_1(run: Run) -> None:
    """The record and the lines without digests, as the first version wrote them."""
    info = run.info | {"format": 1}
    (run.path / "run.json").write_text(json.dumps(info))
    for name in ("events.jsonl", "sessions.jsonl"):
        lines = [json.loads(line) for line in (run.path / name).read_text().splitlines()]
        plain = [{key: value for key, value in line.items() if key != "digest"} for line in lines]
        (run.path / name).write_text("".join(json.dumps(line) + "\n" for line in plain))


def test_a_diffusion_run_from_before_the_gaussian_denoiser_opens_and_samples_as_before(tmp_path):
    options = dict(
        width=8,
        components=0,
        steps=4,
        batch_size=32,
        intervals=1,
        validation_examples=50,
        threads=1,
    )
    run = start_run(make_plan("diffusion", "moons", **options), tmp_path / "run")
    expected = sampling.sample(load_run(run), 4)
    run.update(
        config={name: value for name, value in run.info["config"].items() if name != "components"}
    )
    assert torch.equal(sampling.sample(load_run(Run(run.path)), 4), expected)
    assert Run(resume_run(Run(run.path), {"steps": 2}).path).record.steps == 6


def test_a_state_of_an_optimiser_of_other_parts_is_refused_in_one_line(tmp_path):
    trainer = make_plan("vae", **TINY).trainer()
    optimizer = next(iter(trainer.optimizers.values()))
    with pytest.raises(StorageError, match="of another version: train anew"):
        optimizer.load({"3/a/exp_avg": torch.zeros(1)})


def test_a_refused_resume_leaves_a_run_of_an_earlier_version_as_it_was(tmp_path):
    run = train(tmp_path / "run")
    run.update(config=run.info["config"] | {"hidden": [9]})
    as_format_1(run)
    before = {path.name: path.read_bytes() for path in run.path.glob("*.json*")}
    with pytest.raises(StorageError, match="hidden in the configuration"):
        resume_run(Run(run.path), {"steps": 2})
    assert {path.name: path.read_bytes() for path in run.path.glob("*.json*")} == before


@pytest.mark.parametrize("name", ["events.jsonl", "sessions.jsonl"])
def test_damaged_lines_of_an_earlier_version_are_kept_in_another_file(name, tmp_path):
    run = train(tmp_path / "run")
    as_format_1(run)
    path = run.path / name
    path.write_text("garbage\n" + path.read_text())
    resume_run(Run(run.path), {"steps": 2})
    others = [other for other in run.path.glob("*.jsonl") if other.name != name]
    assert (
        any("garbage" in other.read_text() for other in others)
        and "garbage" not in path.read_text()
    )
    assert Run(run.path).record.format == 2


def test_a_gan_of_points_goes_on_with_a_budget(tmp_path):
    options = dict(steps=4, batch_size=32, intervals=1, validation_examples=50, threads=1)
    run = start_run(make_plan("gan", "moons", **options), tmp_path / "run")
    assert resume_run(run, {"steps": 2}).record.steps == 6
