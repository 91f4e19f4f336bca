"""Two stages in one model: a trained first one turns x into a code z, a second one generates z (`train FAMILY --within RUN`).

    z ~ q(z | x),  v = (z - mean) / std      first stage, frozen; mean and std of each dimension are measured
    the second stage's own objective on v, and to sample: v -> z = mean + std v -> x = decoder(z)

(Rombach et al. 2022, arXiv:2112.10752; two-stage VAEs: Dai & Wipf 2019, arXiv:1903.05789; VQ-VAE with its prior: van den Oord
et al. 2017.) The first stage's weights are copied into the run, which needs nothing else. What such a model can do is
what its stages can: the class is put together from the parts below for each pair of stages, since capabilities are asked
of the class. With E_q[log p(x | z) + log p_second(z) - log q(z | x)] <= log p(x) it has a likelihood bound where all
three densities exist.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..core.capabilities import (
    Bound,
    ChoosesSamples,
    Decodes,
    Encodes,
    EncodesDistribution,
    FitsBefore,
    HasLikelihood,
    HasPosterior,
    Moment,
    Quantises,
    has,
)
from ..core.config import BaseConfig, build
from ..core.errors import UsageError
from ..core.family import Family, Loss, sum_per_example
from ..core.rng import Rng
from ..core.spec import Batch, DataSpec
from ..probability.gaussian import importance_weighted_bound, log_normal
from . import FamilyFile, loaded

CODES = 10_000  # training codes that their scale is measured on
BINS = 64  # values that a number of the code is rounded to for a second stage of symbols
Form = Literal["codes", "image", "vector", "bins"]


class Stage(BaseConfig):
    """family: its name, or its file if it is a stranger's, with the sha256 of that; config: its whole configuration."""

    family: str
    config: dict
    sha256: str = ""


class Config(BaseConfig):
    """Made by training.launch, not by options: those of the command line are the second stage's.

    within, digest  the first run, and the sha256 of its weights when this one began; they say where these came from
    form            of what the second stage sees: symbols of a codebook, a latent image, a vector, or rounded numbers
    """

    within: str
    digest: str
    form: Form
    first: Stage
    second: Stage
    conditional: bool = False

    def second_config(self) -> BaseConfig:
        return build(loaded(self.second.family, self.second.sha256).Config, self.second.config)


# -- what the second stage sees -------------------------------------------------------------------------------------


class Standardised(nn.Module):
    """z (B, *shape) <-> v of mean 0 and variance 1 in each dimension, in each channel (D) of a grid (D, h, w).

    A dimension that never varies is 0 to the second stage, and whatever that makes of it is its mean again.
    """

    def __init__(self, shape: tuple[int, ...], flat: bool):
        super().__init__()
        self.shape, self.flat = shape, flat
        self.register_buffer("mean", torch.zeros(shape[0], *[1] * (len(shape) - 1)))
        self.register_buffer("std", torch.ones_like(self.mean))

    def fit(self, z: Tensor) -> None:
        rows = z.double().transpose(0, 1).flatten(1)  # D, N h w
        std = rows.std(1, correction=0)
        std = torch.where(std > 1e-6 * std.max(), std, 0.0)
        self.mean.copy_(rows.mean(1).view_as(self.mean)), self.std.copy_(std.view_as(self.std))

    def forward(self, z: Tensor) -> Tensor:
        v = torch.where(self.std > 0, (z - self.mean) / self.std, 0.0)
        return v.flatten(1) if self.flat else v

    def back(self, v: Tensor) -> Tensor:
        return self.mean + self.std * v.view(-1, *self.shape)


class Binned(nn.Module):
    """z (B, D) <-> symbols (B, D): in which of ``BINS`` equally frequent intervals each number lies; back: its median."""

    def __init__(self, dims: int):
        super().__init__()
        self.register_buffer("edges", torch.zeros(dims, BINS - 1))
        self.register_buffer("medians", torch.zeros(dims, BINS))

    def fit(self, z: Tensor) -> None:
        levels = torch.arange(1, 2 * BINS, device=z.device, dtype=torch.double) / (2 * BINS)
        found = z.double().quantile(levels, 0).T  # D, 2 BINS - 1
        self.edges.copy_(found[:, 1::2]), self.medians.copy_(found[:, ::2])

    def forward(self, z: Tensor) -> Tensor:
        return torch.searchsorted(self.edges, z.T.contiguous()).T

    def back(self, s: Tensor) -> Tensor:
        return self.medians.T.gather(0, s)


