"""IDX files: found, downloaded, and trusted for nothing."""

import gzip
import hashlib
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from helpers.idx_files import N, idx_bytes

from fromnoise.core.errors import DataError, StorageError, UsageError
from fromnoise.data import DataConfig, download, load
from fromnoise.data.sources import idx

REAL, ORIGINALS = os.environ.get("FROMNOISE_DATA"), idx.ORIGINALS  # before the fixture hides them


def write(folder, end="", dot="-"):
    """Four small files; returns the arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    arrays = {}
    for kind, n in N.items():
        arrays[f"{kind}-images"] = rng.integers(256, size=(n, 6, 5))
        arrays[f"{kind}-labels"] = np.arange(n) % 10
    for part, array in arrays.items():
        name = f"{part}{dot}idx{array.ndim}-ubyte{end}"
        raw = idx_bytes(array)
        (folder / name).write_bytes(gzip.compress(raw) if end else raw)
    return arrays


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FROMNOISE_DATA", raising=False)
    monkeypatch.setattr(idx, "ORIGINALS", {})


def refused(name, kind, *words, config=None):
    with pytest.raises(kind) as error:
        load(str(name), config)
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text


@pytest.mark.parametrize("end, dot", [("", "-"), (".gz", "-"), ("", "."), (".gz", ".")])
def test_folder_of_idx_files(tmp_path, end, dot):
    arrays = write(tmp_path / "mine", end, dot)
    dataset = load(str(tmp_path / "mine"))
    assert (
        dataset.spec.shape == (1, 6, 5)
        and dataset.spec.levels == 256
        and dataset.spec.classes == 10
    )
    assert [len(dataset.split(part)) for part in ("train", "validation", "test")] == [33, 3, 12]
    shuffled = dataset.split("test").x[:, 0]
    assert sorted(map(bytes, shuffled)) == sorted(
        map(bytes, arrays["t10k-images"].astype(np.uint8))
    )
    together = np.concatenate([dataset.split("train").x, dataset.split("validation").x])[:, 0]
    assert sorted(map(bytes, together)) == sorted(
        map(bytes, arrays["train-images"].astype(np.uint8))
    )
    row = [bytes(a) for a in arrays["train-images"].astype(np.uint8)].index(
        bytes(dataset.split("validation").x[1, 0])
    )
    assert dataset.split("validation").y[1] == arrays["train-labels"][row]
    assert len(load(str(tmp_path / "mine"), DataConfig(validation=0.25)).split("validation")) == 9


def damage(folder, part, change):
    path = next(folder.glob(f"{part}*"))
    path.write_bytes(change(path.read_bytes()))
    return path.name


@pytest.mark.parametrize(
    "part, change, word",
    [
        ("train-images", lambda raw: raw[:-1], "fewer bytes"),
        ("train-images", lambda raw: raw[:9], "impossible header"),
        ("t10k-images", lambda raw: raw + b"!", "more bytes"),
        ("train-labels", lambda raw: b"PK\3\4" + raw[4:], "not an IDX file of labels"),
        ("t10k-images", lambda raw: raw[:4] + b"\xff" * 12 + raw[16:], "impossible header"),
        ("train-images", lambda raw: gzip.compress(raw)[:-20], "damaged"),
        ("train-images", lambda raw: gzip.compress(raw)[:-8] + b"12345678", "damaged"),
        (
            "train-images",
            lambda raw: gzip.compress(raw + bytes(50_000_000)),
            "more bytes",
        ),  # a bomb
        ("train-labels", lambda raw: b"", "not an IDX file"),
    ],
)
def test_damaged_files(tmp_path, part, change, word):
    write(tmp_path / "mine")
    refused(
        tmp_path / "mine", DataError, damage(tmp_path / "mine", part, change), word, "replace it"
    )


def test_a_lying_header_takes_no_memory(tmp_path):
    import tracemalloc

    head = bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in (2**17, 100, 100))
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to 1 GB"):
        idx.unpack(gzip.compress(head + bytes(100)), tmp_path / "x", "train-images")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_files_that_do_not_fit_together(tmp_path):
    folder = tmp_path / "mine"
    write(folder)
    next(folder.glob("train-labels*")).write_bytes(idx_bytes(np.zeros(35)))
    refused(
        folder,
        DataError,
        "train-labels",
        "35 labels for the 36 images",
        "use the two files of one data set",
    )
    write(folder)
    next(folder.glob("t10k-labels*")).write_bytes(idx_bytes(np.full(12, 10)))
    refused(
        folder, DataError, "t10k-labels", "label 10", "10 classes", "use the labels that belong"
    )
    write(folder)
    next(folder.glob("t10k-images*")).write_bytes(idx_bytes(np.zeros((12, 5, 5))))
    refused(folder, DataError, "differ in size", "use files of one data set")
    write(folder)
    next(folder.glob("t10k-labels*")).unlink()
    refused(folder, DataError, "t10k-labels-idx1-ubyte is missing", "put it in this folder")


def test_options_without_meaning(tmp_path):
    write(tmp_path / "mine")
    refused(
        tmp_path / "mine",
        UsageError,
        "--resolution",
        "leave it out",
        config=DataConfig(resolution=8),
    )
    refused(tmp_path / "mine", UsageError, "--test", "leave it out", config=DataConfig(test=0.2))


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server of small mnist files behind a first mirror without them; (folder, addresses asked)."""
    folder = tmp_path / "server"
    write(folder, ".gz")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    root = f"http://127.0.0.1:{server.server_port}"
    md5 = tuple(
        hashlib.md5(next(folder.glob(f"{part}*")).read_bytes()).hexdigest() for part in idx.PARTS
    )
    source = idx.Original((f"{root}/nowhere/", root), md5, tuple("0123456789"))
    monkeypatch.setattr(idx, "ORIGINALS", {"mnist": source})
    monkeypatch.setattr(download, "ALLOWED", (*download.ALLOWED, root))
    yield folder
    server.shutdown()
    server.server_close()


