"""Ten evaluations of a diffusion model beside a hundred, from the same noise: distance, and variance by principal component.

For each of the data sets a model is trained with its default preset, or with --runs measured as it is. Printed: the debiased
Fréchet distance (features by principal components, against training examples) at 10 and 100 evaluations, that of held-out
examples, and the variance of the samples over that of the training examples in groups of principal components.

    python benchmarks/solver.py [--data digits faces grid25] [--minutes 3] [--samples 2500] [--seed 0]
"""

import argparse
import statistics
from pathlib import Path

import torch
from header import header

import fromnoise as fn
from fromnoise import sample
from fromnoise.data.stream import in_order
from fromnoise.measures.features import PrincipalComponents, extract, of_split
from fromnoise.measures.frechet import frechet
from fromnoise.probability.pca import principal_components

GROUPS = ((0, 5), (5, 20), (20, 50), (50, 100), (100, 200), (200, 300))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="*", default=["digits", "faces", "grid25"])
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--samples", type=int, default=2500)
    parser.add_argument("--evaluations", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of the training")
    parser.add_argument("--out", type=Path, default=Path("runs/solver"))
    args = parser.parse_args()
    header(args.seed, args.threads)
    torch.set_num_threads(args.threads)
    more = dict(item.split("=", 1) for item in args.set)
    for name in args.data:
        run = fn.train("diffusion", data=name, minutes=args.minutes, seed=args.seed, threads=args.threads, out=args.out / name, **more)
        measure(name, run, args)


def measure(name: str, run, args: argparse.Namespace) -> None:
    dataset = run.dataset
    dims = dataset.spec.dims
    examples = torch.cat([batch.x for batch in in_order(dataset, "train")])
    components = principal_components(lambda: iter([examples]), dims, min(dims, GROUPS[-1][1]))
    features = PrincipalComponents(dataset, min(dims, 50, len(dataset.split("validation")) // 4))
    train = of_split(features, dataset, "train")
    held_out = frechet(of_split(features, dataset, "validation"), train)
    print(f"{name}: {run.run.events('interval')[-1]['step']:,} steps; held-out examples {held_out.value:.5g} ({held_out.interval[0]:.5g} to {held_out.interval[1]:.5g})", flush=True)
    alive = int((components.eigenvalues > 1e-6 * components.eigenvalues[0]).sum())  # pixels that never change have no variance
    groups = [(a, min(b, alive)) for a, b in GROUPS if a < alive]
    for evaluations in args.evaluations:
        x = sample.sample(run.restored, args.samples, args.seed, options={"steps": evaluations})
        found = frechet(extract(features, x.split(500)), train)
        ratios = ((x.flatten(1).double() @ components.basis).var(0) / components.eigenvalues.clamp(min=1e-12)).tolist()
        said = ", ".join(f"{a + 1} to {b} {statistics.mean(ratios[a:b]):.3f}" for a, b in groups)
        print(f"  {evaluations} evaluations: {found.value:.5g} ({found.interval[0]:.5g} to {found.interval[1]:.5g}); variance, components {said}", flush=True)


if __name__ == "__main__":
    main()
