"""From a name or a path to a ``Dataset``."""

from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.config import BaseConfig
from ..core.errors import UsageError
from .dataset import Dataset, Split, check_shapes
from .registry import catalogue, data_config, find_source, source_options, user_file
from .splits import SPLITS

if TYPE_CHECKING:
    DataConfig = BaseConfig

__all__ = ["SPLITS", "DataConfig", "Dataset", "Split", "catalogue", "data_config", "load"]


def __getattr__(name: str) -> type[BaseConfig]:
    """``DataConfig`` is made of the options of all sources, which are imported when it is used."""
    if name == "DataConfig":
        return data_config()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def load(name: str, config: BaseConfig | None = None) -> Dataset:
    """The data set with this name, or made from the file or folder at this path.

    config: a ``DataConfig``. Raises DataError (missing, damaged, unknown form) and UsageError (an
    option without meaning for this source).
    """
    source = find_source(name)
    given = {} if config is None else config.model_dump(exclude_defaults=True)
    dataset = source.load(name, source_options(source, name, given))
    if not isinstance(dataset, Dataset):
        kind = type(dataset).__name__
        raise UsageError(
            f"load of {user_file(source) or source.title} returned a {kind}: return a "
            "fromnoise.data.dataset.Dataset"
        )
    check_shapes(dataset)
    settings = given | dataset.settings
    return replace(dataset, settings=settings, source_file=user_file(source))
