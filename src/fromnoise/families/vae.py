"""Variational autoencoder (Kingma & Welling 2014, "Auto-Encoding Variational Bayes", arXiv:1312.6114).

    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z)) = ELBO
    q(z | x) = N(mu(x), diag(exp(logvar(x)))),   p(z) = N(0, I),   z = mu + exp(logvar / 2) eps

With --network ladder z is a vector and several maps: families/hierarchical_vae.py.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from ..core.capabilities import Bound
from ..core.config import BaseConfig, Channels, Dimensions, Factor, LearningRate, Share, Width
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase, sum_per_example
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, Labels, require_labels
from ..nets.latent import EncoderDecoder, OutputVariance, bounded, repeat, without_bfloat16
from ..nets.mlp import Activation
from ..probability.gaussian import importance_weighted_bound, kl_normal, log_normal, reparameterise
from ..probability.inference import Inference, Level
from ..probability.likelihood import LIKELIHOODS, LikelihoodName, likelihood_for, why_no_density


class Config(BaseConfig):
    latent_dim: Dimensions = Field(16, description="dimensions of the latent vector z")
    network: Literal["mlp", "conv", "ladder"] = Field("mlp", description="ladder: hierarchical")
    hidden: tuple[Width, ...] = Field(
        (400, 400), description="mlp: widths of the encoder's layers, mirrored in the decoder"
    )
    activation: Activation = Field("silu", description="mlp: non-linearity")
    width: Channels = Field(32, description="conv, ladder: channels at full resolution")
    blocks: int = Field(2, ge=1, le=16, description="ladder: residual blocks at each resolution")
    maps: tuple[Width, ...] = Field((6,), description="ladder: channels of each latent map")
    likelihood: Literal["auto", LikelihoodName] = Field(
        "auto", description="p(x|z); logistic: discretised; table: of mixed columns"
    )
    sigma: float | None = Field(
        None, ge=1e-3, le=100, description="standard deviation of p(x|z) for x in [-1, 1] [learned]"
    )
    objective: Literal["elbo", "iwae"] = Field(
        "elbo", description="iwae: importance-weighted bound"
    )
    k: int = Field(8, ge=2, le=1000, description="iwae: samples of z for each example")
    beta: float = Field(
        1.0, ge=0, description="weight of the KL (Higgins et al. 2017); 1: the ELBO"
    )
    kl_warmup: Share = Field(0.0, description="share of training in which beta grows")
    free_bits: float = Field(0.0, ge=0, description="nats of KL per latent dimension without cost")
    conditional: bool = Field(False, description="learn p(x | y): encoder and decoder get labels")
    lr: LearningRate = 1e-3


class Options(BaseConfig):
    temperature: Factor = Field(1.0, description="scales the standard deviation of z")
    draw: Literal["auto", "mean", "sample"] = Field(
        "auto", description="mean of p(x|z), or x drawn from it; auto: mean for images"
    )


PRESETS = {
    "default": {},
    "lecture": dict(network="mlp", hidden=(512,), activation="relu", latent_dim=2)
    | dict(likelihood="gaussian", optimizer="adam", batch_size=128),
    "mlp": dict(network="mlp", hidden=(400, 400), latent_dim=40),
    "conv": dict(network="conv", width=32, latent_dim=32),
    "iwae": dict(network="mlp", hidden=(400, 400), latent_dim=40, objective="iwae", k=8),
    "table": dict(network="mlp", hidden=(128, 128), latent_dim=8),
    "ladder": dict(network="ladder", width=32, latent_dim=32, maps=(6,), lr=2e-3, ema=0.998),
}


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    if spec.kind == "vector":
        return "table"
    return "conv" if spec.shape[0] > 1 or max(spec.shape) > 32 else "mlp"


class VAE(Family):
    def __new__(cls, config: Config | None = None, spec: DataSpec | None = None):
        """VAE(config, spec) is a HierarchicalVAE for --network ladder, as a Path is a PosixPath."""
        if cls is VAE and config is not None and config.network == "ladder":
            from .hierarchical_vae import HierarchicalVAE

            return super().__new__(HierarchicalVAE)
        return super().__new__(cls)

    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        check(config, spec)
        name = likelihood_for(spec, config.likelihood)
        self.net = self.build_network(spec.classes if config.conditional else 0)
        self.likelihood = LIKELIHOODS[name](spec)
        # log variance of p(x | z), (1, C, 1, 1) or (1, D)
        self.scale = OutputVariance(spec, 1.0 if name == "bernoulli" else config.sigma)
        self.latent_dim = self.standard_dims = config.latent_dim
        self.continuous = self.likelihood.continuous
        self.reason = why_no_density(name, spec)
        self.bound: Bound = "none" if self.reason else "lower"

    def build_network(self, n_condition: int) -> nn.Module:
        c = self.config
        options = {name: getattr(c, name) for name in ("hidden", "width", "activation")}
        return EncoderDecoder(
            c.network, self.spec.shape, c.latent_dim, n_condition=n_condition, **options
        )

    def phases(self):
        return (Phase("elbo", trains=("net", "scale"), lr=self.config.lr),)

    # -- the model: q(z | x) and p(x | z) ----------------------------------------------------------

    def q_parameters(self, x: Tensor, y: Labels, k: int = 1) -> tuple[Tensor, Tensor]:
        """mu and logvar of q(z | x), each (B * k, latent_dim), every row k times."""
        outputs = self.net.encoder(x, self.condition(y))
        return bounded(repeat(outputs, k).chunk(2, 1))

    def p_parameters(self, z: Tensor, y: Labels) -> Tensor:
        """Parameters of p(x | z), (B, *shape)."""
        return self.net.decoder(z, self.condition(y))

    def infer(self, x: Tensor, y: Labels, rng: Rng | None, k: int = 1) -> Inference:
        """Encodes x (B, *shape), draws k of z ~ q(z | x) (its mean if rng is None), decodes them."""
        mu, logvar = self.q_parameters(x, y, k)
        z = mu
        if rng is not None:
            eps = rng.normal("eps0", (len(x), k, self.latent_dim)).flatten(0, 1)
            z = reparameterise(mu, logvar, eps)
        return Inference([Level(z, mu, logvar)], self.p_parameters(z, repeat(y, k)))

    def nll(self, params: Tensor, x: Tensor) -> Tensor:
        """-log p(x | z), (B,) nats; never summed in bfloat16."""
        return sum_per_example(self.likelihood.nll(without_bfloat16(params), x, self.scale()))

    # -- the loss ----------------------------------------------------------------------------------

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        if self.config.objective == "iwae":
            return self.iwae_loss(batch, rng)
        q = self.infer(batch.x, batch.y, rng)
        reconstruction = self.nll(q.params, batch.x).mean()  # -E_q[log p(x | z)], nats
        kl = q.kl().mean()  # nats
        penalty = kl
        free_bits = self.config.free_bits
        if free_bits:  # sum over j of max(lambda, KL_j), Kingma et al. 2016
            penalty = sum(level.kl().mean(0).clamp(min=free_bits).sum() for level in q.levels)
        c = self.config
        beta = c.beta * min(1.0, self.progress / c.kl_warmup) if c.kl_warmup else c.beta
        terms = {"reconstruction": reconstruction, "kl": kl, "negative_elbo": reconstruction + kl}
        return Loss(reconstruction + beta * penalty, terms)

    def iwae_loss(self, batch: Batch, rng: Rng) -> Loss:
        """The importance-weighted bound (Burda et al. 2016, eq. 8)."""
        log_weights = self.log_weights(batch.x, batch.y, rng, self.config.k)  # (B, k)
        bound = importance_weighted_bound(log_weights).mean()
        return Loss(-bound, {"negative_bound": -bound, "negative_elbo": -log_weights.mean()})

    # -- samples and codes -------------------------------------------------------------------------

    def draw_latents(self, n: int, options: Options, rng: Rng, y: Labels = None) -> Tensor:
        """n draws of z ~ p(z), (n, latent_dim)."""
        return options.temperature * rng.normal("z0", (n, self.latent_dim))

    def sample_params(self, n: int, y: Labels, options: Options, rng: Rng) -> Tensor:
        """Parameters of p(x | z) for n draws of z ~ p(z), (n, *shape)."""
        return self.p_parameters(self.draw_latents(n, options, rng), y)

    def sample(self, n: int, y: Labels, options: Options, rng: Rng) -> Tensor:
        params = self.sample_params(n, y, options, rng)
        if options.draw == "sample" or (options.draw == "auto" and self.spec.kind == "vector"):
            return self.likelihood.draw(params, self.scale(), rng)
        return self.likelihood.mean(params, self.scale())

    def posterior(self, x: Tensor, y: Labels = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (not logvar) of q(z | x), (B, latent_dim) each."""
        mu, logvar = self.q_parameters(x, y)
        return mu, (0.5 * logvar).exp()

    def encode(self, x: Tensor, y: Labels = None) -> Tensor:
        return self.posterior(x, y)[0]

    def decode(self, z: Tensor, y: Labels = None) -> Tensor:
        return self.likelihood.mean(self.p_parameters(z, y), self.scale())

    def reconstruct(self, x: Tensor, y: Labels = None) -> Tensor:
        return self.likelihood.mean(self.infer(x, y, None).params, self.scale())

    def kl_per_dimension(self, x: Tensor, y: Labels, rng: Rng) -> Tensor:
        """KL of each dimension, mean over the batch, (latent_dim,) nats."""
        return kl_normal(*self.q_parameters(x, y)).mean(0)

    # -- likelihood --------------------------------------------------------------------------------

    def log_likelihood(self, x: Tensor, y: Labels, rng: Rng, k: int = 1) -> Tensor:
        """(B,) nats. k = 1: the ELBO with the KL in closed form, one draw of z; k > 1: the
        importance-weighted bound."""
        if k > 1:
            return importance_weighted_bound(self.log_weights(x, y, rng, k))
        q = self.infer(x, y, rng)
        return -self.nll(q.params, x) - q.kl()

    def log_weights(self, x: Tensor, y: Labels, rng: Rng, k: int) -> Tensor:
        """log p(x, z_k) - log q(z_k | x) for k draws, (B, k) nats."""
        q = self.infer(x, y, rng, k)
        return (q.log_ratio() - self.nll(q.params, repeat(x, k))).view(len(x), k)

    def log_densities(self, z: Tensor, x: Tensor, y: Labels = None) -> tuple[Tensor, Tensor]:
        """log p(x, z) and log q(z | x), each (B,) nats, for z (B, latent_dim)."""
        log_q = sum_per_example(log_normal(z, *self.q_parameters(x, y)))
        log_p = sum_per_example(log_normal(z)) - self.nll(self.p_parameters(z, y), x)
        return log_p, log_q

    def draw_posterior(self, x: Tensor, y: Labels, rng: Rng, k: int) -> Tensor:
        """k draws of z ~ q(z | x) for each x, (B, k, latent_dim)."""
        return self.infer(x, y, rng, k).z.view(len(x), k, -1)


def check(c: Config, spec: DataSpec) -> None:
    """Options that cannot be combined. Raises UsageError."""
    if c.conditional:
        require_labels(spec)
    if c.objective == "iwae" and (c.beta != 1 or c.free_bits or c.kl_warmup):
        raise UsageError(
            "--objective iwae is another bound: leave out --beta, --free-bits and --kl-warmup"
        )
    if c.network != "mlp" and spec.kind != "image":
        raise UsageError(f"--network {c.network} is for images: use mlp for this data")


FAMILY = VAE
