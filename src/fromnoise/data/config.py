"""The options that several data sources share, in the order of the help text.

A source declares its ``Options`` by inheriting the small classes here, and by fields of its own. The
options of all sources together are those of the command line and of ``DataConfig`` (``registry``).
"""

from typing import Literal

from pydantic import Field

from ..core.config import BaseConfig

_NUMBER = r"-?\d+(\.\d+)?(e[-+]?\d+)?"


class Resolution(BaseConfig):
    """The side of images."""

    resolution: int | None = Field(
        None, ge=4, le=1024, description="images: side in pixels after resizing"
    )


class Crop(BaseConfig):
    """How images become square."""

    crop: Literal["centre", "stretch", "pad"] = Field(
        "centre",
        description="images that are not square: crop the centre, stretch, or pad with the mean "
        "colour of the border",
    )


class Grey(BaseConfig):
    """Images in colour, or grey."""

    grey: bool = Field(False, description="images: convert colour to grey")


class Binarise(BaseConfig):
    """Whether pixels become black or white."""

    binarise: Literal["none", "dynamic", "static"] = Field(
        "none",
        description="images: draw each pixel black or white with its value as the probability, "
        "again at each step (dynamic) or once (static)",
    )


class LabelColumn(BaseConfig):
    """The column of a table that holds the class."""

    label: str | None = Field(
        None,
        description="tables: the column that holds the class; NA in it is a class, only empty "
        "cells are missing",
    )


class LearnLabel(BaseConfig):
    """Whether the class is a column that is learned, too."""

    learn_label: bool | None = Field(
        None,
        description="tables: learn the label as one more column [yes, unless the model is "
        "conditional on it]",
    )


class TableColumns(BaseConfig):
    """Which columns of a table are used, and how their cells are read."""

    drop: tuple[str, ...] = Field((), description="tables: columns to leave out")
    categorical: tuple[str, ...] = Field(
        (),
        description="tables: columns whose cells are all categories, numbers and NA too; only "
        "empty cells in them are missing",
    )
    missing: Literal["refuse", "drop"] = Field(
        "refuse",
        description="tables: what to do with rows that have missing cells: empty ones, or NA, NaN "
        "or null in columns not named by --label and --categorical",
    )


class FolderFiles(BaseConfig):
    """How the image files of a folder are decoded."""

    background: str = Field(
        "white",
        pattern=r"^(white|black|#[0-9a-fA-F]{6})$",
        description="folders: colour behind transparent images: white, black or #rrggbb",
    )
    range: str = Field(
        "full",
        pattern=rf"^(full|data|{_NUMBER}:{_NUMBER})$",
        description="folders: pixel values that become black and white: the limits of the file's "
        "type (full), the lowest and highest value that occur (data), or LOW:HIGH",
    )
    skip_bad: bool = Field(
        False, description="folders: leave out files that cannot be read, and list them"
    )
    max_pixels: int = Field(
        64_000_000, ge=1, description="folders: refuse images with more pixels than this"
    )


class SplitSeed(BaseConfig):
    """The seed of what is drawn when data are loaded."""

    split_seed: int = Field(
        0, ge=0, lt=2**63, description="seed of the splits and of fixed binarisation"
    )


class ValidationShare(SplitSeed):
    """Splits of which the test part is given."""

    validation: float | None = Field(
        None, gt=0, lt=0.5, description="share of examples for validation [0.1; text 0.05]"
    )


class SplitShares(ValidationShare):
    """Splits that are drawn from all examples: what ``splits.split_rows`` takes."""

    test: float | None = Field(
        None, gt=0, lt=0.5, description="share of examples for the test [0.1; text 0.05]"
    )


class TextTokens(BaseConfig):
    """How text becomes tokens, and tokens examples."""

    tokens: Literal["auto", "char", "byte", "bpe"] = Field(
        "auto",
        description="text: characters, bytes, or byte pairs (bpe); auto: characters if there are "
        "at most 256 different ones, else bytes",
    )
    vocabulary: int = Field(
        512, ge=257, le=65_536, description="text: number of symbols of --tokens bpe"
    )
    context: int = Field(128, ge=2, le=1_048_576, description="text: tokens of one example")


class ImageOptions(SplitSeed, Binarise):
    """What ``image_dataset`` takes."""


class FolderOptions(SplitShares, FolderFiles, ImageOptions, Grey, Crop, Resolution):
    """Of a folder of images."""


class TableOptions(SplitShares, TableColumns, LearnLabel, LabelColumn):
    """Of a table of named columns: what ``table_dataset`` takes."""


class TextOptions(SplitShares, TextTokens):
    """Of text."""
