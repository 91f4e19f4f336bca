"""Window MLP, causal convolution, GRU and LSTM: what may be seen, step by step as all at once, for ever, and learning."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fromnoise.core.rng import Rng
from fromnoise.nets.sequence import Convolution, Recurrent, Window

V, STARTS = 5, 2
NETS = {
    "window": lambda V=V, **more: Window(V, STARTS, 4, 24, 2, **more),
    "conv": lambda V=V, **more: Convolution(V, STARTS, 12, 3, 2, **more),
    "conv3": lambda V=V, **more: Convolution(V, STARTS, 12, 2, 3, **more),
    "gru": lambda V=V, **more: Recurrent("gru", V, STARTS, 12, 2, **more),
    "lstm": lambda V=V, **more: Recurrent("lstm", V, STARTS, 12, 2, **more),
}
CONTEXTS = {"window": 4, "conv": 8, "conv3": 7, "gru": None, "lstm": None}
every_net = pytest.mark.parametrize("name", NETS)


def make(name, trained=True, **more):
    """A network in evaluation mode; trained: its logits are no longer all zero."""
    Rng(0).seed_torch()
    net = NETS[name](**more).eval()
    if trained:
        nn.init.normal_(net.output.weight)
    return net


def symbols(B, T, V=V, seed=0):
    return Rng(seed).integers("s", V, (B, T)), Rng(seed).integers("start", STARTS, (B,))


def steps(net, s, start):
    """The logits of forward(s, start), one symbol at a time."""
    state = net.begin(len(s))
    read = torch.cat([net.vocabulary + start[:, None], s[:, :-1]], 1)
    return torch.stack([net.step(state, column) for column in read.unbind(1)], 1)


# -- what may be seen -----------------------------------------------------------------------------------------------


@every_net
def test_sees_what_was_before_and_no_more_than_the_context(name):
    net, (s, start) = make(name), symbols(3, 20)
    assert net.context == CONTEXTS[name]
    before = net(s, start)
    assert before.shape == (3, 20, V)
    for j in range(20):
        other = s.clone()
        other[:, j] = (s[:, j] + 1) % V
        same = (net(other, start) == before).all(2)  # (B, T), bit for bit
        reach = 20 if net.context is None else net.context
        assert (
            same[:, : j + 1].all()
            and not same[:, j + 1 : j + 1 + reach].any()
            and same[:, j + 1 + reach :].all()
        )


@every_net
def test_the_start_token_matters(name):
    net, (s, _) = make(name), symbols(3, 20)
    same = (
        net(s, torch.zeros(3, dtype=torch.int64)) == net(s, torch.ones(3, dtype=torch.int64))
    ).all(2)
    reach = 20 if net.context is None else net.context
    assert not same[:, :reach].any() and same[:, reach:].all()


def test_before_the_start_a_window_sees_nothing():
    """The start token stands directly before the first symbol, and before it a token of its own."""
    net = make("window")
    nothing, start = net.embedding.weight[net.nothing].clone(), net.embedding.weight[V].clone()
    assert not torch.equal(nothing, start)
    s, zero = symbols(1, 3)[0], torch.zeros(1, dtype=torch.int64)
    first = net(s, zero)[0, 0]
    by_hand = net.predict(torch.stack([nothing, nothing, nothing, start], 1)[None, None])[0, 0]
    torch.testing.assert_close(first, by_hand, rtol=0, atol=1e-5)


# -- one at a time --------------------------------------------------------------------------------------------------


@every_net
def test_step_by_step_as_all_at_once_and_a_batch_as_one(name):
    net, (s, start) = make(name), symbols(6, 30)
    together = net(s, start)
    assert together.std() > 0.1
    torch.testing.assert_close(steps(net, s, start), together, rtol=0, atol=1e-5)
    torch.testing.assert_close(net(s[2:3], start[2:3]), together[2:3], rtol=0, atol=1e-5)
    torch.testing.assert_close(steps(net, s[2:3], start[2:3]), together[2:3], rtol=0, atol=1e-5)


def held(state):
    """Number of tensor elements that a state holds."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    if isinstance(state, list | tuple):
        return sum(map(held, state))
    return sum(map(held, vars(state).values())) if hasattr(state, "__dict__") else 0


@every_net
def test_goes_on_for_ever(name):
    net, (s, start) = make(name), symbols(2, 1000)
    together, state, sizes = net(s, start), net.begin(2), []
    read = torch.cat([V + start[:, None], s[:, :-1]], 1)
    for i, column in enumerate(read.unbind(1)):
        logits = net.step(state, column)
        sizes.append(held(state))
        if i % 97 == 0 or i == 999:
            torch.testing.assert_close(logits, together[:, i], rtol=0, atol=1e-5)
    assert sizes[0] > 0 and set(sizes) == {sizes[0]} and not logits.requires_grad


@every_net
def test_two_states_do_not_share_anything(name):
    net, (s, start) = make(name), symbols(2, 12)
    alone = steps(net, s[:1], start[:1])
    one, other, mixed = net.begin(1), net.begin(1), []
    read = torch.cat([V + start[:, None], s[:, :-1]], 1)
    for column in read.unbind(1):
        mixed.append(net.step(one, column[:1]))
        net.step(other, column[1:])
    assert torch.equal(torch.stack(mixed, 1), alone)


# -- as distributions, and in training ------------------------------------------------------------------------------


@every_net
def test_probabilities_of_all_sequences_sum_to_one(name):
    net = make(name, V=3).double()
    s = torch.tensor(list(itertools.product(range(3), repeat=5)))
    for start in range(STARTS):
        log_p = (
            net(s, torch.full((len(s),), start))
            .log_softmax(2)
            .gather(2, s[..., None])[..., 0]
            .sum(1)
        )
        assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
        assert log_p.std() > 0.1


@every_net
def test_the_first_loss_is_log_v_and_gradients_reach_everything(name):
    net, (s, start) = make(name, trained=False), symbols(16, 20)

    def loss():
        return F.cross_entropy(net(s, start).flatten(0, 1), s.flatten())

    assert loss().item() == pytest.approx(math.log(V), abs=1e-6)
    nn.init.normal_(net.output.weight)
    loss().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]


@every_net
def test_dropout_in_training_only(name):
    net, (s, start) = make(name, dropout=0.4), symbols(3, 20)
    assert torch.equal(net(s, start), net(s, start))
    net.train()
    assert not torch.equal(net(s, start), net(s, start))
    with torch.autocast("cpu", torch.bfloat16):
        assert net(s, start).dtype == torch.float32


def periodic(B, T, seed):
    """Three random symbols, again and again: the fourth and all later ones are known to whoever sees three."""
    s, start = symbols(B, 3, seed=seed)
    return s.repeat(1, math.ceil(T / 3))[:, :T], start


def learn(net, steps=200):
    """Cross-entropy on new periodic sequences after the first three symbols, nats."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)

    def cost(s, start):
        return F.cross_entropy(net(s, start)[:, 3:].flatten(0, 1), s[:, 3:].flatten())

    for step in range(steps):
        optimizer.zero_grad()
        cost(*periodic(32, 15, seed=step)).backward()
        optimizer.step()
    return cost(*periodic(256, 15, seed=10_000)).item()


@every_net
def test_learns_what_its_context_shows(name):
    assert learn(make(name, trained=False).train()) < 0.4


def test_a_window_of_two_cannot_know_the_third():
    Rng(0).seed_torch()
    assert learn(Window(V, STARTS, 2, 24, 1)) > math.log(V) - 0.15
