"""The Gaussian of the data: its denoiser, its start, its flow, and the solver that is exact in it."""

import pytest
import torch

from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.families.diffusion import Config, Diffusion, Options
from fromnoise.probability.diffusion.dpm_with_known import dpm_with_known
from fromnoise.probability.diffusion.gaussian_data import GaussianData
from fromnoise.probability.diffusion.path import PATHS
from fromnoise.probability.diffusion.samplers import dpm, time_grid

every_path = pytest.mark.parametrize("name", PATHS)

# Eigenvalues of the covariance at places 1, 5, 20, 50, 100, 200, 300, for data of mean variance 1 (measured 2026-11-28).
PLACES = (1, 5, 20, 50, 100, 200, 300)
SPECTRA = {
    "mnist": (784, (76.2, 38.1, 9.14, 2.56, 0.787, 0.222, 0.106)),
    "faces": (3072, (1242.0, 104.7, 6.27, 0.278, 0.022, 0.001, 0.0001)),
    "cifar10": (3072, (959.0, 104.2, 19.2, 5.37, 1.9, 0.7, 0.36)),
    "digits": (64, (9.63, 3.73, 0.564, 0.026, 0.001, 0.001, 0.001)),
}
GROUPS = ((0, 5), (5, 20), (20, 50), (50, 100), (100, 200), (200, 300))


def spectrum(name: str) -> torch.Tensor:
    """Variances (D,) through the measured ones, linear between them in log place and log variance."""
    dims, values = SPECTRA[name]
    places = torch.tensor(PLACES, dtype=torch.float64).log()
    logs = torch.tensor(values, dtype=torch.float64).log()
    wanted = torch.arange(1, dims + 1, dtype=torch.float64).clamp(max=PLACES[-1]).log()
    right = torch.searchsorted(places, wanted).clamp(1, len(places) - 1)
    share = (wanted - places[right - 1]) / (places[right] - places[right - 1])
    return (logs[right - 1] + share * (logs[right] - logs[right - 1])).exp()


def model_of(variances: torch.Tensor, components: int | None = None) -> Diffusion:
    """A diffusion model of N(0, diag(variances)), whose Gaussian knows the leading components, and whose network the rest."""
    dims = len(variances)
    model = Diffusion(
        Config(network="mlp", width=8, depth=1, components=components, gaussians=1),
        DataSpec("vector", (dims,)),
    )
    gaussian = model.gaussian
    size = len(gaussian.variances)
    gaussian.variances.copy_(variances[:size])
    gaussian.rest.fill_(float(variances[size:].mean()) if size < dims else 1.0)
    model = model.double().eval().requires_grad_(False)
    path = model.path

    def denoiser(y, options):
        def denoise(x_t, t):
            alpha, sigma = path.coefficients(t)
            x_hat = alpha * variances / (alpha**2 * variances + sigma**2) * x_t
            return x_hat, (x_t - alpha * x_hat) / sigma

        return denoise

    model.denoiser = denoiser
    return model


def variance_ratios(model: Diffusion, variances: torch.Tensor, evaluations: int) -> list[float]:
    """Variance of samples over the true one, mean in each group of components. The map from noise to sample is linear."""

    class Ones(Rng):
        def normal(self, name, shape):
            return torch.ones(shape, dtype=torch.float64)

    sample = model.sample(1, None, Options(steps=evaluations), Ones(0))[0]
    ratio = sample.square() / variances
    return [float(ratio[a:b].mean()) for a, b in GROUPS if b <= len(variances) or a == 0]


@pytest.mark.parametrize("evaluations,error", [(10, 0.05), (20, 0.02)])
@pytest.mark.parametrize("name", SPECTRA)
def test_an_exact_denoiser_gives_samples_of_the_right_variance_in_every_component(
    name, evaluations, error
):
    variances = spectrum(name)
    ratios = variance_ratios(model_of(variances), variances, evaluations)
    assert max(abs(ratio - 1) for ratio in ratios) < error, ratios


def test_dpm_without_the_gaussian_is_far_from_that():
    """The default grid of before, which the test above would not have passed."""
    variances = spectrum("mnist")
    model = model_of(variances)
    times = time_grid(model.path, 10, "rho")
    alpha, sigma = model.path.coefficients(times[0])
    x = torch.hypot(alpha, sigma) * torch.ones(1, len(variances), dtype=torch.float64)
    ratio = dpm(model.denoiser(None, None), x, model.path, times)[0].square() / variances
    assert float(ratio[20:50].mean()) > 1.25


@every_path
def test_without_components_the_solver_is_dpm(name):
    path = PATHS[name]()
    gaussian = GaussianData(3, 0).double()
    times = time_grid(path, 7)
    x = Rng(0).normal("x", (4, 3)).double()

    def denoise(x_t, t):
        alpha, sigma = path.coefficients(t)
        x_hat = torch.tanh(x_t / torch.hypot(alpha, sigma))
        return x_hat, (x_t - alpha * x_hat) / sigma

    assert torch.allclose(
        dpm_with_known(denoise, x, path, times, gaussian), dpm(denoise, x, path, times), atol=1e-12
    )


