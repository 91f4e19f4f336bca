"""A run and text: continuations of a prompt, the score of a text, copies of the training text."""

import codecs
from collections.abc import Sequence

import numpy as np

from ..core.capabilities import Predicts, has
from ..core.config import build
from ..core.errors import DataError, FromNoiseError, UsageError
from ..core.output import Say, ignore_message
from ..core.rng import Rng
from ..data.codecs.tokenizer import Tokenizer, encode_utf8
from ..data.dataset import Dataset
from ..measures.text import Hashes, longest_copied
from ..runs.load import LoadedRun, load_run_data
from .text_generation import Generated, OnSymbols, check_length, generate
from .text_scoring import TextScore, describe_context, describe_unknown, score

# symbols of training text in which copies are searched: each takes 50 bytes of memory
LONGEST = 10_000_000


def is_text_model(loaded: LoadedRun) -> bool:
    return has(loaded.model, Predicts) and loaded.dataset.tokenizer is not None


def tokenizer_of(loaded: LoadedRun) -> Tokenizer:
    """The tokenizer of a run whose model predicts text. Raises UsageError for another one."""
    if not is_text_model(loaded):
        raise UsageError(
            f"{loaded.run.path} does not predict the symbols of a text (it is "
            f"{loaded.run.record.family} on {loaded.dataset.name}): train a model that does with "
            "`fromnoise train autoregressive --data python-docs`"
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
    on_symbols: OnSymbols | None = None,
    warn: Say = ignore_message,
) -> list[Generated]:
    """Continuations 0 .. n-1 of a prompt, see ``generate``.

    warn receives a message about characters of the prompt that the model lacks. Raises UsageError.
    """
    tokenizer = tokenizer_of(loaded)
    check_length(n, length)
    decoding = build(loaded.family.Options, options or {})
    symbols = tokenizer.encode(prompt)
    if unknown := tokenizer.count_unknown(symbols):
        warn(f"{describe_unknown(unknown)} in the prompt, read as the symbol for unknown ones")
    return generate(
        loaded.model,
        [symbols] * n,
        length,
        decoding,
        Rng(seed, ("generate",), device=loaded.device),
        tokenizer,
        stop,
        on_symbols,
    )


def score_text(loaded: LoadedRun, text: str) -> TextScore:
    """-log p of a text. Raises UsageError (an empty text), DataError (a text of probability 0)."""
    tokenizer = tokenizer_of(loaded)
    symbols = tokenizer.encode(text)
    surprise = score(loaded.model, symbols)
    infinite = np.flatnonzero(~np.isfinite(surprise))
    if len(infinite):
        raise DataError(
            f"the model gives symbol {infinite[0] + 1} of the text no probability at all: there is "
            "no finite score"
        )
    pieces = [tokenizer.token_bytes(s).decode("utf-8", "replace") for s in symbols.tolist()]
    return TextScore(
        tuple(pieces),
        surprise,
        characters=len(text),
        bytes=len(encode_utf8(text)),
        unknown=tokenizer.count_unknown(symbols),
        context=describe_context(loaded.model, len(symbols)),
        unknown_nats=tokenizer.unknown_nats,
    )


def read_text(raw: bytes, name: str, tokenizer: Tokenizer) -> str:
    """Bytes from outside as text for a model; a byte order mark is dropped, as in training texts.

    A model of bytes takes bytes that are no UTF-8 (as ``surrogateescape``), others raise DataError.
    """
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode("utf-8", "strict" if tokenizer.unknown is not None else "surrogateescape")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is no UTF-8 at byte {error.start + 1}: save it as UTF-8, or use a model of "
            "bytes (--tokens byte)"
        ) from None


def longest_copies(loaded: LoadedRun, texts: Sequence[str]) -> list[int] | None:
    """Length in characters of the longest part of each text that is also in the training text.

    None where the training data are no longer there, or are longer than LONGEST symbols.
    """
    try:
        dataset = loaded.dataset if loaded.dataset.splits else load_run_data(loaded.run)
    except FromNoiseError:
        return None
    corpus = corpus_of(dataset)
    if corpus is None:
        return None
    return [longest_copied(text, corpus)[0] for text in texts]


def corpus_of(dataset: Dataset) -> Hashes | None:
    """The training text to search for copies; None where it is longer than LONGEST symbols."""
    tokens = dataset.split("train").x
    return None if len(tokens) > LONGEST else Hashes(dataset.tokenizer.decode(np.asarray(tokens)))
