"""What the benchmarks of auto-regressive models share: their arguments, and one training for each budget of minutes, or a run that is there."""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from header import header

import fromnoise as fn
from fromnoise.api import TrainedRun


@dataclass(frozen=True)
class Trained:
    """said: preset and options, or what is measured; seconds: everything included (of --run: see there); last: the last event; opened:
    the run at the wanted checkpoint."""

    said: str
    seconds: float
    last: dict
    opened: TrainedRun

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.opened.model.parameters())


def trained(about: str, out: str, preset: str, minutes: list[float], **data) -> Iterator[Trained]:
    """Reads the command line, prints the header, and trains for each budget, or opens the run that is named; preset and minutes:
    unless others are given."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=minutes)
    parser.add_argument("--preset", default=preset)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--checkpoint", default="best", help="best on the validation split, or last"
    )
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument(
        "--run",
        type=Path,
        help="measure this run, however often it was resumed, instead of training one",
    )
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of the training"
    )
    args = parser.parse_args()
    header(args.seed)
    more = dict(item.split("=", 1) for item in args.set)
    if args.run:
        opened = fn.open(args.run, which=args.checkpoint)
        settings = opened.dataset.settings | {"data": opened.dataset.name}
        if any(settings.get(name) != value for name, value in data.items()):
            raise SystemExit(f"{args.run} was trained on {settings}: give --run one of {data}")
        last = opened.run.events("interval")[-1]
        yield Trained(
            f"{args.run} (training, validation and saving)", last["seconds"], last, opened
        )
        return
    for budget in args.minutes:
        path, begin = (
            args.out / "-".join([args.preset, f"{budget:g}min", *args.set, str(args.seed)]),
            time.perf_counter(),
        )
        run = fn.train(
            "autoregressive",
            preset=args.preset,
            minutes=budget,
            seed=args.seed,
            out=path,
            **data,
            **more,
        )
        seconds = time.perf_counter() - begin
        yield Trained(
            " ".join([args.preset, *args.set]),
            seconds,
            run.run.events("interval")[-1],
            fn.open(path, which=args.checkpoint),
        )
