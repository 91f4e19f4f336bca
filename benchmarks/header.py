"""What every benchmark prints first, so that its figures can be judged and made again."""

import os
import platform
import shlex
import sys
from importlib import metadata


def header(seed: int = 0, threads: int | None = None) -> None:
    versions = {"python": platform.python_version()}
    for package in ("fromnoise", "torch", "pythae", "diffusers", "torchcfm"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"$ python {shlex.join(sys.argv)}")
    print(f"seed {seed}, {threads or 'all'} threads of {os.cpu_count()} cores, {said}", flush=True)
