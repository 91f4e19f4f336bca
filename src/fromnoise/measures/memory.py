"""Copies of training examples, and repeated samples. Exact nearest neighbours, block by block.

Unusual: |a|^2 + |b|^2 - 2ab loses all digits of a distance near 0, so those few pairs are computed
again from a - b: a duplicate is at distance 0, not 1e-8, and what is merely close is not taken for
a duplicate. Before that all rows are shifted by the columns' medians: an offset costs no digits,
and whole numbers (pixels) stay whole, hence exact.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..core.errors import UsageError
from .distances import checked
from .estimate import Estimate, share

BLOCK = 2**22  # distances held at once
CLOSE = 1e-10  # of |a|^2 + |b|^2: squared distances below this are computed again
FEWEST_WITHIN, MOST_WITHIN = 20, 5000  # training examples that are a control for the others
SAME_SHARE = (
    0.1  # of the usual distance between real examples: samples nearer than this are the same
)


def distance_blocks(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yields (rows of a (n, d), their squared distances (R, m) to all rows of b (m, d)) in float64,
    block by block.
    """
    a, b = a.double(), b.double()
    shift = b.median(0).values
    p, q = a - shift, b - shift
    pp, qq = p.square().sum(1), q.square().sum(1)
    size = max(1, BLOCK // len(b))
    for start in range(0, len(a), size):
        rows = slice(start, start + size)
        scale = pp[rows, None] + qq  # R m
        squared = torch.addmm(scale, p[rows], q.T, alpha=-2)
        for pairs in (squared < CLOSE * scale).nonzero().split(max(1, BLOCK // b.shape[1])):
            i, j = pairs.T
            squared[i, j] = (a[rows][i] - b[j]).square().sum(1)
        yield rows, squared


def nearest(x: Tensor, y: Tensor, count: int = 1) -> tuple[Tensor, Tensor]:
    """Distances to and rows of the ``count`` nearest of y (m, d) for each of x (n, d): (n, count)
    each, nearest first.
    """
    x, y = checked(x, y, fewest=1)
    if not 1 <= count <= len(y):
        raise UsageError(
            f"{len(y)} reference examples have no {count} nearest ones: ask for 1 to {len(y)}"
        )
    nearest_of = []
    for _, squared in distance_blocks(x, y):
        nearest_of.append(
            squared.min(1, keepdim=True) if count == 1 else squared.topk(count, largest=False)
        )
    return torch.cat([values for values, _ in nearest_of]).sqrt(), torch.cat(
        [rows for _, rows in nearest_of]
    )


def closeness(x: Tensor, train: Tensor, others: Tensor, apart: bool = False) -> Tensor:
    """Distance of each row of x to its nearest training example over that to its nearest of
    ``others``, (n,).

    Near 0 for a copy. A model whose samples are all too near to the middle is near to both, and its
    ratio stays near 1, where a plain distance would call it a copier. apart: x *is* ``others``,
    each row compared with the rest. Equal rows in both (tables, black and white pixels) speak
    neither way: 1.
    """
    return _ratio(nearest(x, train)[0][:, 0], nearest(x, others, 2 if apart else 1)[0][:, -1])


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b of distances (n,); 0 / 0 is 1."""
    nothing = 1e-9 * float(b.median())  # what rounding leaves of equal rows
    a, b = a.where(a > nothing, 0.0), b.where(b > nothing, 0.0)
    return torch.where(b > 0, a / b.clamp(min=1e-300), torch.where(a > 0, math.inf, 1.0))


def closeness_to_one(x: Tensor, train: Tensor, apart: bool = False) -> Tensor:
    """Distance of each row of x to its nearest training example over that to its second nearest,
    (n,).

    Near 0 for a copy of an example that is in the training set once. apart: x are rows of
    ``train``, each compared with the others.
    """
    distances = nearest(x, train, 3 if apart else 2)[0]
    return _ratio(distances[:, -2], distances[:, -1])


def near_copy_rate(
    samples: Tensor, train: Tensor, held_out: Tensor, false_positives: float = 0.01
) -> Estimate:
    """Share of samples that are, against held-out examples, as close to a training example as 1 %
    of real ones are.

    tau is the r-th smallest ``closeness`` of the m held-out examples (each against the others), r =
    floor(false_positives (m + 1)): a fresh real example falls within it with probability r / (m +
    1). A model that copies nothing scores ``null``, about 1 % where no examples are equal, more
    where many are; one that copies a share p of its samples null + (1 - null) p.

    The interval has two parts, put together as by Zou & Donner (2008): Wilson's for the samples,
    and Wilson's for tau's level, known from m held-out examples only. The held-out examples must be
    of the training set's law: MNIST's official test set (other writers) is not quite. Copies that
    were changed more than real examples differ escape.

    Raises UsageError below 1 / false_positives - 1 held-out examples (99), which have no 1 %;
    DataError for NaN.
    """
    if not 0 < false_positives < 1:
        raise UsageError(f"false_positives is a share between 0 and 1, not {false_positives}")
    m = len(held_out)
    rank = math.floor(false_positives * (m + 1) + 1e-9)
    if rank < 1:
        fewest = math.ceil(1 / false_positives - 1 - 1e-9)
        raise UsageError(
            f"{m} held-out examples are too few to say what a near-copy is: {fewest} or more are "
            "needed"
        )
    control = closeness(held_out, train, held_out, apart=True)
    return _share_within(closeness(samples, train, held_out), control, rank, len(train))


def near_copy_rate_within(
    samples: Tensor, train: Tensor, false_positives: float = 0.01
) -> Estimate:
    """``near_copy_rate`` without held-out examples: leave-one-out within the training set.

    A sample is a near-copy if its ``closeness_to_one`` is as small as the r-th smallest of m
    training examples, each against the others, r = floor(false_positives (m + 1)) but at least 1.
    ``null`` is r / (m + 1), 1.2 % of 80 examples. Copies of an example that is in the training set
    twice escape, and the examples share neighbours, which the interval does not know. Raises
    UsageError below 20 training examples, DataError for NaN.
    """
    if len(train) < FEWEST_WITHIN:
        raise UsageError(
            f"{len(train)} training examples are too few to say what a near-copy is: "
            f"{FEWEST_WITHIN} or more are needed"
        )
    control = closeness_to_one(train[:MOST_WITHIN], train, apart=True)
    rank = max(1, math.floor(false_positives * (len(control) + 1) + 1e-9))
    return _share_within(closeness_to_one(samples, train), control, rank, len(train))


def _share_within(scores: Tensor, control: Tensor, rank: int, m_train: int) -> Estimate:
    """Share of scores (n,) that are at most the rank-th smallest of the control's (m,), with its
    interval and null.
    """
    n, m = len(scores), len(control)
    tau = control.kthvalue(rank).values
    within = int((control <= tau).sum())
    null = within / (m + 1)
    rate = share(int((scores <= tau).sum()), n)
    level = share(within, m)
    assert rate.interval and level.interval and rate.se is not None and level.se is not None
    # of the rate in tau's level, where what is not copied is as real data are
    slope = (1 - rate.value) / (1 - null)
    low = rate.value - math.hypot(
        rate.value - rate.interval[0], slope * (level.interval[1] - level.value)
    )
    high = rate.value + math.hypot(
        rate.interval[1] - rate.value, slope * (level.value - level.interval[0])
    )
    return Estimate(
        rate.value,
        math.hypot(rate.se, slope * level.se),
        (max(0.0, low), min(1.0, high)),
        null,
        n=n,
        m=m_train,
    )


def _others_within(x: Tensor, distance: float) -> Tensor:
    """How many other rows of x (n, d) each has within the distance, (n,)."""
    return torch.cat([(squared <= distance**2).sum(1) for _, squared in distance_blocks(x, x)]) - 1


def duplicates(samples: Tensor, real: Tensor, tol: float | None = None) -> Estimate:
    """Share of samples (n, d) that have another sample within ``tol``: the model repeats itself.

    tol (feature units): by default a tenth of the median distance of a real example to its nearest
    other one; 0 counts equal rows. ``null`` is the same share among the real examples (m, d). More
    rows lie closer together, so the first min(n, m) of both are counted. Repeated samples come in
    clusters, not one by one: the interval is Wilson's at n over the mean size of a repeated
    sample's cluster (Kish 1965; 2 where there is none), and leaves out the null's own noise. Raises
    UsageError below 3 rows, DataError for NaN.
    """
    samples, real = checked(samples, real, fewest=3)
    n = min(len(samples), len(real))
    samples, real = samples[:n], real[:n]
    if tol is None:
        tol = SAME_SHARE * float(nearest(real, real, 2)[0][:, 1].median())
    others, null = (
        _others_within(samples, tol),
        float((_others_within(real, tol) > 0).double().mean()),
    )
    repeated = others > 0
    count = int(repeated.sum())
    size = float(others[repeated].double().mean()) + 1 if count else 2.0
    rate = share(count / size, n / size)
    return Estimate(rate.value, rate.se, rate.interval, null, n=n, m=len(real))
