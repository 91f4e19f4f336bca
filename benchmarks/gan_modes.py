"""Mode coverage by PacGAN's protocol: ring8 and grid25, five seeds each, the last checkpoint, 2,500 samples.

Printed for each seed: seconds of training, modes with a good sample (within 3 standard deviations of its centre), share
of good samples, KL of their histogram from uniform (nats), when the discriminator chooses among candidates at --temperature;
the same at temperature 1, which aims at the data's density, and of the generator alone; and verdicts. Then, for comparison, the
same networks with the first loss and no penalty, with what the monitor says of them.

    python benchmarks/gan_modes.py [--minutes 3.6] [--seeds 0 1 2 3 4] [--data ring8 grid25] [--threads 2] [--temperature 0.85]
    python benchmarks/gan_modes.py --seeds 0 1 2 3 4 --measure   what --out has already: measured again, not trained

The networks are small: a second thread makes a training 1.4 times as fast; two of these, of a thread each, are twice as fast.
"""

import argparse
import time
from pathlib import Path

from header import header

import fromnoise as fn
from fromnoise.inference import sample
from fromnoise.measures.pacgan import POINTS, estimate_modes

MODES = {"ring8": 8, "grid25": 25}
FIRST_LOSS = dict(loss="minimax", r1=0.0, r2=0.0)


def one(data: str, seed: int, args, **options) -> tuple[int, float, float]:
    begin, out = time.perf_counter(), args.out / f"{data}-{seed}{'-minimax' if options else ''}"
    if args.measure:
        run, seconds = fn.load(out), ""
    else:
        run = fn.train(
            "gan",
            data=data,
            minutes=args.minutes,
            seed=seed,
            threads=args.threads,
            out=out,
            **options,
        )
        seconds = f"{time.perf_counter() - begin:.0f} s"
    found = measured(run, seed, temperature=args.temperature)
    beside = f"at temperature 1 {said(*measured(run, seed))}; G alone {said(*measured(run, seed, candidates=1))}"
    verdicts = run.run.events("interval")[-1]["health"]
    print(
        f"{data:7} seed {seed} {seconds:>5}  {said(*found)}  ({beside})  {'; '.join(verdicts) or 'no verdict'}",
        flush=True,
    )
    return found


def measured(run, seed: int, **options) -> tuple[int, float, float]:
    """Modes that were hit, share of good samples, divergence of the modes' shares."""
    found = estimate_modes(run.dataset, sample.sample(run.loaded, POINTS, seed, options=options))
    kl = found["mode_kl"].value if "mode_kl" in found else float("inf")  # no sample is good
    return int(found["modes"].value), found["good_samples"].value, kl


def said(hit: int, good: float, kl: float) -> str:
    return f"{hit:2} modes, good {good:.1%}, KL {kl:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=3.6)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--data", nargs="*", choices=list(MODES), default=list(MODES))
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument(
        "--temperature", type=float, default=0.85, help="of the discriminator's choice"
    )
    parser.add_argument(
        "--measure", action="store_true", help="measure what --out has, without training"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gan-modes"))
    args = parser.parse_args()
    header(threads=args.threads)
    print(
        "PacGAN's table (10 trials): ring 7.9 modes, good 95.6 %, KL .07 (PacGAN2); grid 24.8 modes, 93.6 %, .04 (PacGAN4)"
    )
    for data in args.data:
        K = MODES[data]
        found = [one(data, seed, args) for seed in args.seeds]
        passed = sum(hit == K and good >= 0.95 and kl <= 0.04 for hit, good, kl in found)
        print(
            f"{data}: {passed} of {len(found)} seeds have all modes, good >= 95 % and KL <= 0.04 at temperature {args.temperature:g}; KL of perfect samples about {(K - 1) / 5000:.4f}"
        )
        if 0 in args.seeds:
            one(data, 0, args, **FIRST_LOSS)


if __name__ == "__main__":
    main()
