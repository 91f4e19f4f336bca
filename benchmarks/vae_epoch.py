"""A training epoch of the same VAE (784-512-2, batch 128, Adam 1e-3, two threads) here and in pythae 0.1.2.

Both minimise binary cross-entropy + KL on grey MNIST, for three epochs, each in a process of its own, in turn
(A B C D A B C D ...). Ours in float32, in bfloat16 mixed precision, and that compiled; ours held out with the averaged weights, as it always is. Printed: seconds for an epoch
of 60,000 images, peak memory, held-out loss (10,000 test images, one z each).

    python benchmarks/vae_epoch.py [--rounds 3]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from header import header

EPOCHS, THREADS = 3, 2
NAMES = ("ours", "ours_bfloat16", "ours_bfloat16_compiled", "pythae")


def ours(precision: str = "float32", compiled: bool = False) -> dict:
    import torch

    from fromnoise.core.rng import Rng
    from fromnoise.data.stream import in_order
    from fromnoise.training.plan import make_plan

    plan = make_plan(
        "vae",
        "mnist",
        "lecture",
        likelihood="bernoulli",
        epochs=EPOCHS,
        threads=THREADS,
        schedule="constant",
        warmup=0.0,
        clip=1e9,
        lr=1e-3,
        precision=precision,
        compile=compiled,
        ema=0.99,
    )
    trainer = plan.trainer()
    steps = EPOCHS * trainer.stream.batches_per_epoch
    warm = 60  # steps whose time does not count: memory is taken, networks are compiled
    for step in range(steps):
        if step == warm:
            begin = time.perf_counter()
        trainer.advance(steps)
    seconds = time.perf_counter() - begin
    memory, total, n = peak(), 0.0, 0
    with torch.no_grad():
        for i, batch in enumerate(in_order(plan.dataset, "test", 500)):
            total += float(trainer.ema.model.loss(batch, "elbo", Rng(0).at(i)).value) * len(batch)
            n += len(batch)
    images = (steps - warm) * trainer.stream.batch_size
    return {
        "seconds_per_60k": seconds * 60_000 / images,
        "memory_mb": memory,
        "held_out": total / n,
    }


def ours_bfloat16() -> dict:
    return ours("bfloat16")


def ours_bfloat16_compiled() -> dict:
    return ours("bfloat16", True)


def pythae() -> dict:
    import logging

    import torch
    from pythae.data.datasets import DatasetOutput
    from pythae.models import VAE, VAEConfig
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    from fromnoise import data

    logging.disable(logging.WARNING)
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    mnist = data.load("mnist")  # the same 55,000 training images as ours
    train = torch.from_numpy(mnist.splits["train"].x).float().div_(255)
    test = torch.from_numpy(mnist.splits["test"].x).float().div_(255)
    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=2, reconstruction_loss="bce"))
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=EPOCHS,
            learning_rate=1e-3,
            per_device_train_batch_size=128,
            no_cuda=True,
            optimizer_cls="Adam",
        )
        trainer = BaseTrainer(
            model=model, train_dataset=_dataset(train), eval_dataset=None, training_config=config
        )
        begin = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begin
    memory, total = peak(), 0.0
    model.eval()
    with torch.no_grad():
        for start in range(0, len(test), 500):
            total += float(model(DatasetOutput(data=test[start : start + 500])).loss) * 500
    return {
        "seconds_per_60k": seconds / EPOCHS * 60_000 / len(train),
        "memory_mb": memory,
        "held_out": total / len(test),
    }


def _dataset(x):
    import torch
    from pythae.data.datasets import BaseDataset

    return BaseDataset(x, torch.ones(len(x)))


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(globals()[args.one]()))
        return
    header(threads=THREADS)
    results = {name: [] for name in NAMES}
    for _ in range(args.rounds):
        for name in results:
            out = subprocess.run(
                [sys.executable, __file__, "--one", name],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            results[name].append(json.loads(out.strip().splitlines()[-1]))
            print(name, results[name][-1], flush=True)
    middle = {
        n: {k: statistics.median(r[k] for r in rows) for k in rows[0]}
        for n, rows in results.items()
    }

    def seconds(name):
        return [row["seconds_per_60k"] for row in results[name]]

    ratios = {
        n: statistics.median(a / b for a, b in zip(seconds(n), seconds("pythae")))
        for n in NAMES[:-1]
    }
    print(json.dumps({"medians": middle, "ratio_of_seconds": ratios, "threads": THREADS}, indent=1))


if __name__ == "__main__":
    main()
