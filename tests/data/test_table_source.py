"""Tables: to vectors and back, and every cell that does not fit named with its line and its mend."""

import builtins
import json

import numpy as np
import pytest

from fromnoise.core.errors import DataError, UsageError
from fromnoise.data import DataConfig, load
from fromnoise.data.codecs.columns import Columns

RNG = np.random.default_rng(0)


@pytest.fixture
def write(tmp_path):
    def write(text, name="my table.csv", encoding="utf-8"):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return tmp_path / name

    return write


def flowers(n=40, separator=","):
    """Text with a float, a whole, a constant and a category column, and a class."""
    rows = [["width", "count", "always", "colour", "kind"]]
    for i in range(n):
        rows.append(
            [
                repr(float(RNG.normal(5, 2))),
                str(i * 3 - 7),
                "2.5",
                ("red", "blue", "größe")[i % 3],
                "AB"[i % 2],
            ]
        )
    return "\n".join(separator.join(row) for row in rows) + "\n"


def refused(path, *words, kind=DataError, **options):
    with pytest.raises(kind) as error:
        load(str(path), DataConfig(**options))
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text


def rows_of(text, separator=","):
    header, *rows = [line.split(separator) for line in text.splitlines()]
    return header, rows


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_there_and_back(write, separator):
    text = flowers(separator=separator)
    dataset = load(str(write(text)), DataConfig(label="kind"))
    assert (
        dataset.spec.shape == (5,)
        and dataset.spec.blocks == (1, 1, 3)
        and dataset.class_names == ("A", "B")
    )
    header, given = rows_of(text, separator)
    back = []
    for split in dataset.splits.values():
        columns = dataset.columns.decode(split.x)
        assert list(columns) == header[:-1]
        back += [(*row, dataset.class_names[y]) for *row, y in zip(*columns.values(), split.y)]
    back.sort(key=lambda row: row[1])
    assert [row[1:] for row in back] == [(int(r[1]), 2.5, r[3], r[4]) for r in given]
    assert [row[0] for row in back] == pytest.approx([float(r[0]) for r in given], rel=1e-5)


def test_only_training_rows_are_standardised(write):
    dataset = load(str(write(flowers())))
    train = dataset.split("train").x
    assert (
        np.abs(train[:, :2].mean(0)).max() < 1e-6 and np.abs(train[:, :2].std(0) - 1).max() < 1e-5
    )
    assert np.isfinite(train).all()
    together = np.concatenate([split.x[:, :2] for split in dataset.splits.values()])
    assert np.abs(together.mean(0)).max() > 1e-4


def test_the_codec_survives_json_and_encodes_what_it_undid(write):
    dataset = load(str(write(flowers())))
    codec = Columns.from_json(json.loads(json.dumps(dataset.columns.to_json(), allow_nan=False)))
    assert codec == dataset.columns
    x = dataset.split("train").x
    assert codec.encode(codec.decode(x)) == pytest.approx(x, abs=1e-5)
    soft = x + RNG.uniform(-0.4, 0.4, x.shape) * (np.arange(x.shape[1]) >= 2)  # what a model makes
    assert codec.decode(soft) == codec.decode(x)
    assert np.isnan(codec.decode(np.full((1, codec.dims), np.nan))["count"][0])  # shown, not hidden
    with pytest.raises(
        DataError, match="column 'colour': 'redd' is no known category. Did you mean 'red'?"
    ):
        codec.encode(codec.decode(x) | {"colour": ["redd"] * len(x)})
    with pytest.raises(DataError, match="column 'count' is missing"):
        codec.encode({"width": [1.0]})


def test_a_category_that_the_training_rows_lack_is_known(write):
    text = flowers().replace("red", "rare", 1)
    for seed in range(20):
        dataset = load(str(write(text)), DataConfig(split_seed=seed))
        assert "rare" in dataset.columns.columns[3].values
        if (
            not dataset.split("train")
            .x[:, 2 + dataset.columns.columns[3].values.index("rare")]
            .any()
        ):
            break
    else:
        pytest.fail("no seed of 20 left the rare row out of training")


