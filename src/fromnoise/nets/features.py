"""Feature networks: distances between sets of examples are measured in their last hidden layer."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import ConvDecoder, conv3
from .mlp import MLP


class FeatureNet(nn.Module):
    """x (B, *shape) -> features (B, dims); forward adds a linear layer: (B, n_out).

    Images go through convolutions, halved until no side is above 4 pixels, without pooling at the end, so
    that features depend on positions. There is no batch normalisation: examples do not depend on each other.
    """

    def __init__(self, shape: tuple[int, ...], n_out: int, dims: int = 64, width: int = 16):
        super().__init__()
        self.shape = tuple(shape)
        self.dims = dims
        self.width = width
        layers: list[nn.Module] = []
        if len(shape) == 3:
            channels = width
            sides = shape[1:]
            layers += [conv3(shape[0], channels), nn.SiLU()]
            while max(sides) > 4:
                wider = min(2 * channels, 2 * width)
                layers += [conv3(channels, wider, stride=2), nn.SiLU()]
                channels = wider
                sides = tuple(math.ceil(side / 2) for side in sides)
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
    """features (B, dims) -> (B, *shape), to train a FeatureNet without labels."""
    if len(shape) == 3:
        return ConvDecoder(dims, shape, width=16)
    return MLP(dims, (4 * dims,), shape[0])


class RandomConv(nn.Module):
    """Untrained convolutions: (B, C, H, W) -> (B, dims), means and standard deviations of their outputs.

    ``weights``: one (width, channels, 3, 3) for each layer; every layer halves the resolution.
    """

    def __init__(self, weights: list[Tensor]):
        super().__init__()
        self.weights = weights
        self.dims = 2 * sum(len(w) for w in weights)

    def forward(self, x: Tensor) -> Tensor:
        features = []
        for w in self.weights:
            x = F.leaky_relu(F.conv2d(x, w, padding=1), 0.1)
            features += [x.mean((2, 3)), x.std((2, 3), correction=0)]
            x = F.avg_pool2d(x, 2, ceil_mode=True) if min(x.shape[2:]) > 1 else x
        return torch.cat(features, 1)
