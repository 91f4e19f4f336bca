"""Makes the evaluators that the package ships, for MNIST and for digits, and says how well they do held out.

They are shipped and not retrained: another machine or release of torch gives other bits, and so another name. A new
file means that no score measured with the old one can be compared with a new score.

    python benchmarks/evaluators.py [--out FOLDER]
"""

import argparse
import hashlib
from pathlib import Path

from header import header

from fromnoise import data
from fromnoise.measures import evaluator

MADE = {"mnist": dict(steps=4000, dims=64, width=16), "digits": dict(steps=1500, dims=32, width=16)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("evaluators"))
    out = parser.parse_args().out
    header(0)
    for name, options in MADE.items():
        file = evaluator.fit(data.load(name), **options)
        path = evaluator.write(
            file, out / f"{name}-{hashlib.sha256(file).hexdigest()[:8]}.safetensors"
        )
        print(
            path,
            len(file),
            "bytes, validation accuracy",
            evaluator.load(path).about["validation_accuracy"],
            flush=True,
        )


if __name__ == "__main__":
    main()
