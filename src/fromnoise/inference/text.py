"""A model of symbols goes on with a prompt, and says how much a given text surprises it.

Sample i depends on (seed, i) only. A batch may mix prompts of any lengths: each row reads its own
to the end and then writes. Text comes out as soon as it is certain: whole characters, and nothing
that may turn out to be a stop string.
"""

import codecs
import itertools
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..core.capabilities import Predicts, has
from ..core.config import build
from ..core.errors import DataError, FromNoiseError, UsageError
from ..core.rng import Rng
from ..data.codecs.tokenizer import Tokenizer, encode_utf8
from ..data.dataset import Dataset
from ..measures.text import Hashes, longest_copied, perplexity
from ..probability.decoding import RECENT, DecodingOptions, choose_symbol
from ..runs.load import LoadedRun, load_run_data

# rows that are written together, the last block filled up: kernels round differently for other
# batch sizes
BLOCK = 8
LONGEST_PROMPT = 1_000_000  # symbols that are read from the first to the last: minutes
MOST = 10_000_000  # symbols that one call writes
# symbols of training text that copies are looked for in: each takes 50 bytes of memory
LONGEST = 10_000_000
# that a score computes in one call: symbols (more are slower), log-probabilities
SYMBOLS_AT_ONCE, NUMBERS_AT_ONCE = (
    2**12,
    2**25,
)
RECURRENT_SPAN = 2**15  # symbols that a recurrent model reads in one go


# -- writing -------------------------------------------------------------------------------------------------


@dataclass
class Generated:
    """What came after a prompt; it grows while it is written.

    symbols  those whose text begins before the stop string
    log_p    of each under the model's own distribution (before temperature and filters), nats
    text     of the symbols, up to the stop string; incomplete characters as U+FFFD. Empty without a
             tokenizer
    stopped  whether a stop string came
    """

    symbols: list[int] = field(default_factory=list)
    log_p: list[float] = field(default_factory=list)
    text: str = ""
    stopped: bool = False

    @property
    def surprise(self) -> list[float]:
        """-log p of each symbol, nats."""
        return [-value for value in self.log_p]


@torch.no_grad()
def generate(
    model: Predicts,
    prompts: Sequence[Tensor],
    length: int,
    options: DecodingOptions,
    rng: Rng,
    y: Tensor | None = None,
    stop: Sequence = (),
    tokenizer: Tokenizer | None = None,
    on_symbols: Callable[[int, str, Generated], None] | None = None,
) -> list[Generated]:
    """``length`` symbols after each prompt (1-D int64, may be empty); row i draws from ``rng``
    under its number i.

    y: labels (n,) of a conditional model. stop: strings if there is a tokenizer, else sequences of
    symbols; a row ends right before the first one. on_symbols(row, text, generated): after each
    symbol of a row with the text that it made certain (may be empty), and once at the end with what
    was held back. Raises UsageError, DataError (a diverged model).
    """
    check_length(len(prompts), length)
    V, stops = model.vocabulary, stop_strings(stop, tokenizer)
    prompts = [np.asarray(prompt, np.int64).reshape(-1) for prompt in prompts]
    if any(len(prompt) and not 0 <= prompt.min() <= prompt.max() < V for prompt in prompts):
        raise UsageError(f"a prompt's symbols are whole numbers from 0 to {V - 1}")
    if model.context is None and any(len(prompt) > LONGEST_PROMPT for prompt in prompts):
        raise UsageError(
            f"a recurrent model reads a prompt symbol by symbol: give {LONGEST_PROMPT:,} symbols "
            "or fewer"
        )
    out = []
    for start in range(0, len(prompts), BLOCK):
        rows = range(start, min(start + BLOCK, len(prompts)))
        filled = [prompts[row] for row in rows] + [np.empty(0, np.int64)] * (BLOCK - len(rows))
        labels = (
            None
            if y is None
            else torch.cat([y[start : rows.stop], y[:1].expand(BLOCK - len(rows))])
        )
        chances = [rng.numpy("symbol", row) for row in range(start, start + BLOCK)]
        writers = [Writer(row, stops, tokenizer, on_symbols) for row in rows]
        _write(model, filled, length, options, chances, labels, writers)
        out += [writer.generated for writer in writers]
    return out


