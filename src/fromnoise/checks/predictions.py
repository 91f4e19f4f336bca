"""What every model that predicts symbols must hold."""

import torch
from torch import Tensor

from ..core.capabilities import HasLikelihood, Predicts, has
from ..core.rng import Rng
from ..core.spec import Labels


def check_predictions(model: Predicts, x: Tensor, y: Labels) -> None:
    """Raises AssertionError with a sentence unless the predictions on examples x (B, *shape) are
    distributions that depend on earlier symbols only, step by step as all at once."""
    s = check_symbols(model, x)
    log_p = check_distribution(model, s, y)
    check_causality(model, s, y, log_p)
    check_steps(model, s, y, log_p)
    if has(model, HasLikelihood) and model.bound == "exact":
        nats = model.log_likelihood(x, y, Rng(0))
        sums = log_p.gather(2, s[:, :, None]).sum((1, 2))
        assert torch.allclose(nats, sums, rtol=1e-4, atol=1e-3), (
            "log_likelihood is not the sum of the predictions of the symbols"
        )


def check_symbols(model: Predicts, x: Tensor) -> Tensor:
    """x -> its symbols s (B, T), which can be turned back."""
    s = model.to_symbols(x)
    shape = (len(x), model.length)
    assert s.shape == shape and 0 <= s.min() and s.max() < model.vocabulary, (
        f"to_symbols gave {tuple(s.shape)}, not {shape} numbers below {model.vocabulary}"
    )
    assert torch.allclose(model.from_symbols(s).float(), x.float(), atol=1e-6), (
        "from_symbols does not undo to_symbols"
    )
    return s


def check_distribution(model: Predicts, s: Tensor, y: Labels) -> Tensor:
    """s (B, T) -> log p of each next symbol (B, T, V)."""
    shape = (*s.shape, model.vocabulary)
    log_p = model.log_probs(s, y)
    assert log_p.shape == shape, f"log_probs gave {tuple(log_p.shape)}, not {shape}"
    assert log_p.logsumexp(2).abs().max() < 1e-3, (
        "the probabilities of the next symbol do not sum to 1"
    )
    alone = model.log_probs(s[:1], None if y is None else y[:1])
    assert torch.allclose(alone, log_p[:1], rtol=1e-5, atol=1e-5), (
        "a prediction depends on its batch mates"
    )
    return log_p


def check_causality(model: Predicts, s: Tensor, y: Labels, log_p: Tensor) -> None:
    """A changed symbol changes later predictions, within the context, and no others."""
    T = model.length
    reach = T if model.context is None else model.context
    has_effect = False
    for j in (0, T // 3, T - 2):
        other = s.clone()
        other[:, j] = (s[:, j] + 1) % model.vocabulary
        same = (model.log_probs(other, y) == log_p).all(2)  # to the bit
        assert same[:, : j + 1].all(), (
            f"a prediction depends on what comes after it: symbol {j} changed an earlier one"
        )
        assert same[:, j + 1 + reach :].all(), (
            f"a prediction depends on more than the {reach} symbols before it"
        )
        has_effect |= not same.all()
    assert has_effect or reach == 0, "no prediction depends on what came before it"


def check_steps(model: Predicts, s: Tensor, y: Labels, log_p: Tensor) -> None:
    """``step`` after ``begin`` gives the log-probabilities of ``log_probs``."""
    state = model.begin(len(s), y)
    symbol = None
    for i in range(model.length):
        step = model.step(state, symbol)
        difference = float((step - log_p[:, i]).abs().max())
        assert torch.allclose(step, log_p[:, i], rtol=1e-5, atol=1e-5), (
            f"step by step, symbol {i} has other log-probabilities than all at once, "
            f"by {difference:.2g}"
        )
        symbol = s[:, i]
