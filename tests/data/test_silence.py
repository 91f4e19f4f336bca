"""Nothing is changed in silence: each change of what a user gave works, or is said in one line before training, or is refused."""

import csv
import json
import re

import numpy as np
import pytest

import fromnoise as fn
from fromnoise.cli import main
from fromnoise.core.errors import DataError
from fromnoise.data import DataConfig, load
from fromnoise.data.codecs.columns import Columns
from fromnoise.data.tables.cell_forms import calendar_form, text_form

RNG = np.random.default_rng(3)


def table(tmp_path, name="t.csv", encoding="utf-8", n=60, separator=",", **columns):
    """A CSV file with a column ``x`` of noise and the given ones, whose values are repeated."""
    rows = [["x", *columns]]
    for i in range(n):
        rows.append(
            [f"{RNG.normal():.3f}", *(str(values[i % len(values)]) for values in columns.values())]
        )
    (tmp_path / name).write_bytes(
        "".join(separator.join(row) + "\n" for row in rows).encode(encoding)
    )
    return tmp_path / name


def note_about(path, *words, **options):
    """The one note on the data that holds all of these words."""
    notes = load(str(path), DataConfig(**options)).notes
    fitting = [note for note in notes if all(word in note for word in words)]
    assert len(fitting) == 1 and "\n" not in fitting[0], notes
    return fitting[0]


def refused(path, *words, **options):
    with pytest.raises(DataError) as error:
        load(str(path), DataConfig(**options))
    assert "\n" not in str(error.value) and all(word in str(error.value) for word in words), (
        error.value
    )


def test_the_notes_reach_the_terminal_once_before_training_and_the_api_as_warnings(
    tmp_path, capsys
):
    path = table(tmp_path, zip=["007", "012", "100", "07"])
    assert main(["train", "vae", "--data", str(path), "--steps", "2"]) == 0
    out = capsys.readouterr().out
    assert out.count("holds codes") == 1
    assert out.index("holds codes") < out.index("parameters")
    assert main(["data", "info", str(path)]) == 0
    assert capsys.readouterr().out.count("holds codes") == 1
    with pytest.warns(UserWarning, match="holds codes") as warned:
        fn.train("vae", str(path), steps=2)
    assert sum("holds codes" in str(w.message) for w in warned) == 1


# -- codes, ids ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values",
    [
        ["007", "012", "100", "07"],
        ["-07", "12", "+007"],
        ["+4930123456", "+33123456789"],
        ["00", "15", "30", "45"],
        ["00.5", "01.5"],
    ],
)
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_codes_with_leading_zeros_are_categories_and_come_back_as_they_were(
    tmp_path, values, ending
):
    path = table(tmp_path, f"t.{ending}", separator="," if ending == "csv" else "\t", code=values)
    note_about(path, "'code'", "holds codes", "written back as it is")
    dataset = load(str(path))
    assert set(dataset.columns.decode(dataset.split("train").x)["code"]) == set(values)


def test_many_codes_are_refused_with_what_mends_it(tmp_path):
    path = table(tmp_path, n=200, zip=[f"{i:05}" for i in range(900, 1100)])
    refused(path, "'zip'", "codes", "'00900'", "line 2", "--drop 'zip'", "--categorical 'zip'")
    assert "zip" in {
        c.name for c in load(str(path), DataConfig(categorical=("zip",))).columns.columns
    }


def test_numbers_that_begin_with_a_zero_and_a_point_stay_numbers(tmp_path):
    dataset = load(str(table(tmp_path, share=["0.5", "0", "-0.25", "10", "0e3"])))
    assert not dataset.notes and not dataset.columns.columns[1].values


def ids(base, n=80):
    return [base + int(d) for d in np.random.default_rng(0).integers(0, 10**6, n)]


