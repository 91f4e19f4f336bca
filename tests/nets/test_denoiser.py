"""Networks that see noise: what they must hold whatever their form (nets/denoiser.py, nets/unet.py)."""

import math

import pytest
import torch

from fromnoise.core.spec import DataSpec
from fromnoise.families.diffusion import Config, Diffusion
from fromnoise.nets.denoiser import (
    Conditioning,
    Levels,
    MLPDenoiser,
    PatchTransformer,
    TransformerLayer,
    normalise,
)
from fromnoise.nets.unet import UNet
from fromnoise.training.optim import PhaseOptimizer
from fromnoise.training.settings import TrainConfig

B, K = 3, 5
NETWORKS = {
    "transformer": lambda **more: PatchTransformer(
        (2, 9, 6), width=32, depth=2, heads=2, patch=4, **more
    ),
    "mlp": lambda **more: MLPDenoiser(7, width=32, depth=2, waves=3, **more),
    "unet": lambda **more: UNet((2, 17, 22), width=16, depth=1, **more),
}
SHAPES = {"transformer": (2, 9, 6), "mlp": (7,), "unet": (2, 17, 22)}


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def make(name, **more):
    """A network some way into its training: what starts at zero no longer is."""
    torch.manual_seed(0)
    net = NETWORKS[name](**more)
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            if not p.any():
                p.copy_(0.1 * numbers(*p.shape, seed=i))
    return net


def inputs(name, n=B):
    return numbers(n, *SHAPES[name], seed=1), torch.linspace(0.1, 0.9, n), numbers(n, K, seed=2)


@pytest.fixture(params=NETWORKS)
def name(request):
    return request.param


def test_starts_by_predicting_zero(name):
    torch.manual_seed(0)
    x, level, _ = inputs(name)
    out = NETWORKS[name]()(x, level)
    assert out.shape == x.shape and not out.any()


def test_does_not_look_at_batch_mates(name):
    net, (x, level, condition) = make(name, condition_size=K), inputs(name)
    together = net(x, level, condition)
    for i in range(B):
        alone = net(x[i : i + 1], level[i : i + 1], condition[i : i + 1])[0]
        torch.testing.assert_close(together[i], alone, rtol=1e-4, atol=1e-5)


def test_all_that_it_is_told_reaches_every_output(name):
    net, (x, level, condition) = (
        make(name, condition_size=K, two_levels=True).requires_grad_(False),
        inputs(name),
    )
    out = net(x, level, condition, level)
    for other in (
        net(x, level + 0.1, condition, level),
        net(x, level, condition + 1, level),
        net(x, level, condition, level - 0.1),
    ):
        assert float((other - out).abs().flatten(1).median(1).values.min()) > 1e-4
    assert torch.equal(net(x, level, condition), out)  # no second level: it does not jump


def test_captions_are_read(name):
    """A word more, and the same words in another order: the outputs differ; the empty caption is one, too."""
    net, (x, level, _) = make(name, condition_size=(4, 9)).requires_grad_(False), inputs(name)
    outs = [
        net(x, level, torch.tensor([words] * B))
        for words in ([3, 4, 0, 0], [4, 3, 0, 0], [3, 4, 5, 0], [0, 0, 0, 0])
    ]
    assert all(bool(out.isfinite().all()) for out in outs)
    for i, one in enumerate(outs):
        for other in outs[:i]:
            assert float((one - other).abs().flatten(1).median(1).values.min()) > 1e-4


@pytest.mark.parametrize("name", ["transformer", "unet"])
def test_attention_reads_each_word(name, monkeypatch):
    """Not only the vector that stands for the whole caption."""
    net, (x, level, _) = make(name, condition_size=(4, 9)).requires_grad_(False), inputs(name)
    conditioning, words = net.conditioning(level, torch.tensor([[3, 4, 5, 0]] * B))
    outs = []
    for i in range(4):  # the place of the whole, three words
        monkeypatch.setattr(
            net.conditioning,
            "forward",
            lambda *_: (conditioning, words.index_fill(1, torch.tensor([i]), 0.0)),
        )
        outs.append(net(x, level, None))
    assert (
        min(float((one - other).abs().max()) for i, one in enumerate(outs) for other in outs[:i])
        > 1e-5
    )


