"""Scores of the same samples by the shipped evaluators, to be compared across machines, threads and torch versions.

    python benchmarks/same_scores.py one.json                       # here
    python benchmarks/same_scores.py two.json --beside one.json     # there: the largest relative difference

The samples are real examples turned upside down: 1,000 of the digits' train split, 2,000 of MNIST's test split.
"""

import argparse
import json
from pathlib import Path

import torch
from header import header

from fromnoise import data
from fromnoise.data.stream import in_order
from fromnoise.evaluate.quality import measure_quality
from fromnoise.evaluate.quality_reference import QualityReference
from fromnoise.evaluate.samples import Samples
from fromnoise.measures.evaluator import shipped_for


def scores(name: str, split: str, n: int) -> dict[str, float]:
    dataset = data.load(name)
    x = torch.cat([batch.x for batch in in_order(dataset, split, limit=n)]).flip(2)
    rows = measure_quality(QualityReference(dataset, shipped_for(dataset)), Samples.of(x))
    return {
        f"{name} {row['name']} {row['evaluator'].partition('/')[0]}": row["value"]
        for row in rows
        if row["value"] is not None
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    header(0, args.threads)
    torch.set_num_threads(args.threads)
    found = scores("digits", "train", 1000) | scores("mnist", "test", 2000)
    args.out.write_text(
        json.dumps({"torch": torch.__version__, "threads": args.threads, "scores": found}, indent=1)
    )
    if args.beside:
        other = json.loads(args.beside.read_text())
        assert other["scores"].keys() == found.keys()
        off = {
            key: abs(value - other["scores"][key]) / max(abs(other["scores"][key]), 1e-12)
            for key, value in found.items()
            if value != other["scores"][key]
        }
        worst = max(off, key=off.get, default=None)
        said = (
            f"largest relative difference {off[worst]:.1e} ({worst}: {found[worst]:.6g})"
            if worst
            else "all equal"
        )
        print(
            f"{len(found)} scores, torch {torch.__version__} with {args.threads} threads beside torch {other['torch']} with {other['threads']}: {said}"
        )


if __name__ == "__main__":
    main()
