"""The vector-quantised autoencoder: which gradient goes where, restarts, counts, and what its codes are."""

import math

import pytest
import torch

from fromnoise.core.capabilities import Quantises
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.families import vqvae
from fromnoise.training.monitor import health

POINTS = DataSpec("vector", (3,))


def tiny(spec=POINTS, **options) -> vqvae.VQVAE:
    torch.manual_seed(0)
    chosen = dict(network="mlp", hidden=(8,), places=2, codes=5, code_dim=2) | options
    return vqvae.VQVAE(vqvae.Config(**chosen), spec)


def batch(n=40, D=3) -> Batch:
    return Batch(Rng(1).normal("x", (n, D)))


def test_nearest_is_the_nearest():
    model = tiny()
    z = Rng(0).normal("z", (7, 2, 1, 2))
    distance = (
        (z[:, None] - model.codebook.vectors.weight[None, :, :, None, None]).square().sum(2)
    )  # B K h w
    assert torch.equal(model.nearest(z), distance.argmin(1))
    s = model.nearest(z)
    assert torch.equal(model.nearest(model.embed(s)), s) and torch.equal(
        model.embed(s)[3, :, 0, 1], model.codebook.vectors.weight[s[3, 0, 1]]
    )


def test_the_gradients_are_those_of_the_paper():
    """The encoder gets the decoder's gradient at e (straight through) and 2 beta (z - e) / N; the codebook 2 (e - z) / N."""
    model, data, beta = tiny(commitment=0.7, restart=False), batch(), 0.7
    kept = {}

    def remember(module, inputs, output):
        kept["z"] = output
        output.retain_grad()

    hook = model.encoder.register_forward_hook(remember)
    model.loss(data, "reconstruction", Rng(0)).value.backward()
    hook.remove()
    z = kept["z"].detach()
    s = model.nearest(z)
    e = model.embed(s).detach().requires_grad_()
    (model.finish(model.decoder(e)) - data.x).square().mean().backward()
    assert torch.allclose(
        kept["z"].grad, e.grad + 2 * beta * (z - e.detach()) / z.numel(), atol=1e-7
    )
    pull = (2 * (e.detach() - z) / z.numel()).permute(0, 2, 3, 1).flatten(0, 2)
    expected = torch.zeros_like(model.codebook.vectors.weight).index_add_(0, s.flatten(), pull)
    assert torch.allclose(model.codebook.vectors.weight.grad, expected, atol=1e-7)


def test_dead_codes_restart_at_vectors_of_the_batch_and_used_ones_stay():
    model, data = tiny(), batch()
    model.progress = 0.1
    places = model.encoder(data.x).permute(0, 2, 3, 1).flatten(0, 2).detach()
    model.codebook.vectors.weight.data[:3] = places[[0, 20, 40]]
    model.codebook.vectors.weight.data[3:] = 100.0  # nobody's nearest
    model.codebook.idle.zero_()
    start = model.codebook.vectors.weight.detach().clone()
    for _ in range(vqvae.PATIENCE):
        model.loss(data, "reconstruction", Rng(0))
    assert (
        torch.equal(model.codebook.vectors.weight, start)
        and model.codebook.idle[3:].tolist() == [vqvae.PATIENCE] * 2
    )
    copies = [tiny(), tiny()]
    for copy in copies:
        copy.load_state_dict(model.state_dict())
        copy.progress = 0.1
        copy.loss(data, "reconstruction", Rng(0).at(7))
    now = copies[0].codebook.vectors.weight.detach()
    assert torch.equal(
        now, copies[1].codebook.vectors.weight
    )  # a function of the state, the batch and the key
    assert torch.equal(now[:3], start[:3])
    assert (
        torch.cdist(now[3:], places, compute_mode="donot_use_mm_for_euclid_dist")
        .min(1)
        .values.max()
        == 0
    )
    assert copies[0].codebook.idle.max() <= 1
    for off in ({"progress": vqvae.SETTLED}, {"training": False}):
        for name, value in off.items():
            setattr(model, name, value)
        model.loss(data, "reconstruction", Rng(0).at(7))
        assert torch.equal(model.codebook.vectors.weight, start)
        model.progress = 0.1


def test_all_codes_start_dead_so_that_the_first_batch_places_them():
    model, data = tiny(codes=6), batch()
    model.progress = 0.0
    model.loss(data, "reconstruction", Rng(0))
    places, placed = (
        model.encoder(data.x).permute(0, 2, 3, 1).flatten(0, 2),
        model.codebook.vectors.weight.detach().clone(),
    )
    assert (
        torch.cdist(placed, places, compute_mode="donot_use_mm_for_euclid_dist").min(1).values.max()
        == 0
    )
    model.loss(data, "reconstruction", Rng(1))
    assert torch.equal(
        model.codebook.vectors.weight, placed
    )  # those that nobody took at once have their time


