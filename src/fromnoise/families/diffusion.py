"""Diffusion and flow models: learn to see through noise, then walk from noise to data.

    x_t = alpha_t x + sigma_t eps,  eps ~ N(0, I),  t from 0 (data) to 1 (noise)
    Loss = E || F(x_t, t) - (a_t x + b_t eps) ||^2

What the network F predicts, a x + b eps, gives back x and eps, since x_t is another such mixture. Sampling goes down from
t = 1 along dx_t/dt = alpha' x_hat + sigma' eps_hat. DDPM (path linear or cosine, target eps), EDM and flow matching are
settings of this one model: a path (probability/path.py), a target, and the levels of noise that are trained.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.config import BaseConfig, Width
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase, sum_per_example
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec
from ..nets.denoiser import MLP, PatchTransformer
from ..probability import samplers
from ..probability.path import PATHS, beside


class Config(BaseConfig):
    path: Literal["flow", "edm", "cosine", "linear"] = Field("flow", description="how noise is mixed in: straight lines, EDM's, DDPM's two")
    target: Literal["auto", "v", "edm", "eps", "x"] = Field("auto", description="what the network predicts: velocity, EDM's mixture, noise, data [flow: v, edm: edm, else eps]")
    levels: Literal["auto", "lognormal", "uniform"] = Field("auto", description="noise levels that are trained: log(sigma/alpha) normal, or t uniform [flow, edm: lognormal]")
    level_mean: float = Field(0.0, ge=-10, le=10, description="lognormal: mean of log(sigma/alpha), data of variance 1")
    level_std: float = Field(1.0, gt=0, le=10, description="lognormal: its standard deviation")
    network: Literal["auto", "transformer", "mlp"] = Field("auto", description="patch Transformer, MLP [images: transformer, vectors: mlp]")
    width: Width = Field(128, description="features of a layer")
    depth: int = Field(4, ge=1, le=64, description="layers")
    heads: int | None = Field(None, ge=1, le=64, description="transformer: attention heads [width / 32]")
    patch: int | None = Field(None, ge=1, le=64, description="transformer: side of a patch in pixels [2 below 16 pixels, 4 below 64, then 8]")
    conditional: bool = Field(False, description="learn p(x | y), and p(x) beside it for guidance")
    label_dropout: float = Field(0.1, ge=0, le=1, description="conditional: share of the examples whose label is hidden")
    lr: float = Field(2e-3, gt=0, le=1e31, description="learning rate")


class Options(BaseConfig):
    steps: int = Field(10, ge=1, le=10_000, description="evaluations of the network")
    sampler: Literal["dpm", "heun", "euler", "ddpm"] = Field("dpm", description="DPM-Solver++ 2M, Heun, Euler (DDIM), or ancestral (DDPM)")
    spacing: Literal["rho", "time"] = Field("rho", description="of the steps: EDM's, or equal in t")
    guidance: float = Field(1.0, ge=0, le=100, description="conditional: 1 samples p(x | y), more exaggerates the label, 0 ignores it")


TRAINING = dict(optimizer="muon", warmup=0.02, ema=0.999, batch_size=128, precision="auto")

PRESETS = {
    "default": TRAINING,
    "points": TRAINING | dict(width=128, depth=4, batch_size=512),
    "ddpm": TRAINING | dict(path="linear"),
    "cosine": TRAINING | dict(path="cosine"),
    "edm": TRAINING | dict(path="edm", level_mean=-0.5, level_std=1.2),
}


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    return "points" if spec.kind == "vector" else "default"


class Diffusion(Family):
    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        c = config
        if spec.kind == "tokens":
            raise UsageError("diffusion is for images and vectors: use autoregressive for text")
        if c.conditional and not spec.classes:
            raise UsageError("--conditional needs labels, and this data has none")
        name = c.network if c.network != "auto" else "transformer" if spec.kind == "image" else "mlp"
        if name != "mlp" and spec.kind != "image":
            raise UsageError(f"--network {name} is for images: use mlp for this data")
        self.path = PATHS[c.path]()
        self.target = c.target if c.target != "auto" else {"flow": "v", "edm": "edm"}.get(c.path, "eps")
        self.net = make_network(name, c, spec)
        self.register_buffer("shift", torch.zeros(1, spec.shape[0], *[1] * (len(spec.shape) - 1)))
        self.register_buffer("scale", torch.ones(()))

    def phases(self):
        return (Phase("denoising", trains=("net",), lr=self.config.lr, betas=(0.9, 0.99)),)

    def fit_before(self, batches, rng: Rng) -> None:
        """Mean of each channel (or column) and one standard deviation of all: the model sees data of variance 1."""
        n, total, squares = 0, 0.0, 0.0
        for batch in batches():
            x = batch.x.double().flatten(2) if batch.x.ndim > 2 else batch.x.double()[:, :, None]
            n, total, squares = n + len(x) * x.shape[2], total + x.sum((0, 2)), squares + x.square().sum((0, 2))
        mean = total / n
        self.shift.copy_(mean.view(self.shift.shape))
        self.scale.fill_(max(1e-6, float((squares / n - mean**2).mean().clamp(min=0).sqrt())))

    # -- the objective ---------------------------------------------------------------------------------------

    def times(self, n: int, rng: Rng) -> Tensor:
        """Times t (n,) of a batch: one in each n-th part of their distribution, so that every batch sees all levels
        (Kingma et al. 2021, arXiv:2107.00630, appendix I.1); of held-out examples, each has its own."""
        own = rng.rows is not None
        u = rng.uniform("t", (n,)) if own else (torch.arange(n, device=rng.device) + rng.uniform("t", (1,))) / n
        lognormal = self.config.levels == "lognormal" or (self.config.levels == "auto" and self.config.path in ("flow", "edm"))
        if not lognormal:
            return u.clamp(1e-4, 1 - 1e-4)
        log_ratio = self.config.level_mean + self.config.level_std * torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))
        return self.path.at(log_ratio.exp()).clamp(1e-6, 1 - 1e-6)

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        x = (batch.x - self.shift) / self.scale
        t, eps = self.times(len(x), rng), rng.normal("eps", x.shape)                # (B,), (B, *shape)
        condition = self.condition(batch.y)
        if condition is not None and self.training:
            condition = condition * (rng.uniform("hide", (len(x), 1)) >= self.config.label_dropout)
        a, b = (beside(part, x) for part in self.path.target(self.target, t))
        predicted = self.predict(self.path.mix(x, eps, t), t, condition)
        error = (predicted - (a * x + b * eps)).square().flatten(1).mean(1)         # (B,), a component's
        return Loss(error.mean(), {"error": error.mean()})

    def predict(self, x_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """F(x_t, t), t (B,): x_t goes in with variance 1, and its level as the angle between data and noise."""
        alpha, sigma = self.path.coefficients(t)
        size = (alpha**2 + sigma**2).sqrt()
        return self.net(x_t / beside(size, x_t), torch.atan2(sigma, alpha) * (2 / math.pi), condition)

    # -- sampling --------------------------------------------------------------------------------------------

    def denoiser(self, y: Tensor | None, options: Options) -> samplers.Denoise:
        """(x_t, t) -> (x_hat, eps_hat), guided: w F(x_t | y) + (1 - w) F(x_t) (Ho & Salimans 2022, arXiv:2207.12598, eq. 6)."""
        condition, w = self.condition(y), options.guidance

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            t = t.to(x_t).expand(len(x_t))
            if condition is None or w == 1:
                return self.predict(x_t, t, condition)
            both = self.predict(torch.cat([x_t, x_t]), torch.cat([t, t]), torch.cat([condition, torch.zeros_like(condition)]))
            return torch.lerp(*both.chunk(2)[::-1], w)

        return lambda x_t, t: self.path.solve(x_t, predict(x_t, t), self.target, t)

    def sample(self, n: int, y: Tensor | None, options: Options, rng: Rng) -> Tensor:
        evaluations = (options.steps + 2) // 2 if options.sampler == "heun" else options.steps
        times = samplers.spaced(self.path, evaluations, options.spacing)
        x = self.path.mix(torch.zeros(()), rng.normal("x", (n, *self.spec.shape)), times[0])
        run = {"dpm": samplers.dpm, "heun": samplers.heun, "euler": samplers.euler, "ddpm": samplers.ancestral}[options.sampler]
        more = {"rng": rng.at("ancestral")} if options.sampler == "ddpm" else {}
        x = run(self.denoiser(y, options), x, self.path, times, **more) * self.scale + self.shift
        return x.clamp(-1, 1) if self.spec.kind == "image" and self.spec.levels else x


def make_network(name: str, c: Config, spec: DataSpec):
    n_condition = spec.classes if c.conditional else 0
    if name == "mlp":
        return MLP(spec.dims, c.width, c.depth, n_condition)
    side = max(spec.shape[1:])
    patch = c.patch or (2 if side < 16 else 4 if side < 64 else 8)
    heads = c.heads or max(1, c.width // 32)
    return PatchTransformer(spec.shape, c.width, c.depth, heads, patch, n_condition)


FAMILY = Diffusion
