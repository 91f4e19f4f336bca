"""VAE with a discriminator loss: the decoder is also a generator, and its pictures must look real.

    z ~ q(z | x) = N(mu(x), sigma(x)^2),  x_hat = decoder(z);    z ~ N(0, I),  x_new = decoder(z)
    D scores x above x_hat and x_new; the decoder makes D fail; encoder and decoder also reconstruct x

Two objectives. With g the generator's loss on x_hat and x_new, and lambda a balance of gradients:

    modern   encoder, decoder <- -log p(x | z) + beta KL + lambda g          (Esser et al. 2021, "VQGAN", eqs. 6-7)
    larsen   encoder <- beta KL + N,  decoder <- gamma N + g,                     (Larsen et al. 2016, arXiv:1512.09300, alg. 1)
             N = -log N(features of x | features of x_hat, s^2), features: D's last hidden layer

Who learns from what is the whole art. D learns from scores alone, and its fakes are detached. In "modern" g reaches
the encoder through x_hat, as in VQGAN; in "larsen" it never does. D's weights get nothing from N.
D trains from the first step; g comes later and by degrees, since a D that knows nothing ruins reconstructions.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..core.capabilities import Bound
from ..core.config import BaseConfig, Width
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase, sum_per_example
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, require_labels
from ..nets.adversarial import ConvCritic, MLPCritic
from ..nets.mlp import MLP
from ..probability import adversarial
from ..probability.gaussian import reparameterise
from . import vae

EPS = 1e-4  # of lambda's denominator
LARGEST = 1e4  # lambda for each component of x: a D without slope must not blow up


class Config(BaseConfig):
    latent_dim: int = Field(32, ge=1, le=4096, description="dimensions of the latent vector z")
    network: Literal["mlp", "conv"] = Field(
        "conv", description="fully connected or convolutional, the VAE's own"
    )
    hidden: tuple[Width, ...] = Field(
        (400, 400),
        min_length=1,
        description="mlp: widths of the encoder's and D's layers, mirrored in the decoder",
    )
    activation: Literal["relu", "silu", "gelu", "tanh", "linear"] = Field(
        "silu", description="mlp: non-linearity of encoder and decoder"
    )
    width: int = Field(32, ge=4, le=1024, description="conv: channels at the finest resolution")
    blocks: int = Field(0, ge=0, le=16, description="conv: residual blocks of D at each resolution")
    objective: Literal["modern", "larsen"] = Field(
        "modern", description="reconstruct x, or reconstruct what D sees of it (Larsen et al. 2016)"
    )
    reconstruction: Literal["likelihood", "l1"] = Field(
        "likelihood", description="modern: -log p(x|z), or the sum of |x - x_hat|"
    )
    likelihood: Literal["auto", "bernoulli", "gaussian", "logistic", "table"] = Field(
        "auto", description="modern: p(x|z), as in the family vae"
    )
    beta: float = Field(
        1.0,
        ge=0,
        description="weight of the KL term; more of it: better samples, coarser reconstructions",
    )
    adversarial_weight: float = Field(
        1.0,
        ge=0,
        le=1e6,
        description="modern: pull of the generator's loss on the last layer, relative to the reconstruction's",
    )
    adversarial_start: float = Field(
        0.1, ge=0, le=1, description="share of the training before the generator's loss sets in"
    )
    adversarial_ramp: float = Field(
        0.1, ge=0, le=1, description="share of the training over which it grows"
    )
    gamma: float = Field(
        0.01, ge=0, le=1e6, description="larsen: weight of the reconstruction in the decoder's loss"
    )
    feature_sigma: float = Field(
        1.0, gt=0, le=100, description="larsen: s, in units of each feature's spread over the batch"
    )
    loss: Literal[
        "relativistic", "non-saturating", "minimax", "least-squares", "hinge", "wasserstein"
    ] = Field(
        "relativistic",
        description="what the duel is about; probability/adversarial.py has the formulas",
    )
    r1: float = Field(
        0.3,
        ge=0,
        le=1e6,
        description="gamma of R1, the penalty on D's slope at real examples; 0 leaves it out",
    )
    r2: float = Field(
        0.3, ge=0, le=1e6, description="gamma of R2, the same at reconstructions and samples"
    )
    lazy: int = Field(
        4,
        ge=1,
        le=1000,
        description="penalise one in so many examples of each batch; cheaper, the same on average",
    )
    label_weight: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="weight of a classifier on the latent mean, nats; 0: there is none",
    )
    label_hidden: tuple[Width, ...] = Field(
        (), description="widths of the classifier's hidden layers; none: it is linear"
    )
    labelled: float = Field(
        1.0, gt=0, le=1, description="share of the examples whose labels the classifier learns from"
    )
    conditional: bool = Field(
        False, description="learn p(x | y): labels go to encoder, decoder and D"
    )
    lr: float = Field(2e-3, gt=0, le=1e31, description="learning rate of encoder and decoder")
    lr_d: float = Field(4e-3, gt=0, le=1e31, description="learning rate of D")
    beta1: float = Field(
        0.0, ge=0, lt=1, description="Adam: momentum of encoder and decoder; D goes without"
    )
    beta2: float = Field(0.99, ge=0, lt=1, description="Adam: memory of squared gradients")


class Options(BaseConfig):
    temperature: float = Field(1.0, ge=0, le=10, description="scales the standard deviation of z")


RECIPE = dict(ema=0.9999, precision="auto", batch_size=32)

PRESETS = {
    "default": RECIPE | dict(beta=4.0),
    "lecture": RECIPE | dict(network="mlp", hidden=(512,), activation="relu", latent_dim=2),
    "conv": RECIPE | dict(beta=4.0),
    "larsen": RECIPE | dict(objective="larsen"),
    "mlp": RECIPE | dict(network="mlp"),
    "points": dict(
        network="mlp",
        hidden=(128, 128, 128),
        latent_dim=4,
        adversarial_weight=3.0,
        r1=0.1,
        r2=0.1,
        lazy=1,
        lr=1e-3,
        lr_d=1e-3,
        beta1=0.5,
        batch_size=256,
        ema=0.999,
    ),
    "table": RECIPE | dict(network="mlp", hidden=(128, 128), latent_dim=8),
}


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    if spec.kind == "vector":
        return "points" if spec.dims == 2 and not spec.blocks else "table"
    return "conv"


class VAEGAN(Family):
    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        c = config
        check(c, spec)
        self.vae = vae.VAE(vae_config(c, spec), spec)
        n_classes = spec.classes if c.conditional else 0
        if c.network == "conv":
            self.discriminator = ConvCritic(spec.shape, c.width, c.blocks, n_classes=n_classes)
        else:
            self.discriminator = MLPCritic(spec.shape, c.hidden, n_classes)
        if c.label_weight:
            self.head = MLP(c.latent_dim, c.label_hidden, spec.classes)
        if c.objective == "modern" and c.adversarial_weight:  # lambda takes gradients of its own
            self.second_order = ("vae", "discriminator")
        elif c.r1 or c.r2:
            self.second_order = ("discriminator",)
        if c.objective == "modern" and c.adversarial_weight and c.adversarial_start:
            self.cost_stages = 10  # steps without g are cheaper
        self.latent_dim = self.standard_dims = c.latent_dim
        self.continuous = self.vae.continuous
        self.bound: Bound = self.vae.bound if has_likelihood(c) else "none"
        self.reason = (
            self.vae.reason
            if has_likelihood(c)
            else "its reconstruction error is no likelihood of x: use --objective modern --reconstruction likelihood"
        )

    def phases(self):
        c, betas = self.config, (self.config.beta1, self.config.beta2)
        head = ("head",) if c.label_weight else ()

        def learn(name, *parts):
            return Phase(name, trains=parts, lr=c.lr, betas=betas)

        discriminator = Phase(
            "discriminator", trains=("discriminator",), lr=c.lr_d, betas=(0.0, c.beta2)
        )
        if c.objective == "modern":
            return (learn("autoencoder", "vae", *head), discriminator)
        return (
            learn("encoder", "vae.net.encoder", *head),
            learn("decoder", "vae.net.decoder"),
            discriminator,
        )

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        if len(batch) < 2:
            raise UsageError(
                "vaegan needs batches of 2 examples or more, one to reconstruct and one to make up: take --batch-size 2 or more"
            )
        return getattr(self, f"{phase}_loss")(batch, rng)

    # -- modern ----------------------------------------------------------------------------------------------

    def autoencoder_loss(self, batch: Batch, rng: Rng) -> Loss:
        """-log p(x | z) + beta KL + lambda g. Where no gradient is wanted there is no lambda, and g stays out."""
        q = self.vae.infer(batch.x, batch.y, rng)
        reconstruction, kl = self.reconstruction_error(q.params, batch.x).mean(), mean_kl(q)
        value = reconstruction + self.config.beta * kl
        terms = {"reconstruction": reconstruction, "kl": kl}
        if self.bound != "none":
            terms["negative_elbo"] = reconstruction + kl
        if q.params.requires_grad:
            share, adversarial = self.adversarial_share(), value.new_zeros(())
            if share:
                g = self.generator_loss(batch, self.seen(q.params), rng)
                adversarial = share * self.balance(reconstruction, g) * g
            value, terms = value + adversarial, terms | {"adversarial": adversarial}
        return self.with_labels(value, terms, q, batch)

    def reconstruction_error(self, params: Tensor, x: Tensor) -> Tensor:
        """(B,) nats, or the sum of absolute differences."""
        return (
            sum_per_example((self.seen(params) - x).abs())
            if self.config.reconstruction == "l1"
            else self.vae.nll(params, x)
        )

    def balance(self, reconstruction: Tensor, g: Tensor) -> Tensor:
        """lambda = |d reconstruction / d last| / (|d g / d last| + EPS), last: the decoder's last weights. A constant."""
        last = [
            m.weight for m in self.vae.net.decoder.modules() if isinstance(m, nn.Conv2d | nn.Linear)
        ][-1]

        def pull(term):
            return torch.autograd.grad(term, last, retain_graph=True)[0].norm()

        return (pull(reconstruction) / (pull(g) + EPS)).clamp(max=LARGEST * self.spec.dims).detach()

    def adversarial_share(self) -> float:
        """Weight of the generator's loss at this moment of the training: nothing, then rising, then all of it."""
        c = self.config
        risen = (self.progress - c.adversarial_start) / max(c.adversarial_ramp, 1e-9)
        return c.adversarial_weight * min(1.0, max(0.0, risen))

    # -- larsen ----------------------------------------------------------------------------------------------

    def encoder_loss(self, batch: Batch, rng: Rng) -> Loss:
        """KL + N: nothing of the duel."""
        q = self.vae.infer(batch.x, batch.y, rng)
        reconstruction, kl = self.feature_nll(self.seen(q.params), batch.x), mean_kl(q)
        terms = {"feature_nll": reconstruction, "kl": kl}
        return self.with_labels(reconstruction + self.config.beta * kl, terms, q, batch)

    def decoder_loss(self, batch: Batch, rng: Rng) -> Loss:
        """gamma N + g, with the encoder frozen."""
        with torch.no_grad():
            z = self.draw_code(batch.x, batch.y, rng)
        x_hat = self.decode(z, batch.y)
        g = self.generator_loss(batch, x_hat, rng)
        return Loss(self.config.gamma * self.feature_nll(x_hat, batch.x) + g, {"g_loss": g})

    def feature_nll(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """-log N(D_l(x) | D_l(x_hat), s^2) without its constant, mean over the batch, nats.

        Unusual: features count in units of their spread over the batch, as the batch norm of the paper's D has them.
        Otherwise D could make the term small, and the KL large beside it, by shrinking its features.
        """
        with torch.no_grad():
            target = self.features(x)
            spread = target.std(0, correction=0) + 1e-3 * target.std(correction=0) + 1e-6
        error = (self.features(x_hat) - target) / (self.config.feature_sigma * spread)
        return 0.5 * sum_per_example(error.square()).mean()

    # -- the duel --------------------------------------------------------------------------------------------

    def discriminator_loss(self, batch: Batch, rng: Rng) -> Loss:
        c, x, y = self.config, batch.x, batch.y
        with torch.no_grad():  # encoder and decoder are frozen
            even = slice(0, None, 2)  # only these are reconstructed
            x_hat = self.decode(self.draw_code(x[even], labels(y, even), rng), labels(y, even))
            x_fake = self.with_samples(x_hat, y, len(x), rng)
        value, terms = adversarial.penalised_discriminator_loss(
            self.score, x, x_fake, self.vae.condition(y), c.loss, c.r1, c.r2, c.lazy
        )
        return Loss(value, terms)

    def generator_loss(self, batch: Batch, x_hat: Tensor, rng: Rng) -> Tensor:
        """g: what reconstructions and samples lack in D's eyes."""
        label = self.vae.condition(batch.y)
        fake = real = self.score(self.with_samples(x_hat[::2], batch.y, len(batch), rng), label)
        if self.config.loss == "relativistic":  # the only g that looks at x
            with torch.no_grad():
                real = self.score(batch.x, label)
        return adversarial.GENERATOR[self.config.loss](real, fake)

    def with_samples(self, x_hat: Tensor, y: Tensor | None, n: int, rng: Rng) -> Tensor:
        """n fakes: reconstructions x_hat of the even rows at their places, samples at the odd ones, so that D judges as many of each."""
        odd = slice(1, None, 2)
        x_new = self.decode(rng.normal("z", (n, self.latent_dim))[odd], labels(y, odd))
        x_fake = x_hat.new_empty((n, *x_hat.shape[1:]))
        x_fake[::2], x_fake[odd] = x_hat, x_new
        return x_fake

    def score(self, x: Tensor, label: Tensor | None) -> Tensor:
        """D's scores, (B,), in float32."""
        return self.discriminator(x, label).float()

    def judge(self, x: Tensor, y: Tensor | None = None, made: bool = False) -> Tensor:
        return self.score(x, self.vae.condition(y))

    def features(self, x: Tensor) -> Tensor:
        """D's last hidden layer, (B, dims)."""
        return self.discriminator.features(x).float()

    # -- the label head --------------------------------------------------------------------------------------

    def with_labels(self, value: Tensor, terms: dict, q: vae.Inference, batch: Batch) -> Loss:
        """The loss, and the classifier's if there is one: it learns from the labels of ``keeps_label``, accuracy is that of all."""
        if not self.config.label_weight:
            return Loss(value, terms)
        logits = self.head(q.mu)  # on the mean of q(z | x)
        kept = keeps_label(batch.x, self.spec, self.config.labelled)
        nats = (
            cross_entropy(logits.float(), batch.y, reduction="none") * kept
        ).sum() / kept.sum().clamp(min=1)
        accuracy = (logits.argmax(1) == batch.y).float().mean()
        return Loss(
            value + self.config.label_weight * nats,
            terms | {"label_nll": nats, "label_accuracy": accuracy},
        )

    def classify(self, x: Tensor) -> Tensor:
        """Logits of the classes, (B, classes). Raises UsageError when there is no label head."""
        if not self.config.label_weight:
            raise UsageError("this model has no label head: train it with --label-weight")
        return self.head(self.encode(x))

    # -- from z to x, from x to z ----------------------------------------------------------------------------

    def seen(self, params: Tensor) -> Tensor:
        """The decoder's output as D sees it: the mean of p(x | z); the most probable category of a table's block."""
        x = self.vae.likelihood.mean(params.float(), self.vae.scale())
        return x if self.spec.kind == "image" else adversarial.hard_categories(x, self.spec.blocks)

    def draw_code(self, x: Tensor, y: Tensor | None, rng: Rng) -> Tensor:
        """z ~ q(z | x), (B, latent_dim)."""
        mu, logvar = self.vae.q_parameters(x, y)
        return reparameterise(mu, logvar, rng.normal("eps", mu.shape))

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.seen(self.vae.p_parameters(z, y))

    def draw_latents(self, n: int, options: Options, rng: Rng) -> Tensor:
        """n draws of z, (n, latent_dim)."""
        return options.temperature * rng.normal("z", (n, self.latent_dim))

    def sample(self, n: int, y: Tensor | None, options: Options, rng: Rng) -> Tensor:
        return self.decode(self.draw_latents(n, options, rng), y)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.vae.encode(x, y)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.vae.posterior(x, y)

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.decode(self.encode(x, y), y)

    def kl_per_dimension(self, x: Tensor, y: Tensor | None, rng: Rng) -> Tensor:
        return self.vae.kl_per_dimension(x, y, rng)

    # -- likelihood: that of the VAE inside; a bound on log p(x) holds for any encoder, decoder and training -----

    def log_likelihood(self, x: Tensor, y: Tensor | None, rng: Rng, k: int = 1) -> Tensor:
        return self.vae.log_likelihood(x, y, rng, k)

    def log_weights(self, x: Tensor, y: Tensor | None, rng: Rng, k: int) -> Tensor:
        return self.vae.log_weights(x, y, rng, k)

    def log_densities(self, z: Tensor, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.vae.log_densities(z, x, y)

    def draw_posterior(self, x: Tensor, y: Tensor | None, rng: Rng, k: int) -> Tensor:
        return self.vae.draw_posterior(x, y, rng, k)


def mean_kl(q: vae.Inference) -> Tensor:
    """KL(q(z | x) || p(z)), mean over the batch, nats."""
    return sum_per_example(q.kl()).mean()


def labels(y: Tensor | None, rows: slice) -> Tensor | None:
    return None if y is None else y[rows]


def keeps_label(x: Tensor, spec: DataSpec, share: float) -> Tensor:
    """Which examples of x (B, *shape) keep their labels: (B,) bool, about ``share`` of all.

    A batch does not know where in the data it came from, so an example's own content decides, by a hash in whole
    numbers: multilinear (Carter & Wegman 1979), then mixed. It is the same in every epoch and on every machine; but an
    example that is drawn anew each time (--binarise dynamic) is another example each time.
    """
    if spec.kind == "image":
        whole = ((x.float() + 1) * ((spec.levels - 1) / 2)).round().long().flatten(1)
    else:
        whole = x.float().contiguous().view(torch.int32).long()
    keys = Rng(0, ("labelled",), device=x.device).integers("keys", 2**63 - 1, (spec.dims + 1,))
    mixed = keys[0] + (whole * keys[1:]).sum(1)  # all modulo 2^64
    for _ in range(2):
        mixed = (mixed ^ ((mixed >> 32) & (2**32 - 1))) * 0x2545F4914F6CDD1D  # an odd number
    return ((mixed >> 32) & (2**31 - 1)) < share * 2**31


def has_likelihood(c: Config) -> bool:
    return c.objective == "modern" and c.reconstruction == "likelihood"


def vae_config(c: Config, spec: DataSpec) -> vae.Config:
    """The VAE inside. Without a likelihood its decoder's outputs are squashed to the range of images, and nothing else."""
    shared = {
        name: getattr(c, name)
        for name in ("latent_dim", "network", "hidden", "activation", "width", "conditional")
    }
    if has_likelihood(c):
        return vae.Config(likelihood=c.likelihood, **shared)
    return vae.Config(
        likelihood="bernoulli" if spec.kind == "image" else "auto", sigma=1.0, **shared
    )


def check(c: Config, spec: DataSpec) -> None:
    """Options that do not go together. Raises UsageError."""
    if spec.kind == "tokens":
        raise UsageError("the family vaegan is for images, points and tables")
    if c.network == "conv" and spec.kind != "image":
        raise UsageError("--network conv is for images: use mlp for this data")
    if c.objective == "larsen" and (c.reconstruction != "likelihood" or c.likelihood != "auto"):
        raise UsageError(
            "--objective larsen reconstructs D's features: it goes without --reconstruction and --likelihood"
        )
    if c.reconstruction == "l1" and c.likelihood != "auto":
        raise UsageError(
            "--reconstruction l1 stands in the place of a likelihood: it goes without --likelihood"
        )
    if c.adversarial_start + c.adversarial_ramp > 1:
        raise UsageError(
            "--adversarial-start and --adversarial-ramp are shares of one training: together at most 1"
        )
    if c.conditional or c.label_weight:
        require_labels(spec, "--conditional" if c.conditional else "--label-weight")
    if c.conditional and c.label_weight:
        raise UsageError(
            "--conditional tells the encoder the label that --label-weight would read from it: use one of them"
        )
    if c.labelled < 1 and not c.label_weight:
        raise UsageError(
            "--labelled is the share of labels that --label-weight learns from: give --label-weight too"
        )


FAMILY = VAEGAN
