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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...core.errors import DataError, UsageError
from ...core.json_files import canonical_json
from ...core.rng import Rng
from ...core.words import shown
from ..config import DataConfig, refuse_options
from ..dataset import Dataset
from ..formats.encoding import archive_kind, encoding_of
from ..formats.pictures import (
    attempted,
    calm_pillow,
    decoded,
    extremes,
    is_picture,
    picture,
    size_of,
)
from ..image_dataset import image_dataset
from ..splits import SPLITS, note_classes_without_examples, split_rows
from ..store import cache_folder, open_or_build

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
OPTIONS = (
    "resolution",
    "crop",
    "grey",
    "skip_bad",
    "max_pixels",
    "background",
    "range",
    "split_seed",
    "validation",
    "test",
)
WAY = (
    b"3"  # of reading a folder: part of the key, so that a store of an earlier version is not taken
)
PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
}
LISTED = 20  # files that one message names
NARROW = 0.51  # share of the range of values, up to which the pictures' use of it is said
SAME = 0.5  # share of the pictures that are exactly the same, from which on that is said
LARGEST_DEFAULT = 64  # pixels a side where the user names none: what a laptop trains in minutes
CHUNK = 64  # images that are decoded before they are written: 200 MB at the largest resolution


@dataclass(frozen=True)
class File:
    """path; name: relative to the folder; group: the first folder in it, or "" at the top; part: the split that its folder names, or ""."""

    path: Path
    name: str
    group: str
    part: str = ""


def load(name: str, config: DataConfig) -> Dataset:
    """Images of one size, uint8 levels 0 .. 255; sub-folders are classes.

    Raises DataError (nothing there, unreadable files, mixed levels), UsageError, and StorageError when the
    cache cannot be written.
    """
    refuse_options(config, "a folder of images", "binarise", *OPTIONS)
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise DataError(f"data {shown(name)}: no such folder; name a folder that holds images")
    others: list[str] = []
    visited: list[str] = []
    files = sorted(_find(folder, others, visited), key=lambda file: os.fsencode(file.name))
    notes = _left_out(folder, files, others) + _without_pictures(files, visited)
    if not files:
        raise DataError(
            f"data {shown(name)}: neither images nor text in this folder; put files there, such as {' '.join(SUFFIXES)}, or text in UTF-8"
            + "".join(f" ({note})" for note in notes)
        )
    files = _arranged(name, files, config, notes)
    store = open_or_build(
        cache_folder("folders", _key(folder, files, config)),
        lambda at: _build(at, name, files, config),
    )
    digest = {"digest": store.digest} if config.binarise == "none" else {}
    config = config.model_copy(update={"range": store.about.get("range", config.range)})
    return image_dataset(
        name,
        store.splits(),
        store.class_names,
        config,
        notes=(*notes, *store.notes),
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
            how = (side, config.crop, channels == 1, config.background, _span(config.range))
            pixels = attempted(
                lambda path: (size_of(path, config.max_pixels), decoded(path, *how))[1], file.path
            )
            if isinstance(pixels, str):
                raise DataError(
                    f"{shown(file.name)} cannot be read ({pixels}): take it out of the folder"
                )
            found.append(pixels)
    return np.stack(found)


def _find(
    folder: Path, others: list[str] | None = None, visited: list[str] | None = None
) -> Iterator[File]:
    """Every image file at any depth; links are followed, but not back into a folder that they are in.

    A file with an ending of SUFFIXES is taken for an image, and any other one if its content is. others: takes the names of the rest;
    visited: takes the names of the folders in it.
    """
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
        if visited is not None and prefix:
            visited.append(prefix.removesuffix("/"))
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                todo.append((at / entry.name, name + "/", above | {identity}))
            elif entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or entry.is_symlink()):
                yield File(at / entry.name, name, name.split("/")[0] if prefix else "")
            elif entry.is_file() and is_picture(at / entry.name):
                yield File(at / entry.name, name, name.split("/")[0] if prefix else "")
            elif others is not None and (entry.is_file() or entry.is_symlink()):
                others.append(name)


