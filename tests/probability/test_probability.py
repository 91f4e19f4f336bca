"""Known answers: closed forms, golden values, and densities that sum to one."""

import math

import numpy as np
import pytest
import torch
from helpers.probabilistic_pca import LOG_P, VARIANCE, W, X
from scipy import stats

from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.probability.gaussian import (
    importance_weighted_bound,
    kl_normal,
    log_normal,
    reparameterise,
)
from fromnoise.probability.likelihood import LIKELIHOODS, dequantisation_nats
from fromnoise.probability.mixture import GaussianMixture


def f64(value):
    return torch.tensor(value, dtype=torch.float64)


def test_kl_golden_value():
    assert kl_normal(f64(1.0), f64(math.log(0.25))).item() == pytest.approx(0.818147181, abs=1e-9)
    assert kl_normal(f64(0.0), f64(0.0)).item() == 0


def test_kl_is_the_lectures_formula():
    mu, variance = f64([0.3, -2.0]), f64([0.5, 3.0])
    lecture = 0.5 * (variance + mu**2 - 1 - variance.log())
    assert torch.allclose(kl_normal(mu, variance.log()), lecture, atol=1e-15)


@pytest.mark.parametrize(
    "mu_q,var_q,mu_p,var_p", [(1.0, 0.25, 0.0, 1.0), (-0.5, 2.0, 1.0, 0.7), (0.2, 0.9, 0.1, 3.0)]
)
def test_kl_against_a_million_samples(mu_q, var_q, mu_p, var_p):
    lq, lp = math.log(var_q), math.log(var_p)
    z = reparameterise(f64(mu_q), f64(lq), Rng(0).normal("eps", (1_000_000,)).double())
    estimate = (log_normal(z, f64(mu_q), f64(lq)) - log_normal(z, f64(mu_p), f64(lp))).mean().item()
    assert kl_normal(f64(mu_q), f64(lq), f64(mu_p), f64(lp)).item() == pytest.approx(
        estimate, abs=1e-2
    )


def test_log_normal_is_scipys():
    z = torch.linspace(-3, 3, 50, dtype=torch.float64)
    assert np.allclose(
        log_normal(z, f64(0.4), f64(math.log(0.3))),
        stats.norm(0.4, math.sqrt(0.3)).logpdf(z),
        atol=1e-12,
    )


def test_reparameterised_draws_have_the_mean_and_variance_they_should():
    z = reparameterise(f64(2.0), f64(math.log(0.09)), Rng(0).normal("eps", (200_000,)).double())
    assert z.mean().item() == pytest.approx(2.0, abs=0.005) and z.std().item() == pytest.approx(
        0.3, abs=0.005
    )


def test_gradients_flow_through_the_draw():
    mu, logvar = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    eps = torch.tensor([1.0, -2.0, 0.5])
    reparameterise(mu, logvar, eps).sum().backward()
    assert torch.equal(mu.grad, torch.ones(3)) and torch.allclose(logvar.grad, 0.5 * eps)


# -- probabilistic PCA (evaluation.md 4.6): D = 5, K = 2, everything known in closed form -----------------------
BEST_ELBO = -5.884353131


def _posterior():
    M = W.T @ W + VARIANCE * torch.eye(2, dtype=torch.float64)
    return torch.linalg.solve(M, W.T @ X), M / VARIANCE  # mean, precision


def _log_weights(K: int, repeats: int) -> torch.Tensor:
    """log p(x, z) - log q(z | x) with the best mean-field Gaussian q."""
    mean, precision = _posterior()
    mu, logvar = mean, -precision.diagonal().log()
    z = reparameterise(mu, logvar, Rng(0).normal("eps", (repeats, K, 2)).double())
    log_p_x = log_normal(X, z @ W.T, f64(math.log(VARIANCE))).sum(-1)
    return log_p_x + log_normal(z).sum(-1) - log_normal(z, mu, logvar).sum(-1)


