"""Generators and critics of any size: shapes, conditions, no mixing of a batch, weights held to singular value 1."""

import pytest
import torch
from torch import nn

from fromnoise.core.rng import Rng
from fromnoise.nets.adversarial import (
    Block,
    ConvCritic,
    ConvGenerator,
    MLPCritic,
    MLPGenerator,
    SpectralNorm,
    with_spectral_norm,
)
from fromnoise.nets.conv import pyramid

SIZES = [
    (4, 4),
    (5, 4),
    (7, 7),
    (8, 8),
    (9, 17),
    (28, 28),
    (31, 33),
    (1, 8),
    (16, 1),
    (1, 40),
    (1, 1),
    (64, 96),
    (67, 65),
]


def draw(*shape, name="x"):
    return Rng(0).normal(name, shape)


def pair(shape, network="conv", n_classes=0, patch=0):
    Rng(0).seed_torch()
    if network == "mlp":
        return MLPGenerator(6, shape, (16, 12), n_classes), MLPCritic(shape, (16, 12), n_classes)
    generator = ConvGenerator(6, shape, 4, 1, patch, n_classes)
    return generator, ConvCritic(shape, 4, 1, patch, n_classes)


# -- shapes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels,patch", [(1, 0), (3, 3)])
def test_any_size(size, channels, patch):
    shape, y = (channels, *size), torch.eye(3)[[0, 2]]
    generator, critic = pair(shape, patch=patch, n_classes=3)
    x = generator(draw(2, 6), y)
    assert x.shape == (2, *shape) and x.isfinite().all()
    assert critic(x, y).shape == (2,)
    critic(x, y).sum().backward()
    for net in (generator, critic):
        unreached = [name for name, p in net.named_parameters() if p.grad is None]
        assert not unreached


@pytest.mark.parametrize("shape", [(2,), (7,), (1, 8, 8)])
def test_fully_connected(shape):
    generator, critic = pair(shape, "mlp", n_classes=2)
    y = torch.eye(2)[[0, 1, 0]]
    assert generator(draw(3, 6), y).shape == (3, *shape) and critic(draw(3, *shape), y).shape == (
        3,
    )
    assert MLPCritic(shape, (5,), 0)(draw(3, *shape)).shape == (3,)


def test_sizes_halve_to_eight_and_double_to_four_widths():
    assert pyramid((1, 28, 28), 16, 8) == (2, [(14, 14), (7, 7)], [16, 32])
    assert pyramid((3, 64, 96), 16, 8, 2) == (
        2,
        [(32, 48), (16, 24), (8, 12), (4, 6)],
        [16, 32, 64, 64],
    )
    assert pyramid((1, 1, 40), 8, 8) == (1, [(1, 40), (1, 20), (1, 10), (1, 5)], [8, 16, 32, 32])


@pytest.mark.parametrize("size", [(28, 28), (9, 17), (1, 8), (67, 65)])
def test_every_pixel_is_made_from_z_and_judged(size):
    generator, critic = pair((1, *size))
    x = generator(draw(8, 6))
    assert (x.std(0) > 1e-6).all()
    x = x.detach().requires_grad_()
    critic(x).sum().backward()
    assert (x.grad.abs().sum(0) > 0).all()


# -- what a network may not do ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network,shape", [("conv", (1, 28, 28)), ("conv", (3, 9, 17)), ("mlp", (5,))]
)
def test_examples_do_not_see_each_other_and_nothing_is_kept(network, shape):
    for net, x in zip(pair(shape, network, n_classes=2), (draw(7, 6), draw(7, *shape))):
        assert set(net.state_dict()) == {name for name, _ in net.named_parameters()}
        before = {name: p.clone() for name, p in net.named_parameters()}
        y = torch.eye(2)[torch.arange(7) % 2]
        together = net(x, y)
        assert torch.equal(together, net(x, y)) and torch.equal(together, net.eval()(x, y))
        assert torch.allclose(together[2:3], net(x[2:3], y[2:3]), atol=1e-5)
        x = torch.cat([x[:3], 100 * x[3:]])
        assert torch.allclose(together[:3], net(x, y)[:3], atol=1e-5)
        assert not torch.allclose(together[3:], net(x, y)[3:], atol=1e-3)
        assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


def without_branches(net):
    with torch.no_grad():
        for block in net.modules():
            if isinstance(block, Block):
                block.second.weight.zero_()
                block.second.bias.zero_()
    return net


def test_blocks_add_to_what_passes():
    h, block = draw(2, 6, 5, 7), Block(6)
    assert not torch.allclose(block(h), h, atol=1e-2)
    assert torch.equal(without_branches(block)(h), h)
    for net, x in ((ConvGenerator, draw(2, 6)), (ConvCritic, draw(2, 1, 28, 28))):
        first = (6,) if net is ConvGenerator else ()
        few, many = (net(*first, (1, 28, 28), 4, blocks, 0, 0) for blocks in (0, 3))
        many.load_state_dict(few.state_dict(), strict=False)
        assert not torch.allclose(few(x), many(x), atol=1e-3)
        assert torch.allclose(few(x), without_branches(many)(x), atol=1e-5)