def as_file(tmp_path, values, form):
    """The whole numbers, and noise, as a file of that form."""
    if form == "csv":
        return table(tmp_path, n=len(values), id=values)
    kind = np.uint64 if max(values) >= 2**63 else np.int64
    if form == "npy":
        np.save(
            tmp_path / "t.npy",
            np.column_stack(
                [np.arange(len(values)).astype(kind) % kind(7), np.array(values, kind)]
            ),
        )
        return tmp_path / "t.npy"
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(
        pyarrow.table(
            {"x": RNG.normal(size=len(values)), "id": pyarrow.array(np.array(values, kind))}
        ),
        tmp_path / "t.parquet",
    )
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("form", ["csv", "parquet", "npy"])
@pytest.mark.parametrize("base", [2**60, 2**63 + 5, -(2**62), 2**53 - 500_000])
def test_ids_beyond_what_float64_holds_are_exact(tmp_path, form, base):
    values = ids(base)
    dataset = load(str(as_file(tmp_path, values, form)))
    name = dataset.columns.columns[1].name
    back = [v for split in dataset.splits.values() for v in dataset.columns.decode(split.x)[name]]
    assert sorted(back) == pytest.approx(sorted(values), abs=1) and all(
        isinstance(v, int) for v in back
    )
    assert len(set(back)) > 70 and set(back) <= set(range(min(values), max(values) + 1))
    assert any("beyond 2^53" in note for note in dataset.notes)
    assert Columns.from_json(json.loads(json.dumps(dataset.columns.to_json()))) == dataset.columns
    assert dataset.columns.encode(
        {
            c.name: dataset.columns.decode(dataset.split("test").x)[c.name]
            for c in dataset.columns.columns
        }
    ) == pytest.approx(dataset.split("test").x, abs=1e-4)


def test_sampled_ids_are_written_exactly_and_not_all_equal(tmp_path, capsys):
    path = table(tmp_path, n=80, id=ids(2**60))
    assert main(["train", "classical", "--data", str(path), "--out", "r"]) == 0
    assert main(["sample", "r", "-n", "50", "-o", "s.csv"]) == 0
    with open("s.csv") as file:
        drawn = [int(row["id"]) for row in csv.DictReader(file)]
    assert len(set(drawn)) > 40 and all(2**60 <= v < 2**60 + 10**6 for v in drawn)
    assert (
        main(["sample", "r", "-n", "5", "-o", "s.npy"]) == 2 and "2^53" in capsys.readouterr().err
    )


@pytest.mark.parametrize("form", ["csv", "parquet", "npy"])
def test_ids_too_far_apart_for_float64_are_refused(tmp_path, form):
    far = [2**60 + i * 2**50 for i in range(40)]
    refused(as_file(tmp_path, far, form), "float64 cannot tell apart", "--drop")


def test_decimals_that_differ_beyond_the_digits_of_float64_are_refused(tmp_path):
    refused(
        table(tmp_path, t=[f"1700000000.12345678{i:04}" for i in range(60)]),
        "'t'",
        "about 16",
        "--drop",
    )


def test_only_what_is_exactly_equal_is_constant(tmp_path):
    np.save(
        tmp_path / "t.npy",
        np.column_stack([np.arange(20.0), 2.0**52 + np.arange(20), np.full(20, 0.1)]),
    )
    dataset = load(str(tmp_path / "t.npy"))
    stds = [column.std for column in dataset.columns.columns]
    assert stds[1] == pytest.approx(stds[0], rel=0.01) and stds[2] == 1
    assert sorted(
        v for s in dataset.splits.values() for v in dataset.columns.decode(s.x)["c1"]
    ) == [2**52 + i for i in range(20)]
    assert set(dataset.columns.decode(dataset.split("train").x)["c2"]) == {0.1}


# -- dates, amounts, booleans ----------------------------------------------------------------------------------


DAYS = [np.datetime64("2019-12-25") + 3 * i for i in range(60)]


@pytest.mark.parametrize(
    "values, form",
    [
        ([str(d).replace("-", "") for d in DAYS], "YYYYMMDD"),
        ([str(d)[:7].replace("-", "") for d in DAYS], "YYYYMM"),
        ([str(d).replace("-", "") + "1345" for d in DAYS], "YYYYMMDDHHMM"),
        ([str(d).replace("-", "") + "134501" for d in DAYS], "YYYYMMDDHHMMSS"),
        ([str(d).replace("-", "")[2:] for d in DAYS], "YYMMDD"),
        ([f"{1 + i % 23}{i * 7 % 60:02}" for i in range(60)], "HHMM"),
        ([f"2020.{1 + i % 12:02}" for i in range(24)], "year.month"),
    ],
)
def test_dates_written_as_numbers_are_said(tmp_path, values, form):
    note_about(table(tmp_path, when=values), "'when'", form, "--drop 'when'")


