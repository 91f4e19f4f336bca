"""Arrays from .npy and .npz files: stacks of images, or tables of numbers.

Nothing in a file can run code (pickles are never read), and nothing is guessed: an array whose
layout or range has two readings is refused with the line of numpy that settles it.
"""

import math
import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.limits import check_unpacked
from ...core.words import shown
from ..config import ImageOptions, LearnLabel, SplitShares, TableOptions
from ..dataset import Dataset, Split
from ..image_dataset import image_dataset
from ..registry import refuse_options
from ..source import Source
from ..splits import split_rows
from ..tables.table import Table, list_shown
from .table import table_dataset

EXAMPLE_KEYS = ("x", "images", "data", "arr_0")
LABEL_KEYS = ("y", "labels", "targets")
MAX_CLASSES = 10_000
MAX_LISTED_KEYS = 20
CHUNK = 1024  # rows that are checked or converted at once
# Everything that numpy is known to raise on a damaged file or a false header.
DAMAGE = (
    ValueError,
    EOFError,
    LookupError,
    SyntaxError,
    TypeError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
# An "image" with a side of 1 to 3 is most likely one image whose channels come last.
MIN_SIDE = 4
LARGEST_EXACT = 2**53  # whole numbers from here on are rounded by float64


class NumbersOptions(SplitShares, LearnLabel):
    """Of an array that is a table."""


class PixelsOptions(SplitShares, ImageOptions):
    """Of an array of images."""


class Options(NumbersOptions, PixelsOptions):
    """Of an array, before its shape is known."""


def load(name: str, options: Options) -> Dataset:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floats; or a table (N, D).

    Labels come from .npz files. Raises DataError with the file and how to mend it.
    """
    given = options.model_dump(exclude_defaults=True)
    x, y = _read_file(name)
    if len(x.shape) == 2:
        refuse_options(given, NumbersOptions, "a table of numbers without names")
        columns = {f"c{i}": _to_column(x[:, i]) for i in range(x.shape[1])}
        return table_dataset(Table(name, columns, range(len(x))), TableOptions(**given), y)
    refuse_options(given, PixelsOptions, "an array of images")
    notes: list[str] = []
    x = _to_levels(name, _channels_first(name, x), notes)
    classes = 0 if y is None else int(y.max()) + 1
    class_names = tuple(map(str, range(classes)))
    rows = split_rows(len(x), options, y, notes, class_names)
    splits = {}
    for part, part_rows in rows.items():
        splits[part] = Split(x[part_rows], None if y is None else y[part_rows], 256)
    return image_dataset(name, splits, class_names, options, notes=tuple(notes))


# -- reading -----------------------------------------------------------------------------------


def _read_file(name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Examples and labels. Raises DataError."""
    path = Path(name).expanduser()
    try:
        with open(path, "rb") as file:
            is_archive = file.read(2) == b"PK"
        if is_archive:
            return _read_archive(name, path)
        # Mapping compares the header's length with the file's before any memory is requested.
        return _checked_examples(name, np.load(path, mmap_mode="r", allow_pickle=False)), None
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{shown(name)} cannot be read ({error.strerror or error}): mend the path or its "
            "permissions"
        ) from error
    except DAMAGE as error:
        has_objects = "pickle" in str(error) or "object" in str(error).lower()
        reason = "it holds Python objects" if has_objects else "damaged or no array"
        raise DataError(
            f"{shown(name)} cannot be used ({reason}): save a plain array of numbers with "
            "numpy.save"
        ) from error


