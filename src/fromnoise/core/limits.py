"""Sizes are checked before memory is allocated: sizes in files, in runs, and of options.

A few bytes can request any amount of memory: the header of an archive, a shape in a run.json, a number
on the command line.
"""

import os
from contextlib import suppress
from pathlib import Path

import torch
from torch.overrides import TorchFunctionMode

from .errors import DataError, StorageError, UsageError
from .words import shown

SHARE = 0.5  # of the memory that one object may take
UNKNOWN_MEMORY = 2**33  # bytes, if the system does not report its memory
MAX_EXAMPLE = 2**22  # numbers of one example that are always allowed: 1024 x 1024 in colour

# A file is refused as a decompression bomb if it unpacks to more bytes than this, and to more than this
# multiple of its size.
BOMB_BYTES = 2**28
BOMB_RATIO = 100

# Building a model may allocate this number of elements, plus this multiple of those of its weights.
SPARE_ELEMENTS = 2**24
ELEMENTS_FACTOR = 8
# It may call this number of torch functions, plus this multiple of the number of its tensors.
SPARE_CALLS = 10_000
CALLS_FACTOR = 1000

# Arguments of factories that need real memory: left out on the meta device.
MEMORY_ARGUMENTS = ("device", "generator", "out", "pin_memory")
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
    """Bytes of memory that this process may use: of the machine, or of its container if smaller."""
    size = UNKNOWN_MEMORY
    with suppress(AttributeError, ValueError, OSError):
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(ValueError, OSError):
        size = min(size, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return size


def format_bytes(size: float) -> str:
    """A number of bytes with a unit: "12 MB"."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.0f} PB" if size < 1e6 else "far more than any memory"


def check_memory(size: float, name: str, remedy: str) -> None:
    """Raises UsageError if ``size`` bytes are more than ``SHARE`` of the memory.

    name: what takes them, for the message; remedy: what to do instead.
    """
    if size > SHARE * memory():
        raise UsageError(
            f"{name} would take {format_bytes(size)} of memory, and this machine has "
            f"{format_bytes(memory())}: {remedy}"
        )


def check_unpacked(name, declared: int, packed: int, factor: int = 1) -> None:
    """Raises DataError if a file unpacks to more than fits, or is a decompression bomb.

    declared: bytes that it unpacks to; packed: bytes in the file; factor: bytes in memory for each
    unpacked byte.
    """
    remedy = "if that is right, unpack it and save it with numpy.save: a .npy file is read in place"
    if declared * factor > SHARE * memory():
        raise DataError(
            f"{shown(name)} unpacks to {format_bytes(declared * factor)}, and this machine has "
            f"{format_bytes(memory())} of memory: {remedy}"
        )
    if declared > BOMB_BYTES and declared > BOMB_RATIO * packed:
        raise DataError(
            f"{shown(name)} takes {format_bytes(packed)} and unpacks to {format_bytes(declared)}, "
            f"which is implausible for real data: {remedy}"
        )


def check_example(dims: int, owner: str) -> None:
    """Raises StorageError if one example of a run has too many numbers for this machine.

    owner: the run, for the message.
    """
    if not 0 < dims <= max(MAX_EXAMPLE, memory() // 2**12):
        raise StorageError(
            f"{owner} describes examples of {dims:,} numbers each, too many for this machine: its "
            "run.json is damaged, or it needs a machine with more memory"
        )


class BoundedConstruction(TorchFunctionMode):
    """A context for building a model: it limits the allocated elements and the calls of torch.

    The weights of a model are compared with its checkpoint only after it was built: without a limit, a
    forged run.json could request a model of any size.

    elements, tensors: the numbers of elements and tensors of the model's weights; without them the
    memory is the limit. Raises StorageError.
    """

    def __init__(self, owner: str, elements: int | None = None, tensors: int = 1000):
        super().__init__()
        self.owner = owner
        self.max_elements = memory() // 16
        if elements is not None:
            self.max_elements = SPARE_ELEMENTS + ELEMENTS_FACTOR * elements
        self.elements_left = self.max_elements
        self.calls_left = SPARE_CALLS + CALLS_FACTOR * tensors

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.calls_left -= 1
        if function in FACTORIES:  # the meta device gives the size without memory
            sizes = {name: v for name, v in kwargs.items() if name not in MEMORY_ARGUMENTS}
            self._allocate(function(*args, **sizes, device="meta").numel())
        elif function is torch.Tensor.repeat:
            repeats = args[1:] if len(args) > 2 or isinstance(args[1], int) else args[1]
            size = args[0].numel()
            for count in repeats:
                size *= count
            self._allocate(size)
        if self.calls_left < 0:
            self._refuse()
        result = function(*args, **kwargs)
        if isinstance(result, torch.Tensor) and result.numel() > self.max_elements:
            self._refuse()
        return result

    def _allocate(self, size: int) -> None:
        self.elements_left -= size
        if self.elements_left < 0:
            self._refuse()

    def _refuse(self):
        raise StorageError(
            f"{self.owner} describes a far larger model than the one whose weights it holds: its "
            "run.json is damaged or forged"
        )
