"""Folders of images: every kind of picture, every kind of damage, one decoding."""

import errno
import json
import os
import resource
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from fromnoise.core.errors import DataError, StorageError, UsageError
from fromnoise.data import DataConfig, load, store
from fromnoise.data.formats.images import Conversion, decode_image
from fromnoise.data.sources import folder

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(path, width=8, height=8, colour=None, **options):
    pixels = RNG.integers(256, size=(height, width, 3), dtype=np.uint8) if colour is None else None
    image = Image.new("RGB", (width, height), colour) if pixels is None else Image.fromarray(pixels)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return image


@pytest.fixture
def pictures(tmp_path):
    """Twelve 8x8 colour pictures."""
    at = tmp_path / "pictures"
    for i in range(12):
        picture(at / f"{i:02}.png")
    return at


def refused(at, kind, *words, **options):
    with pytest.raises(kind) as error:
        load(str(at), DataConfig(**options))
    text = str(error.value)
    assert "\n" not in text and all(word in text for word in words), text
    return text


def decode(image, tmp_path, name="one.png", side=None, crop="centre", grey=False, **options):
    """Through a file: (C, H, W)."""
    image.save(tmp_path / name, **options)
    conversion = Conversion(side or min(image.size), crop, grey)
    return decode_image(tmp_path / name, conversion).pixels


def test_pixels_splits_and_cache(pictures, cache, monkeypatch):
    dataset = load(str(pictures))
    assert dataset.spec.shape == (3, 8, 8) and not dataset.notes and dataset.spec.classes == 0
    assert [len(dataset.split(part)) for part in ("train", "validation", "test")] == [10, 1, 1]
    stored = {bytes(x) for split in dataset.splits.values() for x in split.x}
    given = {np.asarray(Image.open(p)).transpose(2, 0, 1).tobytes() for p in pictures.iterdir()}
    assert stored == given
    assert (
        isinstance(dataset.split("train").x.base, np.memmap | np.ndarray)
        and not dataset.split("train").x.flags.writeable
    )
    assert sorted(p.name for p in (cache / "folders").iterdir()) == [
        next((cache / "folders").iterdir()).name
    ]
    monkeypatch.setattr(folder, "build_store", None)  # a second opening must not decode
    assert load(str(pictures)).digest == dataset.digest


def test_a_change_to_the_folder_or_the_options_is_noticed(pictures):
    digest = load(str(pictures)).digest
    assert load(str(pictures), DataConfig(split_seed=1)).digest != digest
    picture(pictures / "00.png", 8, 8, "red")
    os.utime(pictures / "00.png", (1, 1))
    assert load(str(pictures)).digest != digest


def test_subfolders_are_classes(tmp_path):
    for i in range(12):
        picture(
            tmp_path / "in" / ("zebra/deep/er" if i % 2 else "ant é") / f"n {i} {'x' * 200}.PNG",
            colour=(i, i, 9),
        )
    (tmp_path / "in" / "empty").mkdir()
    dataset = load(str(tmp_path / "in"))
    assert dataset.class_names == ("ant é", "zebra")
    for split in dataset.splits.values():
        assert (split.x[:, 0, 0, 0] % 2 == split.y).all()
    batch = dataset.batch("train", [0, 1])
    assert batch.y.dtype.is_floating_point is False and len(batch) == 2


def test_one_subfolder_is_no_class(tmp_path):
    for i in range(10):
        picture(tmp_path / "in" / "only" / f"{i}.png")
    dataset = load(str(tmp_path / "in"))
    assert dataset.spec.classes == 0 and "one sub-folder only, 'only'" in dataset.notes[0]


def test_what_is_no_image_is_ignored(pictures):
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", ".hidden.png"):
        (pictures / name).write_text("not a picture")
    os.mkfifo(pictures / "pipe.png")  # opening it would wait for ever
    (pictures / "loop").symlink_to(pictures)
    assert sum(map(len, load(str(pictures)).splits.values())) == 12


def test_nothing_to_load(tmp_path, pictures):
    (tmp_path / "empty").mkdir()
    refused(
        tmp_path / "empty", DataError, "empty", "neither images nor text", "put files there", ".png"
    )
    refused(tmp_path / "missing", DataError, "missing")
    refused(tmp_path / "missing/", DataError, "no such file or folder")
    picture(tmp_path / "single" / "a.png")
    refused(tmp_path / "single", DataError, "1 example ", "at least 10")
    picture(pictures / "sub" / "a.png")
    refused(pictures, DataError, "'00.png'", "'sub/a.png'", "move the 12")
    refused(pictures, UsageError, "--label", "leave it out", label="x")


