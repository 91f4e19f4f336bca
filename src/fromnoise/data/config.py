"""The options that turn a data source into a data set."""

from typing import Literal

from pydantic import Field

from ..core.config import BaseConfig
from ..core.errors import UsageError

_NUMBER = r"-?\d+(\.\d+)?(e[-+]?\d+)?"


class DataConfig(BaseConfig):
    """How a source becomes a data set. A source refuses the options that it does not use."""

    resolution: int | None = Field(
        None, ge=4, le=1024, description="images: side in pixels after resizing"
    )
    crop: Literal["centre", "stretch", "pad"] = Field(
        "centre",
        description="images that are not square: crop the centre, stretch, or pad with the mean "
        "colour of the border",
    )
    grey: bool = Field(False, description="images: convert colour to grey")
    binarise: Literal["none", "dynamic", "static"] = Field(
        "none",
        description="images: draw each pixel black or white with its value as the probability, "
        "again at each step (dynamic) or once (static)",
    )
    label: str | None = Field(
        None,
        description="tables: the column that holds the class; NA in it is a class, only empty "
        "cells are missing",
    )
    learn_label: bool | None = Field(
        None,
        description="tables: learn the label as one more column [yes, unless the model is "
        "conditional on it]",
    )
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
    split_seed: int = Field(
        0, ge=0, lt=2**63, description="seed of the splits and of fixed binarisation"
    )
    validation: float | None = Field(
        None, gt=0, lt=0.5, description="share of examples for validation [0.1; text 0.05]"
    )
    test: float | None = Field(
        None, gt=0, lt=0.5, description="share of examples for the test [0.1; text 0.05]"
    )
    tokens: Literal["auto", "char", "byte", "bpe"] = Field(
        "auto",
        description="text: characters, bytes, or byte pairs (bpe); auto: characters if there are "
        "at most 256 different ones, else bytes",
    )
    vocabulary: int = Field(
        512, ge=257, le=65_536, description="text: number of symbols of --tokens bpe"
    )
    context: int = Field(128, ge=2, le=1_048_576, description="text: tokens of one example")

    def given_options(self) -> dict:
        """The options that differ from their defaults, as runs record them."""
        return self.model_dump(exclude_defaults=True)


def refuse_options(config: DataConfig, source: str, *allowed: str) -> None:
    """Raises UsageError if an option is set that this source does not use."""
    for name in sorted(config.model_fields_set - {"split_seed"} - set(allowed)):
        if getattr(config, name) != DataConfig.model_fields[name].default:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} has no meaning for {source}: leave it out")
