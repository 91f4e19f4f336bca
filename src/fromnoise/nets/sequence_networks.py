"""The networks of auto-regressive models: their options, and how they are built."""

from typing import Literal

from pydantic import Field
from torch import nn

from ..core.config import BaseConfig, OpenShare, Width
from ..core.errors import UsageError
from ..core.spec import DataSpec
from .counts.pixelcounts import PixelCounts
from .gpt import GPT
from .pixelcnn import PixelCNN
from .sequence import Convolution, Recurrent, Window

COUNTING = ("ngram", "counts")  # without gradient steps
PIXEL_BY_PIXEL = ("counts", "pixelcnn")
GPT_SWITCHES = ("rotary", "qk_norm", "squared_relu", "zero_init", "value_residual", "shortcut")


class NetworkConfig(BaseConfig):
    network: Literal["ngram", "counts", "window", "conv", "gru", "lstm", "gpt", "pixelcnn"] = Field(
        "gpt",
        description="counts: of the pixels around; window: MLP; conv: causal; gpt: Transformer",
    )
    size: int = Field(
        2, ge=1, le=16, description="sets width to 64 x size and depth to 2 x size, if not given"
    )
    width: Width | None = Field(None, description="features of a layer [64 x size]")
    depth: int | None = Field(None, ge=1, le=64, description="layers [2 x size]")
    heads: int | None = Field(None, ge=1, le=64, description="gpt: attention heads [width / 32]")
    order: int = Field(
        6, ge=0, le=32, description="ngram, window, prior: length of the context in symbols"
    )
    kernel: int = Field(4, ge=2, le=16, description="conv: symbols that one layer reads")
    gated: bool = Field(
        False, description="pixelcnn: gated, with a vertical and a horizontal stack (no blind spot)"
    )
    head: Literal["categorical", "logistic"] = Field(
        "categorical", description="pixelcnn: softmax over the levels, or a mixture of logistics"
    )
    mixtures: int = Field(5, ge=1, le=50, description="pixelcnn: logistics of the mixture")
    rotary: bool = Field(True, description="gpt: positions as rotations")
    qk_norm: bool = Field(True, description="gpt: queries and keys of norm 1")
    squared_relu: bool = Field(True, description="gpt: squared ReLU, else GELU")
    zero_init: bool = Field(True, description="gpt: every branch starts as zero")
    value_residual: bool = Field(
        True, description="gpt: values mixed with those of the first layer"
    )
    shortcut: bool = Field(True, description="gpt: the embedding mixed in before each layer")
    soft_cap: float = Field(
        15.0, ge=0, le=1000, description="gpt: bound of the absolute logits; 0: none"
    )
    bigram: bool = Field(True, description="gpt: a table for pairs of symbols")
    dropout: OpenShare = Field(0.0, description="share of features left out in training")


def build_network(c: NetworkConfig, spec: DataSpec, symbols, starts: int) -> nn.Module | None:
    """The network over ``symbols`` with ``starts`` start tokens; None for n-grams.

    Raises UsageError where the options do not suit the network or the data.
    """
    check_network(c, spec)
    vocabulary = symbols.vocabulary
    width = width_of(c)
    depth = c.depth or 2 * c.size
    if c.network == "ngram":
        return None
    if c.network == "counts":
        return PixelCounts(spec.shape[1:])
    if c.network == "window":
        return Window(vocabulary, starts, c.order, width, depth, dropout=c.dropout)
    if c.network == "conv":
        return Convolution(vocabulary, starts, width, depth, c.kernel, dropout=c.dropout)
    if c.network in ("gru", "lstm"):
        return Recurrent(c.network, vocabulary, starts, width, depth, dropout=c.dropout)
    if c.network == "pixelcnn":
        kind = "gated" if c.gated else "plain"
        return PixelCNN(spec.shape, spec.levels, starts, width, depth, kind, c.head, c.mixtures)
    switches = {name: getattr(c, name) for name in (*GPT_SWITCHES, "soft_cap", "bigram")}
    sizes = (symbols.length, width, depth, heads_of(c))
    return GPT(vocabulary, starts, *sizes, c.dropout, symbols.grid, **switches)


def width_of(c: NetworkConfig) -> int:
    return c.width or 64 * c.size


def heads_of(c: NetworkConfig) -> int:
    """Attention heads: about 32 features each, of a number that divides the width."""
    if c.heads:
        return c.heads
    width = width_of(c)
    for heads in range(max(1, width // 32), 1, -1):
        if width % (2 * heads) == 0:
            return heads
    return 1


def check_network(c: NetworkConfig, spec: DataSpec) -> None:
    """Raises UsageError where the options do not suit the network or the data."""
    width = width_of(c)
    if c.network == "pixelcnn" and spec.kind != "image":
        raise UsageError("--network pixelcnn is for images: use conv, gru, lstm or gpt for text")
    if c.network == "pixelcnn" and width < 2 * spec.shape[0]:
        raise UsageError(
            f"--width is too small for images of {spec.shape[0]} channels: "
            f"give {2 * spec.shape[0]} or more"
        )
    if c.network == "window" and c.order < 1:
        raise UsageError("--network window reads --order symbols: give 1 or more")
    if c.head == "logistic" and (c.network != "pixelcnn" or spec.levels < 3):
        raise UsageError("--head logistic is for --network pixelcnn on grey or colour levels")
    if c.network == "counts" and (spec.kind != "image" or spec.levels != 2 or spec.shape[0] != 1):
        raise UsageError(
            "--network counts is for black and white images: add --binarise dynamic, or take ngram"
        )
    heads = heads_of(c)
    if c.network == "gpt" and (width % heads or width // heads % 2 or width // heads < 4):
        raise UsageError(
            f"--width {width} must be an even multiple of the {heads} heads, 4 or more for each"
        )
