"""Scoring: -log p of the symbols of a text under a model, in nats."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.capabilities import Predicts
from ..core.errors import UsageError
from ..measures.text import perplexity

SYMBOLS_AT_ONCE = 2**12  # of one call of the model; more are slower
NUMBERS_AT_ONCE = 2**25  # log-probabilities of one call of the model
RECURRENT_SPAN = 2**15  # symbols that a recurrent model reads at once


@torch.no_grad()
def score(model: Predicts, s: Tensor | np.ndarray) -> np.ndarray:
    """-log p of each symbol of one sequence s (L,) given those before it, (L,) float64 nats.

    A sequence longer than the model's span is read in overlapping windows (see ``window_sizes``),
    and each symbol is counted once, in the first window that has it. Raises UsageError.
    """
    s = torch.as_tensor(np.asarray(s, np.int64))
    L = len(s)
    V = model.vocabulary
    if L == 0:
        raise UsageError("the text is empty: there is nothing to score")
    if not 0 <= int(s.min()) <= int(s.max()) < V:
        raise UsageError(f"symbols are whole numbers from 0 to {V - 1}")
    span, overlap = window_sizes(model)
    last = max(L - span, 0)
    starts = [min(start, last) for start in range(0, last + span - overlap, span - overlap)]
    at_once = max(1, min(SYMBOLS_AT_ONCE, NUMBERS_AT_ONCE // V) // min(span, L))
    device = device_of(model)
    nats = np.empty(L)
    end = 0
    for i in range(0, len(starts), at_once):
        block = starts[i : i + at_once]
        x = torch.stack([s[start : start + span] for start in block]).to(device)  # (B, T)
        log_p = model.log_probs(x).gather(2, x[:, :, None])[:, :, 0].cpu().double().numpy()
        for start, values in zip(block, log_p):
            nats[end : start + span] = -values[end - start :]
            end = start + len(values)
    return nats


def device_of(model) -> torch.device:
    """The device of a model's tensors; the CPU for a model without any."""
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        return tensor.device
    return torch.device("cpu")


def window_sizes(model: Predicts) -> tuple[int, int]:
    """Symbols that are read at once, and how many of them two neighbouring windows share.

    Windows share the model's context, at most half a window: with a context of k < T/2 symbols
    nothing is lost. A recurrent model (context None) reads most texts as a whole.
    """
    if model.context is None:
        span = max(model.length, min(RECURRENT_SPAN, NUMBERS_AT_ONCE // model.vocabulary))
        return span, span // 2
    return model.length, min(model.context, model.length // 2)


def describe_context(model: Predicts, L: int) -> str:
    """What each symbol of a sequence of L symbols is predicted from."""
    span, overlap = window_sizes(model)
    context = model.context
    if L <= span and (context is None or context >= L - 1):
        return "each symbol given all before it"
    if L <= span or overlap == context:
        return f"each symbol given the {context} before it"
    return (
        f"each symbol given at least {overlap} before it (windows of {span}, {span - overlap} "
        "apart)"
    )


def describe_unknown(count: int) -> str:
    return f"{count:,} unknown character{'s' * (count != 1)}"


# fields of a score that are reported
NUMBERS = (
    "nats",
    "symbols",
    "characters",
    "bytes",
    "bits_per_character",
    "bits_per_byte",
    "perplexity",
    "unknown",
    "context",
)


@dataclass(frozen=True)
class TextScore:
    """-log p of a text: of each symbol, and for each character, byte and symbol.

    pieces             the symbols as text, in order
    surprise           -log p of each symbol, (L,) nats
    characters, bytes  of the text in UTF-8; a byte that is no UTF-8 counts as one character
    unknown            characters that the vocabulary lacks: each is scored as the one symbol for
                       all of them, and as one of these characters, equally likely
    context            what each symbol was predicted from
    unknown_nats       -log p of which character one unknown symbol is; part of ``nats``

    A text that tokens can spell in several ways (bpe) is at least as probable as this: only the
    tokenizer's way counts.
    """

    pieces: tuple[str, ...]
    surprise: np.ndarray
    characters: int
    bytes: int
    unknown: int
    context: str
    unknown_nats: float = 0.0

    @property
    def symbols(self) -> int:
        return len(self.surprise)

    @property
    def nats(self) -> float:
        """-log p(text)."""
        return math.fsum(self.surprise.tolist()) + self.unknown * self.unknown_nats

    @property
    def bits_per_character(self) -> float:
        return self.nats / self.characters / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        return self.nats / self.bytes / math.log(2)

    @property
    def perplexity(self) -> float:
        """Of one symbol: depends on how the text is cut into symbols."""
        return perplexity(self.nats, self.symbols)

    def numbers(self) -> dict[str, float | int | str]:
        return {name: getattr(self, name) for name in NUMBERS}

    def __str__(self) -> str:
        lines = [
            f"{self.nats:,.2f} nats: {self.symbols:,} symbols, {self.characters:,} characters, "
            f"{self.bytes:,} bytes",
            f"{self.bits_per_character:.4f} bits per character, "
            f"{self.bits_per_byte:.4f} bits per byte",
            f"{self.nats / self.symbols:.4f} nats per symbol, perplexity {self.perplexity:.3f}",
            self.context,
        ]
        if self.unknown:
            lines.append(
                f"{describe_unknown(self.unknown)}: scored as one symbol that stands for all of "
                "them, and as one of all that it may be"
            )
        return "\n".join(lines)
