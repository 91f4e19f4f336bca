"""Variational autoencoder (Kingma & Welling 2014, "Auto-Encoding Variational Bayes", arXiv:1312.6114).

    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) || p(z)) = ELBO
    q(z | x) = N(mu(x), diag(exp(logvar(x)))),   p(z) = N(0, I),   z = mu + exp(logvar / 2) eps

With a hierarchical network z is a vector and several maps, z = (z_0, z_1, ...), and both p and q factor from
the top down: p(z) = p(z_0) p(z_1 | z_0) ...; the formulas stay the same, summed over the levels.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..core.capabilities import Bound
from ..core.config import BaseConfig, Width
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase, sum_per_example
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, require_labels
from ..nets.latent import Flat, Ladder
from ..probability.gaussian import importance_weighted_bound, kl_normal, log_normal, reparameterise
from ..probability.likelihood import LIKELIHOODS, default_likelihood


class Config(BaseConfig):
    latent_dim: int = Field(16, ge=1, le=4096, description="dimensions of the latent vector z")
    network: Literal["mlp", "conv", "ladder"] = Field(
        "mlp", description="fully connected, convolutional, or hierarchical"
    )
    hidden: tuple[Width, ...] = Field(
        (400, 400), description="mlp: widths of the encoder's layers, mirrored in the decoder"
    )
    activation: Literal["relu", "silu", "gelu", "tanh", "linear"] = Field(
        "silu", description="mlp: non-linearity"
    )
    width: int = Field(
        32, ge=4, le=1024, description="conv, ladder: channels at the finest resolution"
    )
    blocks: int = Field(2, ge=1, le=16, description="ladder: residual blocks at each place")
    maps: tuple[Width, ...] = Field(
        (6,), description="ladder: channels of each latent map below the vector"
    )
    likelihood: Literal["auto", "bernoulli", "gaussian", "logistic", "table"] = Field(
        "auto",
        description="p(x|z): bernoulli, gaussian or discretised logistic with learned scale, mixed table",
    )
    sigma: float | None = Field(
        None,
        ge=1e-3,
        le=100,
        description="fixed standard deviation of p(x|z), images in [-1, 1], not a learned one",
    )
    objective: Literal["elbo", "iwae"] = Field(
        "elbo", description="ELBO, or the importance-weighted bound (k samples)"
    )
    k: int = Field(8, ge=2, le=1000, description="iwae: samples of z for each example")
    beta: float = Field(
        1.0, ge=0, description="weight of the KL term; 1 is the ELBO (Higgins et al. 2017)"
    )
    kl_warmup: float = Field(
        0.0, ge=0, le=1, description="share of the training over which beta grows from 0"
    )
    free_bits: float = Field(
        0.0,
        ge=0,
        description="nats of KL that each latent dimension has for free (Kingma et al. 2016)",
    )
    conditional: bool = Field(
        False, description="learn p(x | y): labels go to the encoder and the decoder"
    )
    lr: float = Field(1e-3, gt=0, le=1e31, description="learning rate")


class Options(BaseConfig):
    temperature: float = Field(1.0, ge=0, le=10, description="scales the standard deviation of z")
    draw: Literal["auto", "mean", "sample"] = Field(
        "auto", description="mean of p(x|z), or x drawn from it; auto: mean for images"
    )


PRESETS = {
    "default": {},
    "lecture": dict(
        network="mlp",
        hidden=(512,),
        activation="relu",
        latent_dim=2,
        likelihood="gaussian",
        optimizer="adam",
        batch_size=128,
    ),
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


@dataclass
class Inference:
    """What one walk from x through z to p(x | z) leaves behind; B counts examples times samples.

    params  parameters of p(x | z)
    levels  for each level z (B, *level shape), then mu and logvar of its posterior, then of its prior
    """

    params: Tensor | None = None
    levels: list[tuple[Tensor, ...]] = field(default_factory=list)

    def kl(self) -> list[Tensor]:
        """KL(q || p) of each component in closed form, by level (B, *level shape), nats."""
        return [kl_normal(*posterior_and_prior) for _, *posterior_and_prior in self.levels]

    def log_ratio(self) -> Tensor:
        """log p(z) - log q(z | x) at the z that was drawn, (B,) nats."""
        return sum(
            sum_per_example(log_normal(z, mu_p, logvar_p) - log_normal(z, mu_q, logvar_q))
            for z, mu_q, logvar_q, mu_p, logvar_p in self.levels
        )


class VAE(Family):
    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        c = config
        if c.conditional:
            require_labels(spec)
        if c.objective == "iwae" and (c.beta != 1 or c.free_bits or c.kl_warmup):
            raise UsageError(
                "--objective iwae is a bound of its own: it goes without --beta, --free-bits and --kl-warmup"
            )
        if c.network != "mlp" and spec.kind != "image":
            raise UsageError(f"--network {c.network} is for images: use mlp for this data")
        name = default_likelihood(spec) if c.likelihood == "auto" else c.likelihood
        if name in ("bernoulli", "logistic") and spec.kind != "image":
            raise UsageError(
                f"--likelihood {name} is for images: use {default_likelihood(spec)} for this data"
            )
        if name == "table" and spec.kind != "vector":
            raise UsageError(
                "--likelihood table is for tables: use bernoulli, gaussian or logistic for images"
            )
        n_condition = spec.classes if c.conditional else 0
        if c.network == "ladder":
            self.net = Ladder(spec.shape, c.latent_dim, c.maps, c.width, c.blocks, n_condition)
        else:
            options = dict(
                hidden=c.hidden, width=c.width, activation=c.activation, n_condition=n_condition
            )
            self.net = Flat(c.network, spec.shape, c.latent_dim, **options)
        self.likelihood = LIKELIHOODS[name](spec)
        self.scale = Scale(spec, 1.0 if name == "bernoulli" else c.sigma)
        self.latent_dim = sum(torch.Size(shape).numel() for shape in self.net.level_shapes)
        self.standard_dims = torch.Size(self.net.level_shapes[0]).numel()
        self.continuous = self.likelihood.continuous
        self.reason = ""
        if name == "bernoulli" and spec.levels != 2:
            self.reason = "cross-entropy on grey values is no likelihood: use --binarise dynamic or --likelihood logistic"
        elif name == "gaussian" and any(block > 1 for block in spec.blocks):
            self.reason = "a density over one-hot columns is no probability of a category: use --likelihood table"
        self.bound: Bound = "none" if self.reason else "lower"

    def phases(self):
        return (Phase("elbo", trains=("net", "scale"), lr=self.config.lr),)

    # -- the objective ---------------------------------------------------------------------------------------

    def infer(self, x: Tensor, y: Tensor | None, rng: Rng | None, k: int = 1) -> Inference:
        """x (B, *shape) -> k draws of z for each x, encoded once; rng None takes the means instead of draws."""
        out = Inference()
        condition = self.condition(y)
        features = self.net.bottom_up(x, condition)
        if k > 1:
            features = [feature.repeat_interleave(k, 0) for feature in features]
            condition = None if condition is None else condition.repeat_interleave(k, 0)

        def draw(level, prior, posterior):
            mu, logvar = bounded(posterior)
            prior = prior and bounded(prior)
            z = (
                mu
                if rng is None
                else reparameterise(mu, logvar, self.normal(rng, f"eps{level}", mu.shape, k))
            )
            out.levels.append((z, mu, logvar, *(prior or (0.0, 0.0))))
            return z

        out.params = self.net.top_down(draw, features, condition)
        return out

    @staticmethod
    def normal(rng: Rng, name: str, shape: torch.Size, k: int) -> Tensor:
        """(B * k, ...) standard normal numbers, the k of one example from that example's own stream."""
        return rng.normal(name, (shape[0] // k, k, *shape[1:])).flatten(0, 1)

    def nll(self, params: Tensor, x: Tensor) -> Tensor:
        """-log p(x | z), (B,) nats."""
        params = (
            params.float() if params.dtype == torch.bfloat16 else params
        )  # nats are never summed in bfloat16
        return sum_per_example(self.likelihood.nll(params, x, self.scale()))

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        c = self.config
        if c.objective == "iwae":
            log_weights = self.log_weights(batch.x, batch.y, rng, c.k)  # (B, K)
            bound = importance_weighted_bound(log_weights).mean()
            return Loss(-bound, {"negative_bound": -bound, "negative_elbo": -log_weights.mean()})
        q = self.infer(batch.x, batch.y, rng)
        reconstruction = self.nll(q.params, batch.x).mean()  # nats
        levels = q.kl()
        kl = sum(sum_per_example(level).mean() for level in levels)  # nats
        penalty = kl
        if c.free_bits:  # max(lambda, KL_j), by dimension
            penalty = sum(level.mean(0).clamp(min=c.free_bits).sum() for level in levels)
        beta = c.beta * min(1.0, self.progress / c.kl_warmup) if c.kl_warmup else c.beta
        value = reconstruction + beta * penalty  # beta = 1: the negative ELBO
        return Loss(
            value,
            {"reconstruction": reconstruction, "kl": kl, "negative_elbo": reconstruction + kl},
        )

    # -- sampling, codes, likelihood -------------------------------------------------------------------------

    def from_prior(
        self, n: int, y: Tensor | None, options: Options, rng: Rng
    ) -> tuple[list[Tensor], Tensor]:
        """n draws of z ~ p(z) from the top down, by level (n, *level shape), and the parameters of p(x | z)."""
        levels = []

        def draw(level, prior, posterior):
            eps = options.temperature * rng.normal(f"z{level}", (n, *self.net.level_shapes[level]))
            levels.append(eps if prior is None else reparameterise(*bounded(prior), eps))
            return levels[-1]

        return levels, self.net.top_down(draw, None, self.condition(y))

    def draw_latents(self, n: int, options: Options, rng: Rng, y: Tensor | None = None) -> Tensor:
        """n draws of z ~ p(z), (n, latent_dim), levels one after the other; only a conditional hierarchy looks at y.

        decode(draw_latents(...), y) is sample(...) with draw = mean.
        """
        if len(self.net.level_shapes) == 1:
            return options.temperature * rng.normal("z0", (n, self.latent_dim))
        return torch.cat([z.flatten(1) for z in self.from_prior(n, y, options, rng)[0]], 1)

    def sample(self, n: int, y: Tensor | None, options: Options, rng: Rng) -> Tensor:
        _, params = self.from_prior(n, y, options, rng)
        if options.draw == "sample" or (options.draw == "auto" and self.spec.kind == "vector"):
            return self.likelihood.draw(params, self.scale(), rng)
        return self.likelihood.mean(params, self.scale())

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of q(z | x), each (B, latent_dim), levels one after the other."""
        q = self.infer(x, y, None)

        def join(parts):
            return torch.cat([part.flatten(1) for part in parts], 1)

        return join(mu for _, mu, *_ in q.levels), join(
            (0.5 * logvar).exp() for _, _, logvar, *_ in q.levels
        )

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.posterior(x, y)[0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        shapes = self.net.level_shapes
        parts = z.split([torch.Size(shape).numel() for shape in shapes], 1)

        def draw(level, prior, posterior):
            return parts[level].reshape(len(z), *shapes[level])

        return self.likelihood.mean(self.net.top_down(draw, None, self.condition(y)), self.scale())

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.likelihood.mean(self.infer(x, y, None).params, self.scale())

    def kl_per_dimension(self, x: Tensor, y: Tensor | None, rng: Rng) -> Tensor:
        """Mean over the batch of KL(q || p) by latent dimension, (latent_dim,) nats."""
        return torch.cat([level.mean(0).flatten() for level in self.infer(x, y, rng).kl()])

    def log_weights(self, x: Tensor, y: Tensor | None, rng: Rng, k: int) -> Tensor:
        """log p(x, z_k) - log q(z_k | x) for k draws, (B, K) nats."""
        q = self.infer(x, y, rng, k)
        return (q.log_ratio() - self.nll(q.params, x.repeat_interleave(k, 0))).view(len(x), k)

    def log_densities(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """log p(x, z) and log q(z | x), (B,) nats, for z (B, latent_dim), levels one after the other."""
        shapes, q = self.net.level_shapes, Inference()
        parts = z.split([torch.Size(shape).numel() for shape in shapes], 1)

        def given(level, prior, posterior):
            q.levels.append(
                (
                    parts[level].reshape(len(z), *shapes[level]),
                    posterior[0],
                    posterior[1].clamp(-20, 20),
                    *(prior or (0.0, 0.0)),
                )
            )
            return q.levels[-1][0]

        condition = self.condition(y)
        params = self.net.top_down(given, self.net.bottom_up(x, condition), condition)
        log_p = sum(
            sum_per_example(log_normal(z, mu_p, logvar_p)) for z, _, _, mu_p, logvar_p in q.levels
        )
        log_q = sum(
            sum_per_example(log_normal(z, mu_q, logvar_q)) for z, mu_q, logvar_q, *_ in q.levels
        )
        return log_p - self.nll(params, x), log_q

    def draw_posterior(self, x: Tensor, y: Tensor | None, rng: Rng, k: int) -> Tensor:
        """k draws of z ~ q(z | x) for each x, (B, k, latent_dim)."""
        q = self.infer(x, y, rng, k)
        return torch.cat([z.flatten(1) for z, *_ in q.levels], 1).view(len(x), k, -1)

    def log_likelihood(self, x: Tensor, y: Tensor | None, rng: Rng, k: int = 1) -> Tensor:
        """k = 1: the ELBO with the KL in closed form; k > 1: the importance-weighted bound. (B,) nats."""
        if k > 1:
            return importance_weighted_bound(self.log_weights(x, y, rng, k))
        q = self.infer(x, y, rng)
        return -self.nll(q.params, x) - sum(sum_per_example(level) for level in q.kl())


def bounded(outputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """mu and logvar that a network gave, not in bfloat16, logvar in [-20, 20]: 1 / variance stays a finite number."""
    mu, logvar = (part.float() if part.dtype == torch.bfloat16 else part for part in outputs)
    return mu, logvar.clamp(-20, 20)


class Scale(nn.Module):
    """log variance of p(x | z): one number for each channel of an image or column of a vector."""

    def __init__(self, spec: DataSpec, sigma: float | None):
        super().__init__()
        shape = (1, spec.shape[0], 1, 1) if spec.kind == "image" else (1, spec.shape[0])
        start = torch.full(shape, -2.0 if sigma is None else 2 * float(torch.tensor(sigma).log()))
        if sigma is None:
            self.logvar = nn.Parameter(start)
        else:
            self.register_buffer("logvar", start)

    def forward(self) -> Tensor:
        return self.logvar.clamp(-16, 10)


FAMILY = VAE
