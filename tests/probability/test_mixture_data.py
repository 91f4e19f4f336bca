"""The mixture of Gaussians of the data: how it is fitted, its denoiser, and the solver that evaluates it between two evaluations of a network."""

import math

import pytest
import torch
from sklearn.mixture import GaussianMixture

from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.families.diffusion import Config, Diffusion, Options
from fromnoise.probability import em
from fromnoise.probability.diffusion.dpm_with_known import dpm_with_known
from fromnoise.probability.diffusion.gaussian_data import GaussianData
from fromnoise.probability.diffusion.mixture_data import MixtureData, class_weights
from fromnoise.probability.diffusion.path import PATHS
from fromnoise.probability.diffusion.samplers import dpm, time_grid


def three_groups(n: int, d: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (n, d) float64 around three centres, each direction with its own spread, and which centre each belongs to."""
    rng = Rng(seed)
    centres = 4 * rng.normal("centres", (3, d)).double()
    which = torch.from_numpy(rng.numpy("which").integers(3, size=n))
    spread = torch.linspace(0.3, 1.0, d).double()
    return centres[which] + spread * rng.normal("rows", (n, d)).double(), which


# -- em ------------------------------------------------------------------------------------------------------


def maximised(z: torch.Tensor, responsibilities: torch.Tensor) -> em.Mixture:
    sums = em.Sums.zero(responsibilities.shape[1], z.shape[1])
    sums.add(z, em.pair_products(z), responsibilities)
    return sums.maximise(0.0)


def as_sklearn(mixture: em.Mixture) -> GaussianMixture:
    oracle = GaussianMixture(len(mixture.weights))
    oracle.weights_, oracle.means_ = mixture.weights.numpy(), mixture.means.numpy()
    oracle.precisions_cholesky_ = torch.linalg.cholesky(mixture.covariances.inverse()).numpy()
    return oracle


def test_density_and_responsibilities_are_those_of_scikit_learn():
    z, _ = three_groups(500)
    mixture = em.fit_mixture(z, 4, 0.0, Rng(1))
    oracle = as_sklearn(mixture)
    assert torch.allclose(
        mixture.log_density(z), torch.from_numpy(oracle.score_samples(z.numpy())), atol=1e-9
    )
    assert torch.allclose(
        mixture.responsibilities(z), torch.from_numpy(oracle.predict_proba(z.numpy())), atol=1e-9
    )


def test_a_maximisation_is_that_of_the_formula():
    z, which = three_groups(400)
    one = torch.nn.functional.one_hot(which, 3).double()
    mixture = maximised(z, one)
    d = z.shape[1]
    parts = [z[which == k] for k in range(3)]
    own = [torch.cov(part.T, correction=0) for part in parts]
    common = sum(len(part) / len(z) * cov for part, cov in zip(parts, own))
    for k, part in enumerate(parts):
        wanted = (len(part) * own[k] + d * common) / (
            len(part) + d
        ) + em.FLOOR * common.diagonal().mean() * torch.eye(d).double()
        assert torch.allclose(mixture.means[k], part.mean(0)) and torch.allclose(
            mixture.covariances[k], wanted
        )
        assert mixture.weights[k] == pytest.approx(len(part) / len(z))


def test_a_component_of_one_row_has_a_covariance_of_full_rank():
    z, _ = three_groups(50, d=10)
    alone = torch.zeros(50, 2, dtype=torch.float64)
    alone[:, 0] = 1
    alone[0] = torch.tensor([0.0, 1.0])
    mixture = maximised(z, alone)
    assert float(torch.linalg.eigvalsh(mixture.covariances[1]).min()) > 0.01


def test_held_out_rows_choose_the_number_of_components():
    z, _ = three_groups(4000)
    assert em.select_mixture(z, 64, 4e-6, Rng(0))[1] in (2, 4)
    gaussian = Rng(2).normal("z", (4000, 3)).double()
    assert em.select_mixture(gaussian, 64, 4e-6, Rng(0))[1] == 1
    assert em.select_mixture(gaussian[:5], 64, 4e-6, Rng(0))[1] == 1


def test_components_belong_to_one_class_each():
    """Two classes around the same centre, one narrow and one of two parts: only labels tell them apart."""
    rng = Rng(15)
    y = torch.arange(4000) % 2
    x = torch.where((y == 0)[:, None], 0.3, 1.0) * rng.normal("x", (4000, 2)).double()
    x[:, 0] += torch.where(y == 1, 4.0 * torch.sign(x[:, 0]), 0.0)
    mixture, each = em.select_mixture(x, 8, 4e-6, Rng(0), y, 2)
    assert each in (2, 4)
    owned = em.component_classes(each, 2)
    for c in range(2):
        share = mixture.weights * owned[c]
        share = share / share.sum()
        mean = share @ mixture.means
        second = torch.einsum(
            "k,kde->de",
            share,
            mixture.covariances + mixture.means[:, :, None] * mixture.means[:, None, :],
        )
        assert torch.allclose(mean, x[y == c].mean(0), atol=0.05)
        assert torch.allclose(
            second - mean[:, None] * mean, torch.cov(x[y == c].T), atol=0.1, rtol=0.05
        )
    # far more classes than rows of each
    sparse, _ = em.select_mixture(x[:300], 300, 4e-6, Rng(0), torch.arange(300) % 150, 150)
    assert bool(torch.isfinite(sparse.log_density(x)).all())


def test_the_same_rows_give_the_same_mixture():
    z, _ = three_groups(300)
    one, other = em.fit_mixture(z, 5, 0.0, Rng(3)), em.fit_mixture(z, 5, 0.0, Rng(3))
    assert torch.equal(one.means, other.means) and torch.equal(one.covariances, other.covariances)
    assert not torch.equal(one.means, em.fit_mixture(z, 5, 0.0, Rng(4)).means)


def test_rows_that_do_not_differ_and_columns_that_are_constant_have_a_mixture():
    z, _ = three_groups(400)
    z[:, 1] = 2.0
    assert bool(torch.isfinite(em.select_mixture(z, 16, 4e-6, Rng(0))[0].log_density(z)).all())
    assert bool(
        torch.isfinite(
            em.select_mixture(torch.ones(50, 3).double(), 4, 4e-6, Rng(0))[0].log_density(z)
        ).all()
    )


# -- the denoiser --------------------------------------------------------------------------------------------


def fitted(
    x: torch.Tensor, y: torch.Tensor | None = None, classes: int = 0, size: int | None = None
) -> MixtureData:
    known = MixtureData(x[0].numel(), size or x[0].numel(), 16, classes).to(x.dtype)
    known.fit(
        lambda: iter(
            [(x[:100], None if y is None else y[:100]), (x[100:], None if y is None else y[100:])]
        ),
        1e-6,
        Rng(0),
    )
    return known


def test_the_denoiser_is_the_gradient_of_the_density_of_noisy_data():
    """E[x | y] = y + r^2 grad log q_r(y) (Tweedie), with q_r from the fitted parameters by torch.distributions."""
    x, _ = three_groups(3000)
    known = fitted(x)
    r, alpha = 0.7, 0.8
    used = int((known.weights[-1] > 0).sum())
    assert used > 1
    covariances = known.axes @ torch.diag_embed(known.spreads + r**2) @ known.axes.transpose(1, 2)
    components = torch.distributions.MultivariateNormal(known.means[:used], covariances[:used])
    law = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(known.weights[-1, :used]), components
    )
    y = (x[:50] + r * Rng(5).normal("e", (50, 3)).double()).requires_grad_(True)
    (gradient,) = torch.autograd.grad(law.log_prob((y - known.mean) @ known.basis).sum(), y)
    found = known.denoise(
        alpha * y.detach(), torch.tensor(alpha).double(), torch.tensor(alpha * r).double()
    )
    assert torch.allclose(found, y.detach() + r**2 * gradient, atol=1e-9)


def test_it_denoises_better_than_the_gaussian_and_never_loses_to_it_where_noise_is_strong():
    rows, _ = three_groups(6000)
    x, fresh = rows[:3000], rows[3000:]
    known, gaussian = fitted(x), GaussianData(3, 3).double()
    gaussian.fit(lambda: iter([(x, None)]), 1e-6, Rng(0))
    for r, most in ((0.5, 0.95), (2.0, 0.8), (50.0, 1.001)):
        at = torch.tensor(1.0).double(), torch.tensor(r).double()
        y = fresh + r * Rng(6).normal("e", fresh.shape).double()
        error = [float((m.denoise(y, *at) - fresh).square().mean()) for m in (known, gaussian)]
        assert error[0] < most * error[1]


def test_outside_of_the_basis_it_is_the_gaussian():
    x, _ = three_groups(2000, d=6)
    known, gaussian = fitted(x, size=2), GaussianData(6, 2).double()
    gaussian.fit(lambda: iter([(x, None)]), 1e-6, Rng(0))
    at = torch.tensor(0.6).double(), torch.tensor(0.8).double()

    def outside(model):
        return model.split(model.denoise(x[:20], *at) - model.mean)[1]

    assert torch.allclose(outside(known), outside(gaussian), atol=1e-9)


def test_a_label_weighs_the_components_of_its_class():
    x, which = three_groups(3000)
    known = fitted(x, which, classes=4)
    centres = torch.stack([x[which == k].mean(0) for k in range(3)])
    nothing = torch.zeros(3, 3).double()
    strong = torch.tensor(1.0).double(), torch.tensor(30.0).double()
    one_hot = torch.eye(4).double()
    assert torch.allclose(known.denoise(nothing, *strong, one_hot[:3]), centres, atol=0.2)
    unlabelled = known.denoise(nothing, *strong)
    assert torch.allclose(known.denoise(nothing, *strong, torch.zeros(3, 4).double()), unlabelled)
    assert torch.allclose(unlabelled, x.mean(0).expand(3, 3), atol=0.2)
    # a class without examples has the weights of all
    assert torch.allclose(
        known.denoise(nothing, *strong, one_hot[3:].expand(3, 4)), unlabelled, atol=0.05
    )


def test_weights_by_class_are_shares():
    share = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]]).double()
    found = class_weights(share, torch.tensor([0, 0, 1]), 3)
    assert torch.allclose(found.sum(1), torch.ones(3).double())
    assert torch.allclose(found[2], torch.tensor([0.5, 0.5]).double())
    assert torch.allclose(found[0], torch.tensor([1.1, 0.9]).double() / 2, atol=1e-3)
    assert torch.allclose(found[1], torch.tensor([0.4, 0.6]).double(), atol=1e-3)


def test_the_components_that_are_not_used_do_not_matter():
    x, _ = three_groups(3000)
    known = fitted(x)
    used = int((known.weights[-1] > 0).sum())
    assert 1 < used < 16
    at = torch.tensor(0.6).double(), torch.tensor(0.8).double()
    before = known.denoise(x[:9], *at)
    known.means[used:] = float("nan")
    assert torch.equal(known.denoise(x[:9], *at), before)


@pytest.mark.parametrize("n", [5, 20, 50])
def test_of_few_rows_it_is_shrunk_as_the_gaussian_is(n):
    x = Rng(10).normal("x", (n + 2000, 64)).double()
    known, gaussian = MixtureData(64, 64, 64).double(), GaussianData(64, 64).double()
    for model in (known, gaussian):
        model.fit(lambda: iter([(x[:n], None)]), 1e-6, Rng(0))
    at = torch.tensor(1.0).double(), torch.tensor(0.3).double()
    y = x[n:] + 0.3 * Rng(11).normal("e", (2000, 64)).double()
    errors = [float((model.denoise(y, *at) - x[n:]).square().mean()) for model in (known, gaussian)]
    assert errors[0] < 1.02 * errors[1] and errors[1] < 0.1


def test_one_component_is_chosen_where_more_are_no_better():
    sizes = [
        em.select_mixture(Rng(seed).normal("z", (100, 2)).double(), 16, 4e-6, Rng(seed))[1]
        for seed in range(12)
    ]
    assert sum(size > 1 for size in sizes) <= 1, sizes


@pytest.mark.parametrize("levels,d", [(2, 3), (2, 6), (3, 2), (5, 4)])
def test_rows_of_few_distinct_values_have_a_mixture(levels, d):
    """Not exact in binary: the covariance of equal rows is then not exactly 0, and may be below it."""
    x = torch.from_numpy(Rng(12).numpy("x").integers(levels, size=(1000, d))) / 3.0 - 0.7
    known = MixtureData(d, d, 64)
    known.fit(lambda: iter([(x.float(), None)]), 4e-6, Rng(0))
    assert bool(
        torch.isfinite(known.denoise(x.float(), torch.tensor(1.0), torch.tensor(0.1))).all()
    )


def test_a_class_has_its_own_mean_where_the_components_do_not_know_it():
    """Classes apart along the last principal component, which the mixture does not hold, and along the first."""
    which = torch.arange(4000) % 2
    x = Rng(13).normal("x", (4000, 80)).double() * torch.linspace(3, 0.5, 80).double()
    x[:, 79] += 1.5 * (2 * which - 1)
    x[:, 0] += 2.0 * (2 * which - 1)
    known = fitted(x, which, classes=2)
    for label in range(2):
        mean = known.conditional_mean(x[:1], torch.eye(2).double()[[label]])
        assert torch.allclose(mean[0], x[which == label].mean(0), atol=0.1)
        strong = torch.tensor(1.0).double(), torch.tensor(1000.0).double()
        found = known.denoise(torch.zeros(1, 80).double(), *strong, torch.eye(2).double()[[label]])
        assert torch.allclose(found[0], x[which == label].mean(0), atol=0.1)
    assert float(known.within[0]) < 0.8 * float(known.variances[0])


def test_the_law_of_a_class_is_the_mixture_moved_to_its_mean():
    """More classes than components, so that the one component belongs to none."""
    which = torch.arange(2000) % 2
    x = Rng(16).normal("x", (2000, 2)).double()
    x[:, 0] += 2.0 * (2 * which - 1)
    known = MixtureData(2, 2, 1, classes=2).double()
    known.fit(lambda: iter([(x, which)]), 1e-6, Rng(0))
    u, r = Rng(17).normal("u", (50, 2)).double(), torch.tensor(0.8).double()
    for label in range(2):
        condition = torch.eye(2).double()[[label]].expand(50, 2)
        offset = known.class_means(condition)
        assert torch.allclose(
            known.denoise_along(u + offset, r, condition), offset + known.denoise_along(u, r)
        )
        assert float(offset.abs().max()) > 1.5


def test_classes_of_few_rows_do_not_leak():
    rng = Rng(14)
    which = torch.arange(200) % 10
    x = 8 * rng.normal("centres", (10, 8)).double()[which] + rng.normal("x", (200, 8)).double()
    known = fitted(x, which, classes=10)
    share = (known.weights[:-1, : known.used()] ** 2).sum(1)
    assert known.used() == 1 or float((known.weights[:-1].amax(1)).min()) > 0.3, share


def test_many_rows_are_denoised_in_parts(monkeypatch):
    from fromnoise.probability.diffusion import mixture_data

    x, which = three_groups(3000)
    known = fitted(x, which, classes=3)
    at = torch.full((50,), 0.8).double(), torch.linspace(0.1, 0.9, 50).double()
    condition = torch.nn.functional.one_hot(which[:50], 3).double()
    whole = known.denoise(x[:50], *at, condition)
    monkeypatch.setattr(mixture_data, "ENTRIES", known.means.numel() * 7)
    assert torch.allclose(known.denoise(x[:50], *at, condition), whole)
    assert torch.allclose(
        known.denoise(x[:50], at[0][0], at[1][3]),
        torch.cat([known.denoise(x[i : i + 1], at[0][0], at[1][3]) for i in range(50)]),
    )


# -- the solver ----------------------------------------------------------------------------------------------


def denoiser_of(known, path, correction: float = 0.0):
    """What the mixture sees, and a smooth correction that the solver does not know."""

    def denoise(x_t, t):
        alpha, sigma = path.coefficients(t)
        x_hat = known.denoise(x_t, alpha, sigma)
        r = sigma / alpha
        x_hat = x_hat + correction * torch.sin(x_t / torch.hypot(alpha, sigma)) * r / (1 + r)
        return x_hat, (x_t - alpha * x_hat) / sigma

    return denoise


@pytest.mark.parametrize("name", PATHS)
def test_ten_evaluations_are_close_to_the_converged_flow_of_a_mixture(name):
    x, _ = three_groups(3000)
    known, path = fitted(x), PATHS[name]()
    denoise = denoiser_of(known, path)
    z = Rng(7).normal("z", (200, 3)).double()

    def solved(evaluations, solver):
        times = time_grid(path, evaluations, "log", 0.02, 30.0)
        return solver(denoise, known.start(z, *path.coefficients(times[0])), path, times)

    def ours(d, x, path, times):
        return dpm_with_known(d, x, path, times, known)

    converged = solved(400, ours)
    few = float((solved(10, ours) - converged).square().mean())
    assert few < 0.2 * float((solved(10, dpm) - converged).square().mean())
    assert float((solved(400, dpm) - converged).square().mean()) < 1e-2


def test_a_correction_of_the_mixture_is_extrapolated_in_second_order():
    x, _ = three_groups(3000)
    known, path = fitted(x), PATHS["flow"]()
    denoise = denoiser_of(known, path, correction=0.3)
    z = Rng(8).normal("z", (200, 3)).double()

    def at_the_last_time(evaluations):
        times, states = time_grid(path, evaluations, "log", 0.3, 30.0), []
        start = known.start(z, *path.coefficients(times[0]))
        dpm_with_known(
            denoise, start, path, times, known, on_step=lambda i, x, x_hat: states.append(x)
        )
        return states[-2]

    exact = at_the_last_time(1500)
    errors = [float((at_the_last_time(n) - exact).square().mean().sqrt()) for n in (25, 50, 100)]
    assert errors[0] / errors[1] > 2.8 and errors[1] / errors[2] > 2.8, errors


def test_four_long_steps_overshoot_less_than_full_slopes_would(monkeypatch):
    """A network corrects what it knows at noise like the data's: over long steps of log r that is no straight line."""
    x, _ = three_groups(3000)
    known, path = fitted(x), PATHS["flow"]()
    exact = denoiser_of(known, path)
    z = Rng(9).normal("z", (500, 3)).double()

    def denoise(x_t, t):
        alpha, sigma = path.coefficients(t)
        x_hat, _ = exact(x_t, t)
        near = float(torch.exp(-((sigma / alpha).log() ** 2)))
        return x_hat + 0.3 * near * torch.sin(x_t), None

    def solved(evaluations):
        times = time_grid(path, evaluations, "log", 0.05, 60.0)
        return dpm_with_known(
            denoise, known.start(z, *path.coefficients(times[0])), path, times, known
        )

    converged = solved(400)
    error = float((solved(4) - converged).square().mean())
    monkeypatch.setattr("fromnoise.probability.diffusion.dpm_with_known.REACH", math.inf)
    assert error < 0.6 * float((solved(4) - converged).square().mean())


# -- the model -----------------------------------------------------------------------------------------------


def test_before_the_first_step_a_model_draws_from_the_mixture_of_its_data():
    x, which = three_groups(6000)
    spec = DataSpec("vector", (3,), classes=3)
    model = (
        Diffusion(Config(width=8, depth=1, conditional=True, gaussians=64), spec)
        .eval()
        .requires_grad_(False)
    )
    model.fit_before(lambda: iter([Batch(x.float(), which)]), Rng(0))
    for label in range(3):
        samples = model.sample(4000, torch.full((4000,), label), Options(steps=10), Rng(1)).double()
        own = x[which == label]
        assert torch.allclose(samples.mean(0), own.mean(0), atol=0.1)
        assert torch.allclose(samples.std(0), own.std(0), rtol=0.05)


def test_images_have_a_mixture_and_vectors_one_gaussian():
    image, vector = DataSpec("image", (1, 6, 6), levels=256), DataSpec("vector", (3,))
    assert isinstance(Diffusion(Config(width=8), image).gaussian, MixtureData)
    assert type(Diffusion(Config(width=8, gaussians=1), image).gaussian) is GaussianData
    assert type(Diffusion(Config(), vector).gaussian) is GaussianData
    assert isinstance(Diffusion(Config(gaussians=8), vector).gaussian, MixtureData)
    assert Diffusion(Config(components=0), vector).gaussian is None


def test_a_model_of_one_gaussian_has_the_names_that_earlier_checkpoints_have():
    model = Diffusion(Config(gaussians=1), DataSpec("vector", (3,)))
    names = {name for name in model.state_dict() if name.startswith("gaussian.")}
    assert names == {"gaussian.mean", "gaussian.basis", "gaussian.variances", "gaussian.rest"}


def test_a_ratio_on_the_cpu_goes_with_a_gaussian_on_another_device():
    """As the solver calls it, whose times are on the CPU. The meta device refuses what a GPU refuses."""
    gaussian = GaussianData(6, 6).to("meta")
    found = gaussian.denoise_along(torch.zeros(5, 6, device="meta"), torch.tensor(0.5).double())
    assert found.shape == (5, 6) and found.device.type == "meta"
