"""Which classes, modes or bins samples fall into, and whether they are what was asked for."""

import math
import warnings

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from ..core.rng import Rng
from .distances import checked
from .estimate import Estimate, normal_interval, share
from .memory import nearest


def _counts(name: str, labels: Tensor, classes: int) -> Tensor:
    """How often each class comes, float64 (classes,)."""
    if labels.ndim != 1 or labels.is_floating_point() or not len(labels):
        raise UsageError(
            f"{name} must be a row of whole numbers, one for each example, not {labels.dtype} of "
            f"shape {tuple(labels.shape)}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(
            f"{name} reach from {low} to {high}, but there are {classes} classes: 0 to "
            f"{classes - 1}"
        )
    return torch.bincount(labels.long().cpu(), minlength=classes).double()


def chi_square(a: Tensor, b: Tensor) -> tuple[float, int, float]:
    """Pearson's test that two rows of counts (K,) are of one law: statistic, degrees of freedom,
    p-value.

    The tail of chi-square is the incomplete gamma function Q(dof / 2, x / 2); with fewer than about
    5 expected in a class it is approximate. Classes that neither has are left out.
    """
    a, b = a[a + b > 0], b[a + b > 0]
    n, m, dof = a.sum(), b.sum(), len(a) - 1
    if dof == 0:
        return 0.0, 0, 1.0
    statistic = ((m / n).sqrt() * a - (n / m).sqrt() * b).square().div(a + b).sum()
    return (
        float(statistic),
        dof,
        float(torch.special.gammaincc(torch.tensor(dof / 2, dtype=torch.float64), statistic / 2)),
    )


def class_chi_square(predicted: Tensor, reference: Tensor, classes: int) -> Estimate:
    """How far the classes' shares among samples are from those among real examples: chi-square over
    its degrees of freedom.

    predicted (n,), reference (m,): labels by one classifier. About 1 for two sets of one law (the
    null, exactly (n + m) / (n + m - 1)), and growing with n and m where they differ: compare at
    equal n and m only. Standard error and interval are those of the non-central chi-square,
    variance 2 dof + 4 max(0, chi-square - dof). Raises UsageError for labels that are no row of
    whole numbers, DataError for labels out of range.
    """
    n, m = len(predicted), len(reference)
    statistic, dof, _ = chi_square(
        _counts("predicted labels", predicted, classes),
        _counts("reference labels", reference, classes),
    )
    value, dof = statistic / max(dof, 1), max(dof, 1)
    se = math.sqrt(2 * dof + 4 * max(0.0, statistic - dof)) / dof
    low, high = normal_interval(value, se)
    return Estimate(value, se, (max(0.0, low), high), (n + m) / (n + m - 1), n=n, m=m)


def class_entropy(predicted: Tensor, classes: int, reference: Tensor | None = None) -> Estimate:
    """Entropy of the classes' shares among samples (n,), nats: 0 for one class only, ln(classes)
    for all alike.

    The known part of the bias, (K - 1) / 2n for K classes seen, is made good (Miller 1955; ``raw``
    is without). The variance has the linear term and the quadratic one, (K - 1) / 2n^2, which is
    all there is for equal shares. null: the same for the reference (m,), labels of real examples.
    """
    n, p = len(predicted), _counts("predicted labels", predicted, classes) / max(len(predicted), 1)
    p = p[p > 0]
    raw, seen = float(-(p * p.log()).sum()), len(p)
    value = raw + (seen - 1) / (2 * n)
    se = math.sqrt(
        max(0.0, float((p * p.log().square()).sum()) - raw**2) / n + (seen - 1) / (2 * n * n)
    )
    low, high = normal_interval(value, se)
    null = None if reference is None else class_entropy(reference, classes).value
    return Estimate(
        value,
        se,
        (max(0.0, low), min(math.log(classes), high)),
        null,
        raw,
        n=n,
        m=0 if reference is None else len(reference),
    )


