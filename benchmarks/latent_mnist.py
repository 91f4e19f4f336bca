"""Second stages in the codes of one first stage, on MNIST: the distance of their samples, beside the first stage's own prior.

A VAE and an autoencoder, then in the VAE's codes a flow and a mixture, and in the autoencoder's codes a flow (it samples by
a mixture of its own). Also a VQ-VAE with an auto-regressive model of its codes. Nothing is scaled by hand. Last averaged
weights, 10,000 samples, the shipped evaluator. With --conditional the flows are told the digit, and how often it is drawn is
printed too, without guidance and with; samples are made by --evaluations of the network.

    python benchmarks/latent_mnist.py [--minutes 2] [--second 2] [--seed 0] [--only vae ae vqvae] [--conditional] [--size 16]
"""

import argparse
import time
from itertools import product
from pathlib import Path

import torch
from header import header
from mnist_scale import SAMPLES, Scale

import fromnoise as fn
from fromnoise.inference import sample

FIRST = {"vae": "vae", "ae": "autoencoder", "vqvae": "vqvae"}
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
    parser.add_argument(
        "--only", nargs="*", choices=list(FIRST), default=list(FIRST), help="these first stages"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument(
        "--size", type=int, default=16, help="numbers in a code of the VAE and the autoencoder"
    )
    parser.add_argument("--conditional", action="store_true")
    parser.add_argument("--evaluations", type=int, nargs="*", default=[40])
    parser.add_argument("--guidance", type=float, nargs="*", default=[1.0])
    parser.add_argument("--out", type=Path, default=Path("runs/latent-mnist"))
    args = parser.parse_args()
    header(args.seed, args.threads)
    scale, common = Scale(), dict(seed=args.seed, threads=args.threads)
    print(f"official test set against training examples: {scale.real:.4f}", flush=True)

    def told(what: str, run, begin: float, **options) -> None:
        x = scale.as_files(sample.sample(run.loaded, args.samples, args.seed, options=options))
        minutes = (time.monotonic() - begin) / 60
        asked = (
            f", asked digit {scale.agreement(x, torch.arange(len(x)) % 10):.2f} %"
            if getattr(run.model.config, "conditional", False)
            else ""
        )
        print(scale.line(f"{what}{asked} ({minutes:.1f} minutes with sampling)", x), flush=True)
        scale.save_grid(
            x[:100], args.out / f"{'-'.join([run.path.name, *map(str, options.values())])}.png"
        )

    runs = {}
    for name in args.only:
        begin, options = time.monotonic(), {} if name == "vqvae" else {"latent_dim": args.size}
        runs[name] = fn.train(
            FIRST[name],
            data="mnist",
            minutes=args.minutes,
            out=args.out / name,
            **common,
            **options,
        )
        told(f"{name}, its own way to sample", runs[name], begin)
    for first, family, options in (stage for stage in SECOND if stage[0] in runs):
        begin = time.monotonic()
        budget = {} if family == "classical" else {"minutes": args.second}
        if family == "diffusion":
            options = options | {"conditional": args.conditional}
        run = fn.train(
            family,
            within=runs[first].path,
            out=args.out / f"{first}-{family}",
            **common,
            **budget,
            **options,
        )
        if family != "diffusion":
            told(f"{first} + {family}", run, begin)
            continue
        print(
            f"{first} + {family}: trained in {(time.monotonic() - begin) / 60:.1f} minutes",
            flush=True,
        )
        for steps, guidance in product(args.evaluations, args.guidance):
            told(
                f"{first} + {family}, {steps} evaluations, guidance {guidance:g}",
                run,
                begin,
                steps=steps,
                guidance=guidance,
            )


if __name__ == "__main__":
    main()