def _left_out(folder: Path, files: list[File], others: list[str]) -> list[str]:
    """A line each about labels, captions and other files beside the pictures that are not read."""
    stems, notes = {os.path.splitext(file.name)[0] for file in files}, []
    base = [os.path.basename(name).lower() for name in others]
    labels = [name for name, short in zip(others, base) if short == "dataset.json"]
    captions = [
        name
        for name, short in zip(others, base)
        if short in ("metadata.csv", "metadata.jsonl", "metadata.parquet")
        or short.endswith((".txt", ".caption", ".json"))
        and os.path.splitext(name)[0] in stems
    ]
    if labels:
        notes.append(
            f"{shown(labels[0])} is ignored: labels are not read from it; pictures in one sub-folder for each class have labels"
        )
    if captions:
        notes.append(
            f"{len(captions)} file{'s' * (len(captions) > 1)} beside the pictures ignored, such as {shown(captions[0])}: captions are not read"
        )
    rest = Counter(
        (os.path.splitext(name)[1].lower(), _what(folder / name))
        for name in others
        if name not in {*labels, *captions}
    )
    if rest:
        kinds = [
            f"{count} {ending or 'without an ending'} ({what})"
            for (ending, what), count in rest.most_common(LISTED)
        ]
        notes.append(
            f"files left out, since they are no pictures: {', '.join(kinds)}{' ...' * (len(rest) > LISTED)}"
        )
    return notes


def _without_pictures(files: list[File], visited: list[str]) -> list[str]:
    """A line about the folders without a picture at any depth, those within one of them aside."""
    filled = {""}
    for file in files:
        above = file.name
        while (above := above.rpartition("/")[0]) not in filled:
            filled.add(above)
    empty = sorted(
        name for name in visited if name not in filled and name.rpartition("/")[0] in filled
    )
    if not empty or not files:
        return []
    more = f" and {len(empty) - LISTED} more" if len(empty) > LISTED else ""
    return [
        f"folder{'s' * (len(empty) > 1)} left out, without a picture: {', '.join(map(shown, empty[:LISTED]))}{more}"
    ]


def _what(path: Path) -> str:
    """What a file is that is no picture, in words."""
    if not path.is_file():
        return "a broken link"
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        return error.strerror or "cannot be read"
    if not head:
        return "empty"
    if kind := archive_kind(head):
        return f"{kind}: unpack it first"
    if head[4:8] == b"ftyp":
        return "not read here: convert it to PNG or JPEG"
    return "unknown" if b"\0" in head or encoding_of(head, [head]) else "text"


def _arranged(name: str, files: list[File], config: DataConfig, notes: list[str]) -> list[File]:
    """The files with the splits and classes that their folders name. Raises DataError on pictures beside folders of classes, UsageError.

    Folders named as in PARTS, one of them for training, are splits if every picture is in one: at the top, within one folder that
    holds everything, or within each class.
    """
    folders = [file.name.split("/")[:-1] for file in files]
    above = len(os.path.commonprefix(folders))
    for place, group in ((above, above + 1), (above + 1, above)):
        parts = _parts_at(folders, place)
        if all(parts) and "train" in parts and len(set(parts)) > 1:
            files = [
                replace(file, part=part, group=dirs[group] if len(dirs) > group else "")
                for file, part, dirs in zip(files, parts, folders)
            ]
            return _as_splits(name, files, config, notes)
    parts = _parts_at(folders, above)
    known = sorted({dirs[above] for dirs, part in zip(folders, parts) if part})
    if len(known) > 1 and "train" in parts:
        other = next(
            dirs[above] if len(dirs) > above else file.name
            for dirs, file, part in zip(folders, files, parts)
            if not part
        )
        notes.append(
            f"folders {', '.join(map(shown, known))} are not taken for splits, since {shown(other)} lies beside them"
        )
    _refuse_mixed(name, files)
    return files


