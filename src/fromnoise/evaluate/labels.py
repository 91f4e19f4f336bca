"""What classes samples fall into, and whether they are what was asked for."""

import math

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from .distances import checked
from .estimate import Estimate, normal_interval, share


def _counts(labels: Tensor, classes: int) -> Tensor:
    if labels.ndim != 1 or not len(labels):
        raise UsageError(f"labels are one row of whole numbers, not {tuple(labels.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise DataError(f"labels lie in 0 .. {classes - 1}, and these reach from {int(labels.min())} to {int(labels.max())}")
    return torch.bincount(labels.long(), minlength=classes).double()


def class_histogram(predicted: Tensor, reference: Tensor, classes: int) -> Estimate:
    """Total variation distance of the classes' shares among samples from those among real examples, its bias taken off.

    predicted (n,), reference (m,) labels by the same classifier. 0: the same shares; 1: no class in common. For two
    sets of one law each share differs by sqrt(2/pi) of its standard deviation on average: that is taken off (raw has it).
    """
    a, b = _counts(predicted, classes), _counts(reference, classes)
    n, m = len(predicted), len(reference)
    p, q, both = a / n, b / m, (a + b) / (n + m)
    variance = both * (1 - both) * (1 / n + 1 / m)
    apart = (p - q).abs() > 3 * variance.sqrt()  # here the sign is sure, and the absolute value has no bias
    raw = 0.5 * float((p - q).abs().sum())
    floor = 0.5 * math.sqrt(2 / math.pi) * float(variance[~apart].sqrt().sum())
    se = 0.5 * math.sqrt(float(variance[apart].sum() + (1 - 2 / math.pi) * variance[~apart].sum()))
    return Estimate(raw - floor, se, normal_interval(raw - floor, se), null=0.0, raw=raw, n=n, m=m)


def label_agreement(predicted: Tensor, intended: Tensor) -> Estimate:
    """Share of samples that a classifier puts into the class that was asked for; (n,) labels each."""
    if predicted.shape != intended.shape:
        raise UsageError(f"{len(predicted)} predictions and {len(intended)} labels do not go together")
    return share(int((predicted == intended).sum()), len(predicted))


def classification_accuracy_score(features: Tensor, labels: Tensor, real: Tensor, real_labels: Tensor) -> Estimate:
    """Accuracy on real examples of a classifier that learned from samples only (Ravuri & Vinyals 2019).

    features (n, d) of samples and the labels (n,) that were asked for; real (m, d), real_labels (m,). The classifier is
    logistic regression. Raises UsageError when the samples have one class only.
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    features, real = checked(features, real)
    if len(labels.unique()) < 2:
        raise UsageError("samples of one class teach a classifier nothing: ask for several classes")
    scale = features.std(0).clamp(min=1e-9)
    with threadpool_limits(1):
        model = LogisticRegression(max_iter=300).fit((features / scale).numpy(), labels.numpy())
        right = int((torch.from_numpy(model.predict((real / scale).numpy())) == real_labels).sum())
    return share(right, len(real), m=len(features))


def modes(x: Tensor, centres: Tensor, radius: float) -> tuple[int, Estimate]:
    """How many centres (K, d) have a sample of x (n, d) within the radius, and the share of samples near any of them."""
    distance = torch.cdist(x, centres)
    near = distance.min(1)
    good = near.values <= radius
    return int(near.indices[good].unique().numel()), share(int(good.sum()), len(x))