def test_options_of_columns(write):
    path = write(flowers())
    assert load(str(path), DataConfig(drop=("width", "kind"))).spec.blocks == (1, 3)
    assert load(str(path), DataConfig(categorical=("always",))).spec.blocks == (1, 1, 3, 2)
    assert load(str(path), DataConfig(drop=("colour", "kind"))).spec.blocks == ()
    refused(path, "--label", "'knid'", "Did you mean 'kind'?", kind=UsageError, label="knid")
    refused(path, "--drop", "'x'", "'width', 'count'", kind=UsageError, drop=("x",))
    refused(
        path,
        "--categorical",
        "'color'",
        "Did you mean 'colour'?",
        kind=UsageError,
        categorical=("color",),
    )
    refused(path, "'kind'", "leave one out", kind=UsageError, label="kind", drop=("kind",))
    refused(
        path,
        "no column is left",
        kind=UsageError,
        drop=("width", "count", "always", "colour"),
        label="kind",
    )
    refused(path, "--resolution", "leave it out", kind=UsageError, resolution=8)
    many = write("n,id\n" + "".join(f"{i},{i}\n" for i in range(80)))
    refused(many, "--label 'id' has 80", "name another column", label="id")


def test_classes_are_in_the_order_of_their_numbers(write):
    dataset = load(
        str(write("x,y\n" + "".join(f"{i},{i % 11}\n" for i in range(33)))), DataConfig(label="y")
    )
    assert dataset.class_names == tuple(map(str, range(11)))


def test_text_among_numbers(write):
    text = flowers().splitlines()
    text[17] = text[17].replace(text[17].split(",")[1], "fifty")
    path = write("\n".join(text))
    refused(path, "'count'", "line 18", "'fifty'", "--categorical 'count'", "--drop 'count'")
    assert load(str(path), DataConfig(drop=("count",))).spec.shape == (6,)
    for bad in ("inf", "1_000"):
        refused(
            write(flowers().replace(",2.5,", f",{bad},", 1)), "'always'", "line 2", bad, "--drop"
        )


def test_free_text(write):
    ids = "x,name\n" + "".join(f"{i},person {i}\n" for i in range(60))
    refused(write(ids), "'name'", "60 different texts", "--drop 'name'")
    assert load(str(write(ids)), DataConfig(categorical=("name",))).spec.blocks == (1, 60)
    comma = "x;y\n" + "".join(f"{i};{i},5\n" for i in range(60))
    refused(write(comma), "'y'", "decimal point")


def test_missing_cells(write):
    text = flowers().splitlines()
    for line, gap in ((5, ""), (9, "NaN"), (12, "null")):
        cells = text[line].split(",")
        text[line] = ",".join([cells[0], gap, *cells[2:]])
    path = write("\n".join(text))
    refused(path, "3 missing cells in 3 of 40 rows", "line 6", "'count'", "--missing drop")
    dataset = load(str(path), DataConfig(missing="drop"))
    assert sum(map(len, dataset.splits.values())) == 37 and dataset.notes == (
        "3 of 40 rows left out: a cell is missing; as missing counts 'NaN', 'null' in column 'count': "
        "--categorical keeps it as a category",
    )
    assert not load(str(path), DataConfig(drop=("count",))).notes
    refused(write("x,y\n" + "1,\n" * 20), "'y' is empty", "--drop 'y'")
    refused(
        write("x,y\n" + "1,\n,1\n" * 20), "every row has a missing cell", "--drop", missing="drop"
    )


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ("is empty", "give a header and rows")),
        ("\n\n", ("is empty", "give a header and rows")),
        ("a,b\n", ("header but no rows", "add rows")),
        ("a,b\n1,2\n1,2,3\n", ("line 3", "3 cells", "line 1 has 2", "quote a cell")),
        ("a,b,a\n1,2,3\n", ("two columns", "'a'", "rename one")),
        ('a,b\n1,"2\n3,4\n', ("line 3", "mend the quotes")),
        (b"a,b\n1,\0\n", ("not a text table", "UTF-8")),
        ("a,b\n1,2\n", ("1 example ", "at least 10")),
        ("a,b\n" + "1,1e300\n2,-1e300\n" * 20, ("'b'", "too large", "--drop")),
    ],
)
def test_files_that_cannot_be_used(write, text, words):
    refused(write(text), *words)


