"""A class is given by its name or number, and never another one is drawn instead."""

import random
from pathlib import Path

import pytest

import fromnoise as fn
from fromnoise.cli import main
from fromnoise.core.errors import UsageError
from fromnoise.core.spec import class_number

STEPS = dict(
    hidden=(8,),
    latent_dim=2,
    steps=2,
    batch_size=16,
    intervals=1,
    validation_examples=20,
    threads=1,
)


@pytest.fixture
def graded():
    numbers = random.Random(1)
    rows = [f"{numbers.gauss(0, 1):.2f},{numbers.gauss(0, 1):.2f},{1 + i % 3}" for i in range(90)]
    Path("t.csv").write_text("\n".join(["a,b,grade", *rows]) + "\n")
    return fn.train("vae", "t.csv", label="grade", conditional=True, out="r", **STEPS)


@pytest.mark.parametrize("label", ["0", "01", "1.0", "+1", "٢", "4", " 1", "-1", ""])
def test_where_names_are_numbers_only_names_count(label, graded, capsys):
    assert main(["sample", "r", "-n", "2", "--label", label, "-o", "x.csv"]) == 2
    assert "Known: 1, 2, 3" in capsys.readouterr().err and not Path("x.csv").exists()
    with pytest.raises(UsageError, match="Known: 1, 2, 3"):
        graded.sample(2, label=label)


def test_a_name_that_is_a_number_gives_its_own_class_in_every_interface(graded):
    assert main(["sample", "r", "-n", "2", "--label", "3", "-o", "x.csv"]) == 0
    assert [line.split(",")[-1] for line in Path("x.csv").read_text().split()[1:]] == ["3", "3"]
    assert (
        set(graded.sample(2, label=1)["grade"])
        == set(graded.sample(2, label="1")["grade"])
        == {"1"}
    )
    for label in (0, "0"):
        with pytest.raises(UsageError, match="no class '0'"):
            graded.sample(2, label=label)
        with pytest.raises(UsageError, match="no class '0'"):
            graded.show("curves", label=label)
    names = graded.decode(
        graded.encode(graded.dataset.split("test").x[:2], ["3", "1"]), ["3", "1"]
    )["grade"]
    assert list(names) == ["3", "1"]


@pytest.mark.parametrize(
    "names,label,expected",
    [
        (["cat", "dog"], "dog", 1),
        (["cat", "dog"], "1", 1),
        (["cat", "dog"], 1, 1),
        (["2", "0", "1"], "0", 1),
        (["2", "0", "1"], 2, 0),
        (["0.5", "1.5"], "1.5", 1),
        (["0", "1"], "1", 1),
        (["nan", "x"], "1", 1),
    ],
)
def test_a_name_comes_before_a_number(names, label, expected):
    assert class_number(label, names) == expected


@pytest.mark.parametrize(
    "names,label",
    [
        (["cat", "dog"], "01"),
        (["cat", "dog"], "١"),
        (["cat", "dog"], "2"),
        (["0.5", "1.5"], "1"),
        (["1,5", "2,5"], "0"),
        (["unknown", "1", "2"], "0"),
        (["-1", "1"], "0"),
        (["1e3", "2e3"], 1),
    ],
)
def test_what_is_neither_a_name_nor_a_plain_number_is_refused_with_the_known_names(names, label):
    with pytest.raises(UsageError, match="Known: "):
        class_number(label, names)
