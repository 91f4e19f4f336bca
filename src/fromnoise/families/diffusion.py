"""Diffusion and flow models: a network learns to remove noise; sampling goes from noise to data.

    x_t = alpha_t x + sigma_t eps,  eps ~ N(0, I),  t from 0 (data) to 1 (noise)
    loss = E || F(x_t, t) - (a_t x + b_t eps) ||^2

F predicts a x + b eps; with x_t = alpha x + sigma eps these are two equations for x and eps. F is
``predict`` (_denoising.py). alpha_t is the square root of DDPM's alpha-bar_t.
Sampling follows dx_t/dt = alpha' x_hat + sigma' eps_hat from t = 1 down to 0. Three papers are
settings of this model: a path (probability/diffusion/path.py), a target, and the training times.

    DDPM (Ho et al. 2020, arXiv:2006.11239)                 path linear, target eps
    EDM (Karras et al. 2022, arXiv:2206.00364)              path edm, target edm
    flow matching (Lipman et al. 2023, arXiv:2210.02747)    path flow, target v

Unless ``components`` is 0, the network corrects a known denoiser: that of a Gaussian, or of a
mixture of Gaussians, fitted to the data (probability/diffusion/mixture_data.py).
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.capabilities import Bound
from ..core.config import BaseConfig, BlockCount, LearningRate, Share, Size, Width
from ..core.errors import UsageError
from ..core.family import Loss, Phase
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, Labels
from ..nets.diffusion import make_network
from ..probability.cells import Cells
from ..probability.diffusion import likelihood
from ..probability.diffusion.bounds import variational_bound
from ..probability.diffusion.known import make_known_denoiser
from ..probability.diffusion.mean_flow import mean_flow_loss, mean_square
from ..probability.diffusion.ode import OdeLikelihood
from ..probability.diffusion.path import PATHS, RATIOS, append_dims
from ..probability.diffusion.training_times import lognormal_times, uniform_times
from ..probability.likelihood import NO_DENSITY_OF_CATEGORIES
from ..probability.moments import channel_moments
from ._denoising import DenoisingFamily


class Config(BaseConfig):
    path: Literal["flow", "edm", "cosine", "linear"] = Field(
        "flow", description="alpha and sigma: straight lines, EDM's, DDPM's cosine or linear"
    )
    target: Literal["auto", "v", "edm", "eps", "x"] = Field(
        "auto", description="of F: velocity, EDM's, noise, data [flow: v, edm: edm, else eps]"
    )
    levels: Literal["auto", "lognormal", "uniform"] = Field(
        "auto", description="training: log(sigma/alpha) normal, or t uniform [flow, edm: lognormal]"
    )
    level_mean: float = Field(0.0, ge=-10, le=10, description="lognormal: mean of log(sigma/alpha)")
    level_std: float = Field(1.0, gt=0, le=10, description="lognormal: its standard deviation")
    network: Literal["auto", "unet", "transformer", "mlp"] = Field(
        "auto", description="U-Net, patch Transformer, MLP [images: unet, vectors: mlp]"
    )
    width: Width | None = Field(
        None, description="features of a layer, unet: at the finest resolution [unet 64, else 128]"
    )
    depth: Size | None = Field(
        None, description="layers, unet: blocks at a resolution [unet 1, else 4]"
    )
    middle: Size | None = Field(
        None, description="unet: Transformer layers at the coarsest resolution [2 x depth]"
    )
    heads: Size | None = Field(None, description="transformer: attention heads [width / 32]")
    patch: Size | None = Field(
        None, description="transformer: side of a patch [2 below 16 pixels, 4 below 64, then 8]"
    )
    waves: BlockCount = Field(
        0, description="mlp: frequencies of sines of each input, for fine structure"
    )
    components: int | None = Field(
        None, ge=0, le=4096, description="PCA in the known denoiser; 0: none [as many as fit 4 MB]"
    )
    gaussians: int | None = Field(
        None, ge=1, le=1024, description="in the known denoiser, at most [images 64, vectors 1]"
    )
    conditional: bool = Field(False, description="learn p(x | y), and p(x) beside it for guidance")
    jumps: Share = Field(0.0, description="last share of training, for samples in 1 or 2 steps")
    label_dropout: Share = Field(0.1, description="conditional: share of labels that are hidden")
    lr: LearningRate = 5e-3


class Options(BaseConfig):
    steps: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="network evaluations [images 10, captions 32, vectors 40]",
    )
    sampler: Literal["auto", "dpm", "sde", "heun", "euler", "ddpm", "jump"] = Field(
        "auto",
        description="DPM-Solver++ 2M, the same with new noise in each step, Heun, Euler (DDIM), "
        "ancestral (DDPM), or jumps (after training with --jumps) [captions: sde, else dpm]",
    )
    spacing: Literal["log", "rho", "time"] = Field(
        "log", description="of the steps: equal in log(sigma/alpha), EDM's, or equal in t"
    )
    guidance: float = Field(
        1.0, ge=0, le=100, description="conditional: 1 samples p(x | y), more exaggerates the label"
    )
    guidance_from: float = Field(0.0, ge=0, description="guidance acts above this sigma/alpha ...")
    guidance_to: float = Field(100.0, gt=0, description="... and below this one")
    churn: float = Field(0.0, ge=0, le=1e6, description="heun: new noise, S_churn of EDM")


TRAINING = dict(
    optimizer="muon",
    warmup=0.02,
    averages=(0.05, 0.1),
    batch_size=64,
    precision="auto",
    validation_examples=1000,
)
VECTORS = TRAINING | dict(optimizer="adamw")
PRESETS = {
    "default": TRAINING | dict(lr=7e-3, level_mean=0.3, level_std=1.3),
    "points": VECTORS | dict(depth=2, waves=6, level_mean=-1.5, level_std=2.0, batch_size=512),
    "table": VECTORS | dict(depth=3, batch_size=256),
    # The layout is decided where noise is strong; many small steps learn more than few large ones.
    "captions": TRAINING | dict(network="transformer", depth=6, level_mean=1.0, lr=7e-3),
    "ddpm": TRAINING | dict(path="linear"),
    "cosine": TRAINING | dict(path="cosine"),
    "edm": TRAINING | dict(path="edm", level_mean=-0.5, level_std=1.2),
}
EARLIER = {"components": 0, "gaussians": 1}  # of runs that do not record them


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    if spec.kind == "image":
        return "captions" if spec.caption else "default"
    return "points" if spec.dims <= 3 else "table"


DEFAULT_TARGETS = {"flow": "v", "edm": "edm", "cosine": "eps", "linear": "eps"}


class Diffusion(DenoisingFamily):
    default_options = Options.model_construct()

    latent_images = True
    first_and_last = ("net.stem", "net.embed", "net.conditioning.levels.mix", "net.out")

    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        c = config
        if spec.kind == "tokens":
            raise UsageError("diffusion is for images and vectors: use autoregressive for text")
        if c.conditional and not (spec.classes or spec.caption):
            raise UsageError("--conditional needs labels or captions, and this data has none")
        self.path = PATHS[c.path]()
        self.target = DEFAULT_TARGETS[c.path] if c.target == "auto" else c.target
        if c.jumps and (c.path, self.target) != ("flow", "v"):
            raise UsageError("--jumps needs straight lines: --path flow with --target auto")
        self.cost_stages = 10 if c.jumps else 1  # a step that learns to jump costs more
        self.net = make_network(
            c.network,
            spec,
            *(c.width, c.depth, c.middle, c.heads, c.patch, c.waves),
            condition_size=(spec.caption or spec.classes) if c.conditional else 0,
            two_levels=c.jumps > 0,
            guess=c.components != 0,
        )
        self.reason = NO_DENSITY_OF_CATEGORIES if spec.has_categories else ""
        self.bound: Bound = "none" if self.reason else "lower"
        self.cells = Cells(spec) if spec.has_cells else None
        self.continuous = not spec.levels and self.cells is None
        self.register_buffer("shift", torch.zeros(1, spec.shape[0], *[1] * (len(spec.shape) - 1)))
        self.register_buffer("scale", torch.ones(()))
        classes = spec.classes if c.conditional and not spec.caption else 0
        gaussians = c.gaussians or (64 if spec.kind == "image" else 1)
        self.gaussian = make_known_denoiser(spec.dims, c.components, gaussians, classes)

    def phases(self):
        return (Phase("denoising", trains=("net",), lr=self.config.lr, betas=(0.9, 0.99)),)

    def fit_before(self, batches, rng: Rng) -> None:
        """Measures the mean of each channel or column and one variance; fits the known denoiser."""
        mean, variance = channel_moments(lambda: (batch.x for batch in batches()))
        self.shift.copy_(mean.view(self.shift.shape))
        self.scale.fill_(max(1e-6, float(variance.mean().clamp(min=0).sqrt())))

        def examples():
            for batch in batches():
                yield self.standardise(batch.x), self.classes(batch.y if self.conditional else None)

        if self.gaussian is not None:
            self.gaussian.fit(examples, RATIOS[0] ** 2, rng)

    # -- training ---------------------------------------------------------------------------------

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        x = self.standardise(batch.x)
        t = self.training_times(len(x), rng)  # (B,)
        eps = rng.normal("eps", x.shape)
        condition = self.condition(batch.y)
        if condition is not None and self.training:
            kept = rng.uniform("hide", (len(x), 1)) >= self.config.label_dropout
            condition = condition * kept
        if self.training and self.progress > 1 - self.config.jumps:
            return mean_flow_loss(self.predict, self.path, x, eps, t, condition, rng)
        a, b = (append_dims(part, x) for part in self.path.target(self.target, t))
        prediction = self.predict(self.path.mix(x, eps, t), t, condition)
        error = mean_square(prediction - (a * x + b * eps)).mean()
        return Loss(error, {"error": error})

    def training_times(self, n: int, rng: Rng) -> Tensor:
        c = self.config
        if c.levels == "lognormal" or (c.levels == "auto" and c.path in ("flow", "edm")):
            return lognormal_times(self.path, n, c.level_mean, c.level_std, rng)
        return uniform_times(self.path, n, rng)

    # -- sampling ---------------------------------------------------------------------------------

    def sample(self, n: int, y: Labels, options: Options, rng: Rng, on_step=None) -> Tensor:
        eps = rng.normal("x", (n, *self.spec.shape))
        return self.finish(self.reverse_process(y, options).sample(eps, rng, on_step))

    # -- likelihood, of the model without guidance ------------------------------------------------

    def log_likelihood(self, x: Tensor, y: Labels, rng: Rng, k: int = 1) -> Tensor:
        """The variational bound (B,) nats: of a probability of levels or cells, or of a density."""
        decoder = likelihood.Decoder(x, self.shift, self.scale, self.spec.levels, self.cells)
        denoise = self.denoiser(y, self.default_options)
        n_ratios = 8 if self.spec.kind == "image" else 64
        x = self.standardise(x)
        lowest = decoder.lowest_ratio
        return variational_bound(denoise, x, self.path, decoder.log_p, rng, n_ratios, lowest)

    def flow_log_likelihood(
        self, x: Tensor, y: Labels, rng: Rng, probes: int | None = None, **solver
    ) -> OdeLikelihood:
        """log p(x) (B,) nats along the probability flow; see diffusion/likelihood.py."""
        denoise = self.denoiser(y, self.default_options)
        return likelihood.flow_log_likelihood(
            denoise, self.path, x, self.shift, self.scale, rng, probes, **solver
        )


FAMILY = Diffusion
