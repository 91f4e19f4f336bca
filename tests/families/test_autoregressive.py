"""The auto-regressive family: exact likelihoods, hybrids that do not peek, completions, classes."""

import itertools
import math

import numpy as np
import pytest
import torch

from fromnoise.core.errors import UsageError
from fromnoise.core.rng import Rng
from fromnoise.core.spec import Batch, DataSpec
from fromnoise.data.dataset import Dataset, TextSplit
from fromnoise.data.stream import in_order
from fromnoise.families.autoregressive import AutoRegressive, Config, Options
from fromnoise.nets.counts.ngram import KneserNey
from fromnoise.nets.counts.training_set import split_into_folds
from fromnoise.nets.hybrid import predict

NETWORKS = ("ngram", "window", "conv", "gru", "lstm", "gpt")
SMALL = dict(width=16, depth=2, heads=2, order=3)


def model(spec: DataSpec, seed: int = 0, **options) -> AutoRegressive:
    torch.manual_seed(seed)
    made = AutoRegressive(Config(**SMALL | options), spec).eval()
    with torch.no_grad():
        for p in made.net.parameters() if made.net is not None else ():
            p.add_(0.2 * torch.randn_like(p))
    return made


def text(n: int = 400, V: int = 5, seed: int = 0) -> torch.Tensor:
    """A sequence with structure: mostly counting upwards."""
    g = torch.Generator().manual_seed(seed)
    steps = torch.where(torch.rand(n, generator=g) < 0.8, 1, torch.randint(V, (n,), generator=g))
    return steps.cumsum(0) % V


def counted(made: AutoRegressive, s: torch.Tensor) -> AutoRegressive:
    whole = len(s) // made.length * made.length
    made.fit_before(
        lambda: [Batch(s[:whole].view(-1, made.length)), Batch(s[whole:][None])], Rng(0)
    )
    return made


@pytest.mark.parametrize(
    "options",
    [dict(network=name) for name in NETWORKS] + [dict(network="gpt", prior=True)],
    ids=str,
)
@torch.no_grad()
def test_probabilities_of_all_texts_sum_to_one(options):
    made = model(DataSpec("tokens", (4,), levels=3), **options)
    if made.counts is not None:
        counted(made, text(400, 3))
    everything = torch.tensor(list(itertools.product(range(3), repeat=4)))
    total = made.log_likelihood(everything, None, Rng(0)).double().logsumexp(0)
    assert abs(float(total)) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        dict(network="gpt"),
        dict(network="gpt", pack=False),
        dict(network="pixelcnn"),
        dict(network="pixelcnn", gated=True),
    ],
    ids=str,
)
@torch.no_grad()
def test_probabilities_of_all_images_sum_to_one(options):
    made = model(DataSpec("image", (1, 2, 4), levels=2), **options)
    everything = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=8))).view(-1, 1, 2, 4)
    assert abs(float(made.log_likelihood(everything, None, Rng(0)).double().logsumexp(0))) < 1e-5


