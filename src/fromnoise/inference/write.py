"""Samples as the user receives them: in the units of the data, and written to files."""

import csv
import io
import itertools
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path

import numpy as np
import torch

from ..core.errors import UsageError
from ..core.files import make_folder, write_atomic
from ..core.images import image_grid, png_bytes
from ..core.output import Say, ignore_message
from ..data.codecs.column import as_number
from ..data.codecs.tokenizer import encode_utf8
from ..data.dataset import Dataset
from ..runs.load import LoadedRun
from .sample import labels_of, sample, sample_blocks

SMALLEST_FILE = 4096  # bytes of the disk that an image file takes at least
MOST_FILES = 10**7  # in one folder
# A spreadsheet takes text that begins with one of these for a formula; full width forms, too.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def sample_to(
    loaded: LoadedRun,
    n: int,
    target: Path,
    seed: int = 0,
    label: int | None = None,
    options: dict | None = None,
    prompt: str | None = None,
    raw_csv: bool = False,
    warn: Say = ignore_message,
) -> list[Path]:
    """Draws n samples and writes them, see ``write``; images into a folder one by one.

    Returns the files. Raises UsageError, StorageError.
    """
    dataset = loaded.dataset
    if dataset.spec.kind != "image" or target.suffix:
        x = sample(loaded, n, seed, label, options, prompt)
        return write(dataset, x, target, labels_of(loaded, n, label), raw_csv, warn)
    refuse_too_many_files(target, n)
    blocks = sample_blocks(loaded, n, seed, label, options, prompt=prompt)
    # the first block is drawn before the folder is made: errors in the options come first
    blocks = itertools.chain([next(blocks)], blocks)
    images = (png_bytes(image) for x in blocks for image in to_data_units(dataset, x))
    return write_folder(target, ".png", images)


def refuse_too_many_files(target: Path, n: int) -> None:
    """Raises UsageError if n image files do not fit into one folder or onto the disk."""
    place = next(parent for parent in (target, *target.absolute().parents) if parent.exists())
    room = shutil.disk_usage(place).free // SMALLEST_FILE
    most = min(room, MOST_FILES)
    if n > most:
        raise UsageError(
            f"-n {n}: so many files are too many for one folder, and the disk has room for "
            f"{room:,}: ask for {most:,} or fewer"
        )


def explain_lost_label(loaded: LoadedRun) -> str:
    """Why samples have no label column although the table has one; an empty string otherwise."""
    codec = loaded.dataset.columns
    if codec is None or loaded.model.conditional:
        return ""
    name = loaded.dataset.settings.get("label") or codec.label
    if not name or any(column.name == name for column in codec.columns):
        return ""
    return (
        f"the label column '{name}' is not in the samples, since this run did not learn it: train "
        "anew without --no-learn-label"
    )


def to_data_units(
    dataset: Dataset, x: torch.Tensor, y: torch.Tensor | None = None
) -> np.ndarray | dict | list[str]:
    """Samples in model form -> samples in the units of the data.

    Images are uint8 (N, H, W[, C]), points (N, D), a table is {column: values}, texts are strings.
    y: the class (N,) of each sample, which becomes the label column of a table.
    """
    if dataset.spec.kind == "image":
        return dataset.to_pixels(x)
    if dataset.tokenizer is not None:
        return list(map(dataset.tokenizer.decode, x.cpu().numpy()))
    values = x.detach().cpu().numpy()
    codec = dataset.columns
    if codec is None:
        return values
    rows = codec.decode(values)
    if not codec.label and "label" in dataset.settings:
        # an old run, which did not record the place of the label column
        codec = replace(codec, label=dataset.settings["label"], label_at=len(rows))
    if y is None or y.ndim > 1 or not codec.label:
        return rows
    return codec.insert_label(rows, [dataset.class_names[i] for i in y.tolist()])


def write(
    dataset: Dataset,
    x: torch.Tensor,
    target: Path,
    y: torch.Tensor | None = None,
    raw_csv: bool = False,
    warn: Say = ignore_message,
) -> list[Path]:
    """Writes samples; the file ending selects the format: .png, .npy, .csv, .txt, none: a folder.

    y        the class (N,) of each sample: the label column of .csv, no part of .npy
    raw_csv  False puts an apostrophe before text that a spreadsheet would execute, see ``neutral``
    warn     receives a message about changed text
    Returns the files. Raises UsageError for an ending that does not suit the data, StorageError.
    """
    suffix = target.suffix.lower()
    values = to_data_units(dataset, x, y if suffix == ".csv" else None)
    if isinstance(values, list):
        return write_texts(values, x.tolist(), target)
    check_ending(dataset, target, suffix)
    make_folder(target.parent)
    if suffix == ".npy":
        write_atomic(target, npy_bytes(as_array(dataset, values, target)))
    elif suffix == ".csv":
        names, cells = csv_columns(dataset, values, y)
        if not raw_csv:
            names, cells = neutral_cells(names, cells, warn)
        write_atomic(target, csv_text(names, cells))
    elif suffix == ".png":
        write_atomic(target, png_bytes(image_grid(values)))
    else:
        return write_folder(target, ".png", map(png_bytes, values))
    return [target]


