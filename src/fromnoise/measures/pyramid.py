"""Sliced Wasserstein distance of patches of Laplacian pyramids: images compared level by level.

Karras et al. 2018 (arXiv:1710.10196, section 5): an image is decomposed into levels of details down
to 16 pixels, patches of 7 x 7 of a level are points of C * 49 numbers, and two sets of points are
compared along random directions by the mean distance of their sorted projections, W_1, times 1000.
The finest level depends on noise and blur, the last one on what is where.

Three things differ from the paper, for any number of channels and any size:
  - Both sets are normalised by the *reference's* mean and deviation of each channel. The paper
    takes each set's own, and does not detect wrong contrast or brightness, nor details that are
    too weak, which is what blur is. Its number is ``raw``.
  - W_1 of two draws of one law is not 0 but falls as 1 / sqrt(n), over images more than over
    patches: the distance of two draws of the reference is the ``null``. It is not subtracted. The
    paper has 16,384 images of 128 patches: its values are comparable with ``raw`` only as far as
    the null is small in comparison.
  - Places are shared. Image i of either set is cut at the places of number i // GROUPS, so that
    the choice of places adds nothing to a difference: not to that of the sets, nor to those of
    their groups, from which error and null are computed.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.rng import Rng
from .estimate import Estimate
from .laplacian import laplacian_pyramid, level_shapes

PATCH = 7  # pixels, side
DIRECTIONS = 512
GROUPS = 10  # of images: standard errors follow from their spread
STUDENT = 2.262  # 97.5 % quantile of Student's t with GROUPS - 1 degrees of freedom
BLOCK = 32  # directions at once
IMAGES = 8192  # of a set at most
NUMBERS = 2**28  # of a set of images at most
PATCHES = 2**15  # of a set and level, as many as images allow


# -- patches ---------------------------------------------------------------------------------------
def images_of(shape: tuple[int, ...], *counts: int) -> int:
    """How many images are taken of sets of these sizes: few of large ones, so that time and memory
    stay bounded.
    """
    return min(*counts, IMAGES, max(500, NUMBERS // math.prod(shape)))


def patches_of(n: int) -> int:
    """Patches of each of n images, at each level: the paper's 128 where there are few, and 4 at
    least.
    """
    return min(128, max(4, PATCHES // n))


def places(shape: tuple[int, ...], n: int, patches: int, rng: Rng) -> list[Tensor]:
    """Upper left corners of the patches of n images, by level: int64 (n, patches, 2), row and
    column.

    Below 7 pixels a patch is as long as the side.
    """
    slots = -(-n // GROUPS)
    corners = []
    for level, (height, width) in enumerate(level_shapes(shape)):
        corner = [
            rng.integers(f"{level} {axis}", max(1, side - PATCH + 1), (slots, patches))
            for axis, side in (("row", height), ("column", width))
        ]
        corners.append(torch.stack(corner, 2).repeat_interleave(GROUPS, 0)[:n])
    return corners


def cut(x: Tensor, where: list[Tensor]) -> list[Tensor]:
    """Patches of images x (b, C, H, W) at ``where``, (b, P, 2) by level -> float32 (b, P, C, 49) by
    level.
    """
    patches = []
    for level, corner in zip(laplacian_pyramid(x.float().cpu()), where):
        # b C h w 7 7
        windows = level.unfold(2, min(PATCH, level.shape[2]), 1).unfold(
            3, min(PATCH, level.shape[3]), 1
        )
        image = torch.arange(len(x))[:, None].expand(corner.shape[:2])
        patches.append(windows[image, :, corner[..., 0], corner[..., 1]].flatten(3))
    return patches


def cut_all(blocks: Iterable[Tensor], where: list[Tensor]) -> list[Tensor]:
    """``cut`` of the first n images of all blocks, where n is the number of places: (n, P, C, 49)
    by level.
    """
    parts, done, n = [], 0, len(where[0])
    for x in blocks:
        x = x[: n - done]
        parts.append(cut(x, [corner[done : done + len(x)] for corner in where]))
        if (done := done + len(x)) == n:
            break
    return list(map(torch.cat, zip(*parts)))


# -- distances -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class PyramidLevel:
    """value, raw, null: as of an Estimate; groups: the value of each group of images (GROUPS,);
    noise: variance over directions.
    """

    value: float
    raw: float
    null: float
    groups: np.ndarray
    noise: float


def compare(
    x: list[Tensor], y: list[Tensor], rng: Rng, directions: int = DIRECTIONS
) -> list[Estimate]:
    """Distances of patches of samples x from those of a reference y, (n, P, C, 49) by level: their
    mean, then each level's.

    Thousandths of the reference's standard deviation. The error is over images, from the spread of
    groups of them, and over directions; the interval is Student's, nine degrees of freedom, and not
    below 0. Raises UsageError (sets that do not go together, fewer than 20 images), DataError (not
    finite).
    """
    if [level.shape for level in x] != [level.shape for level in y] or not x:
        raise UsageError(
            "patches of samples and reference do not go together: as many images of one shape are "
            "needed on both sides"
        )
    n = len(x[0])
    if n < 2 * GROUPS:
        raise UsageError(
            f"{n} images are too few for a distance of patches: {2 * GROUPS} of each or more are "
            "needed"
        )
    levels = [_level(a, b, rng.at(i), directions) for i, (a, b) in enumerate(zip(x, y))]
    return [_estimate(levels, n), *(_estimate([level], n) for level in levels)]


def _estimate(levels: list[PyramidLevel], n: int) -> Estimate:
    """Of the mean of some levels: their groups are of the same images, their directions their
    own.
    """

    def mean(values):
        return float(np.mean(list(values)))

    value = mean(level.value for level in levels)
    groups = np.mean([level.groups for level in levels], 0)
    se = math.sqrt(
        groups.var(ddof=1) / GROUPS + mean(level.noise for level in levels) / len(levels)
    )
    interval = (max(0.0, value - STUDENT * se), value + STUDENT * se)
    return Estimate(
        value,
        se,
        interval,
        mean(level.null for level in levels),
        mean(level.raw for level in levels),
        n=n,
        m=n,
    )


def _level(x: Tensor, y: Tensor, rng: Rng, directions: int) -> PyramidLevel:
    if not bool(torch.isfinite(x).all() and torch.isfinite(y).all()):
        raise DataError("some patches are not finite: nothing can be measured")
    n, d = len(x), x[0, 0].numel()
    axes = rng.normal("directions", (directions, d))
    axes /= axes.norm(dim=1, keepdim=True)
    of_x, of_y, by_group = _scale(x), _scale(y), _scale(y, GROUPS)
    sets = [_normalised(z, scale) for z, scale in ((x, of_y), (y, of_y), (x, of_x))]
    groups = [
        _normalised(z, scale) for z, scale in ((x, by_group), (y, by_group), (y, of_y))
    ]  # a group's scale is as unsure as its points
    distances = []
    raw = []
    of_groups = []
    null = []
    for number, part in enumerate(axes.split(BLOCK)):
        a, b, own = (_sorted(part @ z.T) for z in sets)
        distances.append(np.abs(a - b).mean(1))
        raw.append(np.abs(own - b).mean())
        if number % 4 == 0:  # a quarter of the directions says enough about images
            a, b, real = (_sorted(_grouped(part @ z.T, n)) for z in groups)
            of_groups.append(np.abs(a - b).mean((0, 2)))
            null.append(np.abs(real - np.roll(real, 1, 1)).mean())
    distances = 1000 * np.concatenate(distances)
    # from groups to all: the distance of two draws falls as 1 / sqrt(n)
    shrink = math.sqrt(n // GROUPS / n)
    return PyramidLevel(
        float(distances.mean()),
        1000 * float(np.mean(raw)),
        1000 * shrink * float(np.mean(null)),
        1000 * np.mean(of_groups, 0),
        float(distances.var() / directions),
    )


def _scale(z: Tensor, groups: int = 1) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of (n, P, C, 49), (n or 1, 1, C, 1) each; a deviation of 1
    where all is alike.

    groups: those of the group of each image, which is its number mod groups.
    """
    parts = [z[group::groups].double() for group in range(groups)]
    mean, std = (
        torch.stack(list(map(f, parts)))[:, None, :, None].float()
        for f in (lambda p: p.mean((0, 1, 3)), lambda p: p.std((0, 1, 3), correction=0))
    )
    group = torch.arange(len(z) if groups > 1 else 1) % groups
    return mean[group], std.where(std > 1e-6, 1.0)[group]


def _normalised(z: Tensor, scale: tuple[Tensor, Tensor]) -> Tensor:
    """(n, P, C, 49) -> (n P, C 49)."""
    return ((z - scale[0]) / scale[1]).flatten(0, 1).flatten(1)


def _grouped(projections: Tensor, n: int) -> Tensor:
    """(D, n P) -> (D, GROUPS, .): image i belongs to group i mod GROUPS; what does not fill a last
    row is left out.
    """
    by_image = projections.view(len(projections), n, -1)[:, : n // GROUPS * GROUPS]
    return by_image.unflatten(1, (-1, GROUPS)).transpose(1, 2).flatten(2)


def _sorted(values: Tensor) -> np.ndarray:
    return np.sort(values.numpy(), -1)  # three times as fast as torch's


def names_of(shape: tuple[int, ...]) -> list[str]:
    """What ``compare`` returns, by name: "mean", then the shorter side of each level in pixels."""
    return ["mean", *(str(min(sides)) for sides in level_shapes(shape))]
