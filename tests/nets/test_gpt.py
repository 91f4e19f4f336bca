"""The Transformer: causal to the bit, and one symbol at a time what it is all at once, however it is configured."""

import pytest
import torch

from fromnoise.nets.gpt import GPT, ReluSquared, attention, feature_dropout, normalise

V, T = 7, 12
FORMS = {
    "all on": {},
    "grid": dict(grid=(3, 4)),
    "narrow grid": dict(grid=(6, 2)),
    "plain": dict(
        rotary=False,
        qk_norm=False,
        squared_relu=False,
        zero_init=False,
        value_residual=False,
        shortcut=False,
        soft_cap=0.0,
        bigram=False,
    ),
    "one at a time": dict(bigram=False, value_residual=False),
}


def net(seed=0, vocabulary=V, **more) -> GPT:
    torch.manual_seed(seed)
    made = GPT(vocabulary, 2, T, 16, 2, 2, **more).eval()
    with torch.no_grad():
        for p in made.parameters():  # zero_init would hide what is wrong in a branch
            p.add_(0.3 * torch.randn_like(p))
    return made


def symbols(n=4, length=T, vocabulary=V) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randint(vocabulary, (n, length), generator=g), torch.arange(n) % 2


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_symbol_changes_only_what_comes_after_it(form):
    model, (s, start) = net(**FORMS[form]), symbols()
    before = model(s, start)
    for j in range(T):
        other = s.clone()
        other[:, j] = (other[:, j] + 1) % V
        after = model(other, start)
        assert torch.equal(after[:, : j + 1], before[:, : j + 1])
        if j + 1 < T:
            assert not torch.allclose(after[:, j + 1], before[:, j + 1], atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_one_symbol_at_a_time_is_all_at_once(form):
    model, (s, start) = net(**FORMS[form]), symbols()
    whole, state = model(s, start), model.begin(len(s))
    read = model.vocabulary + start
    for i in range(T):
        assert torch.allclose(model.step(state, read), whole[:, i], atol=1e-5)
        read = s[:, i]


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch(form):
    model, (s, start) = net(**FORMS[form]), symbols()
    whole = model(s, start)
    for i in range(len(s)):
        assert torch.allclose(model(s[i : i + 1], start[i : i + 1])[0], whole[i], atol=1e-5)


@pytest.mark.parametrize("m, p", [(5, 5), (3, 8), (1, 8), (1, 1)])
def test_long_sequences_attend_in_the_same_way(monkeypatch, m, p):
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, generator=g) for n in (m, p, p))
    short = attention(q, k, v)
    monkeypatch.setattr("fromnoise.nets.gpt.LONG", 0)
    assert torch.allclose(attention(q, k, v), short, atol=1e-6)


def test_the_squared_relu_is_that_with_its_slope():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    assert torch.equal(ReluSquared.apply(x), x.relu().square())
    assert torch.autograd.gradcheck(ReluSquared.apply, x[x != 0].detach().requires_grad_())


def test_mixed_precision_is_for_the_whole_stream():
    """What goes from layer to layer is bfloat16; the logits are float32, and nearly those without."""
    model, (s, start), seen = net(), symbols(), []
    model.layers[1].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].dtype))
    with torch.no_grad():
        plain = model(s, start)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(s, start)
    assert seen == [torch.float32, torch.bfloat16] and mixed.dtype == torch.float32
    assert (mixed - plain).abs().max() < 0.1 * plain.abs().max()
    y = normalise(3 + 2 * torch.randn(5, 64))
    assert y.mean(1).abs().max() < 1e-5 and torch.allclose(
        y.square().mean(1), torch.ones(5), atol=1e-4
    )


@torch.no_grad()
def test_a_full_cache_reads_the_last_half_again():
    model, (s, start) = net(), symbols(length=40)
    state, read, out = model.begin(len(s)), V + start, []
    for i in range(40):
        out.append(model.step(state, read))
        read = s[:, i]
    half = T // 2
    for first in range(
        half, 40 - T + 1, half
    ):  # windows that hop by half: their later half is what comes out
        window = model(s[:, first : first + T], start)
        assert torch.allclose(
            torch.stack(out[first + half : first + T], 1), window[:, half:], atol=1e-5
        )


def test_the_first_loss_is_that_of_guessing():
    torch.manual_seed(0)
    model, (s, start) = GPT(V, 2, T, 16, 2, 2), symbols()
    assert torch.allclose(model(s, start), torch.zeros(()))


@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_learns(form):
    model, (s, start) = net(**FORMS[form]), symbols()
    model.train()(s, start).square().sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0, name


def test_the_class_changes_every_place():
    model, (s, _) = net(), symbols()
    a, b = model(s, torch.zeros(4, dtype=torch.int64)), model(s, torch.ones(4, dtype=torch.int64))
    assert ((a - b).abs().amax(2) > 1e-4).all()


def test_the_cap_holds():
    model, (s, start) = net(soft_cap=2.0), symbols()
    with torch.no_grad():
        model.output.weight.mul_(100)
        assert model(s, start).abs().max() <= 2.0 < net(soft_cap=0.0)(s, start).abs().max() * 100


def test_dropout_is_one_draw_for_a_sequence():
    torch.manual_seed(0)
    x = feature_dropout(torch.ones(3, 5, 64), 0.5, True)
    assert torch.equal(x, x[:, :1].expand_as(x)) and set(x.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(feature_dropout(x, 0.5, False), x)


def test_pairs_are_told_apart_where_they_fit_in_a_table():
    assert net().before.num_embeddings == (V + 2) ** 2
    assert net(vocabulary=256).before.num_embeddings == 258
