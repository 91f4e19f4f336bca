"""The Gaussian with the mean and the covariance of the data, and its denoiser, start and flow in closed form.

    x ~ N(m, S),  S = V diag(s) V^T + rest (I - V V^T),  y = x_t / alpha = x + r eps,  r = sigma / alpha

    denoiser   E[x | y] = m + S (S + r^2)^-1 (y - m)                           the Wiener filter
    flow       y - m at r'  =  (S + r'^2)^(1/2) (S + r^2)^(-1/2) (y - m)        solves dy/dr = (y - E[x | y]) / r

Where noise is strong, every data set looks like its Gaussian: a diffusion model adds to this denoiser what is not Gaussian in
the data, and its sampler solves this part exactly (Wang & Vastola 2024, arXiv:2412.09726). It is the preconditioning of
Karras et al. 2022 (arXiv:2206.00364, eq. 7) with the covariance of the data in the place of one variance.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ...core.rng import Rng
from ..pca import Components, principal_components


class GaussianData(nn.Module):
    """Buffers: mean (D,), basis V (D, K), variances s (K,) and rest (). Untrained; N(0, I) until ``fit``."""

    substeps = 1  # into which a sampler divides each step

    def __init__(self, dims: int, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("basis", torch.eye(dims, size))
        self.register_buffer("variances", torch.ones(size))
        self.register_buffer("rest", torch.ones(()))

    def fit(
        self, batches: Callable[[], Iterable[tuple[Tensor, Tensor | None]]], floor: float, rng: Rng
    ) -> tuple[int, float, float]:
        """Mean and covariance of the rows x (B, *shape) of the pairs (x, y) that batches() iterates over.

        floor: the least variance of a direction. Of few rows the covariance is shrunk towards a multiple of the identity
        (Ledoit & Wolf 2004, eq. 14), so that the directions in which they happen not to differ keep some variance. Returns how
        many rows there are, how far it was shrunk, from 0 to 1, and towards which variance.
        """
        dims, size = self.basis.shape

        def rows():
            return (x for x, _ in batches())

        components = principal_components(rows, dims, size, rng.key("pca"))
        n, share = shrinkage(rows, components, dims)
        average = (float(components.eigenvalues.sum()) + components.rest * (dims - size)) / dims
        self.mean.copy_(components.mean)
        self.basis.copy_(components.basis)
        self.variances.copy_(
            torch.lerp(
                components.eigenvalues, torch.full_like(components.eigenvalues, average), share
            ).clamp(min=floor)
        )
        self.rest.fill_(max((1 - share) * components.rest + share * average, floor))
        return n, share, average

    def scaled(
        self, u: Tensor, gain: Callable[[Tensor], Tensor], condition: Tensor | None
    ) -> Tensor:
        """g(S) u for u (B, *shape); gain maps variances to g(variances), elementwise; S is that of ``spread_of``."""
        along, outside = self.split(u)
        variances = self.conditional_variances(condition).double()
        return gain(self.rest.double()).to(u.dtype) * outside + self.join(
            gain(variances).to(u.dtype) * along, u.shape
        )

    def centre(self, x: Tensor) -> Tensor:
        """The mean in the shape of x's examples, (1, *shape)."""
        return self.mean.to(x.dtype).view(1, *x.shape[1:])

    def split(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """u (B, *shape) -> its coordinates in the basis (B, K), and what is left of it outside (B, *shape)."""
        basis = self.basis.to(u.dtype)
        along = u.flatten(1) @ basis
        return along, u - self.join(along, u.shape)

    def join(self, along: Tensor, shape: torch.Size) -> Tensor:
        """Coordinates in the basis (B, K) -> (B, *shape)."""
        return (along @ self.basis.to(along.dtype).T).view(shape)

    def denoise_along(self, u: Tensor, r: Tensor, condition: Tensor | None = None) -> Tensor:
        """E[V^T (x - m) | V^T (y - m) = u] for u (B, K); r () or (B,)."""
        r2 = r.to(self.variances.device).view(-1, 1).double() ** 2
        variances = self.variances.double()
        return (variances / (variances + r2)).to(u.dtype) * u

    def denoise(
        self, x_t: Tensor, alpha: Tensor, sigma: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """E[x | x_t] (B, *shape); alpha and sigma () or (B,); condition: classes as one-hot rows (B, classes), or None."""
        r = sigma / alpha
        beside = [-1] + [1] * (x_t.ndim - 1)
        mean = self.centre(x_t)
        with torch.autocast(
            x_t.device.type, enabled=False
        ):  # bfloat16 is too coarse for small noise
            along, outside = self.split(x_t / alpha.view(beside).to(x_t.dtype) - mean)
            gain = (
                (self.rest.double() / (self.rest.double() + r.double() ** 2))
                .view(beside)
                .to(x_t.dtype)
            )
            return (
                mean
                + gain * outside
                + self.join(self.denoise_along(along, r, condition), x_t.shape)
            )

    def explained(self, r: Tensor) -> Tensor:
        """Share of the data's variance that the denoiser explains at ratio r (B,), in (0, 1]: tr S^2 (S + r^2)^-1 / tr S."""
        s = self.variances.double()
        others = (len(self.mean) - len(s)) * self.rest.double()
        r2 = r.double()[:, None] ** 2
        explained = (s**2 / (s + r2)).sum(1) + others * self.rest / (self.rest + r2[:, 0])
        return explained / (s.sum() + others)

    def conditional_mean(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """The mean of the data of x's shape, (1, *shape): for all classes here."""
        return self.centre(x)

    def conditional_variances(self, condition: Tensor | None) -> Tensor:
        """Variances along the basis (K,), with a condition those of the examples of one class: here both are those of all."""
        return self.variances

    def start(
        self, eps: Tensor, alpha: Tensor, sigma: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """x_t ~ N(alpha m, alpha^2 S + sigma^2) from eps ~ N(0, I), (B, *shape); alpha and sigma (); condition as in ``denoise``."""
        centre = alpha.to(eps.dtype) * self.conditional_mean(eps, condition)
        return centre + self.scaled(eps, lambda s: (alpha**2 * s + sigma**2).sqrt(), condition)

    def to_noise(
        self, x_t: Tensor, alpha: Tensor, sigma: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """The inverse of ``start``."""
        u = x_t - alpha.to(x_t.dtype) * self.conditional_mean(x_t, condition)
        return self.scaled(u, lambda s: 1 / (alpha**2 * s + sigma**2).sqrt(), condition)


def shrinkage(
    batches: Callable[[], Iterable[Tensor]], components: Components, dims: int
) -> tuple[int, float]:
    """The number n of rows, and how far their covariance is best shrunk towards a multiple of the identity, from 0 to 1
    (Ledoit & Wolf 2004): the mean square of its error over that of its distance to the multiple."""
    n = 0
    fourth = 0.0
    for x in batches():
        squares = (x.flatten(1).cpu().double() - components.mean).square().sum(1)
        fourth += float(squares.square().sum())
        n += len(x)
    outside = dims - len(components.eigenvalues)
    trace = float(components.eigenvalues.sum()) + outside * components.rest
    norm = float(components.eigenvalues.square().sum()) + outside * components.rest**2
    distance = norm - trace**2 / dims
    error = (fourth / n - norm) / n
    return n, min(1.0, max(0.0, error / distance)) if distance > 0 else 1.0
