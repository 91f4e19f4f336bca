"""Tables: are samples measured as they are written, and does a likelihood stay below the truth?

    python benchmarks/tables.py [--steps 300] [--only integers,flagged]

1. Planted copies: training rows of whole numbers with noise of 1e-3 standard deviations, and the near-copies they read.
2. For each table and family: precision, coverage and near-copies as `fromnoise eval` measures them, and of the written
   CSV, read again; the mean log-likelihood of the test rows minus that of the law that made them, in nats (a model
   can not be above it), with the standard error of the difference.
3. The sum of P(row) over all rows of a small table.
"""

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
import torch
from header import header

from fromnoise.core.rng import Rng
from fromnoise.data import load
from fromnoise.data.stream import in_order
from fromnoise.evaluate import likelihood, likelihood_checks
from fromnoise.evaluate.quality import measure_quality
from fromnoise.evaluate.quality_reference import QualityReference
from fromnoise.evaluate.samples import Samples, draw_samples
from fromnoise.inference import sample
from fromnoise.inference.write import write as write_samples
from fromnoise.runs.load import load_run
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

N = 600  # samples
FAMILIES = {
    "mixture, 1 component": ("classical", {"components": 1}),
    "mixture, 10": ("classical", {"components": 10}),
    "mixture, 100": ("classical", {"components": 100}),
    "ppca": ("classical", {"preset": "ppca"}),
    "pca": ("classical", {"preset": "pca"}),
    "vae": ("vae", {}),
    "gan": ("gan", {}),
    "vaegan": ("vaegan", {}),
    "diffusion": ("diffusion", {}),
    "autoencoder": ("autoencoder", {}),
    "vqvae": ("vqvae", {}),
}


def poisson_log(k, mean):
    return k * np.log(mean) - mean - np.array([math.lgamma(i + 1) for i in k])


def normal_log(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std) - 0.5 * math.log(2 * math.pi)


def integers(g, n=4000):
    """Three whole numbers: a flag, years of education that depend on it, children that depend on those."""
    flag = g.random(n) < 0.4
    educ = np.where(
        flag,
        g.choice([12, 16, 18], n, p=[0.2, 0.5, 0.3]),
        g.choice([8, 10, 12], n, p=[0.3, 0.3, 0.4]),
    )
    mean = np.where(educ > 12, 0.8, 1.7)
    kids = g.poisson(mean)
    chance = {(1, 12): 0.2, (1, 16): 0.5, (1, 18): 0.3, (0, 8): 0.3, (0, 10): 0.3, (0, 12): 0.4}
    log_p = np.log(np.where(flag, 0.4, 0.6)) + poisson_log(kids, mean)
    log_p += np.log([chance[int(f), int(e)] for f, e in zip(flag, educ)])
    return dict(flag=flag.astype(int), educ=educ, kids=kids), log_p


def flagged(g, n=4000):
    """Two Gaussians that depend on a binary flag, and constants. log p is that of the standardised numbers."""
    flag = g.integers(0, 2, n)
    a, b = g.normal(np.where(flag, 3.0, 0.0), 1), g.normal(0, np.where(flag, 0.5, 1.0))
    log_p = (
        math.log(0.5)
        + normal_log(a, np.where(flag, 3.0, 0.0), 1.0)
        + normal_log(b, 0, np.where(flag, 0.5, 1.0))
    )
    return dict(always=[7] * n, a=a, b=b, flag=flag, word=["w"] * n), log_p


def skewed(g, n=4000):
    """A heavy tail with two decimals, nine tenths zeros, six decimals, a boolean, a constant. No known law."""
    return dict(
        income=np.round(g.lognormal(8, 1.5, n), 2),
        loan=np.where(g.random(n) < 0.9, 0, np.round(g.lognormal(5, 1, n), 2)),
        fine=np.round(g.normal(0, 1e-3, n), 6),
        yes=g.choice(["True", "False"], n),
        half=[0.5] * n,
    ), None


def large(g, n=3000):
    """Whole numbers beyond the digits of float32, a constant, and a column that is nearly constant."""
    rare = (g.random(n) < 0.01).astype(int)
    return dict(
        id=g.integers(10**9, 4 * 10**9, n),
        code=10**12 + g.integers(0, 5, n),
        rare=rare,
        one=[1] * n,
    ), None


def tiny(g, n=12):
    """Twelve rows."""
    return dict(count=g.integers(0, 3, n), size=np.round(g.normal(0, 1, n), 1)), None


TABLES = {"integers": integers, "flagged": flagged, "skewed": skewed, "large": large, "tiny": tiny}


def write(path: Path, columns: dict) -> None:
    rows = "".join(",".join(map(str, row)) + "\n" for row in zip(*columns.values()))
    path.write_text(",".join(columns) + "\n" + rows)


def read_written(loaded, path: Path, n: int) -> torch.Tensor:
    """The samples of ``fromnoise sample -o``, read from the file as a stranger reads it, in model form."""
    codec = loaded.dataset.columns
    write_samples(loaded.dataset, torch.cat(list(sample.sample_blocks(loaded, n))), path)
    _, *lines = path.read_text().splitlines()
    cells = zip(*(line.split(",") for line in lines))
    rows = {
        c.name: list(v) if c.values else list(map(float, v)) for c, v in zip(codec.columns, cells)
    }
    return torch.from_numpy(codec.encode(rows))


