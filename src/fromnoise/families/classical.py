"""Baselines for every deep model: PCA, probabilistic PCA and a Gaussian mixture. No gradient steps.

    PCA      x_hat = mean + V V^T (x - mean), V the leading eigenvectors of the covariance S
    PPCA     x = W z + mean + sigma eps, z ~ N(0, I); maximum likelihood in closed form:
             sigma^2 = mean of the discarded eigenvalues, W = V (L - sigma^2 I)^(1/2)
             (Tipping & Bishop 1999, eqs. 7-8); codes are posterior means, the density is exact
    mixture  a Gaussian mixture with full covariances on the leading principal components and one
             isotropic Gaussian on the other directions: a rotation of x, so its density is exact

In a table with fixed decimals a row has the probability of its cells (probability/cells.py): exact
with one such column, a nearly tight importance-weighted bound with more. Models are fitted to the
rows as they are. To sample, "pca" puts one Gaussian on its codes.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..core.capabilities import Bound
from ..core.config import BaseConfig, Dimensions, Factor
from ..core.errors import UsageError
from ..core.family import Family
from ..core.rng import Rng
from ..core.spec import DataSpec, Labels
from ..probability.cells import Cells, log_mixture_cells, to_float64
from ..probability.gaussian import LOG_2PI
from ..probability.likelihood import NO_DENSITY_OF_CATEGORIES
from ..probability.mixture import GaussianMixture
from ..probability.pca import principal_components


class Config(BaseConfig):
    model: Literal["pca", "ppca", "mixture"] = Field("mixture", description="which classical model")
    latent_dim: Dimensions = Field(16, description="number of principal components")
    components: int = Field(10, ge=1, le=500, description="Gaussians of the mixture")


class Options(BaseConfig):
    temperature: Factor = Field(1.0, description="scales the spread of the codes")
    draw: Literal["auto", "mean", "sample"] = Field(
        "auto", description="mean given the code, or noise added; auto: mean for images"
    )


PRESETS = {
    "default": {},
    "lecture": dict(model="pca", latent_dim=2),
    "pca": dict(model="pca"),
    "ppca": dict(model="ppca"),
    "mixture": dict(model="mixture", latent_dim=32),
}


def preset_for(spec: DataSpec) -> str:
    """The preset to start from when none is named."""
    return "default"


class Classical(Family):
    def __init__(self, config: Config, spec: DataSpec):
        super().__init__(config, spec)
        if spec.kind == "tokens":
            raise UsageError("the family classical is for images and vectors")
        D = spec.dims
        self.latent_dim = min(config.latent_dim, D)
        self.register_buffer("mean", torch.zeros(D))
        self.register_buffer("basis", torch.eye(D, self.latent_dim))  # V: D K, orthonormal
        self.register_buffer("eigenvalues", torch.ones(self.latent_dim))  # of S, leading ones
        self.register_buffer("noise", torch.ones(()))  # sigma^2
        self.density = GaussianMixture(
            config.components if config.model == "mixture" else 1, self.latent_dim
        )
        self.cells = Cells(spec) if spec.has_cells else None
        self.continuous = self.cells is None
        self.reason = why_no_density(config, spec)
        self.bound: Bound = "exact"
        if self.reason:
            self.bound = "none"
        elif self.cells is not None and int(self.cells.is_cell.sum()) > 1:
            self.bound = "lower"

    def phases(self):
        return ()

    def fit(self, batches, rng: Rng) -> None:
        """Principal components, then the density of the codes."""
        D = self.spec.dims
        K = self.latent_dim
        result = principal_components(
            lambda: (batch.x for batch in batches()), D, K, rng.key("pca")
        )
        total_variance = result.eigenvalues.sum() + result.rest * (D - K)
        # grey levels stand for cells: uniform noise over a cell has this variance in each direction
        cell = (2 / (self.spec.levels - 1)) ** 2 / 12 if self.spec.levels else 0.0
        floor = 1e-6 * max(float(total_variance) / D, 1e-12)  # constant data keep a density
        self.noise.fill_(max(result.rest, floor) + cell)
        self.mean.copy_(result.mean)
        self.basis.copy_(result.basis)
        self.eigenvalues.copy_(result.eigenvalues + cell)
        if self.config.model == "mixture":
            self.density.fit(torch.cat([self.project(batch.x) for batch in batches()]), rng, cell)
        else:
            self.density.factors.copy_(torch.diag(result.eigenvalues.sqrt())[None])

    def project(self, x: Tensor) -> Tensor:
        """Coordinates on the principal components, V^T (x - mean), (B, K)."""
        return (x.flatten(1) - self.mean) @ self.basis

    @property
    def shrink(self) -> Tensor:
        """PPCA: (L - sigma^2)^(1/2), the column scales of W, (K,)."""
        return (self.eigenvalues - self.noise).clamp(min=0).sqrt()

    def encode(self, x: Tensor, y: Labels = None) -> Tensor:
        if self.config.model == "ppca":  # E[z | x] = M^-1 W^T (x - mean)
            return self.project(x) * self.shrink / (self.shrink.square() + self.noise)
        return self.project(x)

    def decode(self, z: Tensor, y: Labels = None) -> Tensor:
        if self.config.model == "ppca":
            z = z * self.shrink
        return (self.mean + z @ self.basis.T).view(-1, *self.spec.shape)

    def reconstruct(self, x: Tensor, y: Labels = None) -> Tensor:
        return self.decode(self.encode(x))

    def sample(self, n: int, y: Labels, options: Options, rng: Rng) -> Tensor:
        if self.config.model == "ppca":
            z = options.temperature * rng.normal("z", (n, self.latent_dim))
        else:
            z = self.density.sample(n, rng, options.temperature)
        x = self.decode(z)
        if options.draw == "sample" or (options.draw == "auto" and self.spec.kind == "vector"):
            eps = self.noise.sqrt() * rng.normal("x", x.flatten(1).shape)
            if self.config.model == "mixture":  # noise lives beside the basis
                eps = eps - eps @ self.basis @ self.basis.T
            x = x + eps.view_as(x)
        return x

    def log_likelihood(self, x: Tensor, y: Labels, rng: Rng, k: int = 1) -> Tensor:
        """log p(x), exact, (B,) nats. PPCA: N(mean, W W^T + sigma^2 I), through the eigenbasis.

        Of cells: log P(x), exact or, with several of them, bounded by k draws.
        """
        if self.cells is not None:
            return log_mixture_cells(x, self.cells, *self.gaussians(), rng, k).to(x.dtype)
        residual = x.flatten(1) - self.mean
        code = self.project(x)
        left = (residual.square().sum(1) - code.square().sum(1)).clamp(min=0)
        rest = self.spec.dims - self.latent_dim
        outside = -0.5 * (left / self.noise + rest * (LOG_2PI + math.log(self.noise)))
        if self.config.model == "mixture":
            return self.density.log_density(code) + (outside if rest else 0)
        variance = self.eigenvalues.clamp(min=float(self.noise))
        inside = -0.5 * (code.square() / variance + variance.log() + LOG_2PI).sum(1)
        return inside + (outside if rest else 0)

    def gaussians(self) -> tuple[Tensor, Tensor, Tensor]:
        """log weights (K,), means (K, D) and covariances (K, D, D) of x."""
        basis, mean = to_float64(self.basis), to_float64(self.mean)
        beside = to_float64(self.noise) * (torch.eye(len(mean)).to(basis) - basis @ basis.T)
        if self.config.model == "ppca":
            variance = to_float64(self.eigenvalues.clamp(min=float(self.noise)))
            return mean.new_zeros(1), mean[None], (basis * variance @ basis.T + beside)[None]
        factors = basis @ to_float64(self.density.factors)  # K D latent_dim
        means = mean + to_float64(self.density.means) @ basis.T
        return (
            to_float64(self.density.log_weights),
            means,
            factors @ factors.transpose(1, 2) + beside,
        )


def why_no_density(config: Config, spec: DataSpec) -> str:
    """Why the model is no density of x, or an empty string."""
    if spec.has_categories:
        return NO_DENSITY_OF_CATEGORIES
    if config.model == "pca":
        return "PCA is a projection, not a density: use --model ppca"
    return ""


FAMILY = Classical
