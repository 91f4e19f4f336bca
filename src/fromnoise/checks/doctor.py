"""Is this installation whole, and how fast is the machine?"""

import os
import platform
import shutil
import time
from importlib import metadata

from ..core.errors import StorageError
from ..data.store import cache_folder


def examine() -> tuple[dict, bool]:
    """Findings by name, and whether everything that is needed works."""
    import torch

    ok, found = True, {}
    found["python"] = platform.python_version()
    found["system"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    for package in (
        "fromnoise",
        "torch",
        "numpy",
        "pillow",
        "safetensors",
        "pydantic",
        "scikit-learn",
        "matplotlib",
    ):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package], ok = "missing: pip install fromnoise", False
    found["cuda"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    found["threads"] = torch.get_num_threads()
    a = torch.randn(1024, 1024, generator=torch.Generator().manual_seed(0))
    a @ a
    begin = time.perf_counter()
    for _ in range(10):
        a @ a
    found["speed"] = (
        f"{10 * 2 * 1024**3 / (time.perf_counter() - begin) / 1e9:.0f} GFLOP/s in float32 matrix products"
    )
    found["compiler"] = (
        shutil.which("g++") or shutil.which("clang++") or "none (--compile needs one)"
    )
    try:
        cache = cache_folder()
        writable = os.access(next(p for p in (cache, *cache.parents) if p.exists()), os.W_OK)
        found["cache"] = f"{cache}{'' if writable else ' (not writable: set FROMNOISE_CACHE)'}"
    except StorageError as error:
        found["cache"], writable = str(error), False
    found["data"] = (
        os.environ.get("FROMNOISE_DATA")
        or "FROMNOISE_DATA is not set (named data sets are downloaded)"
    )
    free = shutil.disk_usage(".").free / 1e9
    found["disk"] = f"{free:.1f} GB free here"
    return found, ok and writable
