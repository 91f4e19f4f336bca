"""Counts against definitions: Kneser-Ney recounted by hand for each query, and chains whose rate is known."""

import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from fromnoise.core.errors import DataError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.nets.counts import ngram
from fromnoise.nets.counts.ngram import KneserNey, contexts

BEGIN = "begin"


def tensor(rows):
    return torch.tensor(rows, dtype=torch.int64)


def words(n: int, vocabulary: int, name="text") -> np.ndarray:
    """n symbols that repeat themselves enough for long contexts to be seen again."""
    rng = Rng(0).numpy(name)
    pieces = [rng.integers(vocabulary, size=rng.integers(2, 6)) for _ in range(4)]
    return np.concatenate([pieces[i] for i in rng.integers(4, size=n + 1)])[:n]


def occurrences(sequences, order: int, begins: bool) -> list[tuple[tuple, int]]:
    """(everything known before it, at most ``order`` symbols; symbol) for each symbol."""
    found = []
    for s in sequences:
        before = [BEGIN] if begins else []
        for symbol in map(int, s):
            found.append(
                (tuple(before[len(before) - order :] if order < len(before) else before), symbol)
            )
            before.append(symbol)
    return found


class ByHand:
    """Chen & Goodman's formulas, one query at a time, from the list of occurrences."""

    def __init__(self, seen, order, vocabulary, discounts=None):
        self.order, self.vocabulary = order, vocabulary
        self.plain, self.continued = Counter(), Counter()
        for h, w in seen:
            for k in range(len(h) + 1):
                self.plain[h[len(h) - k :], w] += 1
        for h, w in self.plain:  # one for each different symbol seen before
            if h:
                self.continued[h[1:], w] += 1
        self.D = discounts or {
            (k, kind): self.discount(k, kind) for k in range(order + 1) for kind in (0, 1)
        }

    def counts(self, kind):
        return self.plain if kind else self.continued

    def discount(self, k, kind):
        n = Counter(c for (h, _), c in self.counts(kind).items() if len(h) == k)
        D = [0.0]
        for i, fallback in ((1, 0.5), (2, 1.0), (3, 1.5)):
            try:
                value = i - (i + 1) * n[1] / (n[1] + 2 * n[2]) * n[i + 1] / n[i]
            except ZeroDivisionError:
                value = fallback
            D.append(value if 0 < value < i else fallback)
        return D

    def p(self, h) -> np.ndarray:
        """p(. | h), (V,); h as tuples of occurrences."""
        p = np.full(self.vocabulary, 1 / self.vocabulary)
        for k in range(len(h) + 1):
            kind = int(k == len(h))
            suffix = h[len(h) - k :]
            c = np.array([self.counts(kind)[suffix, w] for w in range(self.vocabulary)])
            if c.sum():
                D = np.array([self.D[k, kind][min(3, x)] for x in c])
                p = (c - D) / c.sum() + D.sum() / c.sum() * p
        return p


def row(h, order, begins) -> list[int]:
    symbols = [x for x in h if x is not BEGIN]
    return [-1] * (order - len(symbols)) + symbols


CASES = {
    "text": (lambda: words(150, 5), 4, 5),
    "two symbols": (lambda: words(100, 2), 6, 2),
    "one symbol": (lambda: np.zeros(9, int), 2, 1),
    "sequences": (lambda: words(150, 4).reshape(-1, 6), 3, 4),
    "shorter than the order": (lambda: words(150, 4).reshape(-1, 3), 5, 4),
    "uneven": (lambda: [words(n, 4, f"{n}") for n in (7, 1, 0, 30, 4, 12)], 3, 4),
    "no context": (lambda: words(60, 7), 0, 7),
    "short text": (lambda: np.array([1, 0, 1]), 8, 3),
    "one letter": (lambda: np.array([2]), 2, 3),
    "nothing": (lambda: np.zeros(0, int), 2, 3),
}


