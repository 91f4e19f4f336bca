"""Autoregressive networks other than the Transformer: window MLP, causal convolution, GRU, LSTM.

All have the same interface. ``forward(s (B, T), start (B,)) -> logits (B, T, V)``: position i depends on
the start token and s_1 .. s_{i-1}. The input is the sequence shifted by one: start token, s_1 .. s_{T-1};
start tokens are the symbols V .. V + starts - 1. ``begin(n)`` and ``step(state, symbol (n,)) -> logits
(n, V)`` compute the same one symbol at a time (the start token first), without gradients, at constant
cost for any length: states do not grow, and there are no position embeddings.

context  the number of symbols before i that the logits of i depend on; None: all of them
"""

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import normalise
from .gpt import feature_dropout

KINDS = {"gru": nn.GRU, "lstm": nn.LSTM}


def shift_right(s: Tensor, start: Tensor, vocabulary: int) -> Tensor:
    """The input of each prediction: the start token, then s_1 .. s_{T-1}; (B, T)."""
    return torch.cat([vocabulary + start[:, None], s[:, :-1]], 1)


def symbol_table(vocabulary: int, width: int) -> nn.Embedding:
    """The output's table of symbols, zero at first: the first loss is log V."""
    table = nn.Embedding(vocabulary, width)
    nn.init.zeros_(table.weight)
    return table


def read_out(h: Tensor, table: nn.Embedding) -> Tensor:
    """Features (..., width) -> logits (..., V), in the precision of the weights even under
    autocast.
    """
    return F.linear(h, table.weight).to(table.weight.dtype)


def cross_entropy(logits: Tensor, s: Tensor) -> Tensor:
    """-log p of symbols s (B, T) by logits (B, T, V), (B, T) nats."""
    return F.cross_entropy(logits.flatten(0, 1), s.flatten(), reduction="none").view_as(s)


# -- a window of k symbols -----------------------------------------------------------------------


