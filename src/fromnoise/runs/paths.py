"""Names of files and folders: whether they can be used, and which are free."""

import re
from pathlib import Path

from ..core.errors import UsageError
from ..core.files import storage_error

FOLDERS = ("checkpoints", "samples", "figures")  # of a run


def is_file(path: Path) -> bool:
    """True for a file; False for a name that the system does not accept."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """True for a folder; False for a name that the system does not accept."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def find_free_name(path: Path) -> Path:
    """events.jsonl -> events-damaged-0001.jsonl, or the first free number."""
    number = 1
    while (name := path.with_name(f"{path.stem}-damaged-{number:04d}{path.suffix}")).exists():
        number += 1
    return name


def check_file_name(path: str | Path, option: str = "--out") -> None:
    """Raises UsageError for a name that a file, or the record of a run, cannot have."""
    text = str(path)
    try:
        text.encode()
        Path(path).exists()
    except UnicodeEncodeError:
        raise UsageError(
            f"{option} {ascii(text)}: the name is no UTF-8: rename it, or choose another"
        ) from None
    except (OSError, ValueError) as error:
        if len(text) >= 80:
            text = f"{text[:60]}... ({len(text)} characters)"
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{option} {ascii(text)}: {reason}: choose another name") from None


def check_unused(path: Path) -> None:
    """Raises UsageError if the path exists and is not empty; see ``is_unused``."""
    check_file_name(path)
    if path.exists() and not is_unused(path):
        remedy = "it is no run: choose another --out"
        if (path / "run.json").is_file():
            remedy = f"`fromnoise resume {path}`, or another --out"
        raise UsageError(f"{path} exists already and is never overwritten: {remedy}")


def is_unused(path: Path) -> bool:
    """True for a folder with nothing but empty ``FOLDERS`` and a temporary run.json.

    A run that was killed before it had a run.json leaves those.
    """
    if not path.is_dir():
        return False
    for part in path.iterdir():
        is_empty_folder = part.name in FOLDERS and part.is_dir() and not any(part.iterdir())
        if not is_empty_folder and not re.fullmatch(r"\.run\.json\.\d+\.tmp", part.name):
            return False
    return True


def next_folder(root: Path, stem: str) -> Path:
    """root/stem-0001, or the number after the highest one in use."""
    stem = re.sub(r"[^\w.-]+", "-", stem).strip("-.")[:80] or "run"
    highest = 0
    for path in root.glob(f"{stem}-*"):
        if match := re.fullmatch(re.escape(stem) + r"-(\d{4,})", path.name):
            highest = max(highest, int(match[1]))
    return root / f"{stem}-{highest + 1:04d}"


def claim_folder(root: Path, stem: str) -> Path:
    """Makes ``next_folder`` at once: two processes never get the same. Raises StorageError."""
    while True:
        path = next_folder(root, stem)
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            continue
        except OSError as error:
            raise storage_error(error, path) from error
