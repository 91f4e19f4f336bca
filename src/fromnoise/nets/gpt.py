"""A small causal Transformer over symbols (Vaswani et al. 2017; Radford et al. 2018), for text and images.

Input i is symbol i - 1 (a start token first), so that output i holds the logits of symbol i given
earlier ones. Each ingredient can be switched off, to measure its effect:

    rotary          positions as rotations of queries and keys (Su et al. 2021); without it a learned table
    qk_norm         queries and keys at mean 0 and unit root mean square (Henry et al. 2020)
    squared_relu    max(x, 0)^2 between the two layers of the MLP (So et al. 2021), else GELU
    zero_init       each branch begins as zero, the first loss is log V
    value_residual  values mixed with those of the first layer (Zhou et al. 2024)
    shortcut        the embedding mixed into the stream before each layer
    soft_cap        logits kept within +-cap by a tanh (Gemma 2, 2024); 0: off
    bigram          an embedding of the pair (symbol before, this symbol), or of the symbol before if
                    the vocabulary is large

For images with a grid (rows, columns), embeddings of the symbols above and of the position are added.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .conv import normalise

LONG = 512  # symbols: for longer sequences the scores of attention take too much memory
MOST_PAIRS = 2**15  # rows of a bigram table


class GPT(nn.Module):
    """s (B, T), start (B,) -> logits (B, T, V) of each symbol given the start and the symbols before it.

    vocabulary  V
    starts      start tokens, one for each class or one alone: V .. V + starts - 1 in the input table
    length      T, the longest sequence that is seen at once
    grid        (rows, columns) of an image whose places are the symbols
    """

    def __init__(
        self,
        vocabulary: int,
        starts: int,
        length: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float = 0.0,
        grid: tuple[int, int] | None = None,
        rotary: bool = True,
        qk_norm: bool = True,
        squared_relu: bool = True,
        zero_init: bool = True,
        value_residual: bool = True,
        shortcut: bool = True,
        soft_cap: float = 15.0,
        bigram: bool = True,
    ):
        super().__init__()
        self.vocabulary = vocabulary
        self.length = length
        self.context = length - 1
        self.soft_cap = soft_cap
        self.dropout = dropout
        self._add_tables(vocabulary + starts, width, grid, rotary, bigram)
        more = dict(rotary=rotary, qk_norm=qk_norm, squared_relu=squared_relu, shortcut=shortcut)
        mixes = [value_residual and i > 0 for i in range(depth)]  # with the first layer's values
        self.layers = nn.ModuleList(
            Layer(width, heads, dropout, zero_init, value_residual=mix, **more) for mix in mixes
        )
        self.output = nn.Embedding(vocabulary, width)  # a table of symbols, like those of the input
        nn.init.normal_(self.output.weight, std=0.0 if zero_init else width**-0.5)
        angle = rotations(length, width // heads)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def _add_tables(
        self, inputs: int, width: int, grid: tuple[int, int] | None, rotary: bool, bigram: bool
    ) -> None:
        """The embeddings of the inputs."""
        self.embedding = nn.Embedding(inputs, width)
        self.pairs = inputs if bigram and inputs**2 <= MOST_PAIRS else 0
        self.before = nn.Embedding(inputs**2 if self.pairs else inputs, width) if bigram else None
        self.positions = nn.Embedding(self.length, width) if grid or not rotary else None
        offsets = [] if grid is None else sorted({grid[1] - 1, grid[1], grid[1] + 1} - {0, 1})
        self.above = nn.ModuleDict({str(offset): nn.Embedding(inputs, width) for offset in offsets})
        for table in (self.embedding, self.before, self.positions, *self.above.values()):
            if table is not None:
                nn.init.normal_(table.weight, std=0.5 if table is self.embedding else 0.1)

    def forward(self, s: Tensor, start: Tensor) -> Tensor:
        read = torch.cat([self.vocabulary + start[:, None], s[:, :-1]], 1)  # (B, T)
        return self.run(read, None)

    def run(self, read: Tensor, state: "State | None") -> Tensor:
        """Inputs (B, m) that follow what the state holds -> logits (B, m, V); the state takes them
        in.
        """
        first = 0 if state is None else state.position
        known = read if state is None else state.take(read)  # (B, first + m)
        x = normalise(feature_dropout(self.embed(known, first), self.dropout, self.training))
        if torch.is_autocast_enabled(x.device.type):  # the stream too: that is where the time goes
            x = x.to(torch.get_autocast_dtype(x.device.type))
        x_first = x
        rotation = (self.cos[first : known.shape[1]], self.sin[first : known.shape[1]])
        v_first = None
        for i, layer in enumerate(self.layers):
            cache = None if state is None else (state.keys[i], state.values[i], first)
            x, v_first = layer(x, x_first, v_first, rotation, cache)
        logits = F.linear(normalise(x), self.output.weight).float()
        if not self.soft_cap:
            return logits
        return self.soft_cap * torch.tanh(logits / self.soft_cap)

    def embed(self, known: Tensor, first: int) -> Tensor:
        """All inputs so far (B, p) -> embeddings of those from ``first`` on (B, p - first, width)."""
        pad = known[:, :1]  # the start token stands before itself

        def earlier(offset):  # the input ``offset`` places before each
            n = min(offset, known.shape[1])
            return torch.cat([pad.expand(-1, n), known[:, : known.shape[1] - n]], 1)[:, first:]

        here = known[:, first:]
        x = self.embedding(here)
        if self.before is not None:
            x = x + self.before(earlier(1) * self.pairs + here if self.pairs else earlier(1))
        for offset, table in self.above.items():  # of the place to come, hence - 1
            x = x + table(earlier(int(offset) - 1))
        return x if self.positions is None else x + self.positions.weight[first : known.shape[1]]

    # -- one symbol at a time ---------------------------------------------------------------------

    def begin(self, n: int) -> "State":
        return State(self, n)

    def step(self, state: "State", symbol: Tensor) -> Tensor:
        """Reads symbol (n,) -> logits (n, V) of the next. A full cache is refilled with T // 2
        symbols.
        """
        if state.position == self.length:
            again = torch.cat(
                [state.inputs[:, :1], state.inputs[:, self.length - self.length // 2 + 1 :]], 1
            )
            state.position = 0
            self.run(again, state)
        return self.run(symbol[:, None], state)[:, 0]


class State:
    """Inputs (n, T), and keys and values (n, heads, T, width / heads) of each layer, preallocated."""

    def __init__(self, net: GPT, n: int):
        like = net.embedding.weight
        T = net.length
        shape = (n, net.layers[0].heads, T, like.shape[1] // net.layers[0].heads)
        self.keys = [like.new_zeros(shape) for _ in net.layers]
        self.values = [like.new_zeros(shape) for _ in net.layers]
        self.inputs = torch.zeros((n, T), dtype=torch.int64, device=like.device)
        self.position = 0

    def take(self, read: Tensor) -> Tensor:
        """Appends inputs (n, m); returns all of them, (n, position)."""
        self.inputs[:, self.position : self.position + read.shape[1]] = read
        self.position += read.shape[1]
        return self.inputs[:, : self.position]


class Layer(nn.Module):
    """Attention, then an MLP, each added to the stream x (B, m, width)."""

    def __init__(
        self,
        width,
        heads,
        dropout,
        zero_init,
        rotary,
        qk_norm,
        squared_relu,
        value_residual,
        shortcut,
    ):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.rotary = rotary
        self.qk_norm = qk_norm
        self.squared_relu = squared_relu
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)
        for matrix in (self.qkv, self.up, self.out, self.down):
            last = matrix in (self.out, self.down)
            nn.init.normal_(
                matrix.weight, std=0.0 if last and zero_init else 0.5 * matrix.in_features**-0.5
            )
        self.value_mix = nn.Parameter(torch.tensor(0.5)) if value_residual else None
        self.stream_mix = nn.Parameter(torch.tensor([1.0, 0.0])) if shortcut else None

    def forward(self, x, x_first, v_first, rotation, cache):
        if self.stream_mix is not None:
            x = self.stream_mix[0] * x + self.stream_mix[1] * x_first
        mixed, v_first = self.attend(normalise(x), v_first, rotation, cache)
        x = x + feature_dropout(mixed, self.dropout, self.training)
        hidden = self.up(normalise(x))
        hidden = ReluSquared.apply(hidden) if self.squared_relu else F.gelu(hidden)
        return x + feature_dropout(self.down(hidden), self.dropout, self.training), v_first

    def attend(self, x: Tensor, v_first: Tensor | None, rotation, cache) -> tuple[Tensor, Tensor]:
        B, m, width = x.shape
        qkv = self.qkv(x).view(B, m, 3, self.heads, width // self.heads)
        q, k, v = qkv.unbind(2)  # (B, m, heads, d)
        if self.value_mix is not None:
            v = self.value_mix * v + (1 - self.value_mix) * v_first
        v_first = v if v_first is None else v_first
        if self.qk_norm:
            q = normalise(q)
            k = normalise(k)
        if self.rotary:
            q = rotate(q, *rotation)
            k = rotate(k, *rotation)
        q, k, v_now = (part.transpose(1, 2).to(v.dtype) for part in (q, k, v))  # (B, heads, m, d)
        if cache is not None:
            keys, values, first = cache
            keys[:, :, first : first + m] = k
            values[:, :, first : first + m] = v_now
            k = keys[:, :, : first + m]
            v_now = values[:, :, : first + m]
        return self.out(attention(q, k, v_now).transpose(1, 2).reshape(B, m, width)), v_first


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention softmax(q k^T / sqrt(d)) v of m queries (B, heads, m, d) on p keys (B, heads, p, d).

    The last query is at the position of the last key. The fused kernel stores no (m, p) scores; on a CPU
    its gradient takes up to four times as long.
    """
    m, p = q.shape[2], k.shape[2]
    if q.device.type != "cpu" or p > LONG:
        mask = None if m == p else torch.ones(m, p, dtype=torch.bool, device=q.device).tril(p - m)
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=m == p > 1)
    scores = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)  # (B, heads, m, p)
    if m > 1:
        scores = scores + scores.new_full((m, p), -torch.inf).triu(p - m + 1)
    return scores.softmax(3).to(v.dtype) @ v


class ReluSquared(torch.autograd.Function):
    """max(x, 0)^2; its backward pass stores only max(x, 0)."""

    @staticmethod
    def forward(ctx, x):
        positive = x.clamp(min=0)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient * ctx.saved_tensors[0]


def feature_dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Dropout of features of (B, m, width), the same at all positions (Gal & Ghahramani 2016)."""
    return x * F.dropout(x.new_ones(x.shape[0], 1, x.shape[2]), p) if p and training else x


def rotations(length: int, dims: int) -> Tensor:
    """Angles (T, dims / 2) of the positions: frequencies from 1 down to 1 / 10,000."""
    frequency = torch.exp(-math.log(10_000) * torch.arange(0, dims, 2) / dims)
    return torch.arange(length)[:, None] * frequency


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, m, heads, d): pairs (j, j + d/2) rotated by the angle of their position."""
    a, b = x.chunk(2, -1)
    cos = cos[:, None, :].to(x.dtype)
    sin = sin[:, None, :].to(x.dtype)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
