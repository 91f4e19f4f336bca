"""The Fréchet distance of two sets of one law: its bias and its spread."""

import statistics
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shuffling:
    """How the distribution is simulated.

    jackknife  groups of the jackknife of the two sets
    groups     groups of the jackknife in each shuffling
    shuffles   number R of shufflings
    blocks     of the smaller set, which change sides as a whole
    student    (t_{R-1} / 1.96)^2 (1 + 1 / R): the variance is known from R values only
    """

    jackknife: int
    groups: int
    shuffles: int
    blocks: int
    student: float


NARROW = Shuffling(jackknife=48, groups=4, shuffles=60, blocks=48, student=1.0597)
# above WIDEST features, where each group costs as the cube of them
WIDE = Shuffling(jackknife=8, groups=4, shuffles=20, blocks=24, student=1.1974)
WIDEST = 256
# rows of the larger set for each row of the smaller one that are shuffled: more change little
RATIO = 16
RIDGE = 1e-12  # of the trace, added to a covariance whose factor only serves differences


@dataclass(frozen=True)
class BlockSums:
    """Of k blocks of rows: their number of rows (k,), sums (k, d), sums of outer products (k, d, d)."""

    count: Tensor
    first: Tensor
    second: Tensor

    @staticmethod
    def of(x: Tensor, blocks: int) -> "BlockSums":
        """x (n, d), cut into ``blocks`` of as equal size as possible."""
        size = len(x) // blocks
        d = x.shape[1]
        whole = x[: blocks * size].reshape(blocks, size, d)
        rest = x[blocks * size :]
        count = x.new_full((blocks,), size)
        first = whole.sum(1)
        second = whole.transpose(1, 2) @ whole
        count[: len(rest)] += 1
        first[: len(rest)] += rest
        second[: len(rest)] += rest[:, :, None] * rest[:, None, :]
        return BlockSums(count, first, second)

    def merge(self, into: Tensor, count: int) -> "BlockSums":
        """The blocks merged into ``count`` groups; into (k,): the group of each block."""
        member = self.count.new_zeros(count, len(into))
        member[into, torch.arange(len(into))] = 1
        return BlockSums(
            member @ self.count,
            member @ self.first,
            (member @ self.second.flatten(1)).view(count, *self.second.shape[1:]),
        )

    def deal(self, count: int) -> "BlockSums":
        """The blocks dealt in turn to ``count`` groups."""
        return self.merge(torch.arange(len(self.count)) % count, count)

    def slice(self, begin: int, end: int) -> "BlockSums":
        return BlockSums(self.count[begin:end], self.first[begin:end], self.second[begin:end])

    def without_each(self) -> tuple[Tensor, Tensor]:
        """Means (k + 1, d), covariances (k + 1, d, d): of all rows, then without each block."""

        def leave_one_out(t):
            return torch.cat([t.sum(0, keepdim=True), t.sum(0, keepdim=True) - t])

        n = leave_one_out(self.count)[:, None]
        first = leave_one_out(self.first)
        second = leave_one_out(self.second)
        mean = first / n
        return mean, (second - first[:, :, None] * mean[:, None, :]) / (n[:, :, None] - 1)


def concatenate(a: BlockSums, b: BlockSums) -> BlockSums:
    return BlockSums(
        torch.cat([a.count, b.count]),
        torch.cat([a.first, b.first]),
        torch.cat([a.second, b.second]),
    )


