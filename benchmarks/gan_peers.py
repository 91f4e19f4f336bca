"""Equal minutes on MNIST, one after another: our `gan` and `vaegan`, pytorch/examples' DCGAN and pythae 0.1.2's VAEGAN.

The DCGAN is made again from its published shape: images at 64 x 64, z of 100, 64 channels at the finest layer, batch
norm, binary cross-entropy, Adam 2e-4 with betas .5 and .999, batches of 64; its samples are averaged down to 28 x 28.
pythae's comes from its package (extra `bench`), with the networks it has for MNIST, z of 16, reconstruction in layer 3,
weight .8, and its trainer's rule: one retained graph, three optimisers, Adam 1e-4, batches of 64. All are scored by the shipped evaluator, 10,000 samples of the last weights, and timed in training images per second.

    python benchmarks/gan_peers.py [--minutes 10] [--seed 0] [--only gan vaegan dcgan pythae] [--threads 0]
"""

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from header import header
from mnist_scale import SAMPLES, Scale
from torch import nn

import fromnoise as fn
from fromnoise.inference import sample


def dcgan_generator(width: int = 64, z: int = 100) -> nn.Module:
    layers, channels = [], [z, 8 * width, 4 * width, 2 * width, width]
    for i, (a, b) in enumerate(zip(channels, channels[1:])):
        layers += [
            nn.ConvTranspose2d(a, b, 4, *((1, 0) if i == 0 else (2, 1)), bias=False),
            nn.BatchNorm2d(b),
            nn.ReLU(True),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(width, 1, 4, 2, 1, bias=False), nn.Tanh())


def dcgan_discriminator(width: int = 64) -> nn.Module:
    layers, channels = (
        [nn.Conv2d(1, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)],
        [width, 2 * width, 4 * width, 8 * width],
    )
    for a, b in zip(channels, channels[1:]):
        layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(8 * width, 1, 4, 1, 0, bias=False), nn.Flatten(0))


def dcgan(x: torch.Tensor, minutes: float, seed: int) -> tuple[torch.Tensor, float]:
    """Samples (SAMPLES, 1, 28, 28) after so many minutes on x (N, 1, 28, 28), and training images per second."""
    torch.manual_seed(seed)
    generator, discriminator = dcgan_generator(), dcgan_discriminator()
    for module in [*generator.modules(), *discriminator.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
    optimizers = [
        torch.optim.Adam(net.parameters(), 2e-4, betas=(0.5, 0.999))
        for net in (generator, discriminator)
    ]
    bce, one, zero, seen, begin = (
        F.binary_cross_entropy_with_logits,
        torch.ones(64),
        torch.zeros(64),
        0,
        time.monotonic(),
    )
    while time.monotonic() - begin < 60 * minutes:
        real = F.interpolate(x[torch.randint(len(x), (64,))], size=64, mode="bilinear")
        fake = generator(torch.randn(64, 100, 1, 1))
        optimizers[1].zero_grad()
        (bce(discriminator(real), one) + bce(discriminator(fake.detach()), zero)).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        bce(discriminator(fake), one).backward()
        optimizers[0].step()
        seen += 64
    rate = seen / (time.monotonic() - begin)
    generator.eval()
    with torch.no_grad():
        parts = [
            F.interpolate(generator(torch.randn(100, 100, 1, 1)), size=28, mode="area")
            for _ in range(SAMPLES // 100)
        ]
    return torch.cat(parts), rate


def pythae(x: torch.Tensor, minutes: float, seed: int) -> tuple[torch.Tensor, float]:
    """The same of pythae's VAEGAN: its own networks, losses and update rule (CoupledOptimizerAdversarialTrainer)."""
    from pythae.data.datasets import DatasetOutput
    from pythae.models import VAEGAN, VAEGANConfig
    from pythae.models.nn.benchmarks.mnist import (
        Decoder_Conv_AE_MNIST,
        Discriminator_Conv_MNIST,
        Encoder_Conv_VAE_MNIST,
    )

    torch.manual_seed(seed)
    config = VAEGANConfig(
        input_dim=(1, 28, 28), latent_dim=16, reconstruction_layer=3, adversarial_loss_scale=0.8
    )
    model = VAEGAN(
        config,
        Encoder_Conv_VAE_MNIST(config),
        Decoder_Conv_AE_MNIST(config),
        Discriminator_Conv_MNIST(config),
    ).train()
    names = ("encoder", "decoder", "discriminator")
    optimizers = {name: torch.optim.Adam(getattr(model, name).parameters(), 1e-4) for name in names}
    x, seen, begin = (x + 1) / 2, 0, time.monotonic()
    while time.monotonic() - begin < 60 * minutes:
        out = model(DatasetOutput(data=x[torch.randint(len(x), (64,))]))
        due = [name for name in names if getattr(out, f"update_{name}")]
        for name in due:
            optimizers[name].zero_grad()
            getattr(out, f"{name}_loss").backward(retain_graph=True)
        for name in due:
            optimizers[name].step()
        seen += 64
    rate = seen / (time.monotonic() - begin)
    model.eval()
    with torch.no_grad():
        parts = [
            model.decoder(torch.randn(100, 16)).reconstruction * 2 - 1
            for _ in range(SAMPLES // 100)
        ]
    return torch.cat(parts), rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=["gan", "vaegan", "dcgan", "pythae"])
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--out", type=Path, default=Path("runs/gan-peers"))
    args = parser.parse_args()
    header(args.seed, args.threads)
    if args.threads:
        torch.set_num_threads(args.threads)
    scale = Scale()
    x = torch.from_numpy(scale.dataset.splits["train"].x).float() / 127.5 - 1
    for name in args.only:
        if name in PEERS:
            made, rate = PEERS[name](x, args.minutes, args.seed)
        else:
            run = fn.train(
                name,
                data="mnist",
                minutes=args.minutes,
                seed=args.seed,
                threads=args.threads,
                out=args.out / name,
            )
            made, rate = (
                sample.sample(run.loaded, SAMPLES, args.seed),
                run.run.events("interval")[-1]["items_per_second"],
            )
            if run.loaded.family.watching:
                print(
                    scale.line(
                        f"{name}, the generator alone",
                        sample.sample(
                            run.loaded, SAMPLES, args.seed, options=run.loaded.family.watching
                        ),
                    ),
                    flush=True,
                )
        print(scale.line(f"{name} ({rate:,.0f} images/s)", made), flush=True)


PEERS = {"dcgan": dcgan, "pythae": pythae}

if __name__ == "__main__":
    main()
