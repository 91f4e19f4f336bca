"""The commands of the README run, in a minute's budget less."""

import re
import shlex
from pathlib import Path

import pytest

from fromnoise.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text()
LEAST = "--threads 1 --intervals 2 --validation-examples 32"
SMALL_NETWORK = "--width 64 --depth 2 --gaussians 2 --components 16"
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.S)


@pytest.mark.slow
def test_shell_blocks(capsys):
    commands = [
        line for _, block in BLOCKS for line in block.splitlines() if line.startswith("fromnoise ")
    ]
    assert len(commands) >= 3
    for line in commands:
        words = shlex.split(shortened(line), comments=True)
        assert main(words[1:]) == 0, (line, capsys.readouterr().err)


def shortened(command: str) -> str:
    """The command on bundled data, with the least of what takes time."""
    command = command.replace("--data mnist", "--data digits")
    command = re.sub(r"--minutes [\d.]+", f"--steps 8 {LEAST}", command)
    if "--data shapes" in command:
        command = command.replace("--data shapes", f"--data shapes {SMALL_NETWORK}")
    if command.startswith("fromnoise compare"):
        command += " --samples 20"
    return command


@pytest.mark.slow
def test_python_blocks():
    blocks = [block for kind, block in BLOCKS if kind == "python"]
    assert blocks
    for block in blocks:
        exec(block.replace("minutes=0.2", "steps=8, threads=1"), {})


@pytest.mark.parametrize("line", [line for line in re.findall(r"`(fromnoise [^`]*)`", README)])
def test_commands_in_the_text_name_verbs_and_options_that_exist(line, capsys):
    words = shlex.split(line)[1:]
    verb = [word for word in words if not word.startswith("-")][
        : 2 if words[0] in ("data", "train") else 1
    ]
    if verb[-1].endswith(".py"):
        verb = ["train", "vae"] if verb[0] == "train" else verb
    assert main([*verb, "--help"]) == 0
    text = capsys.readouterr().out
    for option in (word for word in words if word.startswith("--")):
        assert option in text, option


def test_pictures_are_there():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (Path(__file__).parents[2] / path).is_file(), path
    for path in re.findall(r"\]\(((?!http)[\w/.-]+)\)", README):
        assert (Path(__file__).parents[2] / path).exists(), path
