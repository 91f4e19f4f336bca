"""Disentanglement: whether each number of a code depends on one factor, for data whose true factors
are known.

z (n, d): codes, a posterior's means; y (n, F): the factors as classes 0, 1, .. (``classes`` makes
them), rows in random order. All scores lie in [0, 1]; constant codes get 0.

Unusual: what a guess would get is taken out of accuracies (DCI's informativeness, SAP); trees split
only where it shows, since deep ones give every dimension some importance; dead dimensions really
are left out of FactorVAE's votes.
"""

from dataclasses import replace

import numpy as np
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.rng import Rng
from .estimate import Estimate, normal_interval, share

FEWEST, MOST = 500, 10_000  # examples: least of all, most that the trees see
CLASSES, QUANTILES = 50, 10  # a factor of more different values than CLASSES is cut into QUANTILES
BINS, GROUPS = 20, 20  # of a code's range, for mutual information; of rows, for its jackknife
# of a forest; rows' worth of Gini impurity that a split must remove: noise seldom does
TREES, GAIN = (
    20,
    10,
)
VOTES, MEMBERS = 10_000, 64  # of FactorVAE; examples behind each vote
DEAD = 0.05  # a dimension whose standard deviation is a smaller share of the largest does not vote


def disentanglement(z: Tensor, factors: Tensor, rng: Rng) -> dict[str, Estimate]:
    """mig, dci_disentanglement, dci_completeness, dci_informativeness, sap, factor_vae of codes z
    (n, d).

    factors (n, F): the true values, classes or continuous, see ``classes``. At least 2 dimensions,
    2 factors and 500 examples; papers use 10,000. mig's null is what the factors themselves would
    get as codes: 20 bins blur many values. About 5 s for (10,000, 10) codes and 7 factors on one
    core, most of it DCI's forests, which therefore see 10,000 examples at most.
    """
    z, factors = (np.asarray(values.detach().cpu().double()) for values in (z, factors))
    if (
        z.ndim != 2
        or factors.ndim != 2
        or len(z) != len(factors)
        or min(z.shape[1], factors.shape[1]) < 2
        or len(z) < FEWEST
    ):
        raise UsageError(
            f"codes {z.shape} and factors {factors.shape} do not do: give (n, d) and (n, F), n >= "
            f"{FEWEST}, d and F >= 2"
        )
    if not np.isfinite(z).all() or not np.isfinite(factors).all():
        raise DataError("codes or factors with NaN or infinity: leave those examples out")
    order = rng.numpy("order").permutation(len(z))
    z, factors = z[order], factors[order]
    y = classes(factors)
    disentangled, complete, informative = dci(z[:MOST], y[:MOST])
    return {
        "mig": replace(mig(z, y), null=mig(factors, y).value),
        "dci_disentanglement": disentangled,
        "dci_completeness": complete,
        "dci_informativeness": informative,
        "sap": sap(z[:MOST], y[:MOST]),
        "factor_vae": factor_vae(z, y, rng),
    }