def test_hidden_condition_is_a_row_of_zeros(name):
    net, (x, level, condition) = make(name, condition_size=K), inputs(name)
    torch.testing.assert_close(net(x, level, 0 * condition), net(x, level))


def test_forward_derivative_is_that_of_differences(name):
    net, (x, level, condition) = (
        make(name, condition_size=K, two_levels=True).double(),
        inputs(name),
    )
    x, level, condition = x.double(), level.double(), condition.double()

    def f(x, level, until):
        return net(x, level, condition, until)

    tangents, h = (
        (numbers(*x.shape, seed=3).double(), torch.ones(B).double(), -0.5 * torch.ones(B).double()),
        1e-4,
    )
    at = (x, level, 0.5 * level)
    out, slope = torch.func.jvp(f, at, tangents)
    ahead, behind = (f(*(a + s * h * t for a, t in zip(at, tangents))) for s in (1, -1))
    torch.testing.assert_close(out, f(*at))
    assert bool((slope.abs() > 0.01).any())
    torch.testing.assert_close(
        slope, (ahead - behind) / (2 * h), rtol=2e-3, atol=2e-3
    )  # angles are float32


def test_learns_with_every_weight(name):
    """Gates and last layers start at zero: after a few steps a gradient must have reached everything."""
    torch.manual_seed(0)
    net, (x, level, condition) = NETWORKS[name](condition_size=K, two_levels=True), inputs(name)
    optimizer, target = torch.optim.Adam(net.parameters(), lr=1e-2), numbers(*x.shape, seed=4)
    for _ in range(3):
        optimizer.zero_grad()
        (net(x, level, condition, 0.5 * level) - target).square().mean().backward()
        optimizer.step()
    dead = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not dead, dead


def test_half_precision_is_near(name):
    net, (x, level, condition) = make(name, condition_size=K).requires_grad_(False), inputs(name)
    exact = net(x, level, condition)
    with torch.autocast("cpu", torch.bfloat16):
        rough = net(x, level, condition)
    assert rough.dtype == torch.float32
    assert float((rough - exact).norm() / exact.norm()) < 0.05


# -- the parts -------------------------------------------------------------------------------------------------


def test_levels_are_told_apart_and_smooth():
    """Neighbours at a hundredth differ, and by less than those at a tenth: no wave is so short that it aliases."""

    def waves(level):
        return torch.cat(
            [
                (torch.tensor([level])[:, None] * Levels(8).frequency).cos(),
                (torch.tensor([level])[:, None] * Levels(8).frequency).sin(),
            ],
            1,
        )

    near = [float((waves(t + 0.01) - waves(t)).norm()) for t in (0.0, 0.3, 0.9)]
    far = [float((waves(t + 0.05) - waves(t)).norm()) for t in (0.0, 0.3, 0.9)]
    assert all(0.1 < a < b for a, b in zip(near, far))
    assert float(Levels(8).frequency.max()) * 0.01 < math.pi / 4


def test_the_second_level_says_how_far_it_jumps():
    """No jump is the same as not being asked for one, whatever the level."""
    torch.manual_seed(0)
    conditioning, level = Conditioning(8, 0, two_levels=True), torch.tensor([0.2, 0.8])
    assert torch.equal(conditioning(level, None)[0], conditioning(level, None, level)[0])
    assert not torch.allclose(
        conditioning(level, None)[0], conditioning(level, None, level - 0.1)[0]
    )