def test_idle_codes_are_counted():
    book = tiny().codebook
    for _ in range(3):
        counts = book.count(torch.tensor([[[0, 0, 2]]]))
    assert counts.tolist() == [2, 0, 1, 0, 0] and book.idle[[0, 2]].tolist() == [0, 0]
    book.idle.zero_()
    book.count(torch.tensor([[[4]]]))
    assert book.idle.tolist() == [1, 1, 1, 1, 0]


def test_usage_and_perplexity():
    assert vqvae.usage(torch.tensor([3, 3, 3, 3]))["perplexity"].item() == pytest.approx(4)
    one = vqvae.usage(torch.tensor([0, 9, 0, 0]))
    assert one["perplexity"].item() == pytest.approx(1) and one["codes_used"].item() == 0.25
    assert vqvae.usage(torch.tensor([1, 3]))["perplexity"].item() == pytest.approx(
        math.exp(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    )


def test_it_samples_each_place_by_its_own_counts():
    model, data = tiny(), batch(200)
    parts = [Batch(data.x[:90]), Batch(data.x[90:])]
    model.fit(lambda: iter(parts), Rng(0))
    s = model.quantise(data.x)
    for place in range(2):
        assert torch.allclose(
            model.frequencies[0, place], torch.bincount(s[:, 0, place], minlength=5) / 200
        )
    drawn = []
    model.from_codes = lambda s: drawn.append(s) or s
    model.sample(20_000, None, vqvae.Options(), Rng(3))
    for place in range(2):
        shares = torch.bincount(drawn[0][:, 0, place], minlength=5) / 20_000
        assert (shares - model.frequencies[0, place]).abs().max() < 0.015
        assert not shares[model.frequencies[0, place] == 0].any()


@pytest.mark.parametrize(
    "shape,grid",
    [
        ((1, 8, 8), (4, 4)),
        ((1, 28, 28), (7, 7)),
        ((3, 32, 32), (8, 8)),
        ((1, 20, 33), (5, 9)),
        ((3, 64, 64), (8, 8)),
    ],
)
def test_an_image_is_a_grid_of_codes(shape, grid):
    spec = DataSpec("image", shape, levels=256)
    model = vqvae.VQVAE(
        vqvae.Config(
            **vqvae.PRESETS[vqvae.preset_for(spec)]
            | {"width": 4, "grid": 4 if shape[1] == 8 else 9 if shape[1] == 20 else 8}
        ),
        spec,
    )
    x = Rng(0).uniform("x", (2, *shape)) * 2 - 1
    s = model.quantise(x)
    assert (
        isinstance(model, Quantises)
        and model.grid == grid
        and s.shape == (2, *grid)
        and 0 <= s.min()
        and s.max() < model.codes
    )
    x_hat = model.reconstruct(x)
    assert (
        x_hat.shape == x.shape
        and x_hat.abs().max() <= 1
        and torch.equal(x_hat, model.from_codes(s))
    )


def test_it_learns_two_far_points_to_the_letter():
    """Two values of x, two codes: nothing is lost."""
    model, x = (
        tiny(codes=2, places=1),
        torch.tensor([[1.0, 2.0, 3.0], [-2.0, 0.0, 1.0]]).repeat(8, 1),
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(300):
        model.progress = step / 300
        optimizer.zero_grad()
        model.loss(Batch(x), "reconstruction", Rng(0).at(step)).value.backward()
        optimizer.step()
    assert (model.reconstruct(x) - x).abs().max() < 0.05 and len(model.quantise(x).unique()) == 2


def test_a_collapsed_codebook_is_told():
    model = tiny(codes=40)
    model.codebook.vectors.weight.data[1:] += 1000
    said = health.diagnose(model, batch(), [1.0], 20)
    assert (
        len(said) == 1
        and said[0].startswith("codebook collapse: 1 of 40")
        and "--restart" in said[0]
    )


def test_codes_are_assigned_as_precisely_under_autocast():
    """Codes far off the origin: in bfloat16 their distances are all rounded away."""
    model = tiny(codes=64, code_dim=8)
    model.codebook.vectors.weight.data.add_(20)
    z = Rng(0).normal("z", (200, 8, 1, 2)) + 20
    expected = model.nearest(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.nearest(z), expected)
    assert len(expected.unique()) > 20
