"""Two stages in one model: a first stage turns x into a code z, a second one generates z.

    z ~ q(z | x),  v = (z - mean) / std      first stage, frozen; mean and std are measured
    the second stage's own objective on v; to sample: v -> z = mean + std v -> x = decoder(z)

(Rombach et al. 2022, arXiv:2112.10752; two-stage VAEs: Dai & Wipf 2019, arXiv:1903.05789; VQ-VAE
with its prior: van den Oord et al. 2017.) ``train FAMILY --within RUN`` trains the second stage.
The first stage's weights are copied into the run, which needs nothing else. Where all three
densities exist, the likelihood bound is

    log p(x) >= E_q[log p(x | z) + log p_second(z) - log q(z | x)]
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..core import capabilities as can
from ..core.capabilities import has
from ..core.config import BaseConfig, build
from ..core.family import Family, Loss, collect, delegate, sum_per_example
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec, Labels
from ..nets.codes import BINS, Binned, FlattenedGrid, Standardised
from ..nets.latent import repeat
from ..probability.gaussian import importance_weighted_bound, log_normal
from . import FamilyFile, loaded

MEASURED_CODES = 10_000  # training codes on which the transform to v is measured
Form = Literal["codes", "image", "vector", "bins"]
Batches = Callable[[], Iterator[Batch]]


class Stage(BaseConfig):
    """family: its name, or a family file of the user's with its sha256; config: all of it."""

    family: str
    config: dict
    sha256: str = ""

    def file(self) -> FamilyFile:
        return loaded(self.family, self.sha256)

    def build(self, spec: DataSpec) -> Family:
        file = self.file()
        return file.FAMILY(build(file.Config, file.earlier | self.config), spec)


class Config(BaseConfig):
    """Written by training.launch, not by options: those of the command line configure the second
    stage.

    within  the run of the first stage
    digest  sha256 of the weights of that run when this one began
    form    of v: symbols of a codebook, a latent image, a vector, or rounded numbers
    """

    within: str
    digest: str
    form: Form
    first: Stage
    second: Stage
    conditional: bool = False

    def second_config(self) -> BaseConfig:
        return build(self.second.file().Config, self.second.config)


def code_shape(first: Family) -> tuple[int, ...]:
    """Shape of the code as numbers: (latent_dim,), or (D, h, w) with a codebook."""
    return (first.code_dim, *first.grid) if has(first, can.Quantises) else (first.latent_dim,)


def second_spec(first: Family, form: Form) -> DataSpec:
    """The data of a second stage."""
    shape = code_shape(first)
    labels = {"classes": first.spec.classes, "caption": first.spec.caption}
    if form == "codes":
        return DataSpec("tokens", (prod(first.grid),), levels=first.codes, separate=True, **labels)
    if form == "bins":
        return DataSpec("tokens", shape, levels=BINS, separate=True, **labels)
    if form == "image":
        return DataSpec("image", shape, **labels)
    return DataSpec("vector", (prod(shape),), **labels)


