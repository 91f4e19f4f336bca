"""How a table is read: what counts as missing, what is lost with it, which line holds the names, which character separates cells."""

import numpy as np
import pytest

from fromnoise.cli import main
from fromnoise.core.errors import DataError, UsageError
from fromnoise.data import DataConfig, load
from fromnoise.inference.write import neutral_cells


@pytest.fixture
def write(tmp_path):
    def write(text, name="t.csv", encoding="utf-8"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        return tmp_path / name

    return write


def opened(path, **options):
    return load(str(path), DataConfig(**options))


def names(dataset):
    return [column.name for column in dataset.columns.columns]


def size(dataset):
    return sum(map(len, dataset.splits.values()))


def note(dataset, *words):
    fitting = [note for note in dataset.notes if all(word in note for word in words)]
    assert len(fitting) == 1 and "\n" not in fitting[0], dataset.notes
    return fitting[0]


def refused(path, *words, kind=DataError, **options):
    with pytest.raises(kind) as error:
        opened(path, **options)
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words), (
        error.value
    )
    return str(error.value)


def numbered(n, line):
    """n lines, each made from its number."""
    return "".join(line(i) + "\n" for i in range(n))


# -- what is lost with rows that have gaps ---------------------------------------------------------------------


def test_classes_and_categories_lost_with_missing_cells_are_said_before_training(write, capsys):
    def line(i):
        if i in (7, 9):
            return ",Oslo,rare"
        return f"{'' if i == 20 else i * 0.37:},{'Bergen' if i == 20 else 'Rome'},{'ab'[i % 2]}"

    path = write("x,city,cls\n" + numbered(60, line))
    dataset = opened(path, missing="drop", label="cls")
    assert dataset.class_names == ("a", "b") and size(dataset) == 57
    note(dataset, "class lost", "'rare' (2 rows)")
    note(dataset, "categories of column 'city' lost", "'Oslo' (2 rows)", "'Bergen' (1 row)")
    assert (
        main(
            [
                "train",
                "vae",
                "--data",
                str(path),
                "--missing",
                "drop",
                "--label",
                "cls",
                "--conditional",
                "--steps",
                "1",
            ]
        )
        == 0
    )
    out = capsys.readouterr().out
    assert out.index("class lost") < out.index("parameters")


def test_numbers_that_are_categories_are_not_lost_in_silence(write):
    path = write(
        "x,grade\n" + numbered(40, lambda i: f"{'' if i == 3 else i},{7 if i == 3 else i % 3}")
    )
    note(
        opened(path, missing="drop", categorical=("grade",)),
        "category of column 'grade' lost",
        "'7' (1 row)",
    )
    note(opened(path, missing="drop", label="grade"), "class lost", "'7' (1 row)")
    assert not any(
        "lost" in line for line in opened(path, missing="drop").notes
    )  # as numbers there is no category


def test_nothing_is_called_lost_that_other_rows_have(write):
    path = write("x,cls\n" + numbered(40, lambda i: f"{'' if i == 3 else i * 0.7},{'ab'[i % 2]}"))
    assert opened(path, missing="drop", label="cls").notes == (
        "1 of 40 rows left out: a cell is missing",
    )


def test_more_lost_categories_than_fit_are_counted(write):
    path = write(
        "x,c\n"
        + numbered(60, lambda i: f"{'' if i < 8 else i},{f'only{i}' if i < 8 else 'ab'[i % 2]}")
    )
    note(opened(path, missing="drop"), "categories of column 'c' lost", "and 3 more")


