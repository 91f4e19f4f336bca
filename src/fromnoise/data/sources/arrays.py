"""Arrays from .npy and .npz files: stacks of images, or tables of numbers.

Unusual: nothing in a file can run code (pickles are never read), and there are no guesses: an array whose
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
from ..config import DataConfig, refuse_options
from ..dataset import Dataset, Split
from ..image_dataset import image_dataset
from ..splits import split_rows
from ..tables.table import Table
from .table import table_dataset

EXAMPLES, LABELS = ("x", "images", "data", "arr_0"), ("y", "labels", "targets")
MOST_CLASSES = 10_000
# Everything that numpy is known to raise on a damaged file or a lying header.
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
SMALLEST_SIDE = (
    4  # a "picture" with a side of 1 to 3 is most likely one picture whose channels come last
)


def load(name: str, config: DataConfig) -> Dataset:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floats; or a table (N, D). Labels from .npz.

    Raises DataError naming the file and the mend.
    """
    x, y = _read(name)
    if len(x.shape) == 2:
        refuse_options(config, "a table of numbers without names", "learn_label", "validation", "test")
        return _table(name, x, y, config)
    refuse_options(config, "an array of images", "binarise", "validation", "test")
    notes: list[str] = []
    x = _levels(name, _channels_first(name, x), notes)
    classes = 0 if y is None else int(y.max()) + 1
    rows = split_rows(len(x), config, y, notes, tuple(map(str, range(classes))))
    splits = {
        part: Split(x[index], None if y is None else y[index], 256) for part, index in rows.items()
    }
    return image_dataset(
        name,
        splits,
        tuple(map(str, range(classes))),
        config,
        notes=tuple(notes),
    )


def _read(name: str) -> tuple[np.ndarray, np.ndarray | None]:
    path = Path(name).expanduser()
    try:
        # Mapping compares the header's length with the file's before any memory is asked for.
        with open(path, "rb") as file:
            packed = file.read(2) == b"PK"
        if not packed:
            return _checked(name, np.load(path, mmap_mode="r", allow_pickle=False)), None
        with np.load(path, allow_pickle=False) as archive:
            keys = {
                role: [key for key in archive.files if key in known]
                for role, known in (("x", EXAMPLES), ("y", LABELS))
            }
            found = ", ".join(map(shown, archive.files[:20]))
            if len(keys["x"]) != 1 or len(keys["y"]) > 1:
                raise DataError(
                    f"{shown(name)} holds {found or 'nothing'}: save the examples under one "
                    f"of {', '.join(EXAMPLES)} and labels, if any, under one of {', '.join(LABELS)}"
                )
            _check_sizes(name, archive, [*keys["x"], *keys["y"]])
            x = _checked(name, archive[keys["x"][0]])
            return x, _labels(name, archive[keys["y"][0]], len(x)) if keys["y"] else None
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{shown(name)} cannot be read ({error.strerror or error}): mend the path or its permissions"
        ) from error
    except DAMAGE as error:
        why = (
            "it holds Python objects"
            if "pickle" in str(error) or "object" in str(error).lower()
            else "damaged or no array"
        )
        raise DataError(
            f"{shown(name)} cannot be used ({why}): save a plain array of numbers with numpy.save"
        ) from error


def _check_sizes(name: str, archive, keys: list[str]) -> None:
    """Raises DataError if what the archive declares is a bomb, or does not fit; only headers are read.

    A member may declare more in its own header than in the archive's: numpy asks for the memory of the former.
    """
    members = [
        archive.zip.getinfo(key if key in archive.zip.namelist() else f"{key}.npy") for key in keys
    ]
    packed, declared = sum(member.compress_size for member in members), 0
    if any(
        member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members
    ):
        raise DataError(
            f"{shown(name)} is packed in a way that numpy does not write: save it again with numpy.savez_compressed"
        )
    check_unpacked(name, sum(member.file_size for member in members), packed)
    for member in members:
        with archive.zip.open(member) as file:
            version = np.lib.format.read_magic(file)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(file)
        declared += max(member.file_size, math.prod(shape) * dtype.itemsize)
    check_unpacked(name, declared, packed)


