"""Likelihoods of diffusion models with exact denoisers against the densities that these belong to, and as reports tell them."""

import math

import pytest
import torch
from helpers.exact_diffusion import GAUSSIAN, MIXTURE, NLL, PAIR, Exact, Fixed, f64, family, nodes
from scipy import stats

from fromnoise.core.capabilities import HasFlow, HasLikelihood
from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data import Dataset, Split
from fromnoise.evaluate.metrics import likelihood as likelihood_rows
from fromnoise.families import load
from fromnoise.families.diffusion import Config, Diffusion, Options
from fromnoise.probability.diffusion.bounds import log_level, probability_flow
from fromnoise.probability.diffusion.path import PATHS, RATIOS
from fromnoise.runs.load import LoadedRun

every_path = pytest.mark.parametrize("name", PATHS)
OF_TWO = Rng(0).normal("x", (12, 2)).double()


# -- the flow ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name,exact,steps",
    [("flow", PAIR, 64), ("linear", MIXTURE, 56), ("edm", Exact([[0.0]], 1.0), 8)],
)
def test_flow_likelihood_is_the_density(name, exact, steps):
    """x = scale u + shift. Exact at the lowest noise level, and there within 1e-4 nats of the data's own."""
    model = family(exact, name, scale=0.5, shift=1.5)
    offsets = (
        torch.linspace(-1.2, 1.2, 9, dtype=torch.float64)[:, None]
        * f64([1.0, -0.5])[: exact.centres.shape[1]]
    )
    u = exact.centres[torch.arange(9) % len(exact.centres)] + exact.std * offsets
    found = model.flow_log_likelihood(0.5 * u + 1.5, None, Rng(0), steps=steps, most=steps)
    jacobian = u.shape[1] * math.log(0.5)
    assert torch.allclose(
        found.log_likelihood, exact.log_density(u, RATIOS[0]) - jacobian, atol=5e-5, rtol=0
    )
    assert torch.allclose(found.log_likelihood, exact.log_density(u) - jacobian, atol=1e-4, rtol=0)
    assert bool((found.error < 5e-3).all()) and bool((found.se == 0).all())


@every_path
@pytest.mark.parametrize("target", ["eps", "x", "v", "edm"])
def test_the_flow_is_the_same_on_every_path(name, target):
    """dy / d log ratio, y of variance 1, by the score: -sin^2 (y + score(y))."""
    model, y = family(MIXTURE, name, target), Rng(0).normal("y", (5, 2)).double().requires_grad_()
    drift, low, high = probability_flow(model.denoiser(None, Options()), model.path)
    assert (low, high) == pytest.approx((math.log(RATIOS[0]), math.log(RATIOS[1])))
    for ratio in (RATIOS[0], 0.1, 1.0, 7.0, RATIOS[1]):
        cos = 1 / math.hypot(1, ratio)
        law = Exact((cos * MIXTURE.centres).tolist(), math.hypot(cos * MIXTURE.std, ratio * cos))
        score = torch.autograd.grad(law.log_density(y).sum(), y)[0]
        assert torch.allclose(
            drift(y, math.log(ratio)), -((ratio * cos) ** 2) * (y + score), atol=1e-8
        )


def test_flow_likelihood_of_the_gaussian_is_oracle_8s():
    x, _, weights = nodes()
    found = family(GAUSSIAN).flow_log_likelihood(x[::3], None, Rng(0), steps=32)
    assert -(weights.view(3, 3).sum(1) @ found.log_likelihood).item() == pytest.approx(
        NLL, abs=1e-5
    )


def test_few_steps_are_refused_and_the_error_is_seen():
    model, x = family(PAIR), OF_TWO[:, :1]
    with pytest.raises(UsageError, match="take more steps"):
        model.flow_log_likelihood(x, None, Rng(0), steps=8, most=8)
    found, truth = model.flow_log_likelihood(x, None, Rng(0)), PAIR.log_density(x, RATIOS[0])
    assert found.steps > 16 and bool((found.error <= 0.01 * math.log(2)).all())
    assert (found.log_likelihood - truth).abs().mean() < 0.01 * math.log(2) / 2