def test_norm_is_of_each_row():
    h = numbers(4, 6) * torch.tensor([0.1, 1, 10, 1e3])[:, None] + 5
    torch.testing.assert_close(normalise(h).mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalise(h).square().mean(1), torch.ones(4), rtol=1e-2, atol=0)
    assert torch.equal(normalise(h)[1:2], normalise(h[1:2]))


def test_attention_weighs_all_places():
    """With queries and keys of zero the weights are equal: every place gets the mean of the values."""
    torch.manual_seed(0)
    layer, h = TransformerLayer(8, 2), numbers(2, 5, 8)
    with torch.no_grad():
        layer.qkv.weight[:16], layer.qkv.bias[:16] = 0, 0
        v = h @ layer.qkv.weight[16:].T + layer.qkv.bias[16:]
        expected = layer.mixed(v.mean(1, keepdim=True).expand_as(v))
        torch.testing.assert_close(layer.attend(h), expected)


def test_waves_show_fine_detail():
    """What the first layer sees of x: x, and its place on waves of 8, 4 and 2 standard deviations."""
    net, seen = MLPDenoiser(2, width=4, depth=1, waves=3), []
    net.embed.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    net(torch.tensor([[0.5, -1.0]]), torch.tensor([0.5]))

    def turn(x):
        return [2 * math.pi * x / period for period in (8, 4, 2)]

    angles = turn(0.5) + turn(-1.0)
    torch.testing.assert_close(
        seen[0], torch.tensor([[0.5, -1.0, *map(math.cos, angles), *map(math.sin, angles)]])
    )


def test_patches_know_their_places():
    """Equal patches are told apart: without places the output of a constant image would be constant over patches."""
    net = make("transformer").requires_grad_(False)
    out = net(torch.ones(1, *SHAPES["transformer"]), torch.tensor([0.5]))
    assert float((out[:, :, 0:4, 0:4] - out[:, :, 4:8, 0:4]).abs().max()) > 1e-3


@pytest.mark.parametrize(
    "options",
    [dict(network="mlp"), dict(network="transformer", width=100), dict(network="unet", width=50)],
)
def test_any_width_and_network_takes_images_and_captions(options):
    from fromnoise.core.rng import Rng
    from fromnoise.core.spec import Batch, DataSpec
    from fromnoise.families.diffusion import Config, Diffusion

    model = Diffusion(
        Config(conditional=True, depth=1, **options),
        DataSpec("image", (3, 16, 16), levels=256, caption=(4, 9)),
    )
    loss = model.loss(
        Batch(numbers(2, 3, 16, 16), torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]])),
        "denoising",
        Rng(0),
    )
    assert torch.isfinite(loss.value)


def test_heads_that_do_not_divide_the_width_are_refused():
    from fromnoise.core.errors import UsageError
    from fromnoise.core.spec import DataSpec
    from fromnoise.families.diffusion import Config, Diffusion

    with pytest.raises(UsageError, match="--heads 3 does not divide"):
        Diffusion(Config(network="transformer", heads=3), DataSpec("image", (1, 8, 8)))


def test_muon_leaves_the_first_and_the_last_layer_to_adamw():
    model = Diffusion(Config(width=8, depth=1), DataSpec("image", (1, 8, 8), levels=256))
    optimizer = PhaseOptimizer(model, model.phases()[0], TrainConfig(optimizer="muon"))
    (by_muon, muon), (by_adamw, adamw) = optimizer.parts
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    ends = {"net.stem.weight", "net.out.weight", "net.conditioning.levels.mix.weight"}
    assert ends <= by_adamw.keys() and not ends & by_muon.keys()
    assert "net.conditioning.out.weight" in by_muon


def test_checkpoints_with_the_earlier_name_of_a_layer_are_read():
    from fromnoise.runs.checkpoint import current_name

    assert current_name("net.told.levels.mix.weight") == "net.conditioning.levels.mix.weight"
    assert current_name("net.conditioning.out.bias") == "net.conditioning.out.bias"
