"""What the machine is and can: the device, its threads, its memory, and whether it computes in 16 bits."""

import sys

import torch
from torch import nn

from .errors import UsageError
from .family import Family
from .words import escaped


def select_device(name: str) -> torch.device:
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name not in ("auto", *there):
        raise UsageError(f"--device takes auto, cpu, cuda or mps, not '{name}'")
    if name != "auto":
        if not there[name]:
            raise UsageError(
                f"--device {name}: this machine has none that torch can use: leave --device out"
            )
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def best_precision(device: torch.device) -> str:
    """What ``--precision auto`` means here: bfloat16 where the hardware multiplies in it, elsewhere it is slower."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    able = [
        getattr(torch.cpu, name, None)
        for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return "bfloat16" if device.type == "cpu" and any(ask and ask() for ask in able) else "float32"


def can_compile() -> bool:
    """Does torch.compile work here? If not, says why on stderr: training then goes on without it."""
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2))
        return True
    except Exception as error:  # whatever is missing: a compiler, its headers, a driver
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        print(
            f"warning: --compile does not work here ({escaped(reason[:120])}): training without it",
            file=sys.stderr,
        )
        return False


def set_threads(threads: int) -> int:
    if threads:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def peak_memory_mb(device: torch.device) -> float:
    """Highest memory use of this process so far, on the device (CUDA) or resident in RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def compilable_modules(model: Family, differentiated_twice: bool = False) -> list[nn.Module]:
    """The largest parts of what is trained that are called as functions: what torch.compile can take hold of.

    It cannot of a part whose gradient is itself differentiated (``Family.second_order``): those only if asked for.
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
