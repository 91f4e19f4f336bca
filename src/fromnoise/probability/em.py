"""Maximum a posteriori estimation of Gaussian mixtures by expectation maximisation, as products of matrices.

    E step   R_ik = w_k N(z_i; m_k, S_k) / sum_j w_j N(z_i; m_j, S_j)
    M step   w_k, m_k: means of R_ik and of R_ik z_i;  S_k = (sum_i R_ik (z_i - m_k)(z_i - m_k)^T + d W) / (sum_i R_ik + d)

W is the mean of the components' covariances: as if every component had seen d further rows with the covariance W (an
inverse Wishart prior; Fraley & Raftery 2007), so that a component of few rows has a covariance of full rank. Quadratic
forms of all rows and components are one product: of the d (d + 1) / 2 products of each row's numbers with the precisions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.rng import Rng
from .gaussian import LOG_2PI

CHUNK = 1024  # rows of which the products are held at once
ROUNDS = 20  # of expectation and maximisation, at most
GAIN = 0.1  # nats for each row: a round that gains less is the last one
SIZES = (
    2,
    4,
    16,
    64,
    256,
)  # numbers of components that are tried, beside 1 and the largest that is allowed
FEW = 20  # held-out rows that decide, at least
FLOOR = 1e-5  # share of the mean variance that every component has in every direction


@dataclass(frozen=True)
class Mixture:
    """weights (K,), means (K, d), covariances (K, d, d), float64."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def log_joint(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(z (n, d), products(z)) -> log w_k N(z; m_k, S_k) in nats, (n, K)."""
        factors = torch.linalg.cholesky(self.covariances)
        precisions = torch.cholesky_inverse(factors)
        row, column = torch.triu_indices(*precisions.shape[1:])
        linear = torch.einsum("kde,ke->kd", precisions, self.means)
        twice = torch.where(row == column, 1.0, 2.0).to(precisions)
        constant = self.weights.log() - factors.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = constant - (linear * self.means).sum(1) / 2 - len(linear[0]) * LOG_2PI / 2
        linear, quadratic = (
            linear.T.contiguous(),
            (precisions[:, row, column] * -twice / 2).T.contiguous(),
        )
        return lambda z, squares: constant + z @ linear + squares @ quadratic

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z) in nats, (n,), for z (n, d)."""
        joint = self.log_joint()
        return torch.cat([joint(rows, pair_products(rows)).logsumexp(1) for rows in z.split(CHUNK)])

    def responsibilities(self, z: Tensor) -> Tensor:
        """p(k | z), (n, K), for z (n, d)."""
        joint = self.log_joint()
        return torch.cat([joint(rows, pair_products(rows)).softmax(1) for rows in z.split(CHUNK)])


def pair_products(z: Tensor) -> Tensor:
    """z_i z_j for i <= j, (n, d (d + 1) / 2)."""
    columns = z.T.contiguous()
    return torch.cat([columns[i] * columns[i:] for i in range(len(columns))]).T


@dataclass
class Sums:
    """Sums over rows of R_k (K,), of R_k z (K, d) and of R_k z_i z_j (K, d (d + 1) / 2)."""

    size: Tensor
    first: Tensor
    second: Tensor

    @staticmethod
    def zero(components: int, d: int) -> "Sums":
        def zeros(*shape):
            return torch.zeros(components, *shape, dtype=torch.float64)

        return Sums(zeros(), zeros(d), zeros(d * (d + 1) // 2))

    def add(self, z: Tensor, squares: Tensor, responsibilities: Tensor) -> None:
        self.size += responsibilities.sum(0)
        self.first += responsibilities.T @ z
        self.second += responsibilities.T @ squares

    def maximise(self, floor: float) -> Mixture:
        """The M step. floor: variance that is added in every direction, or FLOOR of the mean variance if that is more."""
        n, d = self.size.sum(), self.first.shape[1]
        size = self.size.clamp(min=1e-9)[:, None]
        means, second = self.first / size, self.second / size
        row, column = torch.triu_indices(d, d)
        covariances = torch.zeros(len(size), d, d, dtype=torch.float64)
        covariances[:, row, column] = covariances[:, column, row] = second
        covariances = covariances - means[:, :, None] * means[:, None, :]
        common = ((self.size / n) @ covariances.flatten(1)).view(d, d)
        prior = (d / (d + self.size))[:, None, None]
        added = max(FLOOR * float(common.diagonal().mean()), floor) * torch.eye(
            d, dtype=torch.float64
        )
        return Mixture(
            self.size / n,
            means,
            torch.lerp(covariances, common.expand_as(covariances), prior) + added,
        )


def fit_mixture(
    z: Tensor, components: int, floor: float, rng: Rng, y: Tensor | None = None, classes: int = 1
) -> Mixture:
    """A mixture for z (n, d) float64, by EM from k-means: of ``components`` for each class, and rows of class y (n,) belong to the
    components of their own. The same z, y and rng give the same mixture."""
    d, y = z.shape[1], torch.zeros(len(z), dtype=torch.int64) if y is None else y
    owned = component_classes(components, classes)
    own = z.new_zeros(len(z), classes * components)
    for c in range(classes):
        rows = torch.nonzero(y == c)[:, 0]
        if len(rows):
            own[rows, c * components : (c + 1) * components] = kmeans_assignments(
                z[rows], components, rng.at(c)
            )
    sums = Sums.zero(classes * components, d)
    for part, shares in zip(z.split(CHUNK), own.split(CHUNK)):
        sums.add(part, pair_products(part), shares)
    mixture, before = sums.maximise(floor), -float("inf")
    for _ in range(ROUNDS if components > 1 else 0):
        joint, sums, total = mixture.log_joint(), Sums.zero(classes * components, d), 0.0
        for part, labels in zip(z.split(CHUNK), y.split(CHUNK)):
            squares = pair_products(part)
            log_joint = joint(part, squares) + owned[labels].log()
            log_density = log_joint.logsumexp(1, keepdim=True)
            total += float(log_density.sum())
            sums.add(part, squares, (log_joint - log_density).exp())
        if total / len(z) - before < GAIN:
            break
        mixture, before = sums.maximise(floor), total / len(z)
    return mixture


def component_classes(components: int, classes: int) -> Tensor:
    """1 where a component (columns) belongs to a class (rows), else 0, (classes, classes * components)."""
    return torch.eye(classes, dtype=torch.float64).repeat_interleave(components, 1)


def kmeans_assignments(z: Tensor, components: int, rng: Rng, rounds: int = 8) -> Tensor:
    """One-hot rows (n, components): the nearest centre of each row, by k-means (Lloyd 1982) from rows drawn at random."""
    order = torch.from_numpy(rng.numpy("centres").permutation(len(z)))
    centres = z[order[:components]]
    for _ in range(rounds):
        own = torch.cat(
            [(centres.square().sum(1) - 2 * rows @ centres.T).argmin(1) for rows in z.split(CHUNK)]
        )
        size = own.bincount(minlength=len(centres))[:, None]
        total = torch.zeros_like(centres).index_add_(0, own, z)
        centres = torch.where(size > 0, total / size.clamp(min=1), centres)
    return torch.nn.functional.one_hot(own, components).to(z)


def select_mixture(
    z: Tensor, most: int, floor: float, rng: Rng, y: Tensor | None = None, classes: int = 1
) -> tuple[Mixture, int]:
    """The mixture of up to ``most`` components that gives held-out rows the highest density p(z, y), and its size for each class.

    Sizes are 1, those of SIZES and the largest that ``most`` allows, the same for each class y (n,). The first tenth of
    z (n, d) float64 is held out, or FEW rows if that is more. A size is better than the one before it if its gain is
    larger than two standard errors of the gain over those rows. The search ends at the first size that is not better. Of
    fewer than 2 FEW rows the choice is one component for each class.
    """
    y = torch.zeros(len(z), dtype=torch.int64) if y is None else y
    split = max(FEW, len(z) // 10) if len(z) >= 2 * FEW else 0
    held_out, rows = slice(0, split), slice(split, None)

    def trial(size):
        return fit_mixture(z[rows], size, floor, rng, y[rows], classes)

    def score(mixture, size):
        return torch.cat(
            [
                (
                    mixture.log_joint()(part, pair_products(part)) + component_classes(size, classes)[labels].log()
                ).logsumexp(1)
                for part, labels in zip(z[held_out].split(CHUNK), y[held_out].split(CHUNK))
            ]
        )

    best, chosen = trial(1), 1
    if not split:
        return best, chosen
    density = score(best, chosen)
    largest = most // classes
    for size in (*(size for size in SIZES if size < largest), largest):
        if not 1 < size <= len(z[rows]) // classes:
            continue
        found = trial(size)
        found_density = score(found, size)
        gain = found_density - density
        gain = gain[torch.isfinite(gain)]  # of a class without other rows both are log 0
        if not len(gain) or gain.mean() <= 2 * gain.std() / len(gain) ** 0.5:
            break
        best, chosen, density = found, size, found_density
    return best, chosen
