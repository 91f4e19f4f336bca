"""The two networks of a GAN, at a fixed or a growing resolution, and packs of examples."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import UsageError
from ..core.spec import Condition, ImageShape
from .adversarial import ConvCritic, ConvGenerator, MLPCritic, MLPGenerator, with_spectral_norm
from .progressive import (
    ProgressiveCritic,
    ProgressiveGenerator,
    growth_at,
    level_and_alpha,
    level_sizes,
    shrink,
    up,
)


class FixedResolution:
    """Both networks work at the full size of the data. Images end in tanh."""

    cost_stages = 1  # parts of the training in which a step costs the same
    group = 1  # examples whose scores depend on each other

    def inputs(self, progress: float) -> tuple[float, ...]:
        """Inputs of the discriminator after x and the label."""
        return ()

    def resize(self, x: Tensor, progress: float, is_generated: bool = False) -> Tensor:
        """Full-size x (B, *shape) -> x as the discriminator sees it."""
        return x

    def generate(
        self, generator: nn.Module, z: Tensor, label: Condition, progress: float
    ) -> Tensor:
        """G(z) as the discriminator sees it, before ``squash``."""
        return generator(z, label)

    def squash(self, x: Tensor) -> Tensor:
        return x.tanh()

    def enlarge(self, x: Tensor, progress: float) -> Tensor:
        """G(z) -> a sample (B, *shape)."""
        return x


class GrowingResolution:
    """Both networks grow with the progress of the training (Karras et al. 2018).

    Generated images are not squashed: samples are clamped to [-1, 1]. D compares the examples of a
    group, of four real and four generated ones at least.
    """

    group = 4

    def __init__(self, shape: ImageShape):
        self.sizes = level_sizes(shape)
        self.cost_stages = 2 * len(self.sizes)

    def growth(self, progress: float) -> float:
        return growth_at(progress, len(self.sizes))

    def inputs(self, progress: float) -> tuple[float, ...]:
        return (self.growth(progress),)

    def resize(self, x: Tensor, progress: float, is_generated: bool = False) -> Tensor:
        """is_generated: the generator has already faded in the current level of x."""
        growth = self.growth(progress)
        return shrink(x, math.ceil(growth) if is_generated else growth, self.sizes)

    def generate(
        self, generator: nn.Module, z: Tensor, label: Condition, progress: float
    ) -> Tensor:
        return generator(z, label, self.growth(progress))

    def squash(self, x: Tensor) -> Tensor:
        return x

    def enlarge(self, x: Tensor, progress: float) -> Tensor:
        level, _ = level_and_alpha(self.growth(progress), len(self.sizes))
        for size in self.sizes[level + 1 :]:
            x = up(x, size)
        return x.clamp(-1, 1)


Resolution = FixedResolution | GrowingResolution


def build_networks(c: Any, shape: Any, n_classes: int) -> tuple[nn.Module, nn.Module, Resolution]:
    """G, D and the resolution they work at. c: ``families.gan.Config``."""
    packed: Any = (c.pack * shape[0], *shape[1:])
    resolution = FixedResolution()
    if c.network == "progressive":
        generator = ProgressiveGenerator(c.latent_dim, shape, c.width, n_classes)
        discriminator = ProgressiveCritic(packed, c.width, n_classes)
        resolution = GrowingResolution(shape)
    elif c.network == "conv":
        generator = ConvGenerator(c.latent_dim, shape, c.width, c.blocks, c.patch, n_classes)
        discriminator = ConvCritic(packed, c.width, c.blocks, c.patch, n_classes)
    else:
        generator = MLPGenerator(c.latent_dim, shape, c.hidden_g or c.hidden, n_classes)
        discriminator = MLPCritic(packed, c.hidden, n_classes)
    if c.spectral_norm:
        with_spectral_norm(discriminator)
    return generator, discriminator, resolution


# -- packs: examples side by side, which D scores together (PacGAN, Lin et al. 2018) -------------


def pack_examples(x: Tensor, m: int) -> Tensor:
    """(B, C, ...) -> (B / m, m C, ...), without the rest of the batch. Raises UsageError."""
    if len(x) < m:
        raise UsageError(
            f"--pack {m} needs batches of {m} or more, and these have {len(x)}: "
            "raise --batch-size, or lower --pack"
        )
    return x if m == 1 else x[: len(x) // m * m].reshape(-1, m * x.shape[1], *x.shape[2:])


def pack_all(x: Tensor, m: int) -> Tensor:
    """(B, C, ...) -> (ceil(B / m), m C, ...): the first examples fill up the last pack."""
    rows = torch.arange(len(x) + -len(x) % m, device=x.device) % len(x)
    return x[rows].reshape(-1, m * x.shape[1], *x.shape[2:])