def classes_seen(predicted: Tensor, reference: Tensor, classes: int) -> Estimate:
    """How many classes samples (n,) fall into. null: how many n real ones would, sum_k 1 - (1 -
    q_k)^n, q from the reference (m,).
    """
    n, m = len(predicted), len(reference)
    seen = int((_counts("predicted labels", predicted, classes) > 0).sum())
    q = _counts("reference labels", reference, classes) / m
    return Estimate(seen, null=float((1 - (1 - q) ** n).sum()), n=n, m=m)


def label_agreement(predicted: Tensor, intended: Tensor, null: float | None = None) -> Estimate:
    """Share of samples that a classifier puts into the class that was asked for; (n,) labels each.

    null: the classifier's accuracy on real examples, which is what perfect samples would score.
    """
    if predicted.ndim != 1 or predicted.shape != intended.shape or not len(predicted):
        raise UsageError(
            f"predictions {tuple(predicted.shape)} and labels {tuple(intended.shape)} do not go "
            "together: one of each a sample is needed"
        )
    return share(int((predicted == intended).sum()), len(predicted), null)


def classification_accuracy_score(
    features: Tensor,
    labels: Tensor,
    real: Tensor,
    real_labels: Tensor,
    train: Tensor | None = None,
    train_labels: Tensor | None = None,
) -> Estimate:
    """Accuracy on real examples of a classifier that learned from samples only (Ravuri & Vinyals
    2019).

    features (n, d) of samples and the labels (n,) that were asked for; real (m, d), real_labels
    (m,): held out. The classifier is logistic regression on standardised features, float64, with
    sklearn's penalty. null: the same learned from ``train`` (n, d), real examples, as many as there
    are samples. The interval is over the m real examples; it takes the classifier as given. Raises
    UsageError when the samples have one class only, or shapes do not match.
    """
    features, real = checked(features, real, fewest=2)
    n, m = len(features), len(real)
    if labels.shape != (n,) or real_labels.shape != (m,):
        raise UsageError(
            f"{n} samples with labels {tuple(labels.shape)}, {m} real examples with labels "
            f"{tuple(real_labels.shape)}: each needs one label"
        )
    null = None
    if train is not None:
        if len(train) != n:
            raise UsageError(
                f"the real classifier has {len(train)} examples to learn from and that of samples "
                f"{n}: give as many to both"
            )
        null = classification_accuracy_score(train, train_labels, real, real_labels).value
    return share(_right_answers(features, labels, real, real_labels), m, null, n)


def _right_answers(features: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor) -> int:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    if len(labels.unique()) < 2:
        raise UsageError("samples of one class teach a classifier nothing: ask for several classes")
    mean, std = features.double().mean(0), features.double().std(0)
    std[std <= 1e-9 * mean.abs()] = 1.0  # a constant column

    def scaled(x):
        return ((x.double() - mean) / std).numpy()

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=500).fit(scaled(features), labels.numpy())
        return int((torch.from_numpy(model.predict(scaled(real))) == real_labels).sum())


def mode_of(x: Tensor, centres: Tensor, radius: float) -> Tensor:
    """Which of the centres (K, d) each of x (n, d) belongs to: the nearest, or -1 where that is
    farther than the radius; (n,).
    """
    distance, index = (column[:, 0] for column in nearest(*checked(x, centres, fewest=1)))
    return index.where(distance <= radius, -1)


def share_within(radii: float, d: int) -> float:
    """Share of a round Gaussian in d dimensions that is within so many standard deviations: P(d/2,
    radii^2 / 2).
    """
    return float(
        torch.special.gammainc(
            torch.tensor(d / 2, dtype=torch.float64),
            torch.tensor(radii**2 / 2, dtype=torch.float64),
        )
    )


def modes_hit(index: Tensor, modes: int, good: float = 1.0) -> Estimate:
    """How many of K equal modes have a sample. index (n,): the mode of each, -1 for none.

    null: K (1 - (1 - g/K)^n), where a share g (``good``) of n perfect samples belongs to a mode:
    100 of them see 24.578 of 25 modes.
    """
    n = len(index)
    return Estimate(
        len(index[index >= 0].unique()), null=modes * (1 - (1 - good / modes) ** n), n=n, m=modes
    )


