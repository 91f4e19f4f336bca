"""From a run to samples. Sample i depends on (seed, i) only."""

import csv
import io
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import isfinite
from pathlib import Path

import numpy as np
import torch

from ..core.config import build
from ..core.errors import UsageError
from ..core.files import make_folder, write_atomic
from ..core.limits import SHARE, memory, refuse_larger
from ..core.picture import image_grid, png_bytes
from ..core.rng import Rng
from ..core.spec import check_labels
from ..data.codecs.columns import as_number
from ..data.codecs.tokenizer import encode_utf8
from ..data.dataset import Dataset
from ..runs.load import LoadedRun

# Samples are always made in blocks of this size, the last one filled up: kernels round differently
# for
# different batch sizes, and so a sample would depend on how many others were asked for.
BLOCK = 64
SMALLEST_FILE = 4096  # bytes of the disk that a picture takes at least
MOST_FILES = 10**7  # in one folder
# full width forms, too
FORMULA = (
    "=",
    "+",
    "-",
    "@",
    "\t",
    "\r",
    "\n",
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
)


@torch.no_grad()
def blocks(
    loaded: LoadedRun,
    n: int,
    seed: int = 0,
    label: int | None = None,
    options: dict | None = None,
    labels: torch.Tensor | None = None,
    prompt: str | None = None,
) -> Iterator[torch.Tensor]:
    """The samples 0 .. n-1 in model form, at most BLOCK at a time, (b, *shape); rows of a table as
    they are written.

    label: one class for all, prompt: one caption for all, or labels: (n,) or (n, L), one for each;
    with none of them a conditional model goes through the classes that it learned, or the captions
    that its run recorded, in turn. Raises UsageError, also for a label of a class that has no
    training example.
    """
    if n < 1:
        raise UsageError(f"-n takes a number from 1 on, not {n}")
    model, dataset, spec = loaded.model, loaded.dataset, loaded.dataset.spec
    conditional = model.conditional
    if prompt is not None:
        if not (conditional and spec.caption):
            raise UsageError(
                "this model was not trained with captions (--conditional, data that has them): "
                "leave --prompt out"
            )
        labels = dataset.caption_codec.encode([prompt]).expand(n, -1)
    if label is not None:
        if spec.caption:
            raise UsageError(
                "this data has captions and no classes: "
                f"{'give --prompt instead of --label' if conditional else 'leave --label out'}"
            )
        check_takes_labels(loaded)
        check_labels([label], 1, spec.classes)
        dataset.require_learned_classes([label])
    options = build(loaded.family.Options, options or {})
    rng = Rng(seed, ("sample",), device=loaded.device)
    for start in range(0, n, BLOCK):
        rows = range(start, start + BLOCK)
        y = None
        if conditional and labels is not None:
            y = labels[torch.tensor(rows) % n].to(loaded.device)
        elif conditional:
            y = (
                dataset.default_conditions(rows).to(loaded.device)
                if label is None
                else torch.full((BLOCK,), label, device=loaded.device)
            )
        x = model.sample(BLOCK, y, options, rng.per_row(rows))
        yield dataset.as_delivered(x[: min(BLOCK, n - start)])


def sample(
    loaded: LoadedRun,
    n: int,
    seed: int = 0,
    label: int | None = None,
    options: dict | None = None,
    prompt: str | None = None,
) -> torch.Tensor:
    """n samples in model form (n, *shape). Raises UsageError, also for more than fit into the
    memory.
    """
    refuse_too_many(loaded, n)
    return torch.cat(list(blocks(loaded, n, seed, label, options, prompt=prompt)))


def refuse_too_many(loaded: LoadedRun, n: int) -> None:
    """Raises UsageError if n samples do not fit into the memory, in model form and in that of a
    file.
    """
    spec = loaded.dataset.spec
    # bytes; the values of a table are Python objects on their way
    each = spec.dims * (12 if spec.kind == "image" else 40)
    fits = int(SHARE * memory() / each)
    mend = f"ask for {fits:,} or fewer" + (
        ", or for a folder (-o NAME), which is written as they come" * (spec.kind == "image")
    )
    refuse_larger(n * each, f"-n {n}: so many samples", mend)


