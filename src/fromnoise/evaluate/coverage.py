"""Do samples lie where real examples lie, and the other way round? Balls around points reach to their k-th neighbour.

    precision  share of samples inside a ball of a real example       (Kynkaanniemi et al. 2019)
    recall     share of real examples inside a ball of a sample
    density    mean number of real balls around a sample, over k      (Naeem et al. 2020)
    coverage   share of real balls that hold a sample
"""

import math

import torch
from torch import Tensor

from ..core.errors import UsageError
from .distances import checked
from .estimate import Estimate, normal_interval, share
from .memory import nearest, squared_distances

BLOCK = 2**23  # distances held at once


def manifold(x: Tensor, y: Tensor, k: int = 5) -> dict[str, Estimate]:
    """precision, recall, density and coverage of samples x (n, d) by a reference y (m, d).

    Recall and coverage grow with n: compare at equal n only. A perfect model's coverage is known for any data; its
    precision and recall are not 1 and depend on the data: see what real examples score. The intervals are those of the
    counted points, given the balls. Raises UsageError (no more than k + 1 rows), DataError.
    """
    x, y = checked(x, y, fewest=k + 2)
    if k < 1:
        raise UsageError(f"k takes a number from 1 on, not {k}")
    n, m = len(x), len(y)
    reach_y, reach_x = (nearest(z, z, k + 1)[0][:, k].square() for z in (y, x))  # the nearest of all is the point itself
    inside_real, balls = torch.zeros(n, dtype=torch.bool), torch.zeros(n)
    covered, recalled = torch.zeros(m, dtype=torch.bool), torch.zeros(m, dtype=torch.bool)
    for start in range(0, n, size := max(1, BLOCK // m)):
        part = slice(start, start + size)
        distance = squared_distances(x[part], y)  # (b, m)
        in_real = distance <= reach_y
        balls[part] = in_real.sum(1).float()
        inside_real[part] = in_real.any(1)
        covered |= in_real.any(0)
        recalled |= (distance <= reach_x[part, None]).any(0)
    density = balls.double() / k
    se = float(density.std()) / math.sqrt(n)
    return {
        "precision": share(int(inside_real.sum()), n, m=m),
        "recall": share(int(recalled.sum()), m, m=m),
        "density": Estimate(float(density.mean()), se, normal_interval(float(density.mean()), se), n=n, m=m),
        "coverage": share(int(covered.sum()), m, null=expected_coverage(n, m, k), m=m),
    }


def expected_coverage(n: int, m: int, k: int) -> float:
    """Coverage of a perfect model: 1 - prod_{i=1..k} (m - i) / (n + m - i), whatever the data (Naeem et al. 2020, eq. 9).

    A ball stays empty when the k nearest of all the other n + m - 1 points are all real ones.
    """
    empty = 1.0
    for i in range(1, k + 1):
        empty *= (m - i) / (n + m - i)
    return 1 - empty