def test_categories_of_parquet_are_not_lost_in_silence(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    n = 40
    table = {
        "x": [None if i == 5 else i * 0.3 for i in range(n)],
        "grade": [9 if i == 5 else i % 3 for i in range(n)],
    }
    parquet.write_table(pyarrow.table(table), tmp_path / "t.parquet")
    note(
        opened(tmp_path / "t.parquet", missing="drop", categorical=("grade",)),
        "column 'grade' lost",
        "'9' (1 row)",
    )


# -- text that counts as missing -------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["NA", "null", "NaN", "na"])
def test_text_that_counts_as_missing_is_named_and_can_be_kept(write, word):
    path = write("x,country\n" + numbered(40, lambda i: f"{i * 0.7},{(word, 'DE', 'FR')[i % 3]}"))
    refused(
        path,
        "line 2, column 'country'",
        f"'{word}' counts as missing",
        "--categorical",
        "--missing drop",
    )
    dropped = opened(path, missing="drop")
    assert size(dropped) == 26
    note(dropped, f"as missing counts '{word}' in column 'country'", "--categorical")
    kept = opened(path, categorical=("country",))
    assert size(kept) == 40 and set(kept.columns.columns[1].values) == {word, "DE", "FR"}
    note(kept, f"'{word}' in 14 rows is a category", "only empty cells count as missing")
    labelled = opened(path, label="country")
    assert size(labelled) == 40 and set(labelled.class_names) == {word, "DE", "FR"}
    note(labelled, f"'{word}' in 14 rows is a class", "--label names the column")


def test_kept_text_comes_back_in_samples(write, capsys):
    path = write("x,country\n" + numbered(60, lambda i: f"{i % 7},{('NA', 'DE')[i % 2]}"))
    for options in (["--categorical", "country"], ["--label", "country"]):
        assert (
            main(["train", "classical", "--data", str(path), *options, "--out", f"r{options[0]}"])
            == 0
        )
        assert "only empty cells count as missing" in capsys.readouterr().out
        assert main(["sample", f"r{options[0]}", "-n", "60", "-o", "s.csv"]) == 0
        rows = [line.strip().split(",") for line in open("s.csv")]
        assert {row[1] for row in rows[1:]} == {"NA", "DE"}


def test_empty_cells_are_missing_in_named_columns_too(write):
    path = write("x,country\n" + numbered(40, lambda i: f"{i},{('NA', 'DE', '')[i % 3]}"))
    for options in ({"categorical": ("country",)}, {"label": "country"}):
        text = refused(path, "13 missing cells in 13 of 40 rows", "line 4", **options)
        assert "counts as missing" not in text and "To keep" not in text
        assert size(opened(path, missing="drop", **options)) == 27


def test_a_column_of_nothing_but_such_text_says_so(write):
    path = write("x,flag\n" + numbered(40, lambda i: f"{i},{('NA', '')[i % 2]}"))
    refused(path, "'flag'", "'NA' counts as missing", "--drop 'flag'", "--categorical 'flag'")


def test_one_missing_cell_is_singular(write):
    refused(
        write("x,y\n" + numbered(40, lambda i: f"{i},{'' if i == 4 else i % 3}")),
        "1 missing cell in 1 of 40 rows",
    )


# -- the first line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        lambda i: f"{5 + i / 10},{i % 7},{('virginica', 'setosa')[i % 2]}",
        lambda i: f"{('virginica', 'setosa')[i % 2]},{i}",
        lambda i: f"2021-0{1 + i % 9}-11,{i * 0.3}",
        lambda i: f"{('yes', 'no')[i % 2]},{('red', 'blue', 'green')[i % 3]}",
        lambda i: f"{i % 5}.50 EUR,{i}",
    ],
)
def test_a_first_line_like_the_rows_below_it_is_a_row(write, line):
    dataset = opened(write(numbered(40, line)))
    assert size(dataset) == 40 and names(dataset)[0] == "c0"
    note(dataset, "no header", "c0 to c")


@pytest.mark.parametrize(
    "header, numbers",
    [
        ("country,2019,2020", "'2019', '2020' in it are numbers"),
        ("2019,total,n", "'2019' in it is a number"),
        ("Alice,5.1,3", "'5.1', '3' in it are"),
    ],
)
def test_a_first_line_with_some_numbers_that_is_taken_for_names_is_said(write, header, numbers):
    first = header.startswith("2019")
    rows = numbered(40, lambda i: f"{i if first else ('DE', 'FR')[i % 2]},{i * 0.3},{i % 5}")
    dataset = opened(write(f"{header}\n{rows}"))
    assert size(dataset) == 40 and names(dataset) == header.split(",")
    note(dataset, "taken for the names", numbers, "put a line of names above it")


@pytest.mark.parametrize("header", ["x,cls", "when,price", "FY20,EUR 5", ",x"])
def test_ordinary_names_are_names_and_nothing_is_said(write, header):
    dataset = opened(
        write(f"{header}\n" + numbered(40, lambda i: f"{i * 0.37 % 5:.2f},{('a', 'b')[i % 2]}"))
    )
    assert size(dataset) == 40 and not any("first line" in line for line in dataset.notes)


# -- separators ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator, called", [(";", "semicolon"), ("\t", "tab")])
@pytest.mark.parametrize(
    "cells",
    [
        lambda i: (f"{i % 10},5", f"{i % 7},25"),
        lambda i: (f"-{i % 10},5", str(i % 7), f"{i % 3},0"),
        lambda i: (f"Doe, {'JK'[i % 2]}.", f"{i % 4},5", f"1.{i % 3}00,5"),
        lambda i: (f'"{i % 10},5"', f'"{i % 7},25"'),
    ],
)
def test_decimal_commas_do_not_separate_cells(write, separator, called, cells):
    dataset = opened(write(numbered(60, lambda i: separator.join(cells(i)))))
    assert len(names(dataset)) == len(cells(0)) and size(dataset) == 60
    if '"' not in cells(0)[0]:
        note(dataset, f"separated by a {called}", "not by a comma", "decimal comma")


