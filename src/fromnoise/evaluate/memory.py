"""Did the model memorise its training set, or one picture?"""

import math

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.rng import Rng
from .distances import checked
from .estimate import Estimate, share

BLOCK = 2**23  # distances held at once


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2, (n, m). Equal rows have distance 0 exactly: what rounding leaves below 1e-12 of their length is 0."""
    length_a, length_b = a.square().sum(1), b.square().sum(1)
    distance = length_a[:, None] + length_b - 2 * (a @ b.T)
    return distance.where(distance > 1e-12 * (length_a[:, None] + length_b), 0.0)


def nearest(x: Tensor, y: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """Euclidean distances to and rows of the ``count`` nearest of y (m, d) for each of x (n, d): (n, count) each, nearest first."""
    x, y = checked(x, y, fewest=1)
    if len(y) < count:
        raise UsageError(f"{len(y)} reference examples have no {count} nearest ones")
    found = []
    for part in x.split(max(1, BLOCK // len(y))):
        distance = squared_distances(part, y)
        values, rows = (t[:, None] for t in distance.min(1)) if count == 1 else distance.topk(count, largest=False)
        found.append((values.sqrt(), rows))
    return torch.cat([values for values, _ in found]), torch.cat([rows for _, rows in found])


def near_copy_rate(samples: Tensor, train: Tensor, held_out: Tensor, false_positives: float = 0.01) -> Estimate:
    """Share of samples nearer to a training example than all but 1 % of the held-out examples are.

    A model that copies nothing scores ``null``, 1 %; one that copies a share p scores about p + 0.01 (1 - p). Where
    many examples are equal (black and white pixels, tables) the threshold cannot be 1 % exactly: then ``null`` is the
    share of held-out examples that it really lets through. The interval knows that the threshold comes from so many
    held-out examples only. All (., d). Raises UsageError below 100 held-out examples, which have no 1 %.
    """
    m = len(held_out)
    if m < 1 / false_positives:
        raise UsageError(f"{m} held-out examples are too few to say what a near-copy is: {math.ceil(1 / false_positives)} or more are needed")
    control = nearest(held_out, train)[0][:, 0].sort().values
    threshold = control[max(1, math.floor(false_positives * m)) - 1]
    null = float((control <= threshold).double().mean())
    distance = nearest(samples, train)[0][:, 0]
    found = share(int((distance <= threshold).sum()), len(samples), null=null, m=len(train))
    # the threshold's own place among held-out examples is uncertain by sqrt(null (1 - null) / m): so much near it is chance
    doubt = 1.96 * math.sqrt(null * (1 - null) / m) * (1 - found.value)
    low, high = found.interval
    interval = (max(0.0, found.value - math.hypot(found.value - low, doubt)), min(1.0, found.value + math.hypot(high - found.value, doubt)))
    return Estimate(found.value, math.hypot(found.se, doubt / 1.96), interval, null, n=found.n, m=found.m)


def duplicates(samples: Tensor, real: Tensor, closer: float = 0.1) -> Estimate:
    """Share of samples that (almost) repeat another sample: nearer to it than a tenth of what is usual among real examples.

    Usual is the median distance of a real example to its nearest other one; null: the share of real examples that
    repeat another one in this sense. samples (n, d), real (m, d). More samples lie closer together: the real ones are
    taken as many as there are.
    """
    samples, real = checked(samples, real, fewest=3)
    most = 10_000
    own = nearest(real[:most], real[:most], 2)[0][:, 1]
    threshold = closer * float(own.median())
    null = float((own <= threshold).double().mean())
    distance = nearest(samples[:most], samples[:most], 2)[0][:, 1]
    return share(int((distance <= threshold).sum()), len(distance), null=null, m=len(real))


def birthday(support: int, s: int) -> float:
    """Probability that two of s draws from ``support`` equally likely things are the same (Arora & Zhang 2018)."""
    return 1 - math.exp(sum(math.log1p(-i / support) for i in range(min(s, support)))) if s <= support else 1.0


def support_size(x: Tensor, same: float, rng: Rng, size: int = 0) -> float:
    """A lower estimate of how many different samples a model has: s^2 / (2 ln 2) at the s where half the batches collide.

    x (n, d) samples; two closer than ``same`` count as one. Infinite when no batch of all of them collides.
    """
    distance = nearest(x, x, 2)[0][:, 1]
    if not bool((distance <= same).any()):
        return math.inf
    order = torch.from_numpy(rng.numpy("order").permutation(len(x)))
    collides = lambda part: bool((nearest(part, part, 2)[0][:, 1] <= same).any())
    s = size or 2
    while s <= len(x):
        parts = [x[order[i : i + s]] for i in range(0, len(x) - s + 1, s)][:20]
        if sum(map(collides, parts)) >= 0.5 * len(parts):
            return s * s / (2 * math.log(2))
        s = math.ceil(1.2 * s)
    return math.inf
