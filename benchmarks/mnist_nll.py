"""Dynamic-binarised MNIST: train a preset for some minutes, then bound -log p(x) on all 10,000 test images.

The test images have one fixed seeded draw; the weights are the last averaged ones; ELBO (closed-form KL) and
k-sample bound stand in different columns.

    python benchmarks/mnist_nll.py --preset mlp --minutes 10 --k 5000
    python benchmarks/mnist_nll.py --preset ladder --minutes 30 --k 500
"""

import argparse
import time
from pathlib import Path

from header import header

import fromnoise as fn
from fromnoise.evaluate.likelihood import score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="mlp")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--k", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="")
    parser.add_argument("--only-eval", action="store_true", help="of a run that --out names")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of the training"
    )
    args = parser.parse_args()
    header(args.seed)
    out = args.out or f"runs/nll-{args.preset}-{args.seed}"
    begin = time.perf_counter()
    if not args.only_eval:
        more = dict(item.split("=") for item in args.set)
        more = {
            name: tuple(map(int, value.split(","))) if "," in value else value
            for name, value in more.items()
        }
        fn.train(
            "vae",
            data="mnist",
            preset=args.preset,
            binarise="dynamic",
            minutes=args.minutes,
            seed=args.seed,
            out=Path(out),
            on_event=lambda e: (
                e["kind"] == "interval"
                and print(
                    f"{e['seconds']:6.0f} s step {e['step']} epoch {e['epoch']:.1f} held-out {e['validation']['value']:.2f}",
                    flush=True,
                )
            ),
            **more,
        )
        print(
            f"trained in {(time.perf_counter() - begin) / 60:.2f} minutes, everything included",
            flush=True,
        )
    loaded = fn.open(out).loaded
    for k in (1, 100, args.k):
        begin = time.perf_counter()
        s = score(loaded, k)
        name = "ELBO" if k == 1 else f"importance-weighted bound, k = {k}"
        print(
            f"{name}: {-s.mean:.3f} +- {s.se:.3f} nats (-log p(x) is at most this), {s.n} images, {time.perf_counter() - begin:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
