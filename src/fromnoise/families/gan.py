"""Generative adversarial network: a generator and a discriminator, each trained while the other is frozen.

    z ~ N(0, I),  x_fake = G(z);   D scores x, high for "real"
    repeat: freeze G and train D to score real above fake;  freeze D and train G to make D fail
                                                             (Goodfellow et al. 2014, arXiv:1406.2661, algorithm 1)

The lecture's trouble ("the convergence is a bit complicated") has a cure, which is the default here: a relativistic
loss, where each fake is judged against a real example, and penalties on D's slope at both, R1 and R2. With them the
duel converges locally (Huang et al. 2024, arXiv:2501.05441); what samples is an average of the weights, and of
several draws of G the average of D keeps one. The historical losses are here too, to be watched as they fail.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.config import BaseConfig, Width
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, require_labels
from ..nets.adversarial import (
    ConvCritic,
    ConvGenerator,
    MLPCritic,
    MLPGenerator,
    with_spectral_norm,
)
from ..nets.augment import augment
from ..nets.progressive import (
    ProgressiveCritic,
    ProgressiveGenerator,
    growth_at,
    level_sizes,
    shrink,
)
from ..probability import adversarial


class Config(BaseConfig):
    latent_dim: int = Field(64, ge=1, le=4096, description="dimensions of the noise z")
    network: Literal["conv", "mlp", "progressive"] = Field(
        "conv", description="convolutional (residual), fully connected, or progressively grown"
    )
    hidden: tuple[Width, ...] = Field(
        (256, 256, 256), min_length=1, description="mlp: widths of the layers of both networks"
    )
    hidden_g: tuple[Width, ...] | None = Field(
        None, description="mlp: widths of the generator's layers, if others [hidden]"
    )
    width: int = Field(
        16, ge=4, le=1024, description="conv, progressive: channels at the finest resolution"
    )
    blocks: int = Field(1, ge=0, le=16, description="conv: residual blocks at each resolution")
    patch: int = Field(
        0,
        ge=0,
        le=16,
        description="conv: side of the patch of pixels that becomes channels; 0 chooses by the size",
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
    r2: float = Field(0.3, ge=0, le=1e6, description="gamma of R2, the same at generated examples")
    penalty_hold: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training in which r1 and r2 stay whole, before they are annealed",
    )
    penalty_end: float = Field(
        0.2,
        gt=0,
        le=1,
        description="share of r1 and r2 that is left at the end of training, geometrically annealed",
    )
    lazy: int = Field(
        4,
        ge=1,
        le=1000,
        description="penalise one in so many examples of each batch; cheaper, the same on average",
    )
    gradient_penalty: float = Field(
        0.0, ge=0, le=1e6, description="weight of the one-centred penalty of WGAN-GP, usually 10"
    )
    spectral_norm: bool = Field(
        False, description="divide D's weights by their largest singular values"
    )
    augment: tuple[Literal["translation", "cutout", "colour"], ...] = Field(
        (), description="DiffAugment of real and fake alike: for fewer than some 10,000 images"
    )
    pack: int = Field(
        1,
        ge=1,
        le=16,
        description="examples of one kind that D judges together (PacGAN); what is left of a batch is left out",
    )
    conditional: bool = Field(
        False, description="learn p(x | y): labels go to G, and to D by projection"
    )
    d_steps: int = Field(
        1, ge=1, le=100, description="updates of D in each step, each on its own batch"
    )
    g_steps: int = Field(1, ge=1, le=100, description="updates of G in each step")
    d_epochs: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="take turns: D alone for so many epochs, then G; 0: both in each step",
    )
    g_epochs: float = Field(
        0.0, ge=0, le=1000, description="take turns: G alone for so many epochs, then D"
    )
    d_alone: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training, its last, in which D learns alone, to know what G still lacks (it chooses the samples)",
    )
    lr_d: float = Field(3e-3, gt=0, le=1e31, description="learning rate of D")
    lr_g: float = Field(3e-3, gt=0, le=1e31, description="learning rate of G")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam: momentum")
    beta2: float = Field(0.99, ge=0, lt=1, description="Adam: memory of squared gradients")


class Options(BaseConfig):
    truncation: float | None = Field(
        None,
        gt=0,
        le=5,
        description="draw the components of z within so many standard deviations: below 2 safer, less varied",
    )
    candidates: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="draws of G for each sample, of which D keeps one: the nearer to the data, the better its chances [8; 1 where D's score is no ratio of densities]",
    )
    temperature: float | None = Field(
        None,
        ge=0,
        le=100,
        description="of D's choice among the candidates: below 1 safer, less varied; 0: always what D likes best; above 1 nearer to G alone [1]",
    )


PROGRESS_OPTIONS = dict(candidates=1)  # G alone, while it trains


PRESETS = {
    "default": dict(ema=0.9999, precision="auto", batch_size=64, warmup=0.02, lr_end=0.2),
    "conv": dict(ema=0.9999, precision="auto", batch_size=64, warmup=0.02, lr_end=0.2),
    "mlp": dict(network="mlp", ema=0.9999, lr_d=1e-3, lr_g=2e-3, beta1=0.0, lazy=1, batch_size=64),
    "points": dict(
        network="mlp",
        hidden=(192, 192, 192),
        hidden_g=(256, 256, 256, 256),
        latent_dim=4,
        r1=0.4,
        r2=0.4,
        penalty_hold=0.6,
        penalty_end=0.003,
        d_alone=0.05,
        lazy=2,
        lr_d=1e-3,
        lr_g=2e-3,
        lr_end=0.1,
        beta1=0.0,
        batch_size=256,
        ema=0.9999,
    ),
    "table": dict(
        network="mlp",
        hidden=(128, 128, 128),
        latent_dim=32,
        r1=0.1,
        r2=0.1,
        penalty_end=0.1,
        lazy=1,
        lr_d=1e-3,
        lr_g=2e-3,
        beta1=0.0,
        ema=0.9999,
    ),
    # the lecture's recipe to the letter: an epoch of D, an epoch of G, the first losses, no penalty, no average
    "lecture": dict(
        loss="non-saturating",
        r1=0.0,
        r2=0.0,
        d_epochs=1.0,
        g_epochs=1.0,
        lr_d=2e-4,
        lr_g=2e-4,
        beta2=0.999,
        ema=0.0,
    ),
    "wgan-gp": dict(
        loss="wasserstein",
        r1=0.0,
        r2=0.0,
        gradient_penalty=10.0,
        d_steps=5,
        lr_d=2e-4,
        lr_g=2e-4,
        beta1=0.0,
        beta2=0.9,
    ),
    "progressive": dict(
        network="progressive",
        width=16,
        latent_dim=128,
        lr_d=1e-3,
        lr_g=1e-3,
        beta1=0.0,
        ema=0.999,
        precision="auto",
        batch_size=16,
    ),
    "residual": dict(
        network="conv",
        width=32,
        blocks=2,
        patch=2,
        latent_dim=128,
        lr_d=1e-3,
        lr_g=1e-3,
        ema=0.9999,
        precision="auto",
        batch_size=16,
    ),
}


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    if spec.kind == "vector":
        return "points" if spec.dims == 2 and not spec.blocks else "table"
    return "conv"


class GAN(Family):
    measured = True  # how sure D should be is; not where G and D live in the codes of another run

    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        c = config
        check(c, spec)
        n_classes = spec.classes if c.conditional else 0
        packed = (c.pack * spec.shape[0], *spec.shape[1:])  # examples of a pack side by side
        if c.network == "conv":
            self.generator = ConvGenerator(
                c.latent_dim, spec.shape, c.width, c.blocks, c.patch, n_classes
            )
            self.discriminator = ConvCritic(packed, c.width, c.blocks, c.patch, n_classes)
        elif c.network == "progressive":
            self.generator = ProgressiveGenerator(c.latent_dim, spec.shape, c.width, n_classes)
            self.discriminator = ProgressiveCritic(packed, c.width, n_classes)
            self.cost_stages = 2 * len(level_sizes(spec.shape))
        else:
            self.generator = MLPGenerator(
                c.latent_dim, spec.shape, c.hidden_g or c.hidden, n_classes
            )
            self.discriminator = MLPCritic(packed, c.hidden, n_classes)
        if c.spectral_norm:
            with_spectral_norm(self.discriminator)
        if c.r1 or c.r2 or c.gradient_penalty:
            self.second_order = ("discriminator",)
        self.latent_dim = c.latent_dim
        self.choice = adversarial.ImportanceResampler()

    def phases(self):
        c = self.config
        betas = (c.beta1, c.beta2)
        return (
            Phase(
                "discriminator",
                trains=("discriminator",),
                lr=c.lr_d,
                betas=betas,
                repeats=c.d_steps,
                epochs=c.d_epochs,
            ),
            Phase(
                "generator",
                trains=("generator",),
                lr=c.lr_g,
                betas=betas,
                repeats=c.g_steps,
                epochs=c.g_epochs,
                until=1 - c.d_alone,
            ),
        )

    # -- the duel --------------------------------------------------------------------------------------------

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        return (
            self.discriminator_loss(batch, rng)
            if phase == "discriminator"
            else self.generator_loss(batch, rng)
        )

    def discriminator_loss(self, batch: Batch, rng: Rng) -> Loss:
        c, label = self.config, self.condition(batch.y)
        with torch.no_grad():  # G is frozen
            x_fake = self.generate(rng.normal("z", (len(batch), c.latent_dim)), label)
        x_real, x_fake = (
            self.prepare(self.shrunk(batch.x), rng.at("real")),
            self.prepare(x_fake, rng.at("fake")),
        )
        label = None if label is None else label[: len(x_real)]
        annealed = max(0.0, self.progress - c.penalty_hold) / (1 - c.penalty_hold)
        left = c.penalty_end**annealed  # from 1 to penalty_end
        # a progressive critic compares examples of a group of four pairs: it is penalised on one group at least
        lazy = c.lazy if c.network != "progressive" else max(1, min(c.lazy, len(x_real) // 4))
        value, terms = adversarial.penalised_discriminator_loss(
            self.score, x_real, x_fake, label, c.loss, left * c.r1, left * c.r2, lazy
        )
        if c.gradient_penalty:
            middle = adversarial.interpolate(x_real, x_fake, rng.uniform("between", (len(x_real),)))
            _, slopes = adversarial.scores_and_squared_gradients(
                lambda part, rows: self.score(part, label), middle, len(middle)
            )
            value = value + adversarial.one_centred_penalty(slopes, c.gradient_penalty)
            terms["slope_between"] = slopes.mean()
        return Loss(value, terms)

    def generator_loss(self, batch: Batch, rng: Rng) -> Loss:
        c, label = self.config, self.condition(batch.y)
        x_fake = self.prepare(
            self.generate(rng.normal("z", (len(batch), c.latent_dim)), label), rng.at("fake")
        )
        label = None if label is None else label[: len(x_fake)]
        fake = real = self.score(x_fake, label)
        if c.loss == "relativistic":  # the only loss of G that looks at x
            with torch.no_grad():
                real = self.score(self.prepare(self.shrunk(batch.x), rng.at("real")), label)
        value = adversarial.GENERATOR[c.loss](real, fake)
        return Loss(value, {"g_loss": value})

    def score(self, x: Tensor, label: Tensor | None) -> Tensor:
        """D's scores of prepared examples, (B,), in float32."""
        extra = (self.growth,) if self.config.network == "progressive" else ()
        return self.discriminator(x, label, *extra).float()

    def prepare(self, x: Tensor, rng: Rng) -> Tensor:
        """Augmented, and packed: (B, C, ...) -> (B / pack, pack C, ...)."""
        m = self.config.pack
        if len(x) < m:
            raise UsageError(
                f"--pack {m} needs batches of {m} or more, and these have {len(x)}: raise --batch-size, or lower --pack"
            )
        x = augment(x, self.config.augment, rng) if self.config.augment else x
        return x if m == 1 else x[: len(x) // m * m].reshape(-1, m * x.shape[1], *x.shape[2:])

    # -- progressive growing: both networks and the real images at the size of the day -------------------------

    @property
    def growth(self) -> float:
        return growth_at(self.progress, len(level_sizes(self.spec.shape)))

    def shrunk(self, x: Tensor, faded: bool = False) -> Tensor:
        """faded: what G made has faded its level in already, and is only too large."""
        if self.config.network != "progressive":
            return x
        return shrink(
            x, math.ceil(self.growth) if faded else self.growth, level_sizes(self.spec.shape)
        )

    # -- from z to x -----------------------------------------------------------------------------------------

    def generate(self, z: Tensor, label: Tensor | None) -> Tensor:
        """G(z) as D sees it."""
        if self.config.network == "progressive":
            return self.generator.forward_at(z, label, self.growth).float()
        return self.finish(self.generator(z, label).float())

    def finish(self, x: Tensor) -> Tensor:
        """Images in [-1, 1]; categories of a table one-hot, with the gradient of their softmax (straight through)."""
        if self.spec.kind == "image":
            return x.tanh()
        if not self.spec.blocks:
            return x
        soft = [
            part.softmax(1) if part.shape[1] > 1 else part for part in x.split(self.spec.blocks, 1)
        ]
        return adversarial.hard_categories(torch.cat(soft, 1), self.spec.blocks)

    def draw_latents(self, n: int, options: Options, rng: Rng) -> Tensor:
        """n draws of z, (n, latent_dim)."""
        t = options.truncation
        if t is None:
            return rng.normal("z", (n, self.latent_dim))
        mass = math.erf(t / math.sqrt(2))  # of N(0, 1) within +-t
        u = (2 * rng.uniform("z", (n, self.latent_dim)) - 1) * mass
        return math.sqrt(2) * torch.erfinv(u)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        label = self.condition(y)
        if self.config.network == "progressive":
            return self.generator(z, label, self.growth).float().clamp(-1, 1)
        return self.generate(z, label)

    def sample(self, n: int, y: Tensor | None, options: Options, rng: Rng) -> Tensor:
        """G(z); of several candidates one, by D's judgement."""

        def draw(rng):
            return self.decode(self.draw_latents(n, options, rng), y)

        candidates, temperature = self.candidates(options.candidates), options.temperature
        if candidates == 1 and temperature is not None:
            why = self.why_one() or "--candidates is 1"
            raise UsageError(
                f"--temperature is of D's choice among candidates, and here is only one ({why}): leave it out"
            )
        return self.choice(
            draw,
            lambda x: self.judge(x, y),
            candidates,
            rng,
            1.0 if temperature is None else temperature,
        )

    def candidates(self, asked: int | None = None) -> int:
        """How many draws D chooses among. Raises UsageError where more than one is asked for, and it cannot."""
        why = self.why_one()
        if why and (asked or 1) > 1:
            raise UsageError(f"--candidates 1, or leave it out: {why}")
        return asked or (1 if why else adversarial.CANDIDATES)

    def why_one(self) -> str:
        """Why D does not choose among candidates, or ""."""
        unsure = (
            "this discriminator's scores say nothing of examples that it has not learned from"
            if self.choice.sureness == 0
            else ""
        )
        return self.why_never() or unsure

    def why_never(self) -> str:
        """Why its scores cannot be calibrated, or ""."""
        c = self.config
        if c.loss not in adversarial.LOG_RATIOS:
            return f"the score of a discriminator of --loss {c.loss} is no ratio of densities"
        if c.pack > 1 or c.network == "progressive":
            return "this discriminator judges several examples at once"
        if c.augment:
            return "this discriminator knows augmented examples only"
        return (
            ""
            if self.measured
            else "how sure this discriminator should be of codes is not measured"
        )

    def calibrate(self, real: Tensor, fake: Tensor) -> None:
        self.choice.calibrate(real, fake)

    def judge(self, x: Tensor, y: Tensor | None = None, made: bool = False) -> Tensor:
        """D's score of each example, (B,); a pack is filled up with the first ones and all of it gets one score."""
        n, m = len(x), self.config.pack
        rows = torch.arange(n + -n % m, device=x.device) % n
        label = self.condition(y) if self.conditional else None  # no packs then
        x = self.shrunk(x, faded=made)  # as D sees them in training
        packs = x[rows].reshape(-1, m * x.shape[1], *x.shape[2:])
        return self.score(packs, label).repeat_interleave(m)[:n]

    def features(self, x: Tensor) -> Tensor:
        """D's last hidden layer, (B, dims); of a pack of the same example where D looks at packs."""
        x = self.shrunk(x).repeat(1, self.config.pack, *[1] * (x.ndim - 2))
        return self.discriminator.features(
            x, *((self.growth,) if self.config.network == "progressive" else ())
        ).float()


def check(c: Config, spec: DataSpec) -> None:
    """Options that do not go together. Raises UsageError."""
    if spec.kind == "tokens":
        raise UsageError("the family gan is for images, points and tables")
    if c.network != "mlp" and spec.kind != "image":
        raise UsageError(f"--network {c.network} is for images: use mlp for this data")
    if c.augment and spec.kind != "image":
        raise UsageError("--augment is for images: leave it out for this data")
    if c.conditional:
        require_labels(spec)
    if c.conditional and c.pack > 1:
        raise UsageError(
            "--pack judges examples of any class together: it goes without --conditional"
        )
    if bool(c.d_epochs) != bool(c.g_epochs):
        raise UsageError("turns in epochs need both: give --d-epochs and --g-epochs")
    if c.d_epochs and c.d_alone:
        raise UsageError(
            "in turns of epochs G would have empty ones while D learns alone: give --d-alone 0, or no --d-epochs and --g-epochs"
        )


FAMILY = GAN
