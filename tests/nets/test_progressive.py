"""Networks that grow: what a level adds fades in without a jump, in G, in D and in the real images alike."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fromnoise.core.rng import Rng
from fromnoise.nets.adversarial import leaky, pixel_norm, with_spectral_norm
from fromnoise.nets.progressive import (
    LINEAR,
    RELU,
    ProgressiveCritic,
    ProgressiveGenerator,
    batch_std,
    down,
    equalised,
    growth_at,
    level_sizes,
    shrink,
    up,
)

SHAPES = [
    (1, 28, 28),
    (3, 16, 16),
    (3, 24, 32),
    (2, 11, 13),
    (1, 1, 9),
    (3, 17, 1),
    (1, 4, 4),
    (1, 3, 2),
]
SEVERAL = [shape for shape in SHAPES if len(level_sizes(shape)) > 1]


def draw(*shape, name="x"):
    return Rng(0).normal(name, shape)


def nets(shape, width=4, n_classes=0, latent_dim=6):
    Rng(0).seed_torch()
    return ProgressiveGenerator(latent_dim, shape, width, n_classes), ProgressiveCritic(
        shape, width, n_classes
    )


def close(a, b, tolerance=1e-5):
    assert a.shape == b.shape
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# -- sizes and growth -------------------------------------------------------------------------------------------


def test_levels_are_halves_rounded_up_from_four_pixels():
    assert level_sizes((1, 28, 28)) == [(4, 4), (7, 7), (14, 14), (28, 28)]
    assert level_sizes((3, 64, 64)) == [(4, 4), (8, 8), (16, 16), (32, 32), (64, 64)]
    assert level_sizes((3, 48, 64)) == [(3, 4), (6, 8), (12, 16), (24, 32), (48, 64)]
    assert level_sizes((1, 4, 3)) == [(4, 3)]


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (1, 9), (5, 1), (13, 24), (2, 3)])
def test_averaging_undoes_enlarging(size):
    x = draw(3, 2, *(math.ceil(side / 2) for side in size))
    large = up(x, size)
    assert torch.equal(
        large, x.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, : size[0], : size[1]]
    )
    assert torch.allclose(down(large), x, atol=1e-6)


def test_every_level_fades_and_holds_equally_long_and_the_last_has_half_the_budget():
    assert [growth_at(p, 1) for p in (0, 0.3, 1)] == [0, 0, 0]
    # 3 levels: level 0, fade 1, hold 1, fade 2 in an eighth each
    assert [growth_at(p / 8, 3) for p in (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 6, 8)] == [
        0,
        0,
        0,
        0.5,
        1,
        1,
        1,
        1.5,
        2,
        2,
        2,
    ]
    path = [growth_at(p, 5) for p in np.linspace(0, 1, 1601)]
    assert path == sorted(path) and max(np.diff(path)) <= 0.0101  # no jumps

    def share(low, high):
        return sum(low < g < high for g in path) / len(path)

    assert all(share(level, level + 1) == pytest.approx(1 / 16, abs=2e-3) for level in range(4))
    assert path.count(4) / len(path) == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_at_every_growth(shape):
    generator, critic = nets(shape, n_classes=3)
    levels, z, y = len(level_sizes(shape)), draw(5, 6), torch.eye(3)[[0, 1, 2, 0, 1]]
    for growth in np.arange(0, levels - 0.9, 0.5):
        x = generator(z, y, growth)
        assert x.shape == (5, shape[0], *level_sizes(shape)[math.ceil(growth)])
        assert shrink(draw(5, *shape), growth, level_sizes(shape)).shape == x.shape
        assert critic(x, y, growth).shape == (5,)


def test_channels_double_towards_the_coarsest_up_to_eight_widths():
    generator, critic = nets((3, 128, 128), width=2)
    assert [layer.in_channels for layer in generator.to_image] == [16, 16, 16, 8, 4, 2]
    assert [layer.out_channels for layer in critic.from_image] == [16, 16, 16, 8, 4, 2]


# -- fading in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SEVERAL)
@pytest.mark.parametrize("alpha", [1e-6, 0.25, 1 - 1e-6])
def test_generator_and_reals_blend_the_next_level_with_the_enlarged_last_one(shape, alpha):
    generator, _ = nets(shape)
    sizes, z, x = level_sizes(shape), draw(3, 6), draw(3, *shape)
    for level in range(len(sizes) - 1):
        for images in (lambda g: generator(z, None, g), lambda g: shrink(x, g, sizes)):
            old, new = up(images(level), sizes[level + 1]), images(level + 1)
            assert (old - new).abs().max() > 0.1
            close(images(level + alpha), (1 - alpha) * old + alpha * new, 1e-5)


@pytest.mark.parametrize("shape", SEVERAL)
def test_critic_has_no_jump(shape):
    _, critic = nets(shape, n_classes=2)
    sizes, y = level_sizes(shape), torch.eye(2)[[0, 1, 0, 1]]
    for level in range(len(sizes) - 1):
        x = draw(4, shape[0], *sizes[level + 1])
        before, after = critic(down(x), y, level), critic(x, y, level + 1)
        assert (before - after).abs().max() > 1e-2
        close(critic(x, y, level + 1e-7), before)
        close(critic(x, y, level + 1 - 1e-7), after)


@pytest.mark.parametrize("shape", SEVERAL)
def test_critic_blends_what_it_read_of_the_new_level_and_of_the_averaged_image(shape):
    _, critic = nets(shape)
    for level in range(len(level_sizes(shape)) - 1):
        block, x = critic.blocks[level], draw(4, shape[0], *level_sizes(shape)[level + 1])

        def enters(x, growth):
            entered = []
            hook = block.register_forward_hook(lambda _, inputs, h: entered.append(inputs[0]))
            critic(x, None, growth)
            hook.remove()
            return entered[0][
                :, : critic.from_image[level].out_channels
            ]  # at the coarsest level the deviation comes after

        old, new = enters(down(x), level), enters(x, level + 1)
        assert (old - new).abs().max() > 0.1
        close(enters(x, level + 0.3), 0.7 * old + 0.3 * new)


def test_reals_are_means_of_pixels():
    x, sizes = draw(2, 3, 16, 16), level_sizes((3, 16, 16))
    close(shrink(x, 0, sizes), x.view(2, 3, 4, 4, 4, 4).mean((3, 5)))
    close(shrink(x, 1, sizes), x.view(2, 3, 8, 2, 8, 2).mean((3, 5)))
    assert torch.equal(shrink(x, 2.0, sizes), x)


# -- equalised learning rate, pixel norm, standard deviation of the batch -----------------------------------------


def test_equalised_layers_keep_the_scale_at_any_width():
    Rng(0).seed_torch()
    for width in (8, 64, 512):
        x = draw(512, width)
        linear, rectified = (
            equalised(nn.Linear(width, 2048), LINEAR)(x),
            leaky(equalised(nn.Linear(width, 2048), RELU)(x)),
        )
        assert linear.square().mean().item() == pytest.approx(1, rel=0.1)
        assert rectified.square().mean().item() == pytest.approx(
            1.04, rel=0.1
        )  # twice half of it, and of 0.2^2 of it
    conv = equalised(nn.Conv2d(64, 256, 3), RELU)
    assert (
        conv.weight.square().mean().item() == pytest.approx(2 / (9 * 64), rel=0.02)
        and not conv.bias.any()
    )


def test_scale_of_images_and_features_is_the_same_at_any_width():
    def rms(h):
        return h.square().mean().sqrt().item()

    images, features = [], []
    Rng(0).seed_torch()
    for width in (4, 16, 64):
        generator = ProgressiveGenerator(32, (64, 8, 8), width)
        critic = ProgressiveCritic((64, 8, 8), width, 0)
        with torch.no_grad():
            images.append(rms(generator(draw(16, 32), None, 1)))
            features.append(rms(critic.features(draw(16, 64, 8, 8), 1)))
    assert images == pytest.approx([1.0] * 3, rel=0.2)  # pixel norm, then a layer of gain 1
    assert max(features) < 2 * min(features)


def test_a_step_of_adam_moves_every_layer_by_the_same_share_of_its_scale():
    def moved(net, score):
        layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        before = [layer.weight.detach().clone() for layer in layers]
        optimiser = torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.0, 0.99))
        score(net).backward()
        optimiser.step()

        def rms(w):
            return w.square().mean().sqrt().item()

        return [
            rms(layer.weight.detach() - w) / rms(w)
            for layer, w in zip(layers, before)
            if layer.weight.numel() > 40
        ]

    Rng(0).seed_torch()
    generator, critic = (
        ProgressiveGenerator(6, (3, 16, 16), 16),
        ProgressiveCritic((3, 16, 16), 16, 0),
    )
    z, x = draw(16, 6), draw(16, 3, 16, 16)
    shares = moved(critic, lambda net: net(x, None, 1.5).square().sum()) + moved(
        generator, lambda net: net(z, None, 1.5).square().sum()
    )
    shares = [share for share in shares if share]  # image layers of levels that are not in
    assert len(shares) == 9 + 8
    assert shares == pytest.approx([1e-2] * len(shares), rel=0.25)
    plain = moved(
        nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 512), nn.Linear(512, 4)),
        lambda net: net(z).square().sum(),
    )
    assert max(plain) > 5 * min(plain)


def test_pixel_norm_has_root_mean_square_one():
    for h in (100 * draw(3, 5, 4, 6), 0.01 * draw(7, 16)):
        close(pixel_norm(h).square().mean(1), torch.ones_like(h[:, 0]))
        close(pixel_norm(h) * h.square().mean(1, keepdim=True).sqrt(), h, 1e-4)
    h = torch.zeros(2, 3, 1, 1, requires_grad=True)
    pixel_norm(h).sum().backward()
    assert not pixel_norm(h).any() and h.grad.isfinite().all()


def test_latents_are_normalised_and_labels_matter():
    generator, _ = nets((1, 8, 8), n_classes=2)
    z = draw(4, 6)
    close(generator(z, torch.eye(2)[[0] * 4], 1), generator(5 * z, torch.eye(2)[[0] * 4], 1))
    assert (
        generator(z, torch.eye(2)[[0] * 4], 1) - generator(z, torch.eye(2)[[1] * 4], 1)
    ).abs().max() > 0.1


def test_standard_deviation_of_a_batch():
    a, b = torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3)
    close(batch_std(torch.cat([a, a, a, a])), torch.full((4,), 1e-4), 1e-6)  # collapsed
    close(
        batch_std(torch.cat([a, b, a, b])), torch.full((4,), 0.5), 1e-6
    )  # mean 1/2, all at 1/2 from it
    b[:, 1] = 0  # one feature of two differs
    close(batch_std(torch.cat([a, b, a, b])), torch.full((4,), 0.25), 1e-4)
    close(
        batch_std(torch.cat([a, 4 * b, a, a])), torch.full((4,), 0.5 * 4 * math.sqrt(3 / 16)), 1e-4
    )


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 19, 24, 64])
def test_standard_deviation_for_any_batch_size(n):
    h, m = draw(n, 3, 2, 5), max(1, n // 8 * 2)
    groups = [h[j::m].numpy() for j in range(m)]
    assert n < 8 or min(map(len, groups)) >= 4
    expected = [groups[i % m].std(0).mean() for i in range(n)]
    close(batch_std(h), torch.tensor(expected), 2e-4)


def test_real_and_fake_examples_in_turn_are_not_mixed():
    for n in (4, 5, 8, 16):
        real, fake = draw(n, 3, 2, 2), torch.ones(n, 3, 2, 2)
        std = batch_std(torch.stack([real, fake], 1).flatten(0, 1)).view(n, 2)
        assert (std[:, 0] > 0.4).all() and (std[:, 1] < 1e-3).all()


def test_critic_sees_a_collapse():
    _, critic = nets((1, 8, 8))
    x = draw(8, 1, 8, 8)
    alone, among_others = critic.features(x[:1].expand(8, -1, -1, -1), 1), critic.features(x, 1)
    assert (alone[0] - among_others[0]).abs().max() > 0.05
    assert torch.allclose(alone, alone[0], atol=1e-5)


# -- gradients --------------------------------------------------------------------------------------------------


def test_gradients_reach_every_layer_that_has_grown_and_no_other():
    shape = (3, 16, 16)
    for growth, last in ((2, 2), (0, 0), (0.5, 1), (1, 1), (1.5, 2)):
        generator, critic = nets(shape, n_classes=2)
        y = torch.eye(2)[[0, 1, 0, 1]]
        critic(generator(draw(4, 6), y, growth), y, growth).sum().backward()
        used = {last} if growth in (0, 1, 2) else {last - 1, last}
        for net, images in ((generator, "to_image"), (critic, "from_image")):
            for name, parameter in net.named_parameters():
                part, level = name.split(".")[:2]
                there = (
                    int(level) in used
                    if part == images
                    else int(level) <= last
                    if part == "blocks"
                    else True
                )
                assert (parameter.grad is not None and bool(parameter.grad.any())) == there, (
                    growth,
                    name,
                )
                assert there or parameter.grad is None


def test_critic_is_twice_differentiable():
    _, critic = nets((1, 5, 4), width=2)
    critic.double()
    x = draw(3, 1, 5, 4).double().requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: critic(x, None, 0.6), (x,))


@pytest.mark.parametrize("growth", [2, 1.5])
def test_slopes_and_bfloat16(growth):
    generator, critic = nets((1, 14, 14), width=8)
    z = draw(8, 6)
    plain = critic(generator(z, None, growth), None, growth)
    with torch.autocast("cpu", torch.bfloat16):
        x = generator(z, None, growth).float().detach().requires_grad_()
        scores = critic(x, None, growth).float()
        (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    slope.square().sum().backward(inputs=list(critic.parameters()))
    assert torch.allclose(scores, plain, atol=0.1 * plain.abs().max().item())
    reached = [p.grad for p in critic.parameters() if p.grad is not None]
    assert (
        len(reached) > 8
        and all(grad.isfinite().all() for grad in reached)
        and slope.abs().max() > 0
    )


def test_activations_are_channels_last():
    """A layer that loses the order costs a tenth of the speed and nothing else would tell."""
    generator, critic = nets((3, 16, 16))
    orders = []
    for net in (generator, critic):
        for block in net.blocks:
            block.register_forward_hook(
                lambda _, inputs, h: orders.append(
                    h.is_contiguous(memory_format=torch.channels_last)
                )
            )
    critic(generator(draw(4, 6), None, 2), None, 2)
    assert orders == [True] * 6


def test_spectral_norm_takes_the_place_of_the_scale():
    _, critic = nets((1, 8, 8))
    for module in with_spectral_norm(critic).modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(
                1, abs=1e-5
            )
