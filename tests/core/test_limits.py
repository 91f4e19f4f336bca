"""Sizes that a file declares, a run records or a user asks for are judged before anything is made of them."""

import json
import resource
import shutil
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from fromnoise.cli import main
from fromnoise.core import limits
from fromnoise.core.errors import StorageError, UsageError
from fromnoise.core.json_files import sealed
from fromnoise.data import load
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

STEPS = {"steps": 2, "threads": 1, "intervals": 1, "validation_examples": 20, "batch_size": 16}
MODELS = {
    "vae": ("vae", dict(hidden=(8,), latent_dim=2)),
    "conv": ("vae", dict(network="conv", width=4)),
    "diffusion": ("diffusion", dict(width=16)),
    "gan": ("gan", dict(network="mlp", hidden=(8,))),
    "pca": ("classical", dict(latent_dim=2)),
    "pixels": ("autoregressive", dict(size=1)),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FROMNOISE_CACHE", str(root / "cache"))
        for name, (family, options) in MODELS.items():
            steps = {} if family == "classical" else STEPS
            start_run(make_plan(family, **options, **steps), root / name)
    return root


def forged(trained, name: str, edit) -> Path:
    shutil.copytree(trained / name, "run")
    info = json.loads(Path("run/run.json").read_text())
    edit(info)
    Path("run/run.json").write_text(sealed(info))
    return Path("run")


def refused(capsys, *args, codes=(2, 3, 4), says=()) -> str:
    """The command ends with one line, soon."""
    before, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = main([str(a) for a in args])
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1e6  # GB
    out, err = capsys.readouterr()
    assert (
        code in codes
        and err.count("\n") == 1
        and "a bug of" not in err
        and "out of memory" not in err
    ), (code, out, err)
    assert time.process_time() - before < 5 and grown < 1, (
        time.process_time() - before,
        grown,
        err,
    )  # CPU seconds, GB
    for word in says:
        assert word in err, err
    return err


SHAPES = [[1_000_000, 8, 8], [1, 100_000, 100_000], [1, 3000, 3000], [10**12, 1, 1], [1, 8, 2**40]]
CONFIGS = {
    "vae": [
        ("hidden", [65536] * 4),
        ("hidden", [65536] * 100_000),
        ("hidden", [1] * 200_000),
        ("latent_dim", 4096),
    ],
    "conv": [("width", 1024)],
    "diffusion": [("width", 65536), ("depth", 64)],
    "gan": [("hidden", [65536] * 4), ("latent_dim", 4096)],
    "pca": [("latent_dim", 64), ("components", 500)],
    "pixels": [("width", 65536), ("depth", 64), ("size", 16)],
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_forged_shape_is_refused(name, shape, trained, capsys):
    run = forged(trained, name, lambda info: info["data"]["spec"].update(shape=shape))
    refused(capsys, "sample", run, "-n", 2)


@pytest.mark.parametrize(
    "name,key,value",
    [(name, *pair) for name, pairs in CONFIGS.items() for pair in pairs],
    ids=lambda v: str(v)[:20],
)
def test_a_forged_configuration_is_refused(name, key, value, trained, capsys):
    run = forged(trained, name, lambda info: info["config"].update({key: value}))
    refused(capsys, "sample", run, "-n", 2)
    refused(capsys, "resume", run, "--steps", 1)


def test_what_is_forged_in_other_places(trained, capsys):
    for edit in (
        lambda info: (
            info["data"]["settings"].update(resolution=1024) or info["data"].update(name="faces")
        ),
        lambda info: info["data"]["spec"].update(levels=10**15),
        lambda info: info["data"]["spec"].update(classes=10**12),
    ):
        run = forged(trained, "vae", edit)
        main(["sample", str(run), "-n", "2"])
        main(["verify", str(run), "--data"])
        _, err = capsys.readouterr()
        assert "a bug of" not in err and "out of memory" not in err, err
        shutil.rmtree(run)


def test_building_is_bounded_in_size_and_in_number():
    for build in (
        lambda: torch.nn.Linear(65536, 65536),
        lambda: [torch.nn.Linear(1, 1) for _ in range(10**7)],
        lambda: torch.eye(10**5),
        lambda: torch.zeros(size=(10**5, 10**5)),
        lambda: torch.zeros(10).repeat(10**9),
        lambda: torch.ones(10, 1).repeat((1, 10**9)),
        lambda: torch.outer(torch.ones(10_000), torch.ones(10_000)),
    ):
        with (
            pytest.raises(StorageError, match="far larger model"),
            limits.BoundedConstruction("it", 100, 2),
        ):
            build()
    with limits.BoundedConstruction("it", 100, 2):
        assert sum(p.numel() for p in torch.nn.Linear(3, 5).parameters()) == 20
        generator = torch.Generator().manual_seed(0)
        assert (
            torch.randn(3, generator=generator, device="cpu", requires_grad=True).shape
            == torch.zeros(3, out=torch.empty(3)).shape
        )


# -- what a user asks for ---------------------------------------------------------------------------------------


def test_more_samples_than_fit_are_refused_in_one_line(trained, capsys):
    run, n = trained / "vae", "99999999999"
    refused(capsys, "sample", run, "-n", n, "-o", "x.npy", says=[f"-n {n}", "this machine has"])
    refused(capsys, "sample", run, "-n", n, says=[f"-n {n}", "or fewer"])
    refused(
        capsys, "sample", run, "-n", n, "-o", "folder", says=["too many for one folder", "or fewer"]
    )
    refused(capsys, "eval", run, "--quiet", "--samples", n, says=[f"--samples {n}"])
    refused(capsys, "eval", run, "-k", n, says=["-k", "at most"])
    refused(capsys, "compare", run, "--samples", n, "--no-zoo", "--quiet", says=[f"--samples {n}"])
    refused(
        capsys, "edit", trained / "diffusion", "--strength", "0.5", "--draws", n, says=["draws"]
    )
    refused(capsys, "edit", trained / "diffusion", "--between", n, says=["images between"])
    refused(
        capsys, "data", "info", "faces", "--resolution", "1024", says=["--resolution 1024"]
    ) if limits.memory() < 6e10 else None
    assert not Path("folder").exists()


def test_a_folder_of_samples_is_written_as_they_come(trained, monkeypatch):
    from PIL import Image

    from fromnoise.inference import sample, write
    from fromnoise.runs.directory import Run
    from fromnoise.runs.load import load_run

    loaded = load_run(Run(trained / "vae"), with_data=False)
    expected = write.to_data_units(loaded.dataset, sample.sample(loaded, 150))
    monkeypatch.setattr(write, "sample", None)  # it would hold them all
    files = write.sample_to(loaded, 150, Path("many"))
    assert len(files) == 150 and all(
        np.array_equal(np.asarray(Image.open(f)), x) for f, x in zip(files, expected)
    )
    with pytest.raises(UsageError):
        write.sample_to(loaded, 3, Path("none"), label=4)
    assert not Path("none").exists()


def test_sizes_are_told_in_words():
    assert [limits.format_bytes(n) for n in (12, 2_000, 3e6, 4e9, 5e12)] == [
        "12 bytes",
        "2 kB",
        "3 MB",
        "4 GB",
        "5 TB",
    ]
    assert 2**28 < limits.memory() < 2**50


# -- what a file declares -----------------------------------------------------------------------------------------


def zeros(write, size: int) -> None:
    """Writes so many zero bytes in small pieces."""
    for start in range(0, size, 2**20):
        write(bytes(min(2**20, size - start)))


def header(shape: tuple, kind: str = "|u1") -> bytes:
    import io

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": kind, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


@pytest.mark.parametrize("key", ["x", "y"])
def test_an_npz_that_unpacks_to_nothing_but_zeros_is_refused(key, capsys):
    shapes = {
        "x": (400_000, 28, 28) if key == "x" else (20, 8, 8),
        "y": (2**28 + 1,) if key == "y" else (20,),
    }
    with zipfile.ZipFile("bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, shape in shapes.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(header(shape))
                zeros(file.write, int(np.prod(shape)))
    assert Path("bomb.npz").stat().st_size < 5e6
    refused(
        capsys,
        "data",
        "info",
        "bomb.npz",
        codes=(3,),
        says=["bomb.npz", "unpacks to", "numpy.save"],
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=["bzip2", "lzma"])
def test_an_npz_that_numpy_did_not_pack_is_refused(method, capsys):
    """Those two are unpacked block by block, and a block has no bound."""
    with zipfile.ZipFile("odd.npz", "w", method) as archive:
        archive.writestr("x.npy", header((20, 8, 8)) + bytes(1280))
    refused(capsys, "data", "info", "odd.npz", codes=(3,), says=["odd.npz", "savez_compressed"])


def test_an_npz_whose_inner_header_lies_is_refused(capsys):
    with zipfile.ZipFile("lie.npz", "w") as archive:
        archive.writestr("x.npy", header((10**7, 64, 64)) + bytes(1000))
    refused(capsys, "data", "info", "lie.npz", codes=(3,), says=["lie.npz", "unpacks to"])
    Path("lie.npy").write_bytes(header((10**7, 64, 64)) + bytes(1000))
    refused(capsys, "data", "info", "lie.npy", codes=(3,), says=["lie.npy"])


def test_arrays_that_compress_well_but_are_small_are_read():
    np.savez_compressed(
        "good.npz", x=np.zeros((60_000, 28, 28), np.uint8), y=np.arange(60_000) % 10
    )  # 47 MB in 0.1
    assert load("good.npz").spec.classes == 10


def test_a_gzip_bomb_of_images_is_refused(capsys):
    import gzip

    Path("idx").mkdir()
    n = 650_000
    with gzip.open("idx/train-images-idx3-ubyte.gz", "wb", compresslevel=1) as file:
        file.write(bytes((0, 0, 8, 3)) + b"".join(v.to_bytes(4, "big") for v in (n, 28, 16)))
        zeros(file.write, n * 28 * 16)
    for part in ("train-labels-idx1", "t10k-labels-idx1"):
        Path(f"idx/{part}-ubyte").write_bytes(
            bytes((0, 0, 8, 1)) + n.to_bytes(4, "big") + bytes(10)
        )
    Path("idx/t10k-images-idx3-ubyte").write_bytes(bytes(16))
    refused(
        capsys, "data", "info", "idx", codes=(3,), says=["train-images-idx3-ubyte.gz", "unpacks to"]
    )


def test_a_parquet_file_of_few_bytes_and_many_rows_is_refused(capsys):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    writer = pq.ParquetWriter(
        "rows.parquet", pa.schema([("a", pa.int64()), ("b", pa.int64())]), compression="zstd"
    )
    column = pa.array(np.zeros(2_000_000, np.int64))
    for _ in range(10):
        writer.write_table(pa.table({"a": column, "b": column}))
    writer.close()
    refused(capsys, "data", "info", "rows.parquet", codes=(3,), says=["rows.parquet", "unpacks to"])
    long = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(200_000, np.int32)), pa.array(["x" * 100_000])
    )
    pq.write_table(
        pa.table({"a": np.arange(200_000.0), "b": long}), "texts.parquet", store_schema=False
    )
    refused(
        capsys, "data", "info", "texts.parquet", codes=(3,), says=["texts.parquet", "unpacks to"]
    )
    pq.write_table(pa.table({"a": np.arange(50.0), "b": ["x", None] * 25}), "good.parquet")
    assert main(["data", "info", "good.parquet", "--missing", "drop"]) == 0


def test_what_is_no_file_is_not_waited_for(trained, capsys):
    import os

    os.mkfifo("pipe.npy")
    os.mkfifo("pipe.txt")
    for name in ("pipe.npy", "pipe.txt", "/dev/zero"):
        refused(capsys, "data", "info", name, codes=(3,), says=["no file or folder"])
    Path("pics").mkdir()
    Path("pics/a.png").symlink_to(Path("pipe.npy").resolve())
    refused(capsys, "data", "info", "pics", codes=(3,), says=["a.png", "pipe"])
    shutil.copytree(trained / "vae", "run")
    for file in (
        "checkpoints/step-00000002/manifest.json",
        "events.jsonl",
        "samples/progress-00000002.npy",
    ):
        (Path("run") / file).unlink()
        os.mkfifo(Path("run") / file)
    for args in (
        ["verify", "run"],
        ["runs", "."],
        ["sample", "run", "-n", "2"],
        ["show", "run", "progress"],
    ):
        main(args)
        assert "a bug of" not in capsys.readouterr().err


def test_verify_opens_no_path_that_a_run_names(trained, capsys, tmp_path):
    Path("secret.txt").write_text("some words that are nobody's business " * 200)

    def info(info):
        return info["data"].update(name=str(Path("secret.txt").resolve()), settings={})

    run = forged(trained, "vae", info)
    before = sorted(map(str, tmp_path.rglob("*")))
    assert main(["verify", str(run)]) == 0
    assert (
        "not checked" in capsys.readouterr().out and sorted(map(str, tmp_path.rglob("*"))) == before
    )
    assert main(["verify", str(run), "--data"]) == 3


def test_a_forged_evaluator_is_refused(capsys):
    from safetensors.torch import save_file

    about = {
        "kind": "fromnoise evaluator 1",
        "data": "x",
        "digest": "0",
        "shape": [1, 8, 8],
        "levels": 256,
        "classes": 10,
        "dims": 10**6,
        "width": 65536,
    }
    save_file({"a": torch.zeros(1)}, "forged.safetensors", {"about": json.dumps(about)})
    refused(capsys, "evaluator", "info", "forged.safetensors", codes=(3,))


# -- tables that a spreadsheet opens ------------------------------------------------------------------------------


def test_cells_that_a_spreadsheet_would_execute_are_written_with_an_apostrophe(capsys):
    import csv

    cells = ["=HYPERLINK(1)", "+1+cmd", "-2+3", "@sum", "plain", "-5", "＝1"]
    rows = "".join(f'{-i},"{cells[i % 7]}",{i % 3}\n' for i in range(70))
    Path("t.csv").write_text(f'"=n","k","-y"\n{rows}')
    few = [
        "--steps",
        "2",
        "--intervals",
        "1",
        "--threads",
        "1",
        "--validation-examples",
        "5",
        "--quiet",
    ]
    assert (
        main(
            [
                "train",
                "vae",
                "--data",
                "t.csv",
                "--hidden",
                "8",
                "--latent-dim",
                "2",
                *few,
                "--out",
                "t",
            ]
        )
        == 0
    )
    assert main(["sample", "t", "-n", "200", "-o", "safe.csv"]) == 0
    err = capsys.readouterr().err
    assert "--raw-csv" in err and err.count("\n") == 1
    assert (
        main(["sample", "t", "-n", "200", "-o", "raw.csv", "--raw-csv"]) == 0
        and not capsys.readouterr().err
    )
    safe, raw = (list(csv.reader(Path(name).open())) for name in ("safe.csv", "raw.csv"))
    assert safe[0] == ["'=n", "k", "'-y"] and raw[0] == ["=n", "k", "-y"]
    assert {row[1] for row in raw[1:]} <= set(cells) and len({row[1] for row in raw[1:]}) > 3
    for a, b in zip(safe[1:], raw[1:]):
        assert a[0] == b[0] and a[2] == b[2]  # numbers
        assert a[1] == (b[1] if b[1] in ("plain", "-5") else "'" + b[1])
    assert any(float(row[0]) < 0 for row in safe[1:])


def test_only_https_is_fetched(monkeypatch):
    from fromnoise.data import download
    from fromnoise.data.sources import idx, text

    assert all(
        url.startswith("https://") for source in idx.ORIGINALS.values() for url in source.mirrors
    ) and text.SHAKESPEARE.startswith("https://")
    monkeypatch.setattr(
        download.urllib.request, "urlopen", lambda *a, **k: pytest.fail("it was asked")
    )
    with pytest.raises(download.FetchError, match="https"):
        download.fetch(["http://example.org/x", "file:///etc/passwd"], lambda body: True)