def classes(factors: np.ndarray) -> np.ndarray:
    """Values (n, F) -> classes 0, 1, .. (n, F) int64.

    A factor keeps its values when there are at most 50 and 40 examples for each; otherwise it is
    cut into 10 quantiles.
    """
    y = np.empty(factors.shape, np.int64)
    for j, values in enumerate(factors.T):
        if len(np.unique(values)) > min(CLASSES, len(values) // 40):
            values = np.searchsorted(
                np.unique(np.quantile(values, np.arange(1, QUANTILES) / QUANTILES)), values
            )
        y[:, j] = np.unique(values, return_inverse=True)[1]
        if len(y) - np.bincount(y[:, j]).max() < 20:
            raise DataError(
                f"factor {j} has one value for all but fewer than 20 of the {len(y)} examples: "
                "leave it out"
            )
    return y


def mig(z: np.ndarray, y: np.ndarray) -> Estimate:
    """Mutual information gap (Chen et al. 2018, eq. 6): how much more information the best dimension
    has of a factor than the next.

    mean_j (I(z_best; y_j) - I(z_next; y_j)) / H(y_j), codes in 20 bins of equal width. Bins make
    noise look informed (by 85 / n nats for 10 classes): ``raw`` has that bias, a jackknife over 20
    groups of rows takes it out of every I and H behind the value.
    """
    low, high = z.min(0), z.max(0)
    bins = (
        ((z - low) / np.where(high > low, high - low, 1) * BINS).astype(np.int64).clip(max=BINS - 1)
    )
    group = np.arange(len(z)) % GROUPS
    values, raws, left_out = [], [], []
    for labels in y.T:
        shape = (GROUPS, BINS, labels.max() + 1)
        cells = [np.ravel_multi_index((group, code, labels), shape) for code in bins.T]
        # G d bins K
        counts = np.stack(
            [np.bincount(cell, minlength=np.prod(shape)).reshape(shape) for cell in cells], 1
        )
        full, without = _information(counts.sum(0)), _information(counts.sum(0) - counts)
        values.append(_gap(*(GROUPS * a - (GROUPS - 1) * b.mean(0) for a, b in zip(full, without))))
        raws.append(_gap(*full))
        left_out.append(_gap(*without))  # (G,)
    value = float(np.clip(np.mean(values), 0, 1))
    se = float(np.sqrt((GROUPS - 1) * np.mean(left_out, 0).var()))
    return Estimate(value, se, normal_interval(value, se), 1.0, float(np.mean(raws)), n=len(z))


def _information(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """counts (.., d, bins, K) -> I(z_i; y) (.., d) and H(y) (..), nats."""
    p = counts / counts.sum((-1, -2), keepdims=True)
    of_y = _entropy(p.sum(-2))
    return _entropy(p.sum(-1)) + of_y - _entropy(p.reshape(*p.shape[:-2], -1)), of_y[..., 0]


def _gap(information: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    best = np.sort(information)
    return (best[..., -1] - best[..., -2]) / entropy


def _entropy(p: np.ndarray) -> np.ndarray:
    """-sum p ln p over the last dimension, nats."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)


def dci(z: np.ndarray, y: np.ndarray) -> tuple[Estimate, Estimate, Estimate]:
    """Disentanglement, completeness, informativeness (Eastwood & Williams 2018, section 2).

    A random forest for each factor learns from one half of the rows; R, its importances, goes to
    ``dci_of``. Informativeness is its accuracy on the other half, from 0 for guessing the commonest
    class to 1. A class of fewer than 20 examples may be too rare to be seen.
    """
    from sklearn.ensemble import RandomForestClassifier

    half = len(z) // 2
    R, known = np.empty((z.shape[1], y.shape[1])), []
    for j, labels in enumerate(y.T):
        forest = RandomForestClassifier(
            TREES, max_features=None, min_impurity_decrease=GAIN / half, random_state=0
        )
        R[:, j] = forest.fit(z[:half], labels[:half]).feature_importances_
        guess = (labels[half:] == np.bincount(labels[:half]).argmax()).mean()
        # no split: its guess is the bootstrap's
        score = forest.score(z[half:], labels[half:]) if R[:, j].any() else guess
        known.append(max(0.0, (score - guess) / (1 - guess)))
    return tuple(
        Estimate(float(value), null=1.0, n=len(z)) for value in (*dci_of(R), np.mean(known))
    )


def dci_of(R: np.ndarray) -> tuple[float, float]:
    """Importances R (d, F) -> disentanglement, completeness; 0 where nothing is important.

    1 - H of what a dimension is important for, to base F, and 1 - H of what is important for a
    factor, to base d; each averaged with its share of all importance.
    """
    if R.sum() == 0:
        return 0.0, 0.0

    def one_sided(R):  # 1 - entropy of each row
        total = R.sum(1)
        return float(
            (1 - _entropy(R / np.where(total > 0, total, 1)[:, None]) / np.log(R.shape[1]))
            @ total
            / total.sum()
        )

    return one_sided(R), one_sided(R.T)


def sap(z: np.ndarray, y: np.ndarray) -> Estimate:
    """Separated attribute predictability (Kumar et al. 2018, section 3): how much better the best
    dimension predicts a factor than the next, averaged over factors.

    Each dimension alone is cut into as many intervals as there are classes, learnt from one half of
    the rows; its score is the balanced accuracy on the other half, from 0 for a guess to 1.
    """
    from sklearn.tree import DecisionTreeClassifier

    half = len(z) // 2
    scores = np.empty((z.shape[1], y.shape[1]))
    for j, labels in enumerate(y.T):
        present = np.bincount(labels[half:], minlength=labels.max() + 1)
        guess = 1 / (present > 0).sum()
        for i in range(len(scores)):
            tree = DecisionTreeClassifier(
                max_leaf_nodes=labels.max() + 1, class_weight="balanced", random_state=0
            )
            predicted = tree.fit(z[:half, i : i + 1], labels[:half]).predict(z[half:, i : i + 1])
            hits = np.bincount(labels[half:][predicted == labels[half:]], minlength=len(present))
            scores[i, j] = max(0.0, ((hits / present.clip(1)).sum() * guess - guess) / (1 - guess))
    best = np.sort(scores, 0)
    return Estimate(float((best[-1] - best[-2]).mean()), null=1.0, n=len(z))


def factor_vae(z: np.ndarray, y: np.ndarray, rng: Rng) -> Estimate:
    """FactorVAE's score (Kim & Mnih 2018, section 4): how often the dimension that varies least
    names the factor that was fixed.

    A vote takes 64 rows that agree in one factor, and notes the dimension of least variance
    relative to its variance overall. Half of 10,000 votes name each dimension's factor, the others
    are judged. Codes of pure noise get about 1 / F. The interval counts votes, not the rows they
    share.
    """
    spread = z.std(0)
    alive = spread > DEAD * spread.max()
    if not alive.any():
        return Estimate(0.0, null=1.0, n=len(z))
    z = z[:, alive] / spread[alive]
    fixed = rng.integers("factor", y.shape[1], (VOTES,)).numpy()
    row = rng.integers("row", len(z), (VOTES,)).numpy()
    pick = rng.uniform("members", (VOTES, MEMBERS)).numpy()
    least = np.empty(VOTES, np.int64)
    for j, labels in enumerate(y.T):
        mine = np.flatnonzero(fixed == j)
        by_label, count = np.argsort(labels, kind="stable"), np.bincount(labels)
        label = labels[row[mine]]
        first = (count.cumsum() - count)[label]
        members = by_label[
            first[:, None] + (pick[mine] * count[label][:, None]).astype(np.int64)
        ]  # votes, MEMBERS
        least[mine] = z[members].var(1).argmin(1)
    half = VOTES // 2
    votes = np.zeros((z.shape[1], y.shape[1]))
    np.add.at(votes, (least[:half], fixed[:half]), 1)
    right = int((votes.argmax(1)[least[half:]] == fixed[half:]).sum())
    return replace(share(right, VOTES - half, null=1.0), n=len(z))
