"""Stacked MNIST: 1,000 modes (three digits as the channels of one image), PacGAN's protocol, the last checkpoint.

26,000 samples; each channel is classified by the shipped MNIST evaluator; a mode counts if it is hit once; the
divergence is of the modes' shares from uniform, in nats, its floor for equal modes (0.019) printed beside it; that of
the real digits, which are not equally frequent, is 0.024.

Three digits in one image are three times what one is: networks twice as wide as the preset's, at a third of its learning
rate. In less than a quarter of an hour they are no better than the preset (docs/log.md).

    python benchmarks/stacked_mnist.py [--minutes 32] [--seed 0] [--threads 0]
"""

import argparse
import time
from pathlib import Path

from header import header

import fromnoise as fn
from fromnoise import sample
from fromnoise.evaluate.modes import STACKED, mode_estimates


SETTING = dict(width="32", lr_d="1e-3", lr_g="1e-3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--out", type=Path, default=Path("runs/stacked-mnist"))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help=f"further options of the training, or others than {SETTING}")
    args = parser.parse_args()
    header(args.seed, args.threads)
    print("published: DCGAN 99 modes, KL 3.40; PacDCGAN2 1000, 0.06; R3GAN's loss 1000, 0.078")
    begin = time.perf_counter()
    more = SETTING | dict(item.split("=", 1) for item in args.set)
    run = fn.train("gan", data="stacked-mnist", minutes=args.minutes, seed=args.seed, threads=args.threads, out=args.out, **more)
    print(f"trained in {(time.perf_counter() - begin) / 60:.1f} minutes, {run.run.events('interval')[-1]['items_per_second']:,.0f} images/s", flush=True)
    for what, options in (("", {}), (", the generator alone", {"candidates": 1})):
        found = mode_estimates(run.dataset, sample.sample(run.restored, STACKED, args.seed, options=options))
        for name, estimate in found.items():
            print(f"{name}{what}: {estimate.value:.4g} (a perfect model: {estimate.null:.4g})", flush=True)


if __name__ == "__main__":
    main()