def check_ending(dataset: Dataset, target: Path, suffix: str) -> None:
    """Raises UsageError unless samples of this data, no texts, can be written to the target."""
    if dataset.spec.kind == "image":
        endings = ("", ".png", ".npy")
        allowed = "a folder, .png or .npy"
    else:
        endings = (".npy", ".csv")
        allowed = ".npy or .csv (`fromnoise show RUN samples` draws it)"
    if suffix not in endings:
        raise UsageError(f"-o {target}: this data is written as {allowed}")


def as_array(dataset: Dataset, values: np.ndarray | dict, target: Path) -> np.ndarray:
    """Samples as one array of numbers. Raises UsageError for a table that is not of numbers."""
    if isinstance(values, np.ndarray):
        return values
    columns = [cells for name, cells in values.items() if name != dataset.columns.label]
    array = np.column_stack(list(map(np.asarray, columns)))
    if array.dtype.kind not in "uif":
        raise UsageError(f"-o {target}: a table with categories is written as .csv")
    if array.dtype.kind == "f" and any(column.offset for column in dataset.columns.columns):
        raise UsageError(
            f"-o {target}: a table with numbers beyond 2^53 among others is written as .csv, which "
            "is exact"
        )
    return array


def csv_columns(
    dataset: Dataset, values: np.ndarray | dict, y: torch.Tensor | None
) -> tuple[list[str], list[Sequence]]:
    """Names and cells of the columns of a table."""
    if isinstance(values, dict):
        return list(values), list(values.values())
    columns = {f"x{i}": column for i, column in enumerate(values.T)}
    if y is not None:
        names = dataset.class_names
        columns["label"] = [names[i] if names else i for i in y.tolist()]
    return list(columns), list(columns.values())


def csv_text(names: list[str], columns: list[Sequence]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*columns))
    return buffer.getvalue()


def neutral_cells(
    names: list[str], columns: list[Sequence], warn: Say
) -> tuple[list[str], list[Sequence]]:
    """Names and columns of a table, made ``neutral``; warn receives how many were changed."""
    safe_names, changed_names = neutral_column(names)
    safe_columns = []
    changed_cells = 0
    for cells in columns:
        safe, changed = neutral_column(cells)
        safe_columns.append(safe)
        changed_cells += changed
    counts = ((changed_cells, "cell"), (changed_names, "column name"))
    parts = [f"{n} {noun}{'s' * (n > 1)}" for n, noun in counts if n]
    if parts:
        is_one = changed_cells + changed_names == 1
        verb, object_ = ("begins", "it") if is_one else ("begin", "them")
        warn(
            f"{' and '.join(parts)} {verb} like a formula: an apostrophe was put before {object_} "
            "(--raw-csv leaves it out)"
        )
    return safe_names, safe_columns


def neutral_column(cells: Sequence) -> tuple[list, int]:
    """The cells with ``neutral`` texts, and how many of them changed."""
    safe = [neutral(cell) if isinstance(cell, str) else cell for cell in cells]
    changed = [a != b for a, b in zip(cells, safe) if isinstance(a, str)]
    return safe, sum(changed)


def neutral(text: str) -> str:
    """A text with an apostrophe before it if a spreadsheet would take it for a formula.

    Plain numbers stay. Which texts begin a formula: OWASP, "CSV Injection".
    """
    if not text.startswith(FORMULA_STARTS) or isfinite(as_number(text)):
        return text
    return f"'{text}"


def write_texts(texts: Sequence[str], symbols: Sequence[Sequence[int]], target: Path) -> list[Path]:
    """Writes texts as one .txt, a folder of .txt, or their symbols as .npy.

    .npy holds int64 (n, longest), -1 after the end of a shorter text. Raises UsageError for another
    ending, StorageError.
    """
    suffix = text_ending(target)
    make_folder(target.parent)
    if not suffix:
        return write_folder(target, ".txt", map(encode_utf8, texts))
    if suffix == ".txt":
        write_atomic(target, encode_utf8(join_texts(texts)))
    else:
        array = np.full((len(symbols), max(map(len, symbols))), -1)
        for row, text_symbols in zip(array, symbols):
            row[: len(text_symbols)] = text_symbols
        write_atomic(target, npy_bytes(array))
    return [target]


def text_ending(target: Path) -> str:
    """The ending of a file that texts are written to, "" for a folder. Raises UsageError."""
    suffix = target.suffix.lower()
    if suffix not in (".txt", ".npy", ""):
        raise UsageError(
            f"-o {target}: texts are written as a folder, .txt, or .npy (their symbols)"
        )
    return suffix


def join_texts(texts: Sequence[str]) -> str:
    """A single text as it is, several each under a line with its number."""
    if len(texts) == 1:
        return texts[0]
    return "".join(f"--- {i} ---\n{text}\n" for i, text in enumerate(texts, 1))


def write_folder(target: Path, suffix: str, contents: Iterable[bytes]) -> list[Path]:
    """Writes 000000.png, 000001.png ... into an empty folder. Raises UsageError, StorageError."""
    make_folder(target)
    if any(target.iterdir()):
        raise UsageError(f"-o {target}: the folder is not empty, and nothing is overwritten")
    files = []
    for i, content in enumerate(contents):
        files.append(target / f"{i:06d}{suffix}")
        write_atomic(files[-1], content)
    return files


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
