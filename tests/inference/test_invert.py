"""Latent vectors found by search: known optima of linear decoders, exact recovery, and what the command line says."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fromnoise.cli import main
from fromnoise.core.config import BaseConfig
from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.inference.invert import invert
from fromnoise.runs.load import load_run
from fromnoise.training.launch import start_run
from fromnoise.training.plan import make_plan

RNG = Rng(0, ("test",))


class Options(BaseConfig):
    pass


class Decoder:
    """z ~ N(0, I) -> function(z, y)."""

    def __init__(self, latent_dim, function, conditional=False):
        self.latent_dim, self.function = latent_dim, function
        self.conditional = conditional

    def lacks(self, capability):
        return False

    def decode(self, z, y=None):
        return self.function(z) if y is None else self.function(z, y)

    def draw_latents(self, n, options, rng):
        return rng.normal("z", (n, self.latent_dim))


def matrix(rows, columns):
    return RNG.normal("matrix", (rows, columns))


def test_linear_decoder_gives_least_squares():
    a, b, x = matrix(12, 4), RNG.normal("b", (12,)), RNG.normal("x", (5, 12))
    found = invert(Decoder(4, lambda z: z @ a.T + b), x, None, Options(), RNG, prior=0.0)
    z = torch.linalg.lstsq(a.double(), (x - b).double().T).solution.T
    assert torch.allclose(found.z.double(), z, atol=2e-3)
    residual = (z @ a.double().T + b - x).square().mean(1)
    assert torch.allclose(found.error.double(), residual, rtol=1e-5)
    assert found.how == "found by latent optimisation: 200 steps, 4 starts"


def test_prior_term_brings_what_x_leaves_open_to_the_shell():
    """Half of z is not seen in x: least squares fixes one half, the shell |z|^2 = d the length of the other."""
    d = 8
    a = torch.cat([matrix(16, d // 2), torch.zeros(16, d // 2)], 1)
    z = RNG.normal("z", (6, d)) * 0.7
    squares = {}
    for prior in (0.0, 1.0):
        found = invert(
            Decoder(d, lambda z: z @ a.T),
            z @ a.T,
            None,
            Options(),
            RNG,
            prior=prior,
            candidates=5000,
        )
        assert torch.allclose(found.z[:, : d // 2], z[:, : d // 2], atol=5e-3)
        squares[prior] = found.z.square().mean(1)
    assert torch.allclose(squares[1.0], torch.ones(6), atol=0.1)
    assert (squares[0.0] - 1).abs().max() > 0.2  # without it they stay where the search began


def test_features_pull_as_far_as_their_weight_says():
    """min over z of ((z-1)^2 + (z+1)^2) / 2 + a (z-1)^2 lies at a / (1 + a)."""
    model = Decoder(1, lambda z: torch.cat([z, -z], 1))
    x = torch.ones(1, 2)
    assert invert(model, x, None, Options(), RNG, prior=0.0).z.item() == pytest.approx(0, abs=1e-3)
    model.features = lambda x: x[:, :1]
    for a in (0.5, 1.0, 3.0):
        assert invert(
            model, x, None, Options(), RNG, prior=0.0, features=a
        ).z.item() == pytest.approx(a / (1 + a), abs=2e-3)


@pytest.fixture(scope="module")
def curved():
    """A random network with many valleys."""
    layers = [
        RNG.normal(f"w{i}", shape) / shape[1] ** 0.5 * 2
        for i, shape in enumerate([(32, 6), (32, 32), (40, 32)])
    ]

    def function(z):
        for w in layers:
            z = (z @ w.T).tanh()
        return z

    return Decoder(6, function)


def test_what_the_decoder_made_is_found_again(curved):
    z = RNG.normal("secret", (20, 6))
    x = curved.decode(z)
    found = invert(curved, x, None, Options(), RNG, prior=0.0)
    assert (found.error < 1e-3 * x.var()).float().mean() >= 0.9
    first = invert(curved, x, None, Options(), RNG, prior=0.0, steps=0)
    assert first.error.mean() > 20 * found.error.mean()


def test_more_starts_are_never_worse(curved):
    x = RNG.normal("x", (30, 40)).tanh()
    one, four = (
        invert(curved, x, None, Options(), RNG, starts=n, prior=0.0, steps=60).error for n in (1, 4)
    )
    assert (four <= one * (1 + 1e-4)).all() and (four < 0.98 * one).any()


def test_the_same_twice_and_in_blocks(curved):
    x = RNG.normal("x", (70, 40)).tanh()  # 280 z: more than a block holds
    a, b = (invert(curved, x, None, Options(), RNG, steps=20) for _ in range(2))
    assert torch.equal(a.z, b.z)
    alone = invert(curved, x[66:], None, Options(), RNG, steps=20)
    assert torch.allclose(alone.x_hat, a.x_hat[66:], atol=1e-3)
    assert torch.allclose(a.x_hat, curved.decode(a.z), atol=1e-6)


def test_each_image_is_searched_under_its_own_label():
    model = Decoder(2, lambda z, y: z + 10 * y[:, None], conditional=True)
    y = torch.tensor([0, 2, 1, 2])
    x = 10.0 * y[:, None] + torch.tensor([0.3, -0.8])
    found = invert(model, x, y, Options(), RNG, prior=0.0)
    assert torch.allclose(found.z, torch.tensor([0.3, -0.8]).expand(4, 2), atol=1e-3)
    assert (
        invert(model, x, y, Options(), RNG, steps=0, starts=1).error.max() < 0.01
    )  # so are the candidates


def test_what_cannot_be_inverted_says_why():
    with pytest.raises(UsageError, match="no latent vectors"):
        invert(SimpleNamespace(), torch.zeros(1, 2), None, Options(), RNG)
    with pytest.raises(UsageError, match="1 or more starts"):
        invert(Decoder(1, lambda z: z), torch.zeros(1, 1), None, Options(), RNG, starts=0)


# -- runs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    plan = make_plan(
        "gan", "digits", "mlp", steps=30, hidden=(32, 32), latent_dim=8, threads=1, intervals=2
    )
    return start_run(plan, tmp_path_factory.mktemp("runs") / "gan")


def test_reconstruct_of_a_model_without_encoder_says_how(gan, capsys):
    assert main(["reconstruct", str(gan.path), "-n", "3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["how"] == "found by latent optimisation: 200 steps, 4 starts" and said["n"] == 3
    assert Image.open(said["file"]).width > 30
    again = dict(said)
    assert main(["reconstruct", str(gan.path), "-n", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == again
    assert main(["reconstruct", str(gan.path), "-n", "3", "-o", "r.png"]) == 0
    assert "found by latent optimisation: 200 steps, 4 starts" in capsys.readouterr().out


def test_reconstruct_of_own_images(gan, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    for i in range(2):
        Image.fromarray(np.full((20, 20), 100 * i + 20, np.uint8)).save(
            tmp_path / "mine" / f"{i}.png"
        )
    assert main(["reconstruct", str(gan.path), "--images", str(tmp_path / "mine"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2


@pytest.mark.parametrize(
    "family, options",
    [
        ("autoencoder", dict(hidden=(16,), latent_dim=4)),
        ("vae", dict(hidden=(16,), latent_dim=4)),
        ("vae", dict(preset="ladder", width=8, latent_dim=4, blocks=1)),
        ("vae", dict(hidden=(16,), latent_dim=4, conditional=True)),
    ],
)
def test_sample_is_decode_of_draw_latents(family, options, tmp_path):
    preset = options.pop("preset", "mlp")
    loaded = load_run(
        start_run(
            make_plan(family, "digits", preset, steps=4, threads=1, intervals=1, **options),
            tmp_path / "run",
        ),
        device="cpu",
    )
    model, given = loaded.model, loaded.family.Options(temperature=0.7)
    y = torch.arange(5) if options.get("conditional") else None
    rng = Rng(3, ("z",)).per_row(range(5))
    z = model.draw_latents(5, given, rng)
    assert z.shape == (5, model.latent_dim)
    assert torch.equal(model.decode(z, y), model.sample(5, y, given, rng))


def test_latents_of_a_conditional_hierarchy_take_the_label(tmp_path):
    plan = make_plan(
        "vae",
        "digits",
        "ladder",
        steps=4,
        threads=1,
        intervals=1,
        width=8,
        latent_dim=4,
        blocks=1,
        conditional=True,
    )
    loaded = load_run(start_run(plan, tmp_path / "run"), device="cpu")
    model, given, rng, y = (
        loaded.model,
        loaded.family.Options(),
        Rng(3, ("z",)),
        torch.arange(5),
    )
    z = model.draw_latents(5, given, rng, y)
    assert torch.equal(model.decode(z, y), model.sample(5, y, given, rng))
    with pytest.raises(UsageError, match="give a label"):
        model.draw_latents(5, given, rng)
    with pytest.raises(UsageError, match="depend on the label"):
        invert(model, torch.zeros(1, 1, 8, 8), y[:1], given, rng)
