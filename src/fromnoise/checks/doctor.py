"""Is this installation whole, and how fast is the machine?"""

import os
import platform
import shutil
import time
from importlib import metadata

from ..core.errors import StorageError
from ..data.store import cache_folder

PACKAGES = (
    "fromnoise",
    "torch",
    "numpy",
    "pillow",
    "safetensors",
    "pydantic",
    "scikit-learn",
    "matplotlib",
)
PRODUCTS = 10  # matrix products that are timed
SIZE = 1024  # of the matrices


def inspect_installation() -> tuple[dict, bool]:
    """Findings by name, and whether everything that is needed works."""
    import torch

    versions = {package: installed_version(package) for package in PACKAGES}
    cache, has_cache = describe_cache()
    findings = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        **{name: version or "missing: pip install fromnoise" for name, version in versions.items()},
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
        "speed": f"{measure_speed():.0f} GFLOP/s in float32 matrix products",
        "compiler": shutil.which("g++") or shutil.which("clang++") or "none (--compile needs one)",
        "cache": cache,
        "data": os.environ.get("FROMNOISE_DATA")
        or "FROMNOISE_DATA is not set (named data sets are downloaded)",
        "disk": f"{shutil.disk_usage('.').free / 1e9:.1f} GB free here",
    }
    return findings, has_cache and all(versions.values())


def installed_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def measure_speed() -> float:
    """GFLOP/s of matrix products."""
    import torch

    a = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    a @ a  # the first one also starts threads
    begin = time.perf_counter()
    for _ in range(PRODUCTS):
        a @ a
    return PRODUCTS * 2 * SIZE**3 / (time.perf_counter() - begin) / 1e9


def describe_cache() -> tuple[str, bool]:
    """The folder of downloads, and whether it is writable."""
    try:
        cache = cache_folder()
    except StorageError as error:
        return str(error), False
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    if os.access(existing, os.W_OK):
        return str(cache), True
    return f"{cache} (not writable: set FROMNOISE_CACHE)", False
