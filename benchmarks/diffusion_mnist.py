"""Diffusion on MNIST: distance by number of network evaluations, and how often the asked digit is drawn.

Trains the default conditional model and prints: images per second; the debiased Fréchet distance of 10,000 samples (the
shipped evaluator, against training examples) and seconds for them, at each number of evaluations; the share of samples in
which the evaluator's classifier, which no model of ours has seen, finds the digit that was asked for, without guidance and
with; seconds for 64 digits. Samples are rounded to 256 levels; label i % 10; grids are saved as PNG beside the run.

    python benchmarks/diffusion_mnist.py [--minutes 15] [--seed 0] [--samples 10000] [--run FOLDER] [--set NAME=VALUE ...]
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from header import header
from mnist_scale import SAMPLES, Scale

import fromnoise as fn
from fromnoise import sample
from fromnoise.core.family import count_parameters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--evaluations", type=int, nargs="*", default=[1, 2, 4, 10, 20, 35])
    parser.add_argument("--guidance", type=float, nargs="*", default=[1.5, 2.0, 4.0], help="at 10 evaluations, two forwards in each")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--out", type=Path, default=Path("runs/diffusion-mnist"))
    parser.add_argument("--run", type=Path, help="measure this run instead of training one")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of the training")
    args = parser.parse_args()
    header(args.seed, args.threads)
    if args.threads:
        torch.set_num_threads(args.threads)
    scale, begin = Scale(), time.monotonic()
    print(f"official test set against training examples: {scale.real:.4f}; its classifier agrees with {scale.right:.2f} % of the test set's labels", flush=True)
    if args.run:
        run = fn.open(args.run)
    else:
        more = {"conditional": True} | dict(item.split("=", 1) for item in args.set)
        run = fn.train("diffusion", data="mnist", minutes=args.minutes, seed=args.seed, threads=args.threads, out=args.out, **more)
        print(f"trained in {(time.monotonic() - begin) / 60:.1f} minutes, everything included", flush=True)
    info, event = run.run.info, run.run.events("interval")[-1]
    print(
        f"{count_parameters(run.model):,} parameters, {info['train']['precision']}, step {event['step']:,}, "
        f"{event['items_per_second']:,.0f} images/s in training, validation and saving included", flush=True,
    )  # fmt: skip
    y = torch.arange(args.samples) % 10  # as sample() goes through the classes
    for steps, guidance in [*((steps, 1.0) for steps in args.evaluations), *((10, w) for w in args.guidance)]:
        begin = time.monotonic()
        x = scale.as_files(sample.sample(run.restored, args.samples, args.seed, options={"steps": steps, "guidance": guidance}))
        seconds = time.monotonic() - begin
        asked = f", asked digit {scale.agreement(x, y):.2f} %" if run.model.config.conditional else ""
        print(scale.line(f"{steps:3} evaluations, guidance {guidance:g}, {seconds:6.1f} s{asked}", x), flush=True)
        scale.save_grid(x[:100], args.out / f"grid-{steps}-{guidance:g}.png")
    seconds = []
    for _ in range(6):  # the first warms up
        begin = time.monotonic()
        sample.sample(run.restored, 64, args.seed, options={"steps": 10})
        seconds.append(time.monotonic() - begin)
    print(f"64 digits at 10 evaluations: {statistics.median(seconds[1:]):.2f} s (median of 5)")


if __name__ == "__main__":
    main()
