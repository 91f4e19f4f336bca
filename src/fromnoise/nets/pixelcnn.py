"""PixelCNN: an image as a sequence of its components, predicted by masked convolutions (van den Oord et al. 2016a, 2016b).

Symbols are components in raster order: row, column, channel last; T = H W C. Kernels hold only the rows that may be seen
(the last row of a kernel is the pixel's own), and a mask on the last row hides what lies to the right. At the pixel itself
features come in C groups: group c may know the channels before c. A mask of kind "A" links channels (the input) to the
groups after them, "B" groups to their own and those after it.

The architecture is written once, with a function ``conv(layer, h)``: on whole maps it is the layer itself; in generation
it works at one pixel (for the vertical stack: one row) on the last rows of the layer's input, which are kept.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST_LOG_SCALE = -7.0  # of a logistic, in the image's range of [-1, 1] (Salimans et al. 2017)


class MaskedConv(nn.Module):
    """(B, n_in, H, W) -> (B, n_out, H, W): at (r, c) sees the rows r - kh + 1 .. r and the columns c - left .. c - left + kw - 1.

    inputs, outputs  the group of each feature; mask "A": a group sees those before it, "B": its own too, "all": everything
    """

    def __init__(
        self, inputs: Tensor, outputs: Tensor, kernel: tuple[int, int], left: int, mask: str
    ):
        super().__init__()
        self.kernel, self.left = kernel, left
        conv = nn.Conv2d(len(inputs), len(outputs), kernel)
        self.weight, self.bias = conv.weight, conv.bias
        seen = torch.ones_like(self.weight.detach())
        if mask != "all":
            seen[:, :, -1, left + 1 :] = 0
            seen[:, :, -1, left] = (
                outputs[:, None] > inputs if mask == "A" else outputs[:, None] >= inputs
            )
        self.register_buffer("mask", None if seen.all() else seen, persistent=False)

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


class PlainStack(nn.Module):
    """A 7 x 7 convolution "A", then residual blocks of 1 x 1, 3 x 3 and 1 x 1 convolutions "B", half as wide (2016a, figure 5).

    It has the textbook's blind spot: (r - k, c + k + 3) and what lies to the right of it are never seen at (r, c), whatever
    the depth.
    """

    def __init__(self, channels: int, width: int, blocks: int):
        super().__init__()
        self.biases = [width] + blocks * [width // 2]  # features of the start token, a layer
        wide, narrow = feature_groups(width, channels), feature_groups(width // 2, channels)
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

    def step(self, state: "PixelState") -> Tensor:
        """Features (n, width) at the state's pixel."""
        return self(state.pixel(), state.biases, state.conv_pixel)


class GatedLayer(nn.Module):
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

    A vertical stack sees all rows above, and a horizontal one the pixels to the left and, by 1 x 1 links, the vertical
    stack. Residuals in the horizontal stack only; the first of the 1 + blocks layers is 7 wide. The start token's bias
    enters the vertical stack, and the horizontal one through the links.
    """

    def __init__(self, channels: int, width: int, blocks: int):
        super().__init__()
        wide = feature_groups(width, channels)
        first = GatedLayer(torch.arange(channels), width, channels, (3, 7), 4, "A")
        self.layers = nn.ModuleList(
            [first, *(GatedLayer(wide, width, channels, (2, 3), 2, "B") for _ in range(blocks))]
        )
        self.biases = (blocks + 1) * [2 * width]

    @property
    def first(self) -> MaskedConv:
        return self.layers[0].horizontal

    def vertical(self, above: Tensor, biases: list[Tensor], conv: Convolve) -> list[Tensor]:
        """The image moved down by one row -> what each layer's horizontal stack is told."""
        v, links = above, []
        for layer, bias in zip(self.layers, biases):
            gates = conv(layer.vertical, v) + bias
            links.append(conv(layer.link, gates))
            v = gated(gates)
        return links

    def across(self, x: Tensor, links: list[Tensor], conv: Convolve) -> Tensor:
        h, residual = x, 0
        for layer, link in zip(self.layers, links):
            h = residual = residual + conv(layer.mix, gated(conv(layer.horizontal, h) + link))
        return h

    def forward(self, x: Tensor, biases: list[Tensor], conv: Convolve) -> Tensor:
        return self.across(x, self.vertical(F.pad(x, (0, 0, 1, -1)), biases, conv), conv)

    def step(self, state: "PixelState") -> Tensor:
        """Features (n, width) at the state's pixel; the vertical stack runs at the first component of a row."""
        if state.column == state.channel == 0:
            state.links = self.vertical(
                state.row_above(), [bias[:, :, None, None] for bias in state.biases], state.conv_row
            )
        return self.across(
            state.pixel(), [link[:, :, 0, state.column] for link in state.links], state.conv_pixel
        )


