"""Equal minutes on MNIST, one after another: our `diffusion`, torchcfm's notebook network, the diffusers course's.

The peers come from their packages, with the shapes, losses and optimisers of their notebooks, float32, labels given:

    torchcfm  examples/images/conditional_mnist.ipynb: UNetModel of 32 channels and one block a level, flow matching on
              straight paths, Adam 1e-3, batches of 128
    course    Hugging Face's diffusion course, unit 2: class-conditioned UNet2DModel of 32, 64, 64 channels with two blocks
              a level, noise prediction on 1,000 cosine steps, Adam 1e-3, batches of 128

Then each draws samples with the same number of evaluations of its network: ours by DPM-Solver++ 2M or Euler, torchcfm by
Euler, the course by DDIM with either of diffusers' spacings of the steps; where there are two ways, the one that is better
on the first 1,000 samples. Samples are rounded to 256 levels and scored by the shipped evaluator. Ours may train in
bfloat16 where the processor has it (its default, printed): `--set precision=float32` trains it as the peers are.

    .venv/bin/pip install --no-deps torchcfm==1.0.7 POT==0.9.7.post1    # with its dependencies pip would replace torch
    python benchmarks/diffusion_peers.py [--minutes 10] [--steps 10] [--threads 1] [--only torchcfm course] [--set NAME=VALUE ...]
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from header import header
from mnist_scale import SAMPLES, Scale
from torch import Tensor, nn

import fromnoise as fn
from fromnoise.core.family import count_parameters
from fromnoise.inference import sample

BATCH, TRIAL = 128, 1000


@dataclass(frozen=True)
class Trained:
    """rate: training images per second; ways: how samples are drawn, a name -> n -> (n, 1, 28, 28), labels 0 .. 9 in turn."""

    parameters: int
    rate: float
    precision: str
    ways: dict[str, Callable[[int], Tensor]]


def ours(scale: Scale, args: argparse.Namespace) -> Trained:
    more = {"conditional": True} | dict(item.split("=", 1) for item in args.set)
    run = fn.train(
        "diffusion",
        data="mnist",
        minutes=args.minutes,
        seed=args.seed,
        threads=args.threads,
        out=args.out / "run",
        **more,
    )

    def draw(sampler):
        return lambda n: sample.sample(
            run.loaded, n, args.seed, options={"steps": args.steps, "sampler": sampler}
        )

    rate = run.run.events("interval")[-1]["items_per_second"]  # validation and saving included
    return Trained(
        count_parameters(run.model),
        rate,
        run.run.info["train"]["precision"],
        {"DPM-Solver++ 2M": draw("dpm"), "Euler": draw("euler")},
    )


def batches(scale: Scale, minutes: float) -> Iterator[tuple[Tensor, Tensor]]:
    """x (128, 1, 28, 28) in [-1, 1], y (128,): epoch after epoch, shuffled, the last, smaller batch left out, until the time is over."""
    split, begin = scale.dataset.splits["train"], time.monotonic()
    x, y = torch.from_numpy(split.x).float() / 127.5 - 1, torch.from_numpy(split.y)
    while True:
        for rows in torch.randperm(len(x)).split(BATCH)[: len(x) // BATCH]:
            if time.monotonic() - begin > 60 * minutes:
                return
            yield x[rows], y[rows]


def learn(
    net: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], scale: Scale, minutes: float
) -> float:
    """Trains net by Adam 1e-3 on loss(x, y) and returns images per second."""
    optimizer, seen, begin = torch.optim.Adam(net.parameters(), 1e-3), 0, time.monotonic()
    for x, y in batches(scale, minutes):
        optimizer.zero_grad()
        loss(x, y).backward()
        optimizer.step()
        seen += len(x)
    rate = seen / (time.monotonic() - begin)
    net.eval()
    return rate


def in_parts(one: Callable[[Tensor, Tensor], Tensor], seed: int) -> Callable[[int], Tensor]:
    """one: noise (B, 1, 28, 28), y (B,) -> samples; becomes n -> (n, 1, 28, 28), which begins with the same ones for any n."""

    @torch.no_grad()
    def draw(n: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat(
            [one(torch.randn(100, 1, 28, 28), torch.arange(100) % 10) for _ in range(-(-n // 100))]
        )[:n]

    return draw


def torchcfm(scale: Scale, args: argparse.Namespace) -> Trained:
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher
    from torchcfm.models.unet import UNetModel

    net, flow = (
        UNetModel(
            dim=(1, 28, 28), num_channels=32, num_res_blocks=1, num_classes=10, class_cond=True
        ),
        ConditionalFlowMatcher(sigma=0.0),
    )

    def loss(x: Tensor, y: Tensor) -> Tensor:
        t, x_t, velocity = flow.sample_location_and_conditional_flow(torch.randn_like(x), x)
        return F.mse_loss(net(t, x_t, y), velocity)

    def euler(x: Tensor, y: Tensor) -> Tensor:
        for i in range(args.steps):  # from noise at 0 to data at 1
            x = x + net(torch.full((len(x),), i / args.steps), x, y) / args.steps
        return x

    rate = learn(net, loss, scale, args.minutes)
    return Trained(count_parameters(net), rate, "float32", {"Euler": in_parts(euler, args.seed)})


def course(scale: Scale, args: argparse.Namespace) -> Trained:
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

    down, up = (
        ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )
    shape = dict(
        sample_size=28,
        in_channels=1 + 4,
        out_channels=1,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
    )
    net = nn.ModuleDict(
        {
            "label": nn.Embedding(10, 4),
            "unet": UNet2DModel(**shape, down_block_types=down, up_block_types=up),
        }
    )
    schedule = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")

    def eps_hat(x_t: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """The label's four numbers are further channels of the image, the same in every pixel."""
        label = net["label"](y)[:, :, None, None].expand(-1, -1, *x_t.shape[2:])
        return net["unet"](torch.cat([x_t, label], 1), t).sample

    def loss(x: Tensor, y: Tensor) -> Tensor:
        eps, t = torch.randn_like(x), torch.randint(0, 999, (len(x),))
        return F.mse_loss(eps_hat(schedule.add_noise(x, eps, t), t, y), eps)

    def ddim(spacing: str) -> Callable[[Tensor, Tensor], Tensor]:
        sampler = DDIMScheduler.from_config(schedule.config, timestep_spacing=spacing)
        sampler.set_timesteps(args.steps)

        def draw(x: Tensor, y: Tensor) -> Tensor:
            for t in sampler.timesteps:
                x = sampler.step(eps_hat(x, t, y), t, x).prev_sample
            return x

        return draw

    rate = learn(net, loss, scale, args.minutes)
    ways = {
        f"DDIM, {spacing}": in_parts(ddim(spacing), args.seed)
        for spacing in ("leading", "trailing")
    }
    return Trained(count_parameters(net), rate, "float32", ways)


