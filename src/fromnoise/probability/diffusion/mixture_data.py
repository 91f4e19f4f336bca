"""A mixture of Gaussians fitted to the data, and its denoiser in closed form.

    q(x) = sum_k w_k N(x; m_k, S_k),   y = x_t / alpha = x + r eps,   r = sigma / alpha

    E[x | y]  =  sum_k p(k | y) (m_k + S_k (S_k + r^2)^-1 (y - m_k)),   p(k | y) ~ w_k N(y; m_k, S_k + r^2)

One Gaussian (gaussian_data.py) is right where noise hides everything but mean and covariance. A mixture is right at less noise
too: there it is decided which kind of example comes out, and a network needs long to learn that. The mixture lives in the
leading principal components; along the others x is Gaussian and independent. With labels, w_k is p(k | class).
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ...core.rng import Rng
from .. import em
from .gaussian_data import GaussianData

ROWS = 20_000  # rows that the mixture is fitted to, at most
LEADING = 64  # principal components that it lives in, at most
ENTRIES = 2**22  # numbers that the denoiser holds at once of rows x K x d


class MixtureData(GaussianData):
    """Buffers beside those of GaussianData: weights (classes + 1, K), the last row for no label; means (K, d); axes (K, d, d),
    the eigenvectors of the covariances in columns, and spreads (K, d), their eigenvalues; offsets (classes, P), along the basis from
    the mean of the mixture with a class's weights to the mean of the class; within (P,), the variances inside of a class.
    Components of weight 0 are not used."""

    substeps = (
        8  # into which a sampler divides each step: this denoiser costs little beside a network
    )

    def __init__(self, dims: int, size: int, most: int, classes: int = 0):
        super().__init__(dims, size)
        d = min(size, LEADING)
        self.register_buffer(
            "weights", torch.zeros(classes + 1, most).index_fill_(1, torch.tensor([0]), 1.0)
        )
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
        """As GaussianData's, and a mixture of up to ROWS of the rows. Held-out rows choose the number of components. With labels
        y (B,) each component belongs to one class, as far as there are enough, and the mean of each class is kept."""
        n, share, average = super().fit(batches, floor, rng)
        most, d = self.means.shape
        chosen = torch.zeros(n, dtype=torch.bool)
        chosen[torch.from_numpy(rng.numpy("rows").permutation(n)[:ROWS])] = True
        rows, labels, done = [], [], 0
        sums = ClassMeans(self.classes, len(self.variances))
        for x, y in batches():
            along = ((x.flatten(1) - self.mean) @ self.basis).cpu().double()
            taken = chosen[done : done + len(x)]
            rows.append(along[taken, :d])
            if self.classes:
                labels.append(y.cpu()[taken])
                sums.add(along, y.cpu())
            done += len(x)
        shuffled = torch.from_numpy(
            rng.numpy("order").permutation(int(chosen.sum()))
        )  # data may be sorted
        z = torch.cat(rows)[shuffled]
        y = torch.cat(labels)[shuffled].long() if self.classes else None
        separate = 0 < self.classes <= most  # components of one class each
        mixture, each = em.select_mixture(
            z,
            most,
            floor,
            rng.at("mixture"),
            y if separate else None,
            self.classes if separate else 1,
        )
        by_class = None
        if separate:
            own = em.component_classes(each, self.classes) * mixture.weights
            by_class = class_weights(
                (own / own.sum(1, keepdim=True).clamp(min=1e-300))[y], y, self.classes
            )
        elif self.classes:
            by_class = class_weights(mixture.responsibilities(z), y, self.classes)
        order = mixture.weights.argsort(descending=True)  # what has no weight comes last
        mixture = em.Mixture(
            mixture.weights[order], mixture.means[order], mixture.covariances[order]
        )
        used = len(order)
        spreads, axes = torch.linalg.eigh(mixture.covariances)
        spreads = torch.lerp(spreads, torch.full_like(spreads, average), share)
        self.weights.zero_()
        self.weights[:, :used] = mixture.weights.to(self.weights)
        self.means[:used] = mixture.means.to(self.means)
        self.axes[:used] = axes.to(self.axes)
        self.spreads[:used] = spreads.clamp(min=floor).to(self.spreads)
        self.within.copy_(self.variances)
        if self.classes:
            self.weights[:-1, :used] = by_class[:, order].to(self.weights)
            each_class = torch.eye(self.classes, device=self.weights.device)
            variances = self.variances.double().cpu()
            self.offsets.copy_(sums.offsets(self.class_means(each_class).double().cpu(), variances))
            between = (sums.count / n) @ self.class_means(each_class).double().cpu().square()
            self.within.copy_((variances - between).clamp(min=floor))
        return n, share, average

    def used(self) -> int:
        """How many components have a weight: the first ones."""
        return int((self.weights[-1] > 0).sum())

    def weights_of(self, condition: Tensor | None) -> Tensor:
        """p(k | class), (B or 1, K), for classes as one-hot rows (B, classes); a row of zeros stands for no label."""
        weights = self.weights[:, : self.used()]
        if condition is None or not self.classes:
            return weights[-1:]
        condition = condition.to(weights)
        return condition @ weights[:-1] + (1 - condition.sum(1, keepdim=True)) * weights[-1:]

    def class_means(self, condition: Tensor) -> Tensor:
        """Means (B, P) along the basis, from that of all data."""
        weights = self.weights_of(condition)
        leading = (weights - self.weights[-1:, : weights.shape[1]]) @ self.means[: weights.shape[1]]
        means = condition.to(self.offsets) @ self.offsets
        return torch.cat([means[:, : leading.shape[1]] + leading, means[:, leading.shape[1] :]], 1)

    def conditional_mean(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The mean of the data, or with a condition that of each row's class, (B or 1, *shape)."""
        if condition is None or not self.classes:
            return self.centre(x)
        return self.centre(x) + self.join(self.class_means(condition), (-1, *x.shape[1:])).to(
            x.dtype
        )

    def conditional_variances(self, condition: Tensor | None) -> Tensor:
        return self.variances if condition is None or not self.classes else self.within

    def denoise_along(self, u: Tensor, r: Tensor, condition: Tensor | None = None) -> Tensor:
        """As GaussianData's, by the mixture in the leading components. The law of a class is the mixture with its weights, moved to
        its mean."""
        most = max(1, ENTRIES // self.means.numel())
        if len(u) > most:

            def part(values, i):
                return (
                    values[i : i + most]
                    if values is not None and values.ndim and len(values) == len(u)
                    else values
                )

            return torch.cat(
                [
                    self.denoise_along(u[i : i + most], part(r, i), part(condition, i))
                    for i in range(0, len(u), most)
                ]
            )
        weights = self.weights_of(condition)
        used, d = weights.shape[1], self.means.shape[1]
        means, axes, spreads = self.means[:used], self.axes[:used], self.spreads[:used]
        offset = (
            0.0
            if condition is None or not self.classes
            else (condition.to(self.offsets) @ self.offsets).to(u)
        )
        u = u - offset
        matrix = axes.permute(1, 0, 2).flatten(1)  # (d, K d)
        r2 = r.to(u).view(-1, 1, 1) ** 2
        total = spreads + r2  # (B or 1, K, d)
        moved = (u[:, :d] @ matrix).unflatten(1, (used, d)) - torch.einsum(
            "kd,kde->ke", means, axes
        )
        log_joint = weights.log() - (moved.square() / total + total.log()).sum(2) / 2
        share = log_joint.softmax(1)  # p(k | y), (B, K)
        leading = (share[:, :, None] * (spreads / total) * moved).flatten(
            1
        ) @ matrix.T + share @ means
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
        """From expected means (classes, P) to the classes' own, shorter where these rest on few rows of these variances (P,)
        (James & Stein 1961, positive part)."""
        count = self.count.clamp(min=1)[:, None]
        offsets = torch.where(self.count[:, None] > 0, self.total / count - expected, 0.0)
        noise = variances.sum() / count
        return offsets * (1 - noise / offsets.square().sum(1, keepdim=True).clamp(min=1e-30)).clamp(
            min=0
        )


def class_weights(responsibilities: Tensor, y: Tensor, classes: int) -> Tensor:
    """p(k | class), (classes, K), from p(k | x_i) (n, K) and labels y (n,). A thousandth of an average example is added to each
    class, so that a class without examples has the weights of all."""
    total = torch.zeros(
        classes, responsibilities.shape[1], dtype=responsibilities.dtype
    ).index_add_(0, y.long(), responsibilities)
    total = total + 1e-3 * responsibilities.mean(0)
    return total / total.sum(1, keepdim=True)
