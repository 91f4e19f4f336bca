"""Generators and discriminators, for images of any size and for vectors. No layer mixes examples of a batch.

On a CPU most time is spent in convolutions on few channels at full resolution. So images are folded
first (patches of pixels become channels): 28 x 28 pixels are processed at 14 x 14 and 7 x 7, in
channels-last order. Blocks are residual (after Huang et al. 2024, arXiv:2501.05441); the only
normalisation is that of each pixel in the generator: without it the first steps saturate all outputs
for good (docs/log.md).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ..core.spec import Condition, ImageShape
from .conv import Fold, Unfold, beside, conv3, conv_chain, pyramid
from .mlp import MLP

CRITIC_DIMS = 128  # features of a discriminator's last hidden layer


def leaky(h: Tensor) -> Tensor:
    return F.leaky_relu(h, 0.2)


def pixel_norm(h: Tensor) -> Tensor:
    """Every pixel's features (B, C, ...) at root mean square 1 (Karras et al. 2018, section 4.2)."""
    rms = torch.linalg.vector_norm(h, dim=1, keepdim=True) / math.sqrt(h.shape[1])
    return h / rms.clamp(min=1e-4)


class Block(nn.Module):
    """h + conv(leaky(conv(leaky(h))))."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = conv3(channels, channels)
        self.second = conv3(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.second(leaky(self.first(leaky(h))))


def block_stages(channels: Sequence[int], blocks: int) -> nn.ModuleList:
    """``blocks`` residual blocks for each resolution."""
    return nn.ModuleList(nn.Sequential(*(Block(c) for _ in range(blocks))) for c in channels)


class ConvGenerator(nn.Module):
    """z (B, latent_dim), label as one-hot (B, K) or None -> x (B, C, H, W), not squashed."""

    def __init__(
        self,
        latent_dim: int,
        shape: ImageShape,
        width: int,
        blocks: int,
        patch: int,
        n_classes: int,
    ):
        super().__init__()
        patch, sizes, channels = pyramid(shape, width, 8, patch)
        self.sizes = sizes[::-1]
        channels = channels[::-1]
        self.stem = nn.Linear(latent_dim + n_classes, channels[0] * math.prod(self.sizes[0]))
        self.blocks = block_stages(channels, blocks)
        self.up = conv_chain(channels)
        self.out = conv3(channels[-1], shape[0] * patch**2)
        self.unfold = Unfold(patch, shape)

    def forward(self, z: Tensor, label: Condition = None) -> Tensor:
        h = self.stem(beside(z, label))
        h = h.view(len(z), -1, *self.sizes[0]).to(memory_format=torch.channels_last)
        h = pixel_norm(self.blocks[0](pixel_norm(h)))
        for up, block, size in zip(self.up, self.blocks[1:], self.sizes[1:]):
            h = up(F.interpolate(leaky(h), size=size, mode="bilinear"))
            h = pixel_norm(block(pixel_norm(h)))
        return self.unfold(self.out(leaky(h)))


class Critic(nn.Module):
    """Base of all discriminators: features (B, dims) -> a score (B,).

    With labels a projection is added, <embedding of y, features> (Miyato & Koyama 2018, eq. 3). Further
    inputs of the features, such as the growth of a progressive critic, follow after the label.
    """

    def __init__(self, dims: int, n_classes: int = 0):
        super().__init__()
        self.score = nn.Linear(dims, 1)
        self.project = nn.Linear(n_classes, dims, bias=False) if n_classes else None

    def features(self, x: Tensor) -> Tensor:
        """x (B, *shape) -> (B, dims): the last hidden layer."""
        raise NotImplementedError

    def forward(self, x: Tensor, label: Condition = None, *extra) -> Tensor:
        h = self.features(x, *extra)
        score = self.score(h)[:, 0]
        return score if self.project is None else score + (self.project(label) * h).sum(1)


class ConvCritic(Critic):
    """x (B, C, H, W), label as one-hot (B, K) or None -> a score (B,)."""

    def __init__(
        self,
        shape: ImageShape,
        width: int,
        blocks: int,
        patch: int = 0,
        n_classes: int = 0,
    ):
        super().__init__(CRITIC_DIMS, n_classes)
        patch, sizes, channels = pyramid(shape, width, 8, patch)
        self.fold = Fold(patch)
        self.stem = conv3(shape[0] * patch**2, channels[0])
        self.blocks = block_stages(channels, blocks)
        self.down = conv_chain(channels, stride=2)
        self.mix = conv3(channels[-1], channels[-1], stride=2)
        coarse = [math.ceil(side / 2) for side in sizes[-1]]
        self.join = nn.Linear(channels[-1] * math.prod(coarse), CRITIC_DIMS)

    def features(self, x: Tensor) -> Tensor:
        h = self.stem(self.fold(x).to(memory_format=torch.channels_last))
        h = self.blocks[0](h)
        for down, block in zip(self.down, self.blocks[1:]):
            h = block(down(leaky(h)))
        return leaky(self.join(leaky(self.mix(leaky(h))).flatten(1)))


class MLPGenerator(nn.Module):
    """z (B, latent_dim), label as one-hot (B, K) or None -> (B, *shape), with pixel_norm after each
    layer.
    """

    def __init__(
        self, latent_dim: int, shape: tuple[int, ...], hidden: Sequence[int], n_classes: int = 0
    ):
        super().__init__()
        widths = [latent_dim + n_classes, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.out = nn.Linear(widths[-1], math.prod(shape))
        self.shape = shape

    def forward(self, z: Tensor, label: Condition = None) -> Tensor:
        h = beside(z, label)
        for layer in self.layers:
            h = pixel_norm(leaky(layer(h)))
        return self.out(h).view(len(z), *self.shape)


class MLPCritic(Critic):
    """x (B, *shape), label as one-hot (B, K) or None -> a score (B,)."""

    def __init__(self, shape: tuple[int, ...], hidden: Sequence[int], n_classes: int = 0):
        super().__init__(hidden[-1], n_classes)
        self.net = MLP(math.prod(shape), hidden[:-1], hidden[-1], "leaky")

    def features(self, x: Tensor) -> Tensor:
        return leaky(self.net(x))


# -- constraints on weights ----------------------------------------------------------------------


class SpectralNorm(nn.Module):
    """W / sigma(W), sigma the largest singular value of W (out, rest) (Miyato et al. 2018, eq. 8).

    Exact, from the eigenvalues of W W^T instead of a power iteration: so there is no state to keep
    for frozen networks and resumed runs.
    """

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            rows = weight.flatten(1).float()
            gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
            if not torch.isfinite(gram).all():  # LAPACK would raise; the training loop rolls back
                return weight * torch.nan
            return weight / torch.linalg.eigvalsh(gram)[-1].clamp(min=1e-12).sqrt()


def with_spectral_norm(net: nn.Module) -> nn.Module:
    """Every convolution and linear layer of ``net`` gets a largest singular value of 1."""
    for module in list(net.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            parametrize.register_parametrization(module, "weight", SpectralNorm())
    return net