@torch.no_grad()
def test_packed_and_pixel_by_pixel_are_one_likelihood():
    made = model(DataSpec("image", (1, 4, 8), levels=2))
    x = torch.randint(2, (5, 1, 4, 8), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    s = made.to_symbols(x)
    pixels = made.symbols.by_pixel(made.log_probs(s), s)
    assert pixels.shape == (5, 4, 8)
    assert torch.allclose(pixels.sum((1, 2)), made.log_likelihood(x, None, Rng(0)), atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [dict(network=name) for name in NETWORKS] + [dict(network="gpt", prior=True)],
    ids=str,
)
@torch.no_grad()
def test_steps_are_all_at_once(options):
    made = model(DataSpec("tokens", (10,), levels=5), **options)
    if made.counts is not None:
        counted(made, text())
    s = text(30).view(3, 10)
    whole, state, symbol = made.log_probs(s), made.begin(3), None
    for i in range(10):
        assert torch.allclose(made.step(state, symbol), whole[:, i], atol=1e-5)
        symbol = s[:, i]


def counts_only(made):
    """A hybrid that says what its counts say."""
    for p in made.net.parameters():
        p.zero_()
    made.mix["counts"].fill_(1.0)


def test_a_hybrid_in_training_does_not_count_what_it_predicts():
    """Noise cannot be predicted: the counts of a text of noise know it by heart, unless its part of the text is left out."""
    s = torch.randint(4, (600,), generator=torch.Generator().manual_seed(0))
    made = counted(model(DataSpec("tokens", (20,), levels=4), prior=True, order=6), s)
    with torch.no_grad():
        counts_only(made)
        batch = Batch(s.view(-1, 20), rows=torch.arange(30))
        knows = float(made.eval().loss(batch, "likelihood", Rng(0)).terms["nats_per_symbol"])
        fair = float(made.train().loss(batch, "likelihood", Rng(0)).terms["nats_per_symbol"])
        moved = Batch(
            s.unfold(0, 20, 1)[torch.arange(29) * 20 + 19], rows=torch.arange(29)
        )  # as far as training moves them
        fair_moved = float(made.loss(moved, "likelihood", Rng(0)).terms["nats_per_symbol"])
    assert knows < 0.8 * math.log(4) < 0.98 * math.log(4) < min(fair, fair_moved)
    with pytest.raises(UsageError, match="rows"):
        made.loss(Batch(s.view(-1, 20)), "likelihood", Rng(0))


def test_training_counts_are_those_of_the_other_folds():
    """Of 30 windows the fold of window 7 is windows 6, 7 and 8, and window 9, which they reach into when they are moved on."""
    s = text(605)
    made = counted(model(DataSpec("tokens", (20,), levels=5), prior=True), s).train()
    with torch.no_grad():
        window = s[140:160][None]
        log_p = predict(
            made.net,
            made.counts,
            window,
            torch.zeros(1, dtype=torch.int64),
            made.fold_of(Batch(window, rows=torch.tensor([7]))),
        )[1]
        nll = -log_p.gather(2, window.long()[..., None])[..., 0]
    others = KneserNey(3, 5).fit(torch.cat([s[:120], s[200:]]))
    others.discounts.copy_(made.counts.discounts)
    others._derive()
    assert torch.allclose(
        nll[0, 3:], others.score(s[140:160])[3:], atol=0.02
    )  # two contexts more, where the text was cut
    assert not torch.allclose(nll[0, 3:], made.counts.score(s[140:160])[3:], atol=0.02)


@pytest.mark.parametrize(
    "rows, size, end", [(30, 20, 605), (7, 5, 36), (1, 4, 4), (10, 3, 32), (60_000, 1, 60_000)]
)
def test_folds_hold_each_row_and_where_it_reaches(rows, size, end):
    folds = split_into_folds(rows, size, end)
    for row in {0, 1, rows // 3, rows - 2, rows - 1} & set(range(rows)):
        first, last = folds[row * len(folds) // rows]
        reach = min(size * row + 2 * size - 1, end) if size > 1 else row + 1
        assert first <= size * row and reach <= last
    assert folds[0][0] == 0 and folds[-1][1] == end and len(folds) == min(rows, 10)


def test_a_hybrid_of_images_leaves_their_rows_out():
    """Every image is of its own; the counts without its fold know as much of it as of a new one."""
    spec, g = DataSpec("image", (1, 4, 4), levels=2), torch.Generator().manual_seed(0)
    x = torch.randint(2, (300, 1, 4, 4), generator=g) * 2.0 - 1
    made = model(spec, prior=True, order=6)
    made.fit_before(lambda: [Batch(x[:170]), Batch(x[170:])], Rng(0))
    with torch.no_grad():
        counts_only(made)

        def nats():
            return float(
                made.loss(Batch(x, rows=torch.arange(300)), "likelihood", Rng(0)).terms[
                    "nats_per_symbol"
                ]
            )

        knows, fair = (nats() for made.training in (False, True))
    assert knows < 0.8 * math.log(256) and fair > 0.98 * math.log(256)


def test_a_text_is_counted_to_its_end():
    """The last 5 symbols fill no window; in_order hands them on as a shorter one."""
    s, spec = text(605), DataSpec("tokens", (20,), levels=5)
    part = TextSplit(s.numpy().astype(np.uint8), window=20)

    def batches():
        return in_order(Dataset("text", spec, {"train": part}, ""), "train", rest=True)

    made = model(spec, network="ngram")
    made.fit_before(batches, Rng(0))
    assert torch.equal(made.counts.score(s), KneserNey(3, 5).fit(s).score(s))
    assert [len(b.x[0]) for b in batches()] == [20, 5]


def test_a_hybrid_learns_its_weights_and_its_network_as_if_alone():
    made = counted(model(DataSpec("tokens", (20,), levels=5), prior=True), text())
    (phase,) = made.phases()
    names = made.parameters_of(phase)
    assert {"mix.counts", "mix.network"} < set(names) and any(
        name.startswith("net.") for name in names
    )
    s = text().view(-1, 20)
    loss = made.train().loss(Batch(s, rows=torch.arange(20)), "likelihood", Rng(0))
    loss.value.backward(inputs=list(names.values()))
    assert names["mix.counts"].grad.abs() > 0 and names["mix.network"].grad.abs() > 0
    alone = made.net(s, torch.zeros(20, dtype=torch.int64)).log_softmax(2).gather(2, s[..., None])
    assert loss.terms["network_alone"].item() == pytest.approx(-alone.mean().item(), rel=1e-5)
    assert loss.value.item() == pytest.approx(
        (loss.terms["network_alone"] + loss.terms["nats_per_symbol"]).item() / 2, rel=1e-5
    )
    with torch.no_grad():
        made.mix["network"].zero_()
    gradients = torch.autograd.grad(
        made.loss(Batch(s, rows=torch.arange(20)), "likelihood", Rng(0)).value,
        list(made.net.parameters()),
        allow_unused=True,
    )
    assert any(
        g is not None and g.abs().max() > 0 for g in gradients
    )  # though nothing of it is in the mixture


@torch.no_grad()
def test_completion_keeps_what_is_known_and_draws_the_rest_as_the_model_would():
    made = model(DataSpec("image", (1, 2, 4), levels=2), pack=False)
    n = 4000
    given = torch.tensor([1.0, -1, -1, 1, 0, 0, 0, 0]).view(1, 1, 2, 4).expand(n, -1, -1, -1)
    mask = (torch.arange(8) < 4).view(1, 1, 2, 4).expand(n, -1, -1, -1)
    done = made.complete(given, mask, None, Options(), Rng(0).per_row(range(n)))
    assert torch.equal(done[:, :, :1], given[:, :, :1])
    ends = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4))).view(-1, 1, 1, 4)
    log_p = made.log_likelihood(torch.cat([given[:16, :, :1], ends], 2), None, Rng(0)).log_softmax(
        0
    )
    drawn = (
        (made.to_symbols(done)[:, 4:] * torch.tensor([8, 4, 2, 1])).sum(1).bincount(minlength=16)
    )
    error = (log_p.exp() * (1 - log_p.exp()) * n).sqrt()
    assert ((drawn - n * log_p.exp()).abs() < 4.5 * error + 1).all()


