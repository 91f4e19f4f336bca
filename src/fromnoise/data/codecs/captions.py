"""Captions as rows of word tokens, and back."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...core.errors import UsageError, did_you_mean

PADDING = 0
UNKNOWN = 1  # never written: a word that is not known is an error, with the nearest known one


@dataclass(frozen=True)
class Captions:
    """The codec of captions.

    words     those of tokens 2, 3 ...
    length    L, words of the longest caption
    examples  captions of samples for which none is requested, in turn
    """

    words: tuple[str, ...]
    length: int
    examples: tuple[str, ...] = ()

    @property
    def spec(self) -> tuple[int, int]:
        """(L, V), as in ``DataSpec.caption``."""
        return self.length, len(self.words) + 2

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions -> (n, L) int64, padded with 0; "" is the empty caption.

        Raises UsageError if a word is unknown, or if there are too many words.
        """
        token_of = {word: token for token, word in enumerate(self.words, 2)}
        tokens = torch.full((len(captions), self.length), PADDING)
        for row, caption in zip(tokens, captions):
            words = re.findall(r"[\w'-]+", caption.lower())
            for word in words:
                if word not in token_of:
                    raise UsageError(
                        f"this model does not know the word '{word[:40]}'."
                        f"{did_you_mean(word, token_of)} It knows: {' '.join(self.words)}"
                    )
            if len(words) > self.length:
                raise UsageError(
                    f"a caption has at most {self.length} words here, and "
                    f"'{' '.join(words[:6])} ...' has {len(words)}: shorten it"
                )
            row[: len(words)] = torch.tensor([token_of[word] for word in words], dtype=torch.int64)
        return tokens

    def decode(self, tokens: np.ndarray | Tensor) -> list[str]:
        """(n, L) -> captions."""
        names = ("", "?", *self.words)
        captions = []
        for row in tokens.tolist():
            captions.append(" ".join(names[token] for token in row if token != PADDING))
        return captions

    def to_json(self) -> dict:
        return {"words": list(self.words), "length": self.length, "examples": list(self.examples)}

    @staticmethod
    def from_json(stored: dict) -> "Captions":
        return Captions(tuple(stored["words"]), stored["length"], tuple(stored["examples"]))
