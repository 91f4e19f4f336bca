"""Pictures and texts: whatever is read in another way than its owner may expect is said, and has an option that mends it."""

import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw

import fromnoise as fn
from fromnoise.cli import main
from fromnoise.core.errors import DataError, UsageError
from fromnoise.data import DataConfig, load
from fromnoise.data.formats.images import _formats


def picture(path, i=0, format=None, mode="RGB"):
    image = Image.new("RGB", (16, 16), (30, 90, 200))
    ImageDraw.Draw(image).ellipse([i % 9, 4, i % 9 + 4, 4 + i % 7 + 2], fill=(240, 120, 20))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.convert(mode).save(path, format=format)


def some(folder, n, start=0, ending="png"):
    for i in range(start, start + n):
        picture(folder / f"{i:03}.{ending}", i)


def opened(path, **options):
    return load(str(path), DataConfig(**options))


def count(dataset):
    return {part: len(split) for part, split in dataset.splits.items()}


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


# -- endings ---------------------------------------------------------------------------------------------------


def test_whatever_pillow_reads_is_read_whatever_it_is_called(tmp_path):
    formats = [
        ("jpg", "JPEG"),
        ("jfif", "JPEG"),
        ("", "PNG"),
        ("dat", "GIF"),
        ("txt", "WEBP"),
        ("tga", "TGA"),
        ("ico", "ICO"),
        ("pcx", "PCX"),
        ("sgi", "SGI"),
        ("dds", "DDS"),
        ("JPE", "MPO"),
    ]
    formats += [
        (ending, kind)
        for ending, kind in (("jp2", "JPEG2000"), ("avif", "AVIF"), ("qoi", "QOI"))
        if kind in _formats() and kind in Image.SAVE
    ]
    for i, (ending, kind) in enumerate(formats):
        picture(tmp_path / "p" / (f"{i}.{ending}" if ending else f"{i}"), i, kind)
    dataset = opened(tmp_path / "p", resolution=16)
    assert sum(count(dataset).values()) == len(formats) and not any(
        "left out" in note for note in dataset.notes
    )


def test_what_is_left_out_is_counted_by_ending_and_reason(tmp_path):
    some(tmp_path / "p", 12)
    for name, content in (
        ("a.heic", b"\0\0\0\x18ftypheic" + b"\1\xff\2\0\3" * 20),
        ("b.heic", b"\0\0\0\x18ftypheic" + b"\1\xff\2\0\3" * 20),
        ("notes.md", b"text"),
        ("none", b""),
        ("more.zip", b"PK\x03\x04" + b"\1\xff\2\0\3" * 9),
        ("raw.bin", b"\1\xff\2\0\3" * 9),
    ):
        (tmp_path / "p" / name).write_bytes(content)
    said = note(opened(tmp_path / "p"), "left out")
    for words in (
        "2 .heic (not read here: convert it",
        "1 .md (text)",
        "1 without an ending (empty)",
        "1 .zip (a zip archive: unpack it first)",
        "1 .bin (unknown)",
    ):
        assert words in said
    for path in (tmp_path / "p").glob("*.png"):
        path.unlink()
    (tmp_path / "p" / "notes.md").unlink()
    refused(tmp_path / "p", "neither images nor text", "2 .heic")


def test_a_folder_of_texts_with_an_icon_is_still_text(tmp_path):
    for i in range(9):
        (tmp_path / "t").mkdir(exist_ok=True)
        (tmp_path / "t" / f"{i}.txt").write_text("some words " * 50)
    picture(tmp_path / "t" / "favicon.ico", format="ICO")
    assert opened(tmp_path / "t").spec.kind == "tokens"


def test_labels_and_captions_that_are_ignored_are_said(tmp_path):
    some(tmp_path / "p" / "00000", 12)
    (tmp_path / "p" / "dataset.json").write_text(json.dumps({"labels": []}))
    (tmp_path / "p" / "metadata.csv").write_text("file_name,text\n")
    for i in range(12):
        (tmp_path / "p" / "00000" / f"{i:03}.txt").write_text("a ball")
    dataset = opened(tmp_path / "p")
    note(dataset, "'dataset.json' is ignored", "labels")
    note(dataset, "13 files beside the images ignored", "captions")
    assert not any("left out" in line for line in dataset.notes)