def _parts_at(folders: list[list[str]], place: int) -> list[str]:
    """The split that each file's folder at this depth names, or ""."""
    return [PARTS.get(dirs[place].lower(), "") if len(dirs) > place else "" for dirs in folders]


def _as_splits(name: str, files: list[File], config: DataConfig, notes: list[str]) -> list[File]:
    """The files of folders that are splits, with notes on what they hold. Raises DataError, UsageError."""
    held_out = {
        part: [file for file in files if file.part == part]
        for part in ("train", "validation", "test")
    }
    for part, inside in held_out.items():
        if inside and part != "train" and getattr(config, part) is not None:
            raise UsageError(
                f"--{part}: data {shown(name)} has a folder for it: leave the option out"
            )
        _refuse_mixed(name, inside)
    for part, inside in held_out.items():
        if inside and held_out["train"][0].group and not inside[0].group:
            notes.append(
                f"the {len(inside)} pictures for {part} are left out: they are not in folders of classes, as those for training are"
            )
            held_out[part] = []
        elif inside and inside[0].group and not held_out["train"][0].group:
            held_out[part] = [replace(file, group="") for file in inside]
    sizes = ", ".join(f"{part} {len(inside)}" for part, inside in held_out.items() if inside)
    missing = [part for part, inside in held_out.items() if not inside]
    drawn = f"; {' and '.join(missing)} drawn from train" if missing else ""
    notes.append(f"folders are taken for the splits that they are named after: {sizes}{drawn}")
    return sorted(
        (file for inside in held_out.values() for file in inside),
        key=lambda file: os.fsencode(file.name),
    )


def _refuse_mixed(name: str, files: list[File]) -> None:
    """Raises DataError on pictures beside folders of classes."""
    loose, grouped = [f for f in files if not f.group], [f for f in files if f.group]
    if loose and grouped:
        raise DataError(
            f"data {shown(name)}: images both at the top ({shown(loose[0].name)}) and in sub-folders "
            f"({shown(grouped[0].name)}); sub-folders are classes: move the {len(loose)} at the top into one"
        )


def _span(text: str) -> tuple[float, float] | None:
    """The values that LOW:HIGH names, None for the range of the type. Raises UsageError."""
    if ":" not in text:
        return None
    low, high = map(float, text.split(":"))
    if low >= high:
        raise UsageError(f"--range {text}: the first value must be below the second")
    return low, high


