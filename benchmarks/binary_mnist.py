"""Auto-regressive models of binarised MNIST in a stated time: exact nats of all 10,000 test images.

The training images are binarised anew at each step, the test images once, with a fixed seed (dynamic binarisation).
Published, dynamic: PixelCNN 81.45, ImageGPT 79.17, PixelSNAIL 78.61 (pytorch-generative); VAE bound 86.77; counts 97.4.

    python benchmarks/binary_mnist.py [--minutes 10] [--preset binary] [--seed 0] [--set size=3 ...] [--checkpoint best]
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from header import header

import fromnoise as fn
from fromnoise.data.stream import in_order


@torch.no_grad()
def test_nats(opened) -> np.ndarray:
    """-log p(x) of every test image, (10,000,)."""
    model, nats = opened.model, []
    for batch in in_order(opened.dataset, "test", 250):
        y = batch.y if model.config.conditional else None
        nats.append(model.nll(model.to_symbols(batch.x), y).sum(1))
    return torch.cat(nats).double().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[10])
    parser.add_argument("--preset", default="binary")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", default="best", help="best on the validation split, or last")
    parser.add_argument("--out", type=Path, default=Path("runs/binary-mnist"))
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of the training")
    args = parser.parse_args()
    header(args.seed)
    more = dict(item.split("=", 1) for item in args.set)
    for minutes in args.minutes:
        begin = time.perf_counter()
        run = fn.train(
            "autoregressive", data="mnist", binarise="dynamic", preset=args.preset, minutes=minutes, seed=args.seed,
            out=args.out / "-".join([args.preset, f"{minutes:g}min", *args.set, str(args.seed)]), **more,
        )  # fmt: skip
        seconds, last = time.perf_counter() - begin, run.run.events("interval")[-1]
        opened = fn.open(run.path, which=args.checkpoint)
        nats = test_nats(opened)
        parameters = sum(p.numel() for p in opened.model.parameters())
        print(
            f"{args.preset} {' '.join(args.set)}: {seconds / 60:.1f} minutes, {parameters:,} parameters, {last['steps']:,} steps, {last['items_per_second']:,.0f} images/s, "
            f"step {opened.restored.step:,}: {nats.mean():.3f} nats (standard error {nats.std() / math.sqrt(len(nats)):.3f}); "
            f"validation last / best {last['validation']['nll']:.3f} / {last['best']['value'] * opened.model.length:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