def better(trained: Trained, scale: Scale) -> str:
    """The way whose first samples score best."""
    if len(trained.ways) == 1:
        return next(iter(trained.ways))
    found = {way: scale(scale.as_files(draw(TRIAL)))[0].value for way, draw in trained.ways.items()}
    print(
        f"  of {TRIAL:,} samples: {'; '.join(f'{way} {value:.3f}' for way, value in found.items())}",
        flush=True,
    )
    return min(found, key=found.get)


# what is asked for (issue 6): how many times its images per second ours must reach; its distance must be three times ours
MAKERS = {"diffusion": ours, "torchcfm": torchcfm, "course": course}
ASKED = {"torchcfm": 10, "course": 8}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--steps", type=int, default=10, help="evaluations of the network for each sample"
    )
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="of all three; 0: all cores")
    parser.add_argument("--only", nargs="*", choices=list(MAKERS), default=list(MAKERS))
    parser.add_argument("--out", type=Path, default=Path("runs/diffusion-peers"))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="further options of our training"
    )
    args = parser.parse_args()
    missing = [
        package
        for name, package in (("torchcfm", "torchcfm"), ("torchcfm", "ot"), ("course", "diffusers"))
        if name in args.only and not find_spec(package)
    ]
    if missing:  # before the first ten minutes, not after
        sys.exit(
            f"not installed: {', '.join(missing)}. How to: {__file__}, or leave them out with --only"
        )
    header(args.seed, args.threads)
    if args.threads:
        torch.set_num_threads(args.threads)
    scale = Scale()
    print(f"official test set against training examples: {scale.real:.4f}", flush=True)
    rates, distances = {}, {}
    for name in args.only:
        torch.manual_seed(args.seed)
        begin = time.monotonic()
        trained = MAKERS[name](scale, args)
        print(
            f"{name}: {trained.parameters:,} parameters, {trained.precision}, {trained.rate:,.1f} images/s in training; "
            f"{(time.monotonic() - begin) / 60:.1f} minutes, everything included",
            flush=True,
        )
        way, begin = better(trained, scale), time.monotonic()
        x = scale.as_files(trained.ways[way](args.samples))
        seconds, rates[name], distances[name] = (
            time.monotonic() - begin,
            trained.rate,
            scale(x)[0].value,
        )
        print(
            scale.line(
                f"  {args.samples:,} samples, {args.steps} evaluations, {way}, {seconds:.0f} s", x
            ),
            flush=True,
        )
        scale.save_grid(x[:100], args.out / f"{name}.png")
    for name in [name for name in ASKED if {name, "diffusion"} <= set(rates)]:
        print(
            f"beside {name}: {rates['diffusion'] / rates[name]:.1f} times its images/s (asked: {ASKED[name]}), "
            f"{distances['diffusion'] / distances[name]:.3f} of its distance (asked: at most 0.333)",
            flush=True,
        )


if __name__ == "__main__":
    main()
