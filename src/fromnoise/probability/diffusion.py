"""Gaussian diffusion in T discrete steps, as free functions of the schedule (Ho et al. 2020, arXiv:2006.11239; "DDPM").

    q(x_t | x) = N(sqrt(abar_t) x, (1 - abar_t) I)          x_t = sqrt(abar_t) x + sqrt(1 - abar_t) eps

``alphas_cumprod`` (T,) holds abar in float64 (1 - abar starts at 1e-4, of which float32 keeps three digits). Its index 0
is the paper's t = 1; one step before lies x with abar = 1. A ``denoiser(x_t, index) -> eps_hat`` predicts the noise: x_t
(B, *shape), index (B,) int64. abar_t, abar_s, s < t, are 0-d or (B, 1, ..): steps may have any length.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from ..core.errors import UsageError
from ..core.rng import Rng
from .gaussian import kl_normal, log_normal

Denoiser = Callable[[Tensor, Tensor], Tensor]


def linear_schedule(T: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """abar_t = prod (1 - beta), beta from first to last in T equal steps, (T,) float64. Made for T = 1000. Raises UsageError."""
    if not (T >= 2 and 0 < first <= last < 1):
        raise UsageError(f"a schedule needs T >= 2 and 0 < first <= last < 1, not T = {T}, first = {first}, last = {last}")
    return (1 - torch.linspace(first, last, T, dtype=torch.float64)).cumprod(0)


def before(alphas_cumprod: Tensor) -> Tensor:
    """abar one step earlier, (T,): 1 for the first."""
    return torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])


def diffuse(x: Tensor, eps: Tensor, abar_t: Tensor) -> Tensor:
    """A draw from q(x_t | x) made of eps ~ N(0, I) (eq. 4)."""
    return (abar_t.sqrt() * x + (1 - abar_t).sqrt() * eps).to(x.dtype)


def predict_x(x_t: Tensor, eps: Tensor, abar_t: Tensor) -> Tensor:
    """The x from which eps leads to x_t: eq. 4 solved for x."""
    return (x_t - (1 - abar_t).sqrt() * eps) / abar_t.sqrt()


def posterior(x_t: Tensor, x: Tensor, abar_t: Tensor, abar_s: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t, x), s < t (eqs. 6 and 7)."""
    alpha = abar_t / abar_s                                                         # of the step from s to t
    mean = (abar_s.sqrt() * (1 - alpha) * x + alpha.sqrt() * (1 - abar_s) * x_t) / (1 - abar_t)
    return mean, (1 - abar_s) / (1 - abar_t) * (1 - alpha)


def reverse_variances(alphas_cumprod: Tensor, kind: Literal["optimal", "beta", "posterior"], mse: Tensor | None = None) -> Tensor:
    """sigma_t^2 of p(x_{t-1} | x_t), (T,).

    beta        beta_t, right for x ~ N(0, I) (section 3.2)
    posterior   of q(x_{t-1} | x_t, x), right where x is one point; 0 at t = 1, which takes the value of t = 2
    optimal     E (x_{t-1} - mu_t)^2 from the denoiser's mean squared error ``mse`` (T,) per component: no other
                number makes the bound tighter (Bao et al. 2022, arXiv:2201.06503, theorem 1)
    """
    beta = 1 - alphas_cumprod / before(alphas_cumprod)
    if kind == "beta":
        return beta
    variance = (1 - before(alphas_cumprod)) / (1 - alphas_cumprod) * beta           # eq. 7
    if kind == "posterior":
        return torch.cat([variance[1:2], variance[1:]])
    if mse is None:
        raise UsageError("the optimal variance needs the denoiser's mean squared error at each step: give mse")
    return variance + beta.square() / ((1 - beta) * (1 - alphas_cumprod)) * mse     # eq. 11, eps_hat wrong by mse


