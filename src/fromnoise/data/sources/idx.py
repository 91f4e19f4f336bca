"""The MNIST family, and any folder of IDX files: found on disk, or downloaded with a checksum.

Unusual: a file is trusted for nothing. Its length is checked against its own header before it is unpacked,
so that neither a lying header nor a gzip bomb can fill the memory. What is downloaded must have the official
checksum, SHA-256 where it is known here; what you provide may differ, and then ``Dataset.notes`` says so.

Splits: the official test part is the test. Of the official training part a seeded 1/12 (5,000 of 60,000) is
for validation, or the share that ``validation`` gives.
"""

import gzip
import hashlib
import io
import os
import re
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.files import write_atomic
from ...core.limits import check_unpacked
from ...core.rng import Rng
from ...core.words import shown
from ..config import DataConfig, refuse_options
from ..dataset import Dataset, Split
from ..download import FetchError, fetch
from ..image_dataset import image_dataset
from ..splits import MIN_EXAMPLES
from ..store import cache_folder, cache_writes

NAMES = {
    "mnist": "70,000 handwritten digits, 28x28 grey, 10 classes (downloaded)",
    "fashion-mnist": "70,000 articles of clothing, 28x28 grey, 10 classes (downloaded)",
    "kmnist": "70,000 cursive Japanese characters, 28x28 grey, 10 classes (downloaded)",
}
PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
GZIP = b"\x1f\x8b"  # how such a file begins
LARGEST = (
    2**31
)  # bytes of one unpacked file: three times the largest of the family, EMNIST by class


@dataclass(frozen=True)
class Source:
    """mirrors: addresses, all https, of the folder that holds the four gzip files.

    digests: of PARTS, packed or unpacked: SHA-256, or the MD5 that the authors publish.
    """

    mirrors: tuple[str, ...]
    digests: tuple[str, ...]
    class_names: tuple[str, ...]
    sizes: tuple[int, ...] = ()  # bytes of PARTS, unpacked


