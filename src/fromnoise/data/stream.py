"""Training batches as a pure function of their number: nothing to save, nothing to replay on resume.

The whole split stays as one array (in memory, or memory-mapped if it is a file); a batch is one
indexed read. Worker threads only prepare batches ahead of time: their number changes no batch.
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

    batch(i) is in epoch i // batches_per_epoch, each epoch in its own order. The examples that do
    not fill a last batch are left out of that epoch (others in each epoch).
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
        self.dataset = dataset
        self.split = split
        self.device = device
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
            order = self.rng.numpy("order", epoch).permutation(self.n)
            self._order[epoch] = order
            while len(self._order) > 2:
                self._order.popitem(last=False)
        return order[place * self.batch_size : (place + 1) * self.batch_size]

    def _make_batch(self, index: int) -> Batch:
        rng = self.rng.at("batch", index)
        return self.dataset.batch(self.split, self._rows(index), rng, self.device)

    def batch(self, index: int) -> Batch:
        """Batch number ``index``, counted from 0."""
        if self._pool is None:
            return self._make_batch(index)
        for i in range(index, index + 2 * self._workers):
            if i not in self._ahead:
                self._ahead[i] = self._pool.submit(self._make_batch, i)
        for stale in [i for i in self._ahead if i < index]:
            self._ahead.pop(stale)
        return self._ahead.pop(index).result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def default_batch_size(spec: DataSpec, most: int = 1000) -> int:
    """How many examples to process at once without gradients: fewer if they, or the predictions of
    them, are large."""
    predictions = spec.dims * spec.levels if spec.kind == "tokens" else 0
    return max(1, min(most, 2**22 // spec.dims, 2**24 // max(1, predictions)))


def in_order(
    dataset: Dataset,
    split: str,
    batch_size: int = 0,
    limit: int | None = None,
    device="cpu",
    rest: bool = False,
) -> Iterator[Batch]:
    """The first ``limit`` examples of a split, in fixed order, with their fixed draws.

    batch_size: 0 for the default; rest: also the end of a text that fills no window, as a shorter
    window.
    """
    batch_size = batch_size or default_batch_size(dataset.spec)
    part = dataset.split(split)
    n = min(len(part), limit or len(part))
    for start in range(0, n, batch_size):
        yield dataset.batch(split, slice(start, min(start + batch_size, n)), device=device)
    if rest and isinstance(part, TextSplit):
        end = part.x[len(part) * part.window :]
        if len(end):
            yield Batch(torch.from_numpy(end[None].astype(np.int64)).to(device))
