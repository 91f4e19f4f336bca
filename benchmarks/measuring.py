"""The yardstick measured: speed, exactness, interval coverage, the MNIST finding, planted copies.

    python benchmarks/measuring.py [--mnist] [--rounds 400] [--only WORDS]

1. Fréchet distance of 10,000 x 128 features, one thread: seconds.
2. FD(X, X) on rank-deficient features, relative to the trace.
3. Share of 95 % intervals that cover the truth, in four settings, and for heavy tails, sparse, discrete and clustered
   features, sets of unequal size and few rows, equal laws and different ones, over --rounds simulated pairs; how often
   the estimate carries its warning.
4. --mnist: test against train by the shipped evaluator, raw, floor and debiased; near-copy rates with planted copies.
"""

import argparse
import math
import statistics
import time

import numpy as np
import torch
from header import header
from scipy import stats

from fromnoise.core.rng import Rng
from fromnoise.measures import frechet, moments


def normal(rng: Rng, name: str, n: int, d: int) -> torch.Tensor:
    return rng.normal(name, (n, d)).double()


def settings():
    """name -> (draw x, draw y, truth, n, m). The reference has spectrum 1/k in each."""
    lam = 1 / torch.arange(1, 21, dtype=torch.float64)
    shift = torch.zeros(20, dtype=torch.float64)
    shift[0] = 0.2

    def x(rng, n):
        return normal(rng, "x", n, 20) * (1.15 * lam).sqrt() + shift

    def y(rng, m):
        return normal(rng, "y", m, 20) * lam.sqrt()

    truth = float(shift.square().sum() + (lam * (1.15**0.5 - 1) ** 2).sum())
    yield "d = 20, n = m = 2,000 (the anchor's size)", x, y, truth, 2000, 2000
    yield "the same, n = 500, m = 4,000", x, y, truth, 500, 4000
    lam64 = 1 / torch.arange(1, 65, dtype=torch.float64)

    def skew(rng, name, n, scale):
        return (rng.numpy(name).exponential(size=(n, 64)) - 1) * (scale * lam64).sqrt().numpy()

    def wide(rng, n):
        return torch.from_numpy(skew(rng, "x", n, 1.3))

    def tall(rng, m):
        return torch.from_numpy(skew(rng, "y", m, 1.0))

    yield (
        "d = 64, exponential tails, n = m = 3,000",
        wide,
        tall,
        float((lam64 * (1.3**0.5 - 1) ** 2).sum()),
        3000,
        3000,
    )
    yield (
        "the null, d = 20, n = m = 2,000",
        y,
        lambda rng, m: normal(rng, "z", m, 20) * lam.sqrt(),
        0.0,
        2000,
        2000,
    )


def scaled(kind: str, n: int, m: int, draw, square: float, scale: float):
    """A kind of features at equal laws and with the samples scale times the reference's; square: E |y|^2 of a row y.

    Then FD = (scale - 1)^2 E |y|^2, exactly. draw: (numpy generator, rows) -> (rows, d).
    """

    def one(factor):
        return lambda rng, rows: torch.from_numpy(factor * draw(rng.numpy("x"), rows))

    def other(rng, rows):
        return torch.from_numpy(draw(rng.numpy("y"), rows))

    yield f"{kind}, n = {n:,}, m = {m:,}, equal laws", one(1.0), other, 0.0, n, m
    yield (
        f"{kind}, n = {n:,}, m = {m:,}, samples {scale} times as wide",
        one(scale),
        other,
        (scale - 1) ** 2 * square,
        n,
        m,
    )


def kinds():
    """As ``settings``, for features that are far from Gaussian, sets of unequal size, and few rows for each feature."""

    def normal(d):
        return lambda r, n: r.standard_normal((n, d))

    def heavy(d):
        return lambda r, n: r.standard_t(5, (n, d))

    def together(d):
        return lambda r, n: r.standard_normal((n, d)) / np.sqrt(r.chisquare(5, (n, 1)) / 5)

    def above(d, c):
        return lambda r, n: np.maximum(r.standard_normal((n, d)) - c, 0)

    def lognormal(d):
        return lambda r, n: np.exp(0.8 * r.standard_normal((n, d)))

    def relu(c):
        return (1 + c * c) * stats.norm.sf(c) - c * stats.norm.pdf(c)

    chances = np.linspace(0.02, 0.5, 24)

    def flags(r, n):
        return (r.random((n, 24)) < chances).astype(float)

    centres = 3 * np.random.default_rng(7).standard_normal((8, 16))

    def clusters(r, n):
        return centres[r.integers(8, size=n)] + 0.1 * r.standard_normal((n, 16))

    t5 = 5 / 3
    yield from scaled("t5 features, d = 32", 1000, 1000, heavy(32), 32 * t5, 1.2)
    yield from scaled(
        "sparse ReLU, 16 % alive, d = 32", 500, 500, above(32, 1.0), 32 * relu(1.0), 1.3
    )
    yield from scaled("Gaussian, d = 16", 200, 5000, normal(16), 16, 1.3)
    yield from scaled("Gaussian, d = 16", 5000, 200, normal(16), 16, 1.3)
    yield from scaled("t5 of all features together, d = 32", 1000, 1000, together(32), 32 * t5, 1.2)
    yield from scaled("t5 features, d = 16", 200, 5000, heavy(16), 16 * t5, 1.2)
    yield from scaled(
        "sparse ReLU, 2 % alive, d = 32", 500, 500, above(32, 2.0), 32 * relu(2.0), 1.5
    )
    yield from scaled("lognormal, d = 16", 1000, 1000, lognormal(16), 16 * math.exp(1.28), 1.15)
    yield from scaled(
        "eight tight clusters, d = 16",
        500,
        1000,
        clusters,
        float((centres**2).sum() / 8 + 0.16),
        1.1,
    )
    yield from scaled("flags, d = 24", 500, 500, flags, float(chances.sum()), 1.1)
    for d in (8, 32, 128):
        yield from scaled(f"Gaussian, d = {d}", 4 * d, 4 * d, normal(d), d, 1.3)


