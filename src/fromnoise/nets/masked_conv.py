"""Masked convolutions of a PixelCNN: on whole maps, and at one pixel during generation.

Kernels have only the rows that may be read (the last row of a kernel is the pixel's own), and a mask on
the last row hides what lies to the right. At the pixel itself, features come in C groups, one for each
channel: group c may depend on the channels before c.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedConv(nn.Module):
    """(B, n_in, H, W) -> (B, n_out, H, W), with a kernel (kh, kw).

    The output at (r, c) depends on rows r - kh + 1 .. r and columns c - left .. c - left + kw - 1.
    inputs and outputs are the groups of the features, for the mask at the pixel itself: "A" links a
    group to those after it, "B" also to itself, "all" links all.
    """

    def __init__(
        self, inputs: Tensor, outputs: Tensor, kernel: tuple[int, int], left: int, mask: str
    ):
        super().__init__()
        self.kernel = kernel
        self.left = left
        conv = nn.Conv2d(len(inputs), len(outputs), kernel)
        self.weight = conv.weight
        self.bias = conv.bias
        allowed = torch.ones_like(self.weight.detach())
        if mask != "all":
            allowed[:, :, -1, left + 1 :] = 0
            allowed[:, :, -1, left] = (
                outputs[:, None] > inputs if mask == "A" else outputs[:, None] >= inputs
            )
        self.register_buffer("mask", None if allowed.all() else allowed, persistent=False)

    def masked(self) -> Tensor:
        return self.weight if self.mask is None else self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        H, W = x.shape[2:]
        padding = (self.kernel[0] - 1, max(self.left, self.kernel[1] - 1 - self.left))
        return F.conv2d(x, self.masked(), self.bias, padding=padding)[:, :, :H, :W]


Convolve = Callable[[MaskedConv, Tensor], Tensor]


def feature_groups(width: int, channels: int) -> Tensor:
    """The group 0 .. channels - 1 of each of ``width`` features, in equal consecutive parts."""
    return torch.arange(width) * channels // width


class PixelState:
    """Images during generation, with what their convolutions have read.

    position  the component to predict next, at (row, column, channel); -1 before the start token
    image     (n, C, H, W), zero where nothing has been read
    rows      for each convolution wider than a pixel the last rows of its input with borders,
              (n, kh, W + kw - 1, n_in)
    weights   for each convolution its masked weights as a matrix (n_out, kh kw n_in)
    biases    of the start tokens
    links     output of the vertical stack along the current row, (n, 2 width, 1, W) for each layer
    """

    def __init__(self, net: nn.Module, n: int):
        channels, height, width = net.shape
        like = net.out.weight
        self.position = -1
        self.first = net.stack.first
        self.biases = []
        self.links = []
        self.image = like.new_zeros(n, channels, height, width)
        convs = [layer for layer in net.modules() if isinstance(layer, MaskedConv)]
        self.weights = {layer: layer.masked().permute(0, 2, 3, 1).flatten(1) for layer in convs}
        self.rows = {
            layer: like.new_zeros(
                n, layer.kernel[0], width + layer.kernel[1] - 1, layer.weight.shape[1]
            )
            for layer in convs
            if layer.kernel != (1, 1)
        }

    def put(self, value: Tensor) -> None:
        """Sets the component at ``position``: (n,) in [-1, 1]."""
        self.image[:, self.channel, self.row, self.column] = value
        self.rows[self.first][:, -1, self.first.left + self.column] = self.pixel()

    def advance(self) -> None:
        self.position += 1
        channels, height, width = self.image.shape[1:]
        if self.position == channels * height * width:
            raise ValueError(
                f"all {self.position} components of the images are known: begin new ones"
            )
        pixel, self.channel = divmod(self.position, channels)
        self.row, self.column = divmod(pixel, width)
        if self.column == self.channel == 0:
            self.begin_row()

    def pixel(self) -> Tensor:
        return self.image[:, :, self.row, self.column]

    def row_above(self) -> Tensor:
        """(n, C, 1, W), zeros above the first row."""
        if not self.row:
            return torch.zeros_like(self.image[:, :, :1])
        return self.image[:, :, self.row - 1, None]

    def begin_row(self) -> None:
        for rows in self.rows.values():
            rows[:, :-1] = rows[:, 1:].clone()
            rows[:, -1] = 0

    def conv_pixel(self, layer: MaskedConv, h: Tensor) -> Tensor:
        """The layer at the current pixel: its input h (n, n_in) there -> (n, n_out)."""
        if layer in self.rows:
            rows = self.rows[layer]
            rows[:, -1, layer.left + self.column] = h
            h = rows[:, :, self.column : self.column + layer.kernel[1]].flatten(1)
        return F.linear(h, self.weights[layer], layer.bias)

    def conv_row(self, layer: MaskedConv, h: Tensor) -> Tensor:
        """The layer along the current row: its input h (n, n_in, 1, W) there -> (n, n_out, 1, W)."""
        if layer not in self.rows:
            return layer(h)
        rows = self.rows[layer]
        rows[:, -1, layer.left : layer.left + h.shape[3]] = h[:, :, 0].transpose(1, 2)
        return F.conv2d(rows.permute(0, 3, 1, 2), layer.masked(), layer.bias)
