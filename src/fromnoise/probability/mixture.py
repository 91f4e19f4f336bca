"""A Gaussian mixture with full covariances, fitted by scikit-learn and saved with a model's
weights.
"""

import math
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from ..core.rng import Rng
from .gaussian import LOG_2PI


class GaussianMixture(nn.Module):
    """p(z) = sum_k w_k N(z; mu_k, L_k L_k^T), z (B, D). One component is a plain Gaussian.

    Buffers: log_weights (K,), means (K, D), factors (K, D, D) lower triangular.
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, components: int, dims: int):
        super().__init__()
        self.register_buffer("log_weights", torch.full((components,), -math.log(components)))
        self.register_buffer("means", torch.zeros(components, dims))
        self.register_buffer("factors", torch.eye(dims).repeat(components, 1, 1))

    def fit(self, z: Tensor, rng: Rng, extra_variance: float = 0.0) -> None:
        """Maximum likelihood by EM from k-means; the same z and rng give the same mixture.

        extra_variance is added to every component in every direction.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture as EM
        from threadpoolctl import threadpool_limits

        data = z.detach().cpu().double().numpy()
        components = min(len(self.means), max(1, len(data) // 4))
        spread = max(float(data.var(0).mean()), 1e-12)
        em = EM(
            components,
            random_state=rng.key("mixture") % 2**32,
            reg_covar=1e-5 * spread,
            max_iter=200,
        )
        # One thread: k-means adds the results of its threads in the order of their arrival.
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)
            em.fit(data)
        factors = np.linalg.cholesky(em.covariances_ + extra_variance * np.eye(data.shape[1]))
        # components without weight, if there are few rows
        self.log_weights.fill_(-math.inf)
        self.means.zero_()
        self.factors.copy_(torch.eye(data.shape[1]))
        self.log_weights[:components] = torch.from_numpy(em.weights_).clamp(min=1e-300).log()
        self.means[:components] = torch.from_numpy(em.means_)
        self.factors[:components] = torch.from_numpy(factors)

    def sample(self, n: int, rng: Rng, temperature: float = 1.0) -> Tensor:
        """n draws (n, D)."""
        which = rng.categories("component", self.log_weights.exp().cpu().double().numpy(), n)
        eps = rng.normal("z", (n, self.means.shape[1]))
        return self.means[which] + temperature * torch.einsum(
            "nij,nj->ni", self.factors[which], eps
        )

    def log_density(self, z: Tensor) -> Tensor:
        """log p(z), (B,) nats."""
        distance = torch.linalg.solve_triangular(
            self.factors, (z[None] - self.means[:, None]).transpose(1, 2), upper=False
        )  # K D B
        log_det = self.factors.diagonal(dim1=1, dim2=2).log().sum(1)
        logs = -0.5 * (distance.square().sum(1) + z.shape[1] * LOG_2PI) - log_det[:, None]
        return (logs + self.log_weights[:, None]).logsumexp(0)
