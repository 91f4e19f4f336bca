"""What the benchmarks of diffusion models share: their arguments, a training, and variances by principal component."""

import argparse
import statistics
import time
from pathlib import Path

import torch
from header import header

import fromnoise as fn
from fromnoise.api import TrainedRun
from fromnoise.data.dataset import Dataset
from fromnoise.data.stream import in_order
from fromnoise.probability.pca import Components, principal_components

GROUPS = (
    (0, 5),
    (5, 20),
    (20, 50),
    (50, 100),
    (100, 200),
    (200, 300),
)  # principal components whose variances are averaged


def arguments(about: str, out: str, minutes: float, **more: dict) -> argparse.Namespace:
    """Reads the command line and prints the header. more: further arguments, name=what ``add_argument`` takes."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--seed", type=int, default=0)
    for name, given in more.items():
        parser.add_argument(f"--{name}", **given)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--run", type=Path, help="measure this run instead of training one")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of the training"
    )
    args = parser.parse_args()
    header(args.seed, args.threads)
    if args.threads:
        torch.set_num_threads(args.threads)
    return args


def trained(args: argparse.Namespace, data: str) -> TrainedRun:
    """A conditional model of these data, or the run that the command line names; says how fast it was."""
    if args.run:
        run = fn.open(args.run)
    else:
        begin, more = (
            time.monotonic(),
            {"conditional": True} | dict(item.split("=", 1) for item in args.set),
        )
        run = fn.train(
            "diffusion",
            data=data,
            minutes=args.minutes,
            seed=args.seed,
            threads=args.threads,
            out=args.out,
            **more,
        )
        print(
            f"trained in {(time.monotonic() - begin) / 60:.1f} minutes, everything included",
            flush=True,
        )
    event = run.run.events("interval")[-1]
    print(
        f"{sum(p.numel() for p in run.model.parameters()):,} parameters, {run.run.info['train']['precision']}, step {event['step']:,}, "
        f"{event['items_per_second']:,.0f} images/s in training, validation and saving included",
        flush=True,
    )
    return run


def components_of(dataset: Dataset) -> Components:
    """The leading principal components of the training examples, as many as GROUPS need."""
    dims = dataset.spec.dims
    return principal_components(
        lambda: (batch.x for batch in in_order(dataset, "train")), dims, min(dims, GROUPS[-1][1])
    )


def variance_line(x: torch.Tensor, components: Components) -> str:
    """Variance of samples x (n, *shape) over that of the training examples, mean in each of GROUPS; 1 is right."""
    alive = int(
        (components.eigenvalues > 1e-6 * components.eigenvalues[0]).sum()
    )  # pixels that never change have no variance
    variances = (x.flatten(1).double() @ components.basis).var(0)
    ratios = (variances[:alive] / components.eigenvalues[:alive]).tolist()
    groups = [(a, min(b, alive)) for a, b in GROUPS if a < alive]
    means = ", ".join(f"{a + 1} to {b} {statistics.mean(ratios[a:b]):.3f}" for a, b in groups)
    return f"variance over that of the data, components {means}"