def _key(folder: Path, files: list[File], config: DataConfig) -> str:
    h = hashlib.sha256(os.fsencode(folder.resolve()) + WAY)
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
        if not sizes:
            _judge(bad, name, files, config)
        span = (
            _measured_span(pool, sizes, bad, config)
            if config.range == "data"
            else _span(config.range)
        )
        side = config.resolution or _usual_side([size for _, size in sizes], config)
        channels, good, all_grey, transparent, frames = 1 if config.grey else 3, [], True, 0, 0
        lows, highs = [], []
        prints, hidden = Counter(), {}
        with open(at / "raw", "wb") as out:

            def decode(path):
                return picture(path, side, config.crop, config.grey, config.background, span)

            for file, made in _in_order(
                pool, decode, [file for file, _ in sizes if file.name not in bad]
            ):
                if isinstance(made, str):
                    bad[file.name] = made
                    continue
                good.append(file)
                pixels = made.pixels
                all_grey = all_grey and bool((pixels == pixels[:1]).all())
                transparent, frames = transparent + made.transparent, frames + made.frames
                lows.append(int(pixels.min()))
                highs.append(int(pixels.max()))
                fingerprint = hashlib.sha256(pixels).digest()
                prints[fingerprint] += 1
                alpha = None if made.alpha is None else hashlib.sha256(made.alpha).digest()
                first, vanished = hidden.get(fingerprint, (alpha, False))
                hidden[fingerprint] = (first, vanished or made.vanished or alpha != first)
                out.write(pixels)
    _judge(bad, name, files, config)

    notes: list[str] = []
    groups = sorted({file.group for file in good}, key=os.fsencode)
    class_names = tuple(_in_unicode(group) for group in groups) if len(groups) > 1 else ()
    if odd := [made for group, made in zip(groups, class_names) if group != made]:
        notes.append(
            f"names of folders that are no UTF-8 are read as Latin-1: {', '.join(map(shown, odd[:5]))}{' ...' * (len(odd) > 5)}"
        )
    y = np.array([groups.index(file.group) for file in good], np.int64) if class_names else None
    rows = _rows(good, y, config)
    if y is not None:
        note_classes_without_examples({part: y[index] for part, index in rows.items()}, class_names, notes)
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
    if y is not None:
        np.save(at / "y.npy", y[order])

    if config.resolution is None and any(size != (side, side) for _, size in sizes):
        notes.append(
            f"images are brought to {side}x{side} pixels ({config.crop}); --resolution sets another side"
        )
    if all_grey and not config.grey:
        notes.append("every image is grey: stored with one channel")
    if groups[0] and not class_names:
        notes.append(f"one sub-folder only, {shown(groups[0])}: the images have no labels")
    background_hides = hidden[prints.most_common(1)[0][0]][1]
    notes += _changes(
        len(good), transparent, background_hides, frames, prints, lows, highs, span, config
    )
    if bad:
        notes.append(
            f"{len(bad)} of {len(files)} files left out: "
            + "; ".join(f"{shown(k)} ({v})" for k, v in sorted(bad.items()))
        )
    if class_names or len({file.group for file in files}) > 1:
        notes += _lost_classes(files, groups)
    return {
        "counts": {part: len(index) for part, index in rows.items()},
        "class_names": class_names,
        "notes": notes,
        "about": {"range": ":".join(map(_plain, span))} if span else {},
    }


def _lost_classes(files: list[File], kept: list[str]) -> list[str]:
    """A line about the classes whose pictures are all bad."""
    lost = Counter(file.group for file in files if file.group not in kept)
    if not lost:
        return []
    named = [
        f"{shown(_in_unicode(group))} ({count} file{'s' * (count != 1)})"
        for group, count in lost.most_common(LISTED)
    ]
    more = f" and {len(lost) - LISTED} more" if len(lost) > LISTED else ""
    return [
        f"class{'es' * (len(lost) > 1)} lost, since no picture of {'them' if len(lost) > 1 else 'it'} can be read: {', '.join(named)}{more}"
    ]


def _in_unicode(name: str) -> str:
    """A file name as text that can be written: bytes that are no UTF-8 make all of it Latin-1, so that different names stay different."""
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError:
        return os.fsencode(name).decode("latin-1")


def _rows(files: list[File], y: np.ndarray | None, config: DataConfig) -> dict[str, np.ndarray]:
    """Row numbers of the three splits: those that folders name, the others drawn from the rows for training."""
    if not files[0].part:
        return split_rows(len(files), config, y)
    rng, rows = Rng(config.split_seed).at("split"), {}
    for part in SPLITS:
        here = np.flatnonzero([file.part == part for file in files])
        rows[part] = here[rng.numpy("order", part).permutation(len(here))]
    if all(map(len, rows.values())):
        return rows
    if not len(rows["train"]):
        raise DataError("no picture for training is left: mend the files in its folder")
    train = rows["train"]
    drawn = split_rows(len(train), config, None if y is None else y[train])
    kept = [drawn["train"], *(drawn[part] for part in SPLITS[1:] if len(rows[part]))]
    return {
        part: train[np.concatenate(kept)]
        if part == "train"
        else rows[part]
        if len(rows[part])
        else train[drawn[part]]
        for part in SPLITS
    }


