"""A mixture of Gaussians fitted to the data, and its denoiser in closed form.

    q(x) = sum_k w_k N(x; m_k, S_k),   y = x_t / alpha = x + r eps,   r = sigma / alpha

    E[x | y] = sum_k p(k | y) (m_k + S_k (S_k + r^2)^-1 (y - m_k)),   p(k | y) ~ w_k N(y; m_k, S_k + r^2)

One Gaussian (gaussian_data.py) is a good model where noise hides all but mean and covariance. A
mixture is one at less noise too, where it is decided which kind of example is generated, which a
network is slow to learn. The mixture is one of the leading principal components; along the others x is
Gaussian and independent. With labels, w_k is p(k | class).
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ...core.rng import Rng
from ...core.spec import Condition, Labels
from .. import em
from .gaussian_data import GaussianData

ROWS = 20_000  # rows that the mixture is fitted to, at most
LEADING = 64  # principal components of the mixture, at most
ENTRIES = 2**22  # numbers (rows x K x d) that the denoiser holds at once


class MixtureData(GaussianData):
    """Buffers besides those of GaussianData, for K components in d dimensions and a basis of size P:

    weights (classes + 1, K)  for each class; the last row for no label. Weight 0: not used
    means (K, d)
    axes (K, d, d)            eigenvectors of the covariances, in columns
    spreads (K, d)            their eigenvalues
    offsets (classes, P)      along the basis, from the mean of the mixture with a class's weights
                              to the mean of the class
    within (P,)               variances inside of a class
    """

    substeps = 8  # of each step of dpm_with_known: cheap compared with a network

    def __init__(self, dims: int, size: int, most: int, classes: int = 0):
        super().__init__(dims, size)
        d = min(size, LEADING)
        weights = torch.zeros(classes + 1, most).index_fill_(1, torch.tensor([0]), 1.0)
        self.register_buffer("weights", weights)
        self.register_buffer("means", torch.zeros(most, d))
        self.register_buffer("axes", torch.eye(d).repeat(most, 1, 1))
        self.register_buffer("spreads", torch.ones(most, d))
        self.register_buffer("offsets", torch.zeros(classes, size))
        self.register_buffer("within", torch.ones(size))

    @property
    def classes(self) -> int:
        return len(self.offsets)

    def fit(
        self, batches: Callable[[], Iterable[tuple[Tensor, Tensor | None]]], floor: float, rng: Rng
    ) -> tuple[int, float, float]:
        """As GaussianData.fit, and a mixture fitted to up to ROWS of the rows.

        Validation rows select the number of components. With labels y (B,) each component belongs to
        one class, if there are enough components, and the mean of each class is kept.
        """
        n, share, average = super().fit(batches, floor, rng)
        z, y, sums = self.project_rows(batches, n, rng)
        mixture, by_class = fit_by_class(
            z, y, self.classes, len(self.means), floor, rng.at("mixture")
        )
        order = mixture.weights.argsort(descending=True)  # components of weight 0 come last
        used = len(order)
        spreads, axes = torch.linalg.eigh(mixture.covariances[order])
        spreads = torch.lerp(spreads, torch.full_like(spreads, average), share)
        self.weights.zero_()
        self.weights[:, :used] = mixture.weights[order].to(self.weights)
        self.means[:used] = mixture.means[order].to(self.means)
        self.axes[:used] = axes.to(self.axes)
        self.spreads[:used] = spreads.clamp(min=floor).to(self.spreads)
        self.within.copy_(self.variances)
        if self.classes:
            self.weights[:-1, :used] = by_class[:, order].to(self.weights)
            each_class = torch.eye(self.classes, device=self.weights.device)
            variances = self.variances.cpu().double()
            self.offsets.copy_(sums.offsets(self.class_means(each_class).cpu().double(), variances))
            between = (sums.count / n) @ self.class_means(each_class).cpu().double().square()
            self.within.copy_((variances - between).clamp(min=floor))
        return n, share, average

    def project_rows(
        self, batches: Callable[[], Iterable[tuple[Tensor, Tensor | None]]], n: int, rng: Rng
    ) -> tuple[Tensor, Tensor | None, "ClassMeans"]:
        """Up to ROWS random rows in the leading components (m, d) float64, their labels (m,) or None,
        and the sums of all rows by class."""
        chosen = torch.zeros(n, dtype=torch.bool)
        chosen[torch.from_numpy(rng.numpy("rows").permutation(n)[:ROWS])] = True
        rows = []
        labels = []
        done = 0
        sums = ClassMeans(self.classes, len(self.variances))
        for x, y in batches():
            along = ((x.flatten(1) - self.mean) @ self.basis).cpu().double()
            in_batch = chosen[done : done + len(x)]
            rows.append(along[in_batch, : self.means.shape[1]])
            if self.classes:
                labels.append(y.cpu()[in_batch])
                sums.add(along, y.cpu())
            done += len(x)
        # Data may be sorted.
        order = torch.from_numpy(rng.numpy("order").permutation(int(chosen.sum())))
        y = torch.cat(labels)[order].long() if self.classes else None
        return torch.cat(rows)[order], y, sums

    def used(self) -> int:
        """The number of components with a weight above 0: the first ones."""
        return int((self.weights[-1] > 0).sum())

    def weights_of(self, condition: Condition) -> Tensor:
        """p(k | class), (B or 1, K), for classes as one-hot rows (B, classes); zeros stand for no
        label.
        """
        weights = self.weights[:, : self.used()]
        if condition is None or not self.classes:
            return weights[-1:]
        condition = condition.to(weights)
        return condition @ weights[:-1] + (1 - condition.sum(1, keepdim=True)) * weights[-1:]

    def class_means(self, condition: Tensor) -> Tensor:
        """Means (B, P) along the basis, minus the mean of all data."""
        weights = self.weights_of(condition)
        leading = (weights - self.weights[-1:, : weights.shape[1]]) @ self.means[: weights.shape[1]]
        means = condition.to(self.offsets) @ self.offsets
        return torch.cat([means[:, : leading.shape[1]] + leading, means[:, leading.shape[1] :]], 1)

    def conditional_mean(self, x: Tensor, condition: Condition) -> Tensor:
        """The mean of the data, or with a condition that of each row's class, (B or 1, *shape)."""
        if condition is None or not self.classes:
            return self.centre(x)
        shift = self.join(self.class_means(condition), (-1, *x.shape[1:]))
        return self.centre(x) + shift.to(x.dtype)

    def conditional_variances(self, condition: Condition) -> Tensor:
        return self.variances if condition is None or not self.classes else self.within

    def denoise_along(self, u: Tensor, r: Tensor, condition: Condition = None) -> Tensor:
        """As GaussianData.denoise_along, with the mixture in the leading components.

        The distribution of a class is the mixture with its weights, moved to the mean of the class.
        """
        size = max(1, ENTRIES // self.means.numel())
        if len(u) <= size:
            return self.denoise_rows(u, r, condition)
        parts = []
        for i in range(0, len(u), size):
            rows = slice(i, i + size)
            r_part = r[rows] if r.ndim and len(r) == len(u) else r
            has_rows = condition is not None and len(condition) == len(u)
            part = condition[rows] if has_rows else condition
            parts.append(self.denoise_rows(u[rows], r_part, part))
        return torch.cat(parts)

    def denoise_rows(self, u: Tensor, r: Tensor, condition: Condition) -> Tensor:
        weights = self.weights_of(condition)
        used = weights.shape[1]
        d = self.means.shape[1]
        means, axes, spreads = (x[:used] for x in (self.means, self.axes, self.spreads))
        offset = 0.0
        if condition is not None and self.classes:
            offset = (condition.to(self.offsets) @ self.offsets).to(u)
        u = u - offset
        matrix = axes.permute(1, 0, 2).flatten(1)  # (d, K d)
        r2 = r.to(u).view(-1, 1, 1) ** 2
        total = spreads + r2  # (B or 1, K, d)
        projected_means = torch.einsum("kd,kde->ke", means, axes)
        centred = (u[:, :d] @ matrix).unflatten(1, (used, d)) - projected_means  # (B, K, d)
        log_joint = weights.log() - (centred.square() / total + total.log()).sum(2) / 2
        p = log_joint.softmax(1)  # p(k | y), (B, K)
        shrunk = (p[:, :, None] * (spreads / total) * centred).flatten(1)
        leading = shrunk @ matrix.T + p @ means
        return torch.cat([leading, super().denoise_along(u, r)[:, d:]], 1) + offset


class ClassMeans:
    """Sums for the mean of each class along the basis: count (classes,) and total (classes, P)."""

    def __init__(self, classes: int, size: int):
        self.count = torch.zeros(classes, dtype=torch.float64)
        self.total = torch.zeros(classes, size, dtype=torch.float64)

    def add(self, along: Tensor, y: Tensor) -> None:
        self.count.index_add_(0, y.long(), torch.ones(len(y), dtype=torch.float64))
        self.total.index_add_(0, y.long(), along)

    def offsets(self, expected: Tensor, variances: Tensor) -> Tensor:
        """From expected means (classes, P) to the means of the classes, given the variances (P,).

        Shrunk where a mean is of few rows (James & Stein 1961, positive part).
        """
        count = self.count.clamp(min=1)[:, None]
        offsets = torch.where(self.count[:, None] > 0, self.total / count - expected, 0.0)
        noise = variances.sum() / count
        squared = offsets.square().sum(1, keepdim=True).clamp(min=1e-30)
        return offsets * (1 - noise / squared).clamp(min=0)


def fit_by_class(
    z: Tensor, y: Labels, classes: int, most: int, floor: float, rng: Rng
) -> tuple[em.Mixture, Tensor | None]:
    """A mixture of up to ``most`` components for z (n, d), and p(k | class) (classes, K) or None."""
    if classes > most:  # components are shared by the classes
        mixture, _ = em.select_mixture(z, most, floor, rng)
        return mixture, class_weights(mixture.responsibilities(z), y, classes)
    if not classes:
        return em.select_mixture(z, most, floor, rng)[0], None
    mixture, per_class = em.select_mixture(z, most, floor, rng, y, classes)
    own = em.component_classes(per_class, classes) * mixture.weights
    shares = own / own.sum(1, keepdim=True).clamp(min=1e-300)
    return mixture, class_weights(shares[y], y, classes)


def class_weights(responsibilities: Tensor, y: Tensor, classes: int) -> Tensor:
    """p(k | class), (classes, K), from p(k | x_i) (n, K) and labels y (n,).

    A thousandth of an average example is added to each class, so that a class without examples has the
    weights of all data.
    """
    shape = (classes, responsibilities.shape[1])
    total = torch.zeros(shape, dtype=responsibilities.dtype)
    total = total.index_add_(0, y.long(), responsibilities)
    total = total + 1e-3 * responsibilities.mean(0)
    return total / total.sum(1, keepdim=True)
