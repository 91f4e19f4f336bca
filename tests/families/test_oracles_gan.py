"""Adversarial learning where everything is known (evaluation.md 4.4): the best discriminator's value, the Dirac-GAN.

The Dirac-GAN (Mescheder et al. 2018, arXiv:1801.04406, section 2): all data at 0, a generator that puts all of its
mass at theta, a discriminator psi x. Its equilibrium is (0, 0); what a training method does near it is a 2 x 2 matrix.
Here that matrix is measured from the steps which the package's own ``train_step`` makes.
"""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.exact_divergence import gan_value, jensen_shannon, optimal_log_odds
from torch import nn

from fromnoise.core.config import BaseConfig
from fromnoise.core.errors import UsageError
from fromnoise.core.family import Family, Loss, Phase
from fromnoise.core.rng import Rng
from fromnoise.core.spec import DataSpec
from fromnoise.data.dataset import Dataset, Split
from fromnoise.training.settings import TrainConfig
from fromnoise.training.trainer import Trainer

GRID = torch.linspace(-12, 13, 2001, dtype=torch.float64)


def normal(mean, std=1.0):
    return torch.distributions.Normal(torch.tensor(mean, dtype=torch.float64), std).log_prob(GRID)


# -- the value of the game --------------------------------------------------------------------------------------


def test_value_of_the_best_discriminator():
    p, q = normal(0.0), normal(1.0)
    assert gan_value(p, q, GRID) == pytest.approx(-1.163451397, abs=1e-9)
    assert jensen_shannon(p, q, GRID) == pytest.approx(0.111421482, abs=1e-9)
    assert gan_value(p, p, GRID) == pytest.approx(-math.log(4), abs=1e-12)
    assert jensen_shannon(p, p, GRID) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("mean,std", [(1.0, 1.0), (0.3, 0.5), (-2.0, 1.4), (6.0, 0.2)])
def test_value_is_twice_the_divergence_less_ln_4(mean, std):
    p, q = normal(0.0), normal(mean, std)
    assert gan_value(p, q, GRID) == pytest.approx(
        2 * jensen_shannon(p, q, GRID) - math.log(4), abs=1e-10
    )
    assert jensen_shannon(p, q, GRID) == pytest.approx(jensen_shannon(q, p, GRID), abs=1e-12)


def test_no_other_discriminator_does_better():
    p, q = normal(0.0), normal(1.0)
    best = optimal_log_odds(p, q)
    assert torch.allclose(
        best, 0.5 - GRID, atol=1e-9
    )  # two unit Gaussians: a straight line, 0 half-way

    def value(logits):
        return torch.trapezoid(
            p.exp() * F.logsigmoid(logits) + q.exp() * F.logsigmoid(-logits), GRID
        ).item()

    assert value(best) == pytest.approx(gan_value(p, q, GRID), abs=1e-12)
    for other in (1.1 * best, 0.9 * best, best + 0.1, best - 0.1, -best):
        assert value(other) < value(best) - 1e-5


def test_an_adversary_trained_on_samples_stays_below_the_value():
    """A logistic regression fitted to 20,000 draws of each side has the Bayes accuracy Phi(1/2) and about this value."""
    x = torch.cat(
        [Rng(0).normal("real", (40_000, 1)), Rng(0).normal("fake", (40_000, 1)) + 1]
    ).double()
    y = torch.cat([torch.ones(40_000), torch.zeros(40_000)]).double()
    halves = torch.arange(80_000) % 2 == 0
    design = torch.cat([x, torch.ones_like(x)], 1)
    w = torch.zeros(2, dtype=torch.float64)
    for _ in range(8):  # Newton's method
        p = (design[halves] @ w).sigmoid()
        w += torch.linalg.solve(
            (design[halves].T * (p * (1 - p))) @ design[halves], design[halves].T @ (y[halves] - p)
        )
    assert w.tolist() == pytest.approx([-1, 0.5], abs=0.05)
    logits = (design @ w)[~halves]
    scores = F.logsigmoid(torch.where(y[~halves] == 1, logits, -logits))  # its mean is half of V
    error = 2 * scores.std().item() / len(scores) ** 0.5
    assert 2 * scores.mean().item() == pytest.approx(-1.163451397, abs=4 * error)
    accuracy = ((logits > 0) == (y[~halves] == 1)).double().mean().item()
    assert accuracy == pytest.approx(0.691462461, abs=4 * (0.25 / len(scores)) ** 0.5)


