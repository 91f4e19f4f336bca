"""log p(x) of a continuous flow: integrate dx/dt = drift(x, t) from data to noise, with its divergence.

    log p(x) = log p_base(z) + integral_{t0}^{t1} tr(d drift / dx) dt,  z = x(t1)

(Chen et al. 2018, arXiv:1806.07366, theorem 1; for the probability flow of a diffusion Song et al.
2021, arXiv:2011.13456, eq. 39.) A coarse solution does not fail, it gives a wrong value, sometimes
a too good one. So every value is computed twice, with ``steps`` and with half as many, and their
difference is reported.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jvp

from ...core.errors import DivergedError, UsageError
from ...core.rng import Rng

PROBES_AT_ONCE = 64  # that go through the drift in one batch
EXACT_TRACE_DIMS = 16  # up to so many dimensions the trace is exact by default
TRACE_PROBES = 2  # for the trace, above
NO_RNG = Rng(0)  # where nothing is drawn
Drift = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class OdeLikelihood:
    """log_likelihood (B,) nats, float64
    error  (B,) nats: distance to the value from half the steps; the value's own error is about 1/15 of it
    se     (B,) nats: standard error over the probes; 0 for the exact trace, NaN for a single probe
    z      (B, *shape): x(t1)
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
    tolerance: float = math.inf,
    most: int = 4096,
    probes: int = 0,
    rng: Rng = NO_RNG,
) -> OdeLikelihood:
    """log p of x (B, *shape) at t0, given log_base: z -> (B,) nats at t1.

    drift       (x, t) -> dx/dt, t a float. A row for each example and probe, on its own
    steps       equal steps of the fourth-order Runge-Kutta method, an even number
    tolerance   nats: ``steps`` is doubled, up to ``most``, until the error is below it. Each row
                keeps its first value that is, so that rows do not depend on their batch
    probes      of the trace: v = +-1 from rng, the same at all times and for all numbers of steps
                (Grathwohl et al. 2019, arXiv:1810.01367, eq. 8); 0: exact, D products J e_d
    Raises UsageError (tolerance not reached, too), DivergedError if x becomes infinite.
    """
    if steps < 2 or steps % 2:
        raise UsageError(f"steps must be even and at least 2, not {steps}: half measure the error")
    solution = FlowSolution(drift, x, log_base, t0, t1, *trace_probes(x, probes, rng))
    value, se, z = solution.solve(steps)
    error = distance(value, solution.solve(steps // 2)[0])
    calls = 6 * steps
    while 2 * steps <= most and bool((error > tolerance).any()):
        steps *= 2
        calls += 4 * steps
        is_open = error > tolerance
        new_value, new_se, new_z = solution.solve(steps)
        error = torch.where(is_open, distance(new_value, value), error)
        value = torch.where(is_open, new_value, value)
        se = torch.where(is_open, new_se, se)
        z = torch.where(is_open.view(-1, *[1] * (z.ndim - 1)), new_z, z)
    check_solution(value, error, tolerance, steps)
    return OdeLikelihood(value, error, se, z, steps, calls)


def check_solution(value: Tensor, error: Tensor, tolerance: float, steps: int) -> None:
    """Raises DivergedError where a value is not finite, UsageError where an error is too large."""
    if not torch.isfinite(value).all():
        raise DivergedError(
            f"the flow leaves the finite numbers in {steps} steps: take more of them, or look at the drift"
        )
    if (error > tolerance).any():
        raise UsageError(
            f"the solver's error is still {float(error.max()):.3g} nats at {steps} steps, "
            f"above {tolerance:.3g}: take more steps, or raise the tolerance"
        )


def trace_probes(x: Tensor, probes: int, rng: Rng) -> tuple[Tensor, bool]:
    """Probes v (P, B, *shape) of the trace; whether the sum of v J v is exact, or P times too large."""
    if probes:
        signs = rng.integers("probes", 2, (len(x), probes, *x.shape[1:]))
        return 1 - 2 * signs.transpose(0, 1).to(x), False
    basis = torch.eye(math.prod(x.shape[1:]), dtype=x.dtype, device=x.device)
    return basis.view(-1, 1, *x.shape[1:]).expand(-1, *x.shape), True


@dataclass(frozen=True)
class FlowSolution:
    """The arguments of ``ode_log_likelihood``, and probes v of the trace."""

    drift: Drift
    x: Tensor
    log_base: Callable[[Tensor], Tensor]
    t0: float
    t1: float
    v: Tensor
    is_exact: bool

    def solve(self, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """log p, its standard error over the probes, and z."""
        z, change = solve_with_trace(self.drift, self.x, self.v, self.t0, self.t1, steps)
        log_p = self.log_base(z).double()
        if self.is_exact:
            return log_p + change.sum(0), torch.zeros_like(log_p), z
        P = len(change)  # P B, each an estimate of the integral
        se = change.std(0) / math.sqrt(P) if P > 1 else torch.full_like(log_p, math.nan)
        return log_p + change.mean(0), se, z


def distance(a: Tensor, b: Tensor) -> Tensor:
    """|a - b|, infinite where it is not a number."""
    return (a - b).abs().nan_to_num(nan=math.inf, posinf=math.inf)


@torch.no_grad()
def solve_with_trace(
    drift: Drift, x: Tensor, v: Tensor, t0: float, t1: float, steps: int
) -> tuple[Tensor, Tensor]:
    """x(t1) (B, *shape), and the integral of v J v for each probe v (P, B, *shape): (P, B) float64.

    Classical Runge-Kutta method of order 4.
    """

    def slope(x: Tensor, t: float) -> tuple[Tensor, Tensor]:
        traces = []
        for some in v.split(PROBES_AT_ONCE):  # as further rows of one batch
            copies = x.repeat(len(some), *[1] * (x.ndim - 1))
            velocity, product = jvp(lambda x: drift(x, t), (copies,), (some.flatten(0, 1),))
            traces.append((some * product.view_as(some)).double().flatten(2).sum(2))
        return velocity[: len(x)], torch.cat(traces)

    h = (t1 - t0) / steps
    change = torch.zeros(v.shape[:2], dtype=torch.float64, device=x.device)
    for i in range(steps):
        t = t0 + i * h
        k1, d1 = slope(x, t)
        k2, d2 = slope(x + h / 2 * k1, t + h / 2)
        k3, d3 = slope(x + h / 2 * k2, t + h / 2)
        k4, d4 = slope(x + h * k3, t + h)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        change = change + h / 6 * (d1 + 2 * d2 + 2 * d3 + d4)
    return x, change
