"""The training set as it is counted: all its symbols, and its folds."""

from itertools import pairwise

import torch
from torch import Tensor

from ...core.errors import UsageError

MAX_SYMBOLS = 10**8  # some 100 bytes of memory each, in a hybrid 250
FOLDS = 10  # of the training set, for the counts of a hybrid: each about as long as the test set


def collect_symbols(batches, to_symbols, is_text: bool) -> Tensor:
    """The symbols of all batches: of a running text (n,), else of N sequences (N, T); int32, CPU.

    Raises UsageError above MAX_SYMBOLS.
    """
    parts = []
    total = 0
    for batch in batches():
        s = to_symbols(batch.x).to("cpu", torch.int32)
        parts.append(s.flatten() if is_text else s)
        total += s.numel()
        if total > MAX_SYMBOLS:
            raise UsageError(
                f"more than {MAX_SYMBOLS:,} symbols are too many to count in memory: "
                "take a smaller part, or a network without --prior"
            )
    return torch.cat(parts)


def split_into_folds(rows: int, size: int, end: int) -> list[tuple[int, int]]:
    """(first, end) of at most FOLDS parts of equally many rows, row r in part r * K // rows.

    size: symbols of a row; end: symbols of all rows. Windows of text, size > 1, are shifted in
    training, so each part reaches into the next one by a window.
    """
    K = min(FOLDS, rows)
    cuts = [-(-rows * k // K) for k in range(K + 1)]
    folds = []
    for first, last in pairwise(cuts):
        reach = last + 1 if size > 1 else last
        folds.append((size * first, end if last == rows else size * reach))
    return folds
