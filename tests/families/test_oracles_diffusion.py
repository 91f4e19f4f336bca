"""Diffusion and flows where everything is known (evaluation.md 4.8 and 4.9): data N(0, 1/4), exact score.

x_t ~ N(0, v_t) with v = abar / 4 + 1 - abar, and the best denoiser is E[eps | x_t] = sqrt(1 - abar) x_t / v. Expectations
are exact: Gauss-Hermite nodes instead of draws of x and eps (all integrands are quadratic), unit impulses instead of
draws in the samplers (all samplers are linear).
"""

import math

import numpy as np
import pytest
import torch
from helpers.exact_ddpm import ddpm_schedule, posterior, step_bound, step_variances
from helpers.exact_diffusion import (
    ABAR,
    DATA,
    GAUSSIAN,
    NLL,
    Fixed,
    Impulse,
    f64,
    family,
    nodes,
    on_table,
    times_of,
)
from torch import nn

from fromnoise.core.errors import DivergedError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.families.diffusion import Options
from fromnoise.probability.diffusion.ode import ode_log_likelihood
from fromnoise.probability.diffusion.samplers import ddim
from fromnoise.probability.gaussian import log_normal

TABLE, ALL = on_table(), times_of(range(999, -1, -1))
EXACT = GAUSSIAN.denoise(TABLE)
MARGINAL = ABAR * DATA + 1 - ABAR  # v_t
MSE = (1 - (1 - ABAR) / MARGINAL).flip(0)  # of the best denoiser's eps, at ALL


def at(index):
    return (ABAR[index].sqrt(), (1 - ABAR[index]).sqrt())


# -- one step ---------------------------------------------------------------------------------------------------


def test_schedule():
    assert ABAR.dtype == torch.float64 and ABAR.shape == (1000,)
    betas = 1 - ABAR / torch.cat([ABAR.new_ones(1), ABAR[:-1]])
    assert torch.allclose(betas, torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), atol=1e-14)
    assert ABAR[-1].item() == pytest.approx(4.0358e-5, rel=1e-4)  # hardly anything of x is left
    for wrong in ((1, 1e-4, 0.02), (10, 0.0, 0.02), (10, 0.1, 0.01), (10, 0.1, 1.0)):
        with pytest.raises(UsageError, match="schedule"):
            ddpm_schedule(*wrong)


def test_marginal_is_what_the_small_steps_make():
    """x_t = sqrt(1 - beta) x_{t-1} + sqrt(beta) eps, a thousand times: mean sqrt(abar) x, variance 1 - abar (eqs. 2 and 4)."""
    betas, mean, variance = (
        torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64),
        f64(3.0),
        f64(0.0),
    )
    for i in range(1000):
        mean, variance = (1 - betas[i]).sqrt() * mean, (1 - betas[i]) * variance + betas[i]
        if i in (0, 10, 500, 999):
            (t,) = times_of([i])
            assert TABLE.mix(f64(3.0), f64(0.0), t).item() == pytest.approx(mean.item(), rel=1e-12)
            assert TABLE.mix(f64(0.0), f64(1.0), t).item() ** 2 == pytest.approx(
                variance.item(), rel=1e-10
            )


@pytest.mark.parametrize("t,s", [(500, 499), (500, 100), (999, 0), (1, 0)])
def test_posterior_is_bayes_rule(t, s):
    """Condition the joint Gaussian of (x_s, x_t) given x on x_t, without any formula of the paper."""
    x, x_t, alpha = 0.7, -0.4, (ABAR[t] / ABAR[s]).item()
    var_s, var_t = 1 - ABAR[s].item(), 1 - ABAR[t].item()
    covariance = alpha**0.5 * var_s
    mean = ABAR[s].sqrt().item() * x + covariance / var_t * (x_t - ABAR[t].sqrt().item() * x)
    found = posterior(f64(x_t), f64(x), at(t), at(s))
    assert found[0].item() == pytest.approx(mean, abs=1e-12)
    assert found[1].item() == pytest.approx(var_s - covariance**2 / var_t, abs=1e-12)