def test_symbols_are_chosen_by_numbers_fine_enough_for_rare_ones(monkeypatch):
    found = []
    monkeypatch.setattr(
        "fromnoise.families.autoregressive.choose_symbol",
        lambda log_p, history, options, u: (found.append(u), log_p.argmax(1))[1],
    )
    model(DataSpec("image", (1, 2, 4), levels=2), pack=False).sample(3, None, Options(), Rng(0))
    assert len(found) == 8 and all(
        u.dtype == torch.float64 and (u * 2**24 % 1 != 0).any() for u in found
    )


@torch.no_grad()
def test_a_packed_completion_keeps_pixels_inside_blocks():
    made = model(DataSpec("image", (1, 4, 8), levels=2))
    g = torch.Generator().manual_seed(0)
    given, mask = (
        torch.randint(2, (30, 1, 4, 8), generator=g) * 2.0 - 1,
        torch.rand(30, 1, 4, 8, generator=g) < 0.5,
    )
    done = made.complete(given, mask, None, Options(), Rng(0).per_row(range(30)))
    assert torch.equal(done[mask], given[mask]) and set(done.unique().tolist()) == {-1.0, 1.0}


@torch.no_grad()
def test_classes_by_bayes_rule():
    made = model(DataSpec("image", (1, 2, 4), levels=2, classes=3), conditional=True)
    x = torch.randint(2, (6, 1, 2, 4), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    made.fit_before(
        lambda: [Batch(x, torch.tensor([0, 0, 1])), Batch(x, torch.tensor([0, 2, 0]))], Rng(0)
    )
    log_p = made.class_log_probs(x)
    shares = torch.tensor([4 / 6, 1 / 6, 1 / 6])
    joint = (
        torch.stack([made.log_likelihood(x, torch.full((6,), y), Rng(0)) for y in range(3)], 1)
        + shares.log()
    )
    assert torch.allclose(log_p.exp().sum(1), torch.ones(6)) and torch.allclose(
        log_p - log_p[:, :1], joint - joint[:, :1], atol=1e-4
    )
    with pytest.raises(UsageError, match="--conditional"):
        model(DataSpec("image", (1, 2, 4), levels=2)).class_log_probs(x)


def test_what_a_hybrid_can_see_is_what_its_counts_see_too():
    spec = DataSpec("tokens", (4,), levels=5)
    assert (
        model(spec, prior=True, order=6).context == 6
        and model(spec, prior=True, order=2).context == 3
    )
    assert model(spec, network="gru", prior=True, order=6).context is None


def test_too_much_to_count_is_told_before_memory_ends(monkeypatch):
    monkeypatch.setattr("fromnoise.nets.counts.training_set.MAX_SYMBOLS", 100)
    with pytest.raises(UsageError, match="too many to count"):
        counted(model(DataSpec("tokens", (20,), levels=5), network="ngram"), text())


@torch.no_grad()
def test_likelihoods_in_pieces_are_the_same(monkeypatch):
    made, s = model(DataSpec("tokens", (10,), levels=5)), text(80).view(8, 10)
    whole = made.nll(s, None)
    monkeypatch.setattr("fromnoise.families.autoregressive.MAX_LOGITS", 150)
    assert torch.allclose(made.nll(s, None), whole, atol=1e-5)


@pytest.mark.parametrize(
    "spec, options, message",
    [
        (DataSpec("vector", (2,)), {}, "for text and images"),
        (DataSpec("tokens", (8,), levels=5), dict(network="pixelcnn"), "is for images"),
        (DataSpec("tokens", (8,), levels=5), dict(conditional=True), "needs labels"),
        (DataSpec("tokens", (8,), levels=5), dict(network="ngram", prior=True), "counts alone"),
        (DataSpec("tokens", (8,), levels=5), dict(head="logistic"), "--head logistic"),
        (DataSpec("tokens", (8,), levels=5), dict(width=30, heads=4), "even multiple"),
    ],
)
def test_options_that_do_not_go_together(spec, options, message):
    with pytest.raises(UsageError, match=message):
        AutoRegressive(Config(**options), spec)


def two_states(n: int, seed: int) -> torch.Tensor:
    """The chain that stays in 0 with 0.9 and in 1 with 0.6: 0.569387 bits a symbol (anchors: Shannon 1948, section 7)."""
    u, s, out = torch.rand(n, generator=torch.Generator().manual_seed(seed)).tolist(), 0, []
    for x in u:
        s = int(x >= (0.9 if s == 0 else 0.4))
        out.append(s)
    return torch.tensor(out)


@pytest.mark.parametrize("network", ["window", "conv", "gru", "gpt"])
def test_a_markov_chain_is_learned_to_its_entropy_rate(network):
    torch.manual_seed(0)
    made = AutoRegressive(
        Config(network=network, width=16, depth=1, heads=1, order=2, kernel=2),
        DataSpec("tokens", (50,), levels=2),
    )
    train, test = two_states(60_000, 1).view(-1, 50), two_states(100_000, 2).view(-1, 50)
    adam = torch.optim.Adam(made.parameters(), 1e-2)
    for i in range(240):
        for group in adam.param_groups:
            group["lr"] = 1e-2 * (1 - i / 240)
        loss = made.loss(Batch(train[i * 5 % 1200 :][:64]), "likelihood", Rng(0)).value
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        bits = made.eval().nll(test, None)[:, 1:].double().mean(1) / math.log(
            2
        )  # the first symbol of a window lacks its state
    error = bits.std() / len(bits) ** 0.5
    assert 0.569387 - 4 * error < bits.mean() < 0.569387 + 0.005 + 2 * error


@pytest.mark.parametrize("network, k", [("window", 3), ("conv", None), ("ngram", 3)])
@torch.no_grad()
def test_what_lies_before_the_window_changes_nothing(network, k):
    made = model(DataSpec("tokens", (30,), levels=5), network=network, order=3, depth=2, kernel=2)
    if made.counts is not None:
        made.fit_before(lambda: [Batch(text(600).view(-1, 30))], Rng(0))
    k = k or made.context
    assert made.context == k < 20
    s = text(60, seed=3).view(2, 30)
    before, j = made.log_probs(s), 5
    other = s.clone()
    other[:, j] = (other[:, j] + 1) % 5
    after = made.log_probs(other)
    assert torch.equal(after[:, : j + 1], before[:, : j + 1]) and torch.equal(
        after[:, j + k + 1 :], before[:, j + k + 1 :]
    )
    assert not torch.equal(after[:, j + 1 : j + k + 1], before[:, j + 1 : j + k + 1])