def test_numbers_that_are_no_dates_are_not_called_so():
    numbers = np.random.default_rng(0)
    for values in (
        numbers.integers(0, 10**8, 200),
        numbers.integers(18, 60, 200),
        numbers.integers(0, 48, 100) * 50,
        numbers.integers(1900, 2025, 100),
        numbers.normal(size=100),
        numbers.integers(10**9, 2 * 10**9, 100),
        np.array([0, 1]),
        np.arange(100, 800),
        np.arange(10**6) % 10**5,
    ):
        assert not calendar_form(np.asarray(values, np.float64)), values


@pytest.mark.parametrize(
    "write",
    [
        str,
        lambda d: f"{d}T10:00:00Z",
        lambda d: d.item().strftime("%d/%m/%Y"),
        lambda d: d.item().strftime("%b %d, %Y"),
        lambda d: d.item().strftime("%d.%m.%y %H:%M"),
    ],
)
def test_dates_as_text_are_named_as_dates(tmp_path, write):
    few, many = (
        [write(d) for d in DAYS[:12]],
        [write(np.datetime64("2000-01-01") + i) for i in range(300)],
    )
    quoted = [[f'"{value}"' for value in values] for values in (few, many)]
    note_about(table(tmp_path, "few.csv", day=quoted[0]), "dates", "category")
    refused(
        table(tmp_path, "many.csv", n=300, day=quoted[1]),
        "'day'",
        "dates",
        "days since",
        "--drop 'day'",
    )


def test_times_of_parquet_are_named_as_dates(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for unit in ("us", "ns"):
        for n, words in ((12, None), (300, "dates")):
            when = (
                np.datetime64("2020-01-01T00:00:00", unit)
                + np.arange(300) % n * np.timedelta64(3600, "s")
                + np.timedelta64(1, unit)
            )
            parquet.write_table(
                pyarrow.table({"x": np.arange(300) % 17, "when": pyarrow.array(when)}),
                tmp_path / "t.parquet",
            )
            if words:
                refused(tmp_path / "t.parquet", "'when'", words, "--drop")
            else:
                note_about(tmp_path / "t.parquet", "'when'", "dates", "category")


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda i: f"{i}.5%", "percentages"),
        (lambda i: f'"${i},234.50"', "money"),
        (lambda i: f"{i} EUR", "money"),
        (lambda i: f'"{i},5"', "decimal point"),
        (lambda i: f'"{i},234"', "separators"),
        (lambda i: f"{i} kg", "unit"),
    ],
)
def test_amounts_that_are_no_plain_numbers_say_what_to_do(tmp_path, make, words):
    note_about(table(tmp_path, "few.csv", a=[make(i) for i in range(1, 9)]), "'a'", words, "write")
    refused(
        table(tmp_path, "many.csv", n=300, a=[make(i) for i in range(1, 301)]),
        "'a'",
        words,
        "write",
        "--drop 'a'",
    )


def test_plain_words_have_no_form():
    assert not any(
        map(
            text_form,
            (
                ["red", "blue"],
                ["A1", "B2"],
                ["True", "False"],
                ["3D", "2D x"],
                ["v1.2.3", "v1.2.4"],
            ),
        )
    )


def test_booleans_come_back_as_they_were_written(tmp_path):
    dataset = load(str(table(tmp_path, a=["True", "False"], b=["yes", "no"])))
    back = dataset.columns.decode(dataset.split("train").x)
    assert (
        set(back["a"]) == {"True", "False"}
        and set(back["b"]) == {"yes", "no"}
        and not dataset.notes
    )


