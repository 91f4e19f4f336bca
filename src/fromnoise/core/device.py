"""The device, its threads and memory, and whether it supports bfloat16 and torch.compile."""

import sys

import torch
from torch import nn

from .errors import UsageError
from .family import Family
from .words import escaped


def select_device(name: str) -> torch.device:
    """The device of an option; "auto" prefers cuda, then mps. Raises UsageError."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name not in ("auto", *available):
        raise UsageError(f"--device takes auto, cpu, cuda or mps, not '{name}'")
    if name != "auto":
        if not available[name]:
            raise UsageError(
                f"--device {name}: torch finds no such device on this machine: leave --device out"
            )
        return torch.device(name)
    best = next(device for device in ("cuda", "mps", "cpu") if available[device])
    return torch.device(best)


def best_precision(device: torch.device) -> str:
    """The value of ``--precision auto``: bfloat16 if the hardware multiplies it, or it is slower."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    if device.type == "cpu":
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            is_supported = getattr(torch.cpu, name, None)
            if is_supported and is_supported():
                return "bfloat16"
    return "float32"


def can_compile() -> bool:
    """Whether torch.compile works here. If not, the reason is printed to stderr."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2))
        return True
    except Exception as error:  # whatever is missing: a compiler, its headers, a driver
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(
            f"warning: --compile does not work here ({escaped(reason[:120])}): training without it",
            file=sys.stderr,
        )
        return False


def set_threads(threads: int) -> int:
    """Sets the number of threads of torch (0: leaves it) and returns it."""
    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def peak_memory_mb(device: torch.device) -> float:
    """Peak memory of this process in MB, on the device (CUDA) or resident in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def compilable_modules(model: Family, differentiated_twice: bool = False) -> list[nn.Module]:
    """The largest trained modules with a forward method: those that torch.compile can compile.

    It cannot compile a module whose gradient is differentiated again (``Family.second_order``);
    differentiated_twice: include those.
    """

    def descend(module: nn.Module):
        if type(module).forward is nn.Module.forward:  # a container with methods of its own
            for child in module.children():
                yield from descend(child)
        else:
            yield module

    names = dict.fromkeys(
        name
        for phase in model.phases()
        for name in phase.trains
        if differentiated_twice or name not in model.second_order
    )
    return [part for name in names for part in descend(model.get_submodule(name))]
