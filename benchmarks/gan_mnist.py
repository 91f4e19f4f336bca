"""The GAN on MNIST: 10 minutes a seed, three seeds one after another, 10,000 samples of the last and the best checkpoint.

Printed for each seed: images per second, debiased Fréchet distance (the shipped evaluator, against training examples)
of the last and of the best checkpoint, both as multiples of what the official test set scores, the share of each class
among the samples by the evaluator's classifier, and the verdicts raised. For scale: uniform noise, and a Gaussian
fitted to the pixels.

    python benchmarks/gan_mnist.py [--minutes 10] [--seeds 3] [--set conditional=true ...]
"""

import argparse
import time
from pathlib import Path

import torch
from header import header

import fromnoise as fn
from fromnoise import data, sample
from fromnoise.core.picture import image_grid, png_bytes
from fromnoise.core.rng import Rng
from fromnoise.measures.evaluator import shipped_for
from fromnoise.measures.features import extract, of_split
from fromnoise.measures.frechet import frechet

SAMPLES, REFERENCE = 10_000, 20_000


class Scale:
    """MNIST's evaluator, the features of training examples, and what the official test set scores."""

    def __init__(self):
        self.dataset = data.load("mnist")
        self.evaluator = shipped_for(self.dataset)
        self.train = of_split(self.evaluator, self.dataset, "train", REFERENCE)
        self.real = frechet(of_split(self.evaluator, self.dataset, "test"), self.train).value

    def __call__(self, x: torch.Tensor):
        """x (n, 1, 28, 28) -> Estimate of the distance, shares of the ten classes in percent."""
        features = extract(self.evaluator, x.split(1000))
        shares = self.evaluator.logits(features).argmax(1).bincount(minlength=10) / len(x) * 100
        return frechet(features, self.train), shares.tolist()

    def line(self, what: str, x: torch.Tensor) -> str:
        found, shares = self(x)
        low, high = found.interval
        return f"{what}: {found.value:.3f} (95 %: {low:.3f} to {high:.3f}) = {found.value / self.real:.1f} times real; classes {min(shares):.1f} to {max(shares):.1f} %"

    def noise(self) -> str:
        u = Rng(0, ("benchmark",)).uniform("noise", (SAMPLES, 1, 28, 28)) * 2 - 1
        return self.line("uniform noise", u)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/gan-mnist"))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of the training")
    args = parser.parse_args()
    header()
    scale = Scale()
    print(f"official test set against {REFERENCE:,} training examples: {scale.real:.4f}\n{scale.noise()}", flush=True)
    more = dict(item.split("=", 1) for item in args.set)
    for seed in range(args.seeds):
        begin = time.perf_counter()
        run = fn.train("gan", data="mnist", minutes=args.minutes, seed=seed, out=args.out / f"{'-'.join(args.set) or 'default'}-{seed}", **more)
        minutes, events = (time.perf_counter() - begin) / 60, run.run.events("interval")
        print(f"seed {seed}: {minutes:.1f} minutes, everything included, {events[-1]['items_per_second']:,.0f} images/s", flush=True)
        distances = {}
        for which in ("last", "best"):
            opened = fn.open(run.path, which=which)
            x = sample.sample(opened.restored, SAMPLES, seed)
            distances[which] = scale(x)[0].value
            print(scale.line(f"  {which} (step {opened.restored.step})", x), flush=True)
            if which == "last":
                (run.path / "grid.png").write_bytes(png_bytes(image_grid(opened.dataset.to_pixels(x[:64]), gap=0)))
        print(f"  last / best {distances['last'] / distances['best']:.2f}; verdicts: {'; '.join(sorted({s for e in events for s in e['health']})) or 'none'}", flush=True)


if __name__ == "__main__":
    main()
