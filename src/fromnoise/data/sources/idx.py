"""The MNIST family, and any folder of IDX files: on disk, or downloaded with a checksum.

Splits: the official test part is the test. Of the official training part a seeded 1/12 (5,000 of
60,000) is for validation, or the share that ``validation`` gives.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.files import write_atomic
from ...core.rng import Rng
from ...core.words import shown
from ..config import ImageOptions, ValidationShare
from ..dataset import Dataset, Split
from ..download import FetchError, fetch
from ..formats.idx_file import PARTS, file_name, find_file, parse_idx, read_bytes, unpack
from ..image_dataset import image_dataset
from ..source import Source
from ..splits import MIN_EXAMPLES
from ..store import cache_folder, cache_writes

NAMES = {
    "mnist": "70,000 handwritten digits, 28x28 grey, 10 classes (downloaded)",
    "fashion-mnist": "70,000 articles of clothing, 28x28 grey, 10 classes (downloaded)",
    "kmnist": "70,000 cursive Japanese characters, 28x28 grey, 10 classes (downloaded)",
}
VALIDATION_SHARE = 1 / 12  # of the training part


@dataclass(frozen=True)
class Original:
    """Where the four gzip files of a data set are, and how they are verified.

    mirrors  addresses, all https, of the folder that holds the files
    digests  of PARTS, packed or unpacked: SHA-256, or the MD5 that the authors publish
    sizes    bytes of PARTS, unpacked
    """

    mirrors: tuple[str, ...]
    digests: tuple[str, ...]
    class_names: tuple[str, ...]
    sizes: tuple[int, ...] = ()


SIZES = (16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000)
# Of mnist the SHA-256 of the unpacked files, computed from files with the published MD5. Of the
# other two only the published MD5 is known: it protects against chance, not against a forger, so
# that https and the sizes must do.
ORIGINALS = {
    "mnist": Original(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        tuple("0123456789"),
        SIZES,
    ),
    "fashion-mnist": Original(
        ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",),
        (
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        (
            "T-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
        SIZES,
    ),
    "kmnist": Original(
        ("https://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        (
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        SIZES,
    ),
}


def is_idx_folder(path: Path) -> bool:
    """Whether a file in the folder has a name such as train-images-idx3-ubyte.gz."""
    pattern = re.compile(rf"({'|'.join(PARTS)})[-.]idx[13]-ubyte(\.gz)?")
    try:
        return any(pattern.fullmatch(name) for name in os.listdir(path))
    except OSError:
        return False


class Options(ValidationShare, ImageOptions):
    """Of IDX files."""


def load(name: str, options: Options) -> Dataset:
    """A data set of the family by its name, or the folder of IDX files at that path.

    Images uint8 (N, 1, H, W), 256 levels. Raises DataError (damaged, or missing without a network),
    UsageError, and StorageError if a download cannot be kept.
    """
    original = ORIGINALS.get(name)
    notes: list[str] = []
    files = _provide_files(name, original, notes) if original else _files_in_folder(name)
    arrays = {part: parse_idx(path, part) for part, path in files.items()}
    _check_images(name, files, arrays)
    if original:
        class_names = original.class_names
    else:
        class_names = tuple(map(str, range(int(arrays["train-labels"].max()) + 1)))
    _check_labels(files, arrays, len(class_names))

    rng = Rng(options.split_seed).at("split")
    n = len(arrays["train-images"])
    order = rng.numpy("order").permutation(n)
    cut = max(1, round(n * (options.validation or VALIDATION_SHARE)))
    # shuffled too: the first half of MNIST's test images is easier than the second
    test_order = rng.numpy("test").permutation(len(arrays["t10k-images"]))
    splits = {
        "train": _split(arrays, "train", order[cut:]),
        "validation": _split(arrays, "train", order[:cut]),
        "test": _split(arrays, "t10k", test_order),
    }
    return image_dataset(name, splits, class_names, options, notes=tuple(notes))


def _split(arrays: dict[str, np.ndarray], kind: str, rows: np.ndarray) -> Split:
    images = arrays[f"{kind}-images"][rows, None]
    return Split(images, arrays[f"{kind}-labels"][rows].astype(np.int64), 256)


def _check_images(name: str, files: dict[str, Path], arrays: dict[str, np.ndarray]) -> None:
    """Raises DataError if the four files do not belong together, or hold too little."""
    for kind in ("train", "t10k"):
        n_images = len(arrays[f"{kind}-images"])
        n_labels = len(arrays[f"{kind}-labels"])
        if n_images != n_labels:
            raise DataError(
                f"{shown(files[f'{kind}-labels'], 200)} has {n_labels} labels for the {n_images} "
                f"images of {files[f'{kind}-images'].name}: use the two files of one data set"
            )
    if len(arrays["train-images"]) < MIN_EXAMPLES or not len(arrays["t10k-images"]):
        raise DataError(
            f"data {shown(name)}: too few images: give at least {MIN_EXAMPLES} for training and 1 "
            "for the test"
        )
    if arrays["train-images"].shape[1:] != arrays["t10k-images"].shape[1:]:
        raise DataError(
            f"data {shown(name)}: training and test images differ in size: use files of one data "
            "set"
        )


def _check_labels(files: dict[str, Path], arrays: dict[str, np.ndarray], classes: int) -> None:
    """Raises DataError if a label is not below the number of classes."""
    for part in ("train-labels", "t10k-labels"):
        largest = int(arrays[part].max())
        if largest >= classes:
            raise DataError(
                f"{shown(files[part], 200)} has label {largest}, but there are {classes} classes "
                f"(0 to {classes - 1}): use the labels that belong to these images"
            )


# -- finding the files -------------------------------------------------------------------------


def _files_in_folder(name: str) -> dict[str, Path]:
    """Raises DataError if one of the four is missing."""
    folder = Path(name).expanduser()
    files = {}
    for part in PARTS:
        path = find_file(folder, part)
        if path is None:
            raise DataError(
                f"data {shown(name)}: {file_name(part)} is missing: put it in this folder (.gz or "
                "not)"
            )
        files[part] = path
    return files


def _provide_files(name: str, original: Original, notes: list[str]) -> dict[str, Path]:
    """The four files of a data set with a name: yours, the cache's, or those of the mirrors.

    Your own files may differ from the official ones; then a note says so.
    """
    root = os.environ.get("FROMNOISE_DATA")
    own = Path(root).expanduser() / name if root else None
    files = {}
    for part in PARTS:
        path = find_file(own, part) if own else None
        if path is None:
            files[part] = _cached_file(name, original, part, own)
            continue
        if not _is_official(read_bytes(path), path, part, original):
            notes.append(
                f"{shown(path, 200)} could not be verified: its checksum is not that of the "
                "official file"
            )
        files[part] = path
    return files


def _cached_file(name: str, original: Original, part: str, own: Path | None) -> Path:
    """The file in the cache, downloaded if it is missing or damaged. Raises DataError."""
    cache = cache_folder(name)
    path = find_file(cache, part)
    try:
        if path and _is_official(read_bytes(path), path, part, original):
            return path
    except DataError:
        pass  # a damaged file in our own cache is downloaded again
    path = cache / f"{file_name(part)}.gz"
    urls = [mirror.rstrip("/") + "/" + path.name for mirror in original.mirrors]
    try:
        raw = fetch(urls, lambda raw: _is_official(raw, path, part, original))
    except FetchError as error:
        names = ", ".join(f"{file_name(part)}.gz" for part in PARTS)
        more = "" if own else f", or into {name}/ in a folder that FROMNOISE_DATA names"
        raise DataError(
            f"{name} cannot be downloaded ({error}): put {names} into {shown(own or cache, 200)}"
            f"{more}"
        ) from error
    with cache_writes(cache):
        cache.mkdir(parents=True, exist_ok=True)
        write_atomic(path, raw)
    return path


def _is_official(raw: bytes, path: Path, part: str, original: Original) -> bool:
    """Whether size and digest are official, packed or unpacked. Raises DataError if damaged."""
    content = unpack(raw, path, part)
    place = PARTS.index(part)
    if original.sizes and len(content) != original.sizes[place]:
        return False
    digest = original.digests[place]
    kind = hashlib.sha256 if len(digest) == 64 else hashlib.md5
    return digest in (kind(raw).hexdigest(), kind(content).hexdigest())


SOURCE = Source(
    load,
    Options,
    NAMES,
    reads_folder=is_idx_folder,
    folder_priority=20,
    title="IDX files, whose test part is given",
    about_paths="a folder of IDX files",
    place=50,
)
