"""Does the discriminator make the VAE's pictures sharper? ``vae`` and ``vaegan`` of equal networks, equal minutes.

Encoder, decoder, batch size, precision and average are the same; the weight of the KL term is each preset's own.
On MNIST and on ``faces`` at 64 pixels, for each seed, with the averaged weights of the last checkpoint:

    sharpness    mean absolute Laplacian relative to real test images (1: as sharp as real), of samples, of reconstructions
    Fréchet      distance of samples from training images (debiased), under the data's evaluator where one is shipped,
                 and under the two referees that nobody trained
    MSE          of reconstructions of test images, pixels in [0, 1]

All are printed, whichever way they go. A last line gives real held-out images in the samples' place. Four intervals:
looking at the held-out examples takes 2 s of a budget of minutes each time.

    python benchmarks/vaegan_sharpness.py [--minutes 3] [--seeds 3] [--data mnist,faces] [--threads 1]
"""

import argparse
import statistics
from pathlib import Path

import torch
from header import header

import fromnoise as fn
from fromnoise.data.stream import in_order
from fromnoise.evaluate.reconstruction import errors
from fromnoise.inference.sample import sample
from fromnoise.measures.evaluator import evaluator_for
from fromnoise.measures.features import extract, of_split, untrained_features
from fromnoise.measures.frechet import frechet
from fromnoise.measures.sharpness import sharpness

DATA = {"mnist": {}, "faces": {"resolution": 64}}
SAMPLES = 5_000  # made by each model
REFERENCE = 20_000  # training images, at most


class Ruler:
    """What the pictures of one data set are measured with."""

    def __init__(self, dataset):
        evaluator = evaluator_for(dataset)
        self.maps = ([evaluator] if evaluator else []) + untrained_features(dataset)
        self.reference = [of_split(m, dataset, "train", REFERENCE) for m in self.maps]
        self.real = torch.cat([batch.x for batch in in_order(dataset, "test", limit=SAMPLES)])
        self.columns = [
            "sharp samples",
            "sharp recon.",
            *(f"FD {m.name.split('/')[0]}" for m in self.maps),
            "MSE recon.",
        ]

    def samples(self, x) -> tuple[float, list[float]]:
        """Sharpness, and a Fréchet distance under each map."""
        x = x.clamp(-1, 1)
        distances = [
            frechet(extract(m, x.split(1000)), y).value for m, y in zip(self.maps, self.reference)
        ]
        return sharpness(x, self.real).value, distances

    def model(self, loaded) -> list[float]:
        """One number for each column."""
        drawn, distances = self.samples(sample(loaded, SAMPLES))
        with torch.no_grad():
            again = [
                loaded.model.reconstruct(batch.x, batch.y)
                for batch in in_order(loaded.dataset, "test", limit=SAMPLES)
            ]
        return [
            drawn,
            sharpness(torch.cat(again), self.real).value,
            *distances,
            float(errors(loaded).mean()),
        ]


def line(name: str, values: list[float | None]) -> None:
    print(
        f"{name:16}" + "".join(f"{'' if v is None else f'{v:.4g}':>18}" for v in values), flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", default="mnist,faces")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/vaegan-sharpness"))
    args = parser.parse_args()
    header(threads=args.threads or None)
    recipe = dict(
        preset="conv",
        latent_dim=32,
        width=32,
        batch_size=32,
        precision="auto",
        ema=0.9999,
        intervals=4,
    )
    for data in args.data.split(","):
        ruler, rows = None, {}
        for family in ("vae", "vaegan"):
            for seed in range(args.seeds):
                budget = dict(minutes=args.minutes, seed=seed, threads=args.threads)
                run = fn.train(
                    family,
                    data=data,
                    out=args.out / f"{data}-{family}-{seed}",
                    **recipe,
                    **budget,
                    **DATA[data],
                )
                if ruler is None:
                    ruler = Ruler(run.dataset)
                    print(
                        f"\n{data}: {args.minutes:g} minutes each, {SAMPLES:,} samples, {len(ruler.real):,} test images"
                    )
                    print(f"{'':16}" + "".join(f"{column:>18}" for column in ruler.columns))
                rows.setdefault(family, []).append(ruler.model(run.loaded))
                line(f"{family} seed {seed}", rows[family][-1])
        for family, found in rows.items():
            line(f"{family} mean", [statistics.fmean(column) for column in zip(*found)])
        drawn, distances = ruler.samples(ruler.real)
        line("real, held out", [drawn, None, *distances, None])


if __name__ == "__main__":
    main()