def test_numbers_among_texts_and_columns_without_a_name_are_said(tmp_path):
    note_about(
        table(tmp_path, dose=["1", "2", "high", "low"]), "'dose'", "numbers in 30 of 60 rows"
    )
    path = tmp_path / "index.csv"
    path.write_text(",x\n" + "".join(f"{i},{i % 7}\n" for i in range(40)))
    note_about(path, "column 1 has no name", "--drop c0")
    note_about(path, "'c0'", "counts the rows")


def test_texts_that_are_the_same_number_are_said(tmp_path):
    note_about(
        table(tmp_path, version=["1.1", "1.9", "1.10"]),
        "'1.1' and '1.10'",
        "--categorical 'version'",
    )
    assert set(
        load(str(tmp_path / "t.csv"), DataConfig(categorical=("version",)))
        .columns.columns[1]
        .values
    ) == {"1.1", "1.9", "1.10"}
    assert not load(str(table(tmp_path, price=["1.50", "2.00", "10", "10.25"]))).notes


# -- encodings -------------------------------------------------------------------------------------------------


CITIES = ["Köln €5", "“Quote”", "naïve…", "Łódź"[1:]]


@pytest.mark.parametrize(
    "encoding, words",
    [
        ("cp1252", "cp1252"),
        ("latin-1", "Latin-1"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
    ],
)
def test_tables_in_other_encodings_are_read_and_samples_are_readable(
    tmp_path, capsys, encoding, words
):
    cities = ["Köln 5", "naïve"] if encoding == "latin-1" else ["Köln €5", "“Quote”", "naïve…"]
    path = table(tmp_path, encoding=encoding, city=cities)
    note_about(path, words, "not UTF-8")
    assert set(load(str(path)).columns.columns[1].values) == set(cities)
    assert main(["train", "classical", "--data", str(path), "--out", "r"]) == 0
    assert main(["sample", "r", "-o", "s.csv"]) == 0
    with open("s.csv", encoding="utf-8") as file:
        assert {row["city"] for row in csv.DictReader(file)} <= set(cities)


# -- the label -------------------------------------------------------------------------------------------------


FAMILIES = {
    "autoencoder": [],
    "vae": [],
    "gan": [],
    "vaegan": [],
    "diffusion": [],
    "classical": [],
}
CONDITIONAL = ("vae", "gan", "vaegan", "diffusion")


@pytest.fixture
def churn(tmp_path):
    """A table whose label stands between other columns and decides over them."""
    lines = ["city,churn,income"]
    for i in range(80):
        yes = i % 4 == 0
        lines.append(
            f"{'Rome' if yes else 'Oslo'},{'yes' if yes else 'no'},{(50 if yes else 10) + RNG.normal():.2f}"
        )
    (tmp_path / "churn.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "churn.csv"


def samples_of(run, *options):
    assert main(["sample", run, "-n", "40", "-o", "s.csv", *options]) == 0
    with open("s.csv") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["city", "churn", "income"] and {row["churn"] for row in rows} <= {
        "yes",
        "no",
    }
    return rows


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_of_every_family_hold_the_label_column(churn, capsys, family):
    assert (
        main(
            [
                "train",
                family,
                "--data",
                str(churn),
                "--label",
                "churn",
                "--steps",
                "3",
                "--out",
                "r",
            ]
        )
        == 0
    )
    assert (
        capsys.readouterr().out.count("the label column 'churn' is learned as one more column") == 1
    )
    samples_of("r")
    assert main(["sample", "r", "--label", "yes"]) == 2
    assert "r is not conditional" in capsys.readouterr().err
    assert list(fn.open("r").sample(3)) == ["city", "churn", "income"]
    if family in CONDITIONAL:
        assert (
            main(
                [
                    "train",
                    family,
                    "--data",
                    str(churn),
                    "--label",
                    "churn",
                    "--conditional",
                    "--steps",
                    "3",
                    "--out",
                    "c",
                ]
            )
            == 0
        )
        assert "learned as one more" not in capsys.readouterr().out
        assert [row["churn"] for row in samples_of("c")] == ["no", "yes"] * 20
        assert {row["churn"] for row in samples_of("c", "--label", "yes")} == {"yes"}
        assert set(fn.open("c").sample(3, label="yes")["churn"]) == {"yes"}


def test_a_label_that_is_learned_belongs_to_its_row(churn):
    fn.train("classical", str(churn), preset="mixture", label="churn", out="r")
    rows = samples_of("r")
    assert 2 <= sum(row["churn"] == "yes" for row in rows) <= 25
    assert np.mean([(row["churn"] == "yes") == (float(row["income"]) > 30) for row in rows]) > 0.9


def test_a_run_with_a_learned_label_resumes_and_is_evaluated(churn, capsys):
    run = fn.train("vae", str(churn), label="churn", steps=3, out="r")
    assert (
        run.run.info["data"]["settings"]["learn_label"]
        and main(["resume", "r", "--steps", "2"]) == 0
    )
    assert main(["eval", "r", "--quick"]) == 0
    capsys.readouterr()


def test_labels_that_come_apart_from_a_table_are_a_column_too(tmp_path, capsys):
    np.savez(tmp_path / "t.npz", x=RNG.normal(size=(40, 2)), y=np.arange(40) % 2)
    for options in ([], ["--conditional"]):
        out = f"r{len(options)}"
        assert (
            main(["train", "vae", "--data", "t.npz", "--steps", "2", "--out", out, *options]) == 0
        )
        assert (
            main(["sample", out, "-o", "s.csv"]) == 0
            and main(["sample", out, "-o", f"{out}.npy"]) == 0
        )
        with open("s.csv") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["c0", "c1", "y"] and {row["y"] for row in rows} <= {"0", "1"}
        assert np.load(f"{out}.npy").shape == (64, 2)


def test_points_with_classes_keep_them_in_csv(capsys):
    assert (
        main(["train", "vae", "--data", "ring8", "--conditional", "--steps", "2", "--out", "r"])
        == 0
    )
    assert main(["sample", "r", "-n", "8", "-o", "s.csv"]) == 0
    assert open("s.csv").readline().strip() == "x0,x1,label"


def test_a_label_is_left_out_only_where_that_is_asked_for_and_said(churn, capsys):
    assert (
        main(
            [
                "train",
                "vae",
                "--data",
                str(churn),
                "--label",
                "churn",
                "--no-learn-label",
                "--steps",
                "2",
                "--out",
                "r",
            ]
        )
        == 0
    )
    assert "will not be in samples" in capsys.readouterr().out
    assert main(["sample", "r", "-o", "s.csv"]) == 0
    assert "did not learn it" in capsys.readouterr().err
    assert (
        main(
            [
                "train",
                "vae",
                "--data",
                str(churn),
                "--label",
                "churn",
                "--learn-label",
                "--conditional",
                "--steps",
                "2",
            ]
        )
        == 2
    )
    assert "is told the label" in capsys.readouterr().err


# -- splits ----------------------------------------------------------------------------------------------------


def test_every_class_has_a_training_example_and_other_splits_stay_as_they_were(tmp_path):
    for seed in range(20):
        rare = int(np.random.default_rng(seed).integers(100))
        labels = ["common" if i != rare else "rare" for i in range(100)]
        path = table(tmp_path, n=100, kind=labels)
        dataset = load(str(path), DataConfig(label="kind"))
        assert dataset.class_names[1] == "rare" and dataset.split("train").y.sum() == 1
        assert [len(dataset.split(part)) for part in ("train", "validation", "test")] == [
            80,
            10,
            10,
        ]
        assert any(
            "no validation or test example measures them" in note and "'rare' (1)" in note
            for note in dataset.notes
        )
    without = load(str(path), DataConfig(drop=("kind",))).split("test").x
    assert (
        np.isin(
            without[:, 0], load(str(path), DataConfig(label="kind")).split("test").x[:, 0]
        ).mean()
        >= 0.9
    )


def test_classes_that_cannot_all_be_learned_are_named(tmp_path):
    path = table(tmp_path, n=20, kind=[f"k{i:02}" for i in range(20)])
    note_about(path, "without a training example", "'k", label="kind")
    assert re.search(r"'k\d\d' \(1\)", " ".join(load(str(path), DataConfig(label="kind")).notes))
