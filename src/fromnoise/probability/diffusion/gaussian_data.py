"""The Gaussian with the mean and covariance of the data: denoiser, start and flow in closed form.

    x ~ N(m, S),  S = V diag(s) V^T + rest (I - V V^T),  y = x_t / alpha = x + r eps,  r = sigma / alpha

    denoiser  E[x | y] = m + S (S + r^2)^-1 (y - m), the Wiener filter
    flow      y - m at r' = (S + r'^2)^(1/2) (S + r^2)^(-1/2) (y - m), dy/dr = (y - E[x | y]) / r

At strong noise the best denoiser is that of the data's Gaussian: a diffusion model learns a
correction of it, and its sampler solves this part exactly (Wang & Vastola 2024, arXiv:2412.09726).
It is the preconditioning of Karras et al. 2022 (arXiv:2206.00364, eq. 7) with the covariance of the
data in place of one variance.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from ...core.rng import Rng
from ...core.spec import Condition
from ..pca import Components, principal_components


class GaussianData(nn.Module):
    """Buffers: mean (D,), basis V (D, K), variances s (K,), rest (). No parameters; N(0, I) until
    ``fit``.
    """

    substeps = 1  # of each step of dpm_with_known

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

        floor: the least variance of a direction. The covariance is shrunk towards a multiple of the
        identity (Ledoit & Wolf 2004, eq. 14), so that directions in which few rows happen not to
        differ keep some variance. Returns the number of rows, the share of the shrinkage from 0 to
        1, and the variance that it shrinks to.
        """
        dims, size = self.basis.shape

        def rows() -> Iterator[Tensor]:
            for x, _ in batches():
                yield x

        components = principal_components(rows, dims, size, rng.key("pca"))
        n, share = shrinkage(rows, components, dims)
        average = (float(components.eigenvalues.sum()) + components.rest * (dims - size)) / dims
        self.mean.copy_(components.mean)
        self.basis.copy_(components.basis)
        target = torch.full_like(components.eigenvalues, average)
        self.variances.copy_(torch.lerp(components.eigenvalues, target, share).clamp(min=floor))
        self.rest.fill_(max((1 - share) * components.rest + share * average, floor))
        return n, share, average

    def scaled(self, u: Tensor, gain: Callable[[Tensor], Tensor], condition: Condition) -> Tensor:
        """g(S) u for u (B, *shape), where g is ``gain`` (elementwise) and S that of the condition."""
        along, outside = self.split(u)
        variances = self.conditional_variances(condition).double()
        along = self.join(gain(variances).to(u.dtype) * along, u.shape)
        return gain(self.rest.double()).to(u.dtype) * outside + along

    def centre(self, x: Tensor) -> Tensor:
        """The mean, (1, *shape), in the shape and dtype of x (B, *shape)."""
        return self.mean.to(x.dtype).view(1, *x.shape[1:])

    def split(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """u (B, *shape) -> coordinates in the basis (B, K), and the rest outside of it (B, *shape)."""
        basis = self.basis.to(u.dtype)
        along = u.flatten(1) @ basis
        return along, u - self.join(along, u.shape)

    def join(self, along: Tensor, shape: torch.Size) -> Tensor:
        """Coordinates in the basis (B, K) -> (B, *shape)."""
        return (along @ self.basis.to(along.dtype).T).view(shape)

    def denoise_along(self, u: Tensor, r: Tensor, condition: Condition = None) -> Tensor:
        """E[V^T (x - m) | V^T (y - m) = u] for u (B, K); r () or (B,)."""
        r2 = r.to(self.variances.device).view(-1, 1).double() ** 2
        variances = self.variances.double()
        return (variances / (variances + r2)).to(u.dtype) * u

    def denoise(
        self, x_t: Tensor, alpha: Tensor, sigma: Tensor, condition: Condition = None
    ) -> Tensor:
        """E[x | x_t] (B, *shape).

        alpha and sigma () or (B,); condition: classes as one-hot rows (B, classes), or None.
        """
        r = sigma / alpha
        column = [-1] + [1] * (x_t.ndim - 1)
        mean = self.centre(x_t)
        rest = self.rest.double()
        # Not in bfloat16, which is too coarse for small noise.
        with torch.autocast(x_t.device.type, enabled=False):
            along, outside = self.split(x_t / alpha.view(column).to(x_t.dtype) - mean)
            gain = (rest / (rest + r.double() ** 2)).view(column).to(x_t.dtype)
            along = self.join(self.denoise_along(along, r, condition), x_t.shape)
            return mean + gain * outside + along

    def explained(self, r: Tensor) -> Tensor:
        """Share of the data's variance that the denoiser explains at ratio r (B,), in (0, 1].

        tr S^2 (S + r^2)^-1 / tr S.
        """
        s = self.variances.double()
        others = (len(self.mean) - len(s)) * self.rest.double()
        r2 = r.double()[:, None] ** 2
        explained = (s**2 / (s + r2)).sum(1) + others * self.rest / (self.rest + r2[:, 0])
        return explained / (s.sum() + others)

    def conditional_mean(self, x: Tensor, condition: Condition) -> Tensor:
        """The mean of the data (1, *shape), in the shape of x; here the same for all classes."""
        return self.centre(x)

    def conditional_variances(self, condition: Condition) -> Tensor:
        """Variances along the basis (K,), within a class if there is a condition; here of all data."""
        return self.variances

    def start(
        self, eps: Tensor, alpha: Tensor, sigma: Tensor, condition: Condition = None
    ) -> Tensor:
        """x_t ~ N(alpha m, alpha^2 S + sigma^2) from eps ~ N(0, I), (B, *shape).

        alpha and sigma (); condition as in ``denoise``.
        """
        centre = alpha.to(eps.dtype) * self.conditional_mean(eps, condition)
        return centre + self.scaled(eps, lambda s: (alpha**2 * s + sigma**2).sqrt(), condition)

    def to_noise(
        self, x_t: Tensor, alpha: Tensor, sigma: Tensor, condition: Condition = None
    ) -> Tensor:
        """The inverse of ``start``."""
        u = x_t - alpha.to(x_t.dtype) * self.conditional_mean(x_t, condition)
        return self.scaled(u, lambda s: 1 / (alpha**2 * s + sigma**2).sqrt(), condition)


def shrinkage(
    batches: Callable[[], Iterable[Tensor]], components: Components, dims: int
) -> tuple[int, float]:
    """The number n of rows, and the optimal shrinkage of their covariance, from 0 to 1.

    Towards a multiple of the identity (Ledoit & Wolf 2004): the mean squared error of the covariance
    over its mean squared distance to that multiple.
    """
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
    if distance <= 0:
        return n, 1.0
    return n, min(1.0, max(0.0, error / distance))
