"""The image files in a folder, and notes about the files and folders that are not read."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...core.errors import DataError
from ...core.words import shown
from ..formats.encoding import archive_kind, encoding_of
from ..formats.images import is_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
CAPTION_FILES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
CAPTION_SUFFIXES = (".txt", ".caption", ".json")  # of a file named after an image
MAX_LISTED = 20  # files that one message names
HEAD = 4096  # bytes by which a file that is not an image is recognised


@dataclass(frozen=True)
class ImageFile:
    """An image file in a folder.

    name   path relative to the folder
    group  name of the folder that is its class, or "" if there is none
    part   the split that its folder names, or ""
    """

    path: Path
    name: str
    group: str
    part: str = ""


@dataclass
class Listing:
    """What a folder holds: images sorted by name, names of other files, names of sub-folders."""

    images: list[ImageFile] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)


def list_folder(folder: Path) -> Listing:
    """Raises DataError if a folder cannot be read."""
    listing = Listing()
    listing.images = sorted_by_name(iterate_images(folder, listing))
    return listing


def sorted_by_name(files) -> list[ImageFile]:
    return sorted(files, key=lambda file: os.fsencode(file.name))


def iterate_images(folder: Path, listing: Listing | None = None) -> Iterator[ImageFile]:
    """Every image file at any depth; links are followed, but not back into a folder above them.

    A file with a suffix in SUFFIXES is an image, and any other one if its content is.
    listing: receives the names of the other files, and of the sub-folders.
    """
    pending: list[tuple[Path, str, frozenset]] = [(folder, "", frozenset())]
    while pending:
        path, prefix, above = pending.pop()
        try:
            status = path.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                continue
            entries = list(os.scandir(path))
        except OSError as error:
            raise DataError(
                f"cannot read the folder {shown(path, 200)} ({error.strerror}): "
                "mend its permissions"
            ) from error
        if listing is not None and prefix:
            listing.folders.append(prefix.removesuffix("/"))
        for entry in entries:
            name = prefix + entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                pending.append((path / entry.name, name + "/", above | {identity}))
            elif _is_image_entry(entry, path):
                group = name.split("/")[0] if prefix else ""
                yield ImageFile(path / entry.name, name, group)
            elif listing is not None and (entry.is_file() or entry.is_symlink()):
                listing.others.append(name)


def _is_image_entry(entry: os.DirEntry, folder: Path) -> bool:
    if entry.name.lower().endswith(SUFFIXES) and (entry.is_file() or entry.is_symlink()):
        return True
    return entry.is_file() and is_image(folder / entry.name)


def notes_on_listing(folder: Path, listing: Listing) -> list[str]:
    """A note each on labels, captions and other files, and on folders, that are not read."""
    stems = {os.path.splitext(file.name)[0] for file in listing.images}
    labels = [name for name in listing.others if _base(name) == "dataset.json"]
    captions = [name for name in listing.others if _is_caption_file(name, stems)]
    notes = []
    if labels:
        notes.append(
            f"{shown(labels[0])} is ignored: labels are not read from it; images in one "
            "sub-folder for each class have labels"
        )
    if captions:
        notes.append(
            f"{len(captions)} file{'s' * (len(captions) > 1)} beside the images ignored, such as "
            f"{shown(captions[0])}: captions are not read"
        )
    rest = [name for name in listing.others if name not in {*labels, *captions}]
    if rest:
        notes.append(_note_on_others(folder, rest))
    return notes + _note_on_empty_folders(listing)


def _base(name: str) -> str:
    return os.path.basename(name).lower()


def _is_caption_file(name: str, stems: set[str]) -> bool:
    """stems: names of the images without their suffixes."""
    base = _base(name)
    if base in CAPTION_FILES:
        return True
    return base.endswith(CAPTION_SUFFIXES) and os.path.splitext(name)[0] in stems


def _note_on_others(folder: Path, names: list[str]) -> str:
    counts = Counter(
        (os.path.splitext(name)[1].lower(), _describe_file(folder / name)) for name in names
    )
    kinds = [
        f"{count} {suffix or 'without an ending'} ({kind})"
        for (suffix, kind), count in counts.most_common(MAX_LISTED)
    ]
    more = " ..." * (len(counts) > MAX_LISTED)
    return f"files left out, since they are not images: {', '.join(kinds)}{more}"


def _describe_file(path: Path) -> str:
    """What a file that is not an image holds, in words."""
    if not path.is_file():
        return "a broken link"
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        return error.strerror or "cannot be read"
    if not head:
        return "empty"
    if kind := archive_kind(head):
        return f"{kind}: unpack it first"
    if head[4:8] == b"ftyp":
        return "not read here: convert it to PNG or JPEG"
    return "unknown" if b"\0" in head or encoding_of(head, [head]) else "text"


def _note_on_empty_folders(listing: Listing) -> list[str]:
    """A note on the folders without an image at any depth; folders within these are not named."""
    filled = {""}
    for file in listing.images:
        above = file.name
        while (above := above.rpartition("/")[0]) not in filled:
            filled.add(above)
    empty = sorted(
        name for name in listing.folders if name not in filled and name.rpartition("/")[0] in filled
    )
    if not empty or not listing.images:
        return []
    names = ", ".join(map(shown, empty[:MAX_LISTED]))
    return [
        f"folder{'s' * (len(empty) > 1)} left out, without an image: {names}"
        f"{and_more(len(empty) - MAX_LISTED)}"
    ]


def and_more(count: int) -> str:
    """The end of a list that names only some."""
    return f" and {count} more" if count > 0 else ""