def test_download_then_cache_then_offline(tmp_path, mirror, monkeypatch, capsys):
    first = load("mnist")
    printed = capsys.readouterr()
    assert not printed.out and "downloading" in printed.err and not first.notes
    cached = sorted((tmp_path / "cache" / "mnist").iterdir())
    assert [path.name for path in cached] == sorted(
        path.name for path in mirror.iterdir()
    )  # and no leftovers
    for path in mirror.iterdir():
        path.unlink()
    assert load("mnist").digest == first.digest and not capsys.readouterr().err


def test_a_damaged_cache_is_fetched_anew(tmp_path, mirror):
    digest = load("mnist").digest
    path = next((tmp_path / "cache" / "mnist").glob("train-images*"))
    path.write_bytes(path.read_bytes()[:100])
    assert load("mnist").digest == digest


def test_a_wrong_checksum_is_never_kept(tmp_path, mirror):
    path = next(mirror.glob("t10k-images*"))
    path.write_bytes(gzip.compress(idx_bytes(np.ones((12, 6, 5)))))
    refused(
        "mnist",
        DataError,
        "mnist",
        "wrong checksum",
        "t10k-images-idx3-ubyte.gz",
        str(tmp_path / "cache" / "mnist"),
    )
    assert not list((tmp_path / "cache" / "mnist").glob("*t10k-images*"))


def test_offline_says_where_to_put_the_files(tmp_path, monkeypatch):
    source = idx.Original(("http://127.0.0.1:9/",), ("0",) * 4, ("a",))
    monkeypatch.setattr(idx, "ORIGINALS", {"kmnist": source})
    folder = str(tmp_path / "cache" / "kmnist")
    refused(
        "kmnist",
        DataError,
        "cannot be downloaded",
        "train-images-idx3-ubyte.gz",
        folder,
        "FROMNOISE_DATA",
    )
    monkeypatch.setenv("FROMNOISE_DATA", str(tmp_path / "given"))
    refused("kmnist", DataError, f"into '{tmp_path / 'given' / 'kmnist'}'")


def test_an_unwritable_cache(tmp_path, mirror):
    (tmp_path / "cache").write_text("a file where the folder should be")
    refused("mnist", StorageError, str(tmp_path / "cache"), "set FROMNOISE_CACHE")


def test_your_own_files_come_first_and_are_told_apart(tmp_path, mirror, monkeypatch):
    monkeypatch.setenv("FROMNOISE_DATA", str(tmp_path / "given"))
    arrays = write(tmp_path / "given" / "mnist")
    assert len(load("mnist").notes) == 4  # unpacked: the packed files' checksums cannot match
    raw = tuple(hashlib.md5(idx_bytes(arrays[part])).hexdigest() for part in idx.PARTS)
    monkeypatch.setattr(idx, "ORIGINALS", {"mnist": idx.Original((), raw, tuple("0123456789"))})
    assert not load("mnist").notes and not (tmp_path / "cache").exists()


@pytest.mark.mnist
def test_the_real_mnist(monkeypatch):
    if not REAL or not (Path(REAL) / "mnist").is_dir():
        pytest.skip("FROMNOISE_DATA names no folder with mnist/ in it")
    monkeypatch.setattr(idx, "ORIGINALS", ORIGINALS)
    monkeypatch.setenv("FROMNOISE_DATA", REAL)
    dataset = load("mnist")
    assert not dataset.notes  # its checksums are the official ones
    assert [len(dataset.split(part)) for part in ("train", "validation", "test")] == [
        55_000,
        5_000,
        10_000,
    ]
    assert np.bincount(dataset.split("test").y).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    x = np.concatenate([dataset.split("train").x, dataset.split("validation").x])
    assert x.mean() / 255 == pytest.approx(0.1307, abs=1e-4)  # the well-known mean
