"""fromnoise: train, sample, measure, compare and show generative models of every family.

    import fromnoise as fn
    run = fn.train("vae", data="mnist", latent_dim=2, minutes=2)
    images = run.sample(64, seed=0)
    print(run.evaluate())
    run.show("grid")
"""

__version__ = "0.1.0"
__all__ = ["compare", "load", "open", "train"]


def __getattr__(name):
    # torch takes seconds to import: only those who use the API pay for it
    if name in __all__:
        from . import api

        return getattr(api, name)
    raise AttributeError(f"module 'fromnoise' has no attribute '{name}'")
