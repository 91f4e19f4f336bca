"""Codes: their distance from the prior that samples are drawn from, and which of their units are used.

Unusual: the distance to the prior needs no samples of the prior, its expectations are closed forms.
"""

import math

import torch
from torch import Tensor

from ..core.errors import DataError, UsageError
from .distances import squared_distances
from .estimate import Estimate, normal_interval

BLOCK = 2**22  # kernel values held at once


def prior_distance(z: Tensor) -> Estimate:
    """Squared kernel distance MMD^2(q(z), N(0, I)) of the aggregate posterior from the prior,
    without bias; no unit.

    z (n, d): one *draw* z ~ q(z | x) for each x (posterior means are narrower than the prior by
    construction), or the codes of a deterministic encoder. Kernel exp(-|z - z'|^2 / 2 h^2), h^2 = d
    (Gretton et al. 2012, eq. 3; the prior's expectations as in the Wasserstein autoencoder, but
    exact). 0: the prior itself, and as often below it as above; all codes at the origin: about .15;
    far out and all different: about .37; in one far point: about 1.37.

    Two terms make the standard error, that of the mean of z and that of pairs; the second alone is
    left at the null.
    """
    z = _table(z, fewest=50)
    n, d = z.shape
    h2 = float(d)
    expected = (h2 / (h2 + 1)) ** (d / 2) * (
        -z.square().sum(1) / (2 * (h2 + 1))
    ).exp()  # E_z' k(z_i, z'), z' ~ prior
    both = (h2 / (h2 + 2)) ** (d / 2)  # E k(z', z'')
    rows, squares = torch.zeros(n, dtype=z.dtype), 0.0
    for i in range(0, n, max(1, BLOCK // n)):
        part = slice(i, i + max(1, BLOCK // n))
        # H_ij = k(z_i, z_j) - E k(z_i, .) - E k(., z_j) + E k: mean MMD^2; every row's mean is 0
        # when q is the prior
        H = (
            (-squared_distances(z[part], z) / (2 * h2)).exp()
            - expected[part, None]
            - expected
            + both
        )
        H[torch.arange(len(H)), torch.arange(i, i + len(H))] = 0
        rows[part], squares = H.sum(1) / (n - 1), squares + H.square().sum()
    value = float(rows.mean())
    pairs = float(squares) / (n * (n - 1)) - value**2  # Var H_ij
    means = max(0.0, float(rows.var()) - pairs / (n - 1))  # Var E[H_ij | z_i]
    se = math.sqrt(4 * means / n + 2 * pairs / (n * (n - 1)))
    return Estimate(value, se, normal_interval(value, se), null=0.0, n=n)


def _table(z: Tensor, fewest: int) -> Tensor:
    """(n, d) as float64 on the CPU."""
    if z.ndim != 2:
        raise UsageError(
            f"codes of shape {tuple(z.shape)} are no table of (examples, dimensions): flatten them "
            "first"
        )
    if len(z) < fewest:
        raise UsageError(f"{len(z)} codes are too few: give at least {fewest}")
    z = z.detach().cpu().double()
    if not z.isfinite().all():
        raise DataError(
            "codes with NaN or infinity: the encoder diverged, train it with a lower --lr"
        )
    return z


# variance of a posterior mean over the data, above which its unit is active (Burda et al. 2016)
ACTIVE = 0.01


@torch.no_grad()
def active_units(means: torch.Tensor, kl: torch.Tensor) -> torch.Tensor:
    """(N, D) posterior means, (D,) KL by dimension in nats -> (D,) bool: whether the unit depends
    on x.

    In a hierarchy the mean moves with the levels above even where posterior and prior agree: so the
    KL, too, must be above the threshold.
    """
    if len(means) < 2:
        return torch.zeros_like(kl, dtype=torch.bool)  # one mean has no variance
    return (means.var(0) > ACTIVE) & (kl > ACTIVE)