def test_floor_of_the_denoising_error():
    x, eps, weights = nodes()
    (t,) = times_of([500])
    _, eps_hat = EXACT(TABLE.mix(x, eps, t), t)

    def mse(eps_hat):
        return (weights * (eps - eps_hat).square()[:, 0]).sum().item()

    assert mse(eps_hat) == pytest.approx(0.020654291, abs=1e-9)
    assert mse(1.01 * eps_hat) > mse(eps_hat) < mse(0.99 * eps_hat)


# -- the variational bound of the steps -------------------------------------------------------------------------


def bound(variances, denoise=EXACT) -> float:
    """E of the sum of all terms, exact."""
    x, eps, weights = nodes()
    terms = step_bound(denoise, x, TABLE, ALL, variances, Fixed(eps))
    assert terms.shape == (9, 1001)
    return (weights @ terms).sum().item()


def test_bound_with_the_optimal_variance_is_tight():
    entropy = 0.5 * math.log(2 * math.pi * math.e * DATA)
    assert NLL == pytest.approx(entropy, abs=1e-9)
    gap = bound(step_variances(TABLE, ALL, "optimal", MSE)) - entropy
    assert gap == pytest.approx(2.3e-10, abs=0.05e-10)
    last = (
        0.5 * (MARGINAL[-1] - 1 - MARGINAL[-1].log()).item()
    )  # all of it: x_T is not quite N(0, 1)
    assert gap == pytest.approx(last, abs=1e-12)


def test_bound_with_beta_and_with_the_posteriors_variance():
    model = family(GAUSSIAN, TABLE, "eps").denoiser(
        None, Options()
    )  # through all of the family's conversions
    assert bound(step_variances(TABLE, ALL, "beta"), model) - NLL == pytest.approx(
        1.09e-3, abs=0.005e-3
    )
    assert bound(step_variances(TABLE, ALL, "posterior"), model) - NLL == pytest.approx(
        0.570, abs=0.0005
    )


def test_optimal_variance_is_optimal_for_a_wrong_denoiser_too():
    def wrong(x_t, t):
        eps_hat = 0.9 * EXACT(x_t, t)[1]
        alpha, sigma = TABLE.coefficients(t)
        return (x_t - sigma * eps_hat) / alpha, eps_hat

    mse = 1 - (1 - MSE) * (2 * 0.9 - 0.9**2)  # E (eps - 0.9 eps_hat)^2
    best = step_variances(TABLE, ALL, "optimal", mse)
    assert NLL < bound(best, wrong) < min(bound(1.02 * best, wrong), bound(0.98 * best, wrong))
    with pytest.raises(UsageError, match="give mse"):
        step_variances(TABLE, ALL, "optimal")


def test_terms_add_up_over_components_and_come_from_rng():
    path, times = on_table(ddpm_schedule(20, 0.01, 0.4)), times_of(range(19, -1, -1), 20)
    x, variances = Rng(0).normal("x", (4, 2, 3)), step_variances(path, times, "beta")

    def denoise(x_t, t):
        return (0.5 * x_t, None)

    one, two = (step_bound(denoise, x, path, times, variances, Rng(seed)) for seed in (1, 2))
    assert one.shape == (4, 21) and not torch.equal(one, two)
    assert torch.equal(one, step_bound(denoise, x, path, times, variances, Rng(1)))
    drawn = []
    step_bound(
        lambda x_t, t: (drawn.append(x_t) or x_t, None),
        torch.zeros(500, 1),
        path,
        times,
        variances,
        Rng(0),
    )
    assert (
        len(drawn) == 20 and torch.cat(drawn, 1).T.corrcoef().fill_diagonal_(0).abs().max() < 0.25
    )  # each term its own
    eps, flat = Fixed(x.flip(0)), lambda v: v.reshape(24, 1)
    whole = step_bound(denoise, x, path, times, variances, eps)
    parts = step_bound(denoise, flat(x), path, times, variances, Fixed(flat(x.flip(0))))
    assert torch.allclose(whole, parts.view(4, 6, 21).sum(1), atol=1e-5)


