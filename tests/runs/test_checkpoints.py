"""Checkpoints survive damage to their files."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.small_trainings import train

from fromnoise.checks.exactness import first_difference
from fromnoise.core.errors import StorageError, UsageError
from fromnoise.core.json_files import sealed
from fromnoise.runs import checkpoint, checkpoint_writer
from fromnoise.runs.directory import Run
from fromnoise.runs.load import load_run
from fromnoise.training.resume import recorded_plan, resume_run


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
