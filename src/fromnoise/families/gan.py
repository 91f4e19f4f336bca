"""Generative adversarial network: a generator G and a discriminator D, trained in turn.

    z ~ N(0, I),  x_fake = G(z);   D scores x: a logit, high for "real"
    repeat: freeze G and train D to score real above fake;  freeze D and train G to raise D(G(z))
                                          (Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1)

The default is the relativistic loss with R1 and R2, penalties on D's gradient at real and generated
x, for which training converges locally (R3GAN, Huang et al. 2024, arXiv:2501.05441). The averaged
weights generate samples; D selects one of several candidates.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.config import BaseConfig, Channels, Dimensions, LearningRate, OpenShare, Weight, Width
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase
from ..core.rng import Rng
from ..core.spec import Batch, Condition, DataSpec, Labels, require_labels
from ..nets import gan_networks
from ..nets.augment import Augmentation, augment
from ..probability import adversarial
from ..probability.candidates import CandidateSampler, why_no_candidates
from ..probability.gaussian import truncated_normal
from ..probability.likelihood import softmax_of_blocks


class Config(BaseConfig):
    latent_dim: Dimensions = Field(64, description="dimensions of the noise z")
    network: Literal["conv", "mlp", "progressive"] = Field("conv", description="of G and D")
    hidden: tuple[Width, ...] = Field((256,) * 3, min_length=1, description="mlp: widths")
    hidden_g: tuple[Width, ...] | None = Field(None, description="mlp: other widths of G [hidden]")
    width: Channels = Field(16, description="conv, progressive: channels at full size")
    blocks: int = Field(1, ge=0, le=16, description="conv: residual blocks at each resolution")
    patch: int = Field(0, ge=0, le=16, description="conv: side of the patches of pixels [by size]")
    loss: adversarial.LossName = Field("relativistic", description="adversarial loss")
    r1: Weight = Field(0.3, description="gamma of R1, on D's gradient at real x")
    r2: Weight = Field(0.3, description="gamma of R2, the same at generated x")
    penalty_hold: OpenShare = Field(0.0, description="share of training before annealing")
    penalty_end: float = Field(0.2, gt=0, le=1, description="share of r1 and r2 left at the end")
    lazy: int = Field(4, ge=1, le=1000, description="penalise one in so many examples of a batch")
    gradient_penalty: Weight = Field(0.0, description="of WGAN-GP, usually 10")
    spectral_norm: bool = Field(False, description="divide D's weights by their spectral norms")
    augment: tuple[Augmentation, ...] = Field(
        (), description="DiffAugment, for under 10,000 images"
    )
    pack: int = Field(1, ge=1, le=16, description="examples that D scores together (PacGAN)")
    conditional: bool = Field(False, description="learn p(x | y): labels go to G and D")
    d_steps: int = Field(1, ge=1, le=100, description="updates of D per step, on a batch each")
    g_steps: int = Field(1, ge=1, le=100, description="updates of G per step")
    d_epochs: float = Field(0.0, ge=0, le=1000, description="take turns: epochs of D alone, then G")
    g_epochs: float = Field(0.0, ge=0, le=1000, description="take turns: epochs of G alone, then D")
    d_alone: OpenShare = Field(0.0, description="last share of training, of D alone")
    lr_d: LearningRate = Field(3e-3, description="learning rate of D")
    lr_g: LearningRate = Field(3e-3, description="learning rate of G")
    beta1: OpenShare = Field(0.5, description="Adam: momentum")
    beta2: OpenShare = Field(0.99, description="Adam: memory of squared gradients")


class Options(BaseConfig):
    truncation: float | None = Field(None, gt=0, le=5, description="largest |z_j|, less varied")
    candidates: int | None = Field(
        None, ge=1, le=1024, description="draws of G per sample, D selects one [8, or 1]"
    )
    temperature: float | None = Field(
        None, ge=0, le=100, description="of D's selection; below 1: less varied, 0: highest score"
    )


PROGRESS_OPTIONS = dict(candidates=1)  # G alone, while it trains

DEFAULT = dict(ema=0.9999, precision="auto", batch_size=64, warmup=0.02, lr_end=0.2)
PRESETS = {
    "default": DEFAULT,
    "conv": DEFAULT,
    "mlp": dict(network="mlp", ema=0.9999, lr_d=1e-3, lr_g=2e-3, beta1=0.0, lazy=1, batch_size=64),
    "points": dict(network="mlp", hidden=(192,) * 3, hidden_g=(256,) * 4, latent_dim=4)
    | dict(r1=0.4, r2=0.4, penalty_hold=0.6, penalty_end=0.003, lazy=2, d_alone=0.05)
    | dict(lr_d=1e-3, lr_g=2e-3, lr_end=0.1, beta1=0.0, batch_size=256, ema=0.9999),
    "table": dict(network="mlp", hidden=(128,) * 3, latent_dim=32, r1=0.1, r2=0.1)
    | dict(penalty_end=0.1, lazy=1, lr_d=1e-3, lr_g=2e-3, beta1=0.0, ema=0.9999),
    # an epoch of D, an epoch of G, the first losses, no penalty, no average of weights
    "lecture": dict(loss="non-saturating", r1=0.0, r2=0.0, d_epochs=1.0, g_epochs=1.0)
    | dict(lr_d=2e-4, lr_g=2e-4, beta2=0.999, ema=0.0),
    "wgan-gp": dict(loss="wasserstein", r1=0.0, r2=0.0, gradient_penalty=10.0, d_steps=5)
    | dict(lr_d=2e-4, lr_g=2e-4, beta1=0.0, beta2=0.9),
    "progressive": dict(network="progressive", width=16, latent_dim=128, lr_d=1e-3, lr_g=1e-3)
    | dict(beta1=0.0, ema=0.999, precision="auto", batch_size=16),
    "residual": dict(network="conv", width=32, blocks=2, patch=2, latent_dim=128)
    | dict(lr_d=1e-3, lr_g=1e-3, ema=0.9999, precision="auto", batch_size=16),
}


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    if spec.kind == "vector":
        return "points" if spec.dims == 2 and not spec.blocks else "table"
    return "conv"


class GAN(Family):
    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        c = config
        check(c, spec)
        n_classes = spec.classes if c.conditional else 0
        networks = gan_networks.build_networks(c, spec.shape, n_classes)
        self.generator, self.discriminator, self.resolution = networks
        if c.r1 or c.r2 or c.gradient_penalty:
            self.second_order = ("discriminator",)
        self.cost_stages = self.resolution.cost_stages
        self.latent_dim = c.latent_dim
        is_joint = c.pack > 1 or self.resolution.group > 1
        self.choice = CandidateSampler(why_no_candidates(c.loss, is_joint, bool(c.augment)))

    def phases(self):
        c = self.config
        d = dict(trains=("discriminator",), lr=c.lr_d, repeats=c.d_steps, epochs=c.d_epochs)
        g = dict(trains=("generator",), lr=c.lr_g, repeats=c.g_steps, epochs=c.g_epochs)
        betas = (c.beta1, c.beta2)
        return (
            Phase("discriminator", betas=betas, **d),
            Phase("generator", betas=betas, until=1 - c.d_alone, **g),
        )

    # -- the model: x_fake = G(z), and D's score of x ----------------------------------------------

    def generate(self, z: Tensor, label: Condition) -> Tensor:
        """G(z) as D sees it: images in [-1, 1] (progressive: unbounded), one-hot categories."""
        x = self.resolution.generate(self.generator, z, label, self.progress).float()
        if self.spec.kind == "image":
            return self.resolution.squash(x)
        p = softmax_of_blocks(x, self.spec.blocks)
        return adversarial.hard_categories(p, self.spec.blocks)

    def score(self, x: Tensor, label: Condition) -> Tensor:
        """D's scores of prepared examples, (B,), in float32."""
        return self.discriminator(x, label, *self.resolution.inputs(self.progress)).float()

    def prepare(self, x: Tensor, rng: Rng) -> Tensor:
        """Augmented, and packed: (B, C, ...) -> (B / pack, pack C, ...)."""
        x = augment(x, self.config.augment, rng) if self.config.augment else x
        return gan_networks.pack_examples(x, self.config.pack)

    def prepare_real(self, x: Tensor, rng: Rng) -> Tensor:
        return self.prepare(self.resolution.resize(x, self.progress), rng.at("real"))

    # -- the losses --------------------------------------------------------------------------------

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        return getattr(self, f"{phase}_loss")(batch, rng)

    def discriminator_loss(self, batch: Batch, rng: Rng) -> Loss:
        """The loss of D on real x and x_fake = G(z), with its penalties."""
        c = self.config
        label = self.condition(batch.y)
        with torch.no_grad():  # G is frozen
            x_fake = self.generate(rng.normal("z", (len(batch), c.latent_dim)), label)
        x_fake = self.prepare(x_fake, rng.at("fake"))
        x_real = self.prepare_real(batch.x, rng)
        share = self.penalty_share()
        lazy = max(1, min(c.lazy, len(x_real) // self.resolution.group))  # one group at least
        value, terms = adversarial.penalised_discriminator_loss(
            self.score, x_real, x_fake, label, c.loss, share * c.r1, share * c.r2, lazy
        )
        if c.gradient_penalty:
            u = rng.uniform("between", (len(x_real),))
            squared_norms = adversarial.gradients_between(self.score, x_real, x_fake, label, u)
            value = value + adversarial.one_centred_penalty(squared_norms, c.gradient_penalty)
            terms["slope_between"] = squared_norms.mean()
        return Loss(value, terms)

    def generator_loss(self, batch: Batch, rng: Rng) -> Loss:
        """The loss of G on x_fake = G(z); the relativistic one compares with real x."""
        c = self.config
        label = self.condition(batch.y)
        z = rng.normal("z", (len(batch), c.latent_dim))
        x_fake = self.prepare(self.generate(z, label), rng.at("fake"))
        x_real = self.prepare_real(batch.x, rng)
        value = adversarial.generator_loss(self.score, x_real, x_fake, label, c.loss)
        return Loss(value, {"g_loss": value})

    def penalty_share(self) -> float:
        """Share of r1 and r2: 1, from penalty_hold on falling exponentially to penalty_end."""
        c = self.config
        annealed = max(0.0, self.progress - c.penalty_hold) / (1 - c.penalty_hold)
        return c.penalty_end**annealed

    # -- samples -----------------------------------------------------------------------------------

    def draw_latents(self, n: int, options: Options, rng: Rng) -> Tensor:
        if options.truncation is None:
            return rng.normal("z", (n, self.latent_dim))
        return truncated_normal(rng.uniform("z", (n, self.latent_dim)), options.truncation)

    def decode(self, z: Tensor, y: Labels = None) -> Tensor:
        return self.resolution.enlarge(self.generate(z, self.condition(y)), self.progress)

    def sample(self, n: int, y: Labels, options: Options, rng: Rng) -> Tensor:
        """G(z); of several candidates the one that D selects."""
        return self.choice.sample(
            lambda rng: self.decode(self.draw_latents(n, options, rng), y),
            lambda x: self.judge(x, y),
            options,
            rng,
        )

    # -- what the discriminator is used for outside of training ------------------------------------

    @property
    def growth(self) -> float:
        return self.resolution.growth(self.progress)

    def judge(self, x: Tensor, y: Labels = None, is_generated: bool = False) -> Tensor:
        """D's score of each example, (B,); the examples of a pack share its score."""
        x = self.resolution.resize(x, self.progress, is_generated=is_generated)
        packs = gan_networks.pack_all(x, self.config.pack)
        scores = self.score(packs, self.condition(y))  # a conditional D has packs of one
        return scores.repeat_interleave(self.config.pack)[: len(x)]

    def features(self, x: Tensor) -> Tensor:
        """D's last hidden layer, (B, dims)."""
        x = self.resolution.resize(x, self.progress)
        x = x.repeat(1, self.config.pack, *[1] * (x.ndim - 2))  # a pack of copies
        return self.discriminator.features(x, *self.resolution.inputs(self.progress)).float()


def check(c: Config, spec: DataSpec) -> None:
    """Options that cannot be combined. Raises UsageError."""
    if spec.kind == "tokens":
        raise UsageError("the family gan is for images, points and tables")
    if c.network != "mlp" and spec.kind != "image":
        raise UsageError(f"--network {c.network} is for images: use mlp for this data")
    if c.augment and spec.kind != "image":
        raise UsageError("--augment is for images: leave it out for this data")
    if c.conditional:
        require_labels(spec)
    if c.conditional and c.pack > 1:
        raise UsageError("--pack mixes examples of all classes: use it without --conditional")
    if bool(c.d_epochs) != bool(c.g_epochs):
        raise UsageError("turns in epochs need both: give --d-epochs and --g-epochs")
    if c.d_epochs and c.d_alone:
        raise UsageError("--d-alone does not go with --d-epochs and --g-epochs: give --d-alone 0")


FAMILY = GAN