def test_names_of_folders_that_are_no_utf8_stay_different_and_are_said(tmp_path):
    for name in (b"cl\xe4ss", b"cl\xebss", "größe".encode()):
        folder = os.fsencode(tmp_path / "p") + b"/" + name
        os.makedirs(folder)
        for i in range(6):
            with open(folder + b"/%d\xff.png" % i, "wb") as file:
                Image.new("L", (8, 8), 40 * i).save(file, "PNG")
    (tmp_path / "p" / os.fsdecode(b"note\xff.md")).write_text("text")
    dataset = opened(tmp_path / "p")
    assert set(dataset.class_names) == {"cläss", "clëss", "größe"}
    note(dataset, "not UTF-8", "'cläss', 'clëss'")
    assert (
        main(
            [
                "train",
                "vae",
                "--data",
                str(tmp_path / "p"),
                "--conditional",
                "--steps",
                "1",
                "--out",
                "r",
            ]
        )
        == 0
    )
    assert main(["sample", "r", "--label", "clëss", "-n", "2", "-o", "s.png"]) == 0


def test_archives_say_that_they_are_to_be_unpacked(tmp_path):
    some(tmp_path / "p", 12)
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for path in (tmp_path / "p").iterdir():
            archive.write(path)
    refused(tmp_path / "p.zip", "zip archive", "unpack it first")
    (tmp_path / "t.csv.gz").write_bytes(b"\x1f\x8b" + bytes(40))
    refused(tmp_path / "t.csv.gz", "gzip", "unpack it first")
    (tmp_path / "t.xlsx").write_bytes((tmp_path / "p.zip").read_bytes())
    refused(tmp_path / "t.xlsx", "CSV")
    assert opened(tmp_path / "p.zip", tokens="byte").spec.kind == "tokens"


