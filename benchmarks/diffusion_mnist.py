r"""Diffusion on MNIST: distance by number of network evaluations, and how often the asked digit is drawn.

Trains the default conditional model and prints: images per second; the debiased Fréchet distance of 10,000 samples (the
shipped evaluator, against training examples) and seconds for them, at each number of evaluations; the share of samples in
which the evaluator's classifier, which no model of ours has seen, finds the digit that was asked for, without guidance and
with; the variance of the samples over that of the training examples, in six groups of principal components; seconds for
64 digits; of a model that learned to jump (--set jumps=0.5) the same for one and two jumps. Samples are rounded to 256
levels; label i % 10; grids are saved as PNG beside the run.

    python benchmarks/diffusion_mnist.py [--minutes 15] [--seed 0] [--samples 10000] [--run FOLDER] [--set NAME=VALUE ...]

Unconditional, ten evaluations beside so many that more change nothing:

    python benchmarks/diffusion_mnist.py --minutes 12 --threads 1 --set conditional=false \
        --evaluations 10 60 --samples 2500 --guidance
"""

import statistics
import time

import torch
from diffusion import arguments, components_of, trained, variance_line
from mnist_scale import SAMPLES, Scale

from fromnoise.inference import sample


def main() -> None:
    args = arguments(
        __doc__,
        "runs/diffusion-mnist",
        minutes=15,
        samples=dict(type=int, default=SAMPLES),
        evaluations=dict(type=int, nargs="*", default=[1, 2, 4, 10, 20, 35]),
        guidance=dict(
            type=float,
            nargs="*",
            default=[1.5, 2.0, 4.0],
            help="at 10 evaluations, two forwards in each",
        ),
    )
    scale = Scale()
    print(
        f"official test set against training examples: {scale.real:.4f}; its classifier agrees with {scale.right:.2f} % of the test set's labels",
        flush=True,
    )
    run = trained(args, "mnist")
    y = torch.arange(args.samples) % 10  # as sample() goes through the classes
    components = components_of(scale.dataset)
    for steps, guidance in [
        *((steps, 1.0) for steps in args.evaluations),
        *((10, w) for w in args.guidance),
    ]:
        begin = time.monotonic()
        x = scale.as_files(
            sample.sample(
                run.loaded,
                args.samples,
                args.seed,
                options={"steps": steps, "guidance": guidance},
            )
        )
        seconds = time.monotonic() - begin
        asked = (
            f", asked digit {scale.agreement(x, y):.2f} %" if run.model.config.conditional else ""
        )
        print(
            scale.line(f"{steps:3} evaluations, guidance {guidance:g}, {seconds:6.1f} s{asked}", x),
            flush=True,
        )
        print(f"    {variance_line(x, components)}", flush=True)
        scale.save_grid(x[:100], args.out / f"grid-{steps}-{guidance:g}.png")
    print(
        f"64 digits at 10 evaluations: {seconds_for_64(run, args.seed, steps=10):.2f} s (median of 5)",
        flush=True,
    )
    for steps in (1, 2) if run.model.config.jumps else ():
        x = scale.as_files(
            sample.sample(
                run.loaded, args.samples, args.seed, options={"steps": steps, "sampler": "jump"}
            )
        )
        seconds = seconds_for_64(run, args.seed, steps=steps, sampler="jump")
        print(
            scale.line(
                f"{steps} jumps, asked digit {scale.agreement(x, y):.2f} %, 64 digits in {seconds:.3f} s",
                x,
            ),
            flush=True,
        )
        scale.save_grid(x[:100], args.out / f"grid-jump-{steps}.png")


def seconds_for_64(run, seed: int, **options) -> float:
    """Median of 5; one more warms up."""
    seconds = []
    for _ in range(6):
        begin = time.monotonic()
        sample.sample(run.loaded, 64, seed, options=options)
        seconds.append(time.monotonic() - begin)
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
