"""A stranger's family is one file: it trains, and the conformance suite passes it, or says what is wrong."""

import pytest
from helpers.family_file import GOOD

from fromnoise.checks.conformance import check_family
from fromnoise.cli import main


def test_a_good_file_passes_and_trains(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    assert main(["check", str(path)]) == 0, capsys.readouterr()
    assert main(["train", str(path), "--size", "2", "--steps", "5", "--out", "run", "--quiet"]) == 0
    assert main(["sample", "run", "-n", "3", "-o", "s.png", "--trust-code"]) == 0
    assert main(["train", str(path), "--sise", "2"]) == 2 and "--size" in capsys.readouterr().err


@pytest.mark.parametrize(
    "old,new,check",
    [
        ('rng.normal("eps", z.shape)', "torch.randn_like(z)", "arguments only"),
        ("return Loss(error,", "return Loss(error.detach().requires_grad_(),", "gradient"),
        ('trains=("down", "up")', 'trains=("down", "up", "extra")', "gradient"),
        (".view(n, *self.spec.shape)", "", "shape"),
        (".tanh()", " * 100", "range"),
        (
            'rng.normal("z", (n, self.config.size))',
            'rng.at(n).normal("z", (n, self.config.size)) * float("nan")',
            "finite",
        ),
        ("    size: int", "    seed: int", "two meanings"),
        ('PRESETS = {"default": {}}', 'PRESETS = {"default": {"sice": 3}}', "preset"),
        ("super().__init__(config, spec)", "super().__init__(Config(size=1), spec)", "unchanged"),
    ],
    ids=lambda v: None,
)
def test_a_broken_file_is_told_what_is_wrong(old, new, check, tmp_path):
    assert old in GOOD
    path = tmp_path / "mine.py"
    path.write_text(
        GOOD.replace(old, new).replace(
            "config.size", "config.seed" if "seed: int" in new else "config.size"
        )
    )
    failed = [f"{r['check']}: {r['detail']}" for r in check_family(str(path)) if not r["ok"]]
    assert any(check in line for line in failed), failed


def test_a_file_that_is_no_family(tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text("x = 1\n")
    assert (
        main(["train", str(path)]) == 2
        and "Config, Options, PRESETS, FAMILY" in capsys.readouterr().err
    )
    path.write_text("x = \n")
    assert main(["check", str(path)]) == 2
    err = capsys.readouterr().err
    assert "cannot be imported" in err and err.count("\n") == 1
