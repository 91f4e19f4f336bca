"""The command line as a user meets it: one clear line for each mistake, its exit code, and nothing lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import call, fails
from PIL import Image

from fromnoise.checks.exactness import first_difference
from fromnoise.runs.directory import Run

QUICK = [
    "--steps",
    "6",
    "--batch-size",
    "16",
    "--intervals",
    "2",
    "--hidden",
    "8",
    "--latent-dim",
    "2",
    "--threads",
    "1",
    "--validation-examples",
    "20",
]
FROZEN = Path(__file__).parents[1] / "frozen"


@pytest.fixture
def run(capsys):
    code, out, err = call(capsys, "train", "vae", *QUICK, "--out", "run", "--quiet")
    assert code == 0, err
    return Path("run")


# -- the verbs --------------------------------------------------------------------------------------------------


def test_a_wrong_label_is_answered_with_the_names_there_are(capsys):
    assert (
        call(
            capsys,
            "train",
            "vae",
            *QUICK,
            "--data",
            "faces",
            "--conditional",
            "--out",
            "run",
            "--quiet",
        )[0]
        == 0
    )
    line = fails(
        capsys,
        2,
        "sample",
        "run",
        "--label",
        "blod",
        says=["no class 'blod'", "Did you mean", "Known: 0 "],
    )
    name = re.search(r"Did you mean '(.+?)'", line)[1]
    for label in (name, "1"):
        assert (
            call(capsys, "sample", "run", "-n", 2, "--label", label, "-o", f"{label}.npy")[0] == 0
        )


def test_a_folder_that_is_no_run_is_not_to_be_resumed(capsys, run):
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    line = fails(
        capsys, 2, "train", "vae", *QUICK, "--out", "mine", says=["mine exists", "no run", "--out"]
    )
    assert "resume" not in line
    fails(capsys, 2, "train", "vae", *QUICK, "--out", run, says=["fromnoise resume run"])


def test_runs_takes_a_folder(capsys, run):
    found = [call(capsys, "runs", *where, "--json")[1] for where in ([], ["."], ["--root", "."])]
    assert (
        json.loads(found[0])["runs"] == [] and json.loads(found[1])["runs"] and found[1] == found[2]
    )
    fails(capsys, 2, "runs", ".", "--root", ".", says=["one folder"])


def test_help_of_sample_names_the_options_of_every_family(capsys):
    from fromnoise import families

    lines = {
        line.split()[0]: line
        for line in call(capsys, "sample", "--help")[1].splitlines()
        if line.strip()
    }
    for name in families.names():
        if options := list(families.load(name).Options.model_fields):
            assert re.findall(r"--[a-z-]+", lines[name]) == [
                f"--{option.replace('_', '-')}" for option in options
            ], name


def test_moved_data_are_named_once(capsys):
    np.save("old.npy", np.random.default_rng(0).integers(0, 255, (60, 8, 8), np.uint8))
    assert (
        call(capsys, "train", "vae", *QUICK, "--data", "old.npy", "--out", "run", "--quiet")[0] == 0
    )
    Path("elsewhere").mkdir()
    Path("old.npy").rename("elsewhere/new.npy")
    for verb in (["eval"], ["show"], ["reconstruct"], ["verify", "--data"]):
        fails(capsys, 3, *verb, "run", says=["old.npy", "fromnoise show run --data PATH"])
    assert call(capsys, "show", "run", "curves", "--data", "elsewhere/new.npy")[0] == 0
    assert (
        call(capsys, "verify", "run", "--data")[0] == 0
        and call(capsys, "reconstruct", "run", "-n", 2)[0] == 0
    )


def test_train_sample_eval_show_verify_runs(run, capsys):
    assert (
        call(capsys, "sample", run, "-n", 5, "-o", "grid.png")[0] == 0
        and Image.open("grid.png").width > 30
    )
    assert call(capsys, "sample", run, "-n", 5, "-o", "all.npy")[0] == 0 and np.load(
        "all.npy"
    ).shape == (5, 8, 8)
    assert (
        call(capsys, "sample", run, "-n", 3, "-o", "folder")[0] == 0
        and len(list(Path("folder").glob("*.png"))) == 3
    )
    assert np.array_equal(
        np.load("all.npy")[:3],
        np.stack([np.asarray(Image.open(p)) for p in sorted(Path("folder").glob("*.png"))]),
    )
    code, out, _ = call(capsys, "eval", run, "--quick", "--json")
    report = json.loads(out)
    assert code == 0 and {"elbo", "importance_weighted", "reconstruction_mse", "active_units"} <= {
        m["name"] for m in report["metrics"]
    }
    assert (run / "report-quick.json").is_file() and not (run / "report.json").exists()
    code, out, _ = call(capsys, "show", run, "curves", "--json")
    assert code == 0 and all(Path(f).is_file() for f in json.loads(out)["files"])
    assert json.loads(call(capsys, "verify", run, "--json")[1])["ok"]
    assert json.loads(call(capsys, "runs", "--root", ".", "--json")[1])["runs"][0]["step"] == 6
    assert json.loads(call(capsys, "reconstruct", run, "--json")[1])["n"] == 16


def test_json_is_one_document_on_stdout(capsys):
    code, out, err = call(capsys, "train", "vae", *QUICK, "--out", "r", "--json")
    assert code == 0 and json.loads(out)["step"] == 6 and "parameters" in err


def test_dry_run_stops_before_anything_is_written(capsys):
    code, out, _ = call(capsys, "train", "vae", *QUICK, "--dry-run", "--json")
    document = json.loads(out)
    assert (
        code == 0
        and document["parameters"] > 0
        and document["steps"] == 6
        and document["config"]["latent_dim"] == 2
    )
    assert not Path("runs").exists()


def test_default_folder_counts_up_and_is_never_overwritten(capsys):
    for _ in range(2):
        assert call(capsys, "train", "vae", *QUICK, "--quiet")[0] == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == ["digits-vae-0001", "digits-vae-0002"]
    fails(
        capsys,
        2,
        "train",
        "vae",
        *QUICK,
        "--out",
        "runs/digits-vae-0001",
        says=["never overwritten", "--out"],
    )


def test_the_python_api_in_five_lines(capsys):
    import fromnoise as fn

    run = fn.train("vae", data="digits", latent_dim=2, hidden=(8,), steps=6, threads=1)
    images = run.sample(5, seed=0)
    assert images.shape == (5, 8, 8) and images.dtype == np.uint8
    assert "ELBO" in str(run.evaluate(quick=True))
    assert run.show("grid")
    x = np.rint(run.dataset.splits["test"].x[:4, 0] * (255 / 16)).astype(np.uint8)
    assert (
        run.encode(images).shape == (5, 2) and run.reconstruct(images).shape == images.shape
    )  # means lie between levels
    assert run.decode(run.encode(x)).shape == run.reconstruct(x).shape == (
        4,
        8,
        8,
    ) and run.log_prob(x).shape == (4,)


@pytest.mark.parametrize(
    "verb",
    [
        "",
        "train",
        "resume",
        "sample",
        "score",
        "reconstruct",
        "edit",
        "eval",
        "compare",
        "evaluator",
        "evaluator fit",
        "show",
        "runs",
        "verify",
        "check",
        "new",
        "doctor",
        "data",
        "tour",
        "train vae",
        "train autoencoder",
        "train classical",
        "train gan",
        "train vaegan",
        "train autoregressive",
        "train diffusion",
        "train vqvae",
    ],
)
def test_help_is_frozen(verb, capsys):
    """A new option is a change that a reviewer sees: FROMNOISE_FREEZE=1 writes the files anew."""
    code, out, _ = call(capsys, *verb.split(), "--help")
    path = FROZEN / f"{verb.replace(' ', '-') or 'fromnoise'}.txt"
    if os.environ.get("FROMNOISE_FREEZE"):
        FROZEN.mkdir(exist_ok=True)
        path.write_text(out)
    assert code == 0 and out == path.read_text()


def test_help_does_not_import_torch():
    script = "import sys; from fromnoise.cli import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    for args in (["--help"], ["train", "--help"], ["sample", "--help"], ["show", "--help"]):
        assert (
            subprocess.run([sys.executable, "-c", script, *args], capture_output=True).returncode
            == 0
        ), args


# -- mistakes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args,says",
    [
        (["trian"], ["trian", "Did you mean 'train'?"]),
        (["train", "vea"], ["vea", "Did you mean 'vae'?"]),
        (["train", "vae", "--latent-dims", "2"], ["--latent-dims", "--latent-dim"]),
        (["train", "vae", "--latent-dim", "10.5"], ["--latent-dim", "whole number", "10.5"]),
        (["train", "vae", "--latent-dim", "-1"], ["--latent-dim", "-1"]),
        (["train", "vae", "--latent-dim", ""], ["--latent-dim"]),
        (["train", "vae", "--lr", "nan"], ["--lr", "finite number"]),
        (["train", "vae", "--lr", "1e400"], ["--lr", "finite number"]),
        (["train", "vae", "--lr", "fast"], ["--lr", "finite number", "fast"]),
        (["train", "vae", "--hidden", "12,x"], ["--hidden", "x"]),
        (["train", "vae", "--likelihood", "gausian"], ["--likelihood", "Did you mean 'gaussian'?"]),
        (
            ["train", "gan", "--data", "digits", "--augment", "foo"],
            ["cannot be 'foo': choose from translation, cutout, colour."],
        ),
        (["train", "vae", "--preset", "ladde"], ["ladde", "Did you mean 'ladder'?"]),
        (["train", "vae", "--steps", "5", "--minutes", "1"], ["one budget"]),
        (["train", "vae", "--resolution", "64"], ["--resolution", "digits"]),
        (["train", "vae", "--network", "ladder", "--data", "ring8"], ["--network", "mlp"]),
        (["train", "missing/family.py"], ["missing/family.py"]),
        (["sample", "nowhere"], ["nowhere", "no run"]),
        (["resume", "nowhere"], ["nowhere", "no run"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_usage_mistakes(args, says, capsys):
    fails(capsys, 2, *args, says=says)
    assert not Path("runs").exists()


def test_mistakes_of_sampling(run, capsys):
    fails(capsys, 2, "sample", run, "-n", "0", says=["-n"])
    fails(capsys, 2, "sample", run, "-n", "many", says=["whole number", "many"])
    fails(capsys, 2, "sample", run, "--label", "3", says=["--conditional"])
    fails(capsys, 2, "sample", run, "--temprature", "1", says=["temperature"])
    fails(capsys, 2, "sample", run, "--temperature", "nan", says=["--temperature", "finite"])
    fails(capsys, 2, "sample", run, "-o", "x.gif", says=["x.gif", ".png"])
    fails(capsys, 2, "sample", run, "--checkpoint", "7", says=["7", "choose from"])
    fails(capsys, 2, "show", run, "grdi", says=["grid"])
    fails(capsys, 2, "show", run, "grid", "--dims", "0", says=["--dims"])


def test_a_conditional_model_wants_its_labels(capsys):
    assert call(capsys, "train", "vae", *QUICK, "--conditional", "--out", "c", "--quiet")[0] == 0
    assert call(capsys, "sample", "c", "-n", "3", "--label", "7", "-o", "a.png")[0] == 0
    fails(capsys, 2, "sample", "c", "--label", "10", says=["no class '10'", "Known: 0, 1, 2"])
    fails(
        capsys,
        2,
        "train",
        "vae",
        *QUICK,
        "--conditional",
        "--data",
        "checkerboard",
        says=["--conditional", "labels"],
    )


@pytest.mark.parametrize(
    "name,content,says",
    [
        ("missing/", None, ["missing", "no such"]),
        ("empty/", {}, ["neither images nor text"]),
        ("one/", {"a.png": "image"}, ["1 example", "at least 10"]),
        ("broken/", {"a.png": "image", "b.jpg": "truncated"}, ["b.jpg", "--skip-bad"]),
        ("text/", {"a.png": b"hello, world"}, ["a.png", "not an image"]),
        ("x.npy", "objects", ["x.npy"]),
        ("x.csv", "a,b\n" + "1,2\n" * 30 + "3,oops\n", ["b", "oops", "32", "--categorical"]),
        ("x.txt", "words", ["too short", "give more text"]),
        ("digts", None, ["digts", "Did you mean 'digits'?"]),
    ],
    ids=lambda v: v if isinstance(v, str) and len(v) < 12 else "",
)
def test_data_mistakes(name, content, says, capsys):
    path = Path(name)
    if isinstance(content, dict):
        path.mkdir()
        for file, what in content.items():
            image = Image.fromarray(np.full((20, 20), 7, np.uint8))
            if isinstance(what, bytes):
                (path / file).write_bytes(what)
            else:
                image.save(path / file)
            if what == "truncated":
                (path / file).write_bytes((path / file).read_bytes()[:200])
    elif content == "objects":
        np.save(path, np.array([{}, "x"], dtype=object), allow_pickle=True)
    elif content is not None:
        path.write_text(content)
    fails(capsys, 3, "train", "vae", *QUICK, "--data", name, says=says)
    assert not Path("runs").exists()


def test_a_read_only_place_is_refused_before_training(capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
        fails(capsys, 4, "train", "vae", *QUICK, "--out", "x", says=["cannot write", "--out"])
    fails(
        capsys,
        4,
        "train",
        "vae",
        *QUICK,
        "--out",
        "/proc/nothing/here",
        says=["cannot write", "--out"],
    )


def test_divergence_has_its_code(capsys):
    fails(
        capsys,
        5,
        "train",
        "vae",
        *QUICK,
        "--lr",
        "1e30",
        "--schedule",
        "constant",
        "--out",
        "d",
        "--quiet",
        says=["not finite", "last good state"],
    )
    assert json.loads(call(capsys, "verify", "d", "--json")[1])["ok"]


def test_verify_finds_a_flipped_bit(run, capsys):
    path = sorted(run.glob("checkpoints/*/ema.safetensors"))[-1]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    code, out, err = call(capsys, "verify", run)
    assert code == 4 and "ema.safetensors" in err and "damaged" in out
    code, out, err = call(capsys, "sample", run, "-n", "2", "-o", "s.png")
    assert code == 0 and "ema.safetensors" in err and "using step" in err


def test_resume_refuses_a_difference(run, capsys):
    fails(capsys, 2, "resume", run, "--lr", "0.5", says=["--lr", "0.001", "0.5"])
    fails(capsys, 2, "resume", run, "--lrr", "0.5", says=["--lrr", "lr"])
    fails(capsys, 2, "resume", run, says=["finished", "--minutes"])


# -- signals ----------------------------------------------------------------------------------------------------

LONG = [
    "--steps",
    "3000",
    "--batch-size",
    "16",
    "--intervals",
    "10",
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


@pytest.mark.slow
@pytest.mark.parametrize("number,code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_state_and_resume_gives_the_same_bits(number, code, capsys, tmp_path):
    command = [sys.executable, "-m", "fromnoise", "train", "vae", *LONG, "--out", "cut"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(Path("cut/checkpoints").glob("step-*")):
        time.sleep(0.02)
        assert process.poll() is None
    time.sleep(0.2)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert re.fullmatch(
        r"fromnoise: stopped at step \d+ of 3000, state saved: `fromnoise resume cut`\n", err
    ), err
    assert call(capsys, "resume", "cut", "--workers", "2", "--quiet")[0] == 0
    assert call(capsys, "train", "vae", *LONG, "--out", "whole")[0] == 0
    assert not first_difference(Run("whole"), Run("cut"))


def test_a_closed_pipe_is_no_error():
    command = f"{sys.executable} -m fromnoise data list | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr and done.stdout.startswith("digits")


def test_a_full_disk_ends_the_run_with_its_code_and_keeps_it_whole(capsys):
    import resource

    def small():
        return resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    command = [sys.executable, "-m", "fromnoise", "train", "vae", *LONG, "--out", "full"]
    command[command.index("--hidden") + 1] = "100"  # a checkpoint of more than 60 kB
    done = subprocess.run(command, preexec_fn=small, capture_output=True, text=True)
    assert (
        done.returncode == 4
        and done.stderr.count("\n") == 1
        and "no room on the disk" in done.stderr
        and "free some space" in done.stderr
    )
    assert json.loads(call(capsys, "verify", "full", "--json")[1])["checkpoints"] == [
        0
    ]  # what was there before
    assert [p.name for p in Path("full/checkpoints").iterdir()] == ["step-00000000"]


@pytest.mark.parametrize(
    "args,code,says",
    [
        (["train", "vae", "--hidden", "-5"], 2, ["--hidden"]),
        (["train", "vae", "--hidden", "0"], 2, ["--hidden"]),
        (["train", "vae", "--device", "gpu"], 2, ["--device", "cuda"]),
        (["train", "vae", "--device", "mps"], 2, ["--device"]),
        (
            ["train", "vae", "--validation", "0.49", "--test", "0.49", "--data", "ten.npy"],
            2,
            ["--validation"],
        ),
        (["tour", "--out", "ten.npy"], 2, ["is a file"]),
        (["tour", "--data", "ring8"], 2, ["--network"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_more_mistakes(args, code, says, capsys):
    np.save("ten.npy", np.arange(10 * 36, dtype=np.uint8).reshape(10, 6, 6))
    fails(capsys, code, *args, says=says)
    assert not Path("runs").exists()


def test_resume_hears_every_form_of_an_option(run, capsys):
    fails(capsys, 2, "resume", run, "--batch-size=64", says=["--batch-size", "16", "64"])
    fails(capsys, 2, "resume", run, "--seed=7", "--steps", "3", says=["--seed"])
    assert call(capsys, "resume", run, "--seed=0", "--steps", "3", "--quiet")[0] == 0


def test_a_place_that_cannot_be_made_is_a_storage_error(run, capsys):
    Path("file").write_text("")
    fails(capsys, 4, "sample", run, "-o", "file/x.png", says=["file", "--out"])
    fails(
        capsys, 4, "reconstruct", run, "-o", "/proc/nothing/x.png", says=["/proc/nothing", "--out"]
    )


def test_flags_without_a_value_where_options_are_loose(run, capsys):
    Path("pics").mkdir()
    for i in range(12):
        Image.fromarray(np.full((8, 8), 20 * i, np.uint8)).save(f"pics/{i}.png")
    Path("pics/bad.png").write_bytes(b"no")
    fails(capsys, 3, "data", "info", "pics", says=["--skip-bad"])
    assert call(capsys, "data", "info", "pics", "--skip-bad", "--grey")[0] == 0
    fails(capsys, 2, "resume", run, "--conditional", "--steps", "2", says=["--conditional"])
    assert call(capsys, "resume", run, "--no-conditional", "--steps", "2", "--quiet")[0] == 0