def test_a_grid_that_misses_mass_is_refused():
    narrow = torch.linspace(-2, 2, 401, dtype=torch.float64)
    log_p = torch.distributions.Normal(0.0, 1.0).log_prob(narrow)
    with pytest.raises(UsageError, match="0.954.* instead of 1"):
        gan_value(log_p, log_p, narrow)
    with pytest.raises(UsageError, match="instead of 1"):
        jensen_shannon(normal(0.0), normal(0.0) + 0.1, GRID)


# -- the Dirac-GAN, trained by the package's loop ---------------------------------------------------------------

GAMES = {  # f of Mescheder et al., eq. 2: the discriminator climbs f(psi theta) + f(-psi 0), the generator descends it
    "linear": lambda t: t,
    "minimax": lambda t: -F.softplus(-t),
}


class GameConfig(BaseConfig):
    game: str = "linear"
    r1: float = 0.0
    lr: float = 0.1
    order: tuple[str, ...] = ("discriminator", "generator")
    repeats: int = 1


class Point(nn.Module):
    """One number."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros((), dtype=torch.float64))


class DiracGan(Family):
    def __init__(self, config: GameConfig, spec: DataSpec):
        super().__init__(config, spec)
        self.generator, self.discriminator = Point(), Point()

    def phases(self):
        repeats = {"discriminator": self.config.repeats, "generator": 1}
        return tuple(
            Phase(name, trains=(name,), lr=self.config.lr, repeats=repeats[name])
            for name in self.config.order
        )

    def loss(self, batch, phase, rng):
        f, theta, psi = GAMES[self.config.game], self.generator.value, self.discriminator.value
        x_real, x_fake = batch.x.double().requires_grad_(), theta.expand(len(batch), 1)
        if phase == "generator":
            loss = f(psi * x_fake).mean()
            return Loss(loss, {"generator": loss})
        logits = psi * x_real
        (gradient,) = torch.autograd.grad(logits.sum(), x_real, create_graph=True)
        penalty = self.config.r1 / 2 * gradient.square().sum(1).mean()  # R1: eq. 9
        loss = -(f(psi * x_fake) + f(-logits)).mean() + penalty
        return Loss(loss, {"discriminator": loss})

    @property
    def state(self) -> list[float]:
        return [self.generator.value.item(), self.discriminator.value.item()]


class GradientDescent:
    """What ``train_step`` asks of an optimiser, without moments: p <- p - lr grad."""

    def __init__(self, model: Family, phase: Phase):
        self.params, self.lr = list(model.parameters_of(phase).values()), phase.lr

    def zero_grad(self):
        for p in self.params:
            p.grad = None

    @torch.no_grad()
    def step(self, factor: float):
        for p in self.params:
            p -= factor * self.lr * p.grad


def trainer(**game) -> Trainer:
    """The package's trainer of a Dirac-GAN, with plain gradient descent in the place of Adam."""
    zeros, spec = np.zeros((40, 1), np.float32), DataSpec("vector", (1,))
    dataset = Dataset(
        "zero", spec, dict.fromkeys(("train", "validation", "test"), Split(zeros)), "0" * 64
    )
    config = TrainConfig(steps=1000, batch_size=4, schedule="constant", warmup=0, ema=0)
    made = Trainer(lambda: DiracGan(GameConfig(**game), spec), dataset, config)
    made.optimizers = {
        phase.trains: GradientDescent(made.model, phase) for phase in made.model.phases()
    }
    return made


def iterates(start: tuple[float, float], steps: int, **game) -> np.ndarray:
    """(steps + 1, 2): (theta, psi) before and after each step of ``Trainer.advance``."""
    made = trainer(**game)
    with torch.no_grad():
        made.model.generator.value.fill_(start[0])
        made.model.discriminator.value.fill_(start[1])
    path = [made.model.state]
    for _ in range(steps):
        made.advance(1000)
        path.append(made.model.state)
    return np.array(path)


