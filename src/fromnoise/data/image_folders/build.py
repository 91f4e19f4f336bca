"""Decodes the images of a folder into a memory-mapped store.

Decoding streams: threads decode (Pillow releases the interpreter's lock), the rows go to disk in
the order of the file names, and are copied from there into the order of the splits once it is known
which files are good and whether any has colour. Memory stays flat however large the folder is.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ...core.errors import DataError, UsageError
from ...core.words import shown
from ..config import FolderOptions
from ..formats.images import (
    Conversion,
    decode_image,
    image_size,
    quiet_pillow,
    read_or_reason,
    value_limits,
)
from ..splits import note_classes_without_examples
from .arrange import decode_name, name_classes, rows_of_splits
from .listing import MAX_LISTED, ImageFile, and_more
from .statistics import ConversionStatistics, format_exactly

MAX_DEFAULT_SIDE = 64  # pixels, if the user names none: a laptop trains on these in minutes
CHUNK = 64  # images that are decoded before they are written: 200 MB at the largest resolution

Size = tuple[int, int]  # width, height


def build_store(at: Path, name: str, files: list[ImageFile], config: FolderOptions) -> dict:
    """Writes x.npy and y.npy into the folder ``at``; returns what the store records about them.

    Raises DataError if a file cannot be read and may not be left out.
    """
    bad: dict[str, str] = {}  # name of a file -> why it cannot be used
    with quiet_pillow(), ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        sizes = _read_sizes(pool, files, config, bad)
        if not sizes:
            _refuse_bad_files(bad, name, files, config)
        conversion = _choose_conversion(pool, sizes, config, bad)
        readable = [file for file in sizes if file.name not in bad]
        good, statistics = _decode_files(pool, at / "raw", readable, conversion, bad)
    _refuse_bad_files(bad, name, files, config)

    notes: list[str] = []
    groups = sorted({file.group for file in good}, key=os.fsencode)
    class_names = name_classes(groups, notes)
    y = np.array([groups.index(file.group) for file in good], np.int64) if class_names else None
    rows = rows_of_splits(good, y, config)
    if y is not None:
        note_classes_without_examples(
            {part: y[part_rows] for part, part_rows in rows.items()}, class_names, notes
        )
    order = np.concatenate(list(rows.values()))
    _write_images(at, conversion, statistics.is_all_grey, order)
    if y is not None:
        np.save(at / "y.npy", y[order])
    notes += _notes_on_sizes(sizes, conversion, config) + statistics.notes(conversion)
    notes += _notes_on_bad_files(bad, files, groups)
    span = conversion.span
    return {
        "counts": {part: len(part_rows) for part, part_rows in rows.items()},
        "class_names": class_names,
        "notes": notes,
        "about": {"range": ":".join(map(format_exactly, span))} if span else {},
    }


def parse_span(text: str) -> tuple[float, float] | None:
    """The values in LOW:HIGH; None for the limits of the type. Raises UsageError."""
    if ":" not in text:
        return None
    low, high = map(float, text.split(":"))
    if low >= high:
        raise UsageError(f"--range {text}: the first value must be below the second")
    return low, high


# -- reading -----------------------------------------------------------------------------------


def _map_in_order(
    pool: ThreadPoolExecutor, read: Callable[[Path], object], files: list[ImageFile]
) -> Iterator[tuple]:
    """(file, result or reason why there is none), a few at a time so that results stay few."""

    def attempt(file: ImageFile):
        return read_or_reason(read, file.path)

    for start in range(0, len(files), CHUNK):
        part = files[start : start + CHUNK]
        yield from zip(part, pool.map(attempt, part))


def _map_good_files(
    pool: ThreadPoolExecutor,
    read: Callable[[Path], object],
    files: list[ImageFile],
    bad: dict[str, str],
) -> Iterator[tuple]:
    """(file, result) of the files that can be read. bad: receives the reasons of the others."""
    for file, result in _map_in_order(pool, read, files):
        if isinstance(result, str):
            bad[file.name] = result
        else:
            yield file, result


def _read_sizes(
    pool: ThreadPoolExecutor, files: list[ImageFile], config: FolderOptions, bad: dict[str, str]
) -> dict[ImageFile, Size]:
    def read(path: Path) -> Size:
        return image_size(path, config.max_pixels)

    return dict(_map_good_files(pool, read, files, bad))


def _measure_span(
    pool: ThreadPoolExecutor, files: list[ImageFile], config: FolderOptions, bad: dict[str, str]
) -> tuple[float, float]:
    """Smallest and largest value in all files. Raises DataError if they are equal."""

    def read(path: Path) -> tuple[float, float]:
        return value_limits(path, config.background)

    limits = [result for _, result in _map_good_files(pool, read, files, bad)]
    if not limits:
        return 0.0, 255.0
    low = min(low for low, _ in limits)
    high = max(high for _, high in limits)
    if low == high:
        raise DataError(f"--range data: every pixel has the value {low:g}: leave the option out")
    return low, high


def _choose_conversion(
    pool: ThreadPoolExecutor,
    sizes: dict[ImageFile, Size],
    config: FolderOptions,
    bad: dict[str, str],
) -> Conversion:
    if config.range == "data":
        span = _measure_span(pool, list(sizes), config, bad)
    else:
        span = parse_span(config.range)
    side = config.resolution or _usual_side(list(sizes.values()), config)
    return Conversion(side, config.crop, config.grey, config.background, span)


def _usual_side(sizes: list[Size], config: FolderOptions) -> int:
    """The most common side of the square images, the larger one on a tie; 4 to 64."""
    counts = Counter(map(max if config.crop == "pad" else min, sizes))
    side = max(counts, key=lambda side: (counts[side], side))
    return min(max(side, 4), MAX_DEFAULT_SIDE)


def _decode_files(
    pool: ThreadPoolExecutor,
    raw: Path,
    files: list[ImageFile],
    conversion: Conversion,
    bad: dict[str, str],
) -> tuple[list[ImageFile], ConversionStatistics]:
    """Appends the pixels of each file to the file ``raw``; returns the files that are good."""

    def read(path: Path):
        return decode_image(path, conversion)

    good = []
    statistics = ConversionStatistics()
    with open(raw, "wb") as out:
        for file, image in _map_good_files(pool, read, files, bad):
            good.append(file)
            statistics.add(image)
            out.write(image.pixels)
    return good, statistics


def _write_images(at: Path, conversion: Conversion, is_all_grey: bool, order: np.ndarray) -> None:
    """Copies the images in the file raw to x.npy in this order; removes raw.

    is_all_grey: one channel is enough.
    """
    image_shape = (1 if conversion.grey else 3, conversion.side, conversion.side)
    raw = np.memmap(at / "raw", np.uint8, "r", shape=(len(order), *image_shape))
    kept_channels = 1 if is_all_grey else 3
    kept_shape = (len(order), kept_channels, *image_shape[1:])
    with open(at / "x.npy", "wb") as out:
        header = {"descr": "|u1", "fortran_order": False, "shape": kept_shape}
        np.lib.format.write_array_header_1_0(out, header)
        for start in range(0, len(order), CHUNK):
            out.write(np.ascontiguousarray(raw[order[start : start + CHUNK], :kept_channels]))
    del raw
    (at / "raw").unlink()


# -- notes and refusals -----------------------------------------------------------------------


def _notes_on_sizes(
    sizes: dict[ImageFile, Size], conversion: Conversion, config: FolderOptions
) -> list[str]:
    side = conversion.side
    if config.resolution is not None or set(sizes.values()) == {(side, side)}:
        return []
    return [
        f"images are brought to {side}x{side} pixels ({config.crop}); --resolution sets another side"
    ]


def _list_bad_files(bad: list[tuple[str, str]], separator: str) -> str:
    return separator.join(f"{shown(name)} ({reason})" for name, reason in bad)


def _refuse_bad_files(
    bad: dict[str, str], name: str, files: list[ImageFile], config: FolderOptions
) -> None:
    """Raises DataError if files are bad that may not be left out, or if none is good."""
    if len(bad) < len(files) and (config.skip_bad or not bad):
        return
    first = _list_bad_files(sorted(bad.items())[:MAX_LISTED], ", ")
    mend = "mend or remove them"
    if len(bad) < len(files):
        mend += ", or leave them out with --skip-bad"
    raise DataError(
        f"data {shown(name)}: {len(bad)} of {len(files)} images cannot be used: {first}"
        f"{and_more(len(bad) - MAX_LISTED)}; {mend}"
    )


def _notes_on_bad_files(
    bad: dict[str, str], files: list[ImageFile], kept_groups: list[str]
) -> list[str]:
    """A note on the files left out, and one on the classes that have no other file."""
    notes = []
    if bad:
        listed = _list_bad_files(sorted(bad.items()), "; ")
        notes.append(f"{len(bad)} of {len(files)} files left out: {listed}")
    lost = Counter(file.group for file in files if file.group not in kept_groups)
    if lost:
        names = ", ".join(
            f"{shown(decode_name(group))} ({count} file{'s' * (count != 1)})"
            for group, count in lost.most_common(MAX_LISTED)
        )
        them = "them" if len(lost) > 1 else "it"
        notes.append(
            f"class{'es' * (len(lost) > 1)} lost, since no image of {them} can be read: {names}"
            f"{and_more(len(lost) - MAX_LISTED)}"
        )
    return notes
