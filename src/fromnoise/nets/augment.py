"""Differentiable augmentation for GANs with few examples (DiffAugment, Zhao et al. 2020, arXiv:2006.10738).

D gets T(x) instead of x, for real and for generated images, with a new random T for each example;
gradients pass through T to the generator. So D cannot memorise the training examples, and G still learns
x, not T(x), as long as the distribution of T(x) determines that of x.

For this reason uncovered areas are filled with 0, mid-grey, and not with the background (-1 in many data)
or with copies of the edge: a grey band or square shows which T was used. Else the augmentation leaks: a
shifted digit on black looks like a digit off the centre, and a generator that shifts its digits passes.

Images are not clipped to [-1, 1] afterwards, since clipping stops gradients.
"""

from typing import Literal

import torch
from torch import Tensor

from ..core.rng import Rng


def round_half_up(side: float) -> int:
    return int(side + 0.5)


def translation(x: Tensor, rng: Rng) -> Tensor:
    """Shifts by whole pixels, up to an eighth of each side."""
    _, C, H, W = x.shape
    rows, rows_there = shifted_index(
        H,
        rng.integers("down", 2 * round_half_up(H / 8) + 1, (len(x),)).to(x.device)
        - round_half_up(H / 8),
    )
    columns, columns_there = shifted_index(
        W,
        rng.integers("right", 2 * round_half_up(W / 8) + 1, (len(x),)).to(x.device)
        - round_half_up(W / 8),
    )
    index = (rows[:, :, None] * W + columns[:, None]).flatten(1)
    there = rows_there[:, :, None] & columns_there[:, None]
    return x.flatten(2).gather(2, index[:, None].expand(-1, C, -1)).view_as(x) * there[:, None]


def shifted_index(side: int, by: Tensor) -> tuple[Tensor, Tensor]:
    """Sources of positions 0 .. side-1 shifted by (B,), cyclic, and whether they are inside: (B,
    side).
    """
    source = torch.arange(side, device=by.device) - by[:, None]
    return source % side, (source >= 0) & (source < side)


def cutout(x: Tensor, rng: Rng) -> Tensor:
    """Sets a rectangle of half of each side, centred anywhere in the image, to 0."""
    inside = []
    for name, side in (("top", x.shape[2]), ("left", x.shape[3])):
        length = round_half_up(side / 2)
        start = (
            rng.integers(name, side + 1 - length % 2, (len(x),)).to(x.device)[:, None] - length // 2
        )
        position = torch.arange(side, device=x.device)
        inside.append((position >= start) & (position < start + length))
    return x * ~(inside[0][:, :, None] & inside[1][:, None])[:, None]


def colour(x: Tensor, rng: Rng) -> Tensor:
    """Brightness + U(-1/2, 1/2); saturation x U(0, 2); contrast x U(1/2, 3/2), about the mean."""
    brightness, saturation, contrast = (
        rng.uniform(name, (len(x), 1, 1, 1)).to(x)
        for name in ("brightness", "saturation", "contrast")
    )
    x = x + (brightness - 0.5)
    if x.shape[1] == 3:  # grey images have no saturation
        grey = x.mean(1, keepdim=True)
        x = grey + 2 * saturation * (x - grey)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (x - mean)


Augmentation = Literal["translation", "cutout", "colour"]
POLICIES = {"translation": translation, "cutout": cutout, "colour": colour}


def augment(x: Tensor, policy: tuple[str, ...], rng: Rng) -> Tensor:
    """Images (B, C, H, W) in [-1, 1], each augmented at random by the policies in turn."""
    for name in policy:
        x = POLICIES[name](x, rng.at(name))
    return x
