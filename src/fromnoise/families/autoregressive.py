"""Auto-regressive models: text and images one symbol after another, each given those before it.

    p(x) = p(s_1) p(s_2 | s_1) ... p(s_T | s_1 .. s_{T-1})
    with a window of k:  p(s_i | s_{i-k} .. s_{i-1}),  a Markov chain

The factors come from counting (ngram, Kneser & Ney 1995) or from a network whose output i depends on
the symbols before i only. An image is the sequence of its components, or of its blocks of 2 x 4 black
and white pixels (probability/symbols.py). A class is the start token. With --prior, n-grams and a
network are one model, a hybrid:

    log p = a log p_ngram + b log p_network + constant

In training the n-grams leave out the fold of the training set that the example is from. The network
also minimises -log p_network (docs/log.md says why).
"""

from itertools import chain

import torch
from pydantic import Field
from torch import Tensor, nn

from ..core.capabilities import Bound
from ..core.config import LearningRate
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase, delegate
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, Labels, require_labels
from ..nets.counts.ngram import KneserNey
from ..nets.counts.training_set import collect_symbols, split_into_folds
from ..nets.hybrid import Reader, combine, predict
from ..nets.sequence import cross_entropy
from ..nets.sequence_networks import COUNTING, PIXEL_BY_PIXEL, NetworkConfig, build_network
from ..probability.decoding import DecodingOptions, choose_symbol
from ..probability.symbols import can_pack, symbol_codec

LONGEST_FOR_GPT = 1024  # components of an image that the Transformer reads by default
MAX_LOGITS = 2**24  # in memory at once without gradients


class Config(NetworkConfig):
    prior: bool = Field(False, description="hybrid: a network together with an n-gram model")
    pack: bool = Field(
        True,
        description="black and white images: 2 x 4 pixels as one symbol, if the sides allow it",
    )
    conditional: bool = Field(False, description="learn p(x | y): the start token is the class")
    lr: LearningRate = 3e-3


class Options(DecodingOptions):
    """See probability/decoding.py."""


