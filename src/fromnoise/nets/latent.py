"""Networks with latent variables: what goes up from x, what comes down from z.

Both networks here have the same two halves. ``bottom_up`` turns x into features. ``top_down`` walks from the
top latent variable to the parameters of p(x | z) and at each level asks its caller's ``draw(level, prior,
posterior)`` for a value: the network offers the outputs (mu, logvar) that describe a prior (None: standard
normal) and, if it was given features, a posterior. What is drawn, and what is done with the two, is the
business of the caller: no probability happens here.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import (
    ConvDecoder,
    ConvEncoder,
    Fold,
    ResidualBlock,
    Unfold,
    fold_size,
    sizes_down,
    with_planes,
)
from .mlp import MLP

Pair = tuple[Tensor, Tensor]  # mu, logvar
Draw = Callable[[int, Pair | None, Pair | None], Tensor]


def encoder_decoder(
    network: str,
    shape: tuple[int, ...],
    n_code: int,
    n_up: int,
    hidden=(400, 400),
    width=32,
    activation="silu",
    n_condition=0,
) -> tuple[nn.Module, nn.Module]:
    """An encoder x -> (B, n_up) and a decoder (B, n_code) -> (B, *shape), "mlp" or "conv"."""
    if network == "conv":
        return ConvEncoder(shape, n_up, width, n_condition), ConvDecoder(
            n_code, shape, width, n_condition
        )
    dims = math.prod(shape)
    encoder = MLP(dims, hidden, n_up, activation, n_condition)
    decoder = MLP(n_code, hidden[::-1], dims, activation, n_condition)
    return encoder, Reshaped(decoder, shape)


class Reshaped(nn.Module):
    """A network whose output (B, prod(shape)) is seen as (B, *shape)."""

    def __init__(self, net: nn.Module, shape: tuple[int, ...]):
        super().__init__()
        self.net, self.shape = net, shape

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.net(z, condition).view(len(z), *self.shape)


class Flat(nn.Module):
    """One latent vector: an encoder and a decoder."""

    def __init__(self, network: str, shape: tuple[int, ...], latent_dim: int, **options):
        super().__init__()
        self.level_shapes = [(latent_dim,)]
        self.encoder, self.decoder = encoder_decoder(
            network, shape, latent_dim, 2 * latent_dim, **options
        )

    def bottom_up(self, x: Tensor, condition: Tensor | None) -> list[Tensor]:
        return [self.encoder(x, condition)]

    def top_down(
        self, draw: Draw, features: list[Tensor] | None, condition: Tensor | None
    ) -> Tensor:
        posterior = None if features is None else features[0].chunk(2, 1)
        return self.decoder(draw(0, None, posterior), condition)


class Ladder(nn.Module):
    """A latent vector at the top, then latent maps: coarse content first, details later, inferred on the way down.

    Up and down share the ladder's rungs: the posterior of a map sees the features of x at that resolution and
    the state of the way down (Soenderby et al. 2016; Kingma et al. 2016; Child 2021). The posterior is given
    relative to the prior: outputs of zero mean "nothing to add".
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        maps: tuple[int, ...],
        width: int,
        blocks: int,
        n_condition=0,
    ):
        super().__init__()
        patch = fold_size(shape)
        sizes = sizes_down(shape, patch, smallest=8)
        channels = [min(width * 2**i, 2 * width) for i in range(len(sizes))]
        coarse, self.coarse_size = channels[-1], sizes[-1]
        self.sizes = sizes[::-1]
        self.level_shapes = [(latent_dim,), *((c, *self.coarse_size) for c in maps)]

        def stack(c):
            return nn.Sequential(*(ResidualBlock(c) for _ in range(blocks)))

        hidden = 256

        self.fold = Fold(patch)
        self.stem = nn.Conv2d(shape[0] * patch**2 + n_condition, channels[0], 3, padding=1)
        self.up = nn.ModuleList(stack(c) for c in channels)
        self.halve = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(channels, channels[1:])
        )
        n_coarse = coarse * math.prod(self.coarse_size)
        self.to_top = nn.Sequential(
            nn.Linear(n_coarse, hidden), nn.SiLU(), nn.Linear(hidden, 2 * latent_dim)
        )
        self.from_top = nn.Sequential(
            nn.Linear(latent_dim + n_condition, hidden), nn.SiLU(), nn.Linear(hidden, n_coarse)
        )

        self.down = nn.ModuleList(stack(coarse) for _ in maps)
        self.prior = nn.ModuleList(nn.Conv2d(coarse, 2 * c, 3, padding=1) for c in maps)
        self.posterior = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(2 * coarse, coarse, 3, padding=1), nn.SiLU(), nn.Conv2d(coarse, 2 * c, 1)
            )
            for c in maps
        )
        self.join = nn.ModuleList(nn.Conv2d(c, coarse, 1) for c in maps)
        for layer in [*self.prior, *(p[-1] for p in self.posterior)]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

        self.settle = stack(coarse)
        back = channels[::-1]
        self.enlarge = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in zip(back, back[1:])
        )
        self.finish = nn.ModuleList(stack(c) for c in back[1:])
        self.out = nn.Sequential(
            nn.SiLU(), nn.Conv2d(back[-1], shape[0] * patch**2, 3, padding=1), Unfold(patch, shape)
        )

    def bottom_up(self, x: Tensor, condition: Tensor | None) -> list[Tensor]:
        h = self.up[0](self.stem(with_planes(self.fold(x), condition)))
        for halve, stack in zip(self.halve, self.up[1:]):
            h = stack(halve(F.silu(h)))
        return [self.to_top(F.silu(h).flatten(1)), h]

    def top_down(
        self, draw: Draw, features: list[Tensor] | None, condition: Tensor | None
    ) -> Tensor:
        z = draw(0, None, None if features is None else features[0].chunk(2, 1))
        h = self.from_top(z if condition is None else torch.cat([z, condition], 1))
        h = h.view(len(z), -1, *self.coarse_size)
        for level, (down, to_prior, to_posterior, join) in enumerate(
            zip(self.down, self.prior, self.posterior, self.join)
        ):
            h = down(h)
            prior = to_prior(F.silu(h)).chunk(2, 1)
            posterior = None
            if features is not None:
                shift = to_posterior(torch.cat([h, features[1]], 1)).chunk(2, 1)
                posterior = (prior[0] + shift[0], prior[1] + shift[1])
            h = h + join(draw(level + 1, prior, posterior))
        h = self.settle(h)
        for enlarge, finish, (height, width) in zip(self.enlarge, self.finish, self.sizes[1:]):
            h = finish(enlarge(F.silu(h))[:, :, :height, :width])
        return self.out(h)