def pair_distances(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    """FD (k,) of k pairs of means (k, d) and covariances (k, d, d).

    Faster than ``plug_in`` and less exact.

    The last term is the sum of the roots of the eigenvalues of B S1 B^T with S2 = B^T B; RIDGE
    keeps S2 regular.
    """

    def trace(cov):
        return cov.diagonal(dim1=1, dim2=2).sum(1)

    eye = torch.eye(mean1.shape[1], dtype=mean1.dtype)
    factor, failed = torch.linalg.cholesky_ex(cov2 + RIDGE * trace(cov2).mean() * eye)
    if int(failed.max()):
        values, vectors = torch.linalg.eigh(cov2)
        factor = vectors * values.clamp(min=0).sqrt()[:, None, :]
    roots = torch.linalg.eigvalsh(factor.transpose(1, 2) @ cov1 @ factor).clamp(min=0).sqrt()
    return (mean1 - mean2).square().sum(1) + trace(cov1) + trace(cov2) - 2 * roots.sum(1)


def jackknife(a: BlockSums, b: BlockSums) -> tuple[float, float]:
    """FD, and the correction that removes its bias of order 1/n.

    The correction is (G - 1) (FD - mean of FD without one group of either set), for G groups.
    """
    values = pair_distances(*a.without_each(), *b.without_each())
    correction = (len(values) - 2) * (values[0] - values[1:].mean())
    return float(values[0]), float(correction)


@dataclass(frozen=True)
class NullDistribution:
    """FD of two sets of one law.

    added   what the jackknife adds to the FD of the two sets as they are
    middle  mean of the corrected FD where rows change sides by chance: the bias of higher order.
            Values are cut at four standard deviations: one extreme row in a small set makes
            outliers
    flat    variance of the corrected FD there, made larger for the few shufflings: 1.96 of its
            roots are Student's quantile
    excess  what the noise in the moments adds to the variance of the rows' influences: twice the
            variance of FD there
    """

    added: float
    middle: float
    flat: float
    excess: float

    @staticmethod
    def of(x: Tensor, y: Tensor) -> "NullDistribution":
        """x (n, d), y (m, d).

        Rows change sides in blocks, so that each shuffling costs no pass over the rows.
        """
        if len(x) > len(y):
            x, y = y, x
        n, d = x.shape
        m = len(y)
        setting = NARROW if d <= WIDEST else WIDE
        groups = setting.groups
        jackknife_groups = min(setting.jackknife, n)
        # both the spread and what is left of the bias go as G / (G - 1)
        less = (groups - 1) / groups * jackknife_groups / (jackknife_groups - 1)
        generator = torch.Generator().manual_seed(n + m)
        size = max(1, n // setting.blocks)
        centre = y.mean(0)
        one = BlockSums.of(permute(x - centre, generator), n // size)
        other = BlockSums.of(permute(y - centre, generator), m // size)
        added = jackknife(one.deal(jackknife_groups), other.deal(jackknife_groups))[1]
        scale = 1.0
        if m > RATIO * n:
            other = other.slice(0, RATIO * len(one.count))
            scale = (1 / n + 1 / m) / (1 / n + 1 / (RATIO * n))
        values = shuffled_distances(one, other, setting, scale, generator)
        variance = statistics.variance(values)
        return NullDistribution(
            added,
            less * robust_mean(values),
            setting.student * less * variance,
            2 * variance * (groups - 1) / groups,
        )


def permute(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator)]


def shuffled_distances(
    one: BlockSums,
    other: BlockSums,
    setting: Shuffling,
    scale: float,
    generator: torch.Generator,
) -> list[float]:
    """Corrected FD of two sets whose blocks changed sides by chance, times the scale."""
    few = len(one.count)
    groups = setting.groups
    pool = concatenate(one, other)
    into = torch.empty(len(pool.count), dtype=torch.int64)
    values = []
    for _ in range(setting.shuffles):
        order = torch.randperm(len(pool.count), generator=generator)
        into[order[:few]] = torch.arange(few) % groups
        into[order[few:]] = groups + torch.arange(len(order) - few) % groups
        both = pool.merge(into, 2 * groups)
        pair = jackknife(both.slice(0, groups), both.slice(groups, 2 * groups))
        values.append(scale * sum(pair))
    return values


def robust_mean(values: list[float]) -> float:
    """Mean of the values, cut at four standard deviations of a Gaussian around their median."""
    centre = statistics.median(values)
    far = 6 * statistics.median(abs(value - centre) for value in values)
    return statistics.fmean(min(max(value, centre - far), centre + far) for value in values)
