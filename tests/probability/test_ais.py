"""Annealed importance sampling lands on log p(x) where that is known: linear, and by a fine grid."""

import math

import pytest
import torch
from helpers.probabilistic_pca import LOG_P, VARIANCE, W, X

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.probability.ais import ais, log_mean_weight, sigmoid_schedule
from fromnoise.probability.gaussian import log_normal

M = W.T @ W + VARIANCE * torch.eye(2, dtype=torch.float64)
MEAN, PRECISION = torch.linalg.solve(M, W.T @ X), M / VARIANCE


def prior(z):
    return log_normal(z).sum(-1)


def joint(z):
    return prior(z) + log_normal(X.to(z), z @ W.to(z).T, math.log(VARIANCE)).sum(-1)


def mean_field(z):  # the best factorised q(z | x) of this model
    return log_normal(z, MEAN.to(z), -PRECISION.diagonal().log().to(z)).sum(-1)


def start(seed: int, chains: int, examples: int = 1) -> torch.Tensor:
    return Rng(seed).normal("z", (chains, examples, 2)).double()


def test_schedule():
    t = sigmoid_schedule(100)
    assert t.shape == (101,) and t[0] == 0 and t[-1] == 1 and (t.diff() > 0).all()
    assert (
        t[50] == pytest.approx(0.5, abs=1e-12) and t.diff()[0] < 0.1 * t.diff()[50]
    )  # dense at the ends


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lands_on_log_p_from_the_prior(dtype):
    log_w, accepted = ais(prior, joint, start(0, 404).to(dtype), Rng(1), sigmoid_schedule(150))
    value, error = log_mean_weight(log_w)
    assert log_w.shape == (400, 1) and log_w.dtype == dtype
    assert error.item() < 0.03 and value.item() == pytest.approx(LOG_P, abs=4 * error.item())
    assert log_w.mean().item() < LOG_P  # by Jensen: the mean of the logs lies below
    assert 0.6 < accepted.item() < 0.8


def test_starting_from_the_encoder_needs_few_steps():
    z = MEAN + start(0, 404) / PRECISION.diagonal().sqrt()
    value, error = log_mean_weight(ais(mean_field, joint, z, Rng(1), sigmoid_schedule(20))[0])
    assert error.item() < 0.005 and value.item() == pytest.approx(LOG_P, abs=4 * error.item())


@pytest.mark.parametrize("steps,leapfrogs,step", [(1, 3, 0.2), (2, 3, 0.2), (5, 2, 1.2)])
def test_weights_are_unbiased_for_any_number_of_steps(steps, leapfrogs, step):
    log_w, _ = ais(prior, joint, start(2, 40_004), Rng(3), sigmoid_schedule(steps), leapfrogs, step)
    w = (log_w - LOG_P).exp()
    assert w.mean().item() == pytest.approx(1, abs=4 * w.std().item() / 200)


def test_backwards_from_the_posterior_it_bounds_from_above():
    z = MEAN + start(4, 404) @ torch.linalg.cholesky(torch.linalg.inv(PRECISION)).T
    log_w, _ = ais(prior, joint, z, Rng(5), sigmoid_schedule(150).flip(0))
    value, error = log_mean_weight(log_w)
    assert -value.item() == pytest.approx(LOG_P, abs=4 * error.item()) and error.item() < 0.03
    assert -log_w.mean().item() > LOG_P


def test_examples_of_different_width_side_by_side():
    """p(z) = N(0, 1), p(x | z) = N(sin 2z + z, s^2), s from .5 down to .05: against the integral over a grid of z."""
    x, s = (
        torch.tensor([0.3, -1.0, 1.5], dtype=torch.float64),
        torch.tensor([0.5, 0.2, 0.05], dtype=torch.float64),
    )

    def p(z):
        return log_normal(z)[..., 0]

    def joint(z):
        return p(z) + log_normal(x, (torch.sin(2 * z) + z)[..., 0], 2 * s.log())

    grid = torch.linspace(-8, 8, 200_001, dtype=torch.float64)
    truth = joint(grid[:, None, None].expand(-1, 3, 1)).logsumexp(0) + math.log(16 / 200_000)
    log_w, accepted = ais(
        p, joint, Rng(0).normal("z", (504, 3, 1)).double(), Rng(1), sigmoid_schedule(150)
    )
    value, error = log_mean_weight(log_w)
    assert ((value - truth).abs() < 4 * error).all() and (error < 0.1).all()
    assert (accepted > 0.5).all() and (
        accepted < 0.85
    ).all()  # each example found its own step size


def test_pilots_alone_set_the_step_size():
    z = start(6, 12)
    alone = ais(prior, joint, z, Rng(7), sigmoid_schedule(10))[0]
    z[8:] += 3  # other chains elsewhere ...
    moved = ais(prior, joint, z, Rng(7), sigmoid_schedule(10))[0]
    assert torch.equal(alone[:4], moved[:4]) and not torch.equal(
        alone[4:], moved[4:]
    )  # ... do not change these


def test_a_step_far_too_large_recovers():
    def overflowing(z):
        return joint(z) + torch.where(
            z.abs().amax(-1) > 40, math.nan, 0.0
        )  # as a network's outputs far out

    log_w, accepted = ais(
        prior, overflowing, start(8, 204), Rng(9), sigmoid_schedule(150), step=50.0
    )
    value, error = log_mean_weight(log_w)
    assert accepted.item() > 0.4 and value.item() == pytest.approx(LOG_P, abs=4 * error.item())


def test_same_rng_same_weights_and_no_gradient_is_left_behind():
    with torch.no_grad():
        a, b = (ais(prior, joint, start(0, 8), Rng(1), sigmoid_schedule(5))[0] for _ in range(2))
    assert torch.equal(a, b) and not a.requires_grad


def test_error_of_the_log_mean():
    log_w = torch.tensor([[0.0, 5.0], [math.log(3), 5.0]], dtype=torch.float64)
    value, error = log_mean_weight(log_w)
    assert value.tolist() == pytest.approx([math.log(2), 5.0])
    assert error.tolist() == pytest.approx(
        [0.5, 0]
    )  # weights 1 and 3: sd sqrt 2, over sqrt 2, over the mean 2


def test_bad_input_gets_one_line():
    with pytest.raises(UsageError, match="pilot"):
        ais(prior, joint, start(0, 4), Rng(0), sigmoid_schedule(2))
    with pytest.raises(DataError, match="NaN"):
        ais(prior, lambda z: joint(z) * math.nan, start(0, 8), Rng(0), sigmoid_schedule(2))
