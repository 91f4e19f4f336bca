"""Autoencoders against what linear algebra says is best (evaluation.md 4.5): data N(0, diag(1/k)), D = 20.

Code of 2 numbers, clean input: the variance outside the two leading axes, .104886983 per dimension. Full code, input
with noise sigma = 1/2: Wiener's filter, mean of l sigma^2 / (l + sigma^2) over the spectrum l, .084631242. (That a linear
autoencoder finds the former by gradient descent is tested in test_families.py.)
"""

import pytest
import torch

from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.families import autoencoder, classical
from fromnoise.probability.pca import principal_components

D, SIGMA = 20, 0.5
SPECTRUM = 1 / torch.arange(1, D + 1).double()
BEST_CODE_2 = 0.104886983
BEST_DENOISING = 0.084631242


def cross() -> torch.Tensor:
    """40 rows +-sqrt(D l_k) e_k: mean 0, covariance diag(l) without any sampling error."""
    axes = torch.diag((D * SPECTRUM).sqrt())
    return torch.cat([axes, -axes])


def denoising_error(matrix: torch.Tensor, offset: torch.Tensor) -> float:
    """E ||A (x + sigma eps) + b - x||^2 / D, exact, for x ~ N(0, diag(l))."""
    residual = matrix - torch.eye(D, dtype=torch.float64)
    return (
        (residual.square() @ SPECTRUM).sum()
        + SIGMA**2 * matrix.square().sum()
        + offset.square().sum()
    ).item() / D


def wiener(size: int) -> float:
    """The least such error with a code of ``size`` numbers: Wiener's filter on the leading axes, nothing on the others."""
    gain = SPECTRUM**2 / (SPECTRUM + SIGMA**2)  # variance that the filter recovers along each axis
    return (SPECTRUM.sum() - gain[:size].sum()).item() / D


def test_pca_reaches_the_best_linear_error():
    x = cross()
    found = principal_components(lambda: iter([x[:7], x[7:]]), D, 2)
    assert torch.allclose(found.eigenvalues, SPECTRUM[:2], atol=1e-12)
    assert found.rest * (D - 2) / D == pytest.approx(BEST_CODE_2, abs=1e-9)
    assert torch.allclose(found.basis.abs(), torch.eye(D, 2, dtype=torch.float64), atol=1e-9)
    family = classical.Classical(
        classical.Config(model="pca", latent_dim=2), DataSpec("vector", (D,))
    ).double()
    family.fit(lambda: iter([Batch(x)]), Rng(0))
    assert (family.reconstruct(x) - x).square().mean().item() == pytest.approx(
        BEST_CODE_2, abs=1e-9
    )


def test_no_other_plane_does_better():
    x = cross()
    for i in range(20):
        plane = torch.linalg.qr(Rng(i).normal("plane", (D, 2)).double())[0]
        assert (x - x @ plane @ plane.T).square().mean().item() > BEST_CODE_2


def test_pca_on_draws_is_right_within_their_error():
    n = 50_000
    x = Rng(0).normal("x", (n, D)).double() * SPECTRUM.sqrt()
    family = classical.Classical(
        classical.Config(model="pca", latent_dim=2), DataSpec("vector", (D,))
    ).double()
    family.fit(lambda: iter([Batch(x[: n // 2])]), Rng(0))
    errors = (family.reconstruct(x[n // 2 :]) - x[n // 2 :]).square().mean(1)
    assert errors.mean().item() == pytest.approx(
        BEST_CODE_2, abs=4 * errors.std().item() / (n // 2) ** 0.5 + 1e-5
    )


def test_wieners_filter_is_the_optimum():
    best = torch.diag(SPECTRUM / (SPECTRUM + SIGMA**2))
    nothing = torch.zeros(D, dtype=torch.float64)
    assert denoising_error(best, nothing) == pytest.approx(BEST_DENOISING, abs=1e-9)
    assert wiener(D) == pytest.approx(BEST_DENOISING, abs=1e-9)
    for i in range(5):
        other = best + 0.02 * Rng(i).normal("other", (D, D)).double()
        assert denoising_error(other, nothing) > BEST_DENOISING
    assert denoising_error(torch.eye(D, dtype=torch.float64), nothing) == pytest.approx(
        SIGMA**2
    )  # doing nothing is far off


@pytest.mark.parametrize("size", [D, 2])
def test_a_linear_denoising_autoencoder_becomes_wieners_filter(size):
    config = autoencoder.Config(
        hidden=(),
        latent_dim=size,
        activation="linear",
        corruption="gaussian",
        corruption_level=SIGMA,
    )
    Rng(0).seed_torch()
    family = autoencoder.Autoencoder(config, DataSpec("vector", (D,)))
    optimizer, steps = torch.optim.Adam(family.parameters(), fused=True), 1200
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-2 * (1 - step / steps)
        rng = Rng(0).at("step", step)
        batch = Batch(rng.normal("x", (500, D)) * SPECTRUM.sqrt().float())
        optimizer.zero_grad()
        family.loss(batch, "reconstruction", rng).value.backward()
        optimizer.step()
    with torch.no_grad():
        family.double()
        offset = family.reconstruct(torch.zeros(1, D, dtype=torch.float64))
        matrix = (family.reconstruct(torch.eye(D, dtype=torch.float64)) - offset).T
    error = denoising_error(matrix, offset)
    assert wiener(size) <= error <= 1.005 * wiener(size)
