"""Jumps of a diffusion model (MeanFlow) where the mean velocity is known: data N(0, 1) on straight lines.

x_t has variance q(t) = (1 - t)^2 + t^2, so that the probability flow carries x_t to x_r = x_t sqrt(q(r) / q(t)).
"""

import pytest
import torch

from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.families.diffusion import Config, Diffusion, Options

D, N = 4, 50_000


def q(t):
    return (1 - t) ** 2 + t**2


def exact(x_t, t, condition=None, until=None):
    """v(x_t, t) = x_t q'(t) / 2 q(t), and the mean of it from until to t."""
    t = t[:, None]
    if until is None:
        return x_t * (2 * t - 1) / q(t)
    r = until[:, None]
    far = (t - r).abs() > 1e-4
    return torch.where(
        far,
        x_t * (1 - (q(r) / q(t)).sqrt()) / torch.where(far, t - r, 1.0),
        x_t * (2 * t - 1) / q(t),
    )


@pytest.fixture
def model(monkeypatch):
    model = Diffusion(Config(jumps=1.0), DataSpec("vector", (D,)))
    monkeypatch.setattr(model, "predict", exact)
    return model


def test_the_identity_holds_for_the_exact_mean_velocity(model, monkeypatch):
    """What is regressed on has the exact mean velocity as its mean, given x_t: their difference goes with no function of x_t."""
    seen = {}

    def spy(x_t, t, condition=None, until=None):
        out = exact(x_t, t, condition, until)
        if len(x_t) == N and until is not None:
            seen.update(x_t=x_t, t=t, r=until, u=out)
        return out

    monkeypatch.setattr(model, "predict", spy)
    found = {}
    monkeypatch.setattr(
        "fromnoise.probability.diffusion.mean_flow.mean_square",
        lambda difference: found.setdefault("d", difference).square().flatten(1).mean(1),
    )
    rng = Rng(0).at("jumps")
    model.train().progress = 1.0
    model.loss(Batch(rng.normal("x", (N, D))), "denoising", rng)
    n, d = N // 2, found["d"]
    assert (seen["t"][:n] > seen["r"][:n]).all() and torch.equal(seen["t"][n:], seen["r"][n:])
    length = seen["t"] - seen["r"]
    for rows in (slice(0, n), slice(n, N)):
        for g in (
            torch.ones(N, D),
            seen["x_t"],
            seen["x_t"] * length[:, None],
            seen["x_t"] * seen["t"][:, None],
        ):
            product = (d * g)[rows].mean(1)
            assert abs(float(product.mean())) <= 4 * float(product.std()) / len(product) ** 0.5
    slope_matters = (seen["u"][:n] - exact(seen["x_t"][:n], seen["t"][:n])) * seen["x_t"][:n]
    assert (
        abs(float(slope_matters.mean())) > 0.05
    )  # u is not v: leaving the slope out would be seen above


def test_one_jump_and_several_land_on_the_data(model):
    eps = Rng(0).normal("eps", (20_000, D))
    for steps in (1, 2, 5):
        x = model.sample(len(eps), None, Options(sampler="jump", steps=steps), Rng(1))
        assert abs(float(x.var()) - 1) < 0.02


def test_jumps_of_many_lengths_arrive_at_the_same_place(model):
    one, five = (
        model.sample(100, None, Options(sampler="jump", steps=steps), Rng(2)) for steps in (1, 5)
    )
    torch.testing.assert_close(one, five, rtol=1e-3, atol=1e-4)


def test_held_out_objective_is_the_flow_alone(model):
    rng, x = Rng(0).at("held"), Rng(0).normal("x", (64, D))
    plain = Diffusion(Config(), DataSpec("vector", (D,)))
    plain.predict = exact
    assert model.eval().loss(Batch(x), "denoising", rng).terms.keys() == {"error"}
    assert torch.equal(
        model.loss(Batch(x), "denoising", rng).value,
        plain.eval().loss(Batch(x), "denoising", rng).value,
    )


def test_what_cannot_jump_says_so(model):
    plain = Diffusion(Config(), DataSpec("vector", (D,)))
    with pytest.raises(UsageError, match="--jumps"):
        plain.sample(2, None, Options(sampler="jump"), Rng(0))
    with pytest.raises(UsageError, match="straight lines"):
        Diffusion(Config(jumps=0.5, path="linear"), DataSpec("vector", (D,)))
    with pytest.raises(UsageError, match="guidance"):
        model.sample(2, None, Options(sampler="jump", guidance=2.0), Rng(0))


def test_a_jump_to_the_data_is_scaled_by_what_is_known_there():
    """At strong noise the Gaussian explains next to nothing; a jump from there must still be able to reach the data."""
    model = (
        Diffusion(Config(jumps=1.0, width=8, depth=1), DataSpec("vector", (2,)))
        .eval()
        .requires_grad_(False)
    )
    model.net.out.bias.fill_(1.0)
    x_t, far = torch.zeros(3, 2), torch.full((3,), model.path.range[1])
    assert torch.allclose(
        model.predict(x_t, far, None, torch.zeros(3)), torch.ones(3, 2), atol=1e-4
    )
    assert model.predict(x_t, far, None).abs().max() < 0.05