class Symbols(nn.Module):
    """Codes s (B, h, w) of a codebook <-> one row of symbols (B, h w)."""

    def __init__(self, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid

    def fit(self, s: Tensor) -> None:
        pass

    def forward(self, s: Tensor) -> Tensor:
        return s.flatten(1)

    def back(self, s: Tensor) -> Tensor:
        return s.view(-1, *self.grid)


def code_shape(first: Family) -> tuple[int, ...]:
    """Of the code as numbers: (latent_dim,), or (D, h, w) with a codebook."""
    return (first.code_dim, *first.grid) if has(first, Quantises) else (first.latent_dim,)


def spec_of(first: Family, form: Form) -> DataSpec:
    """The data of a second stage."""
    shape, told = code_shape(first), {"classes": first.spec.classes, "caption": first.spec.caption}
    if form == "codes":
        return DataSpec("tokens", (prod(first.grid),), levels=first.codes, separate=True, **told)
    if form == "bins":
        return DataSpec("tokens", shape, levels=BINS, separate=True, **told)
    return (
        DataSpec("image", shape, **told)
        if form == "image"
        else DataSpec("vector", (prod(shape),), **told)
    )


def form_for(first: Family, second: FamilyFile) -> Form:
    """The first of the forms of the first stage's code that the second family takes. Raises UsageError."""
    forms = ("codes", "image", "vector") if has(first, Quantises) else ("vector", "bins")
    for form in forms:
        if form == "image" and not second.FAMILY.latent_images:
            continue
        spec = spec_of(first, form)
        try:
            values = {
                k: v
                for k, v in second.PRESETS[second.preset_for(spec)].items()
                if k in second.Config.model_fields
            }
            second.FAMILY(build(second.Config, values), spec)
            return form
        except UsageError as error:
            refusal = error
    raise UsageError(f"{second.name} takes no codes of this first stage: {refusal}")


def check_first(first: Family, name: str) -> None:
    """Raises UsageError unless it can be a first stage."""
    if isinstance(first, Latent):
        raise UsageError(
            f"{name} has two stages already: go --within its first one, {first.config.within}"
        )
    if not has(first, Quantises) and not (has(first, Encodes) and has(first, Decodes)):
        raise UsageError(
            f"{name} has no encoder and decoder: go --within a run of autoencoder, vae, vaegan, vqvae or classical"
        )


# -- the model ------------------------------------------------------------------------------------------------------


class Latent(Family):
    """What all pairs of stages have. ``of`` adds what the two can do besides."""

    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        self.first = build_stage(config.first, spec).eval()
        second_spec, shape = spec_of(self.first, config.form), code_shape(self.first)
        self.second = build_stage(config.second, second_spec)
        if has(self.second, ChoosesSamples):
            self.second.measured = False  # samples are judged as they are, not as codes
        if config.form in ("codes", "bins"):
            self.scale = Symbols(self.first.grid) if config.form == "codes" else Binned(*shape)
        else:
            self.scale = Standardised(shape, flat=config.form == "vector")
        self.second_order = tuple(f"second.{name}" for name in self.second.second_order)
        self.first_and_last = tuple(f"second.{name}" for name in self.second.first_and_last)
        self.cost_stages = self.second.cost_stages
        self.latent_dim = prod(shape)
        self.reason = self.why_no_bound()
        self.bound: Bound = "none" if self.reason else "lower"
        self.continuous = getattr(self.first, "continuous", False)

    @property
    def trained_config(self) -> BaseConfig:
        return self.second.config

    @property
    def progress(self) -> float:
        return self._progress

    @progress.setter
    def progress(self, share: float) -> None:
        self._progress = share
        if hasattr(self, "second"):
            self.second.progress = share

    def train(self, mode: bool = True):
        super().train(mode)
        self.first.eval()  # frozen: never in training
        return self

    def phases(self):
        """The second stage's, under their own names: a duel is watched by them."""

        def prefixed(phase):
            return tuple(f"second.{name}" for name in phase.trains)

        return tuple(
            type(phase)(**(vars(phase) | {"trains": prefixed(phase)}))
            for phase in self.second.phases()
        )

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        with torch.no_grad():
            v = self.latents(batch.x, batch.y, rng.at("first"))
        return self.second.loss(Batch(v, batch.y, batch.rows), phase, rng)

    def sample(self, n: int, y: Tensor | None, options: BaseConfig, rng: Rng) -> Tensor:
        return self.from_latents(self.second.sample(n, y, options, rng), y)

    # -- x -> z -> v and back ----------------------------------------------------------------------------------

    def code(self, x: Tensor, y: Tensor | None, rng: Rng | None) -> Tensor:
        """z ~ q(z | x), or its mean where there is no q or no rng; symbols or their vectors with a codebook."""
        if has(self.first, Quantises):
            s = self.first.quantise(x, y)
            return s if self.config.form == "codes" else self.first.embed(s)
        if rng is not None and has(self.first, HasPosterior):
            return self.first.draw_posterior(x, y, rng, 1)[:, 0].float()
        if rng is not None and has(self.first, EncodesDistribution):
            mean, std = self.first.posterior(x, y)
            return (mean + std * rng.normal("eps", mean.shape)).float()
        return self.first.encode(x, y).float()

    def latents(self, x: Tensor, y: Tensor | None, rng: Rng | None = None) -> Tensor:
        """x (B, *shape) -> v as the second stage sees it."""
        return self.scale(self.code(x, y, rng))

    def from_latents(self, v: Tensor, y: Tensor | None) -> Tensor:
        z = self.scale.back(v)
        if not has(self.first, Quantises):
            return self.first.decode(z, y)
        return self.first.from_codes(z if self.config.form == "codes" else self.first.nearest(z), y)

    def encoded(
        self, batches: Callable[[], Iterator[Batch]], rng: Rng
    ) -> Callable[[], Iterator[Batch]]:
        """The same batches as the second stage sees them; the same draws each time."""
        return lambda: (
            Batch(self.latents(b.x, b.y, rng.at("codes", i)), b.y, b.rows)
            for i, b in enumerate(batches())
        )

    @torch.no_grad()
    def fit_before(self, batches, rng: Rng) -> None:
        """Measures the scale of the codes; then whatever the second stage counts or measures."""
        codes, n = [], 0
        for i, batch in enumerate(batches()):
            codes.append(self.code(batch.x, batch.y, rng.at("codes", i)))
            if (n := n + len(batch)) >= CODES:
                break
        self.scale.fit(torch.cat(codes)[:CODES])
        if has(self.second, FitsBefore):
            self.second.fit_before(self.encoded(batches, rng), rng)

    # -- likelihood --------------------------------------------------------------------------------------------

    def why_no_bound(self) -> str:
        """ "" where E_q[log p(x | z) + log p_second(z) - log q(z | x)] can be computed, else what is missing."""
        first, second = self.first, self.second
        if not has(first, HasPosterior):
            return "its first stage has one code for each x and no p(x | z)"
        if first.bound == "none":
            return first.reason
        if first.standard_dims < first.latent_dim:
            return "its first stage's own prior, a hierarchy, cannot be taken out"
        if self.config.form != "vector":
            return "its second stage sees rounded codes"
        if not has(second, HasLikelihood) or second.bound == "none":
            return "its second stage defines no density of z"
        return (
            ""
            if second.bound == "exact"
            else "its second stage's density of z is known by a bound only"
        )

    def log_likelihood(self, x: Tensor, y: Tensor | None, rng: Rng, k: int = 1) -> Tensor:
        """k = 1: the bound above; k > 1: its importance-weighted form. (B,) nats."""
        log_weights = self.log_weights(x, y, rng, k)
        return importance_weighted_bound(log_weights) if k > 1 else log_weights[:, 0]

    def log_weights(self, x: Tensor, y: Tensor | None, rng: Rng, k: int) -> Tensor:
        """log p(x | z) + log p_second(z) - log q(z | x) for k draws of z, (B, k) nats."""

        def many(t):
            return None if t is None else t.repeat_interleave(k, 0)

        z, x, y = self.first.draw_posterior(x, y, rng, k).flatten(0, 1), many(x), many(y)  # B k, D
        log_p, log_q = self.first.log_densities(z, x, y)  # log p_first(x, z), log q(z | x)
        own = sum_per_example(log_normal(z, 0.0, 0.0))  # log p_first(z), which goes
        v = self.scale(z)
        prior = self.second.log_likelihood(v, y, rng.at("second"), 1) - self.scale.std.log().sum()
        return (log_p - own + prior - log_q).view(-1, k)


def build_stage(stage: Stage, spec: DataSpec) -> Family:
    file = loaded(stage.family, stage.sha256)
    return file.FAMILY(build(file.Config, file.earlier | stage.config), spec)


# -- what only some pairs can do: a part is taken where a stage has methods of the same names ---------------------------


class Codes:
    """Of the first stage: numbers as codes."""

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.first.encode(x, y)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.first.decode(z, y)


class Reconstructs:
    """Of the first stage."""

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.first.reconstruct(x, y)


class Draws:
    """Of both: codes that the second stage made. Not where they depend on a label."""

    def draw_latents(self, n: int, options: BaseConfig, rng: Rng) -> Tensor:
        return self.scale.back(self.second.sample(n, None, options, rng))


class Judges:
    """Of an adversarial second stage: what it thinks of the code of x. Samples are ranked by their x, like any GAN's."""

    def judge(self, x: Tensor, y: Tensor | None = None, made: bool = False) -> Tensor:
        return self.second.judge(self.latents(x, y), y, made)


class Features:
    """Of the second stage: what it sees in the code of x."""

    def features(self, x: Tensor) -> Tensor:
        return self.second.features(self.latents(x, None))


class Traces:
    """Of the second stage: each state of it decoded."""

    def trace(self, n: int, y: Tensor | None, options: BaseConfig, rng: Rng) -> list[Moment]:
        def own(v):
            return self.from_latents(v, y)

        return [
            Moment(moment.level, own(moment.x), own(moment.x_hat))
            for moment in self.second.trace(n, y, options, rng)
        ]


class Fits:
    """Of the second stage, on codes."""

    def fit(self, batches, rng: Rng) -> None:
        self.second.fit(self.encoded(batches, rng), rng)


@lru_cache
def put_together(
    first: type, second: type, conditional_first: bool, conditional_second: bool
) -> type[Latent]:
    """The class for a pair of stages. One class a pair, so that two models of a pair are of one class."""

    def able(stage, part):
        return all(hasattr(stage, name) for name in vars(part) if not name.startswith("__"))

    parts = [part for part in (Codes, Reconstructs) if able(first, part)]
    parts += [part for part in (Judges, Features, Traces, Fits) if able(second, part)]
    if conditional_first and Features in parts:  # a code that needs a label
        parts.remove(Features)
    if Codes in parts and not conditional_second:
        parts.append(Draws)
    return type("Latent", (*parts, Latent), {})


def two_stage_family(config: Config | dict) -> FamilyFile:
    """A pair of stages as a family."""
    config = config if isinstance(config, Config) else build(Config, config)
    first, second = (loaded(stage.family, stage.sha256) for stage in (config.first, config.second))

    def conditional(stage):
        return bool(stage.config.get("conditional"))

    model = put_together(
        first.FAMILY, second.FAMILY, conditional(config.first), conditional(config.second)
    )
    return FamilyFile(
        "latent",
        Path(__file__),
        Config,
        second.Options,
        second.PRESETS,
        model,
        second.preset_for,
        second,
        second.watching,
    )