def test_best_mean_field_elbo_and_its_gap():
    mean, precision = _posterior()
    mu, logvar = mean, -precision.diagonal().log()
    # E_q log p(x|z) in closed form: the quadratic form at mu plus the trace term
    reconstruction = (
        log_normal(X, W @ mu, f64(math.log(VARIANCE))).sum()
        - 0.5 / VARIANCE * (W.square() @ logvar.exp()).sum()
    )
    elbo = (reconstruction - kl_normal(mu, logvar).sum()).item()
    assert elbo == pytest.approx(BEST_ELBO, abs=1e-6)
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)).item()
    assert LOG_P - elbo == pytest.approx(gap, abs=1e-6) and gap == pytest.approx(
        0.019500780, abs=1e-6
    )


@pytest.mark.parametrize("K,golden", [(1, BEST_ELBO), (10, -5.8665), (100, -5.8646)])
def test_importance_weighted_bound_rises_to_log_p(K, golden):
    bounds = importance_weighted_bound(_log_weights(K, 200_000 // K))
    error = bounds.std().item() / len(bounds) ** 0.5
    assert bounds.mean().item() == pytest.approx(golden, abs=max(4 * error, 5e-4))


def test_importance_weighted_bound_of_the_exact_posterior_is_log_p():
    mean, precision = _posterior()
    L = torch.linalg.cholesky(torch.linalg.inv(precision))
    z = mean + Rng(0).normal("eps", (7, 2)).double() @ L.T
    log_q = torch.distributions.MultivariateNormal(mean, scale_tril=L).log_prob(z)
    log_w = log_normal(X, z @ W.T, f64(math.log(VARIANCE))).sum(-1) + log_normal(z).sum(-1) - log_q
    assert torch.allclose(log_w, f64(LOG_P), atol=1e-8)  # every weight is p(x)


# -- likelihoods -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("mean,logvar", [(0.0, -3.0), (0.9, -6.0), (-1.0, 2.0), (0.3, -9.0)])
def test_discretised_logistic_sums_to_one(levels, mean, logvar):
    spec = DataSpec("image", (1, 1, levels), levels=levels)
    x = (torch.linspace(-1, 1, levels, dtype=torch.float64)).view(1, 1, 1, levels)
    nats = LIKELIHOODS["logistic"](spec).nll(torch.full_like(x, mean), x, f64(logvar))
    assert (-nats).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_bernoulli():
    spec = DataSpec("image", (1, 28, 28), levels=2)
    x = Rng(0).integers("x", 2, (3, 1, 28, 28)).double() * 2 - 1
    nats = LIKELIHOODS["bernoulli"](spec).nll(torch.zeros_like(x), x, f64(0.0)).flatten(1).sum(1)
    assert torch.allclose(nats, f64(543.427390), atol=1e-5)
    logit = f64([[[[1.3]]]])
    both = [
        LIKELIHOODS["bernoulli"](spec).nll(logit, f64([[[[v]]]]), f64(0.0)).item()
        for v in (-1.0, 1.0)
    ]
    assert math.exp(-both[0]) + math.exp(-both[1]) == pytest.approx(1, abs=1e-12)
    assert math.exp(-both[1]) == pytest.approx(1 / (1 + math.exp(-1.3)), abs=1e-12)


def test_uniform_pixels_cost_8_bits():
    spec = DataSpec("image", (1, 2, 2), levels=256)
    # a uniform density on [-1 - h, 1 + h]^4, cells of width 2 h = 2/255: 1/256 for each level
    log_density = -4 * math.log(2 + 2 / 255)
    bits = -(log_density + dequantisation_nats(spec)) / (4 * math.log(2))
    assert bits == pytest.approx(8, abs=1e-9)


def test_table_mixes_numbers_and_categories():
    spec = DataSpec("vector", (4,), blocks=(1, 3))
    table = LIKELIHOODS["table"](spec)
    params = f64([[0.5, 1.0, 2.0, 3.0]])
    total = sum(
        math.exp(-table.nll(params, f64([[0.5, *row]]), f64([[0.0, 0.0, 0.0, 0.0]])).sum().item())
        for row in ([1, 0, 0], [0, 1, 0], [0, 0, 1])
    )
    assert total == pytest.approx(1 / math.sqrt(2 * math.pi), abs=1e-9)
    drawn = table.draw(params.float().repeat(20_000, 1), torch.full((1, 4), -2.0), Rng(0))
    shares = drawn[:, 1:].mean(0)
    assert torch.allclose(shares, params[0, 1:].softmax(0).float(), atol=0.015) and bool(
        (drawn[:, 1:].sum(1) == 1).all()
    )


def test_mixture_density_is_sklearns_and_its_samples_follow_it():
    from sklearn.mixture import GaussianMixture as Reference

    z = torch.cat([Rng(0).normal("a", (600, 2)) * 0.3 + 2, Rng(0).normal("b", (300, 2)) - 2])
    mixture = GaussianMixture(2, 2)
    mixture.fit(z, Rng(0))
    reference = Reference(
        2,
        random_state=Rng(0).key("mixture") % 2**32,
        reg_covar=1e-5 * float(z.var(0, unbiased=False).mean()),
        max_iter=200,
    ).fit(z.double().numpy())
    assert np.allclose(
        mixture.log_density(z), reference.score_samples(z.double().numpy()), atol=1e-3
    )
    drawn = mixture.sample(20_000, Rng(1))
    assert torch.allclose(drawn.mean(0), z.mean(0), atol=0.06) and torch.allclose(
        drawn.T.cov(), z.T.cov(), atol=0.15
    )


def test_principal_components_exact_and_randomised_agree(monkeypatch):
    from fromnoise.probability import pca

    scales = 1 / torch.arange(1, 41).float()
    x = Rng(0).normal("x", (3000, 40)) * scales + 2

    def batches():
        return x.split(700)

    exact = pca.principal_components(batches, 40, 5)
    monkeypatch.setattr(pca, "EXACT", 10)
    other = pca.principal_components(batches, 40, 5)
    assert torch.allclose(
        exact.eigenvalues, other.eigenvalues, rtol=1e-4
    ) and exact.rest == pytest.approx(other.rest, rel=1e-3)
    assert torch.allclose(exact.basis, other.basis, atol=1e-3)
    covariance = torch.cov(x.double().T, correction=0)
    assert torch.allclose(
        exact.eigenvalues, torch.linalg.eigvalsh(covariance).flip(0)[:5], rtol=1e-10
    )
    assert exact.rest == pytest.approx(
        torch.linalg.eigvalsh(covariance).flip(0)[5:].mean().item(), rel=1e-9
    )
    few = pca.principal_components(lambda: iter([x[:3]]), 40, 5)  # fewer rows than components
    assert torch.allclose(few.basis.T @ few.basis, torch.eye(5, dtype=torch.float64), atol=1e-8)


def test_components_of_sorted_data_that_do_not_fit_into_memory_are_of_all_of_it(monkeypatch):
    from fromnoise.probability import pca

    x = torch.cat(
        [Rng(i).normal("x", (1000, 40)) * (1 + 9 * (torch.arange(40) == i)) for i in (3, 7)]
    )  # one class after another
    exact = pca.principal_components(lambda: x.split(300), 40, 2)
    monkeypatch.setattr(pca, "EXACT", 10)
    monkeypatch.setattr(pca, "ENTRIES", 500 * 40)
    some = pca.principal_components(lambda: x.split(300), 40, 2)
    assert exact.rows == 2000 and some.rows == 500
    assert torch.linalg.svdvals(exact.basis.T @ some.basis).min() > 0.99
    again = pca.principal_components(lambda: x.split(300), 40, 2)
    other = pca.principal_components(lambda: x.split(300), 40, 2, seed=1)
    assert torch.equal(some.basis, again.basis) and not torch.equal(some.basis, other.basis)