def test_files_that_can_be_used_with_a_note(write):
    dataset = load(str(write("1,2\n" * 9 + "3,4\n" * 9)))
    assert [c.name for c in dataset.columns.columns] == [
        "c0",
        "c1",
    ] and "no header" in dataset.notes[0]
    assert sum(map(len, dataset.splits.values())) == 18
    latin = load(str(write(flowers(), encoding="latin-1")))
    assert "Latin-1" in latin.notes[0] and "größe" in latin.columns.columns[3].values
    bom = load(str(write(flowers(), encoding="utf-8-sig")))
    assert bom.columns.columns[0].name == "width" and not bom.notes
    wide = load(str(write(flowers(), encoding="utf-16")))
    assert wide.columns.columns[3].values == bom.columns.columns[3].values


def test_quotes_blank_lines_and_line_ends(write):
    text = 'x,"a, b"\r\n' + '1,"one\r\nmore"\r\n\r\n' * 9 + " 2 , two \r\n" * 9
    dataset = load(str(write(text)))
    assert dataset.columns.columns[1].name == "a, b" and dataset.columns.columns[1].values == (
        "one\r\nmore",
        "two",
    )
    broken = text + "oops,two\r\n"
    refused(
        write(broken), "line 38", "'oops'", "--categorical 'x'"
    )  # lines as an editor counts them


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")

    n = 30
    table = {
        "x": RNG.normal(size=n),
        "n": np.arange(n),
        "flag": np.arange(n) % 2 == 0,
        "kind": ["a", "b", "c"] * 10,
    }
    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    dataset = load(str(path), DataConfig(label="kind"))
    assert dataset.spec.blocks == (1, 1, 2) and dataset.class_names == ("a", "b", "c")
    back = dataset.columns.decode(dataset.split("train").x)
    assert all(table["x"][i] == pytest.approx(v, abs=1e-5) for i, v in zip(back["n"], back["x"]))
    assert all(flag == str(i % 2 == 0) for i, flag in zip(back["n"], back["flag"]))
    pyarrow.parquet.write_table(pyarrow.table(table | {"x": [None, *table["x"][1:]]}), path)
    refused(path, "1 missing cell in 1 of 30 rows", "line 1", "'x'", "--missing drop")
    pyarrow.parquet.write_table(pyarrow.table(table | {"x": [[1]] * n}), path)
    refused(path, "'x'", "list<", "keep numbers and text only")
    pyarrow.parquet.write_table(pyarrow.table(table), path)
    whole = path.read_bytes()
    for damaged in (
        b"PAR1 no",
        b"",
        whole[:4] + b"\xff" * 90 + whole[94:],
        whole[:-60] + b"\xff" * 50 + whole[-10:],
    ):
        path.write_bytes(damaged)
        refused(path, "t.parquet", "no sound parquet file", "save it again")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "t.parquet").write_bytes(b"")
    real = builtins.__import__

    def without(name, *rest, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    refused(tmp_path / "t.parquet", "pip install 'fromnoise[parquet]'", kind=UsageError)


def test_sampled_numbers_keep_to_the_range_and_decimals_of_the_users_own(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("price,children\n" + "".join(f"{10 + i / 4:.2f},{i % 4}\n" for i in range(40)))
    dataset = load(str(path))
    wild = dataset.columns.decode(np.array([[-9, -9], [9, 9], [0.1234, 0.1]], np.float32))
    assert wild["price"][:2] == [10.0, 19.75] and wild["children"][:2] == [0, 3]
    assert wild["price"][2] == round(wild["price"][2], 2) and isinstance(wild["children"][2], int)
