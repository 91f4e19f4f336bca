"""From a name or a path to a ``Dataset``."""

from pathlib import Path

from ..core.errors import DataError, did_you_mean
from ..core.words import shown
from .config import DataConfig
from .dataset import Dataset, Split
from .splits import SPLITS

__all__ = ["SPLITS", "DataConfig", "Dataset", "Split", "catalogue", "load"]


def _named_sources():
    from .sources import digits, faces, idx, shapes, stacked, text, toys

    return (digits, faces, shapes, toys, idx, stacked, text)


def catalogue() -> dict[str, str]:
    """Name -> one line about every data set that has a name."""
    lines: dict[str, str] = {}
    for source in _named_sources():
        lines |= source.NAMES
    return lines


def load(name: str, config: DataConfig | None = None) -> Dataset:
    """The data set with this name, or made from the file or folder at this path.

    Raises DataError (missing, damaged, unknown form) and UsageError (an option without meaning for
    this source).
    """
    config = config or DataConfig()
    for source in _named_sources():
        if name in source.NAMES:
            return source.load(name, config)
    path = Path(name).expanduser()
    if not path.exists():
        raise DataError(_explain_missing(name, path))
    if path.is_dir():
        return _folder_source(path).load(name, config)
    if not path.is_file():
        raise DataError(
            f"data {shown(name)} is no file or folder, but a device or a pipe: name one that can be "
            "read more than once"
        )
    _refuse_archive(name, path, config)
    return _file_source(path).load(name, config)


def _explain_missing(name: str, path: Path) -> str:
    known = catalogue()
    if "/" in name or path.suffix:
        problem = "no such file or folder."
    else:
        problem = f"neither a known data set nor a path that exists.{did_you_mean(name, known)}"
    return f"data {shown(name, 200)}: {problem} Known names: {', '.join(known)}"


def _folder_source(path: Path):
    from .sources import folder, idx, text

    if idx.is_idx_folder(path):
        return idx
    return text if text.is_text_folder(path) else folder


def _file_source(path: Path):
    """By the suffix; every other file is text."""
    from .sources import arrays, table, text

    sources = {".npy": arrays, ".npz": arrays, ".csv": table, ".tsv": table, ".parquet": table}
    return sources.get(path.suffix.lower(), text)


def _refuse_archive(name: str, path: Path, config: DataConfig) -> None:
    """Raises DataError on an archive: its parts can be read once it is unpacked."""
    from .formats.encoding import archive_kind

    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz", ".parquet") or config.tokens == "byte":
        return  # bytes of any file are a text
    try:
        with open(path, "rb") as file:
            kind = archive_kind(file.read(512))
    except OSError:
        return  # the source says why it cannot be read
    if suffix in (".xlsx", ".xlsm", ".ods", ".docx", ".odt"):
        raise DataError(
            f"data {shown(name)} is a document of an office program: save it as CSV or as plain text"
        )
    if kind:
        raise DataError(
            f"data {shown(name)} is {kind}: unpack it first (unzip, tar xf), and name the folder or "
            "file that comes out"
        )