def sample_to(
    loaded: LoadedRun,
    n: int,
    target: Path,
    seed: int = 0,
    label: int | None = None,
    options: dict | None = None,
    prompt: str | None = None,
    raw_csv: bool = False,
    warn: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Draws n samples and writes them, see ``write``; images into a folder as they come. Raises
    UsageError, StorageError.
    """
    dataset = loaded.dataset
    if dataset.spec.kind != "image" or target.suffix:
        x = sample(loaded, n, seed, label, options, prompt)
        return write(dataset, x, target, labels_of(loaded, n, label), raw_csv, warn)
    place = next(parent for parent in (target, *target.absolute().parents) if parent.exists())
    room = shutil.disk_usage(place).free // SMALLEST_FILE
    if n > min(room, MOST_FILES):
        raise UsageError(
            f"-n {n}: so many files are too many for one folder, and the disk has room for "
            f"{room:,}: ask for {min(room, MOST_FILES):,} or fewer"
        )
    made = blocks(loaded, n, seed, label, options, prompt=prompt)
    # what is wrong with the options is said before a folder is made
    made = itertools.chain([next(made)], made)
    return write_folder(
        target, ".png", (png_bytes(picture) for x in made for picture in in_own_units(dataset, x))
    )


@contextmanager
def guided_by(loaded: LoadedRun, weak: LoadedRun | None, options: dict) -> Iterator[None]:
    """Within it, a diffusion model samples with guidance away from what a weaker one sees:
    autoguidance (Karras et al. 2024, arXiv:2406.02507).

    weak: a smaller or less trained model of the same data and path, and the same first stage if
    there is one; None: nothing is changed. The option guidance says how far. Raises UsageError.
    """
    if weak is None:
        yield
        return
    stages = [getattr(one.model, "second", one.model) for one in (loaded, weak)]
    if not all(hasattr(stage, "guide_with") for stage in stages):
        raise UsageError(
            "only a diffusion model is guided by another model, and only by a diffusion model: "
            "leave --guide-with out"
        )
    if weak.dataset.digest != loaded.dataset.digest:
        raise UsageError(
            f"{weak.run.path} was trained on other data than {loaded.run.path}: guide with a model "
            "of the same data"
        )
    if any(one.family.second for one in (loaded, weak)) and loaded.run.info["config"].get(
        "digest"
    ) != weak.run.info["config"].get("digest"):
        raise UsageError(
            f"{weak.run.path} works on the codes of another first stage than {loaded.run.path}: "
            "guide with a run within the same one"
        )
    if build(loaded.family.Options, options).guidance == 1:
        raise UsageError(
            "--guide-with says by what to guide, --guidance how much: add --guidance 1.5, or leave "
            "it out"
        )
    stages[0].guide_with(stages[1])
    try:
        yield
    finally:
        stages[0].guide_with(None)


def labels_of(loaded: LoadedRun, n: int, label: int | None = None) -> torch.Tensor | None:
    """(n,) classes that ``sample`` tells a conditional model for the samples 0 .. n-1; None where
    it tells none, or captions.
    """
    if not is_conditional(loaded) or not loaded.dataset.spec.classes:
        return None
    return loaded.dataset.default_conditions(range(n)) if label is None else torch.full((n,), label)


def is_conditional(loaded: LoadedRun) -> bool:
    return loaded.model.conditional


def check_takes_labels(loaded: LoadedRun) -> None:
    """Raises UsageError unless the model draws the class that it is told."""
    if not is_conditional(loaded):
        raise UsageError(
            f"{loaded.run.path} is not conditional: leave --label out, or train with --conditional "
            "for samples of one class"
        )


def lost_label(loaded: LoadedRun) -> str:
    """In words, why samples have no label column although the table has one; or ""."""
    codec = loaded.dataset.columns
    name = loaded.dataset.settings.get("label") or (codec.label if codec is not None else "")
    if (
        codec is None
        or not name
        or is_conditional(loaded)
        or any(column.name == name for column in codec.columns)
    ):
        return ""
    return (
        f"the label column '{name}' is not in the samples, since this run did not learn it: train "
        "anew without --no-learn-label"
    )


def in_own_units(
    dataset: Dataset, x: torch.Tensor, y: torch.Tensor | None = None
) -> np.ndarray | dict | list[str]:
    """Model form -> what the user gave: uint8 images (N, H, W[, C]), points (N, D), a table as
    {column: values}, texts.

    y: (N,) classes that a conditional model was told: they are the label column of a table.
    """
    if dataset.spec.kind == "image":
        return dataset.to_pixels(x)
    if dataset.tokenizer is not None:
        return [dataset.tokenizer.decode(row) for row in x.cpu().numpy()]
    values = x.detach().cpu().numpy()
    if dataset.columns is None:
        return values
    codec, rows = dataset.columns, dataset.columns.decode(values)
    if not codec.label and "label" in dataset.settings:  # a run of before places were recorded
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
    warn: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Writes samples in the form that the ending names: folder of PNGs, .png grid, .npy, .csv,
    .txt. Returns the files.

    y: (N,) the classes that a conditional model was told: the label is a column of .csv, and no
    part of .npy. raw_csv: False puts an apostrophe before text that a spreadsheet would execute,
    see ``neutral``; warn receives a line about it.

    Raises UsageError for an ending that does not suit the data, StorageError.
    """
    suffix = target.suffix.lower()
    own = in_own_units(dataset, x, y if suffix == ".csv" else None)
    if isinstance(own, list):
        return write_texts(own, x.tolist(), target)
    is_image = dataset.spec.kind == "image"
    if (
        suffix not in (".npy", ".csv", ".png", "")
        or (is_image and suffix == ".csv")
        or (not is_image and suffix in (".png", ""))
    ):
        allowed = (
            "a folder, .png or .npy"
            if is_image
            else ".npy or .csv (`fromnoise show RUN samples` draws it)"
        )
        raise UsageError(f"-o {target}: this data is written as {allowed}")
    make_folder(target.parent)
    if suffix == ".npy":
        if isinstance(own, dict):
            own = {name: cells for name, cells in own.items() if name != dataset.columns.label}
        array = (
            own
            if isinstance(own, np.ndarray)
            else np.column_stack([np.asarray(v) for v in own.values()])
        )
        if array.dtype.kind not in "uif":
            raise UsageError(f"-o {target}: a table with categories is written as .csv")
        if (
            array.dtype.kind == "f"
            and isinstance(own, dict)
            and any(column.offset for column in dataset.columns.columns)
        ):
            raise UsageError(
                f"-o {target}: a table with numbers beyond 2^53 among others is written as .csv, "
                "which is exact"
            )
        write_atomic(target, npy_bytes(array))
    elif suffix == ".csv":
        columns = (
            own if isinstance(own, dict) else {f"x{i}": column for i, column in enumerate(own.T)}
        )
        if y is not None and not isinstance(own, dict):
            columns["label"] = [
                dataset.class_names[i] if dataset.class_names else i for i in y.tolist()
            ]
        names, cells = list(columns), list(columns.values())
        if not raw_csv:
            names, cells = neutral_cells(names, cells, warn)
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(zip(*cells))
        write_atomic(target, buffer.getvalue())
    elif suffix == ".png":
        write_atomic(target, png_bytes(image_grid(own)))
    else:
        return write_folder(target, ".png", map(png_bytes, own))
    return [target]


def neutral_cells(
    names: list[str], columns: list[Sequence], warn: Callable[[str], None]
) -> tuple[list[str], list[Sequence]]:
    """Names and columns of a table, ``neutral``; warn hears how many were changed."""
    safe_names = [neutral(name) for name in names]
    safe_columns = [
        [neutral(cell) if isinstance(cell, str) else cell for cell in cells] for cells in columns
    ]
    changed = sum(a != b for a, b in zip(names, safe_names))
    cells = sum(
        a != b
        for before, after in zip(columns, safe_columns)
        for a, b in zip(before, after)
        if isinstance(a, str)
    )
    if changed_parts := [
        f"{n} {what}{'s' * (n > 1)}" for n, what in ((cells, "cell"), (changed, "column name")) if n
    ]:
        one = cells + changed == 1
        warn(
            f"{' and '.join(changed_parts)} begin{'s' * one} like a formula: an apostrophe was put before {'it' if one else 'them'} "
            "(--raw-csv leaves it out)"
        )
    return safe_names, safe_columns


def neutral(text: str) -> str:
    """A text with an apostrophe before it if a spreadsheet would take it for a formula; plain
    numbers stay.

    What begins a formula: OWASP, "CSV Injection".
    """
    if not text.startswith(FORMULA) or isfinite(as_number(text)):
        return text
    return f"'{text}"


def write_texts(texts: Sequence[str], symbols: Sequence[Sequence[int]], target: Path) -> list[Path]:
    """Texts as one .txt or a folder of them, or their symbols as .npy: int64 (n, longest), -1 after
    the end of a shorter one.

    Raises UsageError for another ending, StorageError.
    """
    suffix = text_ending(target)
    make_folder(target.parent)
    if not suffix:
        return write_folder(target, ".txt", map(encode_utf8, texts))
    if suffix == ".txt":
        write_atomic(target, encode_utf8(one_after_another(texts)))
    else:
        array = np.full((len(symbols), max(map(len, symbols))), -1)
        for row, found in zip(array, symbols):
            row[: len(found)] = found
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


def one_after_another(texts: Sequence[str]) -> str:
    """A single text as it is, several each under a line with its number."""
    if len(texts) == 1:
        return texts[0]
    return "".join(f"--- {i} ---\n{text}\n" for i, text in enumerate(texts, 1))


def write_folder(target: Path, suffix: str, contents: Iterable[bytes]) -> list[Path]:
    """000000.png, 000001.png ... in an empty folder. Raises UsageError, StorageError."""
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
