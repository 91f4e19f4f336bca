"""The contract between a family of generative models and everything else.

``Family`` is the only base class. What a family can do beyond sampling it says by having the methods of a
capability below; the rest of the package asks ``has(model, Encodes)`` and never for a name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeGuard, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from .config import BaseConfig
from .errors import UsageError
from .rng import Rng
from .spec import Batch, DataSpec

Capability = TypeVar("Capability")


@dataclass(frozen=True)
class Phase:
    """One part of a training step: which sub-modules learn, and how.

    "Freeze the generator and train the discriminator, then the other way round" is a tuple of these.
    trains   names of the sub-modules that this phase updates: attributes of the family, or "vae.net.decoder"
    every    run only at steps divisible by this
    repeats  updates in a row, each on its own batch
    until    share of the training after which it rests
    epochs   take turns: this phase alone, for so many passes over the data, then the next one (0: every phase each step)
    """

    name: str
    trains: tuple[str, ...]
    lr: float
    betas: tuple[float, float] = (0.9, 0.999)
    every: int = 1
    repeats: int = 1
    epochs: float = 0.0
    until: float = 1.0


@dataclass(frozen=True)
class Loss:
    """value: the scalar to minimise; terms: its named parts, scalars, for people to read."""

    value: Tensor
    terms: dict[str, Tensor]


class Family(nn.Module):
    """A generative model and its training objective.

    progress: the share of the training budget that is done, in [0, 1]. The loop sets it at each step, of the averaged
    model too, and a checkpoint that is opened has that of its step: objectives that change over time (KL warm-up) and
    networks that grow read it. It is 1 while held-out objectives are computed, so that these can be compared.
    cost_stages: so many equal parts of the training differ in what a step costs (networks that grow); an estimate of
    the time takes steps in each of them.
    second_order: sub-modules whose gradient a loss itself takes (a penalty on a slope, a balance), which cannot be compiled.
    first_and_last: names of linear layers and convolutions at the input and the output of a network, which the optimiser Muon
    leaves to AdamW, as its authors advise.
    latent_images: takes images (C, H, W) of levels 0 too, whose values have no range: a grid of codes.
    """

    cost_stages: int = 1
    second_order: tuple[str, ...] = ()
    first_and_last: tuple[str, ...] = ()
    latent_images: bool = False

    def __init__(self, config: BaseConfig, spec: DataSpec):
        super().__init__()
        self.config, self.spec, self.progress = config, spec, 1.0

    @property
    def trained_config(self) -> BaseConfig:
        """The configuration whose fields are the options of this model's training."""
        return self.config

    @property
    def conditional(self) -> bool:
        """True for a model of p(x | y), whose samples take labels or captions."""
        return bool(getattr(self.config, "conditional", False))

    def phases(self) -> tuple[Phase, ...]:
        """What one training step consists of; empty for a model that is fitted in closed form."""
        raise NotImplementedError

    def loss(self, batch: Batch, phase: str, rng: Rng) -> Loss:
        """The objective of one phase on one batch."""
        raise NotImplementedError

    def sample(self, n: int, y: Tensor | None, options: BaseConfig, rng: Rng) -> Tensor:
        """n new examples (n, *spec.shape), in the range of the data; y: (n,) labels or None."""
        raise NotImplementedError

    def condition(self, y: Tensor | None) -> Tensor | None:
        """Labels y (B,) as one-hot rows (B, classes), captions (B, L) as they are; None for a model of p(x). Raises UsageError."""
        if not self.conditional:
            return None
        if y is None:
            raise UsageError("this model learned p(x | y): give a label")
        return y if self.spec.caption else one_hot(y, self.spec.classes).float()

    def lacks(self, capability: type) -> bool:
        """True if this model cannot do what its class has the methods for (``has``)."""
        return False

    def parameters_of(self, phase: Phase) -> dict[str, nn.Parameter]:
        """Name -> parameter of everything that the phase trains."""
        return {
            f"{module}.{name}": parameter
            for module in phase.trains
            for name, parameter in self.get_submodule(module).named_parameters()
        }


def has(model: Family, capability: type[Capability]) -> TypeGuard[Capability]:
    """True if the model has this capability, one of the protocols below."""
    return isinstance(model, capability) and not model.lacks(capability)


@runtime_checkable
class Encodes(Protocol):
    """x (B, *shape), y (B,) or None -> the code z (B, latent_dim), deterministic (a posterior's mean)."""

    latent_dim: int

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class EncodesDistribution(Protocol):
    """x -> the mean and standard deviation (B, latent_dim) of the posterior of z, and what it costs in nats.

    standard_dims: so many leading dimensions of z have N(0, I) as their prior; the others' depends on those above.
    kl_per_dimension: mean over the batch of KL(q || p) by latent dimension, (latent_dim,) nats.
    """

    standard_dims: int

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]: ...

    def kl_per_dimension(self, x: Tensor, y: Tensor | None, rng: Rng) -> Tensor: ...