SMALL = DataSpec("image", (1, 4, 4), levels=17)


def network(spec=SMALL, **options) -> Diffusion:
    """An untrained network that says something."""
    model = Diffusion(Config(width=16, depth=1, **options), spec).eval().requires_grad_(False)
    for i, p in enumerate(model.net.parameters()):
        p.copy_(0.1 * Rng(5).normal(f"p{i}", p.shape))
    model.scale.fill_(0.6), model.shift.fill_(-0.4)
    return model


def test_exact_trace_and_probes_agree():
    model, x = network(DataSpec("vector", (6,))), Rng(0).uniform("x", (3, 6)) * 2 - 1
    settings = dict(steps=16, most=16)
    exact = model.flow_log_likelihood(x, None, Rng(0), **settings)
    many = model.flow_log_likelihood(x, None, Rng(0), probes=40, **settings)
    assert bool((many.se > 0).all()) and bool(
        ((many.log_likelihood - exact.log_likelihood).abs() < 3 * many.se).all()
    )
    x = Rng(0).uniform("image", (2, 1, 9, 9)) * 2 - 1
    large = network(DataSpec("image", (1, 9, 9), levels=17)).flow_log_likelihood(
        x, None, Rng(0), **settings
    )
    assert bool((large.se > 0).all())  # above 64 dimensions two probes, whose error is known


def test_a_likelihood_does_not_depend_on_batch_mates():
    model, x, rng = (
        network(DataSpec("vector", (3,))),
        Rng(0).uniform("x", (5, 3)) * 2 - 1,
        Rng(1).at("here"),
    )

    def rows(*i):
        return rng.per_row(i)

    for value in (
        lambda x, rng: model.log_likelihood(x, None, rng),
        lambda x, rng: model.flow_log_likelihood(x, None, rng).log_likelihood,
        lambda x, rng: model.flow_log_likelihood(x, None, rng, probes=2).log_likelihood,
    ):
        together = value(x, rows(0, 1, 2, 3, 4))
        assert torch.allclose(value(x[2:3], rows(2)), together[2:3], atol=1e-3)
        assert torch.allclose(
            value(torch.cat([1.3 * x[:2], x[2:3]]), rows(7, 8, 2))[2:], together[2:3], atol=1e-3
        )


# -- the variational bound --------------------------------------------------------------------------------------


@every_path
def test_the_bound_of_the_gaussian_is_tight(name, monkeypatch):
    """With the best denoiser nothing is lost: oracle 8's entropy. Expectations over x and eps are exact, levels a fine grid."""
    from fromnoise.probability.diffusion import bounds as diffusion

    x, eps, weights = nodes()
    model = family(GAUSSIAN, name, scale=2.0, shift=0.3)

    def fine(*arguments):
        return diffusion.variational_bound(*arguments[:5], 500, arguments[6])

    monkeypatch.setattr("fromnoise.families.diffusion.variational_bound", fine)
    value = -(weights @ model.log_likelihood(2 * x + 0.3, None, Fixed(eps))).item() - math.log(2)
    assert value == pytest.approx(NLL, abs=1e-5)
    # for a wrong denoiser it is a bound, and looser
    model.net.exact = Exact([[0.0]], 0.6)
    assert (
        -(weights @ model.log_likelihood(2 * x + 0.3, None, Fixed(eps))).item() - math.log(2)
        > NLL + 0.01
    )


def test_few_levels_give_the_same_bound_on_average():
    """Random levels for each example: unbiased, below the density's mean, and near it."""
    y = Rng(2).integers("k", 3, (4000,))
    u = MIXTURE.centres[y] + 0.3 * Rng(2).normal("u", (4000, 2)).double()
    difference = family(MIXTURE).log_likelihood(u, None, Rng(3)) - MIXTURE.log_density(u)
    se = difference.std().item() / 4000**0.5
    assert difference.mean().item() == pytest.approx(0, abs=4 * se) and se < 0.04
    again = family(MIXTURE).log_likelihood(u, None, Rng(3), 5)
    assert torch.equal(again, family(MIXTURE).log_likelihood(u, None, Rng(3)))  # any k is 1


