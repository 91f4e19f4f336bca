"""VAE with an adversarial loss: the decoder is also a generator, whose images must look real.

    z ~ q(z | x) = N(mu(x), sigma(x)^2),  x_hat = decoder(z);    z ~ N(0, I),  x_new = decoder(z)
    D scores x above x_hat and x_new; the decoder lowers D's success; both reconstruct x

Two objectives. With g the generator's loss on x_hat and x_new, and lambda a balance of gradients:

    modern   encoder, decoder <- -log p(x | z) + beta KL + lambda g     (Esser et al. 2021, eqs. 6-7)
    larsen   encoder <- beta KL + N,  decoder <- gamma N + g         (Larsen et al. 2016, algorithm 1)
             N = -log N(features of x | features of x_hat, s^2), features: D's last hidden layer

In "modern" g reaches the encoder through x_hat, in "larsen" it never does. D is trained from the first
step; g sets in later and gradually, since an untrained D ruins reconstructions.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..core.config import BaseConfig, Channels, Dimensions, LearningRate, Share, Weight, Width
from ..core.errors import UsageError
from ..core.family import Loss, Phase
from ..core.rng import Rng
from ..core.spec import Batch, Condition, DataSpec, Labels
from ..nets.adversarial import ConvCritic, MLPCritic
from ..nets.mlp import MLP, Activation
from ..probability import adversarial
from ..probability.inference import Inference
from ..probability.label_subset import classifier_terms, has_label
from ..probability.likelihood import LikelihoodName
from ._vae_inside import HasVAE, check

EVEN = slice(0, None, 2)  # rows that are reconstructed
ODD = slice(1, None, 2)  # rows in whose place samples stand
MAX_LAMBDA = 1e4  # for each component of x: a D without slope must not blow up


class Config(BaseConfig):
    latent_dim: Dimensions = Field(32, description="dimensions of the latent vector z")
    network: Literal["mlp", "conv"] = Field("conv", description="as in the family vae")
    hidden: tuple[Width, ...] = Field(
        (400, 400),
        min_length=1,
        description="mlp: widths of encoder and D, mirrored in the decoder",
    )
    activation: Activation = Field("silu", description="mlp: non-linearity of encoder and decoder")
    width: Channels = Field(32, description="conv: channels at the finest resolution")
    blocks: int = Field(0, ge=0, le=16, description="conv: residual blocks of D at each resolution")
    objective: Literal["modern", "larsen"] = Field(
        "modern", description="reconstruct x, or D's features of it (Larsen et al. 2016)"
    )
    reconstruction: Literal["likelihood", "l1"] = Field(
        "likelihood", description="modern: -log p(x|z), or the sum of |x - x_hat|"
    )
    likelihood: Literal["auto", LikelihoodName] = Field(
        "auto", description="modern: p(x|z), as in the family vae"
    )
    beta: float = Field(1.0, ge=0, description="weight of the KL; more: better samples, more blur")
    adversarial_weight: Weight = Field(
        1.0, description="modern: gradient of g, relative to the reconstruction's"
    )
    adversarial_start: Share = Field(0.1, description="share of training before g")
    adversarial_ramp: Share = Field(0.1, description="share in which g's weight rises")
    gamma: Weight = Field(0.01, description="larsen: weight of N in the decoder's loss")
    feature_sigma: float = Field(
        1.0, gt=0, le=100, description="larsen: s, in units of each feature's spread in the batch"
    )
    loss: adversarial.LossName = Field("relativistic", description="adversarial loss")
    r1: Weight = Field(0.3, description="gamma of R1, on D's gradient at real x")
    r2: Weight = Field(0.3, description="gamma of R2, the same at x_hat and x_new")
    lazy: int = Field(4, ge=1, le=1000, description="penalise one in so many examples of a batch")
    label_weight: Weight = Field(
        0.0, description="weight of a classifier on the mean of z; 0: none"
    )
    label_hidden: tuple[Width, ...] = Field((), description="hidden layers of the classifier")
    labelled: float = Field(1.0, gt=0, le=1, description="share of examples that keep their labels")
    conditional: bool = Field(False, description="learn p(x | y): all networks get labels")
    lr: LearningRate = Field(2e-3, description="learning rate of encoder and decoder")
    lr_d: LearningRate = Field(4e-3, description="learning rate of D")
    beta1: float = Field(0.0, ge=0, lt=1, description="Adam: momentum of encoder and decoder")
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
    "points": dict(network="mlp", hidden=(128,) * 3, latent_dim=4, adversarial_weight=3.0)
    | dict(r1=0.1, r2=0.1, lazy=1, lr=1e-3, lr_d=1e-3, beta1=0.5, batch_size=256, ema=0.999),
    "table": RECIPE | dict(network="mlp", hidden=(128, 128), latent_dim=8),
}


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    if spec.kind == "vector":
        return "points" if spec.dims == 2 and not spec.blocks else "table"
    return "conv"


class VAEGAN(HasVAE):
    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        c = config
        check(c, spec)
        self.add_vae()
        n_classes = spec.classes if c.conditional else 0
        if c.network == "conv":
            self.discriminator = ConvCritic(spec.shape, c.width, c.blocks, 0, n_classes)
        else:
            self.discriminator = MLPCritic(spec.shape, c.hidden, n_classes)
        if c.label_weight:
            self.head = MLP(c.latent_dim, c.label_hidden, spec.classes)
        is_balanced = c.objective == "modern" and c.adversarial_weight > 0
        if is_balanced:  # lambda takes gradients of its own
            self.second_order = ("vae", "discriminator")
        elif c.r1 or c.r2:
            self.second_order = ("discriminator",)
        if is_balanced and c.adversarial_start:
            self.cost_stages = 10  # steps without g are cheaper

    def phases(self):
        c = self.config
        head = ("head",) if c.label_weight else ()
        options = dict(lr=c.lr, betas=(c.beta1, c.beta2))
        d = Phase("discriminator", ("discriminator",), lr=c.lr_d, betas=(0.0, c.beta2))
        if c.objective == "modern":
            return (Phase("autoencoder", ("vae", *head), **options), d)
        encoder = Phase("encoder", ("vae.net.encoder", *head), **options)
        return (encoder, Phase("decoder", ("vae.net.decoder",), **options), d)

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        if len(batch) < 2:
            raise UsageError("vaegan needs batches of 2 examples: take --batch-size 2 or more")
        return getattr(self, f"{phase}_loss")(batch, rng)

    def autoencoder_loss(self, batch: Batch, rng: Rng) -> Loss:
        """-log p(x | z) + beta KL + lambda g. Without gradients there is no lambda, and no g."""
        q = self.vae.infer(batch.x, batch.y, rng)
        reconstruction = self.reconstruction_error(q.params, batch.x).mean()
        kl = q.kl().mean()
        value = reconstruction + self.config.beta * kl
        terms = {"reconstruction": reconstruction, "kl": kl}
        if self.bound != "none":
            terms["negative_elbo"] = reconstruction + kl
        if q.params.requires_grad:
            term = value.new_zeros(())
            if weight := self.generator_weight():
                g = self.generator_loss(batch, self.to_data(q.params), rng)
                term = weight * self.balance(reconstruction, g) * g
            value = value + term
            terms["adversarial"] = term
        return self.add_classifier(value, terms, q, batch)

    def balance(self, reconstruction: Tensor, g: Tensor) -> Tensor:
        """lambda = |d reconstruction / dw| / |dg / dw|, w: the decoder's last weights."""
        layers = [m for m in self.vae.net.decoder.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        most = MAX_LAMBDA * self.spec.dims
        return adversarial.balance_gradients(reconstruction, g, layers[-1].weight, most)

    def generator_weight(self) -> float:
        """Weight of g at this point of the training: 0, then rising, then all of it."""
        c = self.config
        risen = (self.progress - c.adversarial_start) / max(c.adversarial_ramp, 1e-9)
        return c.adversarial_weight * min(1.0, max(0.0, risen))

    def encoder_loss(self, batch: Batch, rng: Rng) -> Loss:
        """beta KL + N, without g."""
        q = self.vae.infer(batch.x, batch.y, rng)
        nats = self.feature_nll(self.to_data(q.params), batch.x)
        kl = q.kl().mean()
        terms = {"feature_nll": nats, "kl": kl}
        return self.add_classifier(nats + self.config.beta * kl, terms, q, batch)

    def decoder_loss(self, batch: Batch, rng: Rng) -> Loss:
        """gamma N + g, with the encoder frozen."""
        with torch.no_grad():
            z = self.draw_code(batch.x, batch.y, rng)
        x_hat = self.decode(z, batch.y)
        g = self.generator_loss(batch, x_hat, rng)
        return Loss(self.config.gamma * self.feature_nll(x_hat, batch.x) + g, {"g_loss": g})

    def feature_nll(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """N, nats."""
        with torch.no_grad():
            target = self.features(x)
        return adversarial.feature_nll(self.features(x_hat), target, self.config.feature_sigma)

    # -- discriminator, generator, classifier ------------------------------------------------------

    def discriminator_loss(self, batch: Batch, rng: Rng) -> Loss:
        c = self.config
        x, y = batch.x, batch.y
        with torch.no_grad():  # encoder and decoder are frozen
            y_even = None if y is None else y[EVEN]
            x_hat = self.decode(self.draw_code(x[EVEN], y_even, rng), y_even)
            x_fake = self.add_samples(x_hat, y, len(x), rng)
        value, terms = adversarial.penalised_discriminator_loss(
            self.score, x, x_fake, self.vae.condition(y), c.loss, c.r1, c.r2, c.lazy
        )
        return Loss(value, terms)

    def generator_loss(self, batch: Batch, x_hat: Tensor, rng: Rng) -> Tensor:
        """g, on reconstructions x_hat and samples."""
        x_fake = self.add_samples(x_hat[EVEN], batch.y, len(batch), rng)
        label = self.vae.condition(batch.y)
        return adversarial.generator_loss(self.score, batch.x, x_fake, label, self.config.loss)

    def add_samples(self, x_hat: Tensor, y: Labels, n: int, rng: Rng) -> Tensor:
        """n fakes: reconstructions x_hat in the even rows, samples in the odd ones."""
        z = rng.normal("z", (n, self.latent_dim))[ODD]
        x_fake = x_hat.new_empty((n, *x_hat.shape[1:]))
        x_fake[EVEN] = x_hat
        x_fake[ODD] = self.decode(z, None if y is None else y[ODD])
        return x_fake

    def score(self, x: Tensor, label: Condition) -> Tensor:
        """D's scores, (B,), in float32."""
        return self.discriminator(x, label).float()

    def judge(self, x: Tensor, y: Labels = None, is_generated: bool = False) -> Tensor:
        return self.score(x, self.vae.condition(y))

    def features(self, x: Tensor) -> Tensor:
        """D's last hidden layer, (B, dims)."""
        return self.discriminator.features(x).float()

    def add_classifier(self, value: Tensor, terms: dict, q: Inference, batch: Batch) -> Loss:
        """Adds the loss of the classifier, on labelled examples; the accuracy is that of all."""
        if not self.config.label_weight:
            return Loss(value, terms)
        is_labelled = has_label(batch.x, self.spec, self.config.labelled)
        label_terms = classifier_terms(self.head(q.levels[0].mu_q), batch.y, is_labelled)
        value = value + self.config.label_weight * label_terms["label_nll"]
        return Loss(value, terms | label_terms)

    def sample(self, n: int, y: Labels, options: Options, rng: Rng) -> Tensor:
        return self.decode(self.draw_latents(n, options, rng), y)


FAMILY = VAEGAN
