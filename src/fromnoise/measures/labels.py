"""Which classes, modes or bins samples fall into, and whether they are what was asked for."""

import math
import warnings

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
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


def chi_square(a: Tensor, b: Tensor) -> tuple[float, int]:
    """Pearson's statistic that two rows of counts (K,) are of one law, and its degrees of freedom.

    Classes that neither has are left out.
    """
    a, b = a[a + b > 0], b[a + b > 0]
    n, m = a.sum(), b.sum()
    statistic = ((m / n).sqrt() * a - (n / m).sqrt() * b).square().div(a + b).sum()
    return float(statistic), len(a) - 1


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
    statistic, dof = chi_square(
        _counts("predicted labels", predicted, classes),
        _counts("reference labels", reference, classes),
    )
    value, dof = statistic / max(dof, 1), max(dof, 1)
    se = math.sqrt(2 * dof + 4 * max(0.0, statistic - dof)) / dof
    low, high = normal_interval(value, se)
    return Estimate(value, se, (max(0.0, low), high), (n + m) / (n + m - 1), n=n, m=m)


def classes_seen(predicted: Tensor, reference: Tensor, classes: int) -> Estimate:
    """How many classes samples (n,) fall into. null: how many n real ones would, sum_k 1 - (1 -
    q_k)^n, q from the reference (m,).
    """
    n, m = len(predicted), len(reference)
    seen = int((_counts("predicted labels", predicted, classes) > 0).sum())
    q = _counts("reference labels", reference, classes) / m
    return Estimate(seen, null=float((1 - (1 - q) ** n).sum()), n=n, m=m)


def label_agreement(predicted: Tensor, intended: Tensor) -> Estimate:
    """Share of samples that a classifier puts into the class that was asked for; (n,) labels each."""
    if predicted.ndim != 1 or predicted.shape != intended.shape or not len(predicted):
        raise UsageError(
            f"predictions {tuple(predicted.shape)} and labels {tuple(intended.shape)} do not go "
            "together: one of each a sample is needed"
        )
    return share(int((predicted == intended).sum()), len(predicted))


def classification_accuracy_score(
    features: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor
) -> Estimate:
    """Accuracy on real examples of a classifier that learned from samples only (Ravuri & Vinyals
    2019).

    features (n, d) of samples and the labels (n,) that were asked for; real (m, d), real_labels
    (m,): held out. The classifier is logistic regression on standardised features, float64, with
    sklearn's penalty. The interval is over the m real examples; it takes the classifier as given. Raises
    UsageError when the samples have one class only, or shapes do not match.
    """
    features, real = checked(features, real, fewest=2)
    n, m = len(features), len(real)
    if labels.shape != (n,) or real_labels.shape != (m,):
        raise UsageError(
            f"{n} samples with labels {tuple(labels.shape)}, {m} real examples with labels "
            f"{tuple(real_labels.shape)}: each needs one label"
        )
    return share(_right_answers(features, labels, real, real_labels), m, m=n)


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
    """Share of a round Gaussian in d dimensions that is within so many standard deviations."""
    from scipy.stats import chi2

    return float(chi2.cdf(radii**2, d))


def modes_hit(index: Tensor, modes: int, good: float = 1.0) -> Estimate:
    """How many of K equal modes have a sample. index (n,): the mode of each, -1 for none.

    null: K (1 - (1 - g/K)^n), where a share g (``good``) of n perfect samples belongs to a mode:
    100 of them see 24.578 of 25 modes.
    """
    n = len(index)
    return Estimate(
        len(index[index >= 0].unique()), null=modes * (1 - (1 - good / modes) ** n), n=n, m=modes
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