def jacobian(steps: int = 5, **game) -> np.ndarray:
    """The matrix of one step near the equilibrium: regression of what follows on what was, from two starts."""
    paths = [iterates(start, steps, **game) for start in ((1e-4, 0.0), (0.0, 1e-4))]
    was, follows = np.concatenate([p[:-1] for p in paths]), np.concatenate([p[1:] for p in paths])
    return np.linalg.lstsq(was, follows, rcond=None)[0].T


def radius(matrix):
    return np.abs(np.linalg.eigvals(matrix)).max()


CLASSIC = [("linear", 0.1), ("minimax", 0.2)]  # f'(0) = 1 and 1/2: the same matrix


@pytest.mark.parametrize("game,lr", CLASSIC)
def test_alternating_phases_orbit(game, lr):
    measured = jacobian(game=game, lr=lr)
    # psi' = psi + h theta, then theta' = theta - h psi': the generator answers the discriminator of the same step
    assert np.allclose(measured, [[1 - 0.1**2, -0.1], [0.1, 1]], atol=1e-7)
    assert radius(measured) == pytest.approx(1, abs=1e-6)


def test_the_order_of_phases_is_theirs():
    measured = jacobian(order=("generator", "discriminator"))
    assert np.allclose(measured, [[1, -0.1], [0.1, 1 - 0.1**2]], atol=1e-9)
    measured = jacobian(repeats=3)  # psi' = psi + 3 h theta
    assert np.allclose(measured, [[1 - 3 * 0.1**2, -0.1], [0.3, 1]], atol=1e-9)
    assert radius(measured) == pytest.approx(
        1, abs=1e-6
    )  # a better discriminator alone heals nothing


@pytest.mark.parametrize("game,lr", CLASSIC)
def test_simultaneous_updates_diverge(game, lr):
    """By hand, since the loop never does this: both gradients at the same point."""
    model = DiracGan(GameConfig(game=game, lr=lr), DataSpec("vector", (1,)))
    batch = trainer().stream.batch(0)
    rows = []
    for start in ((1e-4, 0.0), (0.0, 1e-4)):
        parts = {"generator": model.generator.value, "discriminator": model.discriminator.value}
        with torch.no_grad():
            for p, value in zip(parts.values(), start):
                p.fill_(value)
        grads = [
            torch.autograd.grad(model.loss(batch, name, None).value, p)[0]
            for name, p in parts.items()
        ]
        rows.append([(s - lr * g.item()) / 1e-4 for s, g in zip(start, grads)])
    assert radius(np.array(rows).T) == pytest.approx(1.004988, abs=1e-6)
    assert radius(np.array(rows).T) == pytest.approx(math.sqrt(1.01), abs=1e-7)


@pytest.mark.parametrize("weight", [0.5, 1.0, 1.8])
def test_r1_makes_it_converge(weight):
    assert radius(jacobian(r1=weight)) == pytest.approx(math.sqrt(1 - 0.1 * weight), abs=1e-6)


def test_too_much_r1_converges_slowly():
    """The formula above holds while the eigenvalues are complex, up to a weight of 1.9; then the game is overdamped."""
    eigenvalues = np.linalg.eigvals(jacobian(r1=3.0))
    assert np.isreal(eigenvalues).all() and eigenvalues.prod() == pytest.approx(
        1 - 0.1 * 3.0, abs=1e-6
    )
    assert eigenvalues.sum() == pytest.approx(2 - 0.1**2 - 0.1 * 3.0, abs=1e-6)
    assert math.sqrt(1 - 0.1 * 1.8) < radius(jacobian(r1=3.0)) < 1


def test_hundreds_of_steps_orbit_without_r1_and_arrive_with_it():
    orbit = iterates((1.0, 0.0), 600)
    energy = (
        orbit[:, 0] ** 2 + orbit[:, 1] ** 2 + 0.1 * orbit[:, 0] * orbit[:, 1]
    )  # conserved by the alternating step
    assert np.allclose(energy, energy[0], atol=1e-10)
    assert (orbit[:, 0] < -0.9).any() and (
        orbit[-100:, 0] > 0.9
    ).any()  # it goes round, and still does at the end
    assert np.abs(iterates((1.0, 0.0), 400, r1=1.0)[-1]).max() < 1e-8