GPT_TRAINING = dict(optimizer="muon", schedule="wsd", warmup=0.02, ema=0.995, batch_size=32) | dict(
    precision="auto", validation_examples=1000
)
PRESETS = dict.fromkeys(("default", "text", "binary", "pixels"), GPT_TRAINING) | {
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
    return "pixels" if spec.dims <= LONGEST_FOR_GPT else "gated"


class AutoRegressive(Family):
    bound: Bound = "exact"
    reason = ""
    continuous = False

    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        check(config, spec)
        self.symbols = symbol_codec(spec, config.pack and config.network not in PIXEL_BY_PIXEL)
        self.vocabulary = self.symbols.vocabulary
        self.length = self.symbols.length
        self.starts = spec.classes if config.conditional else 1
        has_ngrams = config.network == "ngram" or config.prior
        self.counts = KneserNey(config.order, self.vocabulary) if has_ngrams else None
        self.net = build_network(config, spec, self.symbols, self.starts)
        names = ("counts", "network") if config.prior else ()
        self.mix = nn.ParameterDict({name: torch.tensor(0.5) for name in names})  # a, b
        self.context = config.order if self.net is None else self.net.context
        if config.prior and self.context is not None:
            self.context = max(self.context, config.order)
        if config.conditional:
            self.register_buffer("class_shares", torch.full((spec.classes,), 1 / spec.classes))

    def phases(self):
        if self.config.network in COUNTING:
            return ()
        trains = ("net", "mix") if self.config.prior else ("net",)
        return (Phase("likelihood", trains, lr=self.config.lr, betas=(0.9, 0.99)),)

    # -- the model: p(s_i | s_1 .. s_{i-1}) --------------------------------------------------------

    to_symbols = delegate("symbols", "to_symbols")
    from_symbols = delegate("symbols", "from_symbols")

    def start(self, n: int, y: Labels, device) -> Tensor:
        """Number of the start token of each sequence, (n,): 0, or the class. Its symbol is V + number."""
        return torch.zeros(n, dtype=torch.int64, device=device) if self.condition(y) is None else y

    def logits(self, s: Tensor, start: Tensor) -> Tensor:
        """log p of each symbol up to a constant, (B, T, V)."""
        return combine(self.mix, *predict(self.net, self.counts, s, start))

    def log_probs(self, s: Tensor, y: Labels = None) -> Tensor:
        return self.logits(s, self.start(len(s), y, s.device)).log_softmax(2)

    def nll(self, s: Tensor, y: Labels) -> Tensor:
        """-log p of each symbol given those before it, (B, T) nats."""
        rows = max(1, MAX_LOGITS // (s.shape[1] * self.vocabulary))
        if not torch.is_grad_enabled() and len(s) > rows:
            labels = [None] * len(s) if y is None else y.split(rows)
            return torch.cat([self.nll(*part) for part in zip(s.split(rows), labels)])
        start = self.start(len(s), y, s.device)
        if self.counts is None and hasattr(self.net, "nll"):  # does not need all logits
            return self.net.nll(s, start)
        return cross_entropy(self.logits(s, start), s)

    # -- training: the loss, and what is counted ---------------------------------------------------

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        s = self.to_symbols(batch.x)
        if self.config.prior and self.training:
            return self.hybrid_loss(s, batch)
        nll = self.nll(s, batch.y)
        return Loss(nll.mean(), {"nats_per_symbol": nll.mean(), "nll": nll.sum(1).mean()})

    def hybrid_loss(self, s: Tensor, batch: Batch) -> Loss:
        """The mean of -log p and -log p_network."""
        start = self.start(len(s), batch.y, s.device)
        logits, log_p = predict(self.net, self.counts, s, start, self.fold_of(batch))
        nll = cross_entropy(combine(self.mix, logits, log_p), s)
        network = cross_entropy(logits, s).mean()
        terms = {"nats_per_symbol": nll.mean(), "nll": nll.sum(1).mean()}
        return Loss((nll.mean() + network) / 2, terms | {"network_alone": network})

    def fold_of(self, batch: Batch) -> Tensor:
        if batch.rows is None:
            raise UsageError(
                "a hybrid needs the rows of each batch in the training set (Batch.rows)"
            )
        return batch.rows * self.counts.folds // self.training_rows

    def fit_before(self, batches, rng: Rng) -> None:
        """Counts the training set before the first step: classes, n-grams, pixels."""
        if self.conditional:
            n = self.spec.classes
            self.class_shares.copy_(sum(torch.bincount(b.y, minlength=n) for b in batches()))
            self.class_shares /= self.class_shares.sum()
        if self.counts is None and self.config.network != "counts":
            return
        is_text = self.spec.kind == "tokens" and not self.spec.separate
        s = collect_symbols(batches, self.to_symbols, is_text)
        if self.counts is None:  # the last tenth sets how strongly counts of pixels are smoothed
            x = s.view(-1, *self.spec.shape[1:])
            n = len(x) // 10 or 1
            self.net.fit(x[:-n], x[-n:])
            return
        self.training_rows = max(1, s.numel() // self.length)
        size = self.length if is_text else 1
        folds = split_into_folds(self.training_rows, size, len(s)) if self.config.prior else ()
        self.counts.fit(s, folds)

    # -- samples: one symbol after another ---------------------------------------------------------

    def begin(self, n: int, y: Labels = None) -> Reader:
        device = next(chain(self.parameters(), self.buffers())).device
        start = self.start(n, y, device)
        return Reader(self.net, self.counts, self.mix, self.vocabulary + start)

    def step(self, state: Reader, symbol: Tensor | None = None) -> Tensor:
        return state.step(symbol)

    @torch.no_grad()
    def sample(self, n: int, y: Labels, options: Options, rng: Rng) -> Tensor:
        return self.from_symbols(self.draw(n, y, options, rng))

    @torch.no_grad()
    def complete(
        self, given: Tensor, mask: Tensor, y: Labels, options: Options, rng: Rng
    ) -> Tensor:
        """Draws the unknown part. Exact if all known symbols come before all unknown ones."""

        def restrict(i: int, log_p: Tensor) -> Tensor:
            is_allowed = self.symbols.allowed(given, mask, i)
            return log_p.masked_fill(~is_allowed, -torch.inf).log_softmax(1)

        return self.from_symbols(self.draw(len(given), y, options, rng, restrict))

    def draw(self, n: int, y: Labels, options: Options, rng: Rng, restrict=None) -> Tensor:
        """n sequences (n, T); restrict(i, log_p (n, V)) changes the distribution of symbol i."""
        u = rng.fine_uniform("u", (n, self.length))  # float32 has no symbols rarer than 1e-7
        state = self.begin(n, y)
        s = torch.empty((n, self.length), dtype=torch.int64, device=rng.device)
        symbol = None
        for i in range(self.length):
            log_p = self.step(state, symbol)
            log_p = log_p if restrict is None else restrict(i, log_p)
            symbol = choose_symbol(log_p, s[:, :i], options, u[:, i])
            s[:, i] = symbol
        return s

    # -- likelihood --------------------------------------------------------------------------------

    def log_likelihood(self, x: Tensor, y: Labels, rng: Rng, k: int = 1) -> Tensor:
        return -self.nll(self.to_symbols(x), y).sum(1)

    @torch.no_grad()
    def class_log_probs(self, x: Tensor) -> Tensor:
        """log p(y | x), (B, classes), by Bayes' rule from p(x | y) and the training shares of y."""
        if not self.conditional:
            raise UsageError("p(class | x) needs a model of p(x | class): train with --conditional")
        s = self.to_symbols(x)
        labels = torch.arange(self.starts, device=s.device)
        log_p = torch.stack([-self.nll(s, label.expand(len(s))).sum(1) for label in labels], 1)
        return (log_p + self.class_shares.log()).log_softmax(1)


def check(c: Config, spec: DataSpec) -> None:
    """Raises UsageError for options that cannot be combined."""
    if c.conditional:
        require_labels(spec)
    if c.conditional and (c.prior or c.network in COUNTING):
        raise UsageError("counts use no labels: leave --conditional out, or take another network")
    if c.prior and c.network in COUNTING:
        raise UsageError(
            f"--network {c.network} is the counts alone: leave --prior out, or choose a network"
        )


FAMILY = AutoRegressive
