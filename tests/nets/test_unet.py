"""The U-Net of nets/unet.py; what it shares with other denoisers is in test_denoiser.py."""

import pytest
import torch

from fromnoise.nets.unet import Conv, UNet, UNetBlock, normalise_channels

LEVEL = torch.tensor([0.5])


def awake(net):
    """What starts at zero set to something."""
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            if not p.any():
                p.copy_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(i)))
    return net


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1),
        (3, 2, 2),
        (1, 8, 8),
        (1, 7, 9),
        (2, 13, 40),
        (1, 28, 28),
        (3, 31, 33),
        (3, 32, 32),
        (3, 64, 64),
        (1, 65, 67),
    ],
)
def test_any_shape(shape):
    torch.manual_seed(0)
    x = torch.randn(2, *shape)
    out = awake(UNet(shape, width=8, depth=1))(x, LEVEL.expand(2))
    assert out.shape == x.shape and bool(out.isfinite().all())


@pytest.mark.parametrize(
    "shape, patch, sizes",
    [
        ((1, 8, 8), 1, [(8, 8), (4, 4)]),
        ((1, 28, 28), 2, [(14, 14), (7, 7)]),
        ((3, 32, 32), 2, [(16, 16), (8, 8)]),
        ((3, 64, 64), 4, [(16, 16), (8, 8)]),
        ((1, 33, 50), 2, [(17, 25), (9, 13), (5, 7)]),
    ],
)
def test_resolutions(shape, patch, sizes):
    net = UNet(shape, width=8, depth=1)
    assert net.fold.patch == patch and net.sizes == sizes


def test_depth_counts_blocks_of_a_resolution():
    net = UNet((1, 28, 28), width=8, depth=3)
    assert [len(blocks) for blocks in (*net.ins, *net.outs)] == [3, 3] and len(net.layers) == 6


def test_the_coarsest_resolution_has_a_depth_of_its_own():
    net = UNet((1, 28, 28), width=8, depth=1, middle=5)
    assert [len(blocks) for blocks in (*net.ins, *net.outs)] == [1, 1] and len(net.layers) == 5


def test_what_the_coarsest_layers_read_is_as_large_as_words_are():
    net, seen = awake(UNet((1, 28, 28), width=16, depth=1)), []
    net.layers[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0]))
    net(100 * torch.randn(2, 1, 28, 28), LEVEL.expand(2))
    assert (seen[0] - net.positions).square().mean().item() == pytest.approx(1, rel=1e-3)


def test_a_block_starts_as_the_identity():
    h = torch.randn(2, 8, 5, 5)
    assert torch.equal(UNetBlock(8, 4)(h, torch.randn(2, 4)), h)


def test_a_block_is_what_its_docstring_says():
    torch.manual_seed(0)
    block, h, told = awake(UNetBlock(8, 4)), torch.randn(2, 8, 5, 5), torch.randn(2, 4)
    silu, standard = (
        lambda h: h * h.sigmoid(),
        lambda h: (
            (h - h.mean(1, keepdim=True)) / (h.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        ),
    )
    scale, shift = block.tell(told).view(2, 2, 8, 1, 1).unbind(1)
    expected = h + block.second(
        silu((1 + scale) * standard(block.first(silu(standard(h)))) + shift)
    )
    torch.testing.assert_close(block(h, told), expected)


def test_norm_is_of_each_place():
    h = torch.randn(2, 6, 4, 3) * torch.arange(1, 13.0).view(4, 3)
    n = normalise_channels(h)
    torch.testing.assert_close(n.mean(1), torch.zeros(2, 4, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(n.square().mean(1), torch.ones(2, 4, 3), atol=1e-3, rtol=0)
    assert torch.equal(normalise_channels(h[:, :, :1]), n[:, :, :1])


def test_fine_detail_goes_over_the_skip_and_what_is_far_through_the_coarsest():
    """A pixel's neighbour depends on it, and so does the opposite corner: by attention at the coarsest resolution only."""
    torch.manual_seed(0)
    net = awake(UNet((1, 28, 28), width=16, depth=1)).double()
    x = torch.randn(1, 1, 28, 28, dtype=torch.float64)
    y = x.clone()
    y[0, 0, 0, 0] += 1

    def change():
        return (net(y, LEVEL) - net(x, LEVEL)).detach().abs()[0, 0]

    whole = change()
    assert float(whole[-1, -1]) > 1e-9 and float(whole[0, 1]) > 1e-3
    for layer in net.layers:
        torch.nn.init.zeros_(layer.mixed.weight)
    assert float(change()[-1, -1]) == 0 < float(change()[0, 1])
    for up in net.up:  # nothing but the skip is left
        torch.nn.init.zeros_(up.weight)
    assert float(change()[0, 1]) > 1e-3


def test_a_convolution_is_one_whose_weights_are_a_matrix():
    """That of the library with the same kernel, and of the same size at the start; in a U-Net all weights are for Muon."""
    torch.manual_seed(0)
    conv, h = Conv(6, 4, 3, stride=2, padding=1), torch.randn(2, 6, 5, 7)
    kernel = torch.stack([conv.weight[:, 6 * i : 6 * i + 6] for i in range(9)], 2).view(4, 6, 3, 3)
    torch.testing.assert_close(conv(h), torch.nn.functional.conv2d(h, kernel, conv.bias, 2, 1))
    assert (
        0.9 < float(conv.weight.detach().abs().max()) * 54**0.5 <= 1
    )  # uniform up to 1 / sqrt(what goes in)
    assert {p.ndim for p in UNet((1, 28, 28), width=8, depth=1).parameters()} == {1, 2}


def test_features_lie_last_in_memory():
    """Through all convolutions: the other order is a third slower on a CPU."""
    seen, net = [], UNet((3, 32, 32), width=8, depth=1)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda _, given, out: seen.append(
                    given[0].is_contiguous(memory_format=torch.channels_last)
                )
            )
    net(torch.randn(2, 3, 32, 32), LEVEL.expand(2))
    assert len(seen) == 8 and all(seen)


@pytest.mark.parametrize("width", [1, 10, 56, 100])
def test_any_width(width):
    """Heads divide the features of the coarsest resolution, whatever their number."""
    x = torch.randn(1, 1, 8, 8)
    assert UNet((1, 8, 8), width=width, depth=1)(x, LEVEL).shape == x.shape