def test_levels_are_the_mass_of_cells():
    levels = torch.linspace(-1, 1, 9, dtype=torch.float64)
    for mean, std in ((0.1, 0.2), (-0.9, 0.5), (0.25, 0.01), (3.0, 0.1)):
        found = log_level(levels, f64(mean), std, f64(0.125), f64(-1.0), f64(1.0))
        edges = [-math.inf, *(levels[:-1] + 0.125).tolist(), math.inf]
        law = stats.norm(mean, std)
        exact = [
            law.logcdf(b) + math.log1p(-math.exp(law.logcdf(a) - law.logcdf(b)))
            if b < mean
            else law.logsf(a) + math.log1p(-math.exp(law.logsf(b) - law.logsf(a)))
            for a, b in zip(edges, edges[1:])
        ]
        assert found.tolist() == pytest.approx(exact, rel=1e-6, abs=1e-12)
        assert found.logsumexp(0).item() == pytest.approx(0, abs=1e-9)
    far = log_level(
        torch.tensor([0.5]),
        torch.tensor(-0.5),
        0.002,
        torch.tensor(0.004),
        torch.tensor(-1.0),
        torch.tensor(1.0),
    )
    assert bool(torch.isfinite(far).all()) and far.item() == pytest.approx(
        -((0.996 / 0.002) ** 2) / 2, rel=0.01
    )


def one_pixel(exact, levels: int, scale: float) -> Diffusion:
    """Images of one pixel, x = scale u: exact noise-free levels are told from x_t by Bayes' rule."""
    model = (
        Diffusion(
            Config(width=8, depth=1, components=0), DataSpec("image", (1, 1, 1), levels=levels)
        )
        .double()
        .eval()
        .requires_grad_(False)
    )

    class Pixel(torch.nn.Module):
        def forward(self, y, level, condition=None, until=None):
            x_hat, eps_hat = exact.see(
                y.flatten(1), (level * math.pi / 2).cos(), (level * math.pi / 2).sin()
            )
            return (eps_hat - x_hat).view(y.shape)

    model.net = Pixel()
    model.scale.fill_(scale)
    return model


def test_the_bound_of_levels_is_their_probability():
    """Two levels, as likely as each other, well apart: log 1/2, whatever the units. The flow's density, dequantised, is no more."""
    model = one_pixel(Exact([[-1.25], [1.25]], 1e-3), 2, 0.8)
    x = f64([-1.0, 1.0]).repeat(2000).view(-1, 1, 1, 1)
    value = model.log_likelihood(x, None, Rng(0))
    assert (
        value.mean().item() == pytest.approx(-math.log(2), abs=4 * value.std().item() / 4000**0.5)
        and value.std() < 2
    )
    assert not model.continuous and model.bound == "lower"
    # a network that does not know that there are levels loses little: rounding knows them
    rough = one_pixel(Exact([[-1.25], [1.25]], 0.03), 2, 0.8).log_likelihood(x, None, Rng(0))
    assert rough.mean().item() == pytest.approx(-math.log(2), abs=0.15)


# -- reports ----------------------------------------------------------------------------------------------------


def loaded(model, x) -> LoadedRun:
    return LoadedRun(
        None,
        load("diffusion"),
        model,
        Dataset("golden", model.spec, {"test": Split(x, None, model.spec.levels)}, ""),
        0,
    )