@pytest.fixture(params=list(CASES), ids=list(CASES))
def case(request):
    """(model, recounted by hand, occurrences, their contexts as rows, whether sequences begin, what was counted)"""
    make, order, V = CASES[request.param]
    s = make()
    begins = isinstance(s, list) or s.ndim == 2
    seen = occurrences(s if begins else [s], order, begins)
    return KneserNey(order, V).fit(s), ByHand(seen, order, V), seen, begins, s


def queries(model, seen, begins) -> list[tuple]:
    """Contexts that were seen, some that were not and some of which less is known."""
    rng = Rng(0).numpy("queries")
    known = sorted({h for h, _ in seen}, key=str)
    new = [tuple(map(int, rng.integers(model.vocabulary, size=model.order))) for _ in range(30)]
    short = [
        (BEGIN, *h[1:3])[: model.order] if begins else h[: int(rng.integers(model.order + 1))]
        for h in new
    ]
    return known + new + short


def test_probabilities_as_by_hand(case):
    model, hand, seen, begins, _ = case
    asked = queries(model, seen, begins)
    rows = tensor([row(h, model.order, begins) for h in asked]).view(len(asked), model.order)
    p = model.log_probs(rows).double().exp()
    assert (
        p.shape == (len(asked), model.vocabulary) and model.log_probs(rows).dtype == torch.float32
    )
    assert (p.sum(1) - 1).abs().max() < 1e-6 and p.min() > 0
    np.testing.assert_allclose(p, np.stack([hand.p(h) for h in asked]), rtol=0, atol=1e-6)
    for k in range(model.order + 1):
        np.testing.assert_allclose(
            model.discounts[k].numpy(), [hand.D[k, 0], hand.D[k, 1]], atol=1e-6
        )


