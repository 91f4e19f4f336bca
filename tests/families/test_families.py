"""Every family conforms; and the classical ones and the autoencoder give known answers."""

import math

import numpy as np
import pytest
import torch
from helpers.probabilistic_pca import LOG_P, VARIANCE, W, X
from scipy import stats

from fromnoise import families
from fromnoise.checks.conformance import check_family
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.families import autoencoder, classical

SMALL_AR = {"width": 16, "depth": 1, "heads": 2, "batch_size": 8}
NARROW = {
    "diffusion": {"width": 16, "gaussians": 4},
    "gan": {"width": 8},
    "vaegan": {"width": 8},
    "vqvae": {"width": 8},
    "autoregressive": SMALL_AR,
}  # the same code in less time
CASES = [(name, NARROW.get(name, {})) for name in families.names()] + [
    ("vaegan", {"objective": "larsen", "network": "mlp", "hidden": (32,)}),
    ("vae", {"preset": "ladder", "width": 8, "blocks": 1, "latent_dim": 4}),
    ("vae", {"preset": "conv", "width": 8, "latent_dim": 4, "optimizer": "muon"}),
    ("vae", {"objective": "iwae", "k": 3, "likelihood": "gaussian"}),
    ("autoencoder", {"preset": "denoising", "hidden": (32,)}),
    ("classical", {"model": "ppca"}),
    ("classical", {"model": "pca"}),
    *(
        ("autoregressive", SMALL_AR | {"preset": preset, "order": order})
        for preset, order in (("ngram", 3), ("hybrid", 2), ("gru", 0), ("conv", 0), ("logistic", 0))
    ),
    ("autoregressive", {"preset": "counts", "binarise": "dynamic"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name,options",
    CASES,
    ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values())) or "default",
)
def test_conformance(name, options):
    failed = [f"{r['check']}: {r['detail']}" for r in check_family(name, **options) if not r["ok"]]
    assert not failed, failed


# -- the classical models ---------------------------------------------------------------------------------------


def fitted(
    model: str, x: torch.Tensor, latent_dim: int, components: int = 3
) -> classical.Classical:
    spec = DataSpec("vector", (x.shape[1],))
    family = classical.Classical(
        classical.Config(model=model, latent_dim=latent_dim, components=components), spec
    ).double()
    family.fit(lambda: iter([Batch(x[:50]), Batch(x[50:])]), Rng(0))
    return family


def correlated(n=4000, D=5) -> torch.Tensor:
    return Rng(2).normal("x", (n, D)).double() @ (Rng(3).normal("A", (D, D)).double()) + 1.5


def test_ppca_log_likelihood_golden():
    family = classical.Classical(
        classical.Config(model="ppca", latent_dim=2), DataSpec("vector", (5,))
    ).double()
    U, S, _ = torch.linalg.svd(W, full_matrices=False)
    family.basis.copy_(U), family.eigenvalues.copy_(S**2 + VARIANCE), family.noise.fill_(VARIANCE)
    assert family.log_likelihood(X[None], None, Rng(0)).item() == pytest.approx(LOG_P, abs=1e-6)


def test_ppca_is_the_gaussian_it_says():
    x = correlated()
    family = fitted("ppca", x, 2)
    Wh = family.basis * family.shrink
    reference = stats.multivariate_normal(
        family.mean.numpy(), (Wh @ Wh.T + family.noise * torch.eye(5)).numpy()
    )
    assert np.allclose(
        family.log_likelihood(x[:9], None, Rng(0)), reference.logpdf(x[:9].numpy()), atol=1e-9
    )
    drawn = family.sample(40_000, None, classical.Options(draw="sample"), Rng(1))
    assert torch.allclose(drawn.T.cov(), torch.tensor(reference.cov), atol=0.35)


def test_ppca_fit_is_the_maximum_of_the_likelihood():
    """No other noise level explains the training data better (Tipping & Bishop 1999, eq. 8)."""
    x = correlated()
    family = fitted("ppca", x, 2)
    best = family.log_likelihood(x, None, Rng(0)).mean()
    for factor in (0.9, 1.1):
        other = fitted("ppca", x, 2)
        other.noise.mul_(factor)
        assert other.log_likelihood(x, None, Rng(0)).mean() < best


