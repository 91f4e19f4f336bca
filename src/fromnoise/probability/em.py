"""Maximum a posteriori estimation of Gaussian mixtures by expectation maximisation (EM).

    E step   R_ik = w_k N(z_i; m_k, S_k) / sum_j w_j N(z_i; m_j, S_j)
    M step   w_k, m_k: means of R_ik and of R_ik z_i
             S_k = (sum_i R_ik (z_i - m_k)(z_i - m_k)^T + d W) / (sum_i R_ik + d)

W is the mean of the components' covariances: an inverse Wishart prior worth d rows with covariance W
(Fraley & Raftery 2007), so that a component of few rows has a covariance of full rank. The quadratic
forms of all rows and components are one matrix product: of the d (d + 1) / 2 products of each row's
numbers with the precisions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..core.rng import Rng
from ..core.spec import Labels
from .gaussian import LOG_2PI

CHUNK = 1024  # rows whose products are held at once
ROUNDS = 20  # of EM, at most
GAIN = 0.1  # nats for each row: EM ends with a round that gains less
SIZES = (2, 4, 16, 64, 256)  # numbers of components tried, besides 1 and the largest allowed
FEW = 20  # validation rows, at least
FLOOR = 1e-5  # share of the mean variance that is added to every direction


@dataclass(frozen=True)
class Mixture:
    """weights (K,), means (K, d), covariances (K, d, d), float64."""

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def log_joint(self) -> Callable[[Tensor, Tensor], Tensor]:
        """(z (n, d), pair_products(z)) -> log w_k N(z; m_k, S_k) in nats, (n, K)."""
        factors = torch.linalg.cholesky(self.covariances)
        precisions = torch.cholesky_inverse(factors)
        row, column = torch.triu_indices(*precisions.shape[1:])
        linear = torch.einsum("kde,ke->kd", precisions, self.means)
        twice = torch.where(row == column, 1.0, 2.0).to(precisions)
        constant = self.weights.log() - factors.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = constant - (linear * self.means).sum(1) / 2 - len(linear[0]) * LOG_2PI / 2
        linear = linear.T.contiguous()  # d K
        quadratic = (precisions[:, row, column] * -twice / 2).T.contiguous()  # d(d+1)/2 K

        def log_joint(z: Tensor, products: Tensor) -> Tensor:
            return constant + z @ linear + products @ quadratic

        return log_joint

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

    def add(self, z: Tensor, products: Tensor, responsibilities: Tensor) -> None:
        self.size += responsibilities.sum(0)
        self.first += responsibilities.T @ z
        self.second += responsibilities.T @ products

    def maximise(self, floor: float) -> Mixture:
        """The M step. floor: variance added in every direction, at least FLOOR of the mean
        variance.
        """
        n = self.size.sum()
        d = self.first.shape[1]
        size = self.size.clamp(min=1e-9)[:, None]
        means = self.first / size
        second = self.second / size
        row, column = torch.triu_indices(d, d)
        covariances = torch.zeros(len(size), d, d, dtype=torch.float64)
        covariances[:, row, column] = covariances[:, column, row] = second
        covariances = covariances - means[:, :, None] * means[:, None, :]
        common = ((self.size / n) @ covariances.flatten(1)).view(d, d)
        prior = (d / (d + self.size))[:, None, None]
        least = max(FLOOR * float(common.diagonal().mean()), floor)
        added = least * torch.eye(d, dtype=torch.float64)
        covariances = torch.lerp(covariances, common.expand_as(covariances), prior) + added
        return Mixture(self.size / n, means, covariances)


def fit_mixture(
    z: Tensor, components: int, floor: float, rng: Rng, y: Labels = None, classes: int = 1
) -> Mixture:
    """A mixture for z (n, d) float64 by EM, started by k-means.

    It has ``components`` for each class; rows of class y (n,) belong to components of their class.
    The same z, y and rng give the same mixture.
    """
    d = z.shape[1]
    y = torch.zeros(len(z), dtype=torch.int64) if y is None else y
    allowed = component_classes(components, classes)
    assigned = z.new_zeros(len(z), classes * components)
    for c in range(classes):
        rows = torch.nonzero(y == c)[:, 0]
        if len(rows):
            columns = slice(c * components, (c + 1) * components)
            assigned[rows, columns] = kmeans_assignments(z[rows], components, rng.at(c))
    sums = Sums.zero(classes * components, d)
    for part, responsibilities in zip(z.split(CHUNK), assigned.split(CHUNK)):
        sums.add(part, pair_products(part), responsibilities)
    mixture = sums.maximise(floor)
    before = -float("inf")
    for _ in range(ROUNDS if components > 1 else 0):
        joint = mixture.log_joint()
        sums = Sums.zero(classes * components, d)
        total = 0.0
        for part, labels in zip(z.split(CHUNK), y.split(CHUNK)):
            products = pair_products(part)
            log_joint = joint(part, products) + allowed[labels].log()
            log_density = log_joint.logsumexp(1, keepdim=True)
            total += float(log_density.sum())
            sums.add(part, products, (log_joint - log_density).exp())
        if total / len(z) - before < GAIN:
            break
        mixture = sums.maximise(floor)
        before = total / len(z)
    return mixture


def component_classes(components: int, classes: int) -> Tensor:
    """1 where a component (column) belongs to a class (row), else 0: (classes, classes *
    components).
    """
    return torch.eye(classes, dtype=torch.float64).repeat_interleave(components, 1)


def kmeans_assignments(z: Tensor, components: int, rng: Rng, rounds: int = 8) -> Tensor:
    """One-hot nearest centres (n, components) by k-means (Lloyd 1982), started from random rows."""
    order = torch.from_numpy(rng.numpy("centres").permutation(len(z)))
    centres = z[order[:components]]
    for _ in range(rounds):
        squared_norms = centres.square().sum(1)
        index = torch.cat(
            [(squared_norms - 2 * rows @ centres.T).argmin(1) for rows in z.split(CHUNK)]
        )
        size = index.bincount(minlength=len(centres))[:, None]
        total = torch.zeros_like(centres).index_add_(0, index, z)
        centres = torch.where(size > 0, total / size.clamp(min=1), centres)
    return torch.nn.functional.one_hot(index, components).to(z)


def log_labelled_density(
    mixture: Mixture, z: Tensor, y: Tensor, components: int, classes: int
) -> Tensor:
    """log p(z, y) in nats, (n,), for a mixture with so many components for each class."""
    joint = mixture.log_joint()
    allowed = component_classes(components, classes).log()
    parts = []
    for part, labels in zip(z.split(CHUNK), y.split(CHUNK)):
        parts.append((joint(part, pair_products(part)) + allowed[labels]).logsumexp(1))
    return torch.cat(parts)


def select_mixture(
    z: Tensor, most: int, floor: float, rng: Rng, y: Labels = None, classes: int = 1
) -> tuple[Mixture, int]:
    """The mixture of up to ``most`` components with the best validation density p(z, y).

    Also returns its number of components for each class. The numbers tried are 1, those of SIZES and
    the largest that ``most`` allows, equal for all classes y (n,). The first tenth of z (n, d) float64
    is for validation, at least FEW rows. A size is better than the one before if it gains more than
    two standard errors of the gain over those rows; the search ends at the first that is not. With
    fewer than 2 FEW rows there is one component for each class.
    """
    y = torch.zeros(len(z), dtype=torch.int64) if y is None else y
    split = max(FEW, len(z) // 10) if len(z) >= 2 * FEW else 0
    z_validation, z = z[:split], z[split:]
    y_validation, y = y[:split], y[split:]
    best = fit_mixture(z, 1, floor, rng, y, classes)
    best_size = 1
    if not split:
        return best, best_size
    best_density = log_labelled_density(best, z_validation, y_validation, 1, classes)
    largest = most // classes
    for size in (*(size for size in SIZES if size < largest), largest):
        if not 1 < size <= len(z) // classes:
            continue
        mixture = fit_mixture(z, size, floor, rng, y, classes)
        density = log_labelled_density(mixture, z_validation, y_validation, size, classes)
        gain = density - best_density
        gain = gain[torch.isfinite(gain)]  # of a class without training rows both are log 0
        if not len(gain) or gain.mean() <= 2 * gain.std() / len(gain) ** 0.5:
            break
        best = mixture
        best_size = size
        best_density = density
    return best, best_size