def modes(
    x: Tensor, centres: Tensor, radius: float, std: float | None = None
) -> tuple[Estimate, Estimate]:
    """Of equal modes at centres (K, d): how many have a sample within the radius, and the share of
    samples near any.

    x (n, d); a sample counts for its nearest centre. Nulls with ``std`` of round Gaussian modes;
    without it all of a perfect model's samples are taken to be near one, and the share has no null.
    """
    index, K = mode_of(x, centres, radius), len(centres)
    good = None if std is None else share_within(radius / std, x.shape[1])
    return modes_hit(index, K, 1.0 if good is None else good), share(
        int((index >= 0).sum()), len(index), good, K
    )


def divergence_from_uniform(index: Tensor, modes: int) -> Estimate:
    """KL(p || uniform) in nats, p the modes' shares among samples; index (n,): the mode of each of
    them, 0 .. K-1.

    At most ln K, for one mode only. The value is that of the shares as they are, as it is published
    (Lin et al. 2018, "PacGAN"), and not 0 for a perfect model: the null is the exact mean for n
    draws from K equal modes, about (K - 1) / 2n (Miller 1955). The variance has the linear term,
    less what noise adds to it, and the quadratic one. Raises UsageError for no samples, DataError
    for modes that there are not.
    """
    n, p = len(index), _counts("modes of samples", index, modes) / max(len(index), 1)
    p = p[p > 0]
    log = (modes * p).log()
    value = max(0.0, float((p * log).sum()))
    linear, pairs = (float((p * log.square()).sum()) - value**2) / n, (len(p) - 1) / (2 * n * n)
    se = math.sqrt(max(0.0, linear - 2 * pairs) + pairs)
    low, high = normal_interval(value, se)
    return Estimate(
        value, se, (max(0.0, low), min(math.log(modes), high)), _divergence_of_draws(modes, n), n=n
    )


def _divergence_of_draws(modes: int, n: int) -> float:
    """Mean of KL(shares || uniform) over n draws from K equal modes: ln K + K E (k/n) ln (k/n), k
    binomial (n, 1/K).
    """
    if modes == 1:
        return 0.0
    k = torch.arange(1, n + 1, dtype=torch.float64)
    choose = math.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    chance = (choose - k * math.log(modes) + (n - k) * math.log1p(-1 / modes)).exp()
    return math.log(modes) + modes * float((chance * (k / n) * (k / n).log()).sum())


def different_bins(x: Tensor, y: Tensor, rng: Rng, bins: int = 50, alpha: float = 0.05) -> Estimate:
    """Share of bins whose part among samples x (n, d) differs from that among real examples y (m,
    d) at level alpha (the number of statistically different bins, Richardson & Weiss 2018, over
    their number); null: alpha.

    Two proportions are compared in each bin by the normal approximation. Unlike in the paper
    k-means finds the bins in x and y *together*: bins that fit y alone hold too much of y, and a
    mode that only samples have gets no bin. The interval is Wilson's over bins, taken as
    independent. Raises UsageError below 10 rows a bin on either side.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    x, y = checked(x, y, fewest=10 * bins)
    n, m = len(x), len(y)
    with warnings.catch_warnings(), threadpool_limits(1):
        # fewer different rows than bins: said below
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = (
            KMeans(bins, n_init=1, random_state=rng.key("bins") % 2**32)
            .fit(torch.cat([x, y]).double().numpy())
            .labels_
        )
    index = torch.from_numpy(found).long()
    a, b = index[:n].bincount(minlength=bins).double(), index[n:].bincount(minlength=bins).double()
    if bool((a + b == 0).any()):
        filled = int((a + b > 0).sum())
        raise DataError(
            f"samples and reference together have only {filled} different rows or so: ask for "
            f"{filled} bins or fewer, not {bins}"
        )
    both = (a + b) / (n + m)
    z = (a / n - b / m) / (both * (1 - both) * (1 / n + 1 / m)).sqrt()
    differ = torch.special.erfc(z.abs() / math.sqrt(2)) < alpha
    return share(int(differ.sum()), bins, alpha, m)
