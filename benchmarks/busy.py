"""Training beside other work: what a step costs by how long OpenMP's threads spin before they sleep, quiet and loaded.

One process for each way to wait, all with the same small VAE, GAN and diffusion model (those of the tour). They take
turns: in each round every process trains for a moment beside each load (nothing, one busy loop, two, another training),
while the others sleep. Printed: milliseconds a step (median over rounds), and the medians over rounds of the ratios to
the library's own way (300,000 rounds of spinning, GNU) in the same round, and to the quiet machine.

    python benchmarks/busy.py [--rounds 5] [--threads 2] [--spins 300000,10000,1000,0]
    python benchmarks/busy.py --tour             seconds of a whole tour, quiet and beside two busy loops
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from header import header

MODELS = {
    "vae": ("vae", "lecture", {}),
    "gan": ("gan", "conv", {}),
    "diffusion": ("diffusion", "default", {"width": 32, "batch_size": 64}),
}
LOADS = ("quiet", "one busy loop", "two busy loops", "another training")
BUSY_LOOP = "while True: pass"
BUSY_TRAINING = """
from fromnoise.training.plan import make_plan
trainer = make_plan("vae", "digits", "lecture", steps=1, threads=int(__import__("sys").argv[1])).trainer()
print("ready", flush=True)
while True:
    trainer.advance(10**9)
"""


def serve(threads: int) -> None:
    """Reads "MODEL SECONDS" lines, trains for so long, answers with seconds a step."""
    from fromnoise.training.plan import make_plan

    def make(family, preset, options):
        return make_plan(family, "digits", preset, steps=1, threads=threads, **options).trainer()

    trainers = {name: make(*parts) for name, parts in MODELS.items()}
    for trainer in trainers.values():
        for _ in range(5):
            trainer.advance(10**9)
    print("ready", flush=True)
    for line in sys.stdin:
        name, seconds = line.split()
        begin, steps = time.perf_counter(), 0
        while steps < 3 or time.perf_counter() - begin < float(seconds):
            trainers[name].advance(10**9)
            steps += 1
        print((time.perf_counter() - begin) / steps, flush=True)


def start(command: list[str], environment: dict | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | (environment or {}),
    )


def load_of(name: str, threads: int) -> list[subprocess.Popen]:
    loops = [
        start(["-c", BUSY_LOOP])
        for _ in range({"one busy loop": 1, "two busy loops": 2}.get(name, 0))
    ]
    if name == "another training":
        loops.append(start(["-c", BUSY_TRAINING, str(threads)]))
        loops[-1].stdout.readline()
    return loops


def end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


def measured(servers: dict, rounds: int, seconds: float, threads: int) -> list[dict]:
    """One dictionary a round: (load, model, spins) -> seconds a step."""
    found = []
    for i in range(rounds):
        row, order = {}, list(servers)[:: 1 if i % 2 else -1]
        for load in LOADS:
            others = load_of(load, threads)
            try:
                for model in MODELS:
                    for spins in order:
                        servers[spins].stdin.write(f"{model} {seconds}\n")
                        servers[spins].stdin.flush()
                        row[load, model, spins] = float(servers[spins].stdout.readline())
            finally:
                end(others)
        found.append(row)
    return found


def tours() -> dict[str, float]:
    """Seconds of ``fromnoise tour``: alone, then beside two busy loops."""
    found = {}
    for load in (LOADS[0], LOADS[2]):
        others, begin = load_of(load, 0), time.perf_counter()
        try:
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run(
                    [
                        sys.executable,
                        "-m",
                        "fromnoise",
                        "tour",
                        "--quiet",
                        "--out",
                        f"{folder}/tour",
                    ],
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
        finally:
            end(others)
        found[load] = time.perf_counter() - begin
        print(
            f"tour, {load}: {found[load]:.0f} s, {found[load] / found[LOADS[0]]:.2f} of quiet",
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--spins", default="300000,10000,1000,0", help="GOMP_SPINCOUNT; the first is compared with"
    )
    parser.add_argument("--tour", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(args.threads)
    header(threads=args.threads)
    if args.tour:
        print(json.dumps(tours()))
        return
    spins, servers = args.spins.split(","), {}
    try:
        for value in spins:
            servers[value] = start(
                [__file__, "--serve", "--threads", str(args.threads)], {"GOMP_SPINCOUNT": value}
            )
            servers[value].stdout.readline()
        rounds = measured(servers, args.rounds, args.seconds, args.threads)
    finally:
        end(list(servers.values()))

    def middle(value):
        return statistics.median(map(value, rounds))

    table = []
    for load in LOADS:
        for model in MODELS:
            for value in spins:
                here, usual, quiet = (
                    (load, model, value),
                    (load, model, spins[0]),
                    (LOADS[0], model, value),
                )
                row = {
                    "load": load,
                    "model": model,
                    "spins": value,
                    "ms": 1000 * middle(lambda r: r[here]),
                    "to_usual": middle(lambda r: r[here] / r[usual]),
                    "to_quiet": middle(lambda r: r[here] / r[quiet]),
                }
                table.append(row)
                print(
                    "{load:<17} {model:<10} spins {spins:>7}  {ms:8.2f} ms  {to_usual:5.2f} of the usual  {to_quiet:6.2f} of quiet".format(
                        **row
                    )
                )
    print(json.dumps(table))


if __name__ == "__main__":
    main()