def _checked(name: str, x: np.ndarray) -> np.ndarray:
    """Numbers, with rows, all finite; or DataError."""
    if x.dtype.kind not in "uif":
        raise DataError(
            f"{shown(name)} holds values of type {x.dtype}: save numbers, such as x.astype('float32')"
        )
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise DataError(
            f"{shown(name)} has shape {x.shape}: give images (N, H, W), (N, H, W, C) or (N, C, H, W), or a "
            "table (N, D), for instance by x.reshape(len(x), -1)"
        )
    if x.dtype.kind == "f":
        for start in range(0, len(x), 1024):
            good = (
                np.isfinite(x[start : start + 1024])
                .reshape(len(x[start : start + 1024]), -1)
                .all(1)
            )
            if not good.all():
                row = start + int((~good).argmax())
                raise DataError(
                    f"{shown(name)}: row {row} holds NaN or infinity: remove that row or fill it"
                )
    return x


def _labels(name: str, y: np.ndarray, n: int) -> np.ndarray:
    if y.shape != (n,) or y.dtype.kind not in "ui":
        raise DataError(
            f"{shown(name)}: labels have shape {y.shape} and type {y.dtype}: give {n} whole numbers, such as "
            "y.astype('int64').ravel()"
        )
    if y.min() < 0 or y.max() >= min(n, MOST_CLASSES):
        raise DataError(
            f"{shown(name)}: labels run from {y.min()} to {y.max()}: number the classes from 0, all below "
            f"{min(n, MOST_CLASSES)}, such as numpy.unique(y, return_inverse=True)[1]"
        )
    return y.astype(np.int64)


def _channels_first(name: str, x: np.ndarray) -> np.ndarray:
    """(N, C, H, W), C being 1 or 3; a view."""
    if x.ndim == 3:
        x = x[:, None]
    elif x.shape[-1] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    elif x.shape[1] not in (1, 3):
        raise DataError(
            f"{shown(name)} has shape {x.shape}, with neither 1 nor 3 channels second or last: drop "
            "transparency with x[..., :3], or save one channel"
        )
    if min(x.shape[2:]) < SMALLEST_SIDE:
        raise DataError(
            f"{shown(name)} would be {len(x)} images of {x.shape[2]}x{x.shape[3]} pixels: give (N, H, W, C), "
            "and one image alone as x[None]"
        )
    return x


def _levels(name: str, x: np.ndarray, notes: list[str]) -> np.ndarray:
    """uint8 as it is; floats in [0, 1] or [-1, 1] rounded to 256 levels."""
    if x.dtype == np.uint8:
        return x
    low, high = x.min(), x.max()
    if x.dtype.kind != "f" or low < -1 or high > 1:
        mend = (
            "save x.astype('uint8')"
            if low >= 0 and high <= 255 and (x.dtype.kind != "f" or high > 1)
            else "scale them to [0, 1] or [-1, 1], or save 0 .. 255 as uint8"
        )
        raise DataError(
            f"{shown(name)}: images of type {x.dtype} with values from {low:g} to {high:g}: {mend}"
        )
    start, scale = (0, 255) if low >= 0 else (-1, 127.5)
    out = np.empty(x.shape, np.uint8)
    for row in range(0, len(x), 1024):
        out[row : row + 1024] = np.rint((x[row : row + 1024].astype(np.float64) - start) * scale)
    notes.append(f"images were floats in [{start}, 1]: rounded to 256 levels")
    return out


def _table(name: str, x: np.ndarray, y: np.ndarray | None, config: DataConfig) -> Dataset:
    columns = {f"c{i}": _column(x[:, i]) for i in range(x.shape[1])}
    return table_dataset(Table(name, columns, range(len(x))), config, y)


def _column(cells: np.ndarray) -> np.ndarray:
    """float64 (N,), or text where that would round whole numbers."""
    if cells.dtype.kind in "iu" and (int(cells.max()) >= 2**53 or int(cells.min()) <= -(2**53)):
        return np.array(list(map(str, cells.tolist())), object)
    return cells.astype(np.float64)
