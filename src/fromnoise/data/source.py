"""What a file of data/sources declares: which data it makes, from what, with which options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.config import BaseConfig
from .dataset import Dataset

ANY_FILE = "*"  # as a suffix: files whose suffix no source names


def reads_no_folder(path: Path) -> bool:
    return False


@dataclass(frozen=True)
class Source:
    """One source of data. Its file in data/sources holds it as SOURCE, or as one of SOURCES.

    load             (name or path, options) -> data set; ``fromnoise.data.load`` adds the settings
    Options          the options that this source uses: it gets an instance, others are refused
    names            data that have a name: name -> one line of help
    suffixes         of the files that it reads, lower case with the dot, or ANY_FILE
    reads_folder     True if it reads this folder
    folder_priority  the source with the highest one that reads a folder gets it; those of the
                     package have 0 to 20
    write_example    writes a small example into a folder and returns its path; for `fromnoise check`
    title            the source in messages, such as "--grey has no meaning for TITLE"; {name} is
                     the name of the data
    about_paths      the files and folders that it reads, for `fromnoise data list`
    place            names are listed in the order of this number; those of the package have 10 to 90
    """

    load: Callable[[str, Any], Dataset]
    Options: type[BaseConfig] = BaseConfig
    names: Mapping[str, str] = field(default_factory=dict)
    suffixes: tuple[str, ...] = ()
    reads_folder: Callable[[Path], bool] = reads_no_folder
    folder_priority: int = 100
    write_example: Callable[[Path], Path] | None = None
    title: str = "{name}"
    about_paths: str = ""
    place: int = 100

    @property
    def described_paths(self) -> str:
        """The files and folders that it reads, in words; "" if it has data with names only."""
        return self.about_paths or ", ".join(self.suffixes)
