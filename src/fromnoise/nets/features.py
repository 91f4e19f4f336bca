"""A small network whose last hidden layer describes an example: what distances between sets are measured on."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import ConvDecoder
from .mlp import MLP


class FeatureNet(nn.Module):
    """x (B, *shape) -> features (B, dims); forward adds a linear layer: (B, n_out).

    Images go through convolutions, halved until no side is above 4 pixels, and stay a little map to the end,
    so that the features know what is where. No normalisation layers: an example's features depend on it alone.
    """

    def __init__(self, shape: tuple[int, ...], n_out: int, dims: int = 64, width: int = 16):
        super().__init__()
        self.shape, self.dims, self.width = tuple(shape), dims, width
        layers: list[nn.Module] = []
        if len(shape) == 3:
            channels, sides = width, shape[1:]
            layers += [nn.Conv2d(shape[0], channels, 3, padding=1), nn.SiLU()]
            while max(sides) > 4:
                wider = min(2 * channels, 2 * width)
                layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.SiLU()]
                channels, sides = wider, tuple(math.ceil(side / 2) for side in sides)
            flat = channels * math.prod(sides)
        else:
            flat = 4 * dims
            layers += [nn.Linear(shape[0], flat), nn.SiLU()]
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, dims), nn.SiLU())
        self.head = nn.Linear(dims, n_out)

    def features(self, x: Tensor) -> Tensor:
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def feature_decoder(shape: tuple[int, ...], dims: int) -> nn.Module:
    """features (B, dims) -> (B, *shape): what teaches a FeatureNet where there are no labels."""
    return (
        ConvDecoder(dims, shape, width=16) if len(shape) == 3 else MLP(dims, (4 * dims,), shape[0])
    )


class RandomConv(nn.Module):
    """Convolutions that never learn: (B, C, H, W) -> (B, dims), means and spreads of the filters' answers.

    ``weights`` are drawn by the caller, one (width, channels, 3, 3) for each layer; every layer halves the resolution.
    """

    def __init__(self, weights: list[Tensor]):
        super().__init__()
        self.weights = weights
        self.dims = 2 * sum(len(w) for w in weights)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for w in self.weights:
            x = F.leaky_relu(F.conv2d(x, w, padding=1), 0.1)
            found += [x.mean((2, 3)), x.std((2, 3), correction=0)]
            x = F.avg_pool2d(x, 2, ceil_mode=True) if min(x.shape[2:]) > 1 else x
        return torch.cat(found, 1)