def test_all_damaged_files_are_listed_at_once(tmp_path):
    some(tmp_path / "p", 12, ending="jpg")
    raw = (tmp_path / "p" / "003.jpg").read_bytes()
    for name, content in (("003", raw[: len(raw) * 2 // 3]), ("004", b"<html>"), ("005", b"")):
        (tmp_path / "p" / f"{name}.jpg").write_bytes(content)
    refused(tmp_path / "p", "3 of 12", "'003.jpg'", "'004.jpg'", "'005.jpg'", "--skip-bad")


# -- values and backgrounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_pictures_that_use_little_of_their_range_are_said_and_can_be_spread(tmp_path, bits):
    values = np.random.default_rng(0).integers(40, 2**bits, (12, 16, 16)).astype(np.uint16)
    values[0, 0, :2] = (40, 2**bits - 1)
    (tmp_path / "p").mkdir()
    for i, one in enumerate(values):
        Image.fromarray(one).save(tmp_path / "p" / f"{i:02}.png")
    full = opened(tmp_path / "p")
    note(full, f"use {100 * (2**bits - 1) / 65535:.0f} % of the range", "dark", "--range data")
    spread = opened(tmp_path / "p", range="data")
    assert not any("use " in line for line in spread.notes)
    note(spread, f"stand for values 40 to {2**bits - 1}", "value = 40 + level")
    levels = np.concatenate([split.x[:, 0] for split in spread.splits.values()]).astype(float)
    back = sorted((40 + levels * (2**bits - 1 - 40) / 255).ravel())
    assert np.abs(np.array(back) - np.sort(values.ravel())).max() <= 0.51 * 2**bits / 255
    assert (
        spread.settings["range"] == f"40:{2**bits - 1}"
    )  # what a run records does not depend on the files
    assert opened(tmp_path / "p", range=spread.settings["range"]).digest == spread.digest
    with pytest.warns(UserWarning, match="stand for values"):
        run = fn.train("vae", str(tmp_path / "p"), range="data", steps=1)
    assert main(["verify", str(run.path)]) == 0


def test_values_beyond_their_type_are_read_with_the_range_of_the_data(tmp_path):
    (tmp_path / "p").mkdir()
    for i in range(12):
        Image.fromarray(
            (np.random.default_rng(i).normal(size=(8, 8)) * 500).astype(np.float32)
        ).save(tmp_path / "p" / f"{i:02}.tif")
    refused(tmp_path / "p", "not within", "--range data")
    assert opened(tmp_path / "p", range="data").split("train").x.std() > 20
    note(opened(tmp_path / "p", range="-100.5:1e3"), "-100.5 to 1000")
    refused(tmp_path / "p", "below", range="3:2", kind=UsageError)
    with pytest.raises(UsageError):
        fn.train("vae", str(tmp_path / "p"), range="much")


def test_ordinary_pictures_are_not_called_dark(tmp_path):
    some(tmp_path / "p", 12)
    assert opened(tmp_path / "p").notes == ()


def test_white_sprites_on_nothing_are_said_and_have_another_background(tmp_path):
    (tmp_path / "p").mkdir()
    for i in range(20):
        image = Image.new("RGBA", (16, 16), (0,) * 4)
        ImageDraw.Draw(image).ellipse([i % 10, 3, i % 10 + 4, 9], fill="white")
        image.save(tmp_path / "p" / f"{i}.png")
    white = opened(tmp_path / "p")
    note(white, "20 of 20 images are exactly the same", "another --background")
    note(white, "20 of 20 images are transparent", "over white")
    for colour, ground in (("black", (0, 0, 0)), ("#ff0080", (255, 0, 128))):
        dataset = opened(tmp_path / "p", background=colour)
        x = dataset.split("train").x
        assert (
            tuple(x[0, :, 15, 15][[0, -1]]) == (ground[0], ground[2])
            and len({one.tobytes() for one in x}) > 5
        )
        assert (
            not any("exactly the same" in line for line in dataset.notes)
            and dataset.settings["background"] == colour
        )


def sprite(path, background_alpha, place):
    """A white square at that place on transparent ground."""
    image = Image.new("RGBA", (16, 16), (255, 255, 255, background_alpha))
    ImageDraw.Draw(image).rectangle([place, 4, place + 7, 11], fill="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def test_a_background_is_blamed_for_equal_pictures_only_where_it_hides_something(tmp_path):
    for i in range(12):
        sprite(tmp_path / "alike" / f"{i}.png", 0, 4)
        sprite(tmp_path / "moving" / f"{i}.png", 0, i % 8)
        sprite(tmp_path / "nothing" / f"{i}.png", 0, 40)
        sprite(tmp_path / "veil" / f"{i}.png", 128, 4)
    for name, background, blamed in (
        ("alike", "black", False),
        ("alike", "#00ff00", False),
        ("alike", "white", True),
        ("moving", "white", True),
        ("nothing", "black", False),
        ("veil", "black", False),
        ("veil", "white", True),
    ):
        said = note(
            opened(tmp_path / name, background=background), "12 of 12 images are exactly the same"
        )
        assert ("vanishes" in said) == blamed, (name, background, said)
    assert not any(
        "exactly the same" in line for line in opened(tmp_path / "moving", background="black").notes
    )


def test_folders_without_a_picture_are_said(tmp_path):
    for i, group in enumerate("ab"):
        some(tmp_path / "p" / group, 8, 8 * i)
    for name in ("c_empty", "d/deep/er", ".hidden", "a/inner"):
        (tmp_path / "p" / name).mkdir(parents=True)
    (tmp_path / "p" / "e").mkdir()
    (tmp_path / "p" / "e" / "notes.md").write_text("text")
    dataset = opened(tmp_path / "p")
    assert dataset.class_names == ("a", "b")
    assert note(dataset, "without an image").endswith(": 'a/inner', 'c_empty', 'd', 'e'")
    assert opened(tmp_path / "p").notes == dataset.notes  # from the store, too
    (tmp_path / "q" / "empty").mkdir(parents=True)
    some(tmp_path / "q", 12)
    note(opened(tmp_path / "q"), "without an image", "'empty'")


def test_a_class_is_not_lost_in_silence_with_its_bad_pictures(tmp_path):
    for i, group in enumerate("ab"):
        some(tmp_path / "p" / group, 8, 8 * i)
    (tmp_path / "p" / "c").mkdir()
    for i in range(2):
        (tmp_path / "p" / "c" / f"{i}.png").write_bytes(b"no picture")
    refused(tmp_path / "p", "--skip-bad")
    dataset = opened(tmp_path / "p", skip_bad=True)
    assert dataset.class_names == ("a", "b")
    note(dataset, "class lost", "'c' (2 files)")


def test_opaque_pictures_with_an_alpha_channel_are_not_called_transparent(tmp_path):
    for i in range(12):
        picture(tmp_path / "p" / f"{i}.png", i, mode="RGBA")
    assert not opened(tmp_path / "p").notes


def test_the_first_of_several_frames_is_said(tmp_path):
    some(tmp_path / "p", 11)
    frames = [Image.new("L", (16, 16), 60 * i) for i in range(3)]
    frames[0].save(tmp_path / "p" / "moving.gif", save_all=True, append_images=frames[1:])
    note(opened(tmp_path / "p"), "1 of 12 files hold several images")


# -- splits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "train, validation, test",
    [
        ("train", "val", "test"),
        ("Training", "validation", "Testing"),
        ("train", "dev", "test"),
        ("train", "valid", None),
        ("train", None, "test"),
    ],
)
@pytest.mark.parametrize(
    "layout", ["{part}/{group}", "data/images/{part}/{group}", "{group}/{part}", "{part}"]
)
def test_folders_named_after_splits_are_the_splits(tmp_path, train, validation, test, layout):
    place, given = 0, {"train": (train, 20), "validation": (validation, 6), "test": (test, 8)}
    for part, n in given.values():
        for group in ("ball", "box") if part else ():
            some(tmp_path / "p" / layout.format(part=part, group=group), n // 2, place)
            place += n // 2
    dataset = opened(tmp_path / "p")
    sizes = count(dataset)
    assert dataset.class_names == (("ball", "box") if "group" in layout else ())
    assert sizes["train"] + sizes["validation"] + sizes["test"] == place
    for part, (folder, n) in given.items():
        if folder and part != "train":
            assert sizes[part] == n
    said = note(dataset, "taken for the splits")
    assert ("drawn from train" in said) == (None in (validation, test))
    if validation:
        refused(
            tmp_path / "p", "--validation", "leave the option out", validation=0.2, kind=UsageError
        )


def test_the_pictures_of_a_split_are_those_of_its_folder(tmp_path):
    for part, colour in (("train", 10), ("val", 90), ("test", 200)):
        (tmp_path / "p" / part).mkdir(parents=True)
        for i in range(10):
            Image.new("L", (8, 8), colour + i).save(tmp_path / "p" / part / f"{i}.png")
    dataset = opened(tmp_path / "p")
    for part, colour in (("train", 10), ("validation", 90), ("test", 200)):
        assert sorted(dataset.split(part).x[:, 0, 0, 0]) == list(range(colour, colour + 10))


def test_a_test_folder_without_classes_is_left_out_aloud(tmp_path):
    for group in ("ball", "box"):
        some(tmp_path / "p" / "train" / group, 20)
    some(tmp_path / "p" / "test", 7)
    dataset = opened(tmp_path / "p")
    note(dataset, "7 images for test are left out")
    assert sum(count(dataset).values()) == 40 and dataset.class_names == ("ball", "box")


def test_folders_that_are_not_all_splits_stay_classes_and_that_is_said(tmp_path):
    for group in ("train", "test", "bus"):
        some(tmp_path / "p" / group, 6)
    dataset = opened(tmp_path / "p")
    assert dataset.class_names == ("bus", "test", "train")
    note(dataset, "not taken for splits", "'bus'")
    for group in ("test", "exam"):
        some(tmp_path / "q" / group, 6)
    assert (
        opened(tmp_path / "q").class_names == ("exam", "test") and not opened(tmp_path / "q").notes
    )


def test_a_class_that_only_held_out_pictures_have_is_said(tmp_path):
    for part, groups in (("train", ("a", "b")), ("test", ("a", "c"))):
        for group in groups:
            some(tmp_path / "p" / part / group, 8)
    note(opened(tmp_path / "p"), "without a training example", "'c' (8)")


def test_rare_classes_have_a_training_example(tmp_path):
    start = 0
    for group, n in (("many", 60), ("few", 4), ("rare", 1), ("rarest", 1)):
        some(tmp_path / "p" / group, n, start)
        start += n
    for seed in range(8):
        dataset = opened(tmp_path / "p", split_seed=seed)
        assert (np.bincount(dataset.split("train").y, minlength=4) > 0).all() and sum(
            count(dataset).values()
        ) == 66
        assert "'rare' (1)" in note(dataset, "no validation or test example measures them")
        assert opened(tmp_path / "p", split_seed=seed).digest == dataset.digest


# -- texts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "encoding, words",
    [
        ("cp1252", "cp1252"),
        ("latin-1", "Latin-1"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
    ],
)
@pytest.mark.parametrize("tokens", ["auto", "char", "bpe"])
def test_texts_in_other_encodings_are_read_with_a_note(tmp_path, encoding, words, tokens):
    told = "naïve façade, " * 200 + ("" if encoding == "latin-1" else "“five €” – " * 20)
    (tmp_path / "t.txt").write_bytes(told.encode(encoding))
    dataset = opened(tmp_path / "t.txt", tokens=tokens, context=8)
    note(dataset, words, "samples are written as UTF-8")
    read = "".join(dataset.text(part) for part in ("train", "validation", "test"))
    assert read == told if tokens == "bpe" else set(read) <= {*told, "\N{REPLACEMENT CHARACTER}"}
    assert b"".join(
        opened(tmp_path / "t.txt", tokens="byte", context=8).bytes(part)
        for part in ("train", "validation", "test")
    ) == told.encode(encoding)


def test_texts_of_a_folder_may_differ_in_their_encoding(tmp_path):
    (tmp_path / "t").mkdir()
    for name, encoding in (("a.txt", "utf-8"), ("b.txt", "cp1252"), ("c.txt", "utf-16")):
        (tmp_path / "t" / name).write_bytes(("five € " * 60).encode(encoding))
    dataset = opened(tmp_path / "t", context=8)
    note(dataset, "'b.txt'", "cp1252")
    note(dataset, "'c.txt'", "UTF-16")
    assert "€" in dataset.tokenizer.characters and dataset.tokenizer.vocabulary < 12


def test_texts_named_after_splits_are_said_to_be_divided_anew(tmp_path):
    (tmp_path / "t").mkdir()
    for name in ("train.txt", "valid.txt", "test.txt"):
        (tmp_path / "t" / name).write_text("some words " * 60)
    note(opened(tmp_path / "t", context=8), "divided anew")
