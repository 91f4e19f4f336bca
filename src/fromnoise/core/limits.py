"""Sizes are checked before anything is allocated: those that a file declares, a run records, or a user asks for.

A few bytes can ask for any amount of memory: a header of an archive, a shape in a run.json, a number on the command line.
"""

import os
from contextlib import suppress
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

from .errors import DataError, StorageError, UsageError
from .words import shown

SHARE = 0.5  # of the memory that one thing may take
LARGEST_RATIO, SMALLEST_BOMB = (
    100,
    2**28,
)  # unpacked to packed, and unpacked bytes, above which a file is taken for a bomb
EXAMPLE = 2**22  # numbers of one example that are always allowed: 1024 x 1024 in colour
ROOM, ROOM_FACTOR = (
    2**24,
    8,
)  # elements that building a model may take besides so many times those of its weights
CALLS, CALLS_FACTOR = (
    10_000,
    1000,
)  # calls of torch functions: in any case, and for each tensor of its weights
UNKNOWN_MEMORY = 2**33  # bytes: where the system does not tell

ELSEWHERE = (
    "device",
    "generator",
    "out",
    "pin_memory",
)  # arguments of factories that go with real memory
FACTORIES = {
    torch.empty,
    torch.zeros,
    torch.ones,
    torch.full,
    torch.rand,
    torch.randn,
    torch.eye,
    torch.tril_indices,
    torch.triu_indices,
}


def memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's if that is less."""
    found = UNKNOWN_MEMORY
    with suppress(AttributeError, ValueError, OSError):
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(ValueError, OSError):
        found = min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return found


def format_bytes(size: float) -> str:
    """Bytes for people: "12 MB"."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.0f} PB" if size < 1e6 else "far more than any memory"


def check_memory(size: float, what: str, mend: str) -> None:
    """Raises UsageError if ``what`` would take more than its share of the memory; size: bytes; mend: what to do instead."""
    if size > SHARE * memory():
        raise UsageError(
            f"{what} would take {format_bytes(size)} of memory, and this machine has {format_bytes(memory())}: {mend}"
        )


def check_unpacked(name, declared: int, packed: int, factor: int = 1) -> None:
    """Raises DataError if a file declares more than fits, or is a bomb: hardly any content, which unpacks to very much.

    declared: bytes of what it unpacks to; packed: bytes that it takes in the file; factor: bytes in memory for each of these.
    """
    mend = "if that is right, unpack it and save it with numpy.save: a .npy file is read in place"
    if declared * factor > SHARE * memory():
        raise DataError(
            f"{shown(name)} unpacks to {format_bytes(declared * factor)}, and this machine has {format_bytes(memory())} of memory: {mend}"
        )
    if declared > SMALLEST_BOMB and declared > LARGEST_RATIO * packed:
        raise DataError(
            f"{shown(name)} takes {format_bytes(packed)} and unpacks to {format_bytes(declared)}, which no real data do: {mend}"
        )


def check_example(dims: int, whose: str) -> None:
    """Raises StorageError if a block of samples of so many numbers each is too large for this machine. whose: the run."""
    if not 0 < dims <= max(EXAMPLE, memory() // 2**12):
        raise StorageError(
            f"{whose} describes examples of {dims:,} numbers each, too many for this machine: its run.json is damaged, or it needs a larger one"
        )


class BoundedConstruction(TorchFunctionMode):
    """Within it a model is built whose weights are known: nothing far larger is allocated, and no loop runs far longer.

    Weights that are compared with a checkpoint only after they were made can be made of any size by a forged run.json.

    elements, tensors: of its weights; None where they are not known, and the memory is the bound. Raises StorageError.
    """

    def __init__(self, whose: str, elements: int | None = None, tensors: int = 1000):
        super().__init__()
        self.whose = whose
        self.left = memory() // 16 if elements is None else ROOM + ROOM_FACTOR * elements
        self.most, self.calls = self.left, CALLS + CALLS_FACTOR * tensors

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.calls -= 1
        if function in FACTORIES:  # their size is asked of a device that stores nothing
            form = {name: value for name, value in kwargs.items() if name not in ELSEWHERE}
            self._take(function(*args, **form, device="meta").numel())
        elif function is torch.Tensor.repeat:
            times = args[1:] if len(args) > 2 or isinstance(args[1], int) else args[1]
            size = args[0].numel()
            for count in times:
                size *= count
            self._take(size)
        if self.calls < 0:
            self._refuse()
        made = function(*args, **kwargs)
        if isinstance(made, torch.Tensor) and made.numel() > self.most:
            self._refuse()
        return made

    def _take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            self._refuse()

    def _refuse(self):
        raise StorageError(
            f"{self.whose} describes a far larger model than the one whose weights it holds: its run.json is damaged or forged"
        )
