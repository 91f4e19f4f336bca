"""Captions as rows of word tokens, and back.

Unusual: a word that is not known is an error for what a person types, with the nearest known one, and never silently 1.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...core.errors import UsageError, did_you_mean

PADDING, UNKNOWN = 0, 1  # tokens that are no word


@dataclass(frozen=True)
class Captions:
    """words: those of tokens 2, 3 ...; length: L, the longest caption; examples: captions that samples go through in turn."""

    words: tuple[str, ...]
    length: int
    examples: tuple[str, ...] = ()

    @property
    def spec(self) -> tuple[int, int]:
        """(L, V), as ``DataSpec.caption`` has it."""
        return self.length, len(self.words) + 2

    def encode(self, captions: Sequence[str]) -> Tensor:
        """Captions -> (n, L) int64, padded with 0; "" is the empty caption. Raises UsageError: a word unknown, too many of them."""
        token = {word: i for i, word in enumerate(self.words, 2)}
        out = torch.full((len(captions), self.length), PADDING)
        for row, caption in zip(out, captions):
            found = re.findall(r"[\w'-]+", caption.lower())
            for word in found:
                if word not in token:
                    raise UsageError(
                        f"this model does not know the word '{word[:40]}'.{did_you_mean(word, token)} It knows: {' '.join(self.words)}"
                    )
            if len(found) > self.length:
                raise UsageError(
                    f"a caption has at most {self.length} words here, and '{' '.join(found[:6])} ...' has {len(found)}: say less"
                )
            row[: len(found)] = torch.tensor([token[word] for word in found], dtype=torch.int64)
        return out

    def decode(self, tokens: np.ndarray | Tensor) -> list[str]:
        """(n, L) -> captions."""
        names = ("", "?", *self.words)
        return [
            " ".join(names[token] for token in row if token != PADDING) for row in tokens.tolist()
        ]

    def to_json(self) -> dict:
        return {"words": list(self.words), "length": self.length, "examples": list(self.examples)}

    @staticmethod
    def from_json(found: dict) -> "Captions":
        return Captions(tuple(found["words"]), found["length"], tuple(found["examples"]))
