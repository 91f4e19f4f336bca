"""Counts to beat, text and binary images: nats, seconds of counting and of scoring, sizes of the tables. One thread.

tinyshakespeare: interpolated modified Kneser-Ney counted on the first 1,003,854 characters, every one of the 111,540
after them scored once; context unlimited, and cut at windows of 64 and 256 characters that begin knowing nothing.
Binarised MNIST: pixel template and position, counted on --draws seeded binarisations of the training images, strengths
chosen on the validation images, all 10,000 test images in their one fixed draw.

    FROMNOISE_DATA=... python benchmarks/ngram.py [--seed 0] [--draws 2] [--orders 1 2 3 4 5 6 7 8]
"""

import argparse
import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from header import header

from fromnoise import data
from fromnoise.core.config import build
from fromnoise.core.rng import Rng
from fromnoise.data import DataConfig
from fromnoise.nets.counts.ngram import KneserNey, contexts
from fromnoise.nets.counts.pixelcounts import PixelCounts


def text(orders: list[int]) -> None:
    raw = np.frombuffer(
        (Path(os.environ["FROMNOISE_DATA"]) / "tinyshakespeare" / "input.txt").read_bytes(),
        np.uint8,
    )
    letters, s = np.unique(raw, return_inverse=True)
    cut = len(s) * 9 // 10
    held_out = torch.from_numpy(s[cut:].copy())
    print(
        f"tinyshakespeare: {cut:,} characters counted, {len(held_out):,} scored, {len(letters)} symbols"
    )
    print(
        "order   nats   bits   256-windows  64-windows   training, its fold left out   entries   count + score, s"
    )
    for order in orders:
        begin = time.perf_counter()
        model = KneserNey(order, len(letters)).fit(s[:cut])
        nats = model.score(s[cut - order :])[order:].double().mean().item()
        seconds = time.perf_counter() - begin
        windows = [cut_windows(model, held_out, T) for T in (256, 64)]
        left_out = without_folds(order, len(letters), torch.from_numpy(s[:cut].copy()))
        print(
            f"{order:5d}  {nats:.4f}  {nats / np.log(2):.3f}  {windows[0]:11.4f} {windows[1]:11.4f} {left_out:29.4f}"
            f" {len(model.grams):9,d} {seconds:19.2f}",
            flush=True,
        )


def cut_windows(model: KneserNey, s: torch.Tensor, T: int) -> float:
    whole = len(s) // T * T
    nats = model.score(s[:whole].view(-1, T)).double().sum()
    return ((nats + model.score(s[whole:]).double().sum()) / len(s)).item()


def without_folds(order: int, V: int, s: torch.Tensor, K: int = 10) -> float:
    """Nats of every 8th symbol by the counts of the other folds: what a hybrid sees in training."""
    cuts = [-(-len(s) * k // K) for k in range(K + 1)]
    model, rows, total = (
        KneserNey(order, V).fit(s, list(pairwise(cuts))),
        torch.arange(0, len(s), 8),
        0.0,
    )
    h = contexts(s[None], order)[0]
    for some in rows.split(2**14):
        total -= (
            model.log_probs(h[some], some * K // len(s))
            .gather(1, s[some, None])
            .double()
            .sum()
            .item()
        )
    return total / len(rows)


def speed(seed: int) -> None:
    raw = np.frombuffer(
        (Path(os.environ["FROMNOISE_DATA"]) / "tinyshakespeare" / "input.txt").read_bytes(),
        np.uint8,
    )
    letters, s = np.unique(raw, return_inverse=True)
    print(
        "log_probs of 32 windows of 128 training characters (4,096 contexts), order 6, median of 9, ms"
    )
    for V, symbols in ((len(letters), s), (256, raw), (512, raw)):
        text = torch.from_numpy(symbols.astype(np.int64))
        cut = len(s) * 9 // 10
        model = KneserNey(6, V).fit(
            symbols[:cut], [(cut * k // 10, cut * (k + 1) // 10) for k in range(10)]
        )
        first = Rng(seed).integers("window", len(s) * 9 // 10 - 128, (32,))
        windows = text[first[:, None] + torch.arange(128)]
        h, fold = contexts(windows, 6).flatten(0, 1), (first * 10 // cut).repeat_interleave(128)
        for some in (None, fold[:1]):
            model.log_probs(h[:1], some)  # keeps the distributions after short contexts
        print(
            f"  V = {V}: {median_ms(lambda: model.log_probs(h)):.1f}, without a fold {median_ms(lambda: model.log_probs(h, fold)):.1f}",
            flush=True,
        )


def median_ms(run, times: int = 9) -> float:
    found = []
    for _ in range(times):
        begin = time.perf_counter()
        run()
        found.append(time.perf_counter() - begin)
    return 1e3 * float(np.median(found))


def images(seed: int, draws: int) -> None:
    mnist = data.load("mnist", build(DataConfig, {"binarise": "dynamic"}))
    n = len(mnist.splits["train"])

    def draw(split, rows, rng=None):
        return (mnist.batch(split, rows, rng).x[:, 0] > 0).to(torch.uint8)

    test = draw("test", slice(0, 10_000))
    held_out = draw("validation", slice(0, len(mnist.splits["validation"])))
    train = torch.cat([draw("train", slice(0, n), Rng(seed).at("draw", k)) for k in range(draws)])
    share = train[:n].float().mean(0).clamp(1e-4, 1 - 1e-4)
    alone = -(test * share.log() + (1 - test.float()) * (1 - share).log()).sum((1, 2)).mean()
    print(
        f"binarised MNIST: {n:,} images in {draws} draw(s), {len(held_out):,} held out, {len(test):,} scored"
    )
    print(f"  each pixel alone                       {alone:8.2f} nats")
    for name, pixels, cell in (
        ("16 pixels, no position", 16, 28),
        ("14 pixels, position in blocks of 2 x 2", 14, 2),
    ):
        begin = time.perf_counter()
        model = PixelCounts((28, 28), pixels, cell).fit(train, held_out)
        counted = time.perf_counter()
        nats = -model.log_probs(test).double().sum(1)
        scored = time.perf_counter()
        error = nats.std() / len(nats) ** 0.5
        print(
            f"  {name:38s} {nats.mean():8.2f} +- {error:.2f} nats, counted in {counted - begin:.1f} s, scored in "
            f"{scored - counted:.2f} s, {model.logits.numel():,} numbers",
            flush=True,
        )
    x = torch.zeros(64, 28, 28, dtype=torch.uint8)
    u = Rng(seed).uniform("u", (64, 784))
    begin = time.perf_counter()
    for i in range(784):
        x.view(64, -1)[:, i] = u[:, i] < model.next(x, i)[:, 1].exp()
    print(
        f"  64 images drawn in {time.perf_counter() - begin:.2f} s, {x.float().mean():.4f} white (test {test.float().mean():.4f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--orders", type=int, nargs="*", default=[1, 2, 3, 4, 5, 6, 7, 8])
    args = parser.parse_args()
    header(args.seed, threads=1)
    torch.set_num_threads(1)
    text(args.orders)
    speed(args.seed)
    images(args.seed, args.draws)


if __name__ == "__main__":
    main()