def vlb_term(denoiser: Denoiser, x: Tensor, eps: Tensor, index: Tensor, alphas_cumprod: Tensor, variances: Tensor) -> Tensor:
    """L_{t-1} of eq. 5 at x_t made of eps, index (B,) -> (B,) nats: KL(q(x_{t-1} | x_t, x) || p(x_{t-1} | x_t)),
    and at index 0 L_0 = -log N(x; mu, sigma^2), for continuous x."""
    at = lambda values: values[index].view(-1, *[1] * (x.ndim - 1))                 # B 1 ..
    abar_t, abar_s, logvar = at(alphas_cumprod), at(before(alphas_cumprod)), at(variances).log()
    x_t = diffuse(x, eps, abar_t)
    mean, variance = posterior(x_t, x, abar_t, abar_s)
    mu, _ = posterior(x_t, predict_x(x_t, denoiser(x_t, index), abar_t), abar_t, abar_s)
    nats = torch.where(abar_s < 1, kl_normal(mean, variance.log(), mu, logvar), -log_normal(x.to(mu), mu, logvar))
    return nats.flatten(1).sum(1)


def vlb(denoiser: Denoiser, x: Tensor, alphas_cumprod: Tensor, variances: Tensor, rng: Rng) -> Tensor:
    """All terms L_0 .. L_T of eq. 5, x (B, *shape) -> (B, T + 1) nats. Their sum is at least -log p(x), on average over rng."""
    T, abar_T = len(alphas_cumprod), alphas_cumprod[-1]
    eps = lambda t: rng.at("vlb", t).normal("eps", x.shape).to(x.dtype)
    index = lambda t: torch.full((len(x),), t, device=x.device)
    terms = [vlb_term(denoiser, x, eps(t), index(t), alphas_cumprod, variances) for t in range(T)]
    last = kl_normal(abar_T.sqrt() * x.double(), (1 - abar_T).log()).flatten(1).sum(1)
    return torch.stack([*terms, last], 1)


def spread(T: int, steps: int) -> list[int]:
    """``steps`` indices of T, from T - 1 down to 0 at equal distances, rounded."""
    return torch.linspace(T - 1, 0, steps, dtype=torch.float64).round().int().tolist()


def ddim_step(x_t: Tensor, eps_hat: Tensor, abar_t: Tensor, abar_s: Tensor, eta: float, noise: Tensor | float = 0.0) -> Tensor:
    """x_s from x_t (Song et al. 2021, arXiv:2010.02502, eq. 12 with sigma of eq. 16). eta 0: an ODE step; 1: DDPM's."""
    sigma = eta * ((1 - abar_s) / (1 - abar_t) * (1 - abar_t / abar_s)).sqrt()
    return abar_s.sqrt() * predict_x(x_t, eps_hat, abar_t) + (1 - abar_s - sigma**2).sqrt() * eps_hat + sigma * noise


def ddim(
    denoiser: Denoiser, x: Tensor, alphas_cumprod: Tensor, indices: Sequence[int], eta=0.0, rng: Rng | None = None, on_step=None
) -> Tensor:
    """Noise x (B, *shape) -> data, through the given indices, descending, and from the last of them to abar = 1. Calls
    on_step(step, x_s, x_hat) after each step and draws from rng for eta > 0 only. Raises UsageError."""
    if not indices or any(a <= b for a, b in zip(indices, indices[1:])) or not 0 <= eta <= 1:
        raise UsageError("a sampler needs indices that fall, so no more of them than the schedule has, and eta from 0 to 1")
    levels = [*alphas_cumprod[list(indices)], alphas_cumprod.new_ones(())]
    for step, (t, abar_t, abar_s) in enumerate(zip(indices, levels, levels[1:])):
        eps_hat = denoiser(x, torch.full((len(x),), t, device=x.device))
        noise = rng.at("step", step).normal("eps", x.shape).to(x.dtype) if eta and t != indices[-1] else 0.0
        x_hat, x = predict_x(x, eps_hat, abar_t), ddim_step(x, eps_hat, abar_t, abar_s, eta, noise)
        if on_step:
            on_step(step, x, x_hat)
    return x
