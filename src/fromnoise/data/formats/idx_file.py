"""One file of the IDX format, gzipped or not.

The length of a file is checked against its own header before it is unpacked, so that neither a
false header nor a gzip bomb can fill the memory.
"""

import gzip
import io
import zlib
from math import prod
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.limits import check_unpacked
from ...core.words import shown

PARTS = ("train-images", "train-labels", "t10k-images", "t10k-labels")
GZIP = b"\x1f\x8b"  # how such a file begins
LARGEST = 2**31  # bytes of one unpacked file: three times the largest one, EMNIST by class
BLOCK = 2**20  # bytes that are unpacked at once


def parse_idx(path: Path, part: str) -> np.ndarray:
    """The uint8 array in a file: (N, H, W) or, of labels, (N,). Raises DataError."""
    content = unpack(read_bytes(path), path, part)
    shape = np.frombuffer(content, ">u4", _dimensions(part), offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)


def unpack(raw: bytes, path: Path, part: str) -> bytearray:
    """The checked, unpacked bytes of a file. Raises DataError with the name ``path``."""
    is_packed = raw[:2] == GZIP
    stream = gzip.GzipFile(fileobj=io.BytesIO(raw)) if is_packed else io.BytesIO(raw)
    content = bytearray()
    try:
        _read_up_to(4 + 4 * _dimensions(part), stream, content)
        size = _size_in_header(content, path, part)
        if is_packed:
            check_unpacked(path, size, len(raw))
        # One byte more than there should be: reading to the end also checks gzip's own checksum.
        _read_up_to(size + 1, stream, content)
    except (OSError, EOFError, zlib.error) as error:
        raise _bad_file(path, f"is damaged ({error})") from error
    if len(content) != size:
        comparison = "more" if len(content) > size else "fewer"
        raise _bad_file(path, f"holds {comparison} bytes than its header says ({size})")
    return content


def _read_up_to(size: int, stream, content: bytearray) -> None:
    while len(content) < size and (block := stream.read(min(BLOCK, size - len(content)))):
        content.extend(block)


def _size_in_header(content: bytearray, path: Path, part: str) -> int:
    """Bytes of the whole file. Raises DataError if the header is not that of such a file."""
    dimensions = _dimensions(part)
    if content[:4] != bytes((0, 0, 8, dimensions)):
        kind = part.split("-")[1]
        raise _bad_file(
            path, f"is not an IDX file of {kind} (it does not start with 0x0000080{dimensions})"
        )
    shape = [int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    if len(content) < 4 + 4 * dimensions or prod(shape) > LARGEST or 0 in shape[1:]:
        raise _bad_file(path, f"has an impossible header (shape {'x'.join(map(str, shape))})")
    return 4 + 4 * dimensions + prod(shape)


def _bad_file(path: Path, problem: str) -> DataError:
    return DataError(
        f"{shown(path, 200)} {problem}: replace it, or remove it to have a known data set "
        "downloaded anew"
    )


def read_bytes(path: Path) -> bytes:
    """Raises DataError if the file is far too large, or cannot be read."""
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


def file_name(part: str) -> str:
    return f"{part}-idx{_dimensions(part)}-ubyte"


def find_file(folder: Path, part: str) -> Path | None:
    """The file of this part in a folder, under any of its usual names."""
    dashed = file_name(part)
    for stem in (dashed, dashed.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            path = folder / (stem + suffix)
            if path.is_file():
                return path
    return None
