"""The sharpness of pictures: the mean absolute Laplacian, to be read beside that of real ones.

    |Delta x| at a pixel = |4 x - left - right - above - below|

An edge of height h has h on either side of it; spread over w pixels, it has h / w there: blur
divides the measure by its width. (The mean absolute gradient would not do: it is the same for a
sharp edge and for a soft one.) Noise and grids raise it as edges do, so that it is read together
with a distance between samples and data.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import DataError, UsageError
from .estimate import Estimate

KERNEL = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]])


def laplacian(x: Tensor) -> Tensor:
    """x (B, C, H, W) in [-1, 1], clipped to it -> mean |Delta x| over channels and inner pixels,
    (B,), of pixels in [0, 1].
    """
    if x.ndim != 4 or min(x.shape[2:]) < 3:
        raise UsageError(
            f"sharpness is measured on images of 3 x 3 pixels and more, not on {tuple(x.shape[1:])}"
        )
    pixels = (x.clamp(-1, 1) + 1) / 2
    planes = pixels.flatten(0, 1)[:, None]
    return F.conv2d(planes, KERNEL.to(planes)[None, None]).abs().view(len(x), -1).mean(1)


def sharpness(x: Tensor, real: Tensor) -> Estimate:
    """Mean Laplacian of pictures x (n, C, H, W) relative to that of real ones (m, C, H, W): 1 is as
    sharp as real.

    The standard error is the delta method's for a ratio of independent means. Raises UsageError,
    DataError (real pictures of one colour each have no edges to compare with).
    """
    mine, theirs = laplacian(x).double(), laplacian(real).double()
    if not float(theirs.mean()) > 0:
        raise DataError(
            "the real pictures are of one colour each: there is no sharpness to compare with"
        )
    value = float(mine.mean() / theirs.mean())

    def spread(values):
        return float(values.var() / len(values)) if len(values) > 1 else math.inf

    se = math.sqrt(spread(mine) + value**2 * spread(theirs)) / float(theirs.mean())
    return Estimate(value, se, null=1.0, n=len(x), m=len(real))
