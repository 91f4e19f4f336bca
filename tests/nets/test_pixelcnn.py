"""PixelCNN: which component sees which, cached as all at once, exact distributions, and learning the order of colours."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import logistic
from torch import nn

from fromnoise.core.rng import Rng
from fromnoise.nets.pixelcnn import PixelCNN, log_logistic_mass
from fromnoise.nets.pixelcnn_stacks import PlainStack

FORMS = [
    ("plain", "categorical"),
    ("plain", "logistic"),
    ("gated", "categorical"),
    ("gated", "logistic"),
]
every_form = pytest.mark.parametrize("kind,head", FORMS)
every_kind = pytest.mark.parametrize("kind", ["plain", "gated"])


def make(
    shape, levels, kind="plain", head="categorical", width=12, blocks=2, starts=2, trained=True
):
    Rng(0).seed_torch()
    net = PixelCNN(shape, levels, starts, width, blocks, kind, head, mixtures=3)
    if trained:
        nn.init.normal_(net.out.weight, std=2.0)
        for table in net.starts:
            nn.init.normal_(table.weight)
    return net


def images(net, B, seed=0):
    return Rng(seed).integers("s", net.vocabulary, (B, net.context)), Rng(seed).integers(
        "start", 2, (B,)
    )


def steps(net, s, start):
    state = net.begin(len(s))
    read = torch.cat([net.vocabulary + start[:, None], s[:, :-1]], 1)
    return torch.stack([net.step(state, column) for column in read.unbind(1)], 1)


def sees(net):
    """(T, T) bool: whether component i depends on component j, found by changing each j.

    Weights and biases are such that no ReLU is ever closed: what has a path is seen.
    """
    net.double()
    for part in (net.stack, net.mix) if isinstance(net.stack, PlainStack) else (net.mix,):
        for p in part.parameters():
            nn.init.uniform_(p, 0.1, 0.2)
    if isinstance(net.stack, PlainStack):
        nn.init.constant_(net.starts[0].weight, 100.0)
        for table in net.starts[1:]:
            nn.init.constant_(table.weight, 0.1)
    else:
        nn.init.constant_(net.stack.layers[-1].mix.bias, 10.0)
    s, start = images(net, 1)
    T = s.shape[1]
    others = (s + torch.eye(T, dtype=torch.int64)) % net.vocabulary  # row j: component j is changed
    before, after = net(s.expand(T, T), start.expand(T)), net(others, start.expand(T))
    return (before != after).any(2).T


# -- what may be seen -----------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("shape", [(1, 5, 6), (3, 3, 4), (2, 4, 1), (3, 1, 5)])
def test_no_component_sees_itself_or_a_later_one(shape, kind, head):
    seen = sees(make(shape, 4, kind, head))
    assert not seen.triu().any()
    for i in range(1, len(seen)):
        if head == "categorical" and i % (shape[0] * shape[2]):  # in the row of the one before
            assert seen[i, i - 1], i


@pytest.mark.parametrize("shape", [(1, 8, 12), (3, 4, 6)])
def test_the_gated_form_sees_all_that_was_before(shape):
    """Every component all earlier ones, colours of the same pixel in their order, once the receptive field is as large as the image."""
    seen = sees(make(shape, 2, "gated", blocks=9))
    assert torch.equal(seen, torch.ones_like(seen).tril(-1))


@pytest.mark.parametrize("shape", [(1, 8, 12), (3, 4, 6)])
def test_the_blind_spot_of_the_plain_form(shape):
    C, H, W = shape
    seen = sees(make(shape, 2, "plain", blocks=11))
    for i, j in itertools.product(range(C * H * W), repeat=2):
        (pixel, _), (before, _) = divmod(i, C), divmod(j, C)
        up, right = pixel // W - before // W, before % W - pixel % W
        assert seen[i, j] == (j < i and (up == 0 or right < up + 3)), (i, j)


@every_form
def test_the_start_token_matters_everywhere(kind, head):
    net = make((2, 3, 4), 3, kind, head)
    s, _ = images(net, 2)
    zero = torch.zeros(2, dtype=torch.int64)
    assert (net(s, zero) != net(s, zero + 1)).any(2).all()


# -- one at a time --------------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize(
    "shape,levels", [((1, 9, 7), 2), ((3, 4, 5), 16), ((2, 1, 6), 256), ((1, 6, 1), 3)]
)
def test_cached_as_all_at_once_and_a_batch_as_one(shape, levels, kind, head):
    net = make(shape, levels, kind, head).eval()
    s, start = images(net, 4)
    together = net(s, start)
    assert together.shape == (4, math.prod(shape), levels) and together.std() > 0.1
    torch.testing.assert_close(
        steps(net, s, start), together, rtol=0, atol=1e-5 * together.abs().max().clamp(min=1).item()
    )
    torch.testing.assert_close(
        net(s[1:2], start[1:2]),
        together[1:2],
        rtol=0,
        atol=1e-5 * together.abs().max().clamp(min=1).item(),
    )


@every_kind
def test_a_full_image_takes_no_more(kind):
    net = make((1, 2, 2), 2, kind)
    s, start = images(net, 3)
    state = net.begin(3)
    for symbol in (2 + start, *s[:, :3].unbind(1)):
        assert net.step(state, symbol).shape == (3, 2)
    with pytest.raises(ValueError, match="all 4 components"):
        net.step(state, s[:, 3])


@every_kind
def test_nothing_grows_and_states_are_apart(kind):
    net = make((2, 4, 5), 3, kind)
    s, start = images(net, 2)
    alone = steps(net, s[:1], start[:1])
    one, other, mixed = net.begin(1), net.begin(1), []
    for column in torch.cat([3 + start[:, None], s[:, :-1]], 1).unbind(1):
        mixed.append(net.step(one, column[:1]))
        net.step(other, column[1:])
    assert torch.equal(torch.stack(mixed, 1), alone) and not mixed[0].requires_grad


# -- as distributions -----------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("shape,levels", [((1, 2, 2), 2), ((3, 1, 2), 3)])
def test_probabilities_of_all_images_sum_to_one(shape, levels, kind, head):
    net = make(shape, levels, kind, head, blocks=1).double()
    s = torch.tensor(list(itertools.product(range(levels), repeat=math.prod(shape))))
    for start in range(2):
        log_p = -net.nll(s, torch.full((len(s),), start)).sum(1)
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)
        assert log_p.std() > 0.1


@every_form
def test_nll_is_that_of_the_logits(kind, head):
    net = make((3, 3, 4), 7, kind, head).double()
    s, start = images(net, 5)
    logits = net(s, start)
    if head == "logistic":  # they are log probabilities already
        torch.testing.assert_close(
            logits.logsumexp(2), torch.zeros_like(logits[..., 0]), rtol=0, atol=1e-9
        )
    by_logits = F.cross_entropy(logits.flatten(0, 1), s.flatten(), reduction="none").view_as(s)
    torch.testing.assert_close(net.nll(s, start), by_logits, rtol=0, atol=1e-9)


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_masses_of_a_logistic(levels):
    """Against scipy's distribution function; and where that has no digits left, finite and never above 0."""
    mean, log_scale = (
        torch.tensor([-1.5, -0.3, 0.0, 0.9], dtype=torch.float64),
        torch.tensor([-1.0, -4.0, 1.5, -6.9], dtype=torch.float64),
    )
    level = torch.arange(levels)[:, None]
    ours = log_logistic_mass(level, levels, mean, log_scale)
    edges = np.concatenate(
        [[-np.inf], (2 * np.arange(levels - 1) + 1) / (levels - 1) - 1, [np.inf]]
    )[:, None]
    theirs = np.diff(logistic.cdf(edges, mean.numpy(), log_scale.exp().numpy()), axis=0)
    np.testing.assert_allclose(ours.exp().numpy(), theirs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.logsumexp(0).numpy(), 0, rtol=0, atol=1e-12)
    wild = torch.tensor([-200.0, 0.0, 200.0])
    extreme = log_logistic_mass(
        level[..., None], levels, wild[:, None].requires_grad_(), torch.tensor([-50.0, 0.0, 20.0])
    )
    assert extreme.isfinite().all() and (extreme <= 0).all()
    torch.testing.assert_close(extreme.logsumexp(0), torch.zeros(3, 3), rtol=0, atol=1e-3)
    extreme.sum().backward()
    assert wild.grad is None or wild.grad.isfinite().all()


