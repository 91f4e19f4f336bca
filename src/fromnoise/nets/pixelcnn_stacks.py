"""The two stacks of masked convolutions of PixelCNN: plain (van den Oord et al. 2016a) and gated (2016b).

Each is written once, with a function ``conv(layer, h)``: on whole maps it is the layer itself; during
generation it is evaluated at one pixel (for the vertical stack: one row) from the last rows of the
layer's input, which PixelState keeps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masked_conv import Convolve, MaskedConv, PixelState, feature_groups


class PlainStack(nn.Module):
    """A 7 x 7 convolution "A", then residual blocks of 1 x 1, 3 x 3 and 1 x 1 convolutions "B".

    The blocks are half as wide (2016a, figure 5). The stack has the known blind spot: at any depth,
    (r, c) does not depend on (r - k, c + k + 3) and what lies to the right of it.
    """

    def __init__(self, channels: int, width: int, blocks: int):
        super().__init__()
        self.biases = [width] + blocks * [width // 2]  # widths of the start token's biases
        wide = feature_groups(width, channels)
        narrow = feature_groups(width // 2, channels)
        self.first = MaskedConv(torch.arange(channels), wide, (4, 7), 3, "A")
        self.blocks = nn.ModuleList(
            nn.ModuleList(
                (
                    MaskedConv(wide, narrow, (1, 1), 0, "B"),
                    MaskedConv(narrow, narrow, (2, 3), 1, "B"),
                    MaskedConv(narrow, wide, (1, 1), 0, "B"),
                )
            )
            for _ in range(blocks)
        )

    def forward(self, x: Tensor, biases: list[Tensor], conv: Convolve) -> Tensor:
        h = conv(self.first, x) + biases[0]
        for (down, across, up), bias in zip(self.blocks, biases[1:]):
            h = h + conv(up, F.relu(conv(across, F.relu(conv(down, F.relu(h)))) + bias))
        return h

    def step(self, state: PixelState) -> Tensor:
        """Features (n, width) at the state's pixel."""
        return self(state.pixel(), state.biases, state.conv_pixel)


class GatedPixelLayer(nn.Module):
    def __init__(
        self,
        before: Tensor,
        width: int,
        channels: int,
        vertical: tuple[int, int],
        horizontal: int,
        mask: str,
    ):
        super().__init__()
        after = feature_groups(width, channels)
        both = torch.cat([after, after])  # for tanh and for the gate
        self.vertical = MaskedConv(before, both, vertical, vertical[1] // 2, "all")
        self.link = MaskedConv(both, both, (1, 1), 0, "all")
        self.horizontal = MaskedConv(before, both, (1, horizontal), horizontal - 1, mask)
        self.mix = MaskedConv(after, after, (1, 1), 0, "B")


class GatedStack(nn.Module):
    """The gated PixelCNN (2016b, figure 2): no blind spot.

    A vertical stack reads all rows above, and a horizontal one the pixels to the left and, through 1 x 1
    links, the vertical stack. Only the horizontal stack has residuals; the first of the 1 + blocks layers
    is 7 wide. The start token's bias enters the vertical stack, and the horizontal one by the links.
    """

    def __init__(self, channels: int, width: int, blocks: int):
        super().__init__()
        wide = feature_groups(width, channels)
        first = GatedPixelLayer(torch.arange(channels), width, channels, (3, 7), 4, "A")
        self.layers = nn.ModuleList(
            [
                first,
                *(GatedPixelLayer(wide, width, channels, (2, 3), 2, "B") for _ in range(blocks)),
            ]
        )
        self.biases = (blocks + 1) * [2 * width]

    @property
    def first(self) -> MaskedConv:
        return self.layers[0].horizontal

    def vertical(self, above: Tensor, biases: list[Tensor], conv: Convolve) -> list[Tensor]:
        """The image moved down by one row -> each layer's link to the horizontal stack."""
        v = above
        links = []
        for layer, bias in zip(self.layers, biases):
            gates = conv(layer.vertical, v) + bias
            links.append(conv(layer.link, gates))
            v = gated(gates)
        return links

    def across(self, x: Tensor, links: list[Tensor], conv: Convolve) -> Tensor:
        h = x
        residual = 0
        for layer, link in zip(self.layers, links):
            h = residual = residual + conv(layer.mix, gated(conv(layer.horizontal, h) + link))
        return h

    def forward(self, x: Tensor, biases: list[Tensor], conv: Convolve) -> Tensor:
        return self.across(x, self.vertical(F.pad(x, (0, 0, 1, -1)), biases, conv), conv)

    def step(self, state: PixelState) -> Tensor:
        """Features (n, width) at the state's pixel; the vertical stack runs once for each row."""
        if state.column == state.channel == 0:
            biases = [bias[:, :, None, None] for bias in state.biases]
            state.links = self.vertical(state.row_above(), biases, state.conv_row)
        links = [link[:, :, 0, state.column] for link in state.links]
        return self.across(state.pixel(), links, state.conv_pixel)


def gated(x: Tensor) -> Tensor:
    """(a, b) side by side in dimension 1 -> tanh(a) sigmoid(b)."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


STACKS = {"plain": PlainStack, "gated": GatedStack}