def _read_archive(name: str, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    with np.load(path, allow_pickle=False) as archive:
        example_keys = [key for key in archive.files if key in EXAMPLE_KEYS]
        label_keys = [key for key in archive.files if key in LABEL_KEYS]
        if len(example_keys) != 1 or len(label_keys) > 1:
            keys = list_shown(archive.files[:MAX_LISTED_KEYS])
            raise DataError(
                f"{shown(name)} holds {keys or 'nothing'}: save the examples under one of "
                f"{', '.join(EXAMPLE_KEYS)} and labels, if any, under one of "
                f"{', '.join(LABEL_KEYS)}"
            )
        _check_sizes(name, archive, [*example_keys, *label_keys])
        x = _checked_examples(name, archive[example_keys[0]])
        if not label_keys:
            return x, None
        return x, _checked_labels(name, archive[label_keys[0]], len(x))


def _check_sizes(name: str, archive, keys: list[str]) -> None:
    """Raises DataError if what the archive declares is a bomb, or does not fit; reads headers only.

    A member may declare more in its own header than in the archive's: numpy requests the memory of
    the former.
    """
    stored = archive.zip.namelist()
    members = [archive.zip.getinfo(key if key in stored else f"{key}.npy") for key in keys]
    known_types = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if any(member.compress_type not in known_types for member in members):
        raise DataError(
            f"{shown(name)} is packed in a way that numpy does not write: save it again with "
            "numpy.savez_compressed"
        )
    packed = sum(member.compress_size for member in members)
    check_unpacked(name, sum(member.file_size for member in members), packed)
    declared = 0
    for member in members:
        with archive.zip.open(member) as file:
            if np.lib.format.read_magic(file) == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
        declared += max(member.file_size, math.prod(shape) * dtype.itemsize)
    check_unpacked(name, declared, packed)


def _checked_examples(name: str, x: np.ndarray) -> np.ndarray:
    """Numbers, with rows, all finite. Raises DataError."""
    if x.dtype.kind not in "uif":
        raise DataError(
            f"{shown(name)} holds values of type {x.dtype}: save numbers, such as "
            "x.astype('float32')"
        )
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise DataError(
            f"{shown(name)} has shape {x.shape}: give images (N, H, W), (N, H, W, C) or "
            "(N, C, H, W), or a table (N, D), for instance by x.reshape(len(x), -1)"
        )
    if x.dtype.kind != "f":
        return x
    for start in range(0, len(x), CHUNK):
        rows = x[start : start + CHUNK]
        is_finite = np.isfinite(rows).reshape(len(rows), -1).all(1)
        if not is_finite.all():
            row = start + int((~is_finite).argmax())
            raise DataError(
                f"{shown(name)}: row {row} holds NaN or infinity: remove that row or fill it"
            )
    return x


def _checked_labels(name: str, y: np.ndarray, n: int) -> np.ndarray:
    """int64 (n,). Raises DataError."""
    if y.shape != (n,) or y.dtype.kind not in "ui":
        raise DataError(
            f"{shown(name)}: labels have shape {y.shape} and type {y.dtype}: give {n} whole "
            "numbers, such as y.astype('int64').ravel()"
        )
    if y.min() < 0 or y.max() >= min(n, MAX_CLASSES):
        raise DataError(
            f"{shown(name)}: labels run from {y.min()} to {y.max()}: number the classes from 0, "
            f"all below {min(n, MAX_CLASSES)}, such as numpy.unique(y, return_inverse=True)[1]"
        )
    return y.astype(np.int64)


# -- conversion --------------------------------------------------------------------------------


def _channels_first(name: str, x: np.ndarray) -> np.ndarray:
    """(N, C, H, W), C being 1 or 3; a view. Raises DataError."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.shape[-1] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    elif x.shape[1] not in (1, 3):
        raise DataError(
            f"{shown(name)} has shape {x.shape}, with neither 1 nor 3 channels second or last: "
            "drop transparency with x[..., :3], or save one channel"
        )
    if min(x.shape[2:]) < MIN_SIDE:
        raise DataError(
            f"{shown(name)} would be {len(x)} images of {x.shape[2]}x{x.shape[3]} pixels: give "
            "(N, H, W, C), and one image alone as x[None]"
        )
    return x


def _to_levels(name: str, x: np.ndarray, notes: list[str]) -> np.ndarray:
    """uint8 as it is; floats in [0, 1] or [-1, 1] rounded to 256 levels. Raises DataError."""
    if x.dtype == np.uint8:
        return x
    is_float = x.dtype.kind == "f"
    low = x.min()
    high = x.max()
    if not is_float or low < -1 or high > 1:
        mend = "scale them to [0, 1] or [-1, 1], or save 0 .. 255 as uint8"
        if low >= 0 and high <= 255 and (not is_float or high > 1):
            mend = "save x.astype('uint8')"
        raise DataError(
            f"{shown(name)}: images of type {x.dtype} with values from {low:g} to {high:g}: {mend}"
        )
    start, scale = (0, 255) if low >= 0 else (-1, 127.5)
    levels = np.empty(x.shape, np.uint8)
    for row in range(0, len(x), CHUNK):
        values = x[row : row + CHUNK].astype(np.float64)
        levels[row : row + CHUNK] = np.rint((values - start) * scale)
    notes.append(f"images were floats in [{start}, 1]: rounded to 256 levels")
    return levels


def _to_column(cells: np.ndarray) -> np.ndarray:
    """float64 (N,), or text where float64 would round whole numbers."""
    is_whole = cells.dtype.kind in "iu"
    if is_whole and max(int(cells.max()), -int(cells.min())) >= LARGEST_EXACT:
        return np.array(list(map(str, cells.tolist())), object)
    return cells.astype(np.float64)


SOURCE = Source(load, Options, suffixes=(".npy", ".npz"), title="an array", place=70)
