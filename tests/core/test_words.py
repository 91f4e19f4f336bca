"""What comes from files, folders and configurations never reaches a terminal raw."""

import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fromnoise as fn
from fromnoise.cli import main
from fromnoise.core.errors import DataError, StoppedError, StorageError, UsageError
from fromnoise.core.words import escaped, safe, shown

FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f\ud800-\udfff]"
)
NASTY = "\x1b]0;owned\x07\x1b[2J\u202eevil\u2066\x9b\x7f\u200b\u2028\U000e0041"
STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")  # what rich itself writes on a terminal
FEW = [
    "--steps",
    "2",
    "--batch-size",
    "8",
    "--intervals",
    "1",
    "--threads",
    "1",
    "--validation-examples",
    "10",
]
SMALL = [*FEW, "--hidden", "8", "--latent-dim", "2"]


def printed(capsys, *args, code=0) -> str:
    """Everything that a command printed; asserts that all of it is fit for a terminal."""
    found = main([str(a) for a in args])
    out, err = capsys.readouterr()
    assert found == code, (found, out, err)
    assert not FORBIDDEN.search(out + err), ascii(out + err)
    return out + err


@pytest.fixture
def pictures():
    """Two classes; their folders, and so they, have names that attack a terminal."""
    rng = np.random.default_rng(0)
    for name in (f"a{NASTY}", "b\nfromnoise: all is well"):
        Path("pics", name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(
                Path("pics", name, f"{i}.png")
            )
    return "pics"


def test_escaping_keeps_text_and_shows_the_rest():
    assert (
        escaped("Käse, 日本, 🧀 'x'") == "Käse, 日本, 🧀 'x'"
        and safe("a\n\tb") == "a\n\tb"
        and escaped("a\n\tb") == "a\\n\\tb"
    )
    everything = "".join(
        map(chr, [*range(0xD800), *range(0xE000, 0xF000), *range(0xE0000, 0xE0100)])
    )
    assert not FORBIDDEN.search(escaped(everything)) and not FORBIDDEN.search(safe(everything))
    assert escaped("\x1b\u202e\udc80") == "\\x1b\\u202e\\udc80"
    assert (
        shown("x" * 500).count("x") < 80
        and shown("a\nb") == "'a\\nb'"
        and shown(Path(NASTY)) == shown(NASTY)
    )


def test_errors_are_escaped_in_python_too():
    for error in (UsageError, DataError, StorageError):
        assert str(error(f"no {NASTY}")) == f"no {escaped(NASTY)}"
    assert not FORBIDDEN.search(str(StoppedError(NASTY, 2))) and isinstance(
        StorageError("x"), OSError
    )


def test_class_names(pictures, capsys):
    run = f"run{NASTY}"
    assert "\\x1b]0;owned\\x07" in printed(capsys, "data", "info", pictures)
    assert "classes: a" in (text := printed(capsys, "data", "info", pictures)) and text.count(
        "\n"
    ) == len([line for line in text.split("\n") if line])
    assert not any(line.startswith("fromnoise: all is well") for line in text.split("\n"))
    printed(capsys, "train", "vae", "--data", pictures, *SMALL, "--conditional", "--dry-run")
    text = printed(
        capsys, "train", "vae", "--data", pictures, *SMALL, "--conditional", "--out", run
    )
    assert "run\\x1b" in text
    assert "owned" in printed(capsys, "sample", run, "--label", f"c{NASTY}", code=2)
    printed(capsys, "sample", run, "--label", f"a{NASTY}", "-n", 2)
    printed(capsys, "sample", run, "-n", 2, "-o", f"x{NASTY}.npy")
    for args in (
        ["eval", run, "--quick", "--samples", 50],
        ["show", run, "samples"],
        ["reconstruct", run, "-n", 2],
        ["verify", run, "--data"],
        ["runs", "."],
        ["resume", run, "--steps", 2],
        ["compare", run, "--samples", 50, "--no-zoo"],
    ):
        printed(capsys, *args)
        shutil.rmtree(Path(run, "figures"), ignore_errors=True)
    assert "run\\x1b" in printed(capsys, "runs", ".")
    for args in (
        ["sample", run, "--json"],
        ["data", "info", pictures, "--json"],
        ["verify", run, "--json"],
    ):
        json.loads(printed(capsys, *args).splitlines()[-1])
    assert json.loads(printed(capsys, "data", "info", pictures, "--json"))["classes"][0].endswith(
        "\U000e0041"
    )  # JSON is exact
    damaged = sorted(Path(run).glob("checkpoints/*/ema.safetensors"))[-1]
    damaged.write_bytes(b"x")
    printed(capsys, "verify", run, code=4)
    printed(capsys, "sample", run, "-n", 2)
    assert not FORBIDDEN.search(repr(fn.open(run)))


def test_a_new_line_in_a_name_starts_no_new_line(capsys):
    np.save(
        "a\nfromnoise: fine.npy", np.random.default_rng(0).integers(0, 255, (30, 8, 8), np.uint8)
    )
    for args in (
        ["data", "info", "a\nfromnoise: fine.npy"],
        ["train", "vae", "--data", "a\nfromnoise: fine.npy", *SMALL, "--out", "b\nfromnoise: fine"],
        ["runs", "."],
        ["verify", "b\nfromnoise: fine"],
        ["sample", "b\nfromnoise: fine", "-n", "2"],
    ):
        text = printed(capsys, *args)
        assert "\nfromnoise: fine" not in text and (
            args[0] == "verify" or "\\nfromnoise: fine" in text
        ), text


def test_columns_and_classes_of_tables(capsys):
    head, rows = (
        f"n{NASTY.replace(chr(0x2028), '')},kind{NASTY.replace(chr(0x2028), '')},y",
        "".join(f"{i},k{i % 2}\x1b[31m,{'ab'[i % 2]}\u202e\n" for i in range(40)),
    )
    Path("t.csv").write_text(f"{head}\n{rows}")
    printed(capsys, "data", "info", "t.csv", "--label", "y")
    printed(capsys, "data", "info", "t.csv", "--label", "x", code=2)
    printed(capsys, "data", "info", "t.csv", "--drop", f"n{NASTY}", code=2)
    printed(
        capsys,
        "train",
        "vae",
        "--data",
        "t.csv",
        "--label",
        "y",
        *SMALL,
        "--conditional",
        "--out",
        "t",
    )
    printed(capsys, "sample", "t", "--label", "zz", code=2)
    printed(capsys, "sample", "t", "-n", 3, "-o", "t-out.csv")
    printed(capsys, "eval", "t", "--quick", "--samples", 50)
    assert "not 'fast\\x1b" in printed(
        capsys, "train", "vae", "--lr", "fast\x1b]0;x\x07\nfromnoise: ok", code=2
    )
    printed(capsys, "train", "vae", "--likelihood", NASTY, code=2)
    printed(capsys, "train", NASTY, code=2)
    printed(capsys, "sample", NASTY, code=2)
    printed(capsys, NASTY, code=2)
    printed(capsys, "sample", "t", f"--{NASTY}", code=2)
    printed(capsys, "sample", "t", "--temperature", NASTY, code=2)
    Path("t.csv").write_text(f"{head}\n{rows}oops{NASTY},,c\n")
    printed(capsys, "data", "info", "t.csv", code=3)


def test_values_and_captions_in_a_forged_run(capsys):
    printed(capsys, "train", "vae", *SMALL, "--out", "run")
    whole = json.loads(Path("run/run.json").read_text())
    for where, key in (
        (("config",), "likelihood"),
        (("config",), NASTY),
        (("data",), "name"),
        (("data",), "class_names"),
        ((), "family"),
        ((), "preset"),
        (("versions",), "torch"),
        (("train",), "device"),
    ):
        info = json.loads(json.dumps(whole))
        part = info
        for name in where:
            part = part[name]
        part[key] = [NASTY] * 10 if key == "class_names" else NASTY
        Path("run/run.json").write_text(json.dumps(info))
        for args in (
            ["sample", "run", "-n", "2"],
            ["eval", "run", "--quick", "--samples", "50"],
            ["runs", "."],
            ["verify", "run"],
            ["resume", "run", "--steps", "1"],
        ):
            main(args)
            out, err = capsys.readouterr()
            assert not FORBIDDEN.search(out + err), (key, args, ascii(out + err))
    words = {"words": [f"red{NASTY}", "circle"], "examples": ["circle"], "longest": 3}
    whole["data"] |= {"words": words, "name": "shapes"}
    Path("run/run.json").write_text(json.dumps(whole))
    main(["sample", "run", "--prompt", "rad"])
    out, err = capsys.readouterr()
    assert not FORBIDDEN.search(out + err), ascii(out + err)


def test_texts_that_a_model_writes_keep_lines_and_tabs_and_nothing_else(capsys):
    Path("c.txt").write_bytes(("ab\x1b]0;t\x07\r\nc\td\u202e e\r" * 120).encode())
    network = [
        "--network",
        "window",
        "--width",
        "16",
        "--order",
        "3",
        "--context",
        "8",
        "--lr",
        "0.02",
    ]
    printed(
        capsys,
        "train",
        "autoregressive",
        "--data",
        "c.txt",
        *network,
        *FEW[2:],
        "--steps",
        "150",
        "--out",
        "c",
    )
    printed(capsys, "data", "info", "c.txt", "--context", 8)
    for args in (
        ["--stream", "--length", "200"],
        ["-n", "3", "--length", "100"],
        ["--prompt", "ab\x1b]0;t", "--length", "60"],
    ):
        text = printed(capsys, "sample", "c", *args)
        assert "\\x1b" in text and "\t" in text and "\n" in text
    Path("p.txt").write_bytes(b"ab\x1b]0;t\x07\r\nc\td")
    assert "\\x1b" in printed(capsys, "score", "c", "p.txt", "--by-symbol")
    printed(capsys, "sample", "c", "--length", 100, "-o", "out.txt")
    assert b"\x1b" in Path("out.txt").read_bytes()  # a file has the text as it is


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_only_our_own_style_gets_through(pictures, monkeypatch):
    run = f"run{NASTY}[link=http://x]y[/link]"
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setenv("TERM", "xterm-256color")
    for args in (
        ["train", "vae", "--data", pictures, *SMALL, "--out", run],
        ["eval", run, "--quick", "--samples", "50"],
        ["runs", "."],
        ["sample", run, "-n", "2"],
    ):
        assert main(args) == 0, out.getvalue()
    text = out.getvalue()
    assert "\x1b[" in text and "owned" in text and not FORBIDDEN.search(STYLE.sub("", text)), ascii(
        text
    )


def test_no_markup_is_read_in_a_report(capsys):
    """[link=...] would become the sequence that makes a terminal's link."""
    from rich.console import Console

    from fromnoise.evaluate.summary import summary
    from fromnoise.evaluate.table import plain_table, rich_table

    report = {
        "title": f"[link=http://x]a[/link] [bold]b{NASTY}\nc",
        "metrics": [],
        "cost": {"parameters": 1, "train_seconds": 1.0},
        "settings": {},
    }
    out = Terminal()
    Console(file=out, force_terminal=True, width=400).print(rich_table([report]))
    for text in (STYLE.sub("", out.getvalue()), plain_table([report]), summary([report])):
        assert "[link=http://x]a[/link]" in text and not FORBIDDEN.search(text), ascii(text)