SIZES = (16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000)
# Of mnist the SHA-256 of the unpacked files, computed from files with the published MD5. Of the other two only the MD5
# is known, which the authors publish: against chance, not against a forger, so that https and the sizes must do.
SOURCES = {
    "mnist": Source(
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
    "fashion-mnist": Source(
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
    "kmnist": Source(
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
    """Whether a file in the folder is named like one of the four, such as train-images-idx3-ubyte.gz."""
    pattern = re.compile(rf"({'|'.join(PARTS)})[-.]idx[13]-ubyte(\.gz)?")
    try:
        return any(pattern.fullmatch(name) for name in os.listdir(path))
    except OSError:
        return False


def load(name: str, config: DataConfig) -> Dataset:
    """A data set of the family by its name, or the folder of IDX files at that path.

    Images uint8 (N, 1, H, W), 256 levels. Raises DataError (damaged, or not there and no network),
    UsageError, and StorageError when a download cannot be kept.
    """
    refuse_options(config, "IDX files, whose test part is given", "binarise", "validation")
    source = SOURCES.get(name)
    if source:
        files, notes = _provide(name, source)
    else:
        files, notes = {part: _find(Path(name).expanduser(), part) for part in PARTS}, []
        if missing := [part for part, path in files.items() if path is None]:
            raise DataError(
                f"data {shown(name)}: {_file_name(missing[0])} is missing: put it in this folder (.gz or not)"
            )
    arrays = {part: read(path, part) for part, path in files.items()}
    for kind in ("train", "t10k"):
        images, labels = arrays[f"{kind}-images"], arrays[f"{kind}-labels"]
        if len(images) != len(labels):
            raise DataError(
                f"{shown(files[f'{kind}-labels'], 200)} has {len(labels)} labels for the {len(images)} "
                f"images of {files[f'{kind}-images'].name}: use the two files of one data set"
            )
    if len(arrays["train-images"]) < MIN_EXAMPLES or not len(arrays["t10k-images"]):
        raise DataError(
            f"data {shown(name)}: too few images: give at least {MIN_EXAMPLES} for training and 1 for the test"
        )
    if arrays["train-images"].shape[1:] != arrays["t10k-images"].shape[1:]:
        raise DataError(
            f"data {shown(name)}: training and test images differ in size: use files of one data set"
        )
    class_names = (
        source.class_names
        if source
        else tuple(map(str, range(int(arrays["train-labels"].max()) + 1)))
    )
    for part in ("train-labels", "t10k-labels"):
        if (largest := int(arrays[part].max())) >= len(class_names):
            raise DataError(
                f"{shown(files[part], 200)} has label {largest}, but there are {len(class_names)} classes "
                f"(0 to {len(class_names) - 1}): use the labels that belong to these images"
            )

    def pair(kind, rows):
        return Split(
            arrays[f"{kind}-images"][rows, None],
            arrays[f"{kind}-labels"][rows].astype(np.int64),
            256,
        )

    n = len(arrays["train-images"])
    share = config.validation or 1 / 12
    order = Rng(config.split_seed).at("split").numpy("order").permutation(n)
    cut = max(1, round(n * share))
    splits = {
        "train": pair("train", order[cut:]),
        "validation": pair("train", order[:cut]),
        # shuffled too: the first half of MNIST's test images is easier than the second
        "test": pair(
            "t10k",
            Rng(config.split_seed)
            .at("split")
            .numpy("test")
            .permutation(len(arrays["t10k-images"])),
        ),
    }
    return image_dataset(name, splits, class_names, config, notes=tuple(notes))


def read(path: Path, part: str) -> np.ndarray:
    """The uint8 array in an IDX file, gzipped or not: (N, H, W) or, of labels, (N,). Raises DataError."""
    content = unpack(_bytes(path), path, part)
    shape = np.frombuffer(content, ">u4", _dimensions(part), offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def unpack(raw: bytes, path: Path, part: str) -> bytearray:
    """The checked, unpacked bytes of an IDX file. Raises DataError naming the file ``path``."""
    dimensions = _dimensions(part)

    def bad(what):
        return DataError(
            f"{shown(path, 200)} {what}: replace it, or remove it to have a known data set downloaded anew"
        )

    stream = gzip.GzipFile(fileobj=io.BytesIO(raw)) if raw[:2] == GZIP else io.BytesIO(raw)
    content = bytearray()

    def read_to(size: int) -> None:
        while len(content) < size and (block := stream.read(min(2**20, size - len(content)))):
            content.extend(block)

    try:
        read_to(4 + 4 * dimensions)
        if content[:4] != bytes((0, 0, 8, dimensions)):
            raise bad(
                f"is not an IDX file of {part.split('-')[1]} (it does not start with 0x0000080{dimensions})"
            )
        shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
        if len(content) < 4 + 4 * dimensions or prod(shape) > LARGEST or 0 in shape[1:]:
            raise bad(f"has an impossible header (shape {'x'.join(map(str, shape))})")
        size = 4 + 4 * dimensions + prod(shape)
        if raw[:2] == GZIP:
            check_unpacked(path, size, len(raw))
        read_to(
            size + 1
        )  # one more than there should be: reading to the end also checks gzip's own checksum
    except (OSError, EOFError, zlib.error) as error:
        raise bad(f"is damaged ({error})") from error
    if len(content) != size:
        raise bad(
            f"holds {'more' if len(content) > size else 'fewer'} bytes than its header says ({size})"
        )
    return content


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(
                f"{shown(path, 200)} is far larger than an IDX file should be: replace it"
            )
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{shown(path, 200)} cannot be read ({error.strerror}): mend its permissions"
        ) from error


def _dimensions(part: str) -> int:
    return 3 if part.endswith("images") else 1


def _file_name(part: str) -> str:
    return f"{part}-idx{_dimensions(part)}-ubyte"


def _find(folder: Path, part: str) -> Path | None:
    dashed = _file_name(part)
    names = [stem + end for stem in (dashed, dashed.replace("-idx", ".idx")) for end in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _official(raw: bytes, path: Path, part: str, source: Source) -> bool:
    """Whether the file has the size and the digest, as it is or unpacked. Unpacking raises DataError on a damaged file."""
    content, place = unpack(raw, path, part), PARTS.index(part)
    if source.sizes and len(content) != source.sizes[place]:
        return False
    digest = source.digests[place]
    kind = hashlib.sha256 if len(digest) == 64 else hashlib.md5
    return digest in (kind(raw).hexdigest(), kind(content).hexdigest())


def _provide(name: str, source: Source) -> tuple[dict[str, Path], list[str]]:
    """The four files of a data set with a name: yours, the cache's, or the mirrors'; and notes on them."""
    own = (
        Path(os.environ["FROMNOISE_DATA"]).expanduser() / name
        if os.environ.get("FROMNOISE_DATA")
        else None
    )
    cache, files, notes = cache_folder(name), {}, []
    for part in PARTS:
        if own and (path := _find(own, part)):
            if not _official(_bytes(path), path, part, source):
                notes.append(
                    f"{shown(path, 200)} could not be verified: its checksum is not that of the official file"
                )
            files[part] = path
        else:
            files[part] = _cached(name, source, cache, part, own)
    return files, notes


def _cached(name: str, source: Source, cache: Path, part: str, own: Path | None) -> Path:
    path = _find(cache, part)
    try:
        if path and _official(_bytes(path), path, part, source):
            return path
    except DataError:
        pass  # a damaged file in our own cache is fetched anew
    path = cache / f"{_file_name(part)}.gz"
    urls = [mirror.rstrip("/") + "/" + path.name for mirror in source.mirrors]
    try:
        raw = fetch(urls, lambda raw: _official(raw, path, part, source))
    except FetchError as error:
        raise DataError(
            f"{name} cannot be downloaded ({error}): put {', '.join(f'{_file_name(p)}.gz' for p in PARTS)} "
            f"into {shown(own or cache, 200)}"
            + ("" if own else f", or into {name}/ in a folder that FROMNOISE_DATA names")
        ) from error
    with cache_writes(cache):
        cache.mkdir(parents=True, exist_ok=True)
        write_atomic(path, raw)
    return path