class Window(nn.Module):
    """An MLP on the embeddings of the last ``context`` inputs (Bengio et al. 2003, eq. 1), residual.

    A learned padding symbol stands before the start token. Embeddings have a quarter of the width.
    """

    def __init__(
        self,
        vocabulary: int,
        starts: int,
        context: int,
        width: int,
        depth: int,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.vocabulary = vocabulary
        self.context = context
        self.dropout = dropout
        self.nothing = vocabulary + starts
        self.embedding = nn.Embedding(vocabulary + starts + 1, max(8, width // 4))
        self.first = nn.Linear(context * self.embedding.embedding_dim, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.output = symbol_table(vocabulary, width)

    def forward(self, s: Tensor, start: Tensor) -> Tensor:
        read = F.pad(
            shift_right(s, start, self.vocabulary), (self.context - 1, 0), value=self.nothing
        )
        return self.predict(self.embedding(read).unfold(1, self.context, 1))

    def predict(self, windows: Tensor) -> Tensor:
        """Embeddings (B, T, features, k) of the k inputs before each place -> logits (B, T, V)."""
        h = F.silu(self.first(feature_dropout(windows.flatten(2), self.dropout, self.training)))
        for layer in self.layers:
            h = h + F.silu(layer(feature_dropout(h, self.dropout, self.training)))
        return read_out(feature_dropout(h, self.dropout, self.training), self.output)

    def begin(self, n: int) -> SimpleNamespace:
        """read (n, k): the last k inputs."""
        device = self.output.weight.device
        return SimpleNamespace(read=torch.full((n, self.context), self.nothing, device=device))

    @torch.no_grad()
    def step(self, state: SimpleNamespace, symbol: Tensor) -> Tensor:
        state.read = torch.cat([state.read[:, 1:], symbol[:, None]], 1)
        return self.predict(self.embedding(state.read).transpose(1, 2)[:, None])[:, 0]


# -- causal convolution --------------------------------------------------------------------------


class Convolution(nn.Module):
    """Dilated causal convolutions with gates and residuals (WaveNet, van den Oord et al. 2016, eq. 2).

    Layer l has dilation 2^l; after ten layers dilations begin again at 1, as in the paper. Before the
    start token every layer reads zeros. A convolution is a matrix on the features of several positions
    (taps), concatenated.
    """

    def __init__(
        self,
        vocabulary: int,
        starts: int,
        width: int,
        depth: int,
        kernel: int = 2,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.vocabulary = vocabulary
        self.kernel = kernel
        self.dropout = dropout
        self.steps = [2 ** (layer % 10) for layer in range(depth)]
        self.context = 1 + (kernel - 1) * sum(self.steps)
        self.embedding = nn.Embedding(vocabulary + starts, width)
        self.layers = nn.ModuleList(GatedLayer(kernel * width, width) for _ in range(depth))
        self.output = symbol_table(vocabulary, width)

    def forward(self, s: Tensor, start: Tensor) -> Tensor:
        T = s.shape[1]
        h = self.embedding(shift_right(s, start, self.vocabulary))
        for layer, step in zip(self.layers, self.steps):
            u = feature_dropout(normalise(h), self.dropout, self.training)
            taps = [
                F.pad(u, (0, 0, min(back * step, T), 0))[:, :T]
                for back in reversed(range(self.kernel))
            ]
            h = h + layer(torch.cat(taps, 2))
        return read_out(feature_dropout(normalise(h), self.dropout, self.training), self.output)

    def begin(self, n: int) -> SimpleNamespace:
        """rings: buffers (positions, n, width) of each layer's last inputs; position: inputs read."""
        like = self.embedding.weight
        lengths = [(self.kernel - 1) * step for step in self.steps]
        rings = [like.new_zeros(length, n, like.shape[1]) for length in lengths]
        return SimpleNamespace(rings=rings, position=0)

    @torch.no_grad()
    def step(self, state: SimpleNamespace, symbol: Tensor) -> Tensor:
        h = self.embedding(symbol)
        for layer, step, ring in zip(self.layers, self.steps, state.rings):
            u = normalise(h)
            taps = [
                ring[(state.position - back * step) % len(ring)]
                for back in reversed(range(1, self.kernel))
            ]
            h = h + layer(torch.cat([*taps, u], 1))
            ring[state.position % len(ring)] = u
        state.position += 1
        return read_out(normalise(h), self.output)


class GatedLayer(nn.Module):
    """Taps (..., n_in) -> mix(tanh(a) sigmoid(b)) (..., width), (a, b) linear in the taps."""

    def __init__(self, n_in: int, width: int):
        super().__init__()
        self.filter = nn.Linear(n_in, 2 * width)
        self.mix = nn.Linear(width, width)

    def forward(self, taps: Tensor) -> Tensor:
        a, b = self.filter(taps).chunk(2, -1)
        return self.mix(torch.tanh(a) * torch.sigmoid(b))


# -- recurrent -----------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """GRU (Cho et al. 2014) or LSTM (Hochreiter & Schmidhuber 1997)."""

    context = None

    def __init__(
        self, kind: str, vocabulary: int, starts: int, width: int, depth: int, dropout: float = 0.0
    ):
        super().__init__()
        self.vocabulary = vocabulary
        self.dropout = dropout
        self.embedding = nn.Embedding(vocabulary + starts, width)
        self.cells = KINDS[kind](
            width, width, depth, batch_first=True, dropout=dropout if depth > 1 else 0.0
        )
        self.output = symbol_table(vocabulary, width)
        if kind == "lstm":  # forget gates start open, for long gradients (Jozefowicz et al. 2015)
            for name, bias in self.cells.named_parameters():
                if name.startswith("bias_ih"):
                    nn.init.ones_(bias.detach()[width : 2 * width])

    def forward(self, s: Tensor, start: Tensor) -> Tensor:
        return self.run(shift_right(s, start, self.vocabulary), None)[0]

    def run(self, read: Tensor, memory):
        """Further inputs (B, m), and the memory of earlier ones or None -> logits (B, m, V), new
        memory.
        """
        h, memory = self.cells(
            feature_dropout(self.embedding(read), self.dropout, self.training), memory
        )
        return read_out(feature_dropout(h, self.dropout, self.training), self.output), memory

    def begin(self, n: int) -> SimpleNamespace:
        """memory: (depth, n, width), of an LSTM a pair of them; None before the start token."""
        return SimpleNamespace(memory=None)

    @torch.no_grad()
    def step(self, state: SimpleNamespace, symbol: Tensor) -> Tensor:
        logits, state.memory = self.run(symbol[:, None], state.memory)
        return logits[:, 0]
