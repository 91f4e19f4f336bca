"""The caption encoder: order matters, padding does not, and no caption is a caption too."""

import pytest
import torch

from fromnoise.core.rng import Rng
from fromnoise.data.codecs.captions import Captions
from fromnoise.data.shapes.captions import LONGEST, WORDS
from fromnoise.nets.captions import CaptionEncoder


@pytest.fixture
def net():
    Rng(0).seed_torch()
    return CaptionEncoder(LONGEST, len(WORDS) + 2, 32, 2).eval()


def words(*captions):
    return Captions(WORDS, LONGEST).encode(captions)


def test_shapes(net):
    pooled, sequence = net(
        words("a red circle", "a small red circle left of a large blue square", "")
    )
    assert pooled.shape == (3, 32) and sequence.shape == (3, 11, 32)
    assert (sequence != 0).any(2).sum(1).tolist() == [4, 11, 1]
    assert torch.equal(sequence[:, 0], pooled)


def test_no_caption_gives_finite_numbers_and_slopes(net):
    pooled, sequence = net(words("", ""))
    assert torch.isfinite(sequence).all() and torch.equal(pooled[0], pooled[1])
    pooled.square().sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize(
    "one, other",
    [
        ("a red circle left of a blue square", "a blue square left of a red circle"),
        ("a red circle left of a blue square", "a blue circle left of a red square"),
        ("a red circle left of a blue square", "a red circle right of a blue square"),
        ("a small red circle", "a red circle"),
        ("a red circle", ""),
    ],
)
def test_what_differs_in_meaning_differs_in_the_vector(net, one, other):
    a, b = net(words(one, other))[0]
    assert (a - b).abs().max() > 0.01


def test_padding_is_not_read(net):
    before = net(words("a red circle", "a red circle above a blue cross"))
    with torch.no_grad():
        net.words.weight[0] += 10 * Rng(0).normal(
            "word", (32,)
        )  # a constant would be taken off by the norms
        net.places[4:] += 10 * Rng(0).normal("places", (7, 32))
    after = net(words("a red circle"))
    assert torch.allclose(before[0][:1], after[0], atol=1e-5) and torch.allclose(
        before[1][:1], after[1], atol=1e-5
    )
    assert (after[1][0, 4:] == 0).all()


def test_batch_mates_do_not_matter(net):
    together = net(words("a red circle", "a small green cross above a large blue square"))[0]
    assert torch.allclose(together[:1], net(words("a red circle"))[0], atol=1e-5)


def test_it_learns(net):
    """Which of the two is left: beyond a bag of words."""
    y = words(
        "a red circle left of a blue square",
        "a blue square left of a red circle",
        "a red circle right of a blue square",
        "a blue square right of a red circle",
    )
    target, head = torch.tensor([0, 1, 1, 0]), torch.nn.Linear(32, 2)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], 3e-3)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(head(net(y)[0]), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