def bomb():
    """A PNG that claims 30,000 x 30,000 pixels in a hundred bytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("text.png", b"hello", "not an image"),
        ("none.png", b"", "empty"),
        ("bomb.png", bomb(), "30000x30000 pixels, more than --max-pixels"),
        ("script.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
        ("new\nline.png", b"", "empty"),
        ("cut.jpg", None, "truncated"),
    ],
)
def test_bad_files_are_named_or_left_out(pictures, name, content, reason):
    if content is None:
        picture(pictures / name, 64, 64)
        content = (pictures / name).read_bytes()[:-700]
    (pictures / name).write_bytes(content)
    refused(pictures, DataError, name.replace("\n", "\\n"), reason, "1 of 13", "--skip-bad")
    dataset = load(str(pictures), DataConfig(skip_bad=True))
    assert sum(map(len, dataset.splits.values())) == 12
    assert "1 of 13 files left out" in dataset.notes[-1] and reason in dataset.notes[-1]


def test_many_bad_files_make_one_line(pictures, cache):
    for i in range(40):
        (pictures / f"bad{i}.png").write_bytes(b"x")
    assert len(refused(pictures, DataError, "40 of 52", "'bad0.png'", "and 20 more")) < 900
    for path in pictures.iterdir():
        path.write_bytes(b"x")
    assert "--skip-bad" not in refused(
        pictures, DataError, "52 of 52", "mend or remove them", skip_bad=True
    )
    assert not list((cache / "folders").iterdir())


def test_a_broken_link_and_an_unreadable_file(pictures):
    (pictures / "gone.png").symlink_to("nowhere")
    refused(pictures, DataError, "'gone.png' (No such file or directory)", "--skip-bad")
    (pictures / "gone.png").unlink()
    (pictures / "00.png").chmod(0)
    if os.access(pictures / "00.png", os.R_OK):
        pytest.skip("this user may read every file: permissions cannot be tested")
    refused(pictures, DataError, "'00.png' (Permission denied)", "--skip-bad")


def test_every_mode_keeps_its_meaning(tmp_path):
    ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    expected = np.rint(ramp / 257)
    for image, name in [
        (Image.fromarray(ramp), "a.png"),
        (Image.fromarray(ramp.astype(np.int32)), "b.tif"),
        (Image.fromarray((ramp / 65535).astype(np.float32)), "c.tif"),
        (Image.fromarray((ramp / 257).astype(np.float32)), "d.tiff"),
    ]:
        pixels = decode(image, tmp_path, name)
        assert (pixels == expected).all(), (name, image.mode)  # scaled, not clipped
    red = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    assert decode(red, tmp_path)[:, 0, 0].tolist() == [255, 127, 127]  # over white
    assert decode(Image.new("LA", (8, 8), (0, 0)), tmp_path).min() == 255
    assert decode(Image.new("1", (8, 8), 1), tmp_path).min() == 255
    clear = Image.new("P", (8, 8), 0)
    clear.putpalette([10, 20, 30])
    assert decode(clear, tmp_path)[:, 0, 0].tolist() == [10, 20, 30]
    assert decode(clear, tmp_path, transparency=0).min() == 255
    cmyk = decode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path, "e.jpg", quality=100)[
        :, 0, 0
    ]
    assert np.abs(cmyk.astype(int) - (255, 0, 0)).max() < 6
    assert decode(Image.new("RGB", (8, 8), (255, 0, 0)), tmp_path, grey=True).tolist() == [
        [[76] * 8] * 8
    ]
    frames = [Image.new("L", (8, 8), level) for level in (50, 200)]
    frames[0].save(tmp_path / "f.gif", save_all=True, append_images=frames[1:])
    assert (decode_image(tmp_path / "f.gif", Conversion(8, "centre", False)).pixels == 50).all()
    with pytest.raises(ValueError, match="not within 0 to 255"):
        decode(Image.fromarray(np.full((8, 8), 1e6, np.float32)), tmp_path, "g.tif")


@pytest.mark.parametrize("suffix", folder.SUFFIXES)
def test_every_format(tmp_path, suffix):
    pixels = decode(
        Image.new("RGB" if suffix != ".pgm" else "L", (8, 8), "white"), tmp_path, "x" + suffix
    )
    assert pixels.shape == (3, 8, 8) and pixels.min() > 250


def test_exif_rotation(tmp_path):
    image = Image.new("RGB", (8, 8), "black")
    image.paste(
        "white", (0, 0, 8, 4)
    )  # the sensor's upper half; orientation 6: turn right by 90 degrees
    exif = Image.Exif()
    exif[274] = 6
    pixels = decode(image, tmp_path, exif=exif)
    assert (pixels[0, :, 4:] == 255).all() and (pixels[0, :, :4] == 0).all()


def test_crop(tmp_path):
    wide = Image.new("RGB", (24, 8), "red")
    wide.paste("blue", (8, 0, 16, 8))
    assert (decode(wide, tmp_path)[2] == 255).all()
    stretched = decode(wide, tmp_path, crop="stretch")
    assert stretched[0, 0, 0] > 200 and stretched[2, 0, 4] > 200
    padded = decode(wide, tmp_path, side=24, crop="pad")
    blue = (8 + 8) / (24 + 24 + 6 + 6)  # of the edge's pixels
    assert padded[:, 0, 0] == pytest.approx([255 * (1 - blue), 0, 255 * blue], abs=1)
    assert (padded[:, 8:16] == np.asarray(wide).transpose(2, 0, 1)).all()


def test_a_large_jpeg_is_averaged_not_sampled(tmp_path):
    check = np.indices((512, 512)).sum(0) % 2 * 255
    pixels = decode(Image.fromarray(check.astype(np.uint8)), tmp_path, "x.jpg", side=16, quality=95)
    assert np.abs(pixels.astype(int) - 127).max() < 12


def test_default_resolution_and_grey_are_noted(tmp_path):
    for i in range(12):
        picture(tmp_path / "in" / f"{i}.png", 100 if i < 7 else 20, 120, (i, i, i))
    dataset = load(str(tmp_path / "in"))
    assert dataset.spec.shape == (1, 64, 64)
    assert (
        "64x64" in dataset.notes[0]
        and "--resolution" in dataset.notes[0]
        and "grey" in dataset.notes[1]
    )
    picture(tmp_path / "in" / "12.png", 100, 120, "red")
    assert load(str(tmp_path / "in")).spec.shape == (3, 64, 64)
    assert load(str(tmp_path / "in"), DataConfig(grey=True, resolution=16)).spec.shape == (
        1,
        16,
        16,
    )


def test_a_damaged_store_is_built_anew(pictures, cache):
    digest = load(str(pictures)).digest
    (at,) = (cache / "folders").iterdir()
    for name, change in [
        ("x.npy", lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])),  # one bit
        ("x.npy", lambda raw: raw[:-5]),
        ("store.json", lambda raw: raw[:-9]),
    ]:
        (at / name).write_bytes(change((at / name).read_bytes()))
        assert load(str(pictures)).digest == digest
        assert sorted(p.name for p in at.iterdir()) == ["store.json", "x.npy"]
        assert list((cache / "folders").iterdir()) == [at]
    os.utime(at / "x.npy", (1, 1))  # touched, not damaged: the digest decides, nothing is decoded
    inode = (at / "x.npy").stat().st_ino
    assert load(str(pictures)).digest == digest and (at / "x.npy").stat().st_ino == inode


def test_the_recorded_digest_is_that_of_the_data_set(pictures, cache):
    dataset = load(str(pictures))
    (record,) = (cache / "folders").glob("*/store.json")
    assert json.loads(record.read_text())["digest"] == dataset.digest
    assert load(str(pictures), DataConfig(binarise="static")).digest != dataset.digest


def test_two_at_once(pictures, cache):
    with ThreadPoolExecutor(4) as pool:
        digests = set(pool.map(lambda _: load(str(pictures)).digest, range(4)))
    assert len(digests) == 1 and len(list((cache / "folders").iterdir())) == 1


def test_a_full_disk_leaves_nothing(pictures, cache, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(
            store, "canonical_json", full
        )  # the rows are written, the store is not yet sealed
        refused(pictures, StorageError, "no room is left", str(cache), "set FROMNOISE_CACHE")
    assert not list((cache / "folders").iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (1000, hard)
        )  # the kernel refuses the rows themselves
        with pytest.raises(StorageError, match="File too large.*set FROMNOISE_CACHE"):
            load(str(pictures))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((cache / "folders").iterdir())


def test_an_unwritable_cache(pictures, cache):
    cache.write_text("a file where the folder should be")
    refused(pictures, StorageError, str(cache), "set FROMNOISE_CACHE")


def test_old_leftovers_are_swept(pictures, cache):
    old, new = cache / "folders" / ".a.tmp", cache / "folders" / ".b.tmp"
    for path in (old, new):
        path.mkdir(parents=True)
    os.utime(old, (1, 1))
    load(str(pictures))
    assert not old.exists() and new.exists()