# -- in training ----------------------------------------------------------------------------------------------------


@every_form
@pytest.mark.parametrize("shape,levels", [((1, 6, 6), 2), ((3, 4, 5), 256)])
def test_the_first_loss_is_log_v_and_gradients_reach_everything(shape, levels, kind, head):
    net = make(shape, levels, kind, head, trained=False)
    s, start = images(net, 16)
    first = net.nll(s, start).mean().item()
    assert first == pytest.approx(math.log(levels), abs=1e-5 if head == "categorical" else 0.1)
    nn.init.normal_(net.out.weight)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    net.nll(s, start).sum().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(
        torch.equal(p, before[name]) for name, p in net.named_parameters()
    )  # masks change no weights
    for module in net.modules():
        if getattr(module, "mask", None) is not None:
            assert not module.weight.grad[module.mask == 0].any()


def test_the_residual_is_added_once():
    """Blocks whose last layer is zero leave the stream as it is: with any number of them the logits are those of none."""
    nets = [make((1, 5, 5), 2, blocks=blocks) for blocks in (0, 6)]
    none, six = nets
    for _, _, up in six.stack.blocks:
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
    six.load_state_dict({k: v for k, v in none.state_dict().items()}, strict=False)
    s, start = images(none, 3)
    assert torch.equal(none(s, start), six(s, start))


@every_form
def test_learns_the_order_of_colours(kind, head):
    """Red is a coin for each row, green the same, blue the other: log 2 nats for each row and nothing more."""
    net = make((3, 2, 3), 2, kind, head, trained=False)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)

    def draw(B, seed):
        red = Rng(seed).integers("red", 2, (B, 2, 1)).expand(-1, -1, 3)
        return torch.stack([red, red, 1 - red], 3).flatten(1), torch.zeros(B, dtype=torch.int64)

    for step in range(150):
        optimizer.zero_grad()
        net.nll(*draw(32, step)).sum(1).mean().backward()
        optimizer.step()
    cost = net.nll(*draw(256, 10_000)).mean(0)
    coins = torch.zeros(18)
    coins[[0, 9]] = math.log(2)
    torch.testing.assert_close(cost, coins, rtol=0, atol=0.1)