def _measured_span(
    pool, sizes: list[tuple[File, tuple]], bad: dict[str, str], config: DataConfig
) -> tuple[float, float]:
    """The smallest and the largest value of all files; what cannot be read becomes bad. Raises DataError where they are equal."""
    found = []
    for file, values in _in_order(
        pool, lambda path: extremes(path, config.background), [file for file, _ in sizes]
    ):
        if isinstance(values, str):
            bad[file.name] = values
        else:
            found.append(values)
    low, high = (
        (min(low for low, _ in found), max(high for _, high in found)) if found else (0.0, 255.0)
    )
    if low == high:
        raise DataError(f"--range data: every pixel has the value {low:g}: leave the option out")
    return low, high


def _changes(
    n: int,
    transparent: int,
    background_hides: bool,
    frames: int,
    prints: Counter,
    lows: list[int],
    highs: list[int],
    span,
    config: DataConfig,
) -> list[str]:
    """A line each about what conversion does to n pictures that their owner may not expect.

    background_hides: another background would tell the most frequent picture from others, or from the background.
    """
    notes, most = [], prints.most_common(1)[0][1]
    if transparent:
        notes.append(
            f"{transparent} of {n} pictures are transparent in places: laid over {config.background}; --background sets another colour"
        )
    if most > 1 and most >= SAME * n:
        hint = (
            f"; what is {config.background} and transparent around vanishes over {config.background}: give another --background"
            if background_hides
            else ""
        )
        notes.append(f"{most} of {n} pictures are exactly the same after conversion{hint}")
    if frames:
        notes.append(f"{frames} of {n} files hold several pictures: the first one of each is taken")
    if span:
        low, high = map(_plain, span)
        notes.append(
            f"levels 0 to 255 stand for values {low} to {high} of the files: value = {low} + level * ({high} - {low}) / 255"
        )
    low, high = np.quantile(lows, 0.01, method="lower"), np.quantile(highs, 0.99, method="higher")
    if 0 < high - low <= NARROW * 255:
        look = "dark" if high < 128 else "bright" if low >= 128 else "pale"
        notes.append(
            f"the pictures use {100 * (high - low) / 255:.0f} % of the range of values, {low} to {high} of 255, and will be {look}: "
            "--range data spreads what they use over the whole range"
        )
    return notes


def _plain(value: float) -> str:
    """A number without a needless fraction, exact."""
    return str(int(value)) if value == int(value) else repr(value)


def _judge(bad: dict[str, str], name: str, files: list[File], config: DataConfig) -> None:
    """Raises DataError if files are bad that may not be left out, or if none is good."""
    if len(bad) == len(files) or (bad and not config.skip_bad):
        first = ", ".join(f"{shown(k)} ({v})" for k, v in sorted(bad.items())[:LISTED])
        more = f" and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
        mend = "mend or remove them" + (
            ", or leave them out with --skip-bad" if len(bad) < len(files) else ""
        )
        raise DataError(
            f"data {shown(name)}: {len(bad)} of {len(files)} images cannot be used: {first}{more}; {mend}"
        )


def _in_order(pool, work: Callable, files: list[File]) -> Iterator[tuple]:
    """(file, result or reason why there is none), a few files at a time so that results do not pile up."""

    def attempt(file):
        return attempted(work, file.path)

    for start in range(0, len(files), CHUNK):
        part = files[start : start + CHUNK]
        yield from zip(part, pool.map(attempt, part))


def _usual_side(sizes: list[tuple[int, int]], config: DataConfig) -> int:
    """The most common side of the images once they are square, the larger one on a tie; 4 to 64."""
    counts = Counter(map(max if config.crop == "pad" else min, sizes))
    side = max(counts, key=lambda side: (counts[side], side))
    return min(max(side, 4), LARGEST_DEFAULT)
