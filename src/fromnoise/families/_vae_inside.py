"""The VAE inside a VAE-GAN: its configuration, and what the model takes from it.

Its bound on log p(x) holds for any encoder, decoder and training.
"""

from typing import Any

from torch import Tensor

from ..core.capabilities import Bound
from ..core.config import BaseConfig
from ..core.errors import UsageError
from ..core.family import Family, delegate, sum_per_example
from ..core.rng import Rng
from ..core.spec import DataSpec, Labels, require_labels
from ..probability import adversarial
from ..probability.gaussian import reparameterise
from . import vae

SHARED = ("latent_dim", "network", "hidden", "activation", "width", "conditional")
WHY_NO_LIKELIHOOD = (
    "its reconstruction error is no likelihood of x: "
    "use --objective modern --reconstruction likelihood"
)


class HasVAE(Family):
    """Codes, reconstructions and likelihood by ``self.vae``."""

    def add_vae(self) -> None:
        c = self.config
        self.vae = vae.VAE(vae_config(c, self.spec), self.spec)
        self.latent_dim = self.standard_dims = c.latent_dim
        self.continuous = self.vae.continuous
        self.bound: Bound = self.vae.bound if has_likelihood(c) else "none"
        self.reason = self.vae.reason if has_likelihood(c) else WHY_NO_LIKELIHOOD

    def reconstruction_error(self, params: Tensor, x: Tensor) -> Tensor:
        """(B,) nats, or the sum of absolute differences."""
        if self.config.reconstruction == "l1":
            return sum_per_example((self.to_data(params) - x).abs())
        return self.vae.nll(params, x)

    def to_data(self, params: Tensor) -> Tensor:
        """The mean of p(x | z) as D sees it; the most probable category of a table's block."""
        x = self.vae.likelihood.mean(params.float(), self.vae.scale())
        return x if self.spec.kind == "image" else adversarial.hard_categories(x, self.spec.blocks)

    def draw_code(self, x: Tensor, y: Labels, rng: Rng) -> Tensor:
        """z ~ q(z | x), (B, latent_dim)."""
        mu, logvar = self.vae.q_parameters(x, y)
        return reparameterise(mu, logvar, rng.normal("eps", mu.shape))

    def decode(self, z: Tensor, y: Labels = None) -> Tensor:
        return self.to_data(self.vae.p_parameters(z, y))

    def reconstruct(self, x: Tensor, y: Labels = None) -> Tensor:
        return self.decode(self.encode(x, y), y)

    def draw_latents(self, n: int, options: Any, rng: Rng) -> Tensor:
        return options.temperature * rng.normal("z", (n, self.latent_dim))

    encode = delegate("vae", "encode")
    posterior = delegate("vae", "posterior")
    kl_per_dimension = delegate("vae", "kl_per_dimension")
    log_likelihood = delegate("vae", "log_likelihood")
    log_weights = delegate("vae", "log_weights")
    log_densities = delegate("vae", "log_densities")
    draw_posterior = delegate("vae", "draw_posterior")


def has_likelihood(c: BaseConfig) -> bool:
    return c.objective == "modern" and c.reconstruction == "likelihood"


def vae_config(c: BaseConfig, spec: DataSpec) -> vae.Config:
    """Of the VAE inside. Without a likelihood its outputs are only squashed to the data's range."""
    shared = c.model_dump(include=set(SHARED))
    if has_likelihood(c):
        return vae.Config(likelihood=c.likelihood, **shared)
    name = "bernoulli" if spec.kind == "image" else "auto"
    return vae.Config(likelihood=name, sigma=1.0, **shared)


def check(c: BaseConfig, spec: DataSpec) -> None:
    """Options of a VAE-GAN that cannot be combined. Raises UsageError."""
    if spec.kind == "tokens":
        raise UsageError("the family vaegan is for images, points and tables")
    if c.network == "conv" and spec.kind != "image":
        raise UsageError("--network conv is for images: use mlp for this data")
    if c.objective == "larsen" and (c.reconstruction != "likelihood" or c.likelihood != "auto"):
        raise UsageError(
            "--objective larsen reconstructs D's features: "
            "use it without --reconstruction and --likelihood"
        )
    if c.reconstruction == "l1" and c.likelihood != "auto":
        raise UsageError("--reconstruction l1 replaces the likelihood: leave --likelihood out")
    if c.adversarial_start + c.adversarial_ramp > 1:
        raise UsageError(
            "--adversarial-start and --adversarial-ramp are shares of one training: "
            "together at most 1"
        )
    if c.conditional or c.label_weight:
        require_labels(spec, "--conditional" if c.conditional else "--label-weight")
    if c.conditional and c.label_weight:
        raise UsageError(
            "--conditional gives the encoder the label that --label-weight predicts from it: "
            "use one of them"
        )
    if c.labelled < 1 and not c.label_weight:
        raise UsageError("--labelled is of the classifier's labels: give --label-weight too")
