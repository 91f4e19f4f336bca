"""Likelihoods p(x | z), given the outputs of a decoder.

A likelihood turns the decoder's output ``params`` (B, *shape) and a learned ``logvar`` (broadcast to it)
into -log p in nats for each component (B, *shape), a mean and a sample. Images are in [-1, 1].
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import UsageError
from ..core.rng import Rng
from ..core.spec import DataSpec
from .cells import Cells
from .gaussian import log_normal

LikelihoodName = Literal["bernoulli", "gaussian", "logistic", "table"]
NO_DENSITY_OF_CATEGORIES = (
    "a density over one-hot columns is no probability of a category: use the family vae"
)


class Bernoulli:
    """Binary pixels: softplus(l) - x l nats for logits l. On grey values it is a cross-entropy
    only.
    """

    continuous = False

    def __init__(self, spec: DataSpec):
        pass  # the same for all data

    def nll(self, params: Tensor, x: Tensor, logvar: Tensor) -> Tensor:
        target = (x + 1) * 0.5
        return F.softplus(params) - target * params

    def mean(self, params: Tensor, logvar: Tensor) -> Tensor:
        return 2 * params.sigmoid() - 1

    def draw(self, params: Tensor, logvar: Tensor, rng: Rng) -> Tensor:
        return (rng.uniform("x", params.shape) < params.sigmoid()).float() * 2 - 1


class Gaussian:
    """N(params, exp(logvar)): learned variances that depend on no input ("sigma-VAE", Rybkin et al. 2021).

    logvar comes from the caller and broadcasts against x: one number for all components, or one for each
    (``OutputVariance`` of nets/latent.py has one for each channel of images or column of vectors).
    """

    continuous = True

    def __init__(self, spec: DataSpec):
        pass

    def nll(self, params: Tensor, x: Tensor, logvar: Tensor) -> Tensor:
        return -log_normal(x, params, logvar)

    def mean(self, params: Tensor, logvar: Tensor) -> Tensor:
        return params

    def draw(self, params: Tensor, logvar: Tensor, rng: Rng) -> Tensor:
        return params + (0.5 * logvar).exp() * rng.normal("x", params.shape)


class Logistic:
    """A logistic density cut into the data's levels (Salimans et al. 2017, eq. 2): exact mass of each level.

    P(x) = S((x + h - m) / s) - S((x - h - m) / s), S the logistic function, h half the distance of two
    levels, s = exp(logvar / 2); the lowest and the highest level take the tails.
    """

    continuous = False

    def __init__(self, spec: DataSpec):
        self.half = 1 / (spec.levels - 1)

    def nll(self, params: Tensor, x: Tensor, logvar: Tensor) -> Tensor:
        inverse_scale = (-0.5 * logvar).exp()
        upper = (x + self.half - params) * inverse_scale
        lower = (x - self.half - params) * inverse_scale
        # log(S(u) - S(l)) = log S(u) + log S(-l) + log(1 - exp(l - u)), without cancellation
        inside = F.softplus(-upper) + F.softplus(lower) - torch.log(-torch.expm1(lower - upper))
        low = F.softplus(-upper)
        high = F.softplus(lower)
        return torch.where(x <= -1 + self.half, low, torch.where(x >= 1 - self.half, high, inside))

    def mean(self, params: Tensor, logvar: Tensor) -> Tensor:
        return params.clamp(-1, 1)

    def draw(self, params: Tensor, logvar: Tensor, rng: Rng) -> Tensor:
        u = rng.uniform("x", params.shape).clamp(1e-6, 1 - 1e-6)
        x = params + (0.5 * logvar).exp() * (u.log() - (-u).log1p())
        return ((x.clamp(-1, 1) + 1) / (2 * self.half)).round() * (2 * self.half) - 1


class TableLikelihood:
    """Rows of a table: N(params, exp(logvar)) for each number, a categorical for each one-hot block.

    A number on a grid has the probability of its cell (probability/cells.py), any other one a density.
    """

    continuous = False

    def __init__(self, spec: DataSpec):
        self.blocks = spec.blocks or (1,) * spec.dims
        self.cells = Cells(spec)

    def split(self, *tensors: Tensor):
        """The blocks of each tensor (.., D), side by side."""
        return zip(*(tensor.split(self.blocks, 1) for tensor in tensors))

    def nll(self, params: Tensor, x: Tensor, logvar: Tensor) -> Tensor:
        parts = []
        for part, target, scale in self.split(params, x, logvar):
            if part.shape[1] == 1:
                parts.append(-log_normal(target, part, scale))
            else:
                parts.append(-(target * part.log_softmax(1)))
        nll = torch.cat(parts, 1)
        if not self.cells.is_cell.any():
            return nll
        mass = self.cells.log_mass(x, params, logvar).to(nll.dtype)
        return torch.where(self.cells.is_cell.to(x.device), -mass, nll)

    def mean(self, params: Tensor, logvar: Tensor) -> Tensor:
        return softmax_of_blocks(params, self.blocks)

    def draw(self, params: Tensor, logvar: Tensor, rng: Rng) -> Tensor:
        parts = []
        for i, (part, scale) in enumerate(self.split(params, logvar)):
            if part.shape[1] == 1:
                parts.append(part + (0.5 * scale).exp() * rng.normal(f"x{i}", part.shape))
            else:
                u = rng.uniform(f"x{i}", (len(part), 1))
                index = (part.softmax(1).cumsum(1) < u).sum(1).clamp(max=part.shape[1] - 1)
                parts.append(F.one_hot(index, part.shape[1]).to(part.dtype))
        return torch.cat(parts, 1)


def softmax_of_blocks(x: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """x (B, D) with the softmax of each block of several columns; numbers stay. No blocks: x."""
    if not blocks:
        return x
    parts = [part.softmax(1) if part.shape[1] > 1 else part for part in x.split(blocks, 1)]
    return torch.cat(parts, 1)


LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "logistic": Logistic,
    "table": TableLikelihood,
}


def default_likelihood(spec: DataSpec) -> LikelihoodName:
    """Binary images: bernoulli; levels: logistic; categories or cells: table; else gaussian."""
    if spec.kind == "image":
        return "bernoulli" if spec.levels == 2 else "logistic"
    return "table" if spec.has_categories or spec.has_cells else "gaussian"


def likelihood_for(spec: DataSpec, name: str) -> LikelihoodName:
    """``name``, or for "auto" the likelihood that fits the data. Raises UsageError."""
    suited = default_likelihood(spec)
    if name == "auto":
        return suited
    if name in ("bernoulli", "logistic") and spec.kind != "image":
        raise UsageError(f"--likelihood {name} is for images: use {suited} for this data")
    if name == "table" and spec.kind != "vector":
        raise UsageError(
            "--likelihood table is for tables: use bernoulli, gaussian or logistic for images"
        )
    return name


def why_no_density(name: str, spec: DataSpec) -> str:
    """Why this p(x | z) is not normalised over data of this form, or an empty string."""
    if name == "bernoulli" and spec.levels != 2:
        return (
            "cross-entropy on grey values is no likelihood: "
            "use --binarise dynamic or --likelihood logistic"
        )
    if name == "gaussian" and spec.has_categories:
        return (
            "a density over one-hot columns is no probability of a category: use --likelihood table"
        )
    return ""


def dequantisation_nats(spec: DataSpec) -> float:
    """log of the volume of one cell, of levels or of a table's grid, nats.

    For u uniform over the cell, E log p(x + u) + this is a lower bound on log P(x) (Theis et al. 2016).
    """
    if spec.has_cells:
        return Cells(spec).log_volume()
    return spec.dims * math.log(2 / (spec.levels - 1)) if spec.kind == "image" else 0.0
