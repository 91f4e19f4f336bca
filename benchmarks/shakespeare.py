"""Auto-regressive models of tinyshakespeare in a stated time, on nanoGPT's split: its last 10 % of the characters.

The first half of that part is our validation split, which may choose a checkpoint, the second our test split, which
chooses nothing. Printed for each run, in nats per character:

    windows   as nanoGPT measures: random windows of T characters that know nothing of the text before them, 12,800 of
              them, on the whole 10 %; the first character of a window is not counted, as there it is given
    once      every character of the 10 % once, each given at least T/2 characters before it; then of each half alone

Published: nanoGPT 1.4697 on an A100 and 1.88 on a laptop's CPU (windows, best of its evaluations). Counts: 1.5165 (once).

    python benchmarks/shakespeare.py [--minutes 2.4 10] [--preset text] [--seed 0] [--set size=3 ...] [--checkpoint best]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from header import header

import fromnoise as fn
from fromnoise.core.rng import Rng
from fromnoise.generate import score

WINDOWS = 12_800


@torch.no_grad()
def windowed(model, s: np.ndarray, seed: int = 0) -> float:
    """Mean nats of all but the first symbol of random windows of the model's length."""
    rng, total = Rng(seed, ("windows",)), 0.0
    starts = rng.integers("starts", len(s) - model.length, (WINDOWS,)).numpy()
    for part in np.split(starts, WINDOWS // 128):
        windows = torch.from_numpy(np.stack([s[i : i + model.length] for i in part]).astype(np.int64))
        total += float(model.nll(windows, None)[:, 1:].mean()) * len(part)
    return total / WINDOWS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.4, 10])
    parser.add_argument("--preset", default="text")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", default="best", help="best on the validation half, or last")
    parser.add_argument("--out", type=Path, default=Path("runs/shakespeare"))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of the training")
    args = parser.parse_args()
    header(args.seed)
    more = dict(item.split("=", 1) for item in args.set)
    for minutes in args.minutes:
        begin = time.perf_counter()
        run = fn.train(
            "autoregressive", data="tinyshakespeare", preset=args.preset, minutes=minutes, seed=args.seed,
            out=args.out / "-".join([args.preset, f"{minutes:g}min", *args.set, str(args.seed)]), **more,
        )  # fmt: skip
        seconds, events = time.perf_counter() - begin, run.run.events("interval")
        opened = fn.open(run.path, which=args.checkpoint)
        model, halves = opened.model, [np.asarray(opened.dataset.split(part).x) for part in ("validation", "test")]
        once = np.concatenate([score(model, np.concatenate(halves))])
        parts = [once.mean(), *(half.mean() for half in np.split(once, [len(halves[0])]))]
        parameters = sum(p.numel() for p in model.parameters())
        print(
            f"{args.preset} {' '.join(args.set)}: {seconds:.0f} s, {parameters:,} parameters, {events[-1]['steps']:,} steps, step {opened.restored.step:,}: "
            f"windows {windowed(model, np.concatenate(halves)):.4f}, once {parts[0]:.4f} (validation {parts[1]:.4f}, test {parts[2]:.4f}); "
            f"last / best validation {events[-1]['validation']['value']:.4f} / {events[-1]['best']['value']:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
