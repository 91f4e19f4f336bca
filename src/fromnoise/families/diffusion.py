"""Diffusion and flow models: learn to see through noise, then walk from noise to data.

    x_t = alpha_t x + sigma_t eps,  eps ~ N(0, I),  t from 0 (data) to 1 (noise)
    Loss = E || F(x_t, t) - (a_t x + b_t eps) ||^2

What the network F predicts, a x + b eps, gives back x and eps, since x_t is another such mixture. Sampling goes down from
t = 1 along dx_t/dt = alpha' x_hat + sigma' eps_hat. DDPM (path linear or cosine, target eps), EDM and flow matching are
settings of this one model: a path (probability/diffusion/path.py), a target, and the levels of noise that are trained.

The network does not start from nothing: it corrects the denoiser of a mixture of Gaussians that was fitted to the data
(probability/diffusion/mixture_data.py). With ``--components 0`` there is none, and F is the network alone, as in the papers.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.func import jvp

from ..core.capabilities import Bound, Moment
from ..core.config import BaseConfig, Width
from ..core.errors import UsageError
from ..core.family import Family, Loss, Phase
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec
from ..nets.denoiser import MLP, PatchTransformer, attention_heads
from ..nets.unet import UNet
from ..probability.cells import Cells
from ..probability.diffusion import editing, samplers
from ..probability.diffusion.bounds import bound, log_level, probability_flow
from ..probability.diffusion.dpm_with_known import dpm_with_known
from ..probability.diffusion.gaussian_data import GaussianData
from ..probability.diffusion.mixture_data import MixtureData
from ..probability.diffusion.ode import (
    EXACT_TRACE_DIMS,
    TRACE_PROBES,
    OdeLikelihood,
    ode_log_likelihood,
)
from ..probability.diffusion.path import PATHS, RATIOS, append_dims
from ..probability.gaussian import log_normal


class Config(BaseConfig):
    path: Literal["flow", "edm", "cosine", "linear"] = Field(
        "flow", description="how noise is mixed in: straight lines, EDM's, DDPM's two"
    )
    target: Literal["auto", "v", "edm", "eps", "x"] = Field(
        "auto",
        description="what the network predicts: velocity, EDM's mixture, noise, data [flow: v, edm: edm, else eps]",
    )
    levels: Literal["auto", "lognormal", "uniform"] = Field(
        "auto",
        description="noise levels that are trained: log(sigma/alpha) normal, or t uniform [flow, edm: lognormal]",
    )
    level_mean: float = Field(
        0.0, ge=-10, le=10, description="lognormal: mean of log(sigma/alpha), data of variance 1"
    )
    level_std: float = Field(1.0, gt=0, le=10, description="lognormal: its standard deviation")
    network: Literal["auto", "unet", "transformer", "mlp"] = Field(
        "auto", description="U-Net, patch Transformer, MLP [images: unet, vectors: mlp]"
    )
    width: Width | None = Field(
        None, description="features of a layer, unet: at the finest resolution [unet 64, else 128]"
    )
    depth: int | None = Field(
        None, ge=1, le=64, description="layers, unet: blocks at a resolution [unet 1, else 4]"
    )
    middle: int | None = Field(
        None,
        ge=1,
        le=64,
        description="unet: Transformer layers at its coarsest resolution, where it reads captions [2 x depth]",
    )
    heads: int | None = Field(
        None, ge=1, le=64, description="transformer: attention heads [width / 32]"
    )
    patch: int | None = Field(
        None,
        ge=1,
        le=64,
        description="transformer: side of a patch in pixels [2 below 16 pixels, 4 below 64, then 8]",
    )
    waves: int = Field(
        0,
        ge=0,
        le=16,
        description="mlp: frequencies at which it sees each number too, for what changes over short distances",
    )
    components: int | None = Field(
        None,
        ge=0,
        le=4096,
        description="principal components of the data in the known denoiser, a mixture of Gaussians, that the network corrects; 0: the network alone [all up to 1,024 dimensions, then as many as fit 4 MB]",
    )
    gaussians: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Gaussians in the mixture, at most: as many as held-out examples ask for; 1: one Gaussian [images 64, vectors 1]",
    )
    conditional: bool = Field(False, description="learn p(x | y), and p(x) beside it for guidance")
    jumps: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training, at its end, in which the network also learns to jump: samples in one or two steps",
    )
    label_dropout: float = Field(
        0.1, ge=0, le=1, description="conditional: share of the examples whose label is hidden"
    )
    lr: float = Field(5e-3, gt=0, le=1e31, description="learning rate")


class Options(BaseConfig):
    steps: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="evaluations of the network, at most [images 10, captions 32, vectors 40]",
    )
    sampler: Literal["auto", "dpm", "sde", "heun", "euler", "ddpm", "jump"] = Field(
        "auto",
        description="DPM-Solver++ 2M, the same with new noise in each step, Heun, Euler (DDIM), ancestral (DDPM), or jumps (of a model trained with --jumps) [captions: sde, else dpm]",
    )
    spacing: Literal["log", "rho", "time"] = Field(
        "log", description="of the steps: equal in log(sigma/alpha), EDM's, or equal in t"
    )
    guidance: float = Field(
        1.0, ge=0, le=100, description="conditional: 1 samples p(x | y), more exaggerates the label"
    )
    guidance_from: float = Field(
        0.0, ge=0, description="guidance acts above this ratio of noise to data ..."
    )
    guidance_to: float = Field(100.0, gt=0, description="... and below this one")
    churn: float = Field(
        0.0, ge=0, le=1e6, description="heun: noise that is added on the way, S_churn of EDM"
    )


BASIS = 2**20  # numbers of the principal components that the known denoiser has by default
SIZES = {"unet": (64, 1), "transformer": (128, 4), "mlp": (128, 4)}  # width and depth
TRAINING = dict(
    optimizer="muon",
    warmup=0.02,
    averages=(0.05, 0.1),
    batch_size=64,
    precision="auto",
    validation_examples=1000,
)

PRESETS = {
    "default": TRAINING | dict(lr=7e-3, level_mean=0.3, level_std=1.3),
    "points": TRAINING
    | dict(depth=2, waves=6, optimizer="adamw", level_mean=-1.5, level_std=2.0, batch_size=512),
    "table": TRAINING | dict(depth=3, optimizer="adamw", batch_size=256),
    # what stands where is decided where noise is strong; many small steps learn more than few large ones
    "captions": TRAINING
    | dict(network="transformer", depth=6, level_mean=1.0, batch_size=64, lr=7e-3),
    "ddpm": TRAINING | dict(path="linear"),
    "cosine": TRAINING | dict(path="cosine"),
    "edm": TRAINING | dict(path="edm", level_mean=-0.5, level_std=1.2),
}

EARLIER = {
    "components": 0,
    "gaussians": 1,
}  # runs from before the known denoiser have none; the first that had one had one Gaussian


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    if spec.kind == "image":
        return "captions" if spec.caption else "default"
    return "points" if spec.dims <= 3 else "table"


class Diffusion(Family):
    latent_images = True
    first_and_last = ("net.stem", "net.embed", "net.conditioning.levels.mix", "net.out")

    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        c = config
        if spec.kind == "tokens":
            raise UsageError("diffusion is for images and vectors: use autoregressive for text")
        if c.conditional and not (spec.classes or spec.caption):
            raise UsageError("--conditional needs labels or captions, and this data has none")
        name = c.network if c.network != "auto" else "unet" if spec.kind == "image" else "mlp"
        if name != "mlp" and spec.kind != "image":
            raise UsageError(f"--network {name} is for images: use mlp for this data")
        self.path = PATHS[c.path]()
        self.target = (
            c.target if c.target != "auto" else {"flow": "v", "edm": "edm"}.get(c.path, "eps")
        )
        if c.jumps and (c.path, self.target) != ("flow", "v"):
            raise UsageError("--jumps needs straight lines: --path flow with --target auto")
        self.cost_stages = 10 if c.jumps else 1  # a step that jumps costs more
        self.net = make_network(name, c, spec)
        self.weak: Diffusion | None = None
        categories = any(block > 1 for block in spec.blocks)
        self.bound: Bound = "none" if categories else "lower"
        self.reason = (
            "a density over one-hot columns is no probability of a category: use the family vae"
            if categories
            else ""
        )
        self.cells = Cells(spec) if spec.has_cells else None
        self.continuous = not spec.levels and self.cells is None
        self.register_buffer("shift", torch.zeros(1, spec.shape[0], *[1] * (len(spec.shape) - 1)))
        self.register_buffer("scale", torch.ones(()))
        most = max(1, BASIS // spec.dims)
        components = min(spec.dims, most if c.components is None else c.components)
        self.gaussian: GaussianData | None = None  # one, or a mixture: what is known in closed form
        gaussians = c.gaussians or (64 if spec.kind == "image" else 1)
        if components and gaussians > 1:
            self.gaussian = MixtureData(
                spec.dims,
                components,
                gaussians,
                spec.classes if c.conditional and not spec.caption else 0,
            )
        elif components:
            self.gaussian = GaussianData(spec.dims, components)

    def phases(self):
        return (Phase("denoising", trains=("net",), lr=self.config.lr, betas=(0.9, 0.99)),)

    def fit_before(self, batches, rng: Rng) -> None:
        """Mean of each channel (or column) and one standard deviation of all: the model sees data of variance 1."""
        n, total, squares = 0, 0.0, 0.0
        for batch in batches():
            x = batch.x.double().flatten(2) if batch.x.ndim > 2 else batch.x.double()[:, :, None]
            n, total, squares = (
                n + len(x) * x.shape[2],
                total + x.sum((0, 2)),
                squares + x.square().sum((0, 2)),
            )
        mean = total / n
        self.shift.copy_(mean.view(self.shift.shape))
        self.scale.fill_(max(1e-6, float((squares / n - mean**2).mean().clamp(min=0).sqrt())))
        if self.gaussian is not None:

            def label(batch):
                return batch.y if self.conditional and not self.spec.caption else None

            self.gaussian.fit(
                lambda: (
                    ((batch.x - self.shift) / self.scale, label(batch)) for batch in batches()
                ),
                RATIOS[0] ** 2,
                rng,
            )

    # -- the objective ---------------------------------------------------------------------------------------

    def classes_of(self, condition: Tensor | None) -> Tensor | None:
        """What of a condition the mixture knows: classes, and no captions."""
        return None if self.spec.caption else condition

    def times(self, n: int, rng: Rng) -> Tensor:
        """Times t (n,) of a batch: one in each n-th part of their distribution, so that every batch sees all levels
        (Kingma et al. 2021, arXiv:2107.00630, appendix I.1); of held-out examples, each has its own."""
        own = rng.rows is not None
        u = (
            rng.uniform("t", (n,))
            if own
            else (torch.arange(n, device=rng.device) + rng.uniform("t", (1,))) / n
        )
        lognormal = self.config.levels == "lognormal" or (
            self.config.levels == "auto" and self.config.path in ("flow", "edm")
        )
        if not lognormal:
            return torch.lerp(*u.new_tensor(self.path.range), u)
        log_ratio = self.config.level_mean + self.config.level_std * torch.special.ndtri(
            u.clamp(1e-6, 1 - 1e-6)
        )
        return self.path.at(log_ratio.exp().clamp(*RATIOS))

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        x = (batch.x - self.shift) / self.scale
        t, eps = self.times(len(x), rng), rng.normal("eps", x.shape)  # (B,), (B, *shape)
        condition = self.condition(batch.y)
        if condition is not None and self.training:
            condition = condition * (rng.uniform("hide", (len(x), 1)) >= self.config.label_dropout)
        a, b = (append_dims(part, x) for part in self.path.target(self.target, t))
        target = a * x + b * eps
        if self.training and self.progress > 1 - self.config.jumps:
            return self.jumping_loss(x, eps, t, target, condition, rng)
        error = per_component(self.predict(self.path.mix(x, eps, t), t, condition) - target)
        return Loss(error.mean(), {"error": error.mean()})

    def predict(
        self, x_t: Tensor, t: Tensor, condition: Tensor | None, until: Tensor | None = None
    ) -> Tensor:
        """F(x_t, t), t (B,): what the mixture of Gaussians predicts, and the network's correction of it.

        The network sees x_t with variance 1, its level as the angle between data and noise, and the mixture's x_hat. Its output
        is scaled by the root of the share of the variance that one Gaussian explains (for a jump: where it ends): where noise
        hides everything, nothing is left to correct. Without the mixture (--components 0) it is the network alone.
        """
        alpha, sigma = self.path.coefficients(t)
        size = (alpha**2 + sigma**2).sqrt()
        angle = self.path.angle(t)
        angle_until = None if until is None else self.path.angle(until)
        if self.gaussian is None:
            return self.net(x_t / append_dims(size, x_t), angle, condition, angle_until)
        x_hat = self.gaussian.denoise(x_t, alpha, sigma, self.classes_of(condition))
        eps_hat = (x_t - append_dims(alpha, x_t) * x_hat) / append_dims(sigma, x_t)
        a, b = (append_dims(part, x_t) for part in self.path.target(self.target, t))
        # A jump is as large as what is known where it ends.
        explained = self.gaussian.explained(
            sigma / alpha if until is None else self.path.ratio(until)
        )
        share = append_dims(explained.sqrt(), x_t)
        return (
            a * x_hat
            + b * eps_hat
            + share * self.net(x_t / append_dims(size, x_t), angle, condition, angle_until, x_hat)
        )

    def jumping_loss(
        self, x: Tensor, eps: Tensor, t: Tensor, v: Tensor, condition: Tensor | None, rng: Rng
    ) -> Loss:
        """The network learns mean velocities too, u(x_t, t, r) = 1/(t - r) int_r^t v, so that x_r = x_t - (t - r) u. By
        differentiating (t - r) u along the way (Geng et al. 2025, "MeanFlow", arXiv:2505.13447, eqs. 6 and 10):

            u = v - (t - r) du/dt,    du/dt = (v d/dx + d/dt) u

        Half of the batch jumps, from any t to any r below; for the other half r = t, where u is v. The slope is taken along
        the velocity that the network itself sees, which depends on x_t alone (Geng et al. 2025, arXiv:2512.02012).
        """
        n = len(x) // 2
        far = rng.uniform("far", (n,)).clamp(*self.path.range)
        t = torch.cat([far, t[::2]])  # t rises: every second one has all levels
        r = torch.cat([far * rng.uniform("until", (n,)), t[n:]])
        x_t, head = self.path.mix(x, eps, t), None if condition is None else condition[:n]
        with torch.no_grad():
            along = self.predict(x_t[:n], far, head)
            _, slope = jvp(
                lambda x_t, t: self.predict(x_t, t, head, r[:n]),
                (x_t[:n], far),
                (along, torch.ones_like(far)),
            )
        target = torch.cat([v[:n] - append_dims(far - r[:n], x) * slope, v[n:]])
        error = per_component(self.predict(x_t, t, condition, r) - target)  # (B,)
        value = (
            error / (error.detach() + 0.01).sqrt()
        ).mean()  # long jumps err most: they must not rule
        return Loss(value, {"error": error[n:].mean(), "jump_error": error[:n].mean()})

    # -- sampling --------------------------------------------------------------------------------------------

    def denoiser(self, y: Tensor | None, options: Options) -> samplers.Denoise:
        """(x_t, t) -> (x_hat, eps_hat), guided. x_t may hold the rows of y several times over. Raises UsageError."""
        condition, o = self.condition(y), options
        if condition is None and self.weak is None and o.guidance != 1:
            raise UsageError(
                "--guidance needs a model that was trained with labels (--conditional): leave it out"
            )
        if o.guidance == 1 and (o.guidance_from, o.guidance_to) != (
            Options().guidance_from,
            Options().guidance_to,
        ):
            raise UsageError(
                "--guidance-from and --guidance-to say where --guidance acts: give that too, or leave them out"
            )

        def seen(condition: Tensor | None) -> samplers.Denoise:
            def denoise(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
                copies = (
                    None
                    if condition is None
                    else condition.repeat(len(x_t) // len(condition), *[1] * (condition.ndim - 1))
                )
                prediction = self.predict(x_t, t.to(x_t).expand(len(x_t)), copies)
                return self.path.solve(x_t, prediction, self.target, t)

            return denoise

        if self.weak is not None:
            weak = self.weak.denoiser(y if self.weak.conditional else None, Options())
        else:
            weak = seen(None if condition is None else torch.zeros_like(condition))
        return samplers.guide(
            seen(condition), weak, self.path, o.guidance, o.guidance_from, o.guidance_to
        )

    def leap(self, y: Tensor | None, options: Options) -> samplers.FlowMap:
        """(x_t, t, r) -> x_r at once, of a network that learned to jump. Raises UsageError."""
        if not self.config.jumps:
            raise UsageError("--sampler jump needs a model that was trained with --jumps")
        if options.guidance != 1:
            raise UsageError("--sampler jump goes without --guidance")
        condition = self.condition(y)

        def leap(x_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
            at = [time.to(x_t).expand(len(x_t)) for time in (t, r)]
            return x_t - (t - r).to(x_t) * self.predict(x_t, at[0], condition, at[1])

        return leap

    def guide_with(self, weak: "Diffusion | None") -> None:
        """Guidance away from what a weaker model of the same data and path sees (an earlier checkpoint), and not from the model
        without the label. Raises UsageError."""
        if weak is not None and (weak.spec, weak.config.path) != (self.spec, self.config.path):
            raise UsageError("a model is guided by one of the same data and path")
        object.__setattr__(self, "weak", weak)  # no part of this model

    @property
    def captioned(self) -> bool:
        """Are images drawn from captions? What those ask for in detail needs the new noise of ``sde``, and more steps."""
        return bool(self.conditional and self.spec.caption and self.spec.kind == "image")

    def sampler(self, options: Options) -> str:
        return options.sampler if options.sampler != "auto" else "sde" if self.captioned else "dpm"

    def sampling_times(self, options: Options) -> Tensor:
        """The times of as many steps as make the evaluations. Raises UsageError for churn that no sampler has."""
        sampler = self.sampler(options)
        if options.churn and sampler != "heun":
            raise UsageError("--churn is for --sampler heun: take that, or leave it out")
        usual = (
            40 if self.spec.kind != "image" else 32 if self.captioned and sampler != "jump" else 10
        )  # ten are too few where the data are narrow
        n = options.steps or usual
        n = (n + 1) // 2 if sampler == "heun" else n
        return samplers.time_grid(
            self.path, n, "time" if sampler == "jump" else options.spacing, *self.sampled_ratios()
        )

    def sampled_ratios(self) -> tuple[float, float]:
        """The lowest and the highest ratio of noise to data that a sampler visits.

        Above 2.5 standard deviations of the leading principal component the data are their Gaussian, and sampling starts from
        that. From .05 an image goes to x_hat at once, which removes components of less than .05 standard deviations; vectors
        may be narrower than that, so that they are followed further.
        """
        low = 0.05 if self.spec.kind == "image" and self.spec.levels else 0.005
        if self.gaussian is None:
            return low, RATIOS[1]
        return low, min(RATIOS[1], max(10.0, 2.5 * float(self.gaussian.variances[0]) ** 0.5))

    def run_sampler(
        self,
        y: Tensor | None,
        denoise: samplers.Denoise,
        x: Tensor,
        times: Tensor,
        options: Options,
        rng: Rng,
        on_step=None,
    ) -> Tensor:
        """x_t (B, *shape) at the first of the times -> an example, by the sampler that is asked for."""
        if options.sampler == "jump":
            raise UsageError("--sampler jump makes new samples only: choose another one here")
        sampler = self.sampler(options)
        if sampler == "dpm" and self.gaussian is not None:
            x = dpm_with_known(
                denoise,
                x,
                self.path,
                times,
                self.gaussian,
                self.classes_of(self.condition(y)),
                on_step,
            )
        elif sampler in ("dpm", "sde"):
            x = samplers.dpm(denoise, x, self.path, times, sampler == "sde", rng, on_step=on_step)
        elif sampler == "heun":
            x = samplers.heun(denoise, x, self.path, times, rng, options.churn, on_step=on_step)
        else:
            x = samplers.ddim(
                denoise, x, self.path, times, float(sampler == "ddpm"), rng, on_step=on_step
            )
        return self.in_range(x * self.scale + self.shift)

    def start(self, eps: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        """x_t (B, *shape) where sampling starts, from eps ~ N(0, I), for labels y."""
        if self.gaussian is None:
            return samplers.initial_state(self.path, eps, t)
        return self.gaussian.start(
            eps, *self.path.coefficients(t), self.classes_of(self.condition(y))
        )

    def in_range(self, x: Tensor) -> Tensor:
        return x.clamp(-1, 1) if self.spec.kind == "image" and self.spec.levels else x

    def sample(self, n: int, y: Tensor | None, options: Options, rng: Rng, on_step=None) -> Tensor:
        times = self.sampling_times(options)
        x = self.start(rng.normal("x", (n, *self.spec.shape)), times[0], y)
        if options.sampler == "jump":
            return self.in_range(
                samplers.flow_map(self.leap(y, options), x, times, on_step) * self.scale
                + self.shift
            )
        return self.run_sampler(y, self.denoiser(y, options), x, times, options, rng, on_step)

    def trace(self, n: int, y: Tensor | None, options: Options, rng: Rng) -> list[Moment]:
        times, xs, seen = self.sampling_times(options), [], []
        ratios = self.path.ratio(times)
        sample = self.sample(
            n, y, options, rng, lambda i, x, x_hat: (xs.append(x), seen.append(x_hat))
        )
        xs = [self.start(rng.normal("x", sample.shape), times[0], y), *xs]

        def own(x):
            return x * self.scale + self.shift

        moments = [
            Moment(s, own(x / self.time_of_level(s)[1]), own(x_hat))
            for s, x, x_hat in zip((ratios / (1 + ratios)).tolist(), xs, seen)
        ]
        return [*moments, Moment(0.0, sample, sample)]

    # -- through noise of a level s: x_s = (1 - s) x + s eps -----------------------------------------------------

    def time_of_level(self, level: float) -> tuple[Tensor, Tensor]:
        """t (), and how many times larger x_t is than x_s."""
        t = self.path.at(
            torch.tensor(level / max(1 - level, 1e-9), dtype=torch.float64).clamp(*RATIOS)
        )
        return t, torch.hypot(*self.path.coefficients(t)) / math.hypot(1 - level, level)

    def noised(self, x: Tensor, level: float, z: Tensor) -> Tensor:
        return (1 - level) * x + level * (z * self.scale + self.shift)

    def clean(self, x_s: Tensor, level: float, y: Tensor | None, options: Options) -> Tensor:
        t, size = self.time_of_level(level)
        return (
            self.denoiser(y, options)((x_s - self.shift) / self.scale * size, t)[0] * self.scale
            + self.shift
        )

    def denoised(
        self, x_s: Tensor, level: float, y: Tensor | None, options: Options, rng: Rng
    ) -> Tensor:
        times = self.sampling_times(options)
        if level == 1:  # nothing is known: new samples start so
            x_t = self.start((x_s - self.shift) / self.scale, times[0], y)
        else:
            t, size = self.time_of_level(level)
            times = editing.below(times, t)
            x_t = (x_s - self.shift) / self.scale * size
        return self.run_sampler(y, self.denoiser(y, options), x_t, times, options, rng)

    def to_noise(self, x: Tensor, y: Tensor | None, options: Options) -> Tensor:
        """Two evaluations for each of the steps. Raises UsageError for a sampler that would not come back."""
        if (sampler := self.sampler(options)) in ("sde", "ddpm", "jump") or options.churn:
            raise UsageError(
                f"--sampler {sampler}{' with --churn' if options.churn else ''} does not bring a picture back from its noise: take dpm, euler or heun"
            )
        times = self.sampling_times(options)
        z = editing.encode(
            self.denoiser(y, options), (x - self.shift) / self.scale, self.path, times
        )
        if self.gaussian is None:
            return z
        alpha, sigma = self.path.coefficients(times[0])
        return self.gaussian.to_noise(
            torch.hypot(alpha, sigma).to(z) * z, alpha, sigma, self.classes_of(self.condition(y))
        )

    def complete(
        self, given: Tensor, mask: Tensor, y: Tensor | None, options: Options, rng: Rng
    ) -> Tensor:
        times = self.sampling_times(options)
        denoise = editing.condition_on_known(
            self.denoiser(y, options), (given - self.shift) / self.scale, mask, self.path
        )
        x = self.start(rng.normal("x", given.shape), times[0], y)
        return torch.where(mask, given, self.run_sampler(y, denoise, x, times, options, rng))

    # -- likelihood, of the model without guidance -----------------------------------------------------------

    def log_likelihood(self, x: Tensor, y: Tensor | None, rng: Rng, k: int = 1) -> Tensor:
        """The variational bound (B,) nats: of the probability of levels or cells, without dequantisation, or of a density."""
        shift, scale, levels = self.shift, self.scale, self.spec.levels
        half = (
            1 / ((levels - 1) * scale) if levels else 0 * scale
        )  # a level, in units of data of variance 1

        def log_decode(u: Tensor, u_hat: Tensor, std: float) -> Tensor:
            if not levels:
                density = log_normal(u, u_hat, 2 * math.log(std)) - scale.log()
                if self.cells is None:
                    return density
                own = u_hat * scale + shift
                mass = self.cells.log_mass(x, own, 2 * (std * scale).log().expand_as(own)).to(
                    density
                )
                return torch.where(self.cells.is_cell.to(x.device), mass, density)
            return log_level(u, u_hat, std, half, (-1 - shift) / scale, (1 - shift) / scale)

        # any lowest ratio gives a bound. Below half a level the network would have to know that there are levels; where they are
        # few, the decoder's rounding knows them already
        if self.cells is not None and bool(self.cells.is_cell.all()):
            half = self.cells.width.min().to(scale) / (2 * scale)
        looks, lowest = (
            8 if self.spec.kind == "image" else 64,
            max(RATIOS[0], min(float(half), 0.1)),
        )
        return bound(
            self.denoiser(y, Options()),
            (x - shift) / scale,
            self.path,
            log_decode,
            rng,
            looks,
            lowest,
        )

    def flow_log_likelihood(
        self,
        x: Tensor,
        y: Tensor | None,
        rng: Rng,
        probes: int | None = None,
        steps: int = 16,
        most: int = 128,
    ) -> OdeLikelihood:
        """log p(x) (B,) nats along the probability flow, down to the lowest level of noise, where x is taken to be.

        probes: for the trace; 0: exact, as many products as dimensions [0 up to 16 dimensions, then 2]. Raises UsageError
        where the solver is off by more than 0.01 bits for a dimension.
        """
        D, (drift, low, high) = (
            self.spec.dims,
            probability_flow(self.denoiser(y, Options()), self.path),
        )
        probes = (0 if D <= EXACT_TRACE_DIMS else TRACE_PROBES) if probes is None else probes
        cos = 1 / math.hypot(1, RATIOS[0])  # y = cos x + sin eps

        def log_base(y):
            return log_normal(y).double().flatten(1).sum(1) + D * (
                math.log(cos) - float(self.scale.log())
            )

        return ode_log_likelihood(
            drift,
            cos * (x - self.shift) / self.scale,
            log_base,
            low,
            high,
            steps,
            tolerance=0.01 * D * math.log(2),
            most=most,
            divergence="hutchinson" if probes else "exact",
            probes=probes,
            rng=rng,
        )


def per_component(difference: Tensor) -> Tensor:
    """Mean square of each example's components, (B,)."""
    return difference.square().flatten(1).mean(1)


def make_network(name: str, c: Config, spec: DataSpec):
    condition_size = (spec.caption or spec.classes) if c.conditional else 0
    width, depth = (given or known for given, known in zip((c.width, c.depth), SIZES[name]))
    more = dict(condition_size=condition_size, two_levels=c.jumps > 0, guess=c.components != 0)
    if name == "mlp":
        return MLP(spec.dims, width, depth, waves=c.waves, **more)
    if name == "unet":
        return UNet(spec.shape, width, depth, middle=c.middle, **more)
    side = max(spec.shape[1:])
    patch = c.patch or (2 if side < 16 else 4 if side < 64 else 8)
    heads = c.heads or attention_heads(width)
    if width % heads:
        raise UsageError(f"--heads {heads} does not divide --width {width}")
    return PatchTransformer(spec.shape, width, depth, heads, patch, **more)


FAMILY = Diffusion