def test_a_choice_between_two_even_separators_is_said(write):
    dataset = opened(write(numbered(60, lambda i: f"{i * 0.1:.1f},{'ab'[i % 2]};{'cd'[i % 2]}")))
    assert len(names(dataset)) == 2
    note(dataset, "separated by a comma (2 columns)", "a semicolon (2 columns)")


def test_a_plain_choice_of_a_separator_is_not_said(write):
    for text in (
        "x,y\n" + numbered(40, lambda i: f"{i * 0.7},{i % 3};{i % 4}"),
        "x;y\n" + numbered(40, lambda i: f"{i % 9},5;{i % 3}"),
        "x\n" + numbered(40, lambda i: f"{i * 0.7}"),
        "a,b,c\n" + numbered(40, lambda i: f"{i % 9},{i % 4},{i % 3}"),
    ):
        assert not any("separated" in line for line in opened(write(text)).notes)


def test_a_quoted_cell_that_is_cut_where_the_first_lines_end_changes_no_separator(write):
    long = '"two' + "\n" * 7 + 'lines";1\n'
    assert names(
        opened(write("x,q;y\n" + numbered(996, lambda i: f"a;{i * 0.7:.1f}") + long * 2))
    ) == ["x,q", "y"]


@pytest.mark.parametrize(
    "line, separator",
    [
        ("sep=;", ";"),
        ("SEP=|", "|"),
        ('"sep=,"', ","),
        ("sep=\t", "\t"),
        ("sep=\\t", "\t"),
        ("sep= ", " "),
    ],
)
@pytest.mark.parametrize(
    "encoding, end", [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-16", "\r\n")]
)
def test_a_first_line_that_names_the_separator_is_followed(write, line, separator, encoding, end):
    rows = [separator.join((f"{i * 0.7:.1f}", str(i % 3))) for i in range(40)]
    dataset = opened(write(end.join([line, f"x{separator}y", *rows, ""]), encoding=encoding))
    assert names(dataset) == ["x", "y"] and size(dataset) == 40
    rows[5] = separator.join(("oops", "1"))
    refused(
        write(end.join([line, f"x{separator}y", *rows, ""]), encoding=encoding), "line 8", "'oops'"
    )


@pytest.mark.parametrize("line", ["sep=", "sep=;;", 'sep="'])
def test_a_first_line_that_names_no_separator_says_how_to_mend_it(write, line):
    refused(
        write(f"{line}\nx;y\n" + numbered(40, lambda i: f"{i};{i % 3}")),
        "first line",
        "sep=;",
        "remove it",
    )


def test_a_column_whose_name_begins_with_sep_is_a_column(write):
    assert names(opened(write("sepal,y\n" + numbered(40, lambda i: f"{i * 0.7},{i % 3}")))) == [
        "sepal",
        "y",
    ]


# -- a label alone ---------------------------------------------------------------------------------------------


def test_a_table_that_is_its_label_gets_advice_that_helps(write):
    path = write("c\n" + numbered(40, lambda i: "uv"[i % 2]))
    text = refused(
        path, "the label 'c' is the only column", "leave --label out", kind=UsageError, label="c"
    )
    assert "drop" not in text
    assert opened(path).spec.shape == (2,)
    both = write("c,d\n" + numbered(40, lambda i: f"{i},{'uv'[i % 2]}"))
    refused(both, "no column is left", "drop fewer", kind=UsageError, label="d", drop=("c",))
    refused(both, "no column is left", "drop fewer", kind=UsageError, drop=("c", "d"))


# -- formulas --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header, cells, words",
    [
        ("=a", ["b"], "1 column name begins like a formula: an apostrophe was put before it"),
        ("a", ["=b"], "1 cell begins like a formula: an apostrophe was put before it"),
        ("a", ["=b", "@c"], "2 cells begin like a formula: an apostrophe was put before them"),
        (
            "=a",
            ["=b"],
            "1 cell and 1 column name begin like a formula: an apostrophe was put before them",
        ),
    ],
)
def test_formulas_are_counted_in_plain_english(header, cells, words):
    heard = []
    neutral_cells([header, "n"], [cells, np.zeros(len(cells))], heard.append)
    assert len(heard) == 1 and heard[0].startswith(words)
