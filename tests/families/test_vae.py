"""The VAE against models whose answers are known."""

import pytest
import torch
from helpers.linear_vae import linear_vae
from helpers.probabilistic_pca import LOG_P, X

from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.families.vae import VAE, Config, Options

DIGITS = DataSpec("image", (1, 8, 8), levels=17, classes=10)
SMALL = dict(hidden=(16,), latent_dim=3)


def batch(n=6, spec=DIGITS):
    levels = Rng(5).integers("x", spec.levels, (n, *spec.shape)).float()
    return Batch(levels * (2 / (spec.levels - 1)) - 1, torch.arange(n) % 10)


class Double(Rng):
    """Normal draws in float64."""

    def normal(self, name, shape):
        return super().normal(name, shape).double()

    def at(self, *path):
        return Double(self.seed, self.path + path, self.rows)


def test_elbo_of_the_golden_ppca():
    x = X.repeat(200_000, 1)
    elbo = linear_vae().log_likelihood(x, None, Double(0))
    assert elbo.mean().item() == pytest.approx(
        -5.884353131, abs=4 * elbo.std().item() / len(x) ** 0.5
    )


@pytest.mark.parametrize("k,golden", [(10, -5.8665), (100, -5.8646)])
def test_importance_weighted_bound_of_the_golden_ppca(k, golden):
    x = X.repeat(200_000 // k, 1)
    bound = linear_vae().log_likelihood(x, None, Double(0), k)
    assert bound.mean().item() == pytest.approx(
        golden, abs=max(5e-4, 4 * bound.std().item() / len(x) ** 0.5)
    )
    assert bound.mean().item() < LOG_P + 4 * bound.std().item() / len(x) ** 0.5


def test_the_loss_is_the_negative_elbo():
    vae, data, rng = VAE(Config(**SMALL), DIGITS), batch(), Rng(0).at("a")
    loss = vae.loss(data, "elbo", rng)
    assert loss.value.item() == pytest.approx(
        -vae.log_likelihood(data.x, data.y, rng).mean().item(), rel=1e-6
    )
    assert loss.value.item() == pytest.approx(
        loss.terms["reconstruction"].item() + loss.terms["kl"].item(), rel=1e-6
    )


def test_the_kl_pulls_the_posterior_to_the_prior():
    vae = VAE(Config(**SMALL, beta=100.0), DIGITS)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-2)
    for step in range(300):
        optimizer.zero_grad()
        vae.loss(batch(), "elbo", Rng(0).at(step)).value.backward()
        optimizer.step()
    mu, std = vae.posterior(batch().x)
    assert mu.abs().max() < 0.2 and (std - 1).abs().max() < 0.2


def test_encoder_learns_through_the_sample():
    """Without the KL term the encoder's only gradient is the one through z = mu + sigma eps."""
    vae = VAE(Config(**SMALL, beta=0.0), DIGITS)
    vae.loss(batch(), "elbo", Rng(0)).value.backward()
    last = vae.net.encoder.layers[-1].weight.grad
    assert last[:3].abs().sum() > 0 and last[3:].abs().sum() > 0  # both mu and logvar


def test_beta_warmup_follows_progress():
    vae, data = VAE(Config(**SMALL, kl_warmup=0.5, beta=2.0), DIGITS), batch()
    losses = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        vae.progress = progress
        losses.append(vae.loss(data, "elbo", Rng(0)))
    kl, reconstruction = losses[0].terms["kl"].item(), losses[0].terms["reconstruction"].item()
    for loss, beta in zip(losses, (0, 1, 2, 2)):
        assert loss.value.item() == pytest.approx(reconstruction + beta * kl, rel=1e-5)


