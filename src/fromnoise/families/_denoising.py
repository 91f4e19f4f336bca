"""What a model with a denoiser can do: sampling and editing, by the options of a sampler.

States x_t are in units in which the data have mean 0 and variance 1: (x - shift) / scale.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..core.capabilities import Moment
from ..core.errors import UsageError
from ..core.family import Family
from ..core.rng import Rng
from ..core.spec import Condition, Labels
from ..probability.diffusion import samplers
from ..probability.diffusion.gaussian_data import GaussianData
from ..probability.diffusion.path import RATIOS, Path, append_dims
from ..probability.diffusion.reverse import ReverseProcess, time_of_level


class DenoisingFamily(Family):
    """path: alpha and sigma. target: what ``predict`` returns. shift, scale: of the data.

    net: the network, or what it adds to ``gaussian``.
    gaussian: a Gaussian or a mixture fitted to the data, whose denoiser has a closed form, or None.
    weak: the weaker model of autoguidance, or None.
    """

    path: Path
    target: Any
    shift: Tensor
    scale: Tensor
    gaussian: GaussianData | None
    weak: "DenoisingFamily | None" = None
    default_options: Any
    net: nn.Module

    def predict(
        self, x_t: Tensor, t: Tensor, condition: Condition, until: Tensor | None = None
    ) -> Tensor:
        """F(x_t, t), t (B,): the prediction of the known denoiser, and the network's correction.

        The input of the network is x_t with variance 1, its level as the angle between data and
        noise, and the x_hat of the known denoiser. Its output is scaled by the root of the share of
        the variance that one Gaussian explains (of a jump: where it ends). Where noise hides
        everything, nothing is left to correct. until (B,): the ends of jumps.
        """
        alpha, sigma = self.path.coefficients(t)
        x_in = x_t / append_dims((alpha**2 + sigma**2).sqrt(), x_t)
        angle = self.path.angle(t)
        angle_until = None if until is None else self.path.angle(until)
        if self.gaussian is None:
            return self.net(x_in, angle, condition, angle_until)
        x_hat = self.gaussian.denoise(x_t, alpha, sigma, self.classes(condition))
        eps_hat = (x_t - append_dims(alpha, x_t) * x_hat) / append_dims(sigma, x_t)
        a, b = (append_dims(part, x_t) for part in self.path.target(self.target, t))
        ratio = sigma / alpha if until is None else self.path.ratio(until)
        share = append_dims(self.gaussian.explained(ratio).sqrt(), x_t)
        correction = self.net(x_in, angle, condition, angle_until, x_hat)
        return a * x_hat + b * eps_hat + share * correction

    def standardise(self, x: Tensor) -> Tensor:
        return (x - self.shift) / self.scale

    def to_data(self, x: Tensor) -> Tensor:
        """The inverse of ``standardise``."""
        return x * self.scale + self.shift

    @property
    def has_range(self) -> bool:
        """True for images of pixels, which lie in [-1, 1]."""
        return bool(self.spec.kind == "image" and self.spec.levels)

    def finish(self, x: Tensor) -> Tensor:
        """A sample in standardised units -> in the range of the data."""
        x = self.to_data(x)
        return x.clamp(-1, 1) if self.has_range else x

    # -- the denoiser -----------------------------------------------------------------------------

    def classes(self, condition: Condition) -> Tensor | None:
        """The part of a condition that the known denoiser depends on: classes, not captions."""
        return None if self.spec.caption else condition

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """x_hat and eps_hat (B, *shape). x_t may hold the rows of the condition several times."""
        if condition is not None:
            copies = len(x_t) // len(condition)
            condition = condition.repeat(copies, *[1] * (condition.ndim - 1))
        prediction = self.predict(x_t, t.to(x_t).expand(len(x_t)), condition)
        return self.path.solve(x_t, prediction, self.target, t)

    def denoiser(self, y: Labels, options: Any) -> samplers.Denoise:
        """(x_t, t) -> (x_hat, eps_hat), guided. Raises UsageError."""
        condition = self.condition(y)
        self.check_guidance(options, possible=condition is not None or self.weak is not None)
        strong = partial(self.denoise, condition=condition)
        if self.weak is not None:
            weak = self.weak.denoiser(y if self.weak.conditional else None, self.default_options)
        else:
            no_label = None if condition is None else torch.zeros_like(condition)
            weak = partial(self.denoise, condition=no_label)
        bounds = options.guidance_from, options.guidance_to
        return samplers.guide(strong, weak, self.path, options.guidance, *bounds)

    def check_guidance(self, options: Any, possible: bool) -> None:
        """Raises UsageError for guidance of a model without labels, and for bounds of no guidance."""
        if options.guidance != 1:
            if not possible:
                raise UsageError(
                    "--guidance needs a model that was trained with labels (--conditional): "
                    "leave it out"
                )
            return
        default = self.default_options
        bounds = (default.guidance_from, default.guidance_to)
        if (options.guidance_from, options.guidance_to) != bounds:
            raise UsageError(
                "--guidance-from and --guidance-to say where --guidance acts: give that too, "
                "or leave them out"
            )

    def guide_with(self, weak: "DenoisingFamily | None") -> None:
        """Guidance away from the prediction of a weaker model of the same data and path (an earlier
        checkpoint), and not from that without the label. None ends it. Raises UsageError."""
        if weak is not None and (weak.spec, weak.config.path) != (self.spec, self.config.path):
            raise UsageError("a model is guided by one of the same data and path")
        object.__setattr__(self, "weak", weak)  # no part of this model

    def jump(self, y: Labels, options: Any) -> samplers.FlowMap:
        """(x_t, t, r) -> x_r in one step, of a network that learned to jump. Raises UsageError."""
        if not self.config.jumps:
            raise UsageError("--sampler jump needs a model that was trained with --jumps")
        if options.guidance != 1:
            raise UsageError("--sampler jump goes without --guidance")
        condition = self.condition(y)

        def jump(x_t: Tensor, t: Tensor, r: Tensor) -> Tensor:
            start, end = (time.to(x_t).expand(len(x_t)) for time in (t, r))
            return x_t - (t - r).to(x_t) * self.predict(x_t, start, condition, end)

        return jump

    # -- the sampler ------------------------------------------------------------------------------

    def reverse_process(self, y: Labels, options: Any) -> ReverseProcess:
        """The sampler of the options, for labels y. Raises UsageError."""
        method = self.sampler(options)
        jumps = method == "jump"
        return ReverseProcess(
            method,
            self.path,
            self.sampling_times(options),
            denoise=None if jumps else self.denoiser(y, options),
            jump=self.jump(y, options) if jumps else None,
            churn=options.churn,
            known=self.gaussian,
            classes=self.classes(self.condition(y)),
        )

    def sampler(self, options: Any) -> str:
        if options.sampler != "auto":
            return options.sampler
        return "sde" if self.draws_captions else "dpm"

    @property
    def draws_captions(self) -> bool:
        """True for images of captions: their details need the new noise of ``sde``, and more steps."""
        return bool(self.conditional and self.spec.caption and self.spec.kind == "image")

    def sampling_times(self, options: Any) -> Tensor:
        """Falling times (n,) whose steps take ``options.steps`` evaluations. Raises UsageError."""
        method = self.sampler(options)
        if options.churn and method != "heun":
            raise UsageError("--churn is for --sampler heun: take that, or leave it out")
        default = 10
        if self.spec.kind != "image":
            default = 40  # ten are too few where the data are narrow
        elif self.draws_captions and method != "jump":
            default = 32
        n = options.steps or default
        if method == "heun":
            n = (n + 1) // 2
        spacing = "time" if method == "jump" else options.spacing
        return samplers.time_grid(self.path, n, spacing, *self.sampled_ratios())

    def sampled_ratios(self) -> tuple[float, float]:
        """The lowest and the highest ratio of noise to data of a sampler.

        Above 2.5 standard deviations of the first principal component the data are their Gaussian,
        and sampling starts from that. From .05 an image goes to x_hat at once, which removes
        components of less than .05 standard deviations; vectors may be narrower than that.
        """
        low = 0.05 if self.has_range else 0.005
        if self.gaussian is None:
            return low, RATIOS[1]
        return low, min(RATIOS[1], max(10.0, 2.5 * float(self.gaussian.variances[0]) ** 0.5))

    def trace(self, n: int, y: Labels, options: Any, rng: Rng) -> list[Moment]:
        process = self.reverse_process(y, options)
        states = [process.start(rng.normal("x", (n, *self.spec.shape)))]
        estimates = []

        def record(i: int, x: Tensor, x_hat: Tensor) -> None:
            states.append(x)
            estimates.append(x_hat)

        sample = self.sample(n, y, options, rng, record)
        ratios = self.path.ratio(process.times)
        moments = []
        for level, x_t, x_hat in zip((ratios / (1 + ratios)).tolist(), states, estimates):
            _, size = time_of_level(self.path, level)
            moments.append(Moment(level, self.to_data(x_t / size), self.to_data(x_hat)))
        return [*moments, Moment(0.0, sample, sample)]

    # -- editing, with noise of a level s: x_s = (1 - s) x + s eps --------------------------------

    def noised(self, x: Tensor, level: float, z: Tensor) -> Tensor:
        return (1 - level) * x + level * self.to_data(z)

    def clean(self, x_s: Tensor, level: float, y: Labels, options: Any) -> Tensor:
        t, scale = time_of_level(self.path, level)
        x_hat, _ = self.denoiser(y, options)(self.standardise(x_s) * scale, t)
        return self.to_data(x_hat)

    def denoised(self, x_s: Tensor, level: float, y: Labels, options: Any, rng: Rng) -> Tensor:
        process = self.reverse_process(y, options)
        return self.finish(process.from_level(self.standardise(x_s), level, rng))

    def to_noise(self, x: Tensor, y: Labels, options: Any) -> Tensor:
        """Two evaluations for each step. Raises UsageError for samplers that draw new noise."""
        method = self.sampler(options)
        if method in ("sde", "ddpm", "jump") or options.churn:
            with_churn = " with --churn" if options.churn else ""
            raise UsageError(
                f"--sampler {method}{with_churn} does not bring a picture back from its noise: "
                "take dpm, euler or heun"
            )
        return self.reverse_process(y, options).to_noise(self.standardise(x))

    def complete(self, given: Tensor, mask: Tensor, y: Labels, options: Any, rng: Rng) -> Tensor:
        eps = rng.normal("x", given.shape)
        process = self.reverse_process(y, options)
        x = self.finish(process.complete(self.standardise(given), mask, eps, rng))
        return torch.where(mask, given, x)
