"""Text: the same characters in each part whatever the tokens, whatever the blocks; awkward files, each in one line."""

import hashlib
import json
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.cli import main
from fromnoise.core.errors import DataError, StorageError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data import DataConfig, load
from fromnoise.data.download import FetchError
from fromnoise.data.sources import text
from fromnoise.data.stream import Stream, default_batch_size, in_order
from fromnoise.data.texts import build, documents
from fromnoise.runs.load import dataset_from_record
from fromnoise.runs.records.base import validate_record
from fromnoise.runs.records.run import DataRecord

KINDS = ["char", "byte", "bpe"]
SHAKESPEARE = Path(os.environ.get("FROMNOISE_DATA", "/nowhere")) / "tinyshakespeare" / "input.txt"
WORDS = "Ein Kännchen Tee,\r\nзелёный чай — 日本のお茶 🍵.\n\tEnd\0 of line. "


def put(content: str | bytes, name="a.txt") -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def opened(content, name="a.txt", **options):
    return load(put(content, name), DataConfig(**{"context": 8} | options))


def refused(kind, content, *words, name="a.txt", **options):
    with pytest.raises(kind) as error:
        opened(content, name, **options)
    line = str(error.value)
    assert "\n" not in line and all(word in line for word in words), line
    return line


def whole(dataset) -> bytes:
    return b"".join(map(dataset.bytes, dataset.splits))


# -- parts and tokens -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_the_same_characters_for_all_tokens(kind):
    content = WORDS * 40
    dataset = opened(content, tokens=kind)
    n = len(content)
    cuts = [0, int(0.9 * n), int(0.9 * n) + round((n - int(0.9 * n)) / 2), n]
    for part, low, high in zip(("train", "validation", "test"), cuts, cuts[1:]):
        split, expected = dataset.split(part), content[low:high]
        assert dataset.text(part) == expected and dataset.bytes(part) == expected.encode()
        assert (split.characters, split.raw_bytes, split.unknown) == (
            len(expected),
            len(expected.encode()),
            0,
        )
        assert (
            split.x.ndim == 1
            and split.x.dtype == dataset.tokenizer.dtype
            and len(split) == len(split.x) // 8
        )
    assert dataset.spec == DataSpec("tokens", (8,), levels=dataset.tokenizer.vocabulary)
    if kind == "char":
        assert dataset.tokenizer.characters == "".join(sorted(set(content)))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_any_size_give_the_same_tokens(kind, monkeypatch, tmp_path):
    digests = set()
    for size in (1, 2, 3, 5, 64, 2**21):
        monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / f"cache{size}"))
        monkeypatch.setattr(documents, "BLOCK", size)
        dataset = opened("\ufeff" + WORDS * 9, tokens=kind, context=4)
        assert whole(dataset) == (WORDS * 9).encode()
        assert [split.characters for split in dataset.splits.values()] == [
            len(dataset.text(part)) for part in dataset.splits
        ]
        digests.add(dataset.digest)
    assert len(digests) == 1


def test_shares_can_be_chosen():
    content = "".join(chr(33 + i % 90) for i in range(1000))
    dataset = opened(content, validation=0.2, test=0.1)
    assert [split.characters for split in dataset.splits.values()] == [700, 200, 100]
    assert [split.characters for split in opened(content).splits.values()] == [900, 50, 50]


def test_auto_takes_characters_where_they_are_few():
    assert opened("".join(map(chr, range(0x400, 0x4FF))) * 30).tokenizer.kind == "char"
    dataset = opened("".join(map(chr, range(0x4E00, 0x4E00 + 257))) * 30)
    assert (
        dataset.tokenizer.kind == "byte"
        and "257 different characters" in dataset.notes[0]
        and "--tokens char" in dataset.notes[0]
    )
    assert (
        opened(
            "".join(map(chr, range(0x4E00, 0x4E00 + 257))) * 30, tokens="char"
        ).tokenizer.vocabulary
        == 258
    )


def test_vocabulary_of_byte_pairs():
    dataset = opened(WORDS * 200, tokens="bpe", vocabulary=280)
    assert dataset.spec.levels == dataset.tokenizer.vocabulary == 280 and not dataset.notes
    assert len(dataset.split("train").x) < 0.9 * dataset.split("train").raw_bytes
    small = opened("abcd" * 100, tokens="bpe", vocabulary=1000, context=2)
    assert small.tokenizer.vocabulary < 300 and "instead of 1000" in small.notes[0]