def test_free_bits_give_no_gradient_below_the_floor():
    vae = VAE(Config(**SMALL, free_bits=1e6), DIGITS)
    loss = vae.loss(batch(), "elbo", Rng(0))
    assert loss.value.item() == pytest.approx(loss.terms["reconstruction"].item() + 3e6, rel=1e-4)
    free, bound = (
        VAE(Config(**SMALL, free_bits=1e6), DIGITS),
        VAE(Config(**SMALL, beta=0.0), DIGITS),
    )
    bound.load_state_dict(free.state_dict())
    for vae in (
        free,
        bound,
    ):  # below the floor the KL pulls at nothing: the same gradient as without it
        vae.loss(batch(), "elbo", Rng(0)).value.backward()
    assert all(
        torch.allclose(p.grad, q.grad, atol=1e-5)
        for p, q in zip(free.net.parameters(), bound.net.parameters())
    )


def test_more_samples_tighten_the_bound():
    vae, data = VAE(Config(**SMALL), DIGITS), batch(64)
    values = [vae.log_likelihood(data.x, None, Rng(0), k).mean().item() for k in (1, 10, 200)]
    assert values[0] < values[1] < values[2]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"network": "conv", "width": 8},
        {"network": "ladder", "width": 8, "blocks": 1, "maps": (2, 3)},
    ],
)
def test_every_network_takes_any_image(options):
    for shape in ((1, 8, 8), (3, 28, 21), (1, 17, 30)):
        spec = DataSpec("image", shape, levels=256, classes=3)
        vae = VAE(
            Config(
                latent_dim=4, hidden=(16,), conditional=True, **{k: v for k, v in options.items()}
            ),
            spec,
        )
        x, y = Rng(0).uniform("x", (2, *shape)) * 2 - 1, torch.tensor([0, 2])
        assert torch.isfinite(vae.loss(Batch((x * 127.5).round() / 127.5, y), "elbo", Rng(0)).value)
        z = vae.encode(x, y)
        assert z.shape == (2, vae.latent_dim) and vae.decode(z, y).shape == x.shape
        assert torch.allclose(vae.decode(z, y), vae.reconstruct(x, y), atol=1e-5)
        assert vae.sample(2, y, Options(), Rng(0)).shape == x.shape
        assert vae.kl_per_dimension(x, y, Rng(0)).shape == (vae.latent_dim,)


def test_a_ladders_prior_and_posterior_agree_at_the_start():
    """Maps start with q = p: their KL is zero, so the model starts as a flat VAE and cannot start collapsed."""
    vae = VAE(Config(latent_dim=4, network="ladder", width=8, blocks=1), DIGITS)
    q = vae.infer(batch().x, None, Rng(0))
    kl = [level.kl() for level in q.levels]
    assert kl[1].abs().max() == 0 and kl[0].abs().max() > 0


@pytest.mark.parametrize(
    "options,word",
    [
        (dict(conditional=True), "labels"),
        (dict(network="conv"), "images"),
        (dict(likelihood="bernoulli"), "images"),
        (dict(objective="iwae", beta=0.5), "--beta"),
    ],
)
def test_options_that_do_not_go_together(options, word):
    with pytest.raises(UsageError, match=word):
        VAE(Config(**options), DataSpec("vector", (4,)))


def test_cross_entropy_on_grey_values_is_no_likelihood():
    assert VAE(Config(likelihood="bernoulli"), DIGITS).bound == "none"
    assert VAE(Config(), DataSpec("image", (1, 8, 8), levels=2)).bound == "lower"


@pytest.mark.parametrize("bias", [-500.0, 500.0])
def test_a_ladder_whose_prior_runs_away_keeps_a_finite_bound(bias):
    spec = DataSpec("image", (1, 16, 16), levels=256)
    model = VAE(Config(network="ladder", width=8, latent_dim=4), spec)
    for layer in model.net.prior:
        layer.bias.data[len(layer.bias) // 2 :] = bias  # of the logarithm of the prior's variance
    x = Rng(0).uniform("x", (4, 1, 16, 16)) * 2 - 1
    assert torch.isfinite(model.log_likelihood(x, None, Rng(1))).all()
    assert torch.isfinite(model.sample(4, None, Options(draw="mean"), Rng(2))).all()
