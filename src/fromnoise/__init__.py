"""fromnoise: train, sample, measure, compare and show generative models of every family.

import fromnoise as fn
run = fn.train("vae", data="mnist", latent_dim=2, minutes=2)
images = run.sample(64, seed=0)
print(run.evaluate())
run.show("grid")
"""

import os

__version__ = "0.1.0"
__all__ = ["compare", "load", "open", "train"]

# How long an OpenMP thread spins before it sleeps while it waits for the others. The defaults (GNU, in
# torch's wheels for Linux: 300,000 rounds; LLVM and Intel: 200 ms) take the processor from the threads
# that are waited for once another process is busy. The libraries read this when torch loads them. Settings
# of the user stay. Measured by benchmarks/busy.py.
SPINS = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}


def _spin_less(environment) -> None:
    """Sets SPINS in an environment without a setting of how threads wait."""
    if not {"OMP_WAIT_POLICY", "KMP_LIBRARY", *SPINS} & environment.keys():
        environment.update(SPINS)


_spin_less(os.environ)


def __getattr__(name):
    # torch takes seconds to import: only users of the API need it
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module 'fromnoise' has no attribute '{name}'")
