"""Auto-regressive models: text and images one symbol after another, each given those before it.

    p(x) = p(s_1) p(s_2 | s_1) ... p(s_T | s_1 .. s_{T-1})
    with a window of k:  p(s_i | s_{i-k} .. s_{i-1}),  the lecture's Markov chain

The factors come from counting (ngram, Kneser & Ney 1995) or from a network whose output i sees the symbols before i
only; training minimises -log p of each symbol, all places at once. The likelihood is exact. An image is the sequence
of its components, a black and white one of its blocks of 2 x 4 pixels (probability/symbols.py). A class is told by the
start token that stands before the first symbol. With --prior counts and a network are one model, a hybrid:

    log p = a log p_ngram + b log p_network + constant

a, b and the network minimise -log p, in training by the counts of the other parts of the text (ten folds), or they would know
the answer and the passage around it. The network minimises -log p_network as well, so that it is a model of its own and not
only a correction of what the counts say, which did worse (docs/log.md).
"""

from itertools import chain, pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ..core.capabilities import Bound
from ..core.config import BaseConfig, Width
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, require_labels
from ..nets.counts.ngram import KneserNey, contexts
from ..nets.counts.pixelcounts import PixelCounts
from ..nets.gpt import GPT
from ..nets.pixelcnn import PixelCNN
from ..nets.sequence import Convolution, Recurrent, Window
from ..probability.decoding import DecodingOptions, choose_symbol
from ..probability.symbols import can_pack, symbol_codec

Network = Literal["ngram", "counts", "window", "conv", "gru", "lstm", "gpt", "pixelcnn"]


class Config(BaseConfig):
    network: Network = Field(
        "gpt",
        description="n-grams, counts of the pixels around, an MLP over a window, causal convolutions, recurrent, Transformer, masked convolutions",
    )
    size: int = Field(
        2,
        ge=1,
        le=16,
        description="the dial: width 64 x size, depth 2 x size, unless these are given",
    )
    width: Width | None = Field(None, description="features of a layer [64 x size]")
    depth: int | None = Field(None, ge=1, le=64, description="layers [2 x size]")
    heads: int | None = Field(None, ge=1, le=64, description="gpt: attention heads [width / 32]")
    order: int = Field(
        6, ge=0, le=32, description="ngram, window, prior: symbols that are looked back at"
    )
    kernel: int = Field(4, ge=2, le=16, description="conv: symbols that one layer looks at")
    prior: bool = Field(
        False, description="hybrid: a network together with the counts of an n-gram model"
    )
    pack: bool = Field(
        True,
        description="black and white images: 2 x 4 pixels as one symbol, where the sides allow it",
    )
    gated: bool = Field(
        False, description="pixelcnn: gated, with a vertical and a horizontal stack (no blind spot)"
    )
    head: Literal["categorical", "logistic"] = Field(
        "categorical", description="pixelcnn: softmax over the levels, or a mixture of logistics"
    )
    mixtures: int = Field(5, ge=1, le=50, description="pixelcnn: logistics of the mixture")
    rotary: bool = Field(True, description="gpt: positions as rotations")
    qk_norm: bool = Field(True, description="gpt: queries and keys of unit size")
    squared_relu: bool = Field(True, description="gpt: squared ReLU, else GELU")
    zero_init: bool = Field(True, description="gpt: every branch begins as zero")
    value_residual: bool = Field(
        True, description="gpt: values mixed with those of the first layer"
    )
    shortcut: bool = Field(True, description="gpt: the embedding mixed in before each layer")
    soft_cap: float = Field(
        15.0, ge=0, le=1000, description="gpt: logits stay within this; 0: no limit"
    )
    bigram: bool = Field(True, description="gpt: a table for pairs of symbols")
    dropout: float = Field(0.0, ge=0, lt=1, description="share of features left out in training")
    conditional: bool = Field(False, description="learn p(x | y): the start token is the class")
    lr: float = Field(3e-3, gt=0, le=1e31, description="learning rate")