def sharp_mixture(path, variance: float):
    """The exact denoiser of two points at +-1 with a little noise, and a Gaussian with the same mean and variance."""

    def denoise(x_t, t):
        alpha, sigma = path.coefficients(t)
        y = x_t / alpha
        r2 = (sigma / alpha) ** 2
        centre = torch.tanh(y / (variance + r2))
        x_hat = centre + variance / (variance + r2) * (y - centre)
        return x_hat, (x_t - alpha * x_hat) / sigma

    gaussian = GaussianData(1, 1).double()
    gaussian.variances.fill_(1 + variance)
    return denoise, gaussian


def test_it_is_of_second_order_where_the_data_are_not_gaussian():
    path = PATHS["flow"]()
    denoise, gaussian = sharp_mixture(path, 0.05)
    x = torch.linspace(-60, 60, 41, dtype=torch.float64)[:, None]

    def at_the_last_time(n):
        times = path.at(torch.linspace(4, -3, n, dtype=torch.float64).exp())
        states = []
        dpm_with_known(
            denoise, x, path, times, gaussian, on_step=lambda i, x, x_hat: states.append(x)
        )
        return states[-2]

    exact = at_the_last_time(3000)
    errors = [float((at_the_last_time(n) - exact).abs().max()) for n in (50, 100, 200)]
    assert errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3


def test_start_and_to_noise_are_inverse_and_have_the_covariance_of_noisy_data():
    x = (
        Rng(1).normal("x", (4000, 5)).double()
        @ torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1]).double())
        + 2
    )
    gaussian = GaussianData(5, 3).double()
    gaussian.fit(lambda: iter([(x[:1000], None), (x[1000:], None)]), 1e-6, Rng(0))
    alpha, sigma = torch.tensor(0.3).double(), torch.tensor(0.7).double()
    z = Rng(2).normal("z", (20_000, 5)).double()
    x_t = gaussian.start(z, alpha, sigma)
    assert torch.allclose(gaussian.to_noise(x_t, alpha, sigma), z)
    # two components are known by their mean variance only
    rest = torch.tensor((0.5**2 + 0.1**2) / 2).double()
    wanted = 0.3**2 * torch.tensor([9.0, 4.0, 1.0, rest, rest]).double() + 0.7**2
    assert torch.allclose(x_t.var(0), wanted, rtol=0.08)
    assert torch.allclose(x_t.mean(0), 0.3 * x.mean(0), atol=0.05)


def test_the_denoiser_is_the_best_linear_one():
    mix = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.5, 0.3]]).double()
    x = Rng(3).normal("x", (50_000, 3)).double() @ mix + 1
    gaussian = GaussianData(3, 3).double()
    gaussian.fit(lambda: iter([(x, None)]), 1e-9, Rng(0))
    x_t = 0.6 * x + 0.8 * Rng(4).normal("e", x.shape).double()
    ones = torch.ones(len(x), 1).double()
    best = torch.linalg.lstsq(torch.cat([x_t, ones], 1), x).solution
    expected = torch.cat([x_t, ones], 1) @ best
    assert torch.allclose(
        gaussian.denoise(x_t, torch.tensor(0.6), torch.tensor(0.8)), expected, atol=0.05
    )


def test_of_few_rows_no_direction_is_taken_for_certain():
    x = Rng(5).normal("x", (20, 200))
    few = GaussianData(200, 200)
    few.fit(lambda: iter([(x, None)]), 1e-9, Rng(0))
    assert float(few.variances.min()) > 0.3 and float(few.variances.max()) < 3
    many = GaussianData(4, 4)
    many.fit(
        lambda: iter(
            [(Rng(6).normal("x", (50_000, 4)) * torch.tensor([2.0, 1.0, 0.5, 0.1]), None)]
        ),
        1e-9,
        Rng(0),
    )
    assert torch.allclose(many.variances.sqrt(), torch.tensor([2.0, 1.0, 0.5, 0.1]), rtol=0.03)


def test_before_the_first_step_a_model_is_the_gaussian_of_its_data():
    x = (Rng(7).normal("x", (5000, 1, 2, 2)) @ torch.tensor([[0.1, 0.05], [0.0, 0.1]])).clamp(-1, 1)
    spec = DataSpec("image", (1, 2, 2), levels=256)
    model = Diffusion(Config(width=8, depth=1), spec).eval().requires_grad_(False)
    model.fit_before(lambda: iter([Batch(x, None)]), Rng(0))
    samples = model.sample(20_000, None, Options(steps=2), Rng(8)).flatten(1)
    assert torch.allclose(torch.cov(samples.T), torch.cov(x.flatten(1).T), atol=6e-4)


def test_training_sees_the_gaussian_in_full_precision():
    """Under bfloat16 autocast too: rounded, its error would be larger than the smallest noise."""
    model = Diffusion(Config(width=8, depth=1), DataSpec("image", (1, 6, 6), levels=256)).eval()
    x = Rng(9).normal("x", (8, 1, 6, 6))
    alpha, sigma = torch.tensor(0.99), torch.tensor(0.01)
    plain = model.gaussian.denoise(x, alpha, sigma)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.gaussian.denoise(x, alpha, sigma), plain)