def test_characters_first_met_after_training_are_unknown():
    dataset = opened("abcdefghij" * 90 + "aé日é" * 25, tokens="char")
    test = dataset.split("test")
    assert dataset.tokenizer.characters == "abcdefghij" and dataset.spec.levels == 11
    rest = ("aé日é" * 25)[-test.characters :]
    assert dataset.text("test") == rest.replace("é", "\ufffd").replace(
        "日", "\ufffd"
    ) and test.raw_bytes == len(rest.encode())
    assert test.unknown == dataset.text("test").count("\ufffd") > 30
    assert any("do not occur in training" in note for note in dataset.notes)
    assert (
        dataset.tokenizer.decode(dataset.tokenizer.encode("a prompt"))
        == "a\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd"
    )


def test_other_alphabets_are_other_data():
    one, other = opened("abcabcabb" * 30), opened("xyzxyzxyy" * 30, "b.txt")
    assert (
        all((one.split(part).x == other.split(part).x).all() for part in one.splits)
        and one.digest != other.digest
    )
    again = opened("abcabcabb" * 30, "elsewhere.txt")
    assert again.digest == one.digest != opened("abcabcabb" * 30, context=9).digest


# -- examples -------------------------------------------------------------------------------------------------------


@pytest.fixture
def numbered():
    """Bytes whose value tells their place: token i is i modulo 251."""
    return opened(bytes(i % 251 for i in range(3000)), "n.bin", tokens="byte", context=16)