def gated(x: Tensor) -> Tensor:
    """(a, b) side by side in dimension 1 -> tanh(a) sigmoid(b)."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


STACKS = {"plain": PlainStack, "gated": GatedStack}


class PixelCNN(nn.Module):
    """s (B, T), start (B,) -> logits (B, T, V) of each component given the start token and the components before it.

    shape    (C, H, W) of the images, T = H W C; levels V of a component
    starts   start tokens, one for each class or one alone: symbols V .. V + starts - 1, read before the first component
    width    features of the residual stream, at least 2 C; blocks: residual blocks (plain), gated layers after the first
    head     "categorical": a logit for each level. "logistic": a mixture of logistics cut into the levels, whose exact log
             masses are the logits (Salimans et al. 2017, eq. 2). Unlike the paper's, each component has its own
             mixture: what it knows of the channels before it comes through the masked network.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        levels: int,
        starts: int,
        width: int,
        blocks: int,
        kind: str = "plain",
        head: str = "categorical",
        mixtures: int = 10,
    ):
        super().__init__()
        channels = shape[0]
        assert head in ("categorical", "logistic") and width >= 2 * channels, (head, width)
        self.shape, self.vocabulary, self.head, self.context = shape, levels, head, math.prod(shape)
        self.stack = STACKS[kind](channels, width, blocks)
        self.starts = nn.ModuleList(nn.Embedding(starts, n) for n in self.stack.biases)
        numbers = levels if head == "categorical" else 3 * mixtures  # for each component
        wide = feature_groups(width, channels)
        self.mix = MaskedConv(wide, wide, (1, 1), 0, "B")
        self.out = MaskedConv(wide, feature_groups(channels * numbers, channels), (1, 1), 0, "B")
        for table in self.starts:
            nn.init.normal_(table.weight, std=0.1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        if head == "logistic":  # nearly uniform over the range at first
            _, mean, log_scale = self.out.bias.detach().view(channels, 3, mixtures).unbind(1)
            mean.copy_((2 * torch.arange(mixtures) + 1) / mixtures - 1)
            log_scale.fill_(-math.log(2 * mixtures))

    # -- all components at once ----------------------------------------------------------------------------------

    def forward(self, s: Tensor, start: Tensor) -> Tensor:
        return self.logits(self.numbers(s, start))

    def nll(self, s: Tensor, start: Tensor) -> Tensor:
        """-log p of each component given those before it, (B, T) nats, without the logits of levels that did not occur."""
        numbers = self.numbers(s, start)
        if self.head == "categorical":
            return F.cross_entropy(numbers.flatten(0, 1), s.flatten(), reduction="none").view_as(s)
        weight, mean, log_scale = numbers.chunk(3, -1)
        return -(
            weight.log_softmax(-1) + log_logistic_mass(s[..., None], self.vocabulary, mean, log_scale)
        ).logsumexp(-1)

    def numbers(self, s: Tensor, start: Tensor) -> Tensor:
        """What the network says of each component: logits of the levels or numbers of a mixture, (B, T, K)."""
        channels, height, width = self.shape
        x = self.values(s).view(-1, height, width, channels).permute(0, 3, 1, 2)

        def conv(layer, h):
            return layer(h)

        h = self.read_out(
            self.stack(x, [bias[:, :, None, None] for bias in self.biases(start)], conv), conv
        )
        return (
            h.unflatten(1, (channels, -1))
            .permute(0, 3, 4, 1, 2)
            .flatten(1, 3)
            .to(self.out.weight.dtype)
        )

    def read_out(self, h: Tensor, conv: Convolve) -> Tensor:
        return conv(self.out, F.relu(conv(self.mix, F.relu(h))))

    def logits(self, numbers: Tensor) -> Tensor:
        """(..., K) -> (..., V)"""
        if self.head == "categorical":
            return numbers
        weight, mean, log_scale = numbers.chunk(3, -1)
        level, parts = (
            torch.arange(self.vocabulary, device=numbers.device),
            weight.log_softmax(-1).split(1, -1),
        )
        masses = [
            part + log_logistic_mass(level, self.vocabulary, m, a)
            for part, m, a in zip(parts, mean.split(1, -1), log_scale.split(1, -1))
        ]
        total = masses[0]
        for mass in masses[
            1:
        ]:  # one after the other: all levels of all parts together need much memory
            total = torch.logaddexp(total, mass)
        return total

    def values(self, s: Tensor) -> Tensor:
        """Levels 0 .. V-1 as numbers in [-1, 1]."""
        return s.to(self.out.weight.dtype) * (2 / (self.vocabulary - 1)) - 1

    def biases(self, start: Tensor) -> list[Tensor]:
        return [table(start) for table in self.starts]

    # -- one component at a time ---------------------------------------------------------------------------------

    @torch.no_grad()
    def begin(self, n: int) -> "PixelState":
        """The state holds the masked weights as they are now."""
        return PixelState(self, n)

    @torch.no_grad()
    def step(self, state: "PixelState", symbol: Tensor) -> Tensor:
        """Reads the start token, then component after component (n,) -> logits (n, V) of the next one.

        A pixel's features are computed once for each of its components. Raises ValueError after the last component.
        """
        if state.position < 0:
            state.biases = self.biases(symbol - self.vocabulary)
        else:
            state.put(self.values(symbol))
        state.advance()
        numbers = self.read_out(self.stack.step(state), state.conv_pixel).unflatten(
            1, (self.shape[0], -1)
        )
        return self.logits(numbers[:, state.channel])


class PixelState:
    """Images that are being drawn.

    position  the component that is predicted next, at (row, column, channel); -1 before the start token
    image     (n, C, H, W), zero where nothing has been read
    rows      for each convolution wider than a pixel the last rows of its input with its borders, (n, kh, W + kw - 1, n_in)
    weights   for each convolution its masked weights as a matrix (n_out, kh kw n_in)
    biases    of the start tokens; links: what the vertical stack says along the present row, (n, 2 width, 1, W) a layer
    """

    def __init__(self, net: PixelCNN, n: int):
        channels, height, width = net.shape
        like = net.out.weight
        self.position, self.first, self.biases, self.links = -1, net.stack.first, [], []
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
        """The component at ``position`` is known: (n,) in [-1, 1]."""
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
        return (
            self.image[:, :, self.row - 1, None]
            if self.row
            else torch.zeros_like(self.image[:, :, :1])
        )

    def begin_row(self) -> None:
        for rows in self.rows.values():
            rows[:, :-1] = rows[:, 1:].clone()
            rows[:, -1] = 0

    def conv_pixel(self, layer: MaskedConv, h: Tensor) -> Tensor:
        """The layer at the place of ``position``: its input h (n, n_in) there -> (n, n_out)."""
        if layer in self.rows:
            rows = self.rows[layer]
            rows[:, -1, layer.left + self.column] = h
            h = rows[:, :, self.column : self.column + layer.kernel[1]].flatten(1)
        return F.linear(h, self.weights[layer], layer.bias)

    def conv_row(self, layer: MaskedConv, h: Tensor) -> Tensor:
        """The layer along the present row: its input h (n, n_in, 1, W) there -> (n, n_out, 1, W)."""
        if layer not in self.rows:
            return layer(h)
        rows = self.rows[layer]
        rows[:, -1, layer.left : layer.left + h.shape[3]] = h[:, :, 0].transpose(1, 2)
        return F.conv2d(rows.permute(0, 3, 1, 2), layer.masked(), layer.bias)


def log_logistic_mass(level: Tensor, levels: int, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log P(level) of a logistic density cut into cells around 2 level / (levels - 1) - 1 (Salimans et al. 2017, eq. 2).

    P = S((x + h - m) / s) - S((x - h - m) / s), S the logistic function, h half a cell; the lowest and the highest level
    take the tails. Computed as log S(u) + log S(-l) + log(1 - exp(l - u)): no difference of nearly equal numbers.
    """
    half = 1 / (levels - 1)
    inverse = (-log_scale.clamp(min=SMALLEST_LOG_SCALE)).exp()
    x = 2 * half * level.to(mean.dtype) - 1
    below = F.logsigmoid((x + half - mean) * inverse)  # log of the mass below the upper edge
    above = F.logsigmoid((mean - x + half) * inverse)  # log of the mass above the lower edge
    inside = below + above + torch.log(-torch.expm1(-2 * half * inverse))
    return torch.where(level == 0, below, torch.where(level == levels - 1, above, inside))
