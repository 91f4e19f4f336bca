"""Opening a run executes none of the code that it names, unless the user trusts it."""

import hashlib
import importlib.util
import json
import os
import py_compile
import shutil
from pathlib import Path

import pytest
from helpers.family_file import GOOD

import fromnoise as fn
from fromnoise.cli import main
from fromnoise.core.errors import UsageError
from fromnoise.core.json_files import sealed
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

MARKER = Path("executed")  # in the current folder, that of the test
HOSTILE = GOOD.replace("import torch\n", f"import torch\nopen({str(MARKER)!r}, 'w').close()\n")
STEPS = {"steps": 3, "threads": 1, "intervals": 1, "validation_examples": 20, "batch_size": 16}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One-stage, two-stage and text runs of families that come with the package."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROMNOISE_CACHE", str(root / "cache"))
        start_run(make_plan("vae", hidden=(8,), latent_dim=2, **STEPS), root / "plain")
        start_run(
            make_plan("vae", hidden=(8,), latent_dim=2, within=root / "plain", **STEPS),
            root / "two",
        )
        (root / "words.txt").write_text("to be or not to be, " * 60)
        text = make_plan(
            "autoregressive",
            str(root / "words.txt"),
            network="window",
            width=8,
            order=2,
            context=8,
            **STEPS,
        )
        start_run(text, root / "text")
    return root


def change(run: Path, edit) -> None:
    path = run / "run.json"
    info = json.loads(path.read_text())
    edit(info)
    path.write_text(sealed(info))


@pytest.fixture
def hostile(trained, monkeypatch):
    """The same runs, which now name the file evil.py, and not only in one way."""
    for name in ("plain", "two", "text"):
        shutil.copytree(trained / name, name)
    shutil.copytree("two", "first")
    shutil.copytree("plain", "relative")
    shutil.copytree("plain", "undated")
    Path("evil.py").write_text(HOSTILE)
    file, known = str(Path("evil.py").resolve()), {"sha256": digest(HOSTILE)}
    for name in ("plain", "text"):
        change(
            Path(name), lambda info: info.update(family_file=file, family_sha256=known["sha256"])
        )
    change(Path("two"), lambda info: info["config"]["second"].update(family=file, **known))
    change(
        Path("first"),
        lambda info: info["config"]["first"].update(family="/proc/self/cwd/evil.py", **known),
    )
    change(Path("relative"), lambda info: info.update(family="../" + Path.cwd().name + "/evil.py"))
    change(Path("undated"), lambda info: info.update(family_file="evil.py", family_sha256=None))


VERBS = {
    "sample": ["sample", "RUN", "-n", "2", "-o", "x.npy"],
    "eval": ["eval", "RUN", "--quick"],
    "show": ["show", "RUN", "curves"],
    "show beside": ["show", "bundled", "planes", "--beside", "RUN"],
    "guide": ["sample", "bundled", "--guide-with", "RUN"],
    "compare": ["compare", "RUN", "bundled"],
    "resume": ["resume", "RUN", "--steps", "2"],
    "resume with options": ["resume", "RUN", "--steps", "2", "--lr", "0.001"],
    "reconstruct": ["reconstruct", "RUN"],
    "edit": ["edit", "RUN", "--fill", "left"],
    "train within": ["train", "diffusion", "--within", "RUN", "--steps", "2"],
}


@pytest.mark.parametrize("run", ["plain", "two", "first", "relative", "undated"])
@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_executes_the_code_that_a_run_names(verb, run, hostile, trained, capsys):
    shutil.copytree(trained / "plain", "bundled")
    code = main([run if word == "RUN" else word for word in VERBS[verb]])
    out, err = capsys.readouterr()
    assert code == 2 and not MARKER.exists(), (out, err)
    assert (
        "evil.py" in err and "--trust-code" in err and "executes" in err and err.count("\n") == 1
    ), err
    assert ("no digest" in err) == (run in ("relative", "undated")), err


def test_score_and_sample_of_a_text_run_execute_nothing(hostile, capsys):
    for args in (["score", "text", "--text", "to be"], ["sample", "text"]):
        assert main(args) == 2 and not MARKER.exists()
        assert "--trust-code" in capsys.readouterr().err


@pytest.mark.parametrize("run", ["plain", "two", "first", "relative", "undated"])
def test_verify_and_runs_need_no_code_and_work(run, hostile, capsys):
    assert main(["verify", run]) == 0, capsys.readouterr().err
    assert main(["runs", "."]) == 0 and run in capsys.readouterr().out
    assert not MARKER.exists()


def test_python_executes_nothing_either(hostile):
    for call in (
        lambda: fn.open("plain").sample(1),
        lambda: fn.open("two").resume(steps=2),
        lambda: fn.train("diffusion", within="plain", steps=1),
        lambda: fn.compare("plain", "two"),
    ):
        with pytest.raises(UsageError, match="trust_code"):
            call()
    assert not MARKER.exists()


