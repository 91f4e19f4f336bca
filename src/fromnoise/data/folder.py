"""A folder of images, decoded once into a memory-mapped store in the cache folder.

Unusual: decoding streams. Threads decode (Pillow lets go of the interpreter's lock), the rows go to disk in
the order of the file names, and are copied from there into the order of the splits once it is known which
files are good and whether any has colour. Memory stays flat however large the folder is.

The store's key holds the folder, each file's name, size and time, and the options; a file changed in place
with its size and time kept is not noticed.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.errors import DataError
from ..core.files import canonical_json
from ..core.words import shown
from .dataset import DataConfig, Dataset, image_dataset, refuse, split_rows
from .pictures import attempted, calm_pillow, decoded, size_of
from .store import cache_folder, open_or_build

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
OPTIONS = ("resolution", "crop", "grey", "skip_bad", "max_pixels", "split_seed", "validation", "test")
LARGEST_DEFAULT = 64  # pixels a side where the user names none: what a laptop trains in minutes
CHUNK = 64  # images that are decoded before they are written: 200 MB at the largest resolution


@dataclass(frozen=True)
class File:
    """path; name: relative to the folder; group: the first folder in it, or "" at the top."""

    path: Path
    name: str
    group: str


def load(name: str, config: DataConfig) -> Dataset:
    """Images of one size, uint8 levels 0 .. 255; sub-folders are classes.

    Raises DataError (nothing there, unreadable files, mixed levels), UsageError, and StorageError when the
    cache cannot be written.
    """
    refuse(config, "a folder of images", "binarise", *OPTIONS)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise DataError(f"data {shown(name)}: no such folder; name a folder that holds images")
    files = sorted(_find(folder), key=lambda file: os.fsencode(file.name))
    if not files:
        raise DataError(
            f"data {shown(name)}: neither images nor text in this folder; put files there that end in {' '.join(SUFFIXES)}, or text in UTF-8"
        )
    loose, grouped = [f for f in files if not f.group], [f for f in files if f.group]
    if loose and grouped:
        raise DataError(
            f"data {shown(name)}: images both at the top ({shown(loose[0].name)}) and in sub-folders "
            f"({shown(grouped[0].name)}); sub-folders are classes: move the {len(loose)} at the top into one"
        )
    store = open_or_build(
        cache_folder("folders", _key(folder, files, config)), lambda at: _build(at, name, files, config)
    )
    digest = {"digest": store.digest} if config.binarise == "none" else {}
    return image_dataset(
        name,
        store.splits(),
        len(store.class_names),
        config,
        class_names=store.class_names,
        notes=store.notes,
        **digest,
    )


def pictures(folder: Path, n: int, side: int, channels: int, config: DataConfig) -> np.ndarray:
    """The first n images of a folder as uint8 (n, channels, side, side), brought there as ``config`` says.

    Raises DataError, naming a file that cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{shown(folder)}: no such folder; name a folder that holds images")
    files = sorted(_find(folder), key=lambda file: os.fsencode(file.name))[:n]
    if not files:
        raise DataError(f"{shown(folder)}: no images in this folder")
    found = []
    with calm_pillow():
        for file in files:
            pixels = attempted(lambda path: (size_of(path, config.max_pixels), decoded(path, side, config.crop, channels == 1))[1], file.path)
            if isinstance(pixels, str):
                raise DataError(f"{shown(file.name)} cannot be read ({pixels}): take it out of the folder")
            found.append(pixels)
    return np.stack(found)


def _find(folder: Path) -> Iterator[File]:
    """Every image file at any depth; links are followed, but not back into a folder that they are in."""
    todo: list[tuple[Path, str, frozenset]] = [(folder, "", frozenset())]
    while todo:
        at, prefix, above = todo.pop()
        try:
            status = at.stat()
            if (identity := (status.st_dev, status.st_ino)) in above:
                continue
            entries = list(os.scandir(at))
        except OSError as error:
            raise DataError(
                f"cannot read the folder {shown(at, 200)} ({error.strerror}): mend its permissions"
            ) from error
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                todo.append((at / entry.name, name + "/", above | {identity}))
            elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or entry.is_symlink()):
                yield File(at / entry.name, name, name.split("/")[0] if prefix else "")