def test_rows_of_points_stand_beside_the_truth():
    model = family(MIXTURE, scale=2.0)
    model.float()
    model.net.exact = MIXTURE
    u = (
        MIXTURE.centres[Rng(2).integers("k", 3, (600,))]
        + 0.3 * Rng(2).normal("u", (600, 2)).double()
    )
    rows = {
        found["name"]: found
        for found in likelihood_rows.rows(loaded(model, (2 * u).float().numpy()), 20, None, 0)
    }
    truth = (MIXTURE.log_density(u) - 2 * math.log(2)).mean().item()
    assert (
        rows["elbo"]["value"] == pytest.approx(truth, abs=0.2)
        and rows["elbo"]["bound"] == "lower"
        and rows["elbo"]["n"] == 600
    )
    flow = rows["flow_likelihood"]
    assert (
        flow["bound"] == "ode"
        and flow["n"] == 60
        and "exact trace" in flow["reason"]
        and flow["dequantisation"] is None
    )
    assert flow["value"] == pytest.approx(
        (MIXTURE.log_density(u[:60]) - 2 * math.log(2)).mean().item(),
        abs=flow["solver_error"] + 1e-3,
    )
    assert 0 < flow["solver_error"] < 0.01 * 2 * math.log(2) and "bits_per_dim" not in rows
    assert (
        rows["log_likelihood"]["value"] is None
        and "no such form" in rows["importance_weighted"]["reason"]
    )


@pytest.mark.slow
def test_rows_of_images_name_bound_and_dequantisation():
    spec = DataSpec("image", (1, 5, 5), levels=17)
    x = Rng(0).integers("x", 17, (40, 1, 5, 5)).numpy().astype("uint8")
    rows = likelihood_rows.rows(loaded(network(spec), x), 20, 24, 0)
    bits = {found["bound"]: found for found in rows if found["name"] == "bits_per_dim"}
    nats = {found["bound"]: found for found in rows if found["name"] in ("elbo", "flow_likelihood")}
    for kind, dequantisation, n in (("lower", None, 24), ("ode", "uniform", 16)):
        assert (
            bits[kind]["dequantisation"] == nats[kind]["dequantisation"] == dequantisation
            and bits[kind]["n"] == n
        )
        assert bits[kind]["value"] == pytest.approx(-nats[kind]["value"] / (25 * math.log(2)))
    assert bits["ode"]["solver_error"] == pytest.approx(
        nats["ode"]["solver_error"] / (25 * math.log(2))
    )
    assert (
        "2 random probes" in bits["ode"]["reason"]
        and "uniform dequantisation" in bits["ode"]["reason"]
    )
    fewer = {
        found["bound"]: found
        for found in likelihood_rows.rows(loaded(network(spec), x[:8]), 20, None, 0)
        if found["name"] == "bits_per_dim"
    }
    assert fewer["ode"]["n"] == fewer["lower"]["n"] == 8


def test_a_refused_flow_says_so(monkeypatch):
    model = family(MIXTURE).float()
    model.net.exact = MIXTURE

    def refuse(*arguments):
        raise UsageError("the solver's error is still 5 nats")

    monkeypatch.setattr(model, "flow_log_likelihood", refuse)
    rows = {
        found["name"]: found
        for found in likelihood_rows.rows(loaded(model, OF_TWO.float().numpy()), 20, None, 0)
    }
    assert (
        rows["flow_likelihood"]["value"] is None
        and "refused: the solver's error is still 5 nats" in rows["flow_likelihood"]["reason"]
    )
    assert rows["elbo"]["value"] is not None


def test_capabilities():
    model = network()
    assert isinstance(model, HasLikelihood) and isinstance(model, HasFlow)
    table = Diffusion(Config(width=8, depth=1), DataSpec("vector", (4,), blocks=(1, 3)))
    assert table.bound == "none" and "one-hot" in table.reason
    # of the model itself, however its samples are guided
    labelled = network(DataSpec("vector", (2,), classes=2), conditional=True)
    y, x = torch.tensor([0, 1]), OF_TWO[:2].float()
    assert not torch.allclose(
        labelled.log_likelihood(x, y, Rng(0)), labelled.log_likelihood(x, 1 - y, Rng(0))
    )

    def flow(x, y):
        return labelled.flow_log_likelihood(x, y, Rng(0)).log_likelihood

    assert torch.allclose(
        flow(x, y), torch.cat([flow(x[:1], y[:1]), flow(x[1:], y[1:])]), atol=1e-3
    )  # each row has its own label
    with pytest.raises(UsageError, match="give a label"):
        labelled.flow_log_likelihood(x, None, Rng(0))
    assert Options().guidance == 1
