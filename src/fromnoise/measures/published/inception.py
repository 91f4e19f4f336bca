"""Inception-v3 as the Fréchet Inception distance defines it, with the two resizes of its images.

The network is Szegedy et al. 2015 (arXiv 1512.00567) in the form of the TensorFlow graph of
2015-12-05, whose weights the FID of Heusel et al. 2017 (arXiv 1706.08500) is defined on. It is not
the Inception-v3 that image libraries ship: average pools leave the padding out of the average, the
last block pools by maximum, there are 1008 classes and batch normalisation has eps = 1e-3. Modules
carry the names of the PyTorch port pt_inception-2015-12-05-6726825d.

The architecture is a table. A block is some paths side by side, whose outputs are concatenated; a
path is a sequence of steps; a step is a pool, a convolution (name, channels, kernel[, stride]), or
a list of convolutions of the same input. Inside a block, stride 1 keeps the size and stride 2 has
no padding.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

SIDE = 299


def average(h: Tensor) -> Tensor:
    return F.avg_pool2d(h, 3, stride=1, padding=1, count_include_pad=False)


def maximum(h: Tensor) -> Tensor:
    return F.max_pool2d(h, 3, stride=1, padding=1)


def halve(h: Tensor) -> Tensor:
    return F.max_pool2d(h, 3, stride=2)


def block_35(pooled: int) -> list:
    """Figure 5 of the paper, at 35 x 35, with one 5 x 5 left; pooled: channels of the last path."""
    return [
        [("branch1x1", 64, 1)],
        [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)],
        [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)],
        [average, ("branch_pool", pooled, 1)],
    ]


def block_17(c: int) -> list:
    """Figure 6 of the paper with n = 7, at 17 x 17; c: channels inside."""
    row, column, dbl = (1, 7), (7, 1), "branch7x7dbl_"
    return [
        [("branch1x1", 192, 1)],
        [("branch7x7_1", c, 1), ("branch7x7_2", c, row), ("branch7x7_3", 192, column)],
        [
            (dbl + "1", c, 1),
            (dbl + "2", c, column),
            (dbl + "3", c, row),
            (dbl + "4", c, column),
            (dbl + "5", 192, row),
        ],
        [average, ("branch_pool", 192, 1)],
    ]


def block_8(pool: Callable) -> list:
    """Figure 7 of the paper, at 8 x 8: both longer paths end in two convolutions side by side."""
    row, column, dbl = (1, 3), (3, 1), "branch3x3dbl_"
    return [
        [("branch1x1", 320, 1)],
        [("branch3x3_1", 384, 1), [("branch3x3_2a", 384, row), ("branch3x3_2b", 384, column)]],
        [
            (dbl + "1", 448, 1),
            (dbl + "2", 384, 3),
            [(dbl + "3a", 384, row), (dbl + "3b", 384, column)],
        ],
        [pool, ("branch_pool", 192, 1)],
    ]


TO_17 = [
    [("branch3x3", 384, 3, 2)],
    [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3, 2)],
    [halve],
]
TO_8 = [
    [("branch3x3_1", 192, 1), ("branch3x3_2", 320, 3, 2)],
    [
        ("branch7x7x3_1", 192, 1),
        ("branch7x7x3_2", 192, (1, 7)),
        ("branch7x7x3_3", 192, (7, 1)),
        ("branch7x7x3_4", 192, 3, 2),
    ],
    [halve],
]
BLOCKS = {
    "Mixed_5b": block_35(32),
    "Mixed_5c": block_35(64),
    "Mixed_5d": block_35(64),
    "Mixed_6a": TO_17,
    "Mixed_6b": block_17(128),
    "Mixed_6c": block_17(160),
    "Mixed_6d": block_17(160),
    "Mixed_6e": block_17(192),
    "Mixed_7a": TO_8,
    "Mixed_7b": block_8(average),
    "Mixed_7c": block_8(maximum),
}


class InceptionConv(nn.Module):
    """Convolution without bias, batch normalisation with stored statistics, ReLU."""

    def __init__(self, n_in: int, n_out: int, kernel, stride: int = 1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(n_in, n_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(n_out, eps=1e-3)

    def forward(self, h: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(h)))


class Mixed(nn.Module):
    """One block of the table: (B, n_in, H, W) -> (B, n_out, H', W')."""

    def __init__(self, n_in: int, paths: list):
        super().__init__()
        self.paths, self.n_out = paths, 0
        for path in paths:
            n = n_in
            for step in path:
                if not callable(step):
                    n = sum(self._add(n, *conv) for conv in _side_by_side(step))
            self.n_out += n

    def _add(self, n_in: int, name: str, n_out: int, kernel, stride: int = 1) -> int:
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = 0 if stride == 2 else tuple(k // 2 for k in kernel)
        self.add_module(name, InceptionConv(n_in, n_out, kernel, stride, padding))
        return n_out

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._along(path, x) for path in self.paths], 1)

    def _along(self, path: list, h: Tensor) -> Tensor:
        for step in path:
            h = (
                step(h)
                if callable(step)
                else torch.cat([self.get_submodule(name)(h) for name, *_ in _side_by_side(step)], 1)
            )
        return h


def _side_by_side(step) -> list[tuple]:
    return step if isinstance(step, list) else [step]


class Inception(nn.Module):
    """(B, 3, 299, 299) in [-1, 1] -> (B, 2048), the mean over the last 8 x 8 map ("pool3"). The
    classifier is left out.

    unused: shapes of what a file may hold beside it. With 1000 classes, a file of the same names is
    another network.
    """

    unused = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = InceptionConv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = InceptionConv(32, 32, 3)
        self.Conv2d_2b_3x3 = InceptionConv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = InceptionConv(64, 80, 1)
        self.Conv2d_4a_3x3 = InceptionConv(80, 192, 3)
        n = 192
        for name, paths in BLOCKS.items():
            self.add_module(name, Mixed(n, paths))
            n = self.get_submodule(name).n_out
        self.dims = n

    def forward(self, x: Tensor) -> Tensor:
        h = self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))  # B 32 147 147
        h = halve(self.Conv2d_2b_3x3(h))  # B 64 73 73
        h = halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(h)))  # B 192 35 35
        for name in BLOCKS:
            h = self.get_submodule(name)(h)  # B 2048 8 8
        return h.mean((2, 3))


def tf1_bilinear(x: Tensor, side: int = SIDE) -> Tensor:
    """(B, C, H, W) -> (B, C, side, side) as TensorFlow 1 resized by default: pixel i is read at i H
    / side.

    No half-pixel centres (the picture moves up and left), no antialias (shrinking skips pixels):
    what FID has been measured with since 2017, torch-fidelity included.
    """
    return _tf1_matrix(x.shape[2], side) @ x @ _tf1_matrix(x.shape[3], side).T


def _tf1_matrix(n: int, side: int) -> Tensor:
    """(side, n): row i holds the weights of the two neighbours of i n / side; past the end the last
    pixel is repeated.
    """
    at = torch.arange(side, dtype=torch.float64) * n / side
    low = at.long()
    rows, weights = torch.arange(side), torch.zeros(side, n, dtype=torch.float64)
    weights[rows, low] += 1 - (at - low)
    weights[rows, (low + 1).clamp(max=n - 1)] += at - low
    return weights.float()


def pil_bicubic(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) float32 or uint8 -> (B, C, side, side) in the same type: Pillow's bicubic with
    antialias, a plane at a time.

    Float planes may overshoot the range of x; bytes are rounded and cut after each of the two
    passes.
    """

    def resized(plane):
        return np.asarray(Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC))

    return torch.from_numpy(np.stack(list(map(resized, x.flatten(0, 1).numpy())))).unflatten(
        0, x.shape[:2]
    )


def clean(x: Tensor) -> Tensor:
    """The resize of Parmar et al. 2022 (arXiv 2104.11222): Pillow's bicubic on float levels, cut to
    0 .. 255.
    """
    return pil_bicubic(x, SIDE).clamp(0, 255)


RESIZES = {"tf1-bilinear": tf1_bilinear, "clean": clean}


def prepare(levels: Tensor, resize: str) -> Tensor:
    """Levels 0 .. 255 as float32 (B, 1 or 3, H, W) -> the network's input (B, 3, 299, 299).

    (level - 128) / 128, as in the graph; pytorch-fid has level / 127.5 - 1 and another resize. Grey
    is repeated.
    """
    return ((RESIZES[resize](levels) - 128) / 128).expand(-1, 3, -1, -1)