class TwoStage(Family):
    """first: the frozen first stage, x <-> z. scale: z <-> v. second: the model of v."""

    first: Any
    second: Any
    scale: Any

    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        self.first = config.first.build(spec).eval()
        self.second = config.second.build(second_spec(self.first, config.form))
        if has(self.second, can.ChoosesSamples):
            self.second.choice.is_measured = (
                False  # its scores are calibrated on samples x, not on codes
            )
        shape = code_shape(self.first)
        if config.form == "codes":
            self.scale = FlattenedGrid(self.first.grid)
        elif config.form == "bins":
            self.scale = Binned(*shape)
        else:
            self.scale = Standardised(shape, flat=config.form == "vector")
        self.second_order = tuple(f"second.{name}" for name in self.second.second_order)
        self.first_and_last = tuple(f"second.{name}" for name in self.second.first_and_last)
        self.cost_stages = self.second.cost_stages
        self.latent_dim = prod(shape)
        self.reason = self.why_no_bound()
        self.bound: can.Bound = "none" if self.reason else "lower"
        self.continuous = has(self.first, can.HasLikelihood) and self.first.continuous

    def lacks(self, capability: type) -> bool:
        """True if the stage that this capability is delegated to does not have it."""
        has_vector_code = has(self.first, can.Encodes) and has(self.first, can.Decodes)
        if capability in (can.Encodes, can.Decodes):
            return not has_vector_code
        if capability is can.DrawsLatents:  # its codes do not depend on a label
            return not has_vector_code or self.second.conditional
        if capability is can.Reconstructs:
            return not has(self.first, can.Reconstructs)
        if capability is can.HasFeatures:  # it encodes x without a label
            return self.first.conditional or not has(self.second, can.HasFeatures)
        if capability in (can.FitsInClosedForm, can.GuidedByModel, can.Judges, can.Traces):
            return not has(self.second, capability)
        return False

    @property
    def trained_config(self) -> BaseConfig:
        return self.second.config

    @property
    def progress(self) -> float:
        return self.second.progress

    @progress.setter
    def progress(self, share: float) -> None:
        if "second" in self._modules:  # not yet in Family.__init__
            self.second.progress = share

    def train(self, mode: bool = True):
        super().train(mode)
        self.first.eval()  # frozen: never in training
        return self

    # -- training: the second stage's, on codes -----------------------------------------------

    def phases(self):
        return tuple(
            replace(phase, trains=tuple(f"second.{name}" for name in phase.trains))
            for phase in self.second.phases()
        )

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        with torch.no_grad():
            v = self.to_latents(batch.x, batch.y, rng.at("first"))
        return self.second.loss(Batch(v, batch.y, batch.rows), phase, rng)

    @torch.no_grad()
    def fit_before(self, batches: Batches, rng: Rng) -> None:
        """Measures the scale of the codes, then what the second stage measures."""
        codes = (
            self.draw_code(batch.x, batch.y, rng.at("codes", i))
            for i, batch in enumerate(batches())
        )
        self.scale.fit(collect(codes, MEASURED_CODES))
        if has(self.second, can.FitsBefore):
            self.second.fit_before(self.encode_batches(batches, rng), rng)

    def fit(self, batches: Batches, rng: Rng) -> None:
        self.second.fit(self.encode_batches(batches, rng), rng)

    def encode_batches(self, batches: Batches, rng: Rng) -> Batches:
        """The same batches with v in the place of x; the same draws each time."""

        def encoded() -> Iterator[Batch]:
            for i, batch in enumerate(batches()):
                v = self.to_latents(batch.x, batch.y, rng.at("codes", i))
                yield Batch(v, batch.y, batch.rows)

        return encoded

    # -- x -> z -> v and back -----------------------------------------------------------------

    def draw_code(self, x: Tensor, y: Labels, rng: Rng | None) -> Tensor:
        """z ~ q(z | x), or its mean without a q or an rng; with a codebook symbols or their vectors."""
        if has(self.first, can.Quantises):
            s = self.first.quantise(x, y)
            return s if self.config.form == "codes" else self.first.embed(s)
        if rng is not None and has(self.first, can.HasPosterior):
            return self.first.draw_posterior(x, y, rng, 1)[:, 0].float()
        if rng is not None and has(self.first, can.EncodesDistribution):
            mean, std = self.first.posterior(x, y)
            return (mean + std * rng.normal("eps", mean.shape)).float()
        return self.first.encode(x, y).float()

    def to_latents(self, x: Tensor, y: Labels, rng: Rng | None = None) -> Tensor:
        """x (B, *shape) -> v, the input of the second stage; of the mean code without an rng."""
        return self.scale(self.draw_code(x, y, rng))

    def from_latents(self, v: Tensor, y: Labels) -> Tensor:
        """v -> x (B, *shape)."""
        z = self.scale.inverse(v)
        if not has(self.first, can.Quantises):
            return self.first.decode(z, y)
        return self.first.from_codes(z if self.config.form == "codes" else self.first.nearest(z), y)

    encode = delegate("first", "encode")
    decode = delegate("first", "decode")
    reconstruct = delegate("first", "reconstruct")

    def features(self, x: Tensor) -> Tensor:
        """Of the mean code of x."""
        return self.second.features(self.to_latents(x, None))

    def judge(self, x: Tensor, y: Labels = None, is_generated: bool = False) -> Tensor:
        """The discriminator's score of the mean code of x."""
        return self.second.judge(self.to_latents(x, y), y, is_generated)

    # -- sampling -----------------------------------------------------------------------------

    def sample(self, n: int, y: Labels, options: BaseConfig, rng: Rng) -> Tensor:
        return self.from_latents(self.second.sample(n, y, options, rng), y)

    def draw_latents(self, n: int, options: BaseConfig, rng: Rng) -> Tensor:
        return self.scale.inverse(self.second.sample(n, None, options, rng))

    def trace(self, n: int, y: Labels, options: BaseConfig, rng: Rng) -> list[can.Moment]:
        """The second stage's states, decoded."""
        return [
            can.Moment(m.level, self.from_latents(m.x, y), self.from_latents(m.x_hat, y))
            for m in self.second.trace(n, y, options, rng)
        ]

    def guide_with(self, weak: "TwoStage | None") -> None:
        self.second.guide_with(None if weak is None else weak.second)

    # -- likelihood ---------------------------------------------------------------------------

    def why_no_bound(self) -> str:
        """What a likelihood bound would need and these stages do not have, or ""."""
        if not has(self.first, can.HasPosterior):
            return "its first stage has one code for each x and no p(x | z)"
        if self.first.bound == "none":
            return self.first.reason
        if self.first.standard_dims < self.first.latent_dim:
            return "its first stage's own prior, a hierarchy, cannot be taken out"
        if self.config.form != "vector":
            return "its second stage sees rounded codes"
        if not has(self.second, can.HasLikelihood) or self.second.bound == "none":
            return "its second stage defines no density of z"
        if self.second.bound != "exact":
            return "its second stage's density of z is known by a bound only"
        return ""

    def log_likelihood(self, x: Tensor, y: Labels, rng: Rng, k: int = 1) -> Tensor:
        """k = 1: the bound above; k > 1: its importance-weighted form. (B,) nats."""
        log_weights = self.log_weights(x, y, rng, k)
        return importance_weighted_bound(log_weights) if k > 1 else log_weights[:, 0]

    def log_weights(self, x: Tensor, y: Labels, rng: Rng, k: int) -> Tensor:
        """log p(x | z) + log p_second(z) - log q(z | x) for k draws of z, (B, k) nats."""
        z = self.first.draw_posterior(x, y, rng, k).flatten(0, 1)  # B k, D
        y = repeat(y, k)
        log_joint, log_q = self.first.log_densities(z, repeat(x, k), y)  # of the first stage
        log_first_prior = sum_per_example(log_normal(z))  # log p_first(z): taken out
        log_v = self.second.log_likelihood(self.scale(z), y, rng.at("second"), 1)
        log_second_prior = log_v - self.scale.std.log().sum()
        return (log_joint - log_first_prior + log_second_prior - log_q).view(-1, k)


def two_stage_family(config: Config | dict) -> FamilyFile:
    """The family of two stages, with the options and presets of the second one."""
    config = config if isinstance(config, Config) else build(Config, config)
    config.first.file()  # raises UsageError if the code of the first stage is not trusted
    second = config.second.file()
    stages = {"name": "latent", "path": Path(__file__), "Config": Config, "FAMILY": TwoStage}
    return replace(second, second=second, earlier={}, sha256="", **stages)