def test_windows_in_order(numbered):
    x = torch.cat([batch.x for batch in in_order(numbered, "train", 50)])
    assert x.dtype == torch.int64 and x.shape == (len(numbered.split("train")), 16) == (
        2700 // 16,
        16,
    )
    assert x.flatten().tolist() == [i % 251 for i in range(2700 // 16 * 16)]
    assert torch.equal(numbered.batch("train", [5, 2]).x, x[[5, 2]]) and torch.equal(
        numbered.batch("train", range(3)).x, x[:3]
    )
    assert np.array_equal(numbered.to_store(x).ravel(), numbered.split("train").x[: x.numel()])
    assert numbered.batch("train", [0]).y is None and not numbered.split("train").x.flags.writeable


def test_shifted_windows_stay_in_the_part_and_cover_it(numbered):
    n, T = len(numbered.split("train")), 16
    shifts = []
    for step in range(200):
        x = numbered.batch("train", range(n), Rng(0).at("batch", step)).x
        assert (
            (x - x[:, :1]) % 251 == torch.arange(T)
        ).all()  # consecutive tokens: no window leaves the part
        shifts.append((x[:, 0] - torch.arange(n) * T) % 251)
    shifts = torch.stack(shifts)
    assert shifts.max() == T - 1 and shifts.min() == 0
    counts = torch.bincount(shifts[:, :-1].flatten(), minlength=T).float()
    expected = counts.sum() / T
    assert (
        (counts - expected) ** 2 / expected
    ).sum() < 37.7  # chi squared, 15 degrees of freedom, p = 0.001
    assert shifts[:, -1].max() <= 2700 - n * T and len(shifts[:, -1].unique()) > 1


def test_a_training_batch_is_a_function_of_its_number(numbered):
    one, other = (Stream(numbered, 10, Rng(3), workers=workers) for workers in (0, 2))
    batches = [one.batch(i).x for i in range(40)]
    assert all(torch.equal(batches[i], other.batch(i).x) for i in range(40))
    assert torch.equal(Stream(numbered, 10, Rng(3)).batch(33).x, batches[33])
    per_epoch = one.batches_per_epoch
    assert not torch.equal(batches[0], batches[per_epoch]) and not torch.equal(
        batches[0], Stream(numbered, 10, Rng(4)).batch(0).x
    )
    other.close()


def test_more_asked_for_than_there_is(numbered):
    stream = Stream(numbered, 10_000, Rng(0))
    assert stream.batch(3).x.shape == (2700 // 16, 16) and stream.batches_per_epoch == 1
    tiny = opened("abcdefgh" * 20, context=8)
    assert len(tiny.split("validation")) == 1 and next(in_order(tiny, "validation")).x.shape == (
        1,
        8,
    )
    assert tiny.batch("test", [0], Rng(0)).x.shape == (1, 8)


def test_a_comfortable_batch_has_room_for_predictions():
    assert default_batch_size(DataSpec("tokens", (128,), levels=66)) == 1000
    assert default_batch_size(DataSpec("tokens", (128,), levels=1024)) == 128
    assert default_batch_size(DataSpec("tokens", (2**20,), levels=65_536)) == 1
    assert default_batch_size(DataSpec("image", (1, 28, 28), levels=256)) == 1000


# -- awkward input --------------------------------------------------------------------------------------------------


def test_line_ends_and_nul_are_kept():
    content = "a\r\nb\rc\n\0d" * 50
    dataset = opened(content)
    assert (
        whole(dataset) == content.encode()
        and "\0\n\r" in dataset.tokenizer.characters
        and not dataset.notes
    )


def test_a_byte_order_mark_is_left_out():
    dataset = opened("\ufeff" + "hello " * 50)
    assert (
        whole(dataset) == b"hello " * 50
        and "byte order mark" in dataset.notes[0]
        and "\ufeff" not in dataset.tokenizer.characters
    )


def test_invalid_utf8():
    raw = ("fährt " * 60).encode() + "für ".encode("latin-1") + b"ab " * 60
    at = raw.index(b"\xfcr")
    refused(DataError, raw, f"byte {at}", "a.txt", "--tokens byte", tokens="char")
    refused(DataError, b"\xef\xbb\xbf" + raw, f"byte {at + 3} ", tokens="char")
    for kind in ("auto", "byte", "bpe"):
        dataset = opened(raw, tokens=kind)
        assert (
            dataset.tokenizer.kind == ("byte" if kind == "auto" else kind)
            and f"byte {at}" in dataset.notes[0]
        )
        assert whole(dataset) == raw and sum(
            split.raw_bytes for split in dataset.splits.values()
        ) == len(raw)
        assert [split.characters for split in dataset.splits.values()] == [
            len(dataset.text(part)) for part in dataset.splits
        ]
    refused(
        DataError, b"ok " * 50 + "é".encode()[:1], "byte 150", tokens="char"
    )  # cut off in a character
    assert opened(b"\x80" * 300).tokenizer.kind == "byte"


def test_the_place_of_invalid_bytes_in_later_blocks(monkeypatch):
    raw = ("日" * 100).encode() + b"\xe6\x97 and more"
    for size in (1, 2, 3, 7):
        monkeypatch.setattr(documents, "BLOCK", size)
        refused(DataError, raw, "byte 300 ", tokens="char")


def test_what_is_no_text(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)).save(
        "noise.png"
    )
    Image.new("L", (1, 1)).save("dot.png")
    for name in ("noise.png", "dot.png"):
        for kind in ("auto", "char", "bpe"):
            refused(
                DataError,
                Path(name).read_bytes(),
                name,
                "binary",
                ".npy",
                "--tokens byte",
                name=name,
                tokens=kind,
            )
    refused(DataError, np.random.default_rng(0).bytes(1000), "binary", name="x.gz")
    raw = Path("noise.png").read_bytes()
    assert whole(load("noise.png", DataConfig(tokens="byte"))) == raw
    os.mkfifo("pipe.txt")
    with pytest.raises(DataError, match="pipe.txt"):
        load("pipe.txt")


def test_empty_and_short():
    refused(DataError, "", "a.txt", "empty")
    refused(DataError, "\ufeff", "empty")
    for n in (1, 2, 5, 20):
        assert "--context" not in refused(DataError, "x" * n, "too short", "give more text")
    line = refused(DataError, "xyz" * 100, "too short", "--context 15 or less", context=128)
    assert "15 tokens" in line and len(opened("xyz" * 100, context=15).split("test")) == 1
    refused(DataError, "xyz" * 100, "too short", context=16)


def test_unreadable(monkeypatch):
    put("words " * 100)
    real = open

    def denied(path, *args, **options):
        if Path(path).name == "a.txt":
            raise PermissionError(13, "Permission denied")
        return real(path, *args, **options)

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(DataError, match="'a.txt' cannot be read \\(Permission denied\\)"):
        load("a.txt", DataConfig(context=8))


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_one_endless_line_in_bounded_memory(kind):
    """100 MB without a line end, or 4 MB where pairs are merged, in blocks of a size to match."""
    megabytes = 4 if kind == "bpe" else 100
    piece = b"".join(bytes([97 + i % 26]) * (1 + i % 3) for i in range(9973))
    with open("line.txt", "wb") as out:
        for _ in range(megabytes * 10**6 // len(piece) + 1):
            out.write(piece)
    size = os.path.getsize("line.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "BLOCK", documents.BLOCK * megabytes // 100)
        patch.setattr(build, "MAX_MERGE_BYTES", 2**18)
        tracemalloc.start()
        dataset = load("line.txt", DataConfig(tokens=kind))
        batch = dataset.batch("train", [0, len(dataset.split("train")) - 1])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert sum(split.raw_bytes for split in dataset.splits.values()) == size and batch.x.shape == (
        2,
        128,
    )
    assert peak < (0.4 if kind != "bpe" else 5) * size, f"{peak / 1e6:.0f} MB"
    assert isinstance(dataset.split("train").x.base, np.memmap | np.ndarray)


# -- options --------------------------------------------------------------------------------------------------------


def test_options_of_text_are_refused_elsewhere_and_others_here():
    for options in ({"tokens": "char"}, {"context": 64}, {"vocabulary": 300}):
        for name in ("digits", "ring8"):
            with pytest.raises(UsageError, match=f"--{next(iter(options))} has no meaning"):
                load(name, DataConfig(**options))
    for options in ({"resolution": 8}, {"grey": True}, {"binarise": "static"}, {"label": "y"}):
        refused(UsageError, WORDS, f"--{next(iter(options))} has no meaning for text", **options)
    for kind in ("auto", "char", "byte"):
        refused(
            UsageError,
            WORDS * 20,
            "--vocabulary goes with --tokens bpe",
            tokens=kind,
            vocabulary=300,
        )


# -- folders --------------------------------------------------------------------------------------------------------


def test_a_folder_of_text():
    files = {
        "in/b.txt": b"second\n" * 30,
        "in/a/z.md": b"\xef\xbb\xbffirst \xc3\xa9",
        "in/c": b"tried",
        "in/empty.txt": b"",
    }
    left = {
        "in/d.csv": b"1,2\n",
        "in/e.bin": bytes(range(256)),
        "in/.hidden": b"x",
        "in/.git/config": b"y",
    }
    for name, content in (files | left).items():
        put(content, name)
    os.mkfifo("in/pipe")
    dataset = load("in", DataConfig(context=4))
    assert whole(dataset) == "first é\n".encode() + b"second\n" * 30 + b"\n" + b"tried"
    assert (
        "2 files, 'd.csv', 'e.bin'" in dataset.notes[-1] and "byte order mark" in dataset.notes[0]
    )
    put(b"\xff\n", "in/c")
    with pytest.raises(DataError, match="byte 0 of 'c'"):
        load("in", DataConfig(context=4, tokens="char"))


def test_images_come_first_in_a_folder_that_holds_both():
    put(WORDS * 30, "in/readme.txt")
    for i in range(10):
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(f"in/{i}.png")
    assert load("in").spec.kind == "image"


def test_a_folder_without_either():
    put(bytes(range(256)) * 9, "in/a.bin")
    put("a,b\n1,2\n" * 99, "in/b.csv")
    with pytest.raises(DataError, match="neither images nor text"):
        load("in")


# -- the store ------------------------------------------------------------------------------------------------------


def test_tokens_are_made_once(monkeypatch, tmp_path):
    content = WORDS * 30
    digest = opened(content).digest
    status = os.stat("a.txt")
    with monkeypatch.context() as patch:
        patch.setattr(text, "build_store", None)
        assert load("a.txt", DataConfig(context=8)).digest == digest
        assert (
            len(load("a.txt", DataConfig(context=4)).split("train")) > 0
        )  # other windows of the same tokens
    opened(content.replace("Tee", "Eis"))
    os.utime("a.txt", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert load("a.txt", DataConfig(context=8)).digest != digest


def test_a_damaged_store_is_made_anew(tmp_path):
    dataset = opened(WORDS * 30)
    (file,) = (tmp_path / "cache" / "texts").glob("*/x.npy")
    digest = dataset.digest
    del dataset
    raw = bytearray(file.read_bytes())
    raw[-5] ^= 1
    file.write_bytes(raw)
    assert load("a.txt", DataConfig(context=8)).digest == digest


def test_an_unwritable_cache(tmp_path):
    (tmp_path / "cache").write_text("in the way")
    refused(StorageError, WORDS * 30, "set FROMNOISE_CACHE")


def test_a_file_that_grows_while_it_is_read(monkeypatch, tmp_path):
    measure_text = build.measure_text

    def slow(documents):
        size = measure_text(documents)
        with open("a.txt", "ab") as out:
            out.write(b"more \xff")
        return size

    monkeypatch.setattr(build, "measure_text", slow)
    refused(DataError, WORDS * 30, "changed while it was read")
    assert not list((tmp_path / "cache" / "texts").iterdir())


# -- names ----------------------------------------------------------------------------------------------------------


def test_python_docs():
    from pydoc_data.topics import topics

    dataset = load("python-docs")
    assert whole(dataset).decode() == "\n".join(topics[key] for key in sorted(topics))
    assert (
        dataset.spec.shape == (128,)
        and "Python" in dataset.notes[-1]
        and load("python-docs").digest == dataset.digest
    )


@pytest.mark.skipif(
    not SHAKESPEARE.is_file(), reason="FROMNOISE_DATA names no folder with tinyshakespeare in it"
)
def test_tinyshakespeare_as_nanogpt_divides_it():
    dataset = load("tinyshakespeare")
    content = SHAKESPEARE.read_text()
    assert (
        dataset.text("train") == content[:1_003_854]
        and dataset.text("validation") + dataset.text("test") == content[1_003_854:]
    )
    assert len(dataset.text("validation")) == len(dataset.text("test")) == 55_770
    assert dataset.tokenizer.vocabulary == 66 and not dataset.notes


def test_tinyshakespeare_from_the_network(monkeypatch, tmp_path):
    monkeypatch.delenv("FROMNOISE_DATA", raising=False)
    content = b"To be, or not to be. " * 300

    def fetched(urls, sound):
        assert sound(content) and not sound(content[1:])
        return content

    monkeypatch.setattr(text, "SHAKESPEARE_SHA256", hashlib.sha256(content).hexdigest())
    with monkeypatch.context() as patch:
        patch.setattr(text, "fetch", fetched)
        assert whole(load("tinyshakespeare")) == content
    monkeypatch.setattr(
        text, "fetch", lambda *_: (_ for _ in ()).throw(FetchError("no route to host"))
    )
    assert whole(load("tinyshakespeare")) == content  # the cache's
    kept = tmp_path / "cache" / "tinyshakespeare" / "input.txt"
    kept.write_bytes(b"something else")
    with pytest.raises(DataError, match="no route to host.*put its input.txt at .*FROMNOISE_DATA"):
        load("tinyshakespeare")
    put("Not Shakespeare. " * 300, "own/tinyshakespeare/input.txt")
    monkeypatch.setenv("FROMNOISE_DATA", "own")
    assert "could not be verified" in load("tinyshakespeare").notes[-1]


# -- runs and the command line --------------------------------------------------------------------------------------


def run_of(data: dict) -> SimpleNamespace:
    """What is read of a run that recorded these data."""
    return SimpleNamespace(
        path=Path("run"),
        info={"data": data},
        record=SimpleNamespace(data=validate_record(DataRecord, data, "run.json")),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_keeps_its_tokens(kind):
    dataset = opened(WORDS * 30, tokens=kind)
    kept = {
        "name": "a.txt",
        "spec": dataset.spec.to_json(),
        "digest": dataset.digest,
        "class_names": [],
        "binarise": "none",
        "columns": None,
        "tokenizer": json.loads(json.dumps(dataset.tokenizer.to_json())),
        "settings": dataset.settings,
    }
    again = dataset_from_record(run_of(kept))
    assert (
        again.tokenizer.encode(WORDS).tolist() == dataset.tokenizer.encode(WORDS).tolist()
        and again.spec == dataset.spec
    )
    del kept["tokenizer"]  # as runs of images have it, and those of before
    assert dataset_from_record(run_of(kept)).tokenizer is None
    assert load("a.txt", DataConfig(**dataset.settings)).digest == dataset.digest


def test_only_text_has_text():
    with pytest.raises(UsageError, match="'digits' is not text"):
        load("digits").text("train")


def test_data_info_and_list(capsys):
    put(WORDS * 30)
    assert main(["data", "info", "a.txt", "--context", "8", "--tokens", "byte"]) == 0
    out = capsys.readouterr().out
    assert "tokens 8, 256 levels" in out and "tokens: byte" in out
    assert main(["data", "info", "a.txt", "--context", "8", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)["text"]
    assert about["tokens"] == "char" and sum(
        about[part]["characters"] for part in ("train", "validation", "test")
    ) == len(WORDS * 30)
    assert main(["data", "info", "a.txt", "--context", "1"]) == 2
    assert main(["data", "list"]) == 0 and "python-docs" in capsys.readouterr().out
