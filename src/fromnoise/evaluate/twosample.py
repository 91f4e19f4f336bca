"""Can a classifier tell samples from real examples?"""

import math

import torch
from torch import Tensor

from ..core.rng import Rng
from .distances import checked
from .estimate import Estimate, share


def two_sample_accuracy(x: Tensor, y: Tensor, rng: Rng) -> Estimate:
    """Share of held-out points whose side a classifier names rightly (Lopez-Paz & Oquab 2017): 1/2 is perfect.

    x, y (n, d): equally many of both are used. The classifier is logistic regression on the standardised features
    and on random Fourier features of them (Rahimi & Recht 2007), whose scale is the median distance: it sees more than
    linear differences, and the same every time. It learns from one half of each side and is tested on the other, so
    that the count of right answers is binomial: at the null the variance is 1 / (4 tested).
    """
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    x, y = checked(x, y, fewest=20)
    n = min(len(x), len(y))
    z = torch.cat([x[:n], y[:n]])
    z = (z - z.mean(0)) / z.std(0).clamp(min=1e-12)
    z = z[:, z.abs().max(0).values > 1e-6] if float(z.abs().max()) > 0 else z
    distance = torch.pdist(z[torch.from_numpy(rng.numpy("some").permutation(2 * n)[:500])]).median()
    d, wide = z.shape[1], 256
    frequencies = rng.normal("frequencies", (d, wide)).double() / max(float(distance), 1e-6)
    phase = 2 * math.pi * rng.uniform("phase", (wide,)).double()
    features = torch.cat([z, (2.0 / wide) ** 0.5 * 8 * (z @ frequencies + phase).cos()], 1).numpy()
    side = torch.cat([torch.zeros(n), torch.ones(n)]).numpy()
    order = torch.from_numpy(rng.numpy("halves").permutation(n))
    learn, test = (torch.cat([part, part + n]).numpy() for part in order.tensor_split(2))
    with threadpool_limits(1):
        model = LogisticRegression(C=0.1, max_iter=200).fit(features[learn], side[learn])
    right = int((model.predict(features[test]) == side[test]).sum())
    return share(right, len(test), null=0.5, m=n)


def class_score(probabilities: Tensor) -> float:
    """exp of the mean KL(p(y|x) || p(y)), between 1 and the number of classes ("inception score", Salimans et al. 2016).

    probabilities (n, classes). It means nothing with a classifier of other data, and sees nothing within a class.
    """
    p = probabilities.clamp(min=1e-300)
    return float((p * (p.log() - p.mean(0).log())).sum(1).mean().exp())