class Options(DecodingOptions):
    """How the next symbol is chosen from its distribution (probability/decoding.py)."""


COUNTING = ("ngram", "counts")  # networks that learn nothing by gradients
PIXEL_BY_PIXEL = ("counts", "pixelcnn")
LONGEST = (
    1024  # components of an image up to which a Transformer reads all of them at once by default
)
COUNTED = 10**8  # symbols that are counted at most: some 100 bytes of memory each, in a hybrid 250
FOLDS = (
    10  # of the training set, for the counts of a hybrid: each about as long as what is held out
)
MOST_LOGITS = 2**24  # in memory at once where nothing is learned

GPT_TRAINING = dict(
    optimizer="muon",
    schedule="wsd",
    warmup=0.02,
    ema=0.995,
    batch_size=32,
    precision="auto",
    validation_examples=1000,
)

PRESETS = {
    "default": GPT_TRAINING,
    "text": GPT_TRAINING,
    "binary": GPT_TRAINING,
    "pixels": GPT_TRAINING,
    "lecture": dict(network="window", order=8),
    "ngram": dict(network="ngram", order=6),
    "counts": dict(network="counts"),
    "hybrid": GPT_TRAINING | dict(prior=True),
    "gru": dict(network="gru", width=256, depth=2),
    "lstm": dict(network="lstm", width=256, depth=2),
    "conv": dict(network="conv"),
    "pixelcnn": dict(network="pixelcnn", width=32, depth=8, lr=1e-3),
    "gated": dict(network="pixelcnn", gated=True, width=32, depth=6, lr=1e-3),
    "logistic": dict(network="pixelcnn", gated=True, head="logistic", width=32, depth=6, lr=1e-3),
}


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    if spec.kind == "tokens":
        return "text"
    if can_pack(spec):
        return "binary"
    return "pixels" if spec.dims <= LONGEST else "gated"


