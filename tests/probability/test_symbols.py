"""Images as symbols: nothing is lost, and a packed likelihood is that of the pixels."""

import pytest
import torch

from fromnoise.core.spec import DataSpec
from fromnoise.probability.symbols import Blocks, SymbolComponents, Tokens, can_pack, symbol_codec


@pytest.mark.parametrize(
    "shape, levels", [((1, 4, 6), 2), ((1, 3, 5), 17), ((3, 2, 4), 256), ((1, 4, 8), 2)]
)
def test_there_and_back(shape, levels):
    spec = DataSpec("image", shape, levels=levels)
    x = (
        torch.randint(levels, (5, *shape), generator=torch.Generator().manual_seed(0))
        * (2 / (levels - 1))
        - 1
    )
    for pack in (True, False):
        symbols = symbol_codec(spec, pack)
        s = symbols.to_symbols(x)
        assert (
            s.shape == (5, symbols.length)
            and s.dtype == torch.int64
            and 0 <= s.min()
            and s.max() < symbols.vocabulary
        )
        assert torch.allclose(symbols.from_symbols(s), x, atol=1e-6)


def test_what_is_packed():
    assert (
        can_pack(DataSpec("image", (1, 28, 28), levels=2))
        and symbol_codec(DataSpec("image", (1, 28, 28), levels=2), True).length == 98
    )
    assert not can_pack(DataSpec("image", (1, 7, 28), levels=2)) and not can_pack(
        DataSpec("image", (1, 28, 28), levels=256)
    )
    assert isinstance(
        symbol_codec(DataSpec("image", (1, 28, 28), levels=2), False), SymbolComponents
    )
    assert isinstance(symbol_codec(DataSpec("tokens", (9,), levels=5), True), Tokens)


def test_components_go_row_by_row_channels_last():
    spec = DataSpec("image", (3, 2, 2), levels=256)
    x = torch.arange(12).view(1, 2, 2, 3).permute(0, 3, 1, 2) * (2 / 255) - 1
    assert SymbolComponents(spec).to_symbols(x).tolist() == [list(range(12))]


def test_blocks_go_in_raster_order_highest_bit_first():
    x = -torch.ones(1, 1, 4, 8)
    x[0, 0, 0, 0] = x[0, 0, 1, 7] = x[0, 0, 3, 1] = 1
    assert Blocks(DataSpec("image", (1, 4, 8), levels=2)).to_symbols(x).tolist() == [[128, 1, 4, 0]]


def test_the_pixels_of_a_block_multiply_to_its_symbol():
    blocks = Blocks(DataSpec("image", (1, 4, 8), levels=2))
    g = torch.Generator().manual_seed(0)
    log_p = torch.randn(3, 4, 256, generator=g, dtype=torch.float64).log_softmax(2)
    s = torch.randint(256, (3, 4), generator=g)
    pixels = blocks.by_pixel(log_p, s)
    assert torch.allclose(pixels.sum(2), log_p.gather(2, s[..., None])[..., 0])
    first = log_p.exp()[:, :, 128:].sum(
        2
    )  # the upper left pixel is white in the upper half of the symbols
    assert torch.allclose(pixels[..., 0].exp(), torch.where(s >= 128, first, 1 - first))


@pytest.mark.parametrize(
    "shape, levels, pack", [((1, 4, 8), 2, True), ((1, 3, 4), 2, False), ((3, 2, 2), 5, False)]
)
def test_allowed_are_the_symbols_that_agree_with_what_is_known(shape, levels, pack):
    symbols, g = (
        symbol_codec(DataSpec("image", shape, levels=levels), pack),
        torch.Generator().manual_seed(0),
    )
    x = torch.randint(levels, (6, *shape), generator=g) * (2 / (levels - 1)) - 1
    mask = torch.rand(6, *shape, generator=g) < 0.5
    s = symbols.to_symbols(x)
    for i in range(symbols.length):
        allowed = symbols.allowed(x, mask, i)
        assert allowed.gather(1, s[:, i, None]).all()
        for v in range(symbols.vocabulary):
            other = s.clone()
            other[:, i] = v
            agrees = ((symbols.from_symbols(other) - x).abs() < 1e-6) | ~mask
            assert torch.equal(allowed[:, v], agrees.flatten(1).all(1))
