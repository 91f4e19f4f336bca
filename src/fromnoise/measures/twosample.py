"""How well a classifier distinguishes samples from real examples."""

import math
import warnings
from dataclasses import replace

import torch
from torch import Tensor

from ..core.rng import Rng
from .distances import checked
from .estimate import Estimate, NoSpreadError, share

WAVES = 256  # random Fourier features
FAR = 5.0  # standard deviations beyond which a feature's value is taken as this


def two_sample_accuracy(x: Tensor, y: Tensor, rng: Rng) -> Estimate:
    """Share of held-out points whose side a classifier names rightly (Lopez-Paz & Oquab 2017): 1/2
    is perfect.

    x (n, d), y (m, d): min(n, m) of each are drawn; half of them teach and the other half test, so
    that the tests are independent and the null is binomial, variance 1 / (4 tested).
    (Cross-validation tests each point, but its folds depend on one another: the accuracy varies 1.3
    times as much as its binomial error says.) Logistic regression on z, |z|, z^2 and random Fourier
    features (Rahimi & Recht 2007) of the standardised features z: means, spreads, tails and,
    through the waves, dependence. Below 1/2: copies of the other side. Raises UsageError (fewer
    than 20 rows), DataError (not finite, all rows equal).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    x, y = checked(x, y, fewest=20)
    n = min(len(x), len(y))

    def drawn(a, name):
        return a[torch.from_numpy(rng.numpy(name).permutation(len(a))[:n])]

    inputs = _features(torch.cat([drawn(x, "samples"), drawn(y, "reference")]), rng).numpy()
    side = torch.arange(2).repeat_interleave(n).numpy()
    test = (torch.arange(n) >= n // 2).repeat(2).numpy()  # as many of both sides
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier = LogisticRegression(C=0.1, max_iter=300).fit(inputs[~test], side[~test])
        right = int((classifier.predict(inputs[test]) == side[test]).sum())
    return replace(share(right, int(test.sum()), null=0.5), n=n, m=n)


def _features(z: Tensor, rng: Rng) -> Tensor:
    """(2 n, d) -> (2 n, 3 d + WAVES), centred."""
    z = z[:, (z != z[0]).any(0)]
    if not z.shape[1]:
        raise NoSpreadError(
            "all samples and reference rows have the same features: there is nothing to tell apart"
        )
    z = ((z - z.mean(0)) / z.std(0)).clamp(-FAR, FAR)
    some = z[torch.from_numpy(rng.numpy("some").permutation(len(z))[:500])]
    distance = float(torch.pdist(some).square().mean().sqrt())
    frequencies = rng.normal("frequencies", (z.shape[1], WAVES)).double() / distance
    waves = (
        0.5
        * math.sqrt(2)
        * (z @ frequencies + 2 * math.pi * rng.uniform("phases", (WAVES,)).double()).cos()
    )
    inputs = torch.cat([z, z.abs(), z.square(), waves], 1)
    return inputs - inputs.mean(0)
