"""Random numbers as a pure function of (seed, purpose, step, row).

There is no state to save: a stopped run resumes with the same numbers because they are *computed* from
the step, a loader may have any number of workers, and sample i does not depend on other samples.

A key is a path such as ``Rng(seed).at("train", "batch", step)``. Its 128-bit hash is the key of a Philox
counter generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), so that different
paths give independent numbers. (torch's CPU generator keeps 32 bits of a seed: among 10^5 keys two would
collide.) The same name under the same path gives the same numbers: give each draw a name of its own.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch


class Rng:
    """The random numbers under one path.

    With ``rows`` given (``per_row``), the first dimension of every draw has one entry for each row, and each
    entry depends on its own row index only.
    """

    def __init__(
        self,
        seed: int,
        path: tuple = (),
        rows: Sequence[int] | None = None,
        device: str | torch.device = "cpu",
    ):
        self.seed = int(seed)
        self.path = path
        self.rows = rows
        self.device = torch.device(device)

    def at(self, *path: str | int) -> "Rng":
        """The numbers under a longer path."""
        longer = self.path + tuple(map(_plain, path))
        return Rng(self.seed, longer, self.rows, self.device)

    def per_row(self, rows: Sequence[int]) -> "Rng":
        """One independent stream for each index in ``rows``."""
        return Rng(self.seed, self.path, list(map(int, rows)), self.device)

    def to(self, device) -> "Rng":
        return Rng(self.seed, self.path, self.rows, device)

    def key(self, *path: str | int) -> int:
        """The 128-bit hash of this path, extended by ``path``."""
        text = repr((self.seed, *self.path, *map(_plain, path)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")

    def numpy(self, name: str, *path: str | int) -> np.random.Generator:
        """The numpy generator under (path, name), for uses other than the draws below."""
        return np.random.Generator(np.random.Philox(key=self.key(name, *path)))

    def _draw(self, name, shape, draw, dtype) -> torch.Tensor:
        shape = tuple(shape)
        if self.rows is None:
            out = draw(self.numpy(name), shape)
        else:
            assert shape[0] == len(self.rows), (shape, len(self.rows))
            out = np.empty(shape, dtype)
            for i, row in enumerate(self.rows):
                out[i] = draw(self.numpy(name, row), shape[1:])
        return torch.from_numpy(np.asarray(out, dtype)).to(self.device)

    def normal(self, name: str, shape: Sequence[int]) -> torch.Tensor:
        """Standard normal float32 numbers of the given shape."""
        return self._draw(name, shape, lambda g, s: g.standard_normal(s, np.float32), np.float32)

    def uniform(self, name: str, shape: Sequence[int]) -> torch.Tensor:
        """Uniform float32 numbers in [0, 1) of the given shape."""
        return self._draw(name, shape, lambda g, s: g.random(s, np.float32), np.float32)

    def fine_uniform(self, name: str, shape: Sequence[int]) -> torch.Tensor:
        """Uniform float64 numbers in [0, 1) for rare categories; on the CPU: not all devices have them."""
        return self.to("cpu")._draw(name, shape, lambda g, s: g.random(s), np.float64)

    def integers(self, name: str, high: int, shape: Sequence[int]) -> torch.Tensor:
        """Uniform int64 numbers in 0 .. high-1 of the given shape."""
        return self._draw(name, shape, lambda g, s: g.integers(high, size=s), np.int64)

    def categories(self, name: str, probabilities, n: int) -> torch.Tensor:
        """n int64 indices, index k drawn with probability ``probabilities[k]`` (they sum to 1)."""
        edges = np.cumsum(np.asarray(probabilities, np.float64))
        uniform = self.fine_uniform(name, (n,)).numpy()
        index = np.searchsorted(edges / edges[-1], uniform, side="right")
        return torch.from_numpy(index.clip(0, len(edges) - 1)).to(self.device)

    def seed_torch(self) -> None:
        """Seeds torch's global generators, for layers that take no generator (initial weights, dropout)."""
        seed = self.key("torch") % 2**63
        # torch.manual_seed would store a stack trace of every call (for CUDA)
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed_all(seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(seed)


def _plain(part):
    """Converts integers of numpy to those of Python, whose text is the same in all versions."""
    return part if isinstance(part, str) else int(part)