# -- sampling ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "eta,steps,golden",
    [
        (0.0, 10, 0.130763),
        (0.0, 50, 0.222704),
        (0.0, 250, 0.244304),
        (0.0, 1000, 0.248498),
        (1.0, 10, 0.104222),
        (1.0, 50, 0.196420),
        (1.0, 250, 0.236016),
        (1.0, 1000, 0.246125),
    ],
)
def test_variance_of_what_the_sampler_makes(eta, steps, golden):
    """Of N(0, 1), exact: the sum of the squares of its responses to the start and to each noise."""
    times = times_of(torch.linspace(999, 0, steps, dtype=torch.float64).round().int().tolist())
    start = torch.zeros(steps + 1, 1, dtype=torch.float64)
    start[0] = 1
    denoise = family(GAUSSIAN, TABLE, "eps").denoiser(None, Options())
    made = ddim(denoise, start, TABLE, times, eta, Impulse(steps + 1))
    assert made.square().sum().item() == pytest.approx(golden, abs=5.1e-7)


# -- likelihood along the flow ----------------------------------------------------------------------------------

FIRST, LAST = 0.1, 20.0  # T beta of the schedule above: the VP-SDE of Song et al. 2021, eq. 32


def spread_at(t: float) -> float:
    """v_t in continuous time."""
    return 1 - (1 - DATA) * math.exp(-(FIRST * t + 0.5 * (LAST - FIRST) * t**2))


def probability_flow(x, t):
    """-beta / 2 (x + score), score = -x / v (Song et al. 2021, eq. 13)."""
    return -0.5 * (FIRST + (LAST - FIRST) * t) * (x - x / spread_at(t))


def test_flow_likelihood_of_a_gaussian():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]

    def base(z):
        return log_normal(z, 0.0, math.log(spread_at(1.0))).sum(1)

    found = ode_log_likelihood(probability_flow, x, base, tolerance=1e-5)
    truth = log_normal(x, 0.0, math.log(DATA))[:, 0]
    assert torch.allclose(found.log_likelihood, truth, atol=1e-6, rtol=0)
    assert torch.allclose(found.z, (spread_at(1.0) / DATA) ** 0.5 * x, atol=1e-6)
    assert bool((found.error <= 1e-5).all()) and bool((found.se == 0).all())
    error = (found.log_likelihood - truth).abs()
    assert bool((error <= found.error / 10).all())  # fourth order: about 1/15


def test_flow_likelihood_with_a_normal_base_is_oracle_8s():
    points, weights = np.polynomial.hermite_e.hermegauss(3)
    x = torch.from_numpy(DATA**0.5 * points)[:, None]
    found = ode_log_likelihood(probability_flow, x, lambda z: log_normal(z).sum(1), steps=128)
    nll = -(torch.from_numpy(weights / weights.sum()) @ found.log_likelihood).item()
    assert nll == pytest.approx(NLL, abs=1e-6) and found.calls == 4 * (128 + 64)


def test_too_few_steps_are_seen():
    x, base = f64([[0.5], [1.5]]), lambda z: log_normal(z).sum(1)
    truth = log_normal(x, 0.0, math.log(DATA))[:, 0]
    coarse = ode_log_likelihood(probability_flow, x, base, steps=4)
    error = (coarse.log_likelihood - truth).abs()
    assert error.max() > 0.01 and bool((coarse.error > error).all())


def shear(x, t):
    """Data to noise: z = (x1, x2 - x1^2)."""
    return torch.stack([torch.zeros_like(x[:, 0]), -x[:, 0].square()], 1)


def test_shear_flow():
    x = f64([[0.5, -0.3]])
    direct = log_normal(torch.stack([x[:, 0], x[:, 1] - x[:, 0] ** 2], 1)).sum(1)
    found = ode_log_likelihood(shear, x, lambda z: log_normal(z).sum(1), steps=2)
    assert direct.item() == pytest.approx(-2.114127066, abs=1e-9)
    assert found.log_likelihood.item() == pytest.approx(-2.114127066, abs=1e-9)
    back = ode_log_likelihood(
        shear, found.z, lambda x: direct, t0=1.0, t1=0.0, steps=2
    )  # the same way back
    assert torch.allclose(back.z, x) and found.error.item() < 1e-12


