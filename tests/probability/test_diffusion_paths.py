"""Paths from data to noise: what holds for each of them, and the curves of the papers."""

import math

import pytest
import torch
from helpers.exact_diffusion import ABAR, f64

from fromnoise.core.rng import Rng
from fromnoise.probability.diffusion.path import PATHS, RATIOS, append_dims

TARGETS = ("eps", "x", "v", "edm")
every_path = pytest.mark.parametrize("name", PATHS)


def inside(path, n=101):
    first, last = path.range
    return torch.linspace(first, last, n, dtype=torch.float64)


@every_path
@pytest.mark.parametrize("kind", TARGETS)
def test_solve_undoes_mix_and_target(name, kind):
    path = PATHS[name]()
    t, x, eps = (
        inside(path),
        Rng(0).normal("x", (101, 2, 3)).double(),
        Rng(0).normal("eps", (101, 2, 3)).double(),
    )
    a, b = (append_dims(part, x) for part in path.target(kind, t))
    x_hat, eps_hat = path.solve(path.mix(x, eps, t), a * x + b * eps, kind, t)
    assert torch.allclose(x_hat, x, atol=1e-9) and torch.allclose(eps_hat, eps, atol=1e-9)
    # whatever the prediction, x_t is made of what is seen in it; one t for all rows is a t for each
    wild = Rng(1).normal("p", x.shape).double()
    for time in (t, t[40]):
        x_hat, eps_hat = path.solve(x, wild, kind, time)
        assert torch.allclose(path.mix(x_hat, eps_hat, time), x, atol=1e-8)
        a, b = (append_dims(part, x) for part in path.target(kind, time))
        assert torch.allclose(a * x_hat + b * eps_hat, wild, atol=1e-8)
    single = path.solve(x.float(), wild.float(), kind, t[40])
    assert single[0].dtype == single[1].dtype == torch.float32


@every_path
def test_slope_is_the_derivative(name):
    path = PATHS[name]()
    t, h = inside(path)[1:-1], 1e-6
    for slope, ahead, behind in zip(
        path.slope(t), path.coefficients(t + h), path.coefficients(t - h)
    ):
        assert torch.allclose(slope, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-7)


@every_path
def test_at_inverts_ratio_and_the_range_is_that_of_the_ratios(name):
    path = PATHS[name]()
    ratios = torch.logspace(math.log10(RATIOS[0]), math.log10(RATIOS[1]), 50, dtype=torch.float64)
    t = path.at(ratios)
    assert torch.allclose(path.ratio(t), ratios, rtol=1e-9) and bool((t.diff() > 0).all())
    assert (
        path.range == pytest.approx((t[0].item(), t[-1].item()), abs=1e-12)
        and 0 <= path.range[0] < path.range[1] <= 1
    )
    alpha, sigma = path.coefficients(inside(path))
    assert bool((alpha > 0).all()) and bool((sigma > 0).all())


@every_path
def test_v_is_the_velocity_and_edms_mixture_has_variance_one(name):
    path = PATHS[name]()
    x, eps, t, h = f64(0.7), f64(-1.2), path.at(f64(0.9)), 1e-6
    a, b = path.target("v", t)
    assert (a * x + b * eps).item() == pytest.approx(
        ((path.mix(x, eps, t + h) - path.mix(x, eps, t - h)) / (2 * h)).item(), rel=1e-6
    )
    a, b = path.target("edm", inside(path))
    alpha, sigma = path.coefficients(inside(path))
    assert torch.allclose(a**2 + b**2, torch.ones(101, dtype=torch.float64))
    assert torch.allclose(
        a * alpha + b * sigma, torch.zeros(101, dtype=torch.float64), atol=1e-12
    )  # nothing that is in x_t already


def test_the_papers_curves():
    t = torch.linspace(0.01, 1, 100, dtype=torch.float64)
    for name in ("linear", "cosine"):
        alpha, sigma = PATHS[name]().coefficients(t)
        assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(t))
    alpha, sigma = PATHS["flow"]().coefficients(t)
    assert torch.equal(alpha + sigma, torch.ones_like(t))
    # linear: the limit of DDPM's thousand steps
    steps = (torch.arange(1000, dtype=torch.float64) + 1) / 1000
    alpha, _ = PATHS["linear"]().coefficients(steps)
    assert torch.allclose(alpha.log()[99:], ABAR.sqrt().log()[99:], rtol=0.01)
    # edm: their eq. 5 with 18 steps
    edm = PATHS["edm"]()
    sigmas = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert edm.coefficients(1 - torch.arange(18).double() / 17)[1].tolist() == pytest.approx(sigmas)
    assert edm.coefficients(t)[0].unique().tolist() == [1.0]
