"""Ten evaluations of a diffusion model beside a hundred, from the same noise.

For each of the data sets a model is trained with its default preset. Printed: the debiased Fréchet distance (features by
principal components, against training examples) at each number of evaluations, that of held-out examples, and the variance
of the samples over that of the training examples in groups of principal components.

    python benchmarks/solver.py [--data digits faces grid25] [--minutes 3] [--samples 2500] [--evaluations 10 100] [--seed 0]
"""

import argparse
from pathlib import Path

import torch
from diffusion import components_of, variance_line
from header import header

import fromnoise as fn
from fromnoise.inference import sample
from fromnoise.measures.estimate import Estimate
from fromnoise.measures.features import PrincipalComponents, extract, of_split
from fromnoise.measures.frechet import frechet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="*", default=["digits", "faces", "grid25"])
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--samples", type=int, default=2500)
    parser.add_argument("--evaluations", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of the training"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/solver"))
    args = parser.parse_args()
    header(args.seed, args.threads)
    torch.set_num_threads(args.threads)
    more = dict(item.split("=", 1) for item in args.set)
    for name in args.data:
        run = fn.train(
            "diffusion",
            data=name,
            minutes=args.minutes,
            seed=args.seed,
            threads=args.threads,
            out=args.out / name,
            **more,
        )
        measure(name, run, args)


def measure(name: str, run, args: argparse.Namespace) -> None:
    dataset = run.dataset
    components = components_of(dataset)
    features = PrincipalComponents(
        dataset, min(dataset.spec.dims, 50, len(dataset.split("validation")) // 4)
    )
    train = of_split(features, dataset, "train")
    held_out = frechet(of_split(features, dataset, "validation"), train)
    steps = run.run.events("interval")[-1]["step"]
    print(f"{name}: {steps:,} steps; held-out examples {with_interval(held_out)}", flush=True)
    for evaluations in args.evaluations:
        x = sample.sample(run.loaded, args.samples, args.seed, options={"steps": evaluations})
        found = frechet(extract(features, x.split(500)), train)
        print(
            f"  {evaluations} evaluations: {with_interval(found)}; {variance_line(x, components)}",
            flush=True,
        )


def with_interval(distance: Estimate) -> str:
    low, high = distance.interval
    return f"{distance.value:.5g} ({low:.5g} to {high:.5g})"


if __name__ == "__main__":
    main()
