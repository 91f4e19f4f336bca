"""What a family can do beyond ``loss`` and ``sample``: one protocol for each capability.

A family has a capability if it has its methods and attributes. The rest of the package asks
``has(model, Encodes)`` and never for the name of a family.

Shapes: B batch, *shape the shape of one example, D the dimensions of a code. x (B, *shape) is a batch
of examples; y (B,) holds labels or (B, L) captions, and is None for a model of p(x).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeGuard, TypeVar, runtime_checkable

from torch import Tensor

from .config import BaseConfig
from .rng import Rng
from .spec import Batch, Labels

if TYPE_CHECKING:
    from .family import Family

Capability = TypeVar("Capability")
Bound = Literal["exact", "lower", "none"]


def has(model: "Family", capability: type[Capability]) -> TypeGuard[Capability]:
    """True if the model has this capability, one of the protocols below."""
    return isinstance(model, capability) and not model.lacks(capability)


@runtime_checkable
class Encodes(Protocol):
    """Has an encoder: x -> the code z (B, latent_dim), deterministic (the mean of a posterior)."""

    latent_dim: int

    def encode(self, x: Tensor, y: Labels = None) -> Tensor: ...


@runtime_checkable
class EncodesDistribution(Protocol):
    """Has an encoder that gives a normal distribution q(z | x).

    standard_dims: the number of leading dimensions of z with the prior N(0, I). The prior of the
        other dimensions depends on these.
    posterior: x -> mean and standard deviation of q(z | x), (B, latent_dim) each.
    kl_per_dimension: KL(q || p) by latent dimension, averaged over the batch, (latent_dim,) nats.
    """

    standard_dims: int

    def posterior(self, x: Tensor, y: Labels = None) -> tuple[Tensor, Tensor]: ...
    def kl_per_dimension(self, x: Tensor, y: Labels, rng: Rng) -> Tensor: ...


@runtime_checkable
class Decodes(Protocol):
    """Has a decoder: z (B, latent_dim) -> x (B, *shape), the mean of p(x | z)."""

    def decode(self, z: Tensor, y: Labels = None) -> Tensor: ...


@runtime_checkable
class Quantises(Protocol):
    """Encodes to a grid (h, w) of symbols, which stand for learned vectors.

    quantise: x -> symbols s (B, h, w), int64 in 0 .. codes-1; from_codes: s -> x.
    embed: s -> their vectors (B, code_dim, h, w); nearest: vectors -> the symbols of the nearest ones.
    """

    grid: tuple[int, int]
    codes: int
    code_dim: int

    def quantise(self, x: Tensor, y: Labels = None) -> Tensor: ...
    def from_codes(self, s: Tensor, y: Labels = None) -> Tensor: ...
    def embed(self, s: Tensor) -> Tensor: ...
    def nearest(self, z: Tensor) -> Tensor: ...


@runtime_checkable
class DrawsLatents(Protocol):
    """Samples by decoding latent vectors: ``sample`` is decode(draw_latents(...), y).

    (Of a family that selects samples: one candidate.) draw_latents gives (n, latent_dim). In a
    hierarchy (``standard_dims`` below latent_dim) it takes y (n,) as a fourth argument.
    """

    def draw_latents(self, n: int, options: BaseConfig, rng: Rng) -> Tensor: ...


@runtime_checkable
class Reconstructs(Protocol):
    """x -> its reconstruction (B, *shape), deterministic."""

    def reconstruct(self, x: Tensor, y: Labels = None) -> Tensor: ...


@runtime_checkable
class Corrupts(Protocol):
    """Denoising autoencoder: x -> the corrupted input of training. level replaces its strength."""

    def corrupt(self, x: Tensor, rng: Rng, level: float | None = None) -> Tensor: ...


@runtime_checkable
class Judges(Protocol):
    """An adversarial family: the discriminator gives x a score (B,), high for "real".

    Its losses show the balance of the two networks, not the quality of the samples. Training therefore
    selects checkpoints by a distance between samples and validation data, and monitors the
    discriminator (training/monitor/adversarial.py). is_generated: True if x are samples of the current model.
    """

    def judge(self, x: Tensor, y: Labels = None, is_generated: bool = False) -> Tensor: ...


@runtime_checkable
class ChoosesSamples(Protocol):
    """An adversarial family whose discriminator selects one of several candidates for each sample.

    choice: a ``probability.candidates.CandidateSampler``, which is calibrated after each validation
    of the averaged weights.
    """

    choice: Any


@runtime_checkable
class HasFeatures(Protocol):
    """x -> features (B, F) of one of the model's networks: similarity without an external network."""

    def features(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class HasLikelihood(Protocol):
    """log p(x) of each example, (B,) nats.

    bound: "exact"; "lower" (on average at most log p(x)); "none" if this configuration defines no
        normalised density (such as cross-entropy on grey values). ``reason`` then states why.
    continuous: True if the value is a density. For data with discrete levels the caller dequantises.
    k: with bound "lower", 1 gives the ELBO, more the k-sample importance-weighted bound.
    """

    bound: Bound
    reason: str
    continuous: bool

    def log_likelihood(self, x: Tensor, y: Labels, rng: Rng, k: int = 1) -> Tensor: ...


@runtime_checkable
class WeighsDraws(Protocol):
    """log p(x, z) - log q(z | x) in nats for k draws of z ~ q(z | x) for each x, (B, k).

    Their mean estimates the ELBO; the logarithm of the mean of their exponentials is the k-sample
    bound. For the same draws the first is never above the second.
    """

    def log_weights(self, x: Tensor, y: Labels, rng: Rng, k: int) -> Tensor: ...


@runtime_checkable
class HasFlow(Protocol):
    """log p(x) by the ordinary differential equation that carries x to noise: a density.

    The value is an estimate, neither exact nor a bound: an ``OdeLikelihood``, with the error of the
    solver. UsageError if that is above 0.01 bits per dimension. For data with levels the caller
    dequantises. probes: random vectors for the trace of the Jacobian; 0: exact.
    ``HasLikelihood`` of such a model is a bound over noise levels, without a k-sample form.
    """

    def flow_log_likelihood(
        self, x: Tensor, y: Labels, rng: Rng, probes: int | None = None
    ) -> Any: ...


@runtime_checkable
class HasPosterior(Protocol):
    """The densities that annealed importance sampling needs of a latent variable model.

    log_densities: z (B, latent_dim), x (B, *shape), y -> log p(x, z) and log q(z | x), (B,) nats each.
    draw_posterior: k draws of z ~ q(z | x) for each x, (B, k, latent_dim).
    """

    def log_densities(self, z: Tensor, x: Tensor, y: Labels = None) -> tuple[Tensor, Tensor]: ...
    def draw_posterior(self, x: Tensor, y: Labels, rng: Rng, k: int) -> Tensor: ...


@runtime_checkable
class Classifies(Protocol):
    """x -> log p(y | x), (B, classes), by Bayes' rule from p(x | y) and the class frequencies."""

    def class_log_probs(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class FitsInClosedForm(Protocol):
    """Computes something from the whole training set after (or instead of) the gradient steps.

    batches() iterates once over the training set, in a fixed order.
    """

    def fit(self, batches: Callable[[], Iterator[Batch]], rng: Rng) -> None: ...


@runtime_checkable
class FitsBefore(Protocol):
    """Computes something from the whole training set before the first step: counts, a data scale.

    batches() as in ``FitsInClosedForm``. The last window of a text may be shorter.
    """

    def fit_before(self, batches: Callable[[], Iterator[Batch]], rng: Rng) -> None: ...


@runtime_checkable
class Predicts(Protocol):
    """Auto-regressive: log p(s_i | s_1 .. s_{i-1}) over V symbols, i = 1 .. T, in nats.

    context: the number of symbols before i that a prediction can depend on; None: all (recurrent).
    to_symbols: x -> s (B, T), int64; from_symbols: s -> x.
    log_probs: s (B, T), y -> (B, T, V), all positions at once.
    begin: the state of n empty sequences; y as in ``sample``.
    step: reads one symbol (n,), or None at the start -> log p (n, V) of the next symbol. Updates the
        state in place.
    """

    vocabulary: int
    length: int
    context: int | None

    def to_symbols(self, x: Tensor) -> Tensor: ...
    def from_symbols(self, s: Tensor) -> Tensor: ...
    def log_probs(self, s: Tensor, y: Labels = None) -> Tensor: ...
    def begin(self, n: int, y: Labels = None) -> Any: ...
    def step(self, state: Any, symbol: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class Completes(Protocol):
    """Fills in the unknown part of examples and keeps the known part.

    given (n, *shape); mask (n, *shape), True where ``given`` is known; y (n,) for a conditional model.
    """

    def complete(
        self, given: Tensor, mask: Tensor, y: Labels, options: BaseConfig, rng: Rng
    ) -> Tensor: ...


@dataclass(frozen=True)
class Moment:
    """A state x (B, *shape) at a level of noise (``Denoises``), and the clean example predicted from it."""

    level: float
    x: Tensor
    x_hat: Tensor


@runtime_checkable
class Traces(Protocol):
    """``sample`` with its intermediate states, from noise (level 1) to the sample (level 0)."""

    def trace(self, n: int, y: Labels, options: BaseConfig, rng: Rng) -> list[Moment]: ...


@runtime_checkable
class GuidedByModel(Protocol):
    """Samples with guidance away from a weaker model of the same data, of the same class.

    (Autoguidance: Karras et al. 2024, arXiv:2406.02507.) None ends it.
    """

    def guide_with(self, weak: Any) -> None: ...


@runtime_checkable
class Denoises(Protocol):
    """Removes noise of any level s in [0, 1]: x_s = (1 - s) x + s eps.

    eps is normal with the mean and the variance of the data. The definition is the same for all
    diffusion and flow models, whatever their path. x, x_s and z ~ N(0, I) are (B, *shape).

    noised     x and z -> x_s, where eps is z in the scale of the data
    clean      x_s -> the model's E[x | x_s], by one evaluation of the network
    denoised   x_s -> an example, by the sampler; from x_1 that is ``sample``
    to_noise   x -> the z that the deterministic sampler carries to x: denoised(noised(x, 1, z), 1) ~ x
    """

    def noised(self, x: Tensor, level: float, z: Tensor) -> Tensor: ...
    def clean(self, x_s: Tensor, level: float, y: Labels, options: BaseConfig) -> Tensor: ...
    def denoised(
        self, x_s: Tensor, level: float, y: Labels, options: BaseConfig, rng: Rng
    ) -> Tensor: ...
    def to_noise(self, x: Tensor, y: Labels, options: BaseConfig) -> Tensor: ...
