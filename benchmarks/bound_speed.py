"""Seconds for each image of the k-sample importance-weighted bound: ours against pythae 0.1.2's get_nll, equal k.

The same network (784-512-2, Bernoulli), untrained weights (time does not depend on them), two threads, ours on
10,000 images, pythae on 200 of them, since it takes one image at a time.

    python benchmarks/bound_speed.py [--k 100]
"""

import argparse
import time

import torch
from header import header

from fromnoise import data
from fromnoise.core.config import build
from fromnoise.data import DataConfig
from fromnoise.evaluate.likelihood import score
from fromnoise.families import load
from fromnoise.runs.load import LoadedRun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--k", type=int, default=100)
    k = parser.parse_args().k
    header(threads=2)
    torch.set_num_threads(2)
    torch.manual_seed(0)
    mnist = data.load("mnist", build(DataConfig, {"binarise": "dynamic"}))
    vae = load("vae")
    config = vae.Config(hidden=(512,), activation="relu", latent_dim=2)
    loaded = LoadedRun(None, vae, vae.FAMILY(config, mnist.spec).eval(), mnist, 0)
    score(loaded, k, 256)
    begin = time.perf_counter()
    found = score(loaded, k)
    ours = (time.perf_counter() - begin) / found.n

    from pythae.models import VAE, VAEConfig

    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=2, reconstruction_loss="bce")).eval()
    x = torch.from_numpy(mnist.splits["test"].x[:200]).float()
    with torch.no_grad():
        model.get_nll(x[:5], n_samples=k, batch_size=k)
        begin = time.perf_counter()
        model.get_nll(x, n_samples=k, batch_size=k)
    theirs = (time.perf_counter() - begin) / len(x)
    print(
        f"k = {k}: ours {1e3 * ours:.3f} ms an image ({found.n} images), pythae {1e3 * theirs:.3f} ms; ratio {ours / theirs:.3f}"
    )


if __name__ == "__main__":
    main()