def _write(model, prompts, length, options, chances, y, writers) -> None:
    """One block: each row reads its prompt, then what it wrote. A row draws one number for each
    symbol that it writes.
    """
    n = len(prompts)
    seen = [
        len(prompt) if model.context is None else min(len(prompt), model.context)
        for prompt in prompts
    ]
    unseen = [
        prompt[: len(prompt) - count] for prompt, count in zip(prompts, seen)
    ]  # too far back to matter
    prompts = [prompt[len(prompt) - count :].tolist() for prompt, count in zip(prompts, seen)]
    history = torch.full((n, RECENT), -1)
    for row, symbols in enumerate(unseen):
        if len(symbols):
            history[row, -len(symbols) :] = torch.from_numpy(symbols[-RECENT:])
    state = model.begin(n, y)
    log_p = model.step(state)  # n V, from the start
    for t in itertools.count():
        writing = [
            row for row, writer in enumerate(writers) if t >= len(prompts[row]) and not writer.done
        ]
        chosen = [0] * n
        if writing:
            u = torch.zeros(n, dtype=torch.float64)
            u[writing] = torch.tensor(
                [chances[row].random() for row in writing], dtype=torch.float64
            )
            symbols = choose_symbol(log_p, history, options, u)
            own = log_p.gather(1, symbols[:, None])[:, 0].tolist()
            chosen = symbols.tolist()
            for row in writing:
                writers[row].read(chosen[row], own[row])
                if len(writers[row].generated.symbols) == length and not writers[row].done:
                    writers[row].finish()
        if all(writer.done for writer in writers):
            return
        read = torch.tensor(
            [prompt[t] if t < len(prompt) else chosen[row] for row, prompt in enumerate(prompts)]
        )
        history = torch.cat([history[:, 1:], read[:, None]], 1)
        log_p = model.step(state, read.to(log_p.device))


class Writer:
    """The text of one row while its symbols come. Without a tokenizer symbol s is the character
    chr(s): one search for both.
    """

    def __init__(self, row: int, stops: tuple[str, ...], tokenizer, on_symbols):
        self.row, self.stops, self.tokenizer, self.on_symbols = (
            row,
            stops,
            tokenizer,
            on_symbols or (lambda *_: None),
        )
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.generated, self.done = Generated(), False
        # text that is certain; the end that may be the beginning of a stop string
        self.parts, self.held = (
            [],
            "",
        )
        # where in the text each symbol begins; whole characters so far
        self.starts, self.length = (
            [],
            0,
        )

    def read(self, symbol: int, log_p: float) -> None:
        """The next symbol: passes on what is certain now, ends the row at a stop string."""
        self.generated.symbols.append(symbol)
        self.generated.log_p.append(log_p)
        self.starts.append(self.length)
        new = (
            chr(symbol)
            if self.tokenizer is None
            else self.decoder.decode(self.tokenizer.token_bytes(symbol))
        )
        self.length += len(new)
        self.held += new
        found = [place for stop in self.stops if (place := self.held.find(stop)) >= 0]
        if found:
            return self._stop(min(found))
        longest = max(map(len, self.stops), default=0)
        keep = next(
            (
                k
                for k in range(min(len(self.held), longest - 1), 0, -1)
                if any(stop.startswith(self.held[-k:]) for stop in self.stops)
            ),
            0,
        )
        self._release(len(self.held) - keep)

    def finish(self) -> None:
        """The end: what was held back was no stop string, and an incomplete character will not be
        completed.
        """
        self.held += "" if self.tokenizer is None else self.decoder.decode(b"", final=True)
        self._end()

    def _stop(self, place: int) -> None:
        # symbols that begin before the stop string
        kept = bisect_left(self.starts, self.length - len(self.held) + place)
        del self.generated.symbols[kept:], self.generated.log_p[kept:]
        self.held, self.generated.stopped = self.held[:place], True
        self._end()

    def _end(self) -> None:
        self.done = True
        self._release(len(self.held))
        self.generated.text = "".join(self.parts)

    def _release(self, count: int) -> None:
        text = "" if self.tokenizer is None else self.held[:count]
        self.parts.append(text)
        self.held = self.held[count:]
        self.on_symbols(self.row, text, self.generated)


def stop_strings(stop: Sequence, tokenizer) -> tuple[str, ...]:
    """Stop strings as ``Writer`` looks for them. Raises UsageError for an empty one, or text where
    there is no tokenizer.
    """
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if tokenizer is None and not any(isinstance(one, str) for one in stops):
        stops = tuple("".join(map(chr, one)) for one in stops)
    elif tokenizer is None or not all(isinstance(one, str) for one in stops):
        raise UsageError(
            "stop strings are text for a model of text, and sequences of symbols for another one"
        )
    if not all(stops):
        raise UsageError("--stop takes a text of at least one character: nothing stands everywhere")
    return stops


