"""log p(x) of a flow: carry x along dx/dt = drift(x, t) from data to noise and count how volume changes on the way.

    log p(x) = log p_base(z) + integral_{t0}^{t1} tr(d drift / dx) dt,  z = x(t1)

(Chen et al. 2018, arXiv:1806.07366, theorem 1; for the probability flow of a diffusion Song et al. 2021, arXiv:2011.13456,
eq. 39.) Coarse solutions do not fail, they give wrong numbers, some of them flattering. So every value is computed
twice, with ``steps`` and with half of them, and the difference is reported beside it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.func import jvp

from ...core.errors import DivergedError, UsageError
from ...core.rng import Rng

AT_ONCE = 64  # probes that go through the drift together
Drift = Callable[[Tensor, float], Tensor]


EXACT_TRACE_DIMS = 16  # dimensions up to which the trace of the slope is found exactly, unless it is asked for
TRACE_PROBES = 2  # for the trace, above


@dataclass(frozen=True)
class OdeLikelihood:
    """log_likelihood (B,) nats, float64
    error  (B,) nats: its distance to the value from half the steps; the value's own error is about 1/15 of it
    se     (B,) nats: standard error over the probes; 0 for the exact trace, NaN for a single probe, which cannot tell
    z      (B, *shape): where x arrives at t1
    steps  of the last solution
    calls  evaluations of the drift in all solutions, each with a product for every probe
    """

    log_likelihood: Tensor
    error: Tensor
    se: Tensor
    z: Tensor
    steps: int
    calls: int


def ode_log_likelihood(
    drift: Drift,
    x: Tensor,
    log_base: Callable[[Tensor], Tensor],
    t0: float = 0.0,
    t1: float = 1.0,
    steps: int = 64,
    tolerance: float | None = None,
    most: int = 4096,
    divergence: Literal["exact", "hutchinson"] = "exact",
    probes: int = 1,
    rng: Rng | None = None,
) -> OdeLikelihood:
    """log p of x (B, *shape) at t0, given log_base: z -> (B,) nats at t1. drift(x, t) -> dx/dt, t a
    float, rows apart; it is given the rows of x once for each probe, one copy after the other.

    steps       equal steps of the fourth-order Runge-Kutta method, even. Where the drift is steep at one end, put
                another clock into it: dx/du = drift(x, t(u)) t'(u)
    tolerance   nats: double ``steps`` until the error is below it, or beyond ``most``; each row keeps the first value that is, so that no
                row depends on the others in its batch
    divergence  "exact": D products J e_d; "hutchinson": ``probes`` products v J v, v = +-1 from rng, one v for the
                whole way and for all numbers of steps (Grathwohl et al. 2019, arXiv:1810.01367, eq. 8)

    Raises UsageError, also when the tolerance is out of reach, and DivergedError when x leaves the finite numbers.
    """
    if steps < 2 or steps % 2:
        raise UsageError(
            f"steps must be even and at least 2, not {steps}: half of them measure the error"
        )
    if divergence == "hutchinson" and rng is not None and probes >= 1:
        v = 1 - 2 * rng.integers("probes", 2, (len(x), probes, *x.shape[1:])).transpose(0, 1).to(
            x
        )  # P B *shape
        weight = 1 / probes
    elif divergence == "exact":
        basis = torch.eye(math.prod(x.shape[1:]), dtype=x.dtype, device=x.device)
        v, weight = basis.view(-1, 1, *x.shape[1:]).expand(-1, *x.shape), 1.0
    else:
        raise UsageError(
            'divergence must be "exact", or "hutchinson" with an rng and at least one probe'
        )

    def solve(steps: int) -> tuple[Tensor, Tensor, Tensor]:
        z, change = solve_with_trace(drift, x, v, t0, t1, steps)
        change = change * (weight * len(v))  # P B, each an estimate of the integral
        spread = (
            change.std(0) / math.sqrt(len(v))
            if len(v) > 1
            else torch.full_like(change[0], math.nan)
        )
        return (
            log_base(z).double() + change.mean(0),
            torch.zeros_like(spread) if divergence == "exact" else spread,
            z,
        )

    def distance(a, b):
        return (a - b).abs().nan_to_num(nan=math.inf, posinf=math.inf)

    value, se, z = solve(steps)
    error, calls = distance(value, solve(steps // 2)[0]), 4 * (steps + steps // 2)
    while tolerance is not None and 2 * steps <= most and bool((error > tolerance).any()):
        steps *= 2
        wanting, calls = error > tolerance, calls + 4 * steps
        finer = solve(steps)
        error = torch.where(wanting, distance(finer[0], value), error)
        value, se = torch.where(wanting, finer[0], value), torch.where(wanting, finer[1], se)
        z = torch.where(wanting.view(-1, *[1] * (x.ndim - 1)), finer[2], z)
    if not bool(torch.isfinite(value).all()):
        raise DivergedError(
            f"the flow leaves the finite numbers in {steps} steps: take more of them, or look at the drift"
        )
    if tolerance is not None and bool((error > tolerance).any()):
        raise UsageError(
            f"the solver's error is still {float(error.max()):.3g} nats at {steps} steps, above {tolerance:.3g}: take more steps, or raise the tolerance"
        )
    return OdeLikelihood(value, error, se, z, steps, calls)


@torch.no_grad()
def solve_with_trace(
    drift: Drift, x: Tensor, v: Tensor, t0: float, t1: float, steps: int
) -> tuple[Tensor, Tensor]:
    """x(t1) and the integral of v J v for each probe v (P, B, *shape): (B, *shape), (P, B) float64. Classical Runge-Kutta."""

    def slope(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        found = []
        for some in v.split(AT_ONCE):  # as further rows of one batch
            copies = x.repeat(len(some), *[1] * (x.ndim - 1))
            velocity, product = jvp(lambda x: drift(x, t), (copies,), (some.flatten(0, 1),))
            found.append((some * product.view_as(some)).double().flatten(2).sum(2))
        return velocity[: len(x)], torch.cat(found)

    h, change = (t1 - t0) / steps, torch.zeros(v.shape[:2], dtype=torch.float64, device=x.device)
    for i in range(steps):
        t = t0 + i * h
        k1, d1 = slope(x, t)
        k2, d2 = slope(x + h / 2 * k1, t + h / 2)
        k3, d3 = slope(x + h / 2 * k2, t + h / 2)
        k4, d4 = slope(x + h * k3, t + h)
        x, change = (
            x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4),
            change + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4),
        )
    return x, change