# -- and with trust it works ------------------------------------------------------------------------------------


@pytest.fixture
def own(capsys):
    """A run of a family file of the user's own, and one whose both stages are made of such a file."""
    Path("mine.py").write_text(HOSTILE.replace("        self.extra = nn.Linear(2, 2)\n", ""))
    MARKER.unlink(missing_ok=True)
    few = [
        "--steps",
        "3",
        "--threads",
        "1",
        "--intervals",
        "1",
        "--validation-examples",
        "20",
        "--quiet",
    ]
    assert main(["train", "mine.py", *few, "--out", "own"]) == 0
    assert main(["train", "vae", "--hidden", "8", "--latent-dim", "2", *few, "--out", "vae"]) == 0
    assert main(["train", "mine.py", "--within", "vae", *few, "--out", "both"]) == 0
    assert MARKER.exists()
    MARKER.unlink()
    capsys.readouterr()


def test_what_is_recorded_is_the_digest_of_the_file(own):
    info = json.loads(Path("own/run.json").read_text())
    assert info["family_sha256"] == hashlib.sha256(Path("mine.py").read_bytes()).hexdigest()
    assert (
        json.loads(Path("both/run.json").read_text())["config"]["second"]["sha256"]
        == info["family_sha256"]
    )


@pytest.mark.parametrize("run", ["own", "both"])
def test_a_trusted_run_opens_while_its_file_is_as_it_was(run, own, capsys):
    assert main(["sample", run, "-n", "2", "-o", "x.npy"]) == 2 and not MARKER.exists()
    assert main(["sample", run, "-n", "2", "-o", "x.npy", "--trust-code"]) == 0 and MARKER.exists()
    assert main(["sample", run, "-n", "2", "-o", "y.npy", "--trust-file", "mine.py"]) == 0
    assert main(["resume", run, "--steps", "2", "--quiet"]) == 2
    assert main(["resume", run, "--steps", "2", "--quiet", "--trust-code"]) == 0
    assert main(["show", run, "curves", "--trust-code"]) == 0
    assert (
        fn.open(run, trust_code=True).sample(2).shape
        == (2, 8, 8)
        == fn.open(run, trust_code="mine.py").sample(2).shape
    )


@pytest.mark.parametrize("run", ["own", "both"])
def test_a_changed_file_is_refused_until_it_is_named(run, own, capsys):
    Path("mine.py").write_text(Path("mine.py").read_text() + "\n# changed\n")
    assert (
        main(["sample", run, "-n", "2", "-o", "x.npy", "--trust-code"]) == 2 and not MARKER.exists()
    )
    err = capsys.readouterr().err
    assert "changed since" in err and "--trust-file" in err and err.count("\n") == 1
    assert main(["sample", run, "-n", "2", "-o", "x.npy", "--trust-file", "mine.py"]) == 0
    assert "may not be the code" in capsys.readouterr().err
    Path("mine.py").rename("moved.py")
    assert (
        main(["sample", run, "-n", "2", "-o", "y.npy", "--trust-file", "moved.py"]) == 2
    )  # other content, other name
    Path("moved.py").write_text(Path("moved.py").read_text().removesuffix("\n# changed\n"))
    assert main(["sample", run, "-n", "2", "-o", "y.npy", "--trust-file", "moved.py"]) == 0


def test_a_run_without_a_digest_says_so_when_it_is_trusted(own, capsys):
    change(Path("own"), lambda info: info.pop("family_sha256"))
    assert (
        main(["sample", "own", "-n", "2", "-o", "x.npy"]) == 2
        and "no digest" in capsys.readouterr().err
    )
    assert main(["sample", "own", "-n", "2", "-o", "x.npy", "--trust-code"]) == 0
    assert "recorded no digest" in capsys.readouterr().err


def test_bytecode_beside_the_file_is_not_executed(own, capsys):
    """Python would take __pycache__/mine.*.pyc of the same time and size for the file, whatever is in it."""
    Path("bad.py").write_text("raise SystemError('bytecode ran')\n")
    status = Path("mine.py").stat()
    Path("bad.py").write_text(Path("bad.py").read_text().ljust(status.st_size, "#"))
    os.utime("bad.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    py_compile.compile(
        "bad.py",
        cfile=importlib.util.cache_from_source(str(Path("mine.py").resolve())),
        doraise=True,
    )
    assert main(["sample", "own", "-n", "2", "-o", "x.npy", "--trust-code"]) == 0, (
        capsys.readouterr().err
    )


def test_a_family_file_that_a_run_went_within_counts_as_named(own, capsys):
    assert (
        main(["train", "mine.py", "--within", "own", "--steps", "2", "--out", "no", "--quiet"]) == 2
    )
    assert "has no encoder" in capsys.readouterr().err  # it was opened: the same file was named
