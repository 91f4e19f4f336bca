"""A folder of images, decoded once into a memory-mapped store in the cache folder.

The key of the store holds the folder, each file's name, size and time, and the options. A file
changed in place with its size and time kept is not noticed.
"""

import hashlib
import os
from pathlib import Path

import numpy as np

from ...core.errors import DataError
from ...core.json_files import canonical_json
from ...core.words import shown
from ..config import FolderOptions
from ..dataset import Dataset
from ..formats.images import (
    Conversion,
    decode_image,
    image_size,
    quiet_pillow,
    read_or_reason,
)
from ..image_dataset import image_dataset
from ..image_folders.arrange import assign_splits_and_classes
from ..image_folders.build import build_store, parse_span
from ..image_folders.listing import (
    SUFFIXES,
    ImageFile,
    iterate_images,
    list_folder,
    notes_on_listing,
    sorted_by_name,
)
from ..source import Source
from ..store import cache_folder, open_or_build

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
VERSION = b"3"  # part of the key: stores of earlier versions are not used


def load(name: str, options: FolderOptions) -> Dataset:
    """Images of one size, uint8 levels 0 .. 255; sub-folders are classes.

    Raises DataError (nothing there, unreadable files, images at several levels), UsageError, and
    StorageError if the cache cannot be written.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        raise DataError(f"data {shown(name)}: no such folder; name a folder that holds images")
    listing = list_folder(folder)
    notes = notes_on_listing(folder, listing)
    if not listing.images:
        raise DataError(
            f"data {shown(name)}: neither images nor text in this folder; put files there, such as "
            f"{' '.join(SUFFIXES)}, or text in UTF-8" + "".join(f" ({note})" for note in notes)
        )
    files = assign_splits_and_classes(name, listing.images, options, notes)

    def build(at: Path) -> dict:
        return build_store(at, name, files, options)

    store = open_or_build(cache_folder("folders", _store_key(folder, files, options)), build)
    digest = {"digest": store.digest} if options.binarise == "none" else {}
    value_range = store.source_record.get("range", options.range)
    return image_dataset(
        name,
        store.splits(),
        store.class_names,
        options,
        notes=(*notes, *store.notes),
        settings={} if value_range == options.range else {"range": value_range},
        **digest,
    )


def read_images(
    folder: Path, n: int, side: int, channels: int, options: FolderOptions
) -> np.ndarray:
    """The first n images of a folder as uint8 (n, channels, side, side), converted as for training.

    Raises DataError, naming a file that cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"{shown(folder)}: no such folder; name a folder that holds images")
    files = sorted_by_name(iterate_images(folder))[:n]
    if not files:
        raise DataError(f"{shown(folder)}: no images in this folder")
    conversion = Conversion(
        side, options.crop, channels == 1, options.background, parse_span(options.range)
    )

    def read(path: Path) -> np.ndarray:
        image_size(path, options.max_pixels)
        return decode_image(path, conversion).pixels

    images = []
    with quiet_pillow():
        for file in files:
            pixels = read_or_reason(read, file.path)
            if isinstance(pixels, str):
                raise DataError(
                    f"{shown(file.name)} cannot be read ({pixels}): take it out of the folder"
                )
            images.append(pixels)
    return np.stack(images)


def _store_key(folder: Path, files: list[ImageFile], options: FolderOptions) -> str:
    digest = hashlib.sha256(os.fsencode(folder.resolve()) + VERSION)
    digest.update(canonical_json(options.model_dump(include=set(OPTIONS))).encode())
    for file in files:
        try:
            status = file.path.stat()
            stamp = (status.st_size, status.st_mtime_ns, status.st_mode)
        except OSError:
            stamp = ()
        digest.update(os.fsencode(file.name) + f"\0{stamp}\n".encode())
    return digest.hexdigest()[:32]


def is_folder(path: Path) -> bool:
    return path.is_dir()


SOURCE = Source(
    load,
    FolderOptions,
    reads_folder=is_folder,
    folder_priority=0,
    title="a folder of images",
    about_paths="a folder of images (sub-folders are classes)",
    place=45,
)
