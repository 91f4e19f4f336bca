"""Second stages in the codes of one first stage, on MNIST: the distance of their samples, beside the first stage's own prior.

A VAE and an autoencoder, then in the VAE's codes a flow and a mixture, and in the autoencoder's codes a flow (it samples by
a mixture of its own). Also a VQ-VAE with an auto-regressive model of its codes. Nothing is scaled by hand. Last averaged
weights, 10,000 samples, the shipped evaluator.

    python benchmarks/latent_mnist.py [--minutes 2] [--second 2] [--seed 0] [--only vae ae vqvae]
"""

import argparse
import time
from pathlib import Path

from header import header
from mnist_scale import SAMPLES, Scale

import fromnoise as fn
from fromnoise import sample

FIRST = {"vae": ("vae", dict(latent_dim=16)), "ae": ("autoencoder", dict(latent_dim=16)), "vqvae": ("vqvae", {})}
SECOND = (
    ("vae", "diffusion", {}),
    ("vae", "classical", dict(preset="mixture")),
    ("ae", "diffusion", {}),
    ("vqvae", "autoregressive", {}),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=2, help="of each first stage")
    parser.add_argument("--second", type=float, default=2, help="of each second stage")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", choices=list(FIRST), default=list(FIRST), help="these first stages")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--out", type=Path, default=Path("runs/latent-mnist"))
    args = parser.parse_args()
    header(args.seed, args.threads)
    scale, common = Scale(), dict(seed=args.seed, threads=args.threads)
    print(f"official test set against training examples: {scale.real:.4f}", flush=True)

    def told(what: str, run, begin: float) -> None:
        x = sample.sample(run.restored, args.samples, args.seed)
        minutes = (time.monotonic() - begin) / 60
        print(scale.line(f"{what} ({minutes:.1f} minutes with sampling)", scale.as_files(x)), flush=True)
        scale.save_grid(x[:64], args.out / f"{run.path.name}.png")

    runs = {}
    for name in args.only:
        family, options = FIRST[name]
        begin = time.monotonic()
        runs[name] = fn.train(family, data="mnist", minutes=args.minutes, out=args.out / name, **common, **options)
        told(f"{name}, its own way to sample", runs[name], begin)
    for first, family, options in (stage for stage in SECOND if stage[0] in runs):
        begin = time.monotonic()
        budget = {} if family == "classical" else {"minutes": args.second}
        run = fn.train(family, within=runs[first].path, out=args.out / f"{first}-{family}", **common, **budget, **options)
        told(f"{first} + {family}", run, begin)


if __name__ == "__main__":
    main()
