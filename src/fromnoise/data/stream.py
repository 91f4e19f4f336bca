"""Training batches as a pure function of their number: nothing to save, nothing to replay on resume.

The whole split stays as one array (in memory, or memory-mapped when it is a file); a batch is one indexed
read. Worker threads only prepare batches ahead of time: their number cannot change a bit.
"""

from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from ..core.rng import Rng
from ..core.spec import Batch, DataSpec
from .dataset import Dataset, TextSplit


class Stream:
    """Shuffled batches of a split, endless.

    batch(i) is the i-th batch ever drawn: epoch i // batches_per_epoch, each epoch in its own order. The
    examples that do not fill a last batch are left out of that epoch (others in each epoch).
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        rng: Rng,
        split="train",
        device="cpu",
        workers: int = 0,
    ):
        self.dataset, self.split, self.device = dataset, split, device
        self.n = len(dataset.split(split))
        self.batch_size = min(batch_size, self.n)
        self.batches_per_epoch = self.n // self.batch_size
        self.rng = rng.at("stream", split)
        self._order: OrderedDict[int, np.ndarray] = OrderedDict()
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "batches") if workers else None
        self._ahead: dict[int, Future] = {}

    def _rows(self, index: int) -> np.ndarray:
        epoch, place = divmod(index, self.batches_per_epoch)
        order = self._order.get(epoch)
        if order is None:
            order = self._order[epoch] = self.rng.numpy("order", epoch).permutation(self.n)
            while len(self._order) > 2:
                self._order.popitem(last=False)
        return order[place * self.batch_size : (place + 1) * self.batch_size]

    def _make(self, index: int) -> Batch:
        rng = self.rng.at("batch", index)
        return self.dataset.batch(self.split, self._rows(index), rng, self.device)

    def batch(self, index: int) -> Batch:
        """Batch number ``index``, counted from 0."""
        if self._pool is None:
            return self._make(index)
        for i in range(index, index + 2 * self._workers):
            if i not in self._ahead:
                self._ahead[i] = self._pool.submit(self._make, i)
        for stale in [i for i in self._ahead if i < index]:
            self._ahead.pop(stale)
        return self._ahead.pop(index).result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def default_batch_size(spec: DataSpec, most: int = 1000) -> int:
    """How many examples to take at once where nothing is learned: fewer when they, or predictions of them, are large."""
    predictions = (
        spec.dims * spec.levels if spec.kind == "tokens" else 0
    )  # a number for each symbol at each place
    return max(1, min(most, 2**22 // spec.dims, 2**24 // max(1, predictions)))


def in_order(
    dataset: Dataset,
    split: str,
    batch_size: int = 0,
    limit: int | None = None,
    device="cpu",
    rest: bool = False,
) -> Iterator[Batch]:
    """The first ``limit`` examples of a split, in fixed order, with their fixed draws; batch_size 0: a comfortable one.

    rest: then also the end of a text that fills no window, as a shorter one.
    """
    batch_size = batch_size or default_batch_size(dataset.spec)
    n = min(len(dataset.split(split)), limit or 2**62)
    for start in range(0, n, batch_size):
        yield dataset.batch(split, slice(start, min(start + batch_size, n)), device=device)
    part = dataset.split(split)
    if rest and isinstance(part, TextSplit) and len(part.x) > len(part) * part.window:
        yield Batch(
            torch.from_numpy(part.x[len(part) * part.window :][None].astype(np.int64)).to(device)
        )
