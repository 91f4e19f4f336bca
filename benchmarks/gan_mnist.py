"""The GAN on MNIST: 10 minutes a seed, three seeds one after another, 10,000 samples of the last and the best checkpoint.

Printed for each seed: images per second, debiased Fréchet distance (the shipped evaluator, against training examples)
of the last and of the best checkpoint, both as multiples of what the official test set scores, the share of each class
among the samples by the evaluator's classifier, and the verdicts raised. For scale: uniform noise, and a Gaussian
fitted to the pixels.

    python benchmarks/gan_mnist.py [--minutes 10] [--seeds 0 1 2] [--threads 0] [--set conditional=true ...]
"""

import argparse
import time
from pathlib import Path

from header import header
from mnist_scale import REFERENCE, SAMPLES, Scale

import fromnoise as fn
from fromnoise.inference import sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--out", type=Path, default=Path("runs/gan-mnist"))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of the training"
    )
    args = parser.parse_args()
    header(threads=args.threads)
    scale = Scale()
    print(
        f"official test set against {REFERENCE:,} training examples: {scale.real:.4f}\n{scale.noise()}",
        flush=True,
    )
    more = dict(item.split("=", 1) for item in args.set)
    for seed in args.seeds:
        begin = time.perf_counter()
        run = fn.train(
            "gan",
            data="mnist",
            minutes=args.minutes,
            seed=seed,
            threads=args.threads,
            out=args.out / f"{'-'.join(args.set) or 'default'}-{seed}",
            **more,
        )
        minutes, events = (time.perf_counter() - begin) / 60, run.run.events("interval")
        print(
            f"seed {seed}: {minutes:.1f} minutes, everything included, {events[-1]['items_per_second']:,.0f} images/s",
            flush=True,
        )
        distances = {}
        for which in ("last", "best"):
            opened = fn.open(run.path, which=which)
            x = sample.sample(opened.loaded, SAMPLES, seed)
            distances[which] = scale(x)[0].value
            print(scale.line(f"  {which} (step {opened.loaded.step})", x), flush=True)
            if which == "last":
                print(
                    scale.line(
                        "  last, the generator alone",
                        sample.sample(opened.loaded, SAMPLES, seed, options={"candidates": 1}),
                    ),
                    flush=True,
                )
                scale.save_grid(x[:64], run.path / "grid.png")
        print(
            f"  last / best {distances['last'] / distances['best']:.2f}; verdicts: {'; '.join(sorted({s for e in events for s in e['health']})) or 'none'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
