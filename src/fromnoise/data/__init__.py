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
    return {name: text for source in _named_sources() for name, text in source.NAMES.items()}


def load(name: str, config: DataConfig | None = None) -> Dataset:
    """The data set of that name, or made from the file or folder at that path.

    Raises DataError (missing, damaged, unknown form) and UsageError (an option without meaning here).
    """
    config = config or DataConfig()
    for source in _named_sources():
        if name in source.NAMES:
            return source.load(name, config)
    path = Path(name).expanduser()
    if not path.exists():
        known = catalogue()
        looks_like_path = "/" in name or path.suffix
        hint = "" if looks_like_path else did_you_mean(name, known)
        kind = (
            "no such file or folder"
            if looks_like_path
            else "neither a known data set nor a path that exists"
        )
        raise DataError(f"data {shown(name, 200)}: {kind}.{hint} Known names: {', '.join(known)}")
    if not (path.is_dir() or path.is_file()):
        raise DataError(
            f"data {shown(name)} is no file or folder, but a device or a pipe: name one that can be read more than once"
        )
    from .sources import arrays, folder, idx, table, text

    if path.is_dir():
        source = idx if idx.is_idx_folder(path) else text if text.is_text_folder(path) else folder
        return source.load(name, config)
    _refuse_packed(name, path, config)
    suffixes = {".npy": arrays, ".npz": arrays, ".csv": table, ".tsv": table, ".parquet": table}
    return suffixes.get(path.suffix.lower(), text).load(name, config)


def _refuse_packed(name: str, path: Path, config: DataConfig) -> None:
    """Raises DataError on an archive: its parts are read once it is unpacked. Its bytes as such may be a text."""
    from ..core.words import shown
    from .formats.encoding import archive_kind

    if (
        path.suffix.lower() in (".npy", ".npz", ".parquet")
        or config.tokens == "byte"
        or not path.is_file()
    ):
        return
    try:
        with open(path, "rb") as file:
            kind = archive_kind(file.read(512))
    except OSError:
        return  # the source says why it cannot be read
    if path.suffix.lower() in (".xlsx", ".xlsm", ".ods", ".docx", ".odt"):
        raise DataError(
            f"data {shown(name)} is a document of an office program: save it as CSV or as plain text"
        )
    if kind:
        raise DataError(
            f"data {shown(name)} is {kind}: unpack it first (unzip, tar xf), and name the folder or file that comes out"
        )