@pytest.mark.parametrize("whole", [0, 300, 2**22])
def test_without_a_fold_as_counted_again_without_it(case, whole, monkeypatch):
    """Folds that overlap, one of a single symbol or sequence, and one of everything."""
    monkeypatch.setattr(ngram, "WHOLE", whole)
    model, hand, seen, begins, s = case
    if not seen:
        return
    lengths = [1] * len(seen)
    if begins:
        lengths = [len(part) for part in s]
    n, place = len(lengths), np.repeat(np.arange(len(lengths)), lengths)
    folds = [(0, n // 2), (n // 3, n - 1), (n - 1, n), (0, n)]
    counted = KneserNey(model.order, model.vocabulary).fit(s, folds)
    asked = queries(model, seen, begins)
    rows = tensor([row(h, model.order, begins) for h in asked]).view(len(asked), model.order)
    assert torch.equal(counted.log_probs(rows), model.log_probs(rows))
    fold = torch.arange(len(rows)) % 4  # all in one query
    mixed = counted.log_probs(rows, fold).double().exp()
    for f, (first, end) in enumerate(folds):
        kept = [pair for pair, i in zip(seen, place) if not first <= i < end]
        without = ByHand(kept, model.order, model.vocabulary, hand.D)
        p = counted.log_probs(rows, torch.full((len(rows),), f)).double().exp()
        assert (p.sum(1) - 1).abs().max() < 1e-6
        np.testing.assert_allclose(p, np.stack([without.p(h) for h in asked]), rtol=0, atol=1e-6)
        torch.testing.assert_close(mixed[fold == f], p[fold == f], rtol=0, atol=1e-7)


def test_folds_stay_when_their_own_counts_are_loaded_and_go_with_others():
    s = words(300, 4)
    model, h = (
        KneserNey(3, 4).fit(s, [(0, 150), (150, 300)]),
        contexts(torch.from_numpy(s)[None], 3)[0],
    )
    fold = (torch.arange(300) >= 150).long()
    before = model.log_probs(h, fold)
    model.load_state_dict(KneserNey(3, 4).fit(s).state_dict())
    assert torch.equal(model.log_probs(h, fold), before)
    model.load_state_dict(KneserNey(3, 4).fit(s[:200]).state_dict())
    with pytest.raises(UsageError, match="without folds"):
        model.log_probs(h, fold)


@pytest.mark.parametrize("whole", [0, 2**22])
def test_score_is_log_probs_of_what_came(case, whole, monkeypatch):
    monkeypatch.setattr(ngram, "WHOLE", whole)
    model, _, _, begins, _ = case
    s = torch.from_numpy(words(120, model.vocabulary, "other").reshape(6, 20))
    flat, h = s.flatten(), contexts(s, model.order).flatten(0, 1)
    torch.testing.assert_close(
        model.score(s), -model.log_probs(h).gather(1, flat[:, None]).view(6, 20), rtol=0, atol=2e-6
    )
    monkeypatch.setattr(ngram, "CHUNK", 7)
    torch.testing.assert_close(
        model.score(s), -model.log_probs(h).gather(1, flat[:, None]).view(6, 20), rtol=0, atol=2e-6
    )
    assert torch.equal(model.score(s[2].numpy()), model.score(s)[2])


def test_contexts():
    s = torch.tensor([[3, 1, 2], [0, 0, 4]])
    assert contexts(s, 2).tolist() == [[[-1, -1], [-1, 3], [3, 1]], [[-1, -1], [-1, 0], [0, 0]]]
    assert contexts(s, 0).shape == (2, 3, 0) and contexts(s[:, :0], 4).shape == (2, 0, 4)


def test_one_fit_holds_all_orders():
    s = words(400, 4)
    h = contexts(torch.from_numpy(s)[None], 5)[0]
    long = KneserNey(5, 4).fit(s)
    for k in range(6):
        torch.testing.assert_close(
            long.log_probs(h[:, 5 - k :]), KneserNey(k, 4).fit(s).log_probs(h[:, 5 - k :])
        )


def test_no_context_crosses_from_one_sequence_to_the_next():
    apart = KneserNey(2, 4).fit(np.array([[0, 1], [2, 3]] * 50))
    assert apart.log_probs(torch.tensor([[-1, 1]])).exp().max() < 0.5  # nothing ever came after 1
    assert (
        apart.log_probs(torch.tensor([[-1, -1]])).exp()[0, [0, 2]].sum() > 0.95
    )  # and all begin with 0 or 2
    text = KneserNey(2, 4).fit(np.array([0, 1, 2, 3] * 50))
    assert text.log_probs(torch.tensor([[-1, 1]])).exp()[0, 2] > 0.95
    torch.testing.assert_close(
        text.log_probs(torch.tensor([[-1, -1]])).exp(), torch.full((1, 4), 0.25)
    )


def test_packed_pairs_hold_any_vocabulary_and_order():
    """50,000^9 is far above 2^64."""
    some = Rng(0).numpy("some").integers(50_000, size=5)
    s = some[words(300, 5)]
    few, many = KneserNey(8, 5).fit(words(300, 5)), KneserNey(8, 50_000).fit(s)
    h = contexts(torch.from_numpy(words(300, 5))[None], 8)[0][::3]
    ids = torch.cat([torch.from_numpy(some), torch.tensor([-1])])
    p, q = few.log_probs(h).exp(), many.log_probs(ids[h]).exp()
    assert (q.sum(1) - 1).abs().max() < 1e-5
    assert (
        p - q[:, some]
    ).abs().max() < 0.02  # but for the share of the uniform distribution below the shortest context
    assert len(few.grams) == len(many.grams)


def test_tables_travel_as_tensors():
    s = words(500, 4)
    model = KneserNey(3, 4).fit(s)
    copy = KneserNey(3, 4)
    copy.load_state_dict(
        load(save({name: t.contiguous() for name, t in model.state_dict().items()}))
    )
    h = contexts(torch.from_numpy(s)[None], 3)[0]
    assert torch.equal(copy.log_probs(h), model.log_probs(h)) and len(copy.grams) == len(
        model.grams
    )
    inside = torch.nn.Sequential(KneserNey(3, 4))
    inside.load_state_dict({f"0.{name}": t for name, t in model.state_dict().items()})
    assert torch.equal(inside[0].score(s), model.score(s))
    with pytest.raises(RuntimeError, match="size mismatch"):  # another order is another model
        KneserNey(2, 4).load_state_dict(model.state_dict())


def test_deep_certainty_stays_finite():
    """Each of 200 orders halves what is left for the other symbol: less than a float32 can hold, and yet a number."""
    model = KneserNey(200, 2).fit(np.zeros(1000, np.int64))
    p = model.log_probs(torch.zeros(1, 200, dtype=torch.int64))
    assert p[0, 0].abs() < 1e-6 and -90 < p[0, 1] < -80
    assert model.score([0] * 300 + [1])[-1] == -p[0, 1]


def test_mistakes():
    with pytest.raises(UsageError):
        KneserNey(-1, 4)
    with pytest.raises(UsageError):
        KneserNey(2, 4).fit(np.zeros(4))
    with pytest.raises(DataError, match=r"0 \.\. 3"):
        KneserNey(2, 4).fit(np.array([0, 4]))
    with pytest.raises(DataError):
        KneserNey(2, 4).fit(np.array([0, -1]))
    with pytest.raises(UsageError):
        KneserNey(2, 4).log_probs(torch.tensor([[0, 4]]))
    with pytest.raises(UsageError):
        KneserNey(2, 4).score([0, 4])


def two_states(n: int, name: str) -> np.ndarray:
    """The chain that leaves 0 with probability .1 and 1 with .4, as runs."""
    rng = Rng(0).numpy(name)
    runs = np.stack([rng.geometric(0.1, n // 10), rng.geometric(0.4, n // 10)], 1).ravel()
    return np.repeat(np.arange(len(runs)) % 2, runs)[:n]


@pytest.mark.parametrize("order,rate", [(0, 0.721928095), (1, 0.569386594), (3, 0.569386594)])
def test_markov_chain_costs_its_entropy_rate(order, rate):
    model = KneserNey(order, 2).fit(two_states(200_000, "train"))
    bits = model.score(two_states(200_000, "test")) / math.log(2)
    blocks = bits.double().view(-1, 500).mean(1)  # neighbours depend on each other
    mean, error = blocks.mean().item(), blocks.std().item() / len(blocks) ** 0.5
    assert error < 0.004 and abs(mean - rate) < 0.005
    assert mean > 0.569386594 - 4 * error


def test_training_text_without_its_fold_is_no_easier_than_new_text():
    """The echo: what was counted, scored with its own counts, looks far better than it is. So does what its neighbours
    repeat: each passage here has words of its own, which a fold takes with it."""
    noise, n = Rng(0).numpy("noise"), 12_000
    common = words(n, 40, "echo")
    local = np.concatenate(
        [np.tile(noise.integers(40, size=10), 40) for _ in range(n // 400)]
    )  # a phrase of each 400 symbols
    s = np.where(np.arange(n) // 20 % 2, common, local)
    model = KneserNey(4, 40).fit(s[:8000], [(a, a + 800) for a in range(0, 8000, 800)])
    h, own = contexts(torch.from_numpy(s)[None], 4)[0], torch.from_numpy(s)[:, None]

    def nats(rows, fold=None):
        return -model.log_probs(h[rows], fold).gather(1, own[rows]).mean().item()

    echo, honest, new = (
        nats(slice(8000)),
        nats(slice(8000), torch.arange(8000) // 800),
        nats(slice(8000, n)),
    )
    assert echo < new - 0.5 and honest == pytest.approx(new, abs=0.1)


TEXT = Path(os.environ.get("FROMNOISE_DATA", "none")) / "tinyshakespeare" / "input.txt"


@pytest.mark.skipif(
    not TEXT.is_file(), reason="FROMNOISE_DATA names no folder with tinyshakespeare in it"
)
def test_shakespeare_as_published():
    text = np.frombuffer(TEXT.read_bytes(), np.uint8)
    letters, s = np.unique(text, return_inverse=True)
    cut = len(s) * 9 // 10
    model = KneserNey(6, len(letters)).fit(s[:cut])
    assert model.score(s[cut - 6 :])[6:].double().mean() <= 1.517