def chances(dataset, log_p: np.ndarray, columns: dict) -> np.ndarray:
    """log p of the test rows by the law that made them; continuous columns standardised, as models have them."""
    everything = torch.from_numpy(dataset.columns.encode(columns))
    test = torch.from_numpy(dataset.split("test").x)
    scale = sum(
        math.log(c.std)
        for c in dataset.columns.columns
        if c.decimals is None and not c.values and not c.constant
    )
    return log_p[torch.cdist(test.double(), everything.double()).argmin(1)] + scale


def nats(loaded, k: int = 20) -> np.ndarray:
    """The best value of each test row that this model claims."""
    batches, found = in_order(loaded.dataset, "test", 200), []
    for i, batch in enumerate(batches):
        found.append(
            likelihood.log_likelihoods(loaded.model, loaded.dataset.spec, batch, Rng(0).at(i), k)
        )
    return torch.cat(found).double().numpy()


def planted() -> None:
    g = np.random.default_rng(0)
    columns = dict(
        age=g.integers(17, 91, 2000), hours=g.integers(1, 100, 2000), educ=g.integers(1, 17, 2000)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        write(path, columns)
        dataset = load(str(path))
    x = torch.from_numpy(dataset.split("train").x[:500]) + 1e-3 * Rng(1).normal("x", (500, 3))
    for name, samples in (
        ("with noise of 1e-3 deviations", x),
        ("as they are", dataset.as_delivered(x)),
    ):
        rows = {
            found["name"]: found
            for found in measure_quality(QualityReference(dataset), Samples.of(samples))
        }
        print(
            f"copies of training rows {name}: near-copies {100 * rows['near_copies']['value']:.1f} %"
        )


def sums(folder: Path) -> None:
    columns, _ = integers(np.random.default_rng(0), 1000)
    for names in (("educ",), ("educ", "kids")):
        path = folder / f"{'-'.join(names)}.csv"
        write(path, {name: columns[name] for name in names})
        dataset = load(str(path))
        ranges = [np.arange(c.low, c.high + 1) for c in dataset.columns.columns]
        grid = np.stack(np.meshgrid(*ranges, indexing="ij"), -1).reshape(-1, len(names)).T
        rows = torch.from_numpy(dataset.columns.encode(dict(zip(names, grid))))
        for label, (family, options) in FAMILIES.items():
            if family != "classical" or label == "pca":
                continue
            run = start_run(
                make_plan(family, str(path), **options), folder / f"sum-{len(names)}-{label}"
            )
            model = load_run(run).model
            total = float(model.log_likelihood(rows, None, Rng(0), 500).double().exp().sum())
            print(
                f"sum of P over all {len(rows)} rows of {' and '.join(names)}, {label} ({model.bound}): {total:.5f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", default=",".join(TABLES))
    arguments = parser.parse_args()
    header(0, torch.get_num_threads())
    planted()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        sums(folder)
        for name in arguments.only.split(","):
            columns, log_p = TABLES[name](np.random.default_rng(0))
            path = folder / f"{name}.csv"
            write(path, columns)
            dataset = load(str(path))
            truth = None if log_p is None else chances(dataset, log_p, columns)
            about = (
                ""
                if truth is None
                else f"; the law itself {truth.mean():.3f} nats on {len(truth)} test rows"
            )
            print(
                f"\n{name}: {dataset.spec.dims} numbers, {likelihood_checks.unit_of(dataset)}{about}"
            )
            print(
                f"{'':22}{'precision':>17}{'coverage':>17}{'near-copies':>17}{'log-likelihood':>16}{'minus the law':>17}"
            )
            quality_reference = QualityReference(dataset)
            for label, (family, options) in FAMILIES.items():
                budget = {} if family == "classical" else {"steps": arguments.steps}
                run = start_run(
                    make_plan(family, str(path), **options, **budget), folder / f"{name}-{label}"
                )
                print(
                    f"{label:22}"
                    + row(load_run(run), quality_reference, folder / f"{name}-{label}.csv", truth),
                    flush=True,
                )


def row(loaded, quality_reference: QualityReference, path: Path, truth) -> str:
    measured = {
        found["name"]: found
        for found in measure_quality(quality_reference, draw_samples(loaded, N, 0))
    }
    written = {
        found["name"]: found
        for found in measure_quality(quality_reference, Samples.of(read_written(loaded, path, N)))
    }

    def both(name):
        return f"{show(measured[name]):>8} {show(written[name]):>8}"

    line = "".join(both(name) for name in ("precision", "coverage", "near_copies"))
    if reason := likelihood_checks.why_none(loaded):
        return f"{line}  none: {reason}"
    found = nats(loaded)
    line += f"{found.mean():>10.3f} {loaded.model.bound:5}"
    if truth is None:
        return line
    difference = found - truth
    return line + f"{difference.mean():>9.3f} +- {difference.std() / math.sqrt(len(found)):.3f}"


def show(found: dict) -> str:
    return "-" if found["value"] is None else f"{found['value']:.3f}"


if __name__ == "__main__":
    main()
