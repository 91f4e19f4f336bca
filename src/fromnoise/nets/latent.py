"""Networks of models with latent variables: encoders x -> q(z | x) and decoders z -> p(x | z).

They return the parameters of distributions. Drawing from them is left to the caller.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.spec import Condition, DataSpec, ImageShape
from .conv import (
    ConvDecoder,
    ConvEncoder,
    Fold,
    Unfold,
    beside,
    conv3,
    conv_chain,
    pyramid,
    residual_blocks,
    with_planes,
    zeroed,
)
from .mlp import MLP

TOP_HIDDEN = 256  # features between the coarsest resolution and the latent vector of a ladder

Gaussian = tuple[Tensor, Tensor]  # mu, logvar
Draw = Callable[[int, Gaussian | None, Gaussian | None], Tensor]  # level, prior, posterior -> z


def encoder_decoder(
    network: str,
    shape: tuple[int, ...],
    n_code: int,
    n_up: int,
    hidden: Sequence[int],
    width: int,
    activation: str,
    n_condition: int = 0,
) -> tuple[nn.Module, nn.Module]:
    """An encoder x -> (B, n_up) and a decoder (B, n_code) -> (B, *shape), "mlp" or "conv"."""
    if network == "conv":
        encoder = ConvEncoder(shape, n_up, width, n_condition)
        return encoder, ConvDecoder(n_code, shape, width, n_condition)
    dims = math.prod(shape)
    encoder = MLP(dims, hidden, n_up, activation, n_condition)
    decoder = MLP(n_code, hidden[::-1], dims, activation, n_condition)
    return encoder, Reshaped(decoder, shape)


class Reshaped(nn.Module):
    """A network with its output (B, prod(shape)) reshaped to (B, *shape)."""

    def __init__(self, net: nn.Module, shape: tuple[int, ...]):
        super().__init__()
        self.net = net
        self.shape = shape

    def forward(self, z: Tensor, condition: Condition = None) -> Tensor:
        return self.net(z, condition).view(len(z), *self.shape)


class EncoderDecoder(nn.Module):
    """One latent vector. encoder: x -> mu and logvar of q(z | x), (B, 2 latent_dim);
    decoder: z (B, latent_dim) -> parameters of p(x | z), (B, *shape)."""

    def __init__(self, network: str, shape: tuple[int, ...], latent_dim: int, **options):
        super().__init__()
        self.encoder, self.decoder = encoder_decoder(
            network, shape, latent_dim, 2 * latent_dim, **options
        )


class OutputVariance(nn.Module):
    """log variance of p(x | z): one number per channel of an image or column of a vector.

    sigma: a fixed standard deviation; None: the variance is learned.
    """

    def __init__(self, spec: DataSpec, sigma: float | None):
        super().__init__()
        shape = (1, spec.shape[0], 1, 1) if spec.kind == "image" else (1, spec.shape[0])
        if sigma is None:
            self.logvar = nn.Parameter(torch.full(shape, -2.0))
        else:
            logvar = 2 * float(torch.tensor(sigma).log())
            self.register_buffer("logvar", torch.full(shape, logvar))

    def forward(self) -> Tensor:
        return self.logvar.clamp(-16, 10)


class Ladder(nn.Module):
    """A latent vector z_0 and latent maps z_1, z_2, ...: coarse content first, details later.

    ``bottom_up`` turns x into features. ``top_down`` computes level by level the prior
    p(z_l | z_<l) and, from features, the posterior q(z_l | z_<l, x); both share its state
    (Soenderby et al. 2016; Kingma et al. 2016; Child 2021). A map's posterior is given relative to
    its prior: outputs of zero mean that q = p.
    """

    def __init__(
        self,
        shape: ImageShape,
        latent_dim: int,
        maps: tuple[int, ...],
        width: int,
        blocks: int,
        n_condition: int,
    ):
        super().__init__()
        patch, sizes, channels = pyramid(shape, width, 8, widest=2)
        self.coarse_size = sizes[-1]
        self.sizes = sizes[::-1]
        self.level_shapes = [(latent_dim,), *((c, *self.coarse_size) for c in maps)]
        self._add_bottom_up(shape[0] * patch**2 + n_condition, channels, patch, blocks)
        self._add_top_level(latent_dim, n_condition, channels[-1])
        self._add_map_levels(maps, channels[-1], blocks)
        self._add_output(channels[::-1], patch, shape, blocks)

    def _add_bottom_up(self, n_in: int, channels: list[int], patch: int, blocks: int) -> None:
        self.fold = Fold(patch)
        self.stem = conv3(n_in, channels[0])
        self.up = nn.ModuleList(residual_blocks(c, blocks) for c in channels)
        self.halve = conv_chain(channels, stride=2)

    def _add_top_level(self, latent_dim: int, n_condition: int, coarse: int) -> None:
        n_coarse = coarse * math.prod(self.coarse_size)
        self.to_top = two_layers(n_coarse, 2 * latent_dim)
        self.from_top = two_layers(latent_dim + n_condition, n_coarse)

    def _add_map_levels(self, maps: tuple[int, ...], coarse: int, blocks: int) -> None:
        self.down = nn.ModuleList(residual_blocks(coarse, blocks) for _ in maps)
        self.prior = nn.ModuleList(zeroed(conv3(coarse, 2 * c)) for c in maps)
        self.posterior = nn.ModuleList(
            nn.Sequential(conv3(2 * coarse, coarse), nn.SiLU(), zeroed(nn.Conv2d(coarse, 2 * c, 1)))
            for c in maps
        )
        self.join = nn.ModuleList(nn.Conv2d(c, coarse, 1) for c in maps)

    def _add_output(self, channels: list[int], patch: int, shape: ImageShape, blocks: int) -> None:
        self.settle = residual_blocks(channels[0], blocks)
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairwise(channels)
        )
        self.finish = nn.ModuleList(residual_blocks(c, blocks) for c in channels[1:])
        out = conv3(channels[-1], shape[0] * patch**2)
        self.out = nn.Sequential(nn.SiLU(), out, Unfold(patch, shape))

    def bottom_up(self, x: Tensor, condition: Condition) -> list[Tensor]:
        """x -> mu and logvar of q(z_0 | x), (B, 2 latent_dim), and features for the maps."""
        h = self.up[0](self.stem(with_planes(self.fold(x), condition)))
        for halve, blocks in zip(self.halve, self.up[1:]):
            h = blocks(halve(F.silu(h)))
        return [self.to_top(F.silu(h).flatten(1)), h]

    def top_down(self, draw: Draw, features: list[Tensor] | None, condition: Condition) -> Tensor:
        """Parameters of p(x | z), (B, *shape), with z_l = draw(l, prior, posterior).

        The prior is None at level 0, where it is N(0, I); the posterior is None without features.
        """
        z = draw(0, None, None if features is None else features[0].chunk(2, 1))
        h = self.from_top(beside(z, condition)).view(len(z), -1, *self.coarse_size)
        levels = zip(self.down, self.prior, self.posterior, self.join)
        for level, (down, to_prior, to_posterior, join) in enumerate(levels, 1):
            h = down(h)
            prior = to_prior(F.silu(h)).chunk(2, 1)
            posterior = None
            if features is not None:
                shift = to_posterior(torch.cat([h, features[1]], 1)).chunk(2, 1)
                posterior = (prior[0] + shift[0], prior[1] + shift[1])
            h = h + join(draw(level, prior, posterior))
        h = self.settle(h)
        for enlarge, finish, (height, width) in zip(self.enlarge, self.finish, self.sizes[1:]):
            h = finish(enlarge(F.silu(h))[:, :, :height, :width])
        return self.out(h)


def two_layers(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, TOP_HIDDEN), nn.SiLU(), nn.Linear(TOP_HIDDEN, n_out))


def repeat(values: Tensor | None, k: int) -> Tensor | None:
    """(B, ...) -> (B * k, ...), each row k times in a row."""
    return values if values is None or k == 1 else values.repeat_interleave(k, 0)


def without_bfloat16(values: Tensor) -> Tensor:
    """bfloat16 becomes float32; other types stay."""
    return values.float() if values.dtype == torch.bfloat16 else values


def bounded(outputs: Gaussian) -> Gaussian:
    """mu and logvar with logvar in [-20, 20], so that 1 / variance is finite; not in bfloat16."""
    mu, logvar = outputs
    return without_bfloat16(mu), without_bfloat16(logvar).clamp(-20, 20)