def test_flow_densities_integrate_to_one():
    grid = torch.arange(-6, 6.01, 0.1, dtype=torch.float64)
    points = torch.cartesian_prod(grid, torch.arange(-6, 42.01, 0.2, dtype=torch.float64))
    found = ode_log_likelihood(shear, points, lambda z: log_normal(z).sum(1), steps=2)
    assert found.log_likelihood.exp().sum().item() * 0.02 == pytest.approx(1, abs=1e-6)

    def swell(x, t):
        return x.sin() * 0.8 + 0.3  # not volume preserving: the trace counts

    line = torch.arange(-9, 9.01, 0.05, dtype=torch.float64)[:, None]
    found = ode_log_likelihood(swell, line, lambda z: log_normal(z).sum(1), steps=16)
    assert found.log_likelihood.exp().sum().item() * 0.05 == pytest.approx(1, abs=1e-5)


def linear_flow(D=6):
    A = 0.4 * Rng(0).normal("A", (D, D)).double()
    return A, lambda x, t: x @ A.T


def test_linear_flow_is_the_matrix_exponential():
    A, drift = linear_flow()
    x = Rng(1).normal("x", (5, 6)).double()
    found = ode_log_likelihood(drift, x, lambda z: log_normal(z).sum(1), 0.0, 1.5, steps=40)
    expm = torch.linalg.matrix_exp(1.5 * A)
    assert torch.allclose(
        found.log_likelihood, log_normal(x @ expm.T).sum(1) + 1.5 * A.trace(), atol=1e-6
    )


def test_exact_and_estimated_traces_agree():
    net = nn.Sequential(nn.Linear(9, 16), nn.Tanh(), nn.Linear(16, 8)).double()
    for i, p in enumerate(net.parameters()):
        p.data = 0.5 * Rng(0).normal(f"p{i}", p.shape).double()

    def drift(x, t):
        return net(torch.cat([x.flatten(1), torch.full((len(x), 1), t).to(x)], 1)).view_as(x)

    x, base = Rng(1).normal("x", (6, 2, 2, 2)).double(), lambda z: log_normal(z).flatten(1).sum(1)
    settings = dict(log_base=base, steps=4)
    exact = ode_log_likelihood(drift, x, **settings)
    many = ode_log_likelihood(drift, x, probes=400, rng=Rng(2), **settings)
    assert torch.equal(many.z, exact.z) and bool((many.se > 0).all())
    pull = (many.log_likelihood - exact.log_likelihood) / many.se
    assert bool((pull.abs() < 4).all()) and 0.3 < pull.square().mean().sqrt() < 2
    one = ode_log_likelihood(drift, x, probes=1, rng=Rng(2), **settings)
    assert bool(one.se.isnan().all()) and bool(
        ((one.log_likelihood - exact.log_likelihood).abs() > 1e-6).any()
    )
    # with the same probe at both step numbers the error is the solver's, not the probe's
    assert one.error.max() < 0.1 * (one.log_likelihood - exact.log_likelihood).abs().max()
    single = ode_log_likelihood(lambda x, t: drift(x.double(), t).float(), x.float(), **settings)
    assert single.log_likelihood.dtype == torch.float64 and single.z.dtype == torch.float32
    assert torch.allclose(single.log_likelihood, exact.log_likelihood, atol=1e-4)
    # a row's value does not depend on the rest of its batch
    alone = ode_log_likelihood(drift, x[2:3], tolerance=1e-6, **settings)
    together = ode_log_likelihood(drift, torch.cat([10 * x[:2], x[2:]]), tolerance=1e-6, **settings)
    assert torch.allclose(alone.log_likelihood, together.log_likelihood[2:3], rtol=0, atol=1e-12)
    assert together.calls > alone.calls


def test_flow_likelihood_refuses():
    def base(z):
        return log_normal(z).sum(1)

    x = torch.zeros(2, 2, dtype=torch.float64)
    for steps in (3, 0):
        with pytest.raises(UsageError):
            ode_log_likelihood(shear, x, base, steps=steps)
    with pytest.raises(DivergedError, match="finite"):
        ode_log_likelihood(lambda x, t: (1 + x) ** 3 * 50, x, base, steps=8)
    with pytest.raises(UsageError, match="at 64 steps, above 1e-09: take more steps"):
        ode_log_likelihood(
            lambda x, t: (1e6 * x).cos(), x + 0.3, base, tolerance=1e-9, steps=16, most=100
        )
