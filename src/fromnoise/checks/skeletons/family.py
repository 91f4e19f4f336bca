"""A linear variational autoencoder. This line is the family's line of help."""

import torch
from pydantic import Field
from torch import Tensor, nn

from fromnoise.core.config import BaseConfig
from fromnoise.core.family import Family, Loss, Phase, sum_per_example
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec


class Config(BaseConfig):
    """Each field is an option of `fromnoise train FILE.py`: --latent-dim, --lr."""

    latent_dim: int = Field(8, ge=1, description="size of the code")
    lr: float = Field(3e-3, gt=0, description="learning rate")


class Options(BaseConfig):
    """Each field is an option of `fromnoise sample RUN`."""

    temperature: float = Field(1.0, ge=0, description="scale of the code that is decoded")


PRESETS = {"default": {}, "small": {"latent_dim": 2}}  # values of Config and of the training


class LinearVae(Family):
    """encode and decode make it an autoencoder for figures and metrics: see core/capabilities.py."""

    config: Config

    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        self.latent_dim = config.latent_dim
        self.encoder = nn.Linear(spec.dims, 2 * config.latent_dim)  # mean and log variance
        self.decoder = nn.Linear(config.latent_dim, spec.dims)

    def phases(self) -> tuple[Phase, ...]:
        """One step of training: which attributes are updated by Adam, at which rate."""
        return (Phase("all", trains=("encoder", "decoder"), lr=self.config.lr),)

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        """Minus the ELBO with a normal p(x | z) of variance 1. All random numbers come from rng."""
        mean, log_variance = self.encoder(batch.x.flatten(1)).chunk(2, dim=1)
        z = mean + (log_variance / 2).exp() * rng.normal("eps", mean.shape)
        error = sum_per_example((self.decode(z) - batch.x).square() / 2).mean()
        kl = ((mean.square() + log_variance.exp() - log_variance - 1) / 2).sum(1).mean()
        return Loss(error + kl, {"error": error, "kl": kl})

    def sample(self, n: int, y: Tensor | None, options: Options, rng: Rng) -> Tensor:
        """n new examples (n, *spec.shape): images in [-1, 1], vectors in the units of the data."""
        x = self.decode(options.temperature * rng.normal("z", (n, self.latent_dim)))
        return x.clamp(-1, 1) if self.spec.kind == "image" else x

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The code (B, latent_dim)."""
        return torch.chunk(self.encoder(x.flatten(1)), 2, dim=1)[0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """x (B, *spec.shape)"""
        return self.decoder(z).view(-1, *self.spec.shape)


FAMILY = LinearVae