def test_mixture_density_integrates_to_one():
    x = torch.cat(
        [Rng(0).normal("a", (300, 2)) * 0.3, Rng(0).normal("b", (300, 2)) * 0.5 + 2]
    ).double()
    grid = torch.linspace(-4, 6, 301, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    for latent_dim in (1, 2):
        family = fitted("mixture", x, latent_dim)
        mass = family.log_likelihood(points, None, Rng(0)).exp().sum() * (grid[1] - grid[0]) ** 2
        assert mass.item() == pytest.approx(1, abs=2e-3)


def test_pca_reconstruction_is_sklearns():
    from sklearn.decomposition import PCA

    x = correlated()
    reference = PCA(2).fit(x.numpy())
    expected = reference.inverse_transform(reference.transform(x.numpy()))
    assert np.allclose(fitted("pca", x, 2).reconstruct(x), expected, atol=1e-9)


# -- the autoencoder --------------------------------------------------------------------------------------------


def test_a_linear_autoencoder_reaches_pca_within_one_percent():
    """Spectrum 1/k, D = 20, code 2: the best linear error per dimension is known (evaluation.md 4.5)."""
    D, n = 20, 20_000
    spectrum = 1 / torch.arange(1, D + 1).double()
    best = (spectrum[2:].sum() / D).item()
    assert best == pytest.approx(0.104886983, abs=1e-9)
    x = Rng(0).normal("x", (n, D)) * spectrum.sqrt().float()
    x = x - x.mean(0)
    eigenvalues = torch.linalg.eigvalsh(x.double().T @ x.double() / n)
    pca = (eigenvalues[:-2].sum() / D).item()
    torch.manual_seed(0)
    config = autoencoder.Config(hidden=(), latent_dim=2, activation="linear")
    family = autoencoder.Autoencoder(config, DataSpec("vector", (D,)))
    optimizer = torch.optim.Adam(family.parameters(), lr=1e-2)
    steps = 800
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        optimizer.zero_grad()
        family.loss(Batch(x[(step * 500) % n :][:500]), "reconstruction", Rng(0)).value.backward()
        optimizer.step()
    error = (family.reconstruct(x) - x).square().mean().item()
    assert pca * 0.9999 <= error <= 1.01 * pca


def test_lecture_preset_is_the_lectures_network_and_loss():
    spec = DataSpec("image", (1, 28, 28), levels=256)
    config = autoencoder.Config(
        **{
            k: v
            for k, v in autoencoder.PRESETS["lecture"].items()
            if k in autoencoder.Config.model_fields
        }
    )
    family = autoencoder.Autoencoder(config, spec)
    shapes = [tuple(p.shape) for p in family.parameters()]
    assert shapes == [(512, 784), (512,), (2, 512), (2,), (512, 2), (512,), (784, 512), (784,)]
    x = Rng(0).uniform("x", (3, 1, 28, 28)) * 2 - 1
    x_hat = family.reconstruct(x)

    def unit(v):
        return (v + 1) / 2

    lecture = 0.5 * (unit(x_hat) - unit(x)).square().flatten(1).sum(1).mean()
    assert family.loss(Batch(x), "reconstruction", Rng(0)).value.item() == pytest.approx(
        lecture.item(), rel=1e-5
    )
    assert unit(x_hat).min() >= 0 and unit(x_hat).max() <= 1


@pytest.mark.parametrize("kind", ["gaussian", "mask", "salt-pepper"])
def test_corruption_does_what_it_says(kind):
    spec = DataSpec("image", (1, 28, 28), levels=256)
    family = autoencoder.Autoencoder(
        autoencoder.Config(corruption=kind, corruption_level=0.4, hidden=(4,)), spec
    )
    x = torch.zeros(500, 1, 28, 28)  # mid-grey
    noisy = family.corrupt(x, Rng(0))
    if kind == "gaussian":
        assert (noisy / 2).std().item() == pytest.approx(
            0.4, abs=0.005
        )  # sigma on the scale [0, 1]
    if kind == "mask":
        assert (noisy == -1).float().mean().item() == pytest.approx(0.4, abs=0.005)
    if kind == "salt-pepper":
        assert [(noisy == v).float().mean().item() for v in (-1, 1)] == pytest.approx(
            [0.2, 0.2], abs=0.005
        )
    assert torch.equal(family.corrupt(x, Rng(0), 0.0), x)
    loss, x_hat = family.loss(Batch(x), "reconstruction", Rng(0)), family.reconstruct(noisy)
    clean = 0.5 * (0.5 * (x_hat - x)).square().flatten(1).sum(1).mean()  # the target is clean
    assert loss.value.item() == pytest.approx(clean.item(), rel=1e-4)
    assert loss.terms["mse"].item() == pytest.approx((x_hat - x).square().mean().item(), rel=1e-4)


def test_ex_post_density_puts_samples_where_the_codes_are():
    spec = DataSpec("vector", (2,))
    family = autoencoder.Autoencoder(
        autoencoder.Config(latent_dim=2, hidden=(), components=2), spec
    )
    x = torch.cat([Rng(0).normal("a", (400, 2)) * 0.1 + 3, Rng(0).normal("b", (400, 2)) * 0.1 - 3])
    family.fit(lambda: iter([Batch(x)]), Rng(0))
    z = family.density.sample(2000, Rng(1))
    codes = family.encode(x)
    assert torch.cdist(z, codes).min(1).values.max() < 0.5
    assert math.isclose(
        torch.cdist(z, codes[:400]).min(1).values.lt(0.5).float().mean().item(), 0.5, abs_tol=0.05
    )
