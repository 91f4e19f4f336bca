"""Autoencoder: reconstruct x through a bottleneck. Denoising: reconstruct it from a corrupted copy.

    z = encoder(x),  x_hat = decoder(z),  Loss = 1/2 ||x_hat - x||^2   or the cross-entropy for x in [0, 1]

A denoising autoencoder (Vincent et al. 2008) encodes a corrupted copy of x and reconstructs x. An
autoencoder has no prior, so to sample from it a density is fitted to its codes afterwards (ex-post density
estimation, Ghosh et al. 2020, arXiv:1903.12436).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ..core.config import BaseConfig, Channels, Dimensions, Factor, LearningRate, Width
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase, collect, sum_per_example
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, Labels
from ..nets.latent import encoder_decoder
from ..nets.mlp import Activation
from ..probability.mixture import GaussianMixture

MAX_CODES = 10_000  # training codes that the ex-post density is fitted to


class Config(BaseConfig):
    latent_dim: Dimensions = Field(16, description="dimensions of the code z")
    network: Literal["mlp", "conv"] = Field("mlp", description="fully connected or convolutional")
    hidden: tuple[Width, ...] = Field(
        (400, 400), description="mlp: widths of the encoder's layers, mirrored in the decoder"
    )
    activation: Activation = Field("silu", description="mlp: non-linearity")
    width: Channels = Field(32, description="conv: channels at the finest resolution")
    reconstruction: Literal["l2", "cross-entropy"] = Field(
        "l2", description="1/2 squared error, or cross-entropy of x in [0, 1]"
    )
    corruption: Literal["none", "gaussian", "mask", "salt-pepper"] = Field(
        "none", description="denoising: corruption of the input"
    )
    corruption_level: Factor = Field(
        0.5, description="sigma for pixels in [0, 1], or the share of components hit"
    )
    density: Literal["gaussian", "mixture"] = Field(
        "mixture", description="fitted to the codes afterwards, to sample from"
    )
    components: int = Field(10, ge=1, le=500, description="of the mixture")
    lr: LearningRate = 1e-3


class Options(BaseConfig):
    temperature: Factor = Field(
        1.0, description="scales the spread of the codes around their component"
    )


PRESETS = {
    "default": {},
    # the lecture's network: 784-512-z-512-784, ReLU, sigmoid output
    "lecture": dict(
        network="mlp",
        hidden=(512,),
        activation="relu",
        latent_dim=2,
        optimizer="adam",
        batch_size=128,
    ),
    "mlp": dict(network="mlp", hidden=(400, 400), latent_dim=16),
    "conv": dict(network="conv", width=32, latent_dim=32),
    "denoising": dict(
        network="mlp",
        hidden=(512,),
        activation="relu",
        latent_dim=64,
        corruption="gaussian",
        optimizer="adam",
    ),
    "table": dict(network="mlp", hidden=(128, 128), latent_dim=8),
}


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    if spec.kind == "vector":
        return "table"
    return "conv" if spec.shape[0] > 1 or max(spec.shape) > 32 else "mlp"


class Autoencoder(Family):
    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        c = config
        if c.network == "conv" and spec.kind != "image":
            raise UsageError("--network conv is for images: use mlp for this data")
        if c.reconstruction == "cross-entropy" and spec.kind != "image":
            raise UsageError("--reconstruction cross-entropy is for images: use l2 for this data")
        self.encoder, self.decoder = encoder_decoder(
            c.network,
            spec.shape,
            c.latent_dim,
            c.latent_dim,
            hidden=c.hidden,
            width=c.width,
            activation=c.activation,
        )
        self.density = GaussianMixture(c.components if c.density == "mixture" else 1, c.latent_dim)
        self.latent_dim = c.latent_dim
        self.squash = spec.kind == "image"  # images end in a sigmoid, scaled to [-1, 1]

    def phases(self):
        return (Phase("reconstruction", trains=("encoder", "decoder"), lr=self.config.lr),)

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        x = batch.x
        output = self.decoder(self.encoder(self.corrupt(x, rng))).to(x.dtype)  # B *shape
        x_hat = self.finish(output)
        if self.config.reconstruction == "l2":
            # 1/2 ||x_hat - x||^2 with images on the scale [0, 1], as in the lecture
            unit = 0.5 if self.squash else 1.0
            error = 0.5 * sum_per_example((unit * (x_hat - x)).square())  # (B,)
        else:
            target = (x + 1) * 0.5
            error = sum_per_example(F.softplus(output) - target * output)  # (B,) nats
        mse = (x_hat - x).square().mean()
        return Loss(error.mean(), {"reconstruction": error.mean(), "mse": mse})

    def corrupt(self, x: Tensor, rng: Rng, level: float | None = None) -> Tensor:
        """x as the encoder sees it in training; level replaces --corruption-level."""
        strength: float = self.config.corruption_level if level is None else level
        if self.config.corruption == "gaussian":
            unit = 2.0 if self.squash else 1.0  # sigma refers to [0, 1]
            return x + unit * strength * rng.normal("corruption", x.shape)
        if self.config.corruption == "mask":
            hit = rng.uniform("corruption", x.shape) < strength
            return torch.where(hit, -1.0 if self.squash else 0.0, x)
        if self.config.corruption == "salt-pepper":
            u = rng.uniform("corruption", x.shape)
            return torch.where(u < strength / 2, -1.0, torch.where(u < strength, 1.0, x))
        return x

    def finish(self, output: Tensor) -> Tensor:
        return 2 * output.sigmoid() - 1 if self.squash else output

    def encode(self, x: Tensor, y: Labels = None) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor, y: Labels = None) -> Tensor:
        return self.finish(self.decoder(z))

    def reconstruct(self, x: Tensor, y: Labels = None) -> Tensor:
        return self.decode(self.encode(x))

    def fit(self, batches, rng: Rng) -> None:
        """The density of the codes of clean training data."""
        codes = collect((self.encode(batch.x) for batch in batches()), MAX_CODES)
        self.density.fit(codes, rng)

    def draw_latents(self, n: int, options: Options, rng: Rng) -> Tensor:
        """n draws from the density of the codes, (n, latent_dim)."""
        return self.density.sample(n, rng, options.temperature)

    def sample(self, n: int, y: Labels, options: Options, rng: Rng) -> Tensor:
        return self.decode(self.draw_latents(n, options, rng))


FAMILY = Autoencoder