def _key(folder: Path, files: list[File], config: DataConfig) -> str:
    h = hashlib.sha256(os.fsencode(folder.resolve()))
    h.update(canonical_json(config.model_dump(include=set(OPTIONS))).encode())
    for file in files:
        try:
            status = file.path.stat()
            stamp = (status.st_size, status.st_mtime_ns, status.st_mode)
        except OSError:
            stamp = ()
        h.update(os.fsencode(file.name) + f"\0{stamp}\n".encode())
    return h.hexdigest()[:32]


def _build(at: Path, name: str, files: list[File], config: DataConfig) -> dict:
    """Writes x.npy and y.npy into the folder ``at``; returns what the store records about them."""
    bad: dict[str, str] = {}
    with calm_pillow(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        sizes = []
        for file, size in _in_order(pool, lambda path: size_of(path, config.max_pixels), files):
            if isinstance(size, str):
                bad[file.name] = size
            else:
                sizes.append((file, size))
        _judge(bad, name, files, config)
        side = config.resolution or _usual_side([size for _, size in sizes], config)
        channels, good, all_grey = 1 if config.grey else 3, [], True
        with open(at / "raw", "wb") as out:
            decode = lambda path: decoded(path, side, config.crop, config.grey)
            for file, pixels in _in_order(pool, decode, [file for file, _ in sizes]):
                if isinstance(pixels, str):
                    bad[file.name] = pixels
                    continue
                good.append(file)
                all_grey = all_grey and bool((pixels == pixels[:1]).all())
                out.write(pixels)
    _judge(bad, name, files, config)

    rows = split_rows(len(good), config)
    order = np.concatenate(list(rows.values()))
    raw = np.memmap(at / "raw", np.uint8, "r", shape=(len(good), channels, side, side))
    kept = 1 if all_grey else channels
    with open(at / "x.npy", "wb") as out:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(good), kept, side, side)}
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(order), CHUNK):
            out.write(np.ascontiguousarray(raw[order[start : start + CHUNK], :kept]))
    del raw
    (at / "raw").unlink()

    groups = sorted({file.group for file in good}, key=os.fsencode)
    class_names = (
        tuple(os.fsencode(group).decode(errors="replace") for group in groups) if len(groups) > 1 else ()
    )
    if class_names:
        np.save(at / "y.npy", np.array([groups.index(good[row].group) for row in order], np.int64))
    notes = []
    if config.resolution is None and any(size != (side, side) for _, size in sizes):
        notes.append(
            f"images are brought to {side}x{side} pixels ({config.crop}); --resolution sets another side"
        )
    if all_grey and not config.grey:
        notes.append("every image is grey: stored with one channel")
    if groups[0] and not class_names:
        notes.append(f"one sub-folder only, {shown(groups[0])}: the images have no labels")
    if bad:
        notes.append(
            f"{len(bad)} of {len(files)} files left out: "
            + "; ".join(f"{shown(k)} ({v})" for k, v in sorted(bad.items()))
        )
    return {
        "counts": {part: len(index) for part, index in rows.items()},
        "class_names": class_names,
        "notes": notes,
    }


def _judge(bad: dict[str, str], name: str, files: list[File], config: DataConfig) -> None:
    """Raises DataError if files are bad that may not be left out, or if none is good."""
    if len(bad) == len(files) or (bad and not config.skip_bad):
        first = ", ".join(f"{shown(k)} ({v})" for k, v in sorted(bad.items())[:3])
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        mend = "mend or remove them" + (
            ", or leave them out with --skip-bad" if len(bad) < len(files) else ""
        )
        raise DataError(
            f"data {shown(name)}: {len(bad)} of {len(files)} images cannot be used: {first}{more}; {mend}"
        )


def _in_order(pool, work: Callable, files: list[File]) -> Iterator[tuple]:
    """(file, result or reason why there is none), a few files at a time so that results do not pile up."""
    attempt = lambda file: attempted(work, file.path)
    for start in range(0, len(files), CHUNK):
        part = files[start : start + CHUNK]
        yield from zip(part, pool.map(attempt, part))


def _usual_side(sizes: list[tuple[int, int]], config: DataConfig) -> int:
    """The most common side of the images once they are square, the larger one on a tie; 4 to 64."""
    counts = Counter(map(max if config.crop == "pad" else min, sizes))
    side = max(counts, key=lambda side: (counts[side], side))
    return min(max(side, 4), LARGEST_DEFAULT)
