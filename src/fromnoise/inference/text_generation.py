"""Generation: a model of symbols continues prompts.

Row i depends on (seed, i) only. A batch may mix prompts of any lengths: each row reads its own
prompt and then generates. Text is passed on as soon as it is certain: whole characters, and nothing
that may turn out to be a stop string.
"""

import codecs
import itertools
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..core.capabilities import Predicts
from ..core.errors import UsageError
from ..core.rng import Rng
from ..data.codecs.tokenizer import Tokenizer
from ..probability.decoding import RECENT, DecodingOptions, choose_symbol
from .batches import fixed_blocks

BLOCK = 8  # rows that are generated together
LONGEST_PROMPT = 1_000_000  # symbols that a recurrent model reads one by one: minutes
MOST = 10_000_000  # symbols that one call generates


OnSymbols = Callable[[int, str, "Generated"], None]


@dataclass
class Generated:
    """The continuation of a prompt; it grows while it is generated.

    symbols  those whose text begins before the stop string
    log_p    of each under the model's own distribution (before temperature and filters), nats
    text     of the symbols, up to the stop string; incomplete characters as U+FFFD
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
    tokenizer: Tokenizer,
    stop: Sequence[str] | str = (),
    on_symbols: OnSymbols | None = None,
) -> list[Generated]:
    """Generates ``length`` symbols after each prompt (1-D int64, may be empty).

    Row i draws from ``rng`` under its number i. It ends right before the first of the stop strings.
    on_symbols: called as (row, text, generated) after each symbol of a row with the text that became
        certain (may be empty), and once at the end with the rest.
    Raises UsageError, DataError (a diverged model).
    """
    check_length(len(prompts), length)
    stops = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(stops):
        raise UsageError("--stop takes a text of at least one character: nothing stands everywhere")
    prompts = [np.asarray(prompt, np.int64).reshape(-1) for prompt in prompts]
    check_prompts(model, prompts)
    results = []
    for numbers, count in fixed_blocks(len(prompts), BLOCK):
        rows = numbers[:count]
        block = [prompts[row] for row in rows] + [np.empty(0, np.int64)] * (BLOCK - count)
        generators = [rng.numpy("symbol", row) for row in numbers]
        writers = [TextWriter(row, stops, tokenizer, on_symbols) for row in rows]
        _generate_block(model, block, length, options, generators, writers)
        results += [writer.generated for writer in writers]
    return results


def _generate_block(model, prompts, length, options, generators, writers) -> None:
    """Each row reads its prompt, then its own symbols; it draws one random number a symbol."""
    n = len(prompts)
    history, prompts = split_prompts(prompts, model.context)
    state = model.begin(n)
    log_p = model.step(state)  # (n, V), of the first symbol
    for t in itertools.count():
        active = []
        for row, writer in enumerate(writers):
            if t >= len(prompts[row]) and not writer.done:
                active.append(row)
        chosen = [0] * n
        if active:
            u = torch.zeros(n, dtype=torch.float64)
            draws = [generators[row].random() for row in active]
            u[active] = torch.tensor(draws, dtype=torch.float64)
            symbols = choose_symbol(log_p, history, options, u)
            chosen_log_p = log_p.gather(1, symbols[:, None])[:, 0].tolist()
            chosen = symbols.tolist()
            for row in active:
                writers[row].add(chosen[row], chosen_log_p[row])
                if len(writers[row].generated.symbols) == length and not writers[row].done:
                    writers[row].finish()
        if all(writer.done for writer in writers):
            return
        inputs = chosen
        for row, prompt in enumerate(prompts):
            if t < len(prompt):
                inputs[row] = prompt[t]
        inputs = torch.tensor(inputs)
        history = torch.cat([history[:, 1:], inputs[:, None]], 1)
        log_p = model.step(state, inputs.to(log_p.device))


def split_prompts(prompts: list[np.ndarray], context: int | None) -> tuple[Tensor, list[list[int]]]:
    """The symbols before the model's context, (n, RECENT) with -1 for none, and the prompts in it.

    Symbols before the context only count for the repetition penalty. context None: no limit.
    """
    history = torch.full((len(prompts), RECENT), -1)
    read = []
    for row, prompt in enumerate(prompts):
        start = 0 if context is None else max(0, len(prompt) - context)
        if start:
            before = prompt[:start]
            history[row, -len(before) :] = torch.from_numpy(before[-RECENT:])
        read.append(prompt[start:].tolist())
    return history, read


@dataclass
class TextWriter:
    """Builds the text of one row from its symbols and stops at a stop string."""

    row: int
    stops: tuple[str, ...]
    tokenizer: Tokenizer
    on_symbols: OnSymbols | None
    generated: Generated = field(default_factory=Generated)
    done: bool = False
    pending: str = ""  # the end of the text, which may be the beginning of a stop string
    starts: list[int] = field(default_factory=list)  # where in the text each symbol begins
    length: int = 0  # whole characters so far

    def __post_init__(self):
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, symbol: int, log_p: float) -> None:
        """Adds a symbol: passes on what is certain now, ends the row at a stop string."""
        self.generated.symbols.append(symbol)
        self.generated.log_p.append(log_p)
        self.starts.append(self.length)
        text = self.decoder.decode(self.tokenizer.token_bytes(symbol))
        self.length += len(text)
        self.pending += text
        places = list(map(self.pending.find, self.stops))
        places = [place for place in places if place >= 0]
        if places:
            self._stop(min(places))
        else:
            self._release(len(self.pending) - self._possible_stop())

    def finish(self) -> None:
        """Ends the row: the pending text is no stop string, and an incomplete character stays so."""
        self.pending += self.decoder.decode(b"", final=True)
        self._end()

    def _possible_stop(self) -> int:
        """How many characters at the end may be the beginning of a stop string."""
        longest = max(map(len, self.stops), default=0)
        for count in range(min(len(self.pending), longest - 1), 0, -1):
            if any(stop.startswith(self.pending[-count:]) for stop in self.stops):
                return count
        return 0

    def _stop(self, place: int) -> None:
        # the symbols that begin before the stop string
        kept = bisect_left(self.starts, self.length - len(self.pending) + place)
        del self.generated.symbols[kept:]
        del self.generated.log_p[kept:]
        self.pending = self.pending[:place]
        self.generated.stopped = True
        self._end()

    def _end(self) -> None:
        self.done = True
        self._release(len(self.pending))

    def _release(self, count: int) -> None:
        text = self.pending[:count]
        self.generated.text += text
        self.pending = self.pending[count:]
        if self.on_symbols is not None:
            self.on_symbols(self.row, text, self.generated)


def check_length(n: int, length: int) -> None:
    """Raises UsageError unless n texts of ``length`` symbols can be generated."""
    if n < 1:
        raise UsageError(f"-n takes a number from 1 on, not {n}")
    if not 1 <= length <= MOST:
        raise UsageError(f"--length takes a number of symbols from 1 to {MOST:,}, not {length}")
    if n * length > MOST:
        raise UsageError(
            f"-n {n} times --length {length} is more than {MOST:,} symbols: ask for less at once"
        )


def check_prompts(model: Predicts, prompts: list[np.ndarray]) -> None:
    """Raises UsageError unless the model can read the prompts."""
    V = model.vocabulary
    for prompt in prompts:
        if len(prompt) and not 0 <= prompt.min() <= prompt.max() < V:
            raise UsageError(f"a prompt's symbols are whole numbers from 0 to {V - 1}")
        if model.context is None and len(prompt) > LONGEST_PROMPT:
            raise UsageError(
                f"a recurrent model reads a prompt symbol by symbol: give {LONGEST_PROMPT:,} "
                "symbols or fewer"
            )