def check_length(n: int, length: int) -> None:
    """Raises UsageError unless n texts of ``length`` symbols can be written."""
    if n < 1:
        raise UsageError(f"-n takes a number from 1 on, not {n}")
    if not 1 <= length <= MOST:
        raise UsageError(f"--length takes a number of symbols from 1 to {MOST:,}, not {length}")
    if n * length > MOST:
        raise UsageError(
            f"-n {n} times --length {length} is more than {MOST:,} symbols: ask for less at once"
        )


# -- scoring -------------------------------------------------------------------------------------------------


@torch.no_grad()
def score(model: Predicts, s: Tensor | np.ndarray, label: int | None = None) -> np.ndarray:
    """-log p of each symbol of one sequence given those before it, (L,) float64 nats; the first is
    predicted from the start.

    Each symbol is counted once. Longer than ``span``, the sequence is read in windows that overlap,
    and a symbol is taken from the first window that it is in: at least ``overlap`` symbols stand
    before it there. Raises UsageError.
    """
    s = torch.as_tensor(np.asarray(s, np.int64))
    L, V = len(s), model.vocabulary
    if L == 0:
        raise UsageError("the text is empty: there is nothing to score")
    if not 0 <= int(s.min()) <= int(s.max()) < V:
        raise UsageError(f"symbols are whole numbers from 0 to {V - 1}")
    span, overlap = windows(model)
    last = max(L - span, 0)
    starts = [min(start, last) for start in range(0, last + span - overlap, span - overlap)]
    out, end = np.empty(L), 0
    at_once = max(1, min(SYMBOLS_AT_ONCE, NUMBERS_AT_ONCE // V) // min(span, L))
    device = next(
        (tensor.device for tensor in itertools.chain(model.parameters(), model.buffers())),
        torch.device("cpu"),
    )
    for i in range(0, len(starts), at_once):
        # B T
        part = torch.stack([s[start : start + span] for start in starts[i : i + at_once]]).to(
            device
        )
        y = None if label is None else torch.full((len(part),), label, device=device)
        log_p = model.log_probs(part, y).gather(2, part[:, :, None])[:, :, 0].cpu().double().numpy()
        for start, values in zip(starts[i : i + at_once], log_p):
            out[end : start + span] = -values[end - start :]
            end = start + len(values)
    return out


def windows(model: Predicts) -> tuple[int, int]:
    """(symbols that are read at once, how many of them two neighbouring windows share).

    They share what the model can see, at most half a window: with a context of k < T/2 symbols
    nothing is lost. A recurrent model (context None) reads 2^15 symbols at once, most texts as a
    whole.
    """
    if model.context is None:
        span = max(model.length, min(RECURRENT_SPAN, NUMBERS_AT_ONCE // model.vocabulary))
        return span, span // 2
    return model.length, min(model.context, model.length // 2)


def context_in_words(model: Predicts, L: int) -> str:
    """What stands before each symbol of a sequence of L when it is scored."""
    span, overlap = windows(model)
    if L <= span:
        return (
            "each symbol given all before it"
            if model.context is None or model.context >= L - 1
            else f"each symbol given the {model.context} before it"
        )
    if overlap == model.context:
        return f"each symbol given the {model.context} before it"
    return (
        f"each symbol given at least {overlap} before it (windows of {span}, {span - overlap} "
        "apart)"
    )


@dataclass(frozen=True)
class Scored:
    """How much a text surprises a model: nats of each symbol, and their sum for each character,
    byte and symbol.

    pieces    the symbols as text, in order; surprise: -log p of each, (L,) nats
    characters, bytes   of the text in UTF-8; a byte that is no UTF-8 counts as one character
    unknown   characters that the vocabulary lacks: each is scored as the one symbol that stands for
              all of them, and as one of all the characters that this may be, equally likely
    context   what stood before each symbol, in words
    unknown_nats   what it costs to say which character an unknown symbol stands for, each; part of
                   ``nats``

    A text that tokens can spell in several ways (bpe) is at least as probable as told: only the
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
        """For each symbol: depends on how the text is cut into them."""
        return perplexity(self.nats, self.symbols)

    def numbers(self) -> dict[str, float | int | str]:
        names = (
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
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        lines = [
            (
                f"{self.nats:,.2f} nats: {self.symbols:,} symbols, {self.characters:,} characters, "
                f"{self.bytes:,} bytes"
            ),
            (
                f"{self.bits_per_character:.4f} bits per character, {self.bits_per_byte:.4f} bits per "
                "byte"
            ),
            f"{self.nats / self.symbols:.4f} nats per symbol, perplexity {self.perplexity:.3f}",
            self.context,
        ]
        unknown = f"{unknown_in_words(self.unknown)}: scored as one symbol that stands for all of them, and as one of all that it may be"
        return "\n".join(lines + [unknown] * (self.unknown > 0))


# -- a run and text ------------------------------------------------------------------------------------------


def is_text_model(loaded: LoadedRun) -> bool:
    return has(loaded.model, Predicts) and loaded.dataset.tokenizer is not None


def tokenizer_of(loaded: LoadedRun) -> Tokenizer:
    """The tokenizer of a run whose model predicts text. Raises UsageError for another one."""
    if not is_text_model(loaded):
        raise UsageError(
            f"{loaded.run.path} does not predict the symbols of a text (it is {loaded.run.record.family} on "
            f"{loaded.dataset.name}): train a model that does with `fromnoise train autoregressive --data python-docs`"
        )
    return loaded.dataset.tokenizer


def continue_texts(
    loaded: LoadedRun,
    prompt: str = "",
    n: int = 1,
    length: int = 500,
    seed: int = 0,
    stop: Sequence[str] | str = (),
    options: dict | None = None,
    on_symbols: Callable[[int, str, Generated], None] | None = None,
    warn: Callable[[str], None] = lambda line: None,
) -> list[Generated]:
    """n continuations of a prompt, numbers 0 .. n-1. warn hears of characters in it that the model
    lacks. Raises UsageError.
    """
    tokenizer = tokenizer_of(loaded)
    check_length(n, length)
    chosen = build(loaded.family.Options, options or {})
    symbols = tokenizer.encode(prompt)
    if lacking := tokenizer.count_unknown(symbols):
        warn(f"{unknown_in_words(lacking)} in the prompt, read as the symbol for unknown ones")
    rng = Rng(seed, ("generate",), device=loaded.device)
    return generate(
        loaded.model,
        [symbols] * n,
        length,
        chosen,
        rng,
        stop=stop,
        tokenizer=tokenizer,
        on_symbols=on_symbols,
    )


def score_text(loaded: LoadedRun, text: str) -> Scored:
    """How much a text surprises the model. Raises UsageError for an empty one, DataError for one of
    probability 0.
    """
    tokenizer, model = tokenizer_of(loaded), loaded.model
    symbols = tokenizer.encode(text)
    surprise = score(model, symbols)
    if not np.isfinite(surprise).all():
        where = int(np.flatnonzero(~np.isfinite(surprise))[0])
        raise DataError(
            f"the model gives symbol {where + 1} of the text no probability at all: there is no finite score"
        )
    pieces = tuple(
        tokenizer.token_bytes(symbol).decode("utf-8", "replace") for symbol in symbols.tolist()
    )
    context = context_in_words(model, len(symbols))
    return Scored(
        pieces,
        surprise,
        len(text),
        len(encode_utf8(text)),
        tokenizer.count_unknown(symbols),
        context,
        tokenizer.unknown_nats,
    )


def read_text(raw: bytes, name: str, tokenizer: Tokenizer) -> str:
    """Bytes from outside as text that the model takes: a byte order mark is left out, as from
    training texts.

    Bytes that are no UTF-8 stay what they are for a model of bytes (as ``surrogateescape``), and
    others refuse: DataError.
    """
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode("utf-8", "strict" if tokenizer.unknown is not None else "surrogateescape")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is no UTF-8 at byte {error.start + 1}: save it as UTF-8, or use a model of bytes (--tokens byte)"
        ) from None


def unknown_in_words(count: int) -> str:
    return f"{count:,} unknown character{'s' * (count != 1)}"


def longest_copies(loaded: LoadedRun, texts: Sequence[str]) -> list[int] | None:
    """Characters of the longest part of each text that stands verbatim in the training text.

    None where the training data cannot be had any more, or are longer than LONGEST symbols.
    """
    try:
        dataset = loaded.dataset if loaded.dataset.splits else load_run_data(loaded.run)
    except FromNoiseError:
        return None
    corpus = corpus_of(dataset)
    return None if corpus is None else [longest_copied(text, corpus)[0] for text in texts]


def corpus_of(dataset: Dataset) -> Hashes | None:
    """The training text, to look for copies in; None where it is longer than LONGEST symbols."""
    tokens = dataset.split("train").x
    return None if len(tokens) > LONGEST else Hashes(dataset.tokenizer.decode(np.asarray(tokens)))