def coverage(rounds: int, only: str = "") -> dict[str, float]:
    found = {}
    for name, draw_x, draw_y, truth, n, m in [*settings(), *kinds()]:
        if only not in name:
            continue
        estimates = [frechet.frechet(draw_x(Rng(i), n), draw_y(Rng(i), m)) for i in range(rounds)]
        inside = sum(e.interval[0] <= truth <= e.interval[1] for e in estimates) / rounds
        naive = sum(abs(e.raw - truth) <= 1.96 * e.se for e in estimates) / rounds
        values = torch.tensor([e.value for e in estimates], dtype=torch.float64)
        mean, sd = float(values.mean()), float(values.std())
        error, skew = (
            (mean - truth) / sd * math.sqrt(rounds),
            float(((values - mean) / sd).pow(3).mean()),
        )
        found[name] = inside
        print(
            f"{name}: truth {truth:.4f}, mean {mean:.4f} ({error:+.1f} standard errors), sd {sd:.4f}, mean se / sd {statistics.mean(e.se for e in estimates) / sd:.2f}, "
            f"skewness {skew:+.2f}, intervals cover {100 * inside:.1f} % (around the raw value: {100 * naive:.1f} %), warned {100 * statistics.mean(bool(e.note) for e in estimates):.0f} %",
            flush=True,
        )
    return found


def mnist() -> None:
    from fromnoise import data
    from fromnoise.measures.evaluator import shipped_for
    from fromnoise.measures.features import PrincipalComponents, of_split
    from fromnoise.measures.memory import near_copy_rate

    dataset = data.load("mnist")
    evaluator = shipped_for(dataset)
    train, test = (of_split(evaluator, dataset, split) for split in ("train", "test"))
    e = frechet.frechet(test, train)
    spread = float(train.var(0).sum())
    print(
        f"MNIST test against train, {evaluator.name}: raw {e.raw:.4f}, floor {moments.noise_floor(train, len(test), len(train)):.4f}, debiased {e.value:.4f} (95 %: {e.interval[0]:.4f} to {e.interval[1]:.4f}), trace {spread:.2f}"
    )
    half = len(train) // 2
    e = frechet.frechet(train[:10_000], train[half:])
    print(
        f"train against train: raw {e.raw:.4f}, debiased {e.value:.4f} (95 %: {e.interval[0]:.4f} to {e.interval[1]:.4f})"
    )
    pca = PrincipalComponents(dataset, 50)
    train, held_out = of_split(pca, dataset, "train")[:10_000], of_split(pca, dataset, "validation")
    fresh = of_split(pca, dataset, "train")[20_000:22_000]
    for planted in (0.0, 0.01, 0.05, 0.2):
        samples = fresh.clone()
        samples[: int(planted * len(samples))] = train[: int(planted * len(samples))]
        found = near_copy_rate(samples, train, held_out)
        print(
            f"planted copies {100 * planted:.0f} %: near-copies {100 * found.value:.1f} % (95 %: {100 * found.interval[0]:.1f} to {100 * found.interval[1]:.1f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mnist", action="store_true")
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument(
        "--only",
        default="",
        metavar="WORDS",
        help="coverage alone, of the settings whose names have these words",
    )
    args = parser.parse_args()
    header(0, threads=1)
    torch.set_num_threads(1)
    if args.only:
        coverage(args.rounds, args.only)
        return
    x, y = normal(Rng(0), "x", 10_000, 128), normal(Rng(0), "y", 10_000, 128)
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        frechet.frechet(x, y)
        times.append(time.perf_counter() - begin)
    print(
        f"Fréchet distance, 10,000 x 128, one thread: {statistics.median(times):.3f} s (median of 7)"
    )
    dead = x.clone()
    dead[:, 40:] = 0
    few = x[:100]
    for name, z in (
        ("88 of 128 features dead", dead),
        ("100 samples of 128 features", few),
        ("full rank", x),
    ):
        p = moments.moments(z)
        print(f"FD(X, X), {name}: {moments.plug_in(p, p) / float(z.var(0).sum()):.1e} of the trace")
    coverage(args.rounds)
    if args.mnist:
        mnist()


if __name__ == "__main__":
    main()