class AutoRegressive(Family):
    bound: Bound = "exact"
    reason = ""
    continuous = False

    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        check(config, spec)
        self.symbols = symbol_codec(spec, config.pack and config.network not in PIXEL_BY_PIXEL)
        self.vocabulary, self.length = self.symbols.vocabulary, self.symbols.length
        self.starts = spec.classes if config.conditional else 1
        counted = config.network == "ngram" or config.prior
        self.counts = KneserNey(config.order, self.vocabulary) if counted else None
        self.net = (
            None
            if config.network == "ngram"
            else make_network(config, spec, self.symbols, self.starts)
        )
        self.mix = nn.ParameterDict(
            {name: torch.tensor(0.5) for name in ("counts", "network") if config.prior}
        )
        self.context = config.order if self.net is None else self.net.context
        if config.prior and self.context is not None:
            self.context = max(self.context, config.order)
        if config.conditional:
            self.register_buffer("class_shares", torch.full((spec.classes,), 1 / spec.classes))

    def phases(self):
        if self.config.network in COUNTING:
            return ()
        trains = ("net", "mix") if self.config.prior else ("net",)
        return (Phase("likelihood", trains=trains, lr=self.config.lr, betas=(0.9, 0.99)),)

    # -- the objective ---------------------------------------------------------------------------------------

    def start(self, n: int, y: Tensor | None, device) -> Tensor:
        """Which start token each of n sequences begins with, (n,)."""
        return torch.zeros(n, dtype=torch.int64, device=device) if self.condition(y) is None else y

    def nll(self, s: Tensor, y: Tensor | None) -> Tensor:
        """-log p of each symbol given those before it, (B, T) nats."""
        rows = max(1, MOST_LOGITS // (s.shape[1] * self.vocabulary))
        if not torch.is_grad_enabled() and len(s) > rows:
            labels = [None] * len(s) if y is None else y.split(rows)
            return torch.cat([self.nll(*part) for part in zip(s.split(rows), labels)])
        start = self.start(len(s), y, s.device)
        if self.counts is None and hasattr(
            self.net, "nll"
        ):  # a head that need not compare all levels
            return self.net.nll(s, start)
        return cross_entropy(self.logits(s, start), s)

    def logits(self, s: Tensor, start: Tensor) -> Tensor:
        """log p up to a constant, (B, T, V)."""
        return self.mixed(*self.parts(s, start))

    def parts(
        self, s: Tensor, start: Tensor, fold: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """What the network says, log p up to a constant, and what the counts say, log p; (B, T, V), None where there is none.

        fold (B,): what the counts leave out.
        """
        logits = None if self.net is None else self.net(s, start).float()
        if self.counts is None:
            return logits, None
        fold = None if fold is None else fold.repeat_interleave(s.shape[1])
        return logits, self.counts.log_probs(
            contexts(s, self.config.order).flatten(0, 1), fold
        ).view(*s.shape, -1)

    def mixed(self, logits: Tensor | None, log_p: Tensor | None) -> Tensor:
        """One of the two, or of a hybrid the weighted sum of both."""
        if logits is None or log_p is None:
            return log_p if logits is None else logits
        return self.mix["network"] * logits + self.mix["counts"] * log_p

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        s = self.to_symbols(batch.x)
        if not (self.config.prior and self.training):
            nll = self.nll(s, batch.y)  # (B, T)
            return Loss(nll.mean(), {"nats_per_symbol": nll.mean(), "nll": nll.sum(1).mean()})
        logits, log_p = self.parts(s, self.start(len(s), batch.y, s.device), self.fold(batch))
        nll, alone = (cross_entropy(said, s) for said in (self.mixed(logits, log_p), logits))
        return Loss(
            (nll.mean() + alone.mean()) / 2,
            {
                "nats_per_symbol": nll.mean(),
                "nll": nll.sum(1).mean(),
                "network_alone": alone.mean(),
            },
        )

    def log_likelihood(self, x: Tensor, y: Tensor | None, rng: Rng, k: int = 1) -> Tensor:
        return -self.nll(self.to_symbols(x), y).sum(1)

    def fold(self, batch: Batch) -> Tensor:
        """Which fold of the training set each example is from, (B,)."""
        if batch.rows is None:
            raise UsageError(
                "a hybrid is trained on batches that say which rows of the training set they are (Batch.rows)"
            )
        return batch.rows * self.counts.folds // self.counted

    def fit_before(self, batches, rng: Rng) -> None:
        """Counts the training set, once, before the first step: a text as a whole, images one by one, the classes."""
        if self.conditional:
            self.class_shares.copy_(
                sum(torch.bincount(b.y, minlength=self.spec.classes) for b in batches())
            )
            self.class_shares /= self.class_shares.sum()
        if self.counts is None and self.config.network != "counts":
            return
        text = self.spec.kind == "tokens" and not self.spec.separate
        parts, total = [], 0
        for batch in batches():
            s = self.to_symbols(batch.x).to("cpu", torch.int32)
            parts.append(s.flatten() if text else s)
            if (total := total + s.numel()) > COUNTED:
                raise UsageError(
                    f"more than {COUNTED:,} symbols are too many to count in memory: take a smaller part, or a network without --prior"
                )
        s = torch.cat(parts)
        if self.counts is not None:
            self.counted = max(1, total // self.length)
            folds = (
                folds_of(self.counted, self.length if text else 1, len(s))
                if self.config.prior
                else ()
            )
            self.counts.fit(s, folds)
        else:  # a tenth says how to mix near and far
            x = s.view(-1, *self.spec.shape[1:])
            self.net.fit(x[: -(len(x) // 10 or 1)], x[-(len(x) // 10 or 1) :])

    # -- one symbol after another ----------------------------------------------------------------------------

    def to_symbols(self, x: Tensor) -> Tensor:
        return self.symbols.to_symbols(x)

    def from_symbols(self, s: Tensor) -> Tensor:
        return self.symbols.from_symbols(s)

    def log_probs(self, s: Tensor, y: Tensor | None = None) -> Tensor:
        return self.logits(s, self.start(len(s), y, s.device)).log_softmax(2)

    def begin(self, n: int, y: Tensor | None = None):
        return Reader(self, n, y)

    def step(self, state: "Reader", symbol: Tensor | None = None) -> Tensor:
        return state.step(symbol)

    @torch.no_grad()
    def sample(self, n: int, y: Tensor | None, options: Options, rng: Rng) -> Tensor:
        return self.from_symbols(self.draw(n, y, options, rng, lambda i, log_p: log_p))

    @torch.no_grad()
    def complete(
        self, given: Tensor, mask: Tensor, y: Tensor | None, options: Options, rng: Rng
    ) -> Tensor:
        """Draws what the mask leaves open. Exact where all that is known stands before all that is open: a prefix."""

        def agreeing(i, log_p):
            return log_p.masked_fill(~self.symbols.allowed(given, mask, i), -torch.inf).log_softmax(
                1
            )

        return self.from_symbols(self.draw(len(given), y, options, rng, agreeing))

    def draw(self, n: int, y: Tensor | None, options: Options, rng: Rng, restrict) -> Tensor:
        """n sequences (n, T); restrict(i, log_p (n, V)) changes the law of symbol i."""
        u = rng.fine_uniform("u", (n, self.length))  # float32 lacks symbols rarer than 1e-7
        state, s, symbol = (
            self.begin(n, y),
            torch.empty((n, self.length), dtype=torch.int64, device=rng.device),
            None,
        )
        for i in range(self.length):
            symbol = choose_symbol(
                restrict(i, self.step(state, symbol)), s[:, :i], options, u[:, i]
            )
            s[:, i] = symbol
        return s

    @torch.no_grad()
    def class_log_probs(self, x: Tensor) -> Tensor:
        """log p(y | x), (B, classes), by Bayes' rule: p(x | y) times the share of y in training, normalised."""
        if not self.conditional:
            raise UsageError("p(class | x) needs a model of p(x | class): train with --conditional")
        s = self.to_symbols(x)
        log_p = [
            -self.nll(s, torch.full((len(s),), y, device=s.device)).sum(1)
            for y in range(self.starts)
        ]
        return (torch.stack(log_p, 1) + self.class_shares.log()).log_softmax(1)


def cross_entropy(logits: Tensor, s: Tensor) -> Tensor:
    """-log p of symbols s (B, T) by logits (B, T, V), (B, T) nats."""
    return F.cross_entropy(logits.flatten(0, 1), s.flatten(), reduction="none").view_as(s)


def folds_of(rows: int, size: int, end: int) -> list[tuple[int, int]]:
    """(first, end) of at most FOLDS parts of equally many rows, each ``size`` long, of ``end`` altogether.

    Windows of text, size > 1, are moved on in training, so that each part reaches into the next by a window.
    """
    K = min(FOLDS, rows)
    cuts = [-(-rows * k // K) for k in range(K + 1)]  # row r is in part r K // rows
    return [(size * a, end if b == rows else size * (b + (size > 1))) for a, b in pairwise(cuts)]


class Reader:
    """What a model has read of n sequences: the state of its network, and the last symbols for its counts."""

    def __init__(self, model: AutoRegressive, n: int, y: Tensor | None):
        device = next(
            (t.device for t in chain(model.parameters(), model.buffers())), torch.device("cpu")
        )
        self.model, self.start = model, model.start(n, y, device)
        self.state = model.net.begin(n) if model.net is not None else None
        self.last = torch.full((n, model.config.order), -1, device=device)

    def step(self, symbol: Tensor | None) -> Tensor:
        """log p of the next symbol, (n, V)."""
        m, log_p = self.model, None
        if m.counts is not None:
            if symbol is not None and m.config.order:
                self.last = torch.cat([self.last[:, 1:], symbol[:, None]], 1)
            log_p = m.counts.log_probs(self.last)
        logits = (
            None
            if m.net is None
            else m.net.step(
                self.state, m.vocabulary + self.start if symbol is None else symbol
            ).float()
        )
        return m.mixed(logits, log_p).log_softmax(1)


def make_network(c: Config, spec: DataSpec, symbols, starts: int) -> nn.Module:
    V, width, depth = symbols.vocabulary, c.width or 64 * c.size, c.depth or 2 * c.size
    if c.network == "counts":
        return PixelCounts(spec.shape[1:])
    if c.network == "window":
        return Window(V, starts, c.order, width, depth, dropout=c.dropout)
    if c.network == "conv":
        return Convolution(V, starts, width, depth, c.kernel, dropout=c.dropout)
    if c.network in ("gru", "lstm"):
        return Recurrent(c.network, V, starts, width, depth, dropout=c.dropout)
    if c.network == "pixelcnn":
        kind = "gated" if c.gated else "plain"
        return PixelCNN(spec.shape, spec.levels, starts, width, depth, kind, c.head, c.mixtures)
    switches = {
        name: getattr(c, name)
        for name in (
            "rotary",
            "qk_norm",
            "squared_relu",
            "zero_init",
            "value_residual",
            "shortcut",
            "soft_cap",
            "bigram",
        )
    }
    return GPT(
        V, starts, symbols.length, width, depth, heads_of(c), c.dropout, symbols.grid, **switches
    )


def heads_of(c: Config) -> int:
    """Attention heads: about 32 features each, of a number that divides the width."""
    width = c.width or 64 * c.size
    return c.heads or next(
        (h for h in range(max(1, width // 32), 1, -1) if width % (2 * h) == 0), 1
    )


def check(c: Config, spec: DataSpec) -> None:
    """Options that do not go together. Raises UsageError."""
    if spec.kind == "vector":
        raise UsageError(
            "the family autoregressive is for text and images: for points and tables take gan, vae or classical"
        )
    if spec.kind == "image" and not 2 <= spec.levels <= 256:
        raise UsageError("the family autoregressive needs images with 2 to 256 levels")
    if c.conditional:
        require_labels(spec)
    if c.network == "pixelcnn" and spec.kind != "image":
        raise UsageError("--network pixelcnn is for images: use conv, gru, lstm or gpt for text")
    if c.network == "pixelcnn" and (c.width or 64 * c.size) < 2 * spec.shape[0]:
        raise UsageError(
            f"--width is too small for images of {spec.shape[0]} channels: give {2 * spec.shape[0]} or more"
        )
    if c.network == "window" and c.order < 1:
        raise UsageError("--network window looks at --order symbols: give 1 or more")
    if c.head == "logistic" and (c.network != "pixelcnn" or spec.levels < 3):
        raise UsageError("--head logistic is for --network pixelcnn on grey or colour levels")
    if c.conditional and (c.prior or c.network in COUNTING):
        raise UsageError(
            "counts know no labels: leave --conditional out, or choose a network without them"
        )
    if c.network == "counts" and (spec.kind != "image" or spec.levels != 2 or spec.shape[0] != 1):
        raise UsageError(
            "--network counts is for black and white images: add --binarise dynamic, or take ngram"
        )
    if c.prior and c.network in COUNTING:
        raise UsageError(
            f"--network {c.network} is the counts alone: leave --prior out, or choose a network"
        )
    width, heads = c.width or 64 * c.size, heads_of(c)
    if c.network == "gpt" and (width % heads or width // heads % 2 or width // heads < 4):
        raise UsageError(
            f"--width {width} must be an even multiple of the {heads} heads, 4 or more for each"
        )


FAMILY = AutoRegressive