@runtime_checkable
class Decodes(Protocol):
    """z (B, latent_dim), y (B,) or None -> x (B, *shape): the mean of p(x | z)."""

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Quantises(Protocol):
    """x (B, *shape), y (B,) or None <-> a grid (h, w) of symbols s (B, h, w), int64 below ``codes``, which stand for vectors.

    embed: s -> their vectors (B, code_dim, h, w); nearest: such vectors -> s.
    """

    grid: tuple[int, int]
    codes: int
    code_dim: int

    def quantise(self, x: Tensor, y: Tensor | None = None) -> Tensor: ...

    def from_codes(self, s: Tensor, y: Tensor | None = None) -> Tensor: ...

    def embed(self, s: Tensor) -> Tensor: ...

    def nearest(self, z: Tensor) -> Tensor: ...


@runtime_checkable
class DrawsLatents(Protocol):
    """n latent vectors (n, latent_dim) as sample() decodes them: sample = decode(draw_latents(...), y), of one candidate.

    In a hierarchy (``EncodesDistribution.standard_dims`` below latent_dim) that was trained with labels the lower levels
    depend on the label: there draw_latents takes y (n,) as a fourth argument.
    """

    def draw_latents(self, n: int, options: BaseConfig, rng: Rng) -> Tensor: ...


@runtime_checkable
class Judges(Protocol):
    """An adversarial family: x (B, *shape), y (B,) or None -> a score (B,), high for "real".

    Its losses say who is winning, not how good the samples are, so the loop ranks its checkpoints by a distance between
    samples and held-out examples, and watches the duel (training/monitor/adversarial.py). made: x are samples of the model as it is now.
    """

    def judge(self, x: Tensor, y: Tensor | None = None, made: bool = False) -> Tensor: ...


@runtime_checkable
class ChoosesSamples(Protocol):
    """An adversarial family that samples by its own judgement: of so many candidates one.

    calibrate: at each interval it is told what its averaged weights score, held-out examples, real (n,), and single
    candidates, fake (n,), each pair of one label. measured: false where nobody does. why_never: why its scores cannot be
    calibrated, or "".
    """

    measured: bool

    def why_never(self) -> str: ...

    def candidates(self, asked: int | None = None) -> int: ...

    def calibrate(self, real: Tensor, fake: Tensor) -> None: ...


@runtime_checkable
class HasFeatures(Protocol):
    """x (B, *shape) -> what a network of the model's own sees in it, (B, F): an eye for likeness that needs no other network."""

    def features(self, x: Tensor) -> Tensor: ...


Bound = Literal["exact", "lower", "none"]


@runtime_checkable
class HasLikelihood(Protocol):
    """log p(x) in nats for each example, natural logarithm, of the data as the spec describes it.

    bound: "exact"; "lower" (on average at most log p(x)); "none" when this configuration defines no
    normalised density (say, cross-entropy on grey values). ``reason`` then says why, in words.
    continuous: the value is a density; for data with discrete levels the caller dequantises.
    With bound "lower", k = 1 asks for the ELBO and k > 1 for the k-sample importance-weighted bound.
    """

    bound: Bound
    reason: str
    continuous: bool

    def log_likelihood(self, x: Tensor, y: Tensor | None, rng: Rng, k: int = 1) -> Tensor: ...


@runtime_checkable
class WeighsDraws(Protocol):
    """log p(x, z) - log q(z | x) in nats for k draws of z ~ q(z | x) for each x, (B, k).

    Their mean estimates the ELBO, the log of the mean of their exponentials the k-sample bound: of the same draws the
    former is never above the latter.
    """

    def log_weights(self, x: Tensor, y: Tensor | None, rng: Rng, k: int) -> Tensor: ...


@runtime_checkable
class HasFlow(Protocol):
    """log p(x) by the differential equation that carries x to noise: a density, for data with levels the caller dequantises.

    Neither exact nor a bound: an estimate whose solver's error is told, and refused (UsageError) where it is above 0.01 bits
    for a dimension. Gives ``probability.ode.OdeLikelihood``. probes: for the trace of the equation's slope, 0: exact. The bound
    of such a model's ``HasLikelihood`` is over levels of noise: it has no importance-weighted form, and any k is 1.
    """

    def flow_log_likelihood(
        self, x: Tensor, y: Tensor | None, rng: Rng, probes: int | None = None
    ) -> "object": ...


@runtime_checkable
class HasPosterior(Protocol):
    """What annealed importance sampling needs of a latent variable model.

    log_densities: z (B, latent_dim), x (B, *shape), y -> log p(x, z) and log q(z | x), each (B,) nats.
    draw_posterior: k draws of z ~ q(z | x) for each x, (B, k, latent_dim).
    """

    def log_densities(
        self, z: Tensor, x: Tensor, y: Tensor | None = None
    ) -> tuple[Tensor, Tensor]: ...

    def draw_posterior(self, x: Tensor, y: Tensor | None, rng: Rng, k: int) -> Tensor: ...