def test_no_layer_of_the_generator_can_drive_it_into_saturation():
    """Pixel norm after each: what is 100 times as large comes out the same."""
    generator, _ = pair((1, 28, 28))
    before = generator(draw(3, 6))
    with torch.no_grad():
        for layer in (generator.stem, *generator.up):
            layer.weight.mul_(100)
            layer.bias.mul_(100)
    assert len(generator.up) == 1 and torch.allclose(generator(draw(3, 6)), before, atol=1e-4)


# -- labels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network,shape", [("conv", (1, 8, 8)), ("mlp", (3,))])
def test_projection(network, shape):
    """score(x, y) = score(x) + <embedding of y, features(x)>, eq. 3 of Miyato & Koyama 2018."""
    _, critic = pair(shape, network, n_classes=3)
    x, y = draw(5, *shape), torch.tensor([0, 1, 2, 1, 0])
    features = critic.features(x)
    plain = features @ critic.score.weight[0] + critic.score.bias
    embedding = critic.project.weight.T  # (K, dims)
    expected = plain + torch.stack([embedding[k] @ h for k, h in zip(y.tolist(), features)])
    scores = critic(x, torch.eye(3)[y])
    assert torch.allclose(scores, expected, atol=1e-5) and not torch.allclose(
        scores, plain, atol=1e-3
    )
    _, without = pair(shape, network)
    assert without.project is None and without(x).shape == (5,)


@pytest.mark.parametrize("network,shape", [("conv", (1, 8, 8)), ("mlp", (3,))])
def test_generator_heeds_the_label(network, shape):
    generator, _ = pair(shape, network, n_classes=2)
    z = draw(4, 6)
    assert (
        generator(z, torch.eye(2)[[0] * 4]) - generator(z, torch.eye(2)[[1] * 4])
    ).abs().max() > 1e-2


# -- spectral norm ----------------------------------------------------------------------------------------------


def layers_of(net):
    return [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("network,shape", [("conv", (3, 28, 28)), ("mlp", (2,))])
def test_largest_singular_value_is_one(network, shape):
    critic = with_spectral_norm(pair(shape, network, n_classes=3)[1])
    optimiser = torch.optim.Adam(critic.parameters(), lr=0.05)
    for _ in range(3):
        for layer in layers_of(critic):
            assert torch.linalg.matrix_norm(
                layer.weight.flatten(1).double(), 2
            ).item() == pytest.approx(1, abs=1e-5)
        critic(draw(4, *shape), torch.eye(3)[[0, 1, 2, 0]]).sum().backward()
        optimiser.step()
        optimiser.zero_grad()


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (1, 7), (7, 1), (4, 2, 3, 3)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_spectral_norm_divides_by_the_singular_value_and_so_does_its_gradient(shape, scale):
    weight = (scale * draw(*shape)).requires_grad_()
    normal = SpectralNorm()(weight)
    sigma = torch.linalg.svdvals(weight.detach().flatten(1).double())[0]
    assert torch.allclose(normal.double(), weight.double() / sigma, atol=1e-5)
    direction = draw(*shape, name="direction")
    (normal * direction).sum().backward()
    exact = weight.detach().double().requires_grad_()
    (exact / torch.linalg.matrix_norm(exact.flatten(1), 2) * direction).sum().backward()
    assert torch.allclose(weight.grad.double(), exact.grad, rtol=1e-3, atol=1e-4 / scale)


def test_spectral_norm_has_no_state_and_no_zeros():
    critic = with_spectral_norm(pair((1, 8, 8))[1])
    assert set(critic.state_dict()) == {name for name, _ in critic.named_parameters()}
    x = draw(3, 1, 8, 8)
    scores = [critic(x), critic(x), critic.eval()(x)]
    assert torch.equal(scores[0], scores[1]) and torch.equal(scores[0], scores[2])
    assert all(layer.weight.isfinite().all() and layer.weight.any() for layer in layers_of(critic))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.linalg.matrix_norm(critic.mix.weight.flatten(1), 2).item() == pytest.approx(
            1, abs=1e-5
        )


def test_critic_of_spectral_norm_is_steep_nowhere():
    """Linear layers of norm 1 and leaky rectifiers: |D(x) - D(y)| <= |x - y|."""
    critic = with_spectral_norm(pair((3,), "mlp")[1])
    with torch.no_grad():
        for layer in layers_of(critic):
            layer.parametrizations.weight.original.mul_(50)
    x = draw(200, 3).requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x)
    assert slope.norm(dim=1).max() <= 1 + 1e-5


def test_penalties_pass_through_spectral_norm():
    critic = with_spectral_norm(pair((1, 8, 8))[1])
    x = draw(3, 1, 8, 8).requires_grad_()
    (slope,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    for layer in layers_of(critic):
        gradient = layer.parametrizations.weight.original.grad
        assert gradient.isfinite().all() and gradient.any()
