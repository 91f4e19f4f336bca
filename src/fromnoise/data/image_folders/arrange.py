"""Splits and classes of images from the names of their folders."""

import os
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ...core.errors import DataError, UsageError
from ...core.rng import Rng
from ...core.words import shown
from ..config import SplitShares
from ..splits import SPLITS, split_rows
from .listing import ImageFile, sorted_by_name

MAX_LISTED_NAMES = 5
SPLIT_FOLDERS = {
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


def assign_splits_and_classes(
    name: str, files: list[ImageFile], config: SplitShares, notes: list[str]
) -> list[ImageFile]:
    """The files with the splits and classes that their folders name.

    Folders named as in SPLIT_FOLDERS, one of them for training, are splits if every image is in
    one: at the top, within one folder that holds everything, or within each class.
    Raises DataError if images lie beside folders of classes, and UsageError.
    """
    folders = [file.name.split("/")[:-1] for file in files]
    depth = len(os.path.commonprefix(folders))
    for split_depth, class_depth in ((depth, depth + 1), (depth + 1, depth)):
        parts = _splits_at(folders, split_depth)
        if all(parts) and "train" in parts and len(set(parts)) > 1:
            groups = [path[class_depth] if len(path) > class_depth else "" for path in folders]
            files = [
                replace(file, part=part, group=group)
                for file, part, group in zip(files, parts, groups)
            ]
            return _check_splits(name, files, config, notes)
    parts = _splits_at(folders, depth)
    split_names = sorted({path[depth] for path, part in zip(folders, parts) if part})
    if len(split_names) > 1 and "train" in parts and "" in parts:
        first = parts.index("")
        other = folders[first][depth] if len(folders[first]) > depth else files[first].name
        notes.append(
            f"folders {', '.join(map(shown, split_names))} are not taken for splits, "
            f"since {shown(other)} lies beside them"
        )
    _refuse_mixed_levels(name, files)
    return files


def _splits_at(folders: Sequence[Sequence[str]], depth: int) -> list[str]:
    """The split that each file's folder at this depth names, or ""."""
    return [
        SPLIT_FOLDERS.get(path[depth].lower(), "") if len(path) > depth else "" for path in folders
    ]


def _check_splits(
    name: str, files: list[ImageFile], config: SplitShares, notes: list[str]
) -> list[ImageFile]:
    """The files of folders that are splits, with notes on them. Raises DataError, UsageError."""
    splits = {part: [file for file in files if file.part == part] for part in SPLITS}
    for part, part_files in splits.items():
        if part_files and part != "train" and getattr(config, part) is not None:
            raise UsageError(
                f"--{part}: data {shown(name)} has a folder for it: leave the option out"
            )
        _refuse_mixed_levels(name, part_files)
    has_classes = bool(splits["train"][0].group)
    for part, part_files in splits.items():
        if not part_files:
            continue
        if has_classes and not part_files[0].group:
            notes.append(
                f"the {len(part_files)} images for {part} are left out: they are not in folders "
                "of classes, as those for training are"
            )
            splits[part] = []
        elif part_files[0].group and not has_classes:
            splits[part] = [replace(file, group="") for file in part_files]
    present = {part: part_files for part, part_files in splits.items() if part_files}
    sizes = ", ".join(f"{part} {len(part_files)}" for part, part_files in present.items())
    missing = [part for part in SPLITS if part not in present]
    drawn = f"; {' and '.join(missing)} drawn from train" if missing else ""
    notes.append(f"folders are taken for the splits that they are named after: {sizes}{drawn}")
    return sorted_by_name(sum(splits.values(), []))


def _refuse_mixed_levels(name: str, files: list[ImageFile]) -> None:
    """Raises DataError if images lie beside folders of classes."""
    loose = [file for file in files if not file.group]
    grouped = [file for file in files if file.group]
    if loose and grouped:
        raise DataError(
            f"data {shown(name)}: images both at the top ({shown(loose[0].name)}) and in "
            f"sub-folders ({shown(grouped[0].name)}); sub-folders are classes: move the "
            f"{len(loose)} at the top into one"
        )


def name_classes(groups: list[str], notes: list[str]) -> tuple[str, ...]:
    """The names of the folders; () for one folder."""
    if len(groups) == 1:
        if groups[0]:
            notes.append(f"one sub-folder only, {shown(groups[0])}: the images have no labels")
        return ()
    names = tuple(map(decode_name, groups))
    changed = [name for group, name in zip(groups, names) if group != name]
    if changed:
        listed = ", ".join(map(shown, changed[:MAX_LISTED_NAMES]))
        notes.append(
            f"names of folders that are not UTF-8 are read as Latin-1: {listed}"
            + " ..." * (len(changed) > MAX_LISTED_NAMES)
        )
    return names


def decode_name(name: str) -> str:
    """A file name as text that can be written. Bytes that are not UTF-8 make all of it Latin-1, so
    that different names stay different."""
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError:
        return os.fsencode(name).decode("latin-1")


def rows_of_splits(
    files: list[ImageFile], y: np.ndarray | None, config: SplitShares
) -> dict[str, np.ndarray]:
    """Row numbers of the splits that folders name; the others are drawn from the training rows."""
    if not files[0].part:
        return split_rows(len(files), config, y)
    rng = Rng(config.split_seed).at("split")
    rows = {}
    for part in SPLITS:
        part_rows = np.flatnonzero([file.part == part for file in files])
        rows[part] = part_rows[rng.numpy("order", part).permutation(len(part_rows))]
    missing = [part for part in SPLITS if not len(rows[part])]
    if not missing:
        return rows
    train = rows["train"]
    if not len(train):
        raise DataError("no image for training is left: mend the files in its folder")
    drawn = split_rows(len(train), config, None if y is None else y[train])
    kept = [drawn["train"]]
    for part in SPLITS[1:]:
        if part in missing:
            rows[part] = train[drawn[part]]
        else:
            kept.append(drawn[part])
    rows["train"] = train[np.concatenate(kept)]
    return rows
