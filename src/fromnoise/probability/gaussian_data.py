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

from .pca import Components, principal_components


class GaussianData(nn.Module):
    """Buffers: mean (D,), basis V (D, K), variances s (K,) and rest (). Untrained; N(0, I) until ``fit``."""

    def __init__(self, dims: int, size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dims))
        self.register_buffer("basis", torch.eye(dims, size))
        self.register_buffer("variances", torch.ones(size))
        self.register_buffer("rest", torch.ones(()))

    def fit(self, batches: Callable[[], Iterable[Tensor]], floor: float, seed: int) -> None:
        """Mean and covariance of the rows that batches() iterates over. floor: the least variance of a direction.

        Of few rows the covariance is shrunk towards a multiple of the identity (Ledoit & Wolf 2004, eq. 14), so that the
        directions in which they happen not to differ keep some variance.
        """
        dims, size = self.basis.shape
        components = principal_components(batches, dims, size, seed)
        share = shrinkage(batches, components, dims)
        average = (float(components.eigenvalues.sum()) + components.rest * (dims - size)) / dims
        self.mean.copy_(components.mean)
        self.basis.copy_(components.basis)
        self.variances.copy_(torch.lerp(components.eigenvalues, torch.full_like(components.eigenvalues, average), share).clamp(min=floor))
        self.rest.fill_(max((1 - share) * components.rest + share * average, floor))

    def scaled(self, u: Tensor, gain: Callable[[Tensor], Tensor], on_rest: Tensor | float | None = None) -> Tensor:
        """g(S) u for u (B, *shape); gain maps variances (..., K) to g(variances), elementwise.

        on_rest: the gain in the directions outside of the basis, instead of gain(rest).
        """
        on_basis = gain(self.variances.double()[None])                              # (B or 1, K)
        if on_rest is None:
            on_rest = gain(self.rest.double().view(1, 1))                           # (B or 1, 1)
        with torch.autocast(u.device.type, enabled=False):                          # bfloat16 is too coarse for small noise
            flat, basis = u.flatten(1), self.basis.to(u.dtype)
            along = ((on_basis - on_rest).to(u.dtype) * (flat @ basis)) @ basis.T
            on_rest = torch.as_tensor(on_rest).to(u.dtype)
            return (on_rest * flat + along).view_as(u)

    def centre(self, x: Tensor) -> Tensor:
        """The mean in the shape of x's examples, (1, *shape)."""
        return self.mean.to(x.dtype).view(1, *x.shape[1:])

    def denoise(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """E[x | x_t] (B, *shape); alpha and sigma () or (B,)."""
        a, r = alpha.view(-1, 1), (sigma / alpha).view(-1, 1)
        mean = self.centre(x_t)
        y = x_t / a.view(-1, *[1] * (x_t.ndim - 1)).to(x_t.dtype)
        return mean + self.scaled(y - mean, lambda s: s / (s + r**2))

    def explained(self, r: Tensor) -> Tensor:
        """Share of the data's variance that the denoiser explains at ratio r (B,), in (0, 1]: tr S^2 (S + r^2)^-1 / tr S."""
        s = self.variances.double()
        others = (len(self.mean) - len(s)) * self.rest.double()
        r2 = r.double()[:, None] ** 2
        explained = (s**2 / (s + r2)).sum(1) + others * self.rest / (self.rest + r2[:, 0])
        return explained / (s.sum() + others)

    def start(self, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x_t ~ N(alpha m, alpha^2 S + sigma^2) from eps ~ N(0, I), (B, *shape); alpha and sigma ()."""
        return alpha.to(eps.dtype) * self.centre(eps) + self.scaled(eps, lambda s: (alpha**2 * s + sigma**2).sqrt())

    def to_noise(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The inverse of ``start``."""
        u = x_t - alpha.to(x_t.dtype) * self.centre(x_t)
        return self.scaled(u, lambda s: 1 / (alpha**2 * s + sigma**2).sqrt())


def shrinkage(batches: Callable[[], Iterable[Tensor]], components: Components, dims: int) -> float:
    """How far the covariance of n rows is best shrunk towards the identity's multiple, from 0 to 1 (Ledoit & Wolf 2004):
    the mean square of its error over that of its distance to the multiple."""
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
    return min(1.0, max(0.0, error / distance)) if distance > 0 else 1.0
