"""PixelCNN: an image as a sequence of its components, predicted by masked convolutions.

van den Oord et al. 2016a (arXiv:1601.06759), 2016b (arXiv:1606.05328). Symbols are components in raster
order: row, column, channel last; T = H W C.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.spec import ImageShape
from .masked_conv import Convolve, MaskedConv, PixelState, feature_groups
from .pixelcnn_stacks import STACKS
from .sequence import cross_entropy

SMALLEST_LOG_SCALE = -7.0  # of a logistic, in the image's range of [-1, 1] (Salimans et al. 2017)


class PixelCNN(nn.Module):
    """s (B, T), start (B,) -> logits (B, T, V) of each component given the start token and earlier ones.

    shape    (C, H, W) of the images, T = H W C; levels V of a component
    starts   start tokens, one for each class or one alone: symbols V .. V + starts - 1
    width    features of the residual stream, at least 2 C
    blocks   residual blocks (plain), or gated layers after the first
    head     "categorical": a logit for each level. "logistic": a mixture of logistics cut into the
             levels, whose log masses are the logits (Salimans et al. 2017, eq. 2). Unlike the
             paper's, each component has its own mixture: its dependence on the channels before it
             comes through the masked network
    """

    def __init__(
        self,
        shape: ImageShape,
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
        self.shape = shape
        self.vocabulary = levels
        self.head = head
        self.context = math.prod(shape)
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

    # -- all components at once -------------------------------------------------------------------

    def forward(self, s: Tensor, start: Tensor) -> Tensor:
        return self.logits(self.numbers(s, start))

    def nll(self, s: Tensor, start: Tensor) -> Tensor:
        """-log p of each component given earlier ones, (B, T) nats; no logits of levels that do not
        occur.
        """
        numbers = self.numbers(s, start)
        if self.head == "categorical":
            return cross_entropy(numbers, s)
        weight, mean, log_scale = numbers.chunk(3, -1)
        masses = log_logistic_mass(s[..., None], self.vocabulary, mean, log_scale)
        return -(weight.log_softmax(-1) + masses).logsumexp(-1)

    def numbers(self, s: Tensor, start: Tensor) -> Tensor:
        """Inputs of the head (B, T, K): logits of the levels, or parameters of a mixture."""
        channels, height, width = self.shape
        x = self.values(s).view(-1, height, width, channels).permute(0, 3, 1, 2)

        def conv(layer, h):
            return layer(h)

        biases = [bias[:, :, None, None] for bias in self.biases(start)]
        h = self.read_out(self.stack(x, biases, conv), conv)  # B, C K, H, W
        numbers = h.unflatten(1, (channels, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        return numbers.to(self.out.weight.dtype)

    def read_out(self, h: Tensor, conv: Convolve) -> Tensor:
        return conv(self.out, F.relu(conv(self.mix, F.relu(h))))

    def logits(self, numbers: Tensor) -> Tensor:
        """(..., K) -> (..., V)"""
        if self.head == "categorical":
            return numbers
        weight, mean, log_scale = numbers.chunk(3, -1)
        level = torch.arange(self.vocabulary, device=numbers.device)
        parts = weight.log_softmax(-1).split(1, -1)
        masses = [
            part + log_logistic_mass(level, self.vocabulary, m, a)
            for part, m, a in zip(parts, mean.split(1, -1), log_scale.split(1, -1))
        ]
        total = masses[0]
        for mass in masses[1:]:  # one at a time: a stack of all needs much memory
            total = torch.logaddexp(total, mass)
        return total

    def values(self, s: Tensor) -> Tensor:
        """Levels 0 .. V-1 as numbers in [-1, 1]."""
        return s.to(self.out.weight.dtype) * (2 / (self.vocabulary - 1)) - 1

    def biases(self, start: Tensor) -> list[Tensor]:
        return [table(start) for table in self.starts]

    # -- one component at a time ------------------------------------------------------------------

    @torch.no_grad()
    def begin(self, n: int) -> PixelState:
        """The state holds a copy of the masked weights."""
        return PixelState(self, n)

    @torch.no_grad()
    def step(self, state: PixelState, symbol: Tensor) -> Tensor:
        """Reads the start token, then one component (n,) after another -> logits (n, V) of the next.

        Raises ValueError after the last component.
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


def log_logistic_mass(level: Tensor, levels: int, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log P(level) of a logistic density cut into cells around 2 level / (levels - 1) - 1.

    Salimans et al. 2017, eq. 2:

        P = S((x + h - m) / s) - S((x - h - m) / s)

    with the logistic function S and half a cell h; the lowest and the highest level include the
    tails. Computed as log S(u) + log S(-l) + log(1 - exp(l - u)), without a difference of nearly
    equal numbers.
    """
    half = 1 / (levels - 1)
    inverse = (-log_scale.clamp(min=SMALLEST_LOG_SCALE)).exp()
    x = 2 * half * level.to(mean.dtype) - 1
    below = F.logsigmoid((x + half - mean) * inverse)  # log of the mass below the upper edge
    above = F.logsigmoid((mean - x + half) * inverse)  # log of the mass above the lower edge
    inside = below + above + torch.log(-torch.expm1(-2 * half * inverse))
    return torch.where(level == 0, below, torch.where(level == levels - 1, above, inside))