@runtime_checkable
class Reconstructs(Protocol):
    """x (B, *shape) -> its reconstruction (B, *shape), deterministic."""

    def reconstruct(self, x: Tensor, y: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Corrupts(Protocol):
    """A denoiser: x (B, *shape) -> the corrupted input that training uses; level overrides its strength."""

    def corrupt(self, x: Tensor, rng: Rng, level: float | None = None) -> Tensor: ...


@runtime_checkable
class FitsInClosedForm(Protocol):
    """Something is computed from the whole training set at once, after (or instead of) gradient steps."""

    def fit(self, batches: Callable[[], "object"], rng: Rng) -> None:
        """batches() iterates once over the training set, as Batch objects, in a fixed order."""
        ...


@runtime_checkable
class FitsBefore(Protocol):
    """Something is computed from the whole training set before the first gradient step: counts, a scale of the data."""

    def fit_before(self, batches: Callable[[], "object"], rng: Rng) -> None:
        """batches() as in ``FitsInClosedForm``; of a text, the last one may be a shorter window: its end."""
        ...


@runtime_checkable
class Predicts(Protocol):
    """Auto-regressive: log p(s_i | s_1 .. s_{i-1}) over V symbols, i = 1 .. T, with s = to_symbols(x); natural logarithms.

    context: how many symbols before i a prediction can depend on; None: all of them (recurrent).
    log_probs: s (B, T), y (B,) or None -> (B, T, V), all places at once.
    begin: n sequences of which nothing is read; y as in ``sample``.
    step: reads symbol (n,), None at the start -> log p (n, V) of the next one; the state is updated in place.
    """

    vocabulary: int
    length: int
    context: int | None

    def to_symbols(self, x: Tensor) -> Tensor: ...

    def from_symbols(self, s: Tensor) -> Tensor: ...

    def log_probs(self, s: Tensor, y: Tensor | None = None) -> Tensor: ...

    def begin(self, n: int, y: Tensor | None = None) -> "object": ...

    def step(self, state: "object", symbol: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Classifies(Protocol):
    """x (B, *shape) -> log p(y | x), (B, classes): by Bayes' rule from p(x | y) and the classes' shares in training."""

    def class_log_probs(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Completes(Protocol):
    """Fills in what a prefix or a mask leaves open.

    given (n, *shape), mask (n, *shape) True where it is known, y (n,) for a conditional model. What is known is kept.
    """

    def complete(
        self, given: Tensor, mask: Tensor, y: Tensor | None, options: BaseConfig, rng: Rng
    ) -> Tensor: ...


@dataclass(frozen=True)
class Moment:
    """A state between noise and data: x (B, *shape) at ``level``, as ``Denoises`` has it, and x_hat, what the model takes it for."""

    level: float
    x: Tensor
    x_hat: Tensor


@runtime_checkable
class Traces(Protocol):
    """sample() with its intermediate states, from noise (level 1) to the sample (level 0)."""

    def trace(self, n: int, y: Tensor | None, options: BaseConfig, rng: Rng) -> list[Moment]: ...


@runtime_checkable
class Denoises(Protocol):
    """Sees through noise of any level s in [0, 1]: x_s = (1 - s) x + s eps, eps normal with the data's own mean and variance.

    That is the same for all diffusion and flow models, whichever path they go. x, x_s, z, z ~ N(0, I): (B, *shape).

    noised     x and z -> x_s: eps is z, brought to the data's scale
    clean      x_s -> E[x | x_s] as the model has it, by one look
    denoised   x_s -> an example, by the sampler: of x_1 that is ``sample``
    to_noise   x -> the z that the sampler without randomness carries to x: denoised(noised(x, 1, z), 1) = x, nearly
    """

    def noised(self, x: Tensor, level: float, z: Tensor) -> Tensor: ...

    def clean(self, x_s: Tensor, level: float, y: Tensor | None, options: BaseConfig) -> Tensor: ...

    def denoised(
        self, x_s: Tensor, level: float, y: Tensor | None, options: BaseConfig, rng: Rng
    ) -> Tensor: ...

    def to_noise(self, x: Tensor, y: Tensor | None, options: BaseConfig) -> Tensor: ...


def sum_per_example(values: Tensor) -> Tensor:
    """(B, ...) -> (B,)"""
    return values.flatten(1).sum(1)


@torch.no_grad()
def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def turns(phases: Sequence[Phase], batches_per_epoch: int) -> list[int]:
    """How many steps each phase's turn takes; empty when phases do not take turns. Raises UsageError for half of both."""
    if not any(phase.epochs for phase in phases):
        return []
    for phase in phases:
        if not phase.epochs or phase.every != 1:
            raise UsageError(
                f"phase {phase.name}: either all phases take turns (epochs above 0, every 1), or none does"
            )
    return [max(1, round(phase.epochs * batches_per_epoch / phase.repeats)) for phase in phases]
