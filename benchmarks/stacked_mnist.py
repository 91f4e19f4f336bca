"""Stacked MNIST: 1,000 modes (three digits as the channels of one image), PacGAN's protocol, the last checkpoint.

26,000 samples; each channel is classified by the shipped MNIST evaluator; a mode counts if it is hit once; the
divergence is of the modes' shares from uniform, in nats, its floor for equal modes (0.019) printed beside it; that of
the real digits, which are not equally frequent, is 0.024. By this protocol an illegible image belongs to a mode, too (5,000
images of uniform noise hit 403): so the share of images whose three digits the evaluator is sure of is printed beside it.

Three digits in one image are three times what one is: networks twice as wide as the preset's, at a third of its learning
rate. In nine minutes they are no better than the preset (docs/log.md).

    python benchmarks/stacked_mnist.py [--minutes 32] [--seed 0] [--threads 0] [--run RUN]
"""

import argparse
import time
from pathlib import Path

from header import header
from torch import Tensor

import fromnoise as fn
from fromnoise.api import TrainedRun
from fromnoise.data.dataset import Dataset
from fromnoise.inference import sample
from fromnoise.measures.pacgan import STACKED, estimate_modes, find_modes

SETTING = dict(width="32", lr_d="1e-3", lr_g="1e-3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--out", type=Path, default=Path("runs/stacked-mnist"))
    parser.add_argument("--run", type=Path, help="measure this run, without training")
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help=f"further options of the training, or others than {SETTING}",
    )
    args = parser.parse_args()
    header(args.seed, args.threads)
    print(
        "published, by other classifiers, of generators alone: DCGAN 99 modes, KL 3.40; PacDCGAN2 1000, 0.06; R3GAN's loss 1000, 0.078"
    )
    if args.run:
        return measure(fn.load(args.run), args.seed)
    begin = time.perf_counter()
    more = SETTING | dict(item.split("=", 1) for item in args.set)
    run = fn.train(
        "gan",
        data="stacked-mnist",
        minutes=args.minutes,
        seed=args.seed,
        threads=args.threads,
        out=args.out,
        **more,
    )
    print(
        f"trained in {(time.perf_counter() - begin) / 60:.1f} minutes, {run.run.events('interval')[-1]['items_per_second']:,.0f} images/s",
        flush=True,
    )
    measure(run, args.seed)


def measure(run: TrainedRun, seed: int) -> None:
    print(
        f"real test images: all three digits sure {100 * sure(run.dataset, run.dataset.batch('test', range(5000)).x):.1f} %"
    )
    for what, options in ((", the generator alone", {"candidates": 1}), ("", {})):
        x = sample.sample(run.loaded, STACKED, seed, options=options)
        found = estimate_modes(run.dataset, x)
        for name, estimate in found.items():
            print(
                f"{name}{what}: {estimate.value:.4g} (a perfect model: {estimate.null:.4g})",
                flush=True,
            )
        print(f"all three digits sure{what}: {100 * sure(run.dataset, x):.1f} %", flush=True)


def sure(dataset: Dataset, x: Tensor, probability: float = 0.7) -> float:
    """Share of images (n, 3, H, W) in model form whose channels all have a class of so much probability."""
    classifier = find_modes(dataset).index.keywords["classifier"]
    chances = classifier.logits(classifier(x.flatten(0, 1)[:, None])).softmax(1).amax(1)
    return float((chances.view(len(x), -1).amin(1) > probability).float().mean())


if __name__ == "__main__":
    main()
